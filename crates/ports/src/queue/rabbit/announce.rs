//! Publishing the ids of what is due, and again of what the broker seems to have lost.

use std::{sync::PoisonError, time::Duration};

use chrono::{DateTime, Utc};
use taskpost_common::{
    crash::{self, CrashPoint},
    notification::{Channel, Class},
};
use taskpost_store::{
    MAX_BATCH, StoreError,
    deliveries::{self, Announcement},
};
use tokio::time::Instant;
use tracing::info;

use super::{Parts, publisher::Message, topology::Topology};

/// How many of each class are read at once.
const BATCH: i64 = 500;
/// How many times it is read before other things have their turn.
const ROUNDS: usize = 20;
/// How often a channel is looked through for what the broker lost.
const SWEEP: Duration = Duration::from_secs(1);
/// A delivery that was due and with the broker for so long, and that nobody claimed, may be lost.
const OVERDUE: chrono::Duration = chrono::Duration::seconds(60);
/// A queue with so many messages is busy, and what it may have lost waits until it is less so.
const BUSY: u32 = 10_000;

impl Parts {
    /// Publishes what is due; gives when the first of what is not due yet will be. What the broker does not confirm stays
    /// as it is, and is tried again at the next call.
    pub(super) async fn publish_due(&self, channel: Channel) -> Result<Option<DateTime<Utc>>, StoreError> {
        let mut more = true;
        for _ in 0..ROUNDS {
            if self.publisher.session().is_none() {
                return Ok(None);
            }
            let now = self.clock.now();
            let due = deliveries::unannounced(&mut self.db.reader().await?, channel, now, BATCH).await?;
            let confirmed = self.announce(channel, &due).await?;
            more = due.len() >= MAX_BATCH && confirmed > 0;
            if !more {
                break;
            }
        }
        if self.is_time_to_sweep(channel) {
            for &class in Class::ALL {
                self.announce_overdue(channel, class).await?;
            }
        }
        let now = self.clock.now();
        if more {
            return Ok(Some(now));
        }
        Ok(deliveries::agenda(&mut self.db.reader().await?, channel, now).await?.next)
    }

    /// Publishes, and notes in the rows what the broker confirmed; gives how many that were.
    async fn announce(&self, channel: Channel, due: &[Announcement]) -> Result<usize, StoreError> {
        if due.is_empty() {
            return Ok(0);
        }
        let messages: Vec<Message> = due.iter().map(|due| self.message(channel, due)).collect();
        let confirmed = self.publisher.publish(&messages).await;
        crash::at(CrashPoint::DispatchPublished);
        let noted = due.iter().zip(confirmed).filter(|(_, confirmed)| *confirmed);
        let noted: Vec<_> = noted.map(|(due, _)| (due.id, due.lease)).collect();
        deliveries::mark_queued(&self.db, &noted, self.clock.now()).await?;
        Ok(noted.len())
    }

    /// Publishes again what may be lost: as many as are overdue beyond what the broker still has. So an emptied or another
    /// broker gets everything, and one with a long backlog nothing.
    async fn announce_overdue(&self, channel: Channel, class: Class) -> Result<(), StoreError> {
        let Some(session) = self.publisher.session() else { return Ok(()) };
        let ready = match self.topology.ready(&session.control, channel, class).await {
            Ok(ready) if ready < BUSY => i64::from(ready),
            Ok(_) => return Ok(()),
            Err(trouble) => {
                session.fail(trouble);
                return Ok(());
            }
        };
        let before = self.clock.now() - OVERDUE;
        let mut reader = self.db.reader().await?;
        let lost = deliveries::overdue(&mut reader, (channel, class), before, ready, BATCH).await?;
        drop(reader);
        let again = self.announce(channel, &lost).await?;
        if again > 0 {
            info!(%channel, %class, again, "overdue deliveries are announced again, in case the broker lost them");
        }
        Ok(())
    }

    fn message(&self, channel: Channel, due: &Announcement) -> Message {
        Message {
            id: due.id,
            exchange: self.topology.work(),
            key: Topology::key(channel, due.class),
            attempt: due.attempt + 1,
            not_before: None,
            traceparent: due.traceparent.clone(),
        }
    }

    fn is_time_to_sweep(&self, channel: Channel) -> bool {
        let mut swept = self.swept.lock().unwrap_or_else(PoisonError::into_inner);
        let is_time = swept.get(&channel).is_none_or(|last| last.elapsed() >= SWEEP);
        if is_time {
            swept.insert(channel, Instant::now());
        }
        is_time
    }
}
