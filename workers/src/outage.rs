//! One log line when a dependency goes, one when it is back, and growing waits between.

use std::{fmt::Display, time::Duration};

use taskpost_common::retry::Backoff;
use tracing::{debug, info, warn};

/// What a loop knows of the dependency it needs.
#[derive(Debug)]
pub(crate) struct Outage {
    what: &'static str,
    backoff: Backoff,
    lasts: bool,
}

impl Outage {
    /// `what` says what the loop does, for the log.
    pub(crate) fn of(what: &'static str) -> Self {
        Self { what, backoff: Backoff::default(), lasts: false }
    }

    /// Notes a failure; gives how long to wait before the next try.
    pub(crate) fn failed(&mut self, error: &dyn Display) -> Duration {
        let wait = self.backoff.wait();
        if self.lasts {
            debug!(what = self.what, %error, ?wait, "still failing");
        } else {
            warn!(what = self.what, %error, "failing; goes on when it can");
        }
        self.lasts = true;
        wait
    }

    /// Notes a success.
    pub(crate) fn over(&mut self) {
        if self.lasts {
            info!(what = self.what, "works again");
            self.lasts = false;
            self.backoff.reset();
        }
    }
}
