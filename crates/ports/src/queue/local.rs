//! The queue in the store: due rows are claimed straight from the table.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use chrono::{DateTime, Utc};
use taskpost_common::{Clock, notification::Channel};
use taskpost_store::{
    Db, StoreError,
    deliveries::{self, Delivery},
};
use tokio::sync::Notify;
use tracing::info;

use super::{POLL, shares};

/// How often it looks for deliveries that a broker has, which this instance uses no more.
const TAKE_BACK: Duration = Duration::from_mins(1);
/// How many of them it takes back at once.
const BATCH: i64 = 500;

/// The queue in the `deliveries` table.
#[derive(Clone, Debug)]
pub struct LocalQueue {
    db: Db,
    clock: Clock,
    channels: Arc<HashMap<Channel, Desk>>,
}

/// What there is for each channel.
#[derive(Debug, Default)]
struct Desk {
    /// Rung by the dispatcher when something is due; one ring is kept while nobody listens.
    bell: Notify,
    /// When it was last looked for what a broker has.
    taken_back: Mutex<Option<Instant>>,
}

impl LocalQueue {
    pub(super) fn new(db: Db, clock: Clock) -> Self {
        let channels = Channel::ALL.iter().map(|&channel| (channel, Desk::default())).collect();
        Self { db, clock, channels: Arc::new(channels) }
    }

    pub(super) async fn publish_due(&self, channel: Channel) -> Result<Option<DateTime<Utc>>, StoreError> {
        let Some(desk) = self.channels.get(&channel) else { return Ok(None) };
        if desk.is_time_to_take_back() {
            self.take_back(channel).await?;
        }
        let agenda = deliveries::agenda(&mut self.db.reader().await?, channel, self.clock.now()).await?;
        if agenda.due {
            desk.bell.notify_one();
        }
        Ok(agenda.next)
    }

    /// What a broker was told of, before `RABBITMQ_URL` was taken away, waits for nobody: its `due_at` decides again.
    async fn take_back(&self, channel: Channel) -> Result<(), StoreError> {
        let before = self.clock.now();
        let mut count = 0;
        loop {
            let ids = deliveries::queued(&mut self.db.reader().await?, channel, before, BATCH).await?;
            let taken = if ids.is_empty() { 0 } else { deliveries::unqueue(&self.db, &ids).await? };
            count += taken;
            // Those that are being changed now are looked for again the next time.
            if taken == 0 {
                break;
            }
        }
        if count > 0 {
            info!(%channel, count, "deliveries that RabbitMQ had are sent from the store");
        }
        Ok(())
    }

    pub(super) async fn announced(&self, channel: Channel) {
        match self.channels.get(&channel) {
            // A time-out is no failure: the table is the truth, the bell only saves looking at it.
            Some(desk) => drop(tokio::time::timeout(POLL, desk.bell.notified()).await),
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

impl Desk {
    fn is_time_to_take_back(&self) -> bool {
        let mut last = self.taken_back.lock().unwrap_or_else(PoisonError::into_inner);
        let is_time = last.is_none_or(|last| last.elapsed() >= TAKE_BACK);
        if is_time {
            *last = Some(Instant::now());
        }
        is_time
    }
}
