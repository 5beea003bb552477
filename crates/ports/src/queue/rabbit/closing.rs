//! Ending without losing an acknowledgement: the connections stay until what was claimed is settled, but not for long.

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use tokio::{
    sync::watch,
    time::{Instant, timeout_at},
};
use tokio_util::sync::CancellationToken;

/// How long the connections outlive the call to stop: a little longer than tries under way may.
const LAST_ACKNOWLEDGEMENTS: Duration = Duration::from_millis(7_500);

/// The end of the process, as the queue sees it.
#[derive(Clone, Debug)]
pub(super) struct Closing {
    stop: CancellationToken,
    /// Since when the process stops, as the first one saw it.
    since: Arc<OnceLock<Instant>>,
    unsettled: Arc<watch::Sender<usize>>,
}

impl Closing {
    pub(super) fn new(stop: CancellationToken) -> Self {
        Self { stop, since: Arc::default(), unsettled: Arc::new(watch::Sender::new(0)) }
    }

    /// Notes that so many messages more wait to be acknowledged.
    pub(super) fn claimed(&self, messages: usize) {
        self.unsettled.send_modify(|unsettled| *unsettled += messages);
    }

    /// Notes that so many fewer do.
    pub(super) fn settled(&self, messages: usize) {
        self.unsettled.send_modify(|unsettled| *unsettled = unsettled.saturating_sub(messages));
    }

    /// Whether the process stops.
    pub(super) fn begun(&self) -> bool {
        self.stop.is_cancelled()
    }

    /// Comes when the process stops.
    pub(super) async fn beginning(&self) {
        self.stop.cancelled().await;
    }

    /// Comes when the process stops and nothing waits to be acknowledged any more, or has waited long enough.
    pub(super) async fn done(&self) {
        self.stop.cancelled().await;
        let end = *self.since.get_or_init(Instant::now) + LAST_ACKNOWLEDGEMENTS;
        let mut unsettled = self.unsettled.subscribe();
        // Either way it is over.
        let _ = timeout_at(end, unsettled.wait_for(|unsettled| *unsettled == 0)).await;
    }

    /// What work gives, unless the process stops before.
    pub(super) async fn unless_begun<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        self.stop.run_until_cancelled(work).await
    }

    /// What work gives, unless the end comes before.
    pub(super) async fn unless_done<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            biased;
            done = work => Some(done),
            () = self.done() => None,
        }
    }
}
