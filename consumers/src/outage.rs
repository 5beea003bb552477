//! Waiting while something that a loop depends on is away.

use std::fmt::Display;

use taskpost_common::retry::Backoff;
use tokio_util::sync::CancellationToken;

/// A loop's outages: each is logged once when it begins and once when it ends, however many tries lie between.
#[derive(Debug)]
pub(crate) struct Outage {
    what: String,
    backoff: Backoff,
    lasts: bool,
}

impl Outage {
    /// For the loop that does `what`.
    pub(crate) fn new(what: impl Into<String>) -> Self {
        Self { what: what.into(), backoff: Backoff::default(), lasts: false }
    }

    /// Notes a failure and waits, longer each time, or until `stop`.
    pub(crate) async fn wait(&mut self, error: &(dyn Display + Send + Sync), stop: &CancellationToken) {
        if self.lasts {
            tracing::debug!(stage = %self.what, %error, "still held");
        } else {
            self.lasts = true;
            tracing::warn!(
                stage = %self.what, %error,
                "held: nothing is skipped, and it goes on by itself once this passes; check that the database and the brokers are up, reachable and have room"
            );
        }
        tokio::select! {
            () = stop.cancelled() => {}
            () = tokio::time::sleep(self.backoff.wait()) => {}
        }
    }

    /// Notes a success.
    pub(crate) fn over(&mut self) {
        if std::mem::take(&mut self.lasts) {
            self.backoff.reset();
            tracing::info!(stage = %self.what, "goes on again");
        }
    }
}
