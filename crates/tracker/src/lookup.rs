//! Tasks by id, many readers at once: whoever asks while a statement is under way shares the next one. An idle instance asks
//! the store at once for each, a busy one for hundreds together.

use std::time::Duration;

use taskpost_common::{TaskId, task::Task};
use taskpost_store::{Db, MAX_BATCH, StoreError, Viewer, tasks};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

/// How long a shared statement may take: one that hangs must not hold those up who would get another connection.
const TOGETHER: Duration = Duration::from_secs(1);

/// The way to the reader. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Lookup {
    db: Db,
    send: mpsc::UnboundedSender<Wanted>,
}

/// The reader itself, to be run by its owner.
pub(crate) struct Run {
    db: Db,
    receive: mpsc::UnboundedReceiver<Wanted>,
}

struct Wanted {
    viewer: Viewer,
    id: TaskId,
    reply: oneshot::Sender<Option<Task>>,
}

pub(crate) fn new(db: Db) -> (Lookup, Run) {
    let (send, receive) = mpsc::unbounded_channel();
    (Lookup { db: db.clone(), send }, Run { db, receive })
}

impl Lookup {
    /// The task, if the viewer may see it, as of a moment after this was called.
    pub(crate) async fn task(&self, viewer: Viewer, id: TaskId) -> Result<Option<Task>, StoreError> {
        let (reply, answer) = oneshot::channel();
        if self.send.send(Wanted { viewer, id, reply }).is_ok()
            && let Ok(task) = answer.await
        {
            return Ok(task);
        }
        // What was asked together failed. Asked alone it says why, or succeeds.
        tasks::visible(&mut self.db.reader().await?, viewer, id).await
    }
}

impl Run {
    /// Reads until `stop`; whoever comes later reads alone.
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        let mut waiting = Vec::new();
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                received = self.receive.recv_many(&mut waiting, MAX_BATCH) => {
                    if received == 0 {
                        return;
                    }
                }
            }
            let wanted: Vec<(Viewer, TaskId)> =
                waiting.iter().map(|wanted| (wanted.viewer, wanted.id)).collect();
            let found = async { tasks::visible_each(&mut self.db.reader().await?, &wanted).await };
            match tokio::time::timeout(TOGETHER, found).await {
                Ok(Ok(found)) => {
                    for (wanted, task) in waiting.drain(..).zip(found) {
                        // Nobody waits any more when the client is gone.
                        let _ = wanted.reply.send(task);
                    }
                }
                Ok(Err(error)) => {
                    tracing::debug!(%error, "tasks could not be read together");
                    waiting.clear();
                }
                Err(_) => waiting.clear(),
            }
        }
    }
}
