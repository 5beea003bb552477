//! Step 6 of 7. Before: `consumers`, which makes deliveries. Next: `runner.rs`.
//!
//! The dispatcher tells the queue when deliveries of a channel fall due. Where all processes share a queue, one of them
//! does it; two that overlap for a moment announce the same twice, and the second is claimed by nobody.

use std::time::Duration;

use chrono::{DateTime, Utc};
use taskpost_common::{Clock, notification::Channel};
use taskpost_ports::{Lease, Queue, Wakes};
use taskpost_store::StoreError;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::debug;

use crate::outage::Outage;

/// How often it looks without being told to: what a lost ring costs at most.
const SWEEP: Duration = Duration::from_secs(1);
/// The shortest wait for the next due time, as sleeping is no more exact than this.
const TICK: Duration = Duration::from_millis(1);
/// How long giving the lease back may take when the process stops.
const GOODBYE: Duration = Duration::from_secs(1);

/// Announces what is due on one channel.
#[derive(Debug)]
pub(crate) struct Dispatcher {
    pub channel: Channel,
    pub queue: Queue,
    /// Who announces, of the processes that share the queue.
    pub lease: Lease,
    pub wakes: Wakes,
    pub clock: Clock,
}

impl Dispatcher {
    /// Goes on until `stop`. Nothing is lost by ending at any point: the rows are the truth.
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        let _ = stop.run_until_cancelled(self.announce_for_ever()).await;
        // Otherwise it ends by itself.
        let _ = timeout(GOODBYE, self.stand_down()).await;
    }

    async fn announce_for_ever(&mut self) {
        let mut bell = self.wakes.deliveries.listen();
        let mut outage = Outage::of("announcing due deliveries");
        loop {
            match self.announce().await {
                Ok(next) => {
                    outage.over();
                    bell.wait(self.until(next)).await;
                }
                Err(error) => tokio::time::sleep(outage.failed(&error)).await,
            }
        }
    }

    /// Announces what is due, if it is for this process to do; gives when to do so again.
    async fn announce(&mut self) -> Result<Option<DateTime<Utc>>, StoreError> {
        if self.queue.is_shared() {
            if !self.queue.is_ready() {
                // Perhaps another process reaches the broker.
                self.stand_down().await;
                return Ok(None);
            }
            if !self.lease.held().await? {
                return Ok(None);
            }
        }
        self.queue.publish_due(self.channel).await
    }

    async fn stand_down(&mut self) {
        if let Err(error) = self.lease.give_back().await {
            debug!(channel = %self.channel, %error, "could not give the lease back; it ends by itself");
        }
    }

    /// How long until the next delivery is due, at most the sweep.
    fn until(&self, next: Option<DateTime<Utc>>) -> Duration {
        let wait = next.map(|at| (at - self.clock.now()).to_std().unwrap_or_default());
        wait.map_or(SWEEP, |wait| wait.clamp(TICK, SWEEP))
    }
}
