//! The queue in the store: due rows are claimed straight from the table.

use std::{collections::HashMap, sync::Arc, time::Duration};

use chrono::{DateTime, Utc};
use taskpost_common::{Clock, notification::Channel};
use taskpost_store::{
    Db, StoreError,
    deliveries::{self, Delivery},
};
use tokio::sync::Notify;

use super::shares;

/// What a lost announcement costs at most.
const POLL: Duration = Duration::from_secs(1);

/// The queue in the `deliveries` table.
#[derive(Clone, Debug)]
pub struct LocalQueue {
    db: Db,
    clock: Clock,
    /// Rung by the dispatcher for each channel that has something due; one ring is kept while nobody listens.
    announced: Arc<HashMap<Channel, Notify>>,
}

impl LocalQueue {
    pub(super) fn new(db: Db, clock: Clock) -> Self {
        let announced = Channel::ALL.iter().map(|&channel| (channel, Notify::new())).collect();
        Self { db, clock, announced: Arc::new(announced) }
    }

    pub(super) async fn publish_due(&self, channel: Channel) -> Result<Option<DateTime<Utc>>, StoreError> {
        let agenda = deliveries::agenda(&mut self.db.reader().await?, channel, self.clock.now()).await?;
        if agenda.due
            && let Some(bell) = self.announced.get(&channel)
        {
            bell.notify_one();
        }
        Ok(agenda.next)
    }

    pub(super) async fn announced(&self, channel: Channel) {
        match self.announced.get(&channel) {
            // A time-out is no failure: the table is the truth, the bell only saves looking at it.
            Some(bell) => drop(tokio::time::timeout(POLL, bell.notified()).await),
            None => tokio::time::sleep(POLL).await,
        }
    }

    pub(super) async fn claim(
        &self,
        channel: Channel,
        room: usize,
        lease: chrono::Duration,
    ) -> Result<Vec<Delivery>, StoreError> {
        let most = i64::try_from(room).unwrap_or(i64::MAX);
        // Looking first keeps an idle worker from waiting for, or holding, the one writer of SQLite.
        let due = deliveries::due(&mut self.db.reader().await?, channel, self.clock.now(), most).await?;
        let places = shares(&due, room);
        if places.is_empty() {
            return Ok(Vec::new());
        }
        let now = self.clock.now();
        deliveries::claim(&self.db, channel, &places, now, now + lease).await
    }
}
