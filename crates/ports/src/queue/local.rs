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
    /// Rung by the dispatcher for each channel that has something due.
    announced: Arc<HashMap<Channel, Notify>>,
}

impl LocalQueue {
    pub(super) fn new(db: Db, clock: Clock) -> Self {
        let announced = Channel::ALL.iter().map(|&channel| (channel, Notify::new())).collect();
        Self { db, clock, announced: Arc::new(announced) }
    }

    pub(super) async fn publish_due(&self, channel: Channel) -> Result<Option<DateTime<Utc>>, StoreError> {
        let next = deliveries::next_due(&mut self.db.reader().await?, channel).await?;
        if next.is_some_and(|at| at <= self.clock.now())
            && let Some(bell) = self.announced.get(&channel)
        {
            bell.notify_one();
        }
        Ok(next)
    }

    pub(super) async fn claim(&self, channel: Channel, room: usize, lease: chrono::Duration) -> Result<Vec<Delivery>, StoreError> {
        if let Some(bell) = self.announced.get(&channel) {
            // A time-out is no failure: the table is the truth, the bell only saves looking at it.
            let _ = tokio::time::timeout(POLL, bell.notified()).await;
        }
        let most = i64::try_from(room).unwrap_or(i64::MAX);
        let due = deliveries::due(&mut self.db.reader().await?, channel, self.clock.now(), most).await?;
        let mut claimed = Vec::new();
        for (class, places) in shares(&due, room) {
            let now = self.clock.now();
            claimed.extend(deliveries::claim(&self.db, channel, class, places, now, now + lease).await?);
        }
        if claimed.len() == room
            && let Some(bell) = self.announced.get(&channel)
        {
            // There may be more than there was room for.
            bell.notify_one();
        }
        Ok(claimed)
    }
}
