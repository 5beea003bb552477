//! A group that misbehaves on demand.

use std::{
    path::Path,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
};

use taskpost_common::{Clock, EndpointId, Envelope, Event, event::EndpointDisabled};
use taskpost_consumers::{Applied, ApplyError, Decoded, Group};
use taskpost_store::{
    Change, Db, Session, StoreError, Tx,
    events::{self, NewEvent, SeenBy},
};
use tokio::sync::Barrier;

use crate::support::Stage;

/// Answers each `task.created` with an event of its own: an effect that no unique key protects, so that only the
/// fence can keep it single. Titles make it misbehave.
pub struct Echo {
    clock: Clock,
    /// Where a store is made that fails.
    folder: std::path::PathBuf,
    /// Every try fails as if the store were away.
    pub broken: AtomicBool,
    /// Tries that failed so.
    pub held: AtomicUsize,
    /// Events that [`Group::apply`] was given.
    pub applied: AtomicUsize,
    /// The first two plans wait here for each other.
    meet: Option<Barrier>,
    met: AtomicUsize,
}

impl Echo {
    pub fn new(stage: &Stage) -> Self {
        Self {
            clock: stage.clock().clone(),
            folder: stage.folder.path().to_owned(),
            broken: AtomicBool::new(false),
            held: AtomicUsize::new(0),
            applied: AtomicUsize::new(0),
            meet: None,
            met: AtomicUsize::new(0),
        }
    }

    /// One whose first two plans wait for each other.
    pub fn meeting(stage: &Stage) -> Self {
        Self { meet: Some(Barrier::new(2)), ..Self::new(stage) }
    }

    /// The events it has answered, in the order of the answers.
    pub async fn answered(stage: &Stage) -> Vec<String> {
        let all = stage.events().await;
        let answers = all.iter().filter(|event| event.type_name == "endpoint.disabled");
        answers
            .map(|answer| match answer.decode().unwrap() {
                Event::EndpointDisabled(data) => data.reason,
                other => panic!("{other:?}"),
            })
            .collect()
    }
}

impl Group for Echo {
    const NAME: &'static str = "echo";
    type Plan = ();

    fn wants(&self, envelope: &Envelope) -> bool {
        envelope.type_name == "task.created"
    }

    async fn plan(&self, _reader: &mut Session, _events: &[Decoded]) -> Result<Option<()>, ApplyError> {
        if let Some(meet) = &self.meet
            && self.met.fetch_add(1, Ordering::SeqCst) < 2
        {
            meet.wait().await;
        }
        Ok(Some(()))
    }

    async fn apply(&self, tx: &mut Tx, events: &[Decoded], (): ()) -> Result<Applied, ApplyError> {
        self.applied.fetch_add(events.len(), Ordering::SeqCst);
        for Decoded { envelope, event, .. } in events {
            let Event::TaskCreated(data) = event else {
                return Err(ApplyError::Refused("not wanted".to_owned()));
            };
            let title = &data.task.title;
            let cause = envelope.cause();
            let change = Change { clock: &self.clock, cause: &cause };
            let id: EndpointId = self.clock.id();
            let answer = Event::EndpointDisabled(EndpointDisabled { endpoint_id: id, reason: title.clone() });
            let answer = NewEvent::new(change, &answer, id.0, 1, SeenBy::default())?;
            events::append(tx, &[&answer]).await?;
            assert!(!title.starts_with("panic"), "cannot stand {title}");
            if title.starts_with("poison") {
                return Err(ApplyError::Refused(format!("will not have {title}")));
            }
        }
        if self.broken.load(Ordering::SeqCst) {
            self.held.fetch_add(1, Ordering::SeqCst);
            return Err(unavailable(&self.folder).await.into());
        }
        Ok(Applied { deliveries: false, events: !events.is_empty() })
    }
}

/// A failure of the store that may pass, as a closed one gives it.
async fn unavailable(folder: &Path) -> StoreError {
    let closed = Db::sqlite(folder).await.unwrap();
    closed.close().await;
    closed.begin().await.unwrap_err()
}
