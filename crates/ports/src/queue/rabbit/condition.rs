//! How one of the two connections is: for /health, for the log, and for whoever waits for it.

use std::time::Duration;

use taskpost_common::retry::Backoff;
use tokio::{
    sync::watch,
    time::{Instant, timeout_at},
};
use tracing::{debug, info, warn};

use super::trouble::Trouble;

/// How long a connection must stand to count as healed, after which the waits between attempts start small again.
const STEADY: Duration = Duration::from_secs(10);

/// How it is now.
#[derive(Debug)]
pub(super) struct Condition {
    /// `publish` or `consume`.
    what_for: &'static str,
    /// None is well.
    trouble: watch::Sender<Option<Trouble>>,
}

impl Condition {
    pub(super) fn new(what_for: &'static str) -> Self {
        Self { what_for, trouble: watch::Sender::new(Some(Trouble::Starting)) }
    }

    /// What is wrong, if anything; right after the start it waits for the first word, until the deadline.
    pub(super) async fn trouble(&self, deadline: Instant) -> Option<Trouble> {
        let mut seen = self.trouble.subscribe();
        let first = seen.wait_for(|now| *now != Some(Trouble::Starting));
        match timeout_at(deadline, first).await {
            Ok(Ok(now)) => now.clone(),
            Ok(Err(_)) | Err(_) => Some(Trouble::Starting),
        }
    }

    /// Notes that it stands.
    pub(super) fn up(&self) {
        self.connected(true);
        let before = self.trouble.send_replace(None);
        if !matches!(before, None | Some(Trouble::Starting)) {
            info!(what_for = self.what_for, "the broker is back");
        }
    }

    /// Notes what is wrong; it is logged once, until it is well again.
    pub(super) fn down(&self, trouble: Trouble) {
        self.connected(false);
        let sentence = trouble.to_string();
        let before = self.trouble.send_replace(Some(trouble));
        if matches!(before, None | Some(Trouble::Starting)) {
            warn!(
                what_for = self.what_for,
                problem = sentence,
                "no use of the broker; deliveries wait in the store"
            );
        } else {
            debug!(what_for = self.what_for, problem = sentence, "still no use of the broker");
        }
    }

    fn connected(&self, is: bool) {
        metrics::gauge!("taskpost_queue_connected", "connection" => self.what_for).set(if is {
            1.0
        } else {
            0.0
        });
    }
}

/// The waits between attempts.
#[derive(Debug, Default)]
pub(super) struct Attempts(Backoff);

impl Attempts {
    /// How long to wait before the next attempt, after a connection that stood since `since` or that never stood.
    pub(super) fn wait(&mut self, since: Option<Instant>) -> Duration {
        if since.is_some_and(|since| since.elapsed() >= STEADY) {
            self.0.reset();
        }
        self.0.wait()
    }
}
