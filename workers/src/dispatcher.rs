//! Step 6 of 7. Before: `consumers`, which makes deliveries. Next: `runner.rs`.
//!
//! The dispatcher tells the queue when deliveries of a channel fall due.

use std::time::Duration;

use chrono::{DateTime, Utc};
use taskpost_common::{Clock, notification::Channel};
use taskpost_ports::{Queue, Wakes};
use tokio_util::sync::CancellationToken;

use crate::outage::Outage;

/// How often it looks without being told to: what a lost ring costs at most.
const SWEEP: Duration = Duration::from_secs(1);
/// The shortest wait for the next due time, as sleeping is no more exact than this.
const TICK: Duration = Duration::from_millis(1);

/// Announces what is due on one channel.
#[derive(Debug)]
pub(crate) struct Dispatcher {
    pub channel: Channel,
    pub queue: Queue,
    pub wakes: Wakes,
    pub clock: Clock,
}

impl Dispatcher {
    /// Goes on until `stop`. Nothing is lost by ending at any point: the rows are the truth.
    pub(crate) async fn run(self, stop: CancellationToken) {
        let _ = stop.run_until_cancelled(self.announce_for_ever()).await;
    }

    async fn announce_for_ever(self) {
        let mut bell = self.wakes.deliveries.listen();
        let mut outage = Outage::of("announcing due deliveries");
        loop {
            match self.queue.publish_due(self.channel).await {
                Ok(next) => {
                    outage.over();
                    bell.wait(self.until(next)).await;
                }
                Err(error) => tokio::time::sleep(outage.failed(&error)).await,
            }
        }
    }

    /// How long until the next delivery is due, at most the sweep.
    fn until(&self, next: Option<DateTime<Utc>>) -> Duration {
        let wait = next.map(|at| (at - self.clock.now()).to_std().unwrap_or_default());
        wait.map_or(SWEEP, |wait| wait.clamp(TICK, SWEEP))
    }
}
