//! The event log: what consumer groups read.

mod client;
pub mod ingest;
pub mod kafka;
mod local;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use taskpost_common::{Clock, DeadLetterId, Envelope, Position, config};
use taskpost_store::{Db, StoreError};
use uuid::Uuid;

use crate::{PortHealth, wake::Wakes};
use kafka::KafkaSubscription;
pub use kafka::{Kafka, envelope_of};
use local::LocalSubscription;

/// The log. Contract, whatever the backend:
///
/// - every committed event reaches every group at least once, and within a partition in the order of positions;
/// - a group's place is what its transaction recorded, not what was read: after a restart, a failure or a rebalance,
///   reading starts there again, so that events may come twice and are never skipped;
/// - any number of processes may read for a group: they share its partitions, or stand by while one reads.
#[derive(Clone, Debug)]
pub enum Log {
    /// The store's own `events` table; one partition, named ''.
    Local {
        /// The store.
        db: Db,
        /// Rung when there is more to read.
        wakes: Wakes,
        /// For the lease under which one process reads.
        clock: Clock,
    },
    /// Topics of Kafka, which the relay fills from the same table.
    Kafka(Kafka),
}

/// A failure of the log.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The store, which keeps how far a group is.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Kafka is away, or too slow. Waiting may help.
    #[error("Kafka is away: {0}; check KAFKA_BROKERS and the brokers")]
    Away(String),
    /// Kafka answers, and will not have it. Says what to do.
    #[error("{0}")]
    Refused(String),
    /// The settings make no client.
    #[error("the KAFKA_ variables cannot be used: {0}")]
    Settings(String),
}

impl Log {
    /// The store's own table.
    pub const fn local(db: Db, wakes: Wakes, clock: Clock) -> Self {
        Self::Local { db, wakes, clock }
    }

    /// Kafka. Never waits for a broker.
    pub fn kafka(settings: &config::Kafka, instance: &str, db: Db, clock: Clock) -> Result<Self, LogError> {
        Kafka::new(settings, instance, db, clock).map(Self::Kafka)
    }

    /// Begins to read for a group, from its recorded progress.
    pub fn subscribe(&self, group: &'static str) -> Subscription {
        match self {
            Self::Local { db, wakes, clock } => {
                Subscription::Local(LocalSubscription::new(db.clone(), wakes, clock, group))
            }
            Self::Kafka(kafka) => Subscription::Kafka(kafka.subscribe(group)),
        }
    }

    /// Keeps a copy of what a group could not handle where operators look for it; durable when this returns, and there
    /// twice if it was called twice. Nothing on the store's own log: the row is the truth.
    pub async fn bury(&self, poison: &Poison<'_>) -> Result<(), LogError> {
        match self {
            Self::Local { .. } => Ok(()),
            Self::Kafka(kafka) => kafka.bury(poison).await,
        }
    }

    /// How it is; answers within two seconds.
    pub async fn check(&self) -> PortHealth {
        let problem = match self {
            Self::Local { .. } => None,
            Self::Kafka(kafka) => kafka.problem().await,
        };
        PortHealth { name: self.name(), problem }
    }

    /// `local` or `kafka`.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Local { .. } => "local",
            Self::Kafka(_) => "kafka",
        }
    }
}

/// A group's reading of the log.
#[derive(Debug)]
pub enum Subscription {
    /// Of the store's own table.
    Local(LocalSubscription),
    /// Of Kafka.
    Kafka(KafkaSubscription),
}

/// What is read.
#[derive(Clone, Debug)]
pub enum Read {
    /// Events.
    Events(Batch),
    /// A record that is no event. Events before it in its partition were read before, those behind it come later.
    Broken(Broken),
}

/// Events of one partition, in order.
#[derive(Clone, Debug)]
pub struct Batch {
    /// The partition: '', or a topic and a number such as `work/3`.
    pub partition: String,
    /// The group's progress before this batch: the fence.
    pub from: Position,
    /// Its events; never empty.
    pub events: Vec<Envelope>,
}

impl Batch {
    /// The group's progress after this batch.
    pub fn to(&self) -> Position {
        self.events.last().map_or(self.from, |event| event.position)
    }
}

/// A record that is no event. It has no position, so its dead letter has an id that is the same whenever it is read.
#[derive(Clone, Debug)]
pub struct Broken {
    /// The id of its dead letter.
    pub id: DeadLetterId,
    /// The partition.
    pub partition: String,
    /// Its place there.
    pub offset: i64,
    /// Its key.
    pub key: Option<Vec<u8>>,
    /// Its value, to the byte.
    pub payload: Vec<u8>,
    /// Why it is no event.
    pub reason: String,
}

impl Broken {
    /// The id of the dead letter of a record: made of where it stands and when it was written, in milliseconds since 1970,
    /// for a topic that is made anew counts its offsets from zero again. It sorts by that time, as other ids do.
    pub fn id(group: &str, partition: &str, offset: i64, written: i64) -> DeadLetterId {
        let name = format!("{group} {partition} {offset} {written}");
        let hash = Uuid::new_v5(&Uuid::NAMESPACE_URL, name.as_bytes());
        let mut random = [0; 10];
        random.copy_from_slice(&hash.as_bytes()[..10]);
        let millis = u64::try_from(written).unwrap_or_default();
        DeadLetterId(uuid::Builder::from_unix_timestamp_millis(millis, &random).into_uuid())
    }

    /// Its value as text: as it is, or in base64 where a text cannot hold it.
    pub fn text(&self) -> String {
        match std::str::from_utf8(&self.payload) {
            Ok(text) if !text.contains('\0') => text.to_owned(),
            _ => serde_json::json!({
                "note": "the record's value, in base64 because it is no text",
                "base64": BASE64_STANDARD.encode(&self.payload),
            })
            .to_string(),
        }
    }
}

/// What a group could not handle.
#[derive(Clone, Copy, Debug)]
pub struct Poison<'a> {
    /// The event's id, or that of the dead letter of a record that is no event.
    pub id: Uuid,
    /// The event's type.
    pub type_name: Option<&'a str>,
    /// The event's trace.
    pub traceparent: Option<&'a str>,
    /// The group.
    pub group: &'a str,
    /// The partition it was read from.
    pub partition: &'a str,
    /// Why it could not be handled.
    pub reason: &'a str,
    /// The record's key.
    pub key: Option<&'a [u8]>,
    /// The event or record, whole.
    pub payload: &'a [u8],
}

impl Subscription {
    /// Waits for the next events, at most `limit` of them. Each is handed out once until [`Subscription::rewind`]. Loses
    /// nothing when it is dropped half-way.
    pub async fn next(&mut self, limit: usize) -> Result<Read, LogError> {
        match self {
            Self::Local(subscription) => Ok(Read::Events(subscription.next(limit).await?)),
            Self::Kafka(subscription) => subscription.next(limit).await,
        }
    }

    /// What else is there already, and needs no waiting: of any partition, and of one that was handed out before it goes on
    /// there. Nothing on the store's own log, which is one partition.
    pub fn more(&mut self, limit: usize) -> Option<Read> {
        match self {
            Self::Local(_) => None,
            Self::Kafka(subscription) => subscription.more(limit),
        }
    }

    /// Says that the group's progress in `partition` is recorded up to `position`: what lies below is needed no more.
    pub fn done(&mut self, partition: &str, position: Position) {
        match self {
            Self::Local(_) => {}
            Self::Kafka(subscription) => subscription.done(partition, position),
        }
    }

    /// Says that the dead letter of a record is recorded.
    pub fn buried(&mut self, broken: &Broken) {
        match self {
            Self::Local(_) => {}
            Self::Kafka(subscription) => subscription.buried(broken),
        }
    }

    /// Forgets what was handed out: the next read starts at the recorded progress again. After a failure or a fence.
    pub fn rewind(&mut self) {
        match self {
            Self::Local(subscription) => subscription.rewind(),
            Self::Kafka(subscription) => subscription.rewind(),
        }
    }

    /// Ends reading, so that another process goes on at once.
    pub async fn close(self) {
        match self {
            Self::Local(subscription) => subscription.close().await,
            Self::Kafka(subscription) => subscription.close().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_kept_whole_as_text() {
        let text = |payload: &[u8]| {
            let id = Broken::id("notifier", "work/3", 1, 0);
            let partition = "work/3".to_owned();
            let (payload, reason) = (payload.to_vec(), String::new());
            Broken { id, partition, offset: 1, key: None, payload, reason }.text()
        };
        assert_eq!(text("{\"ü\"".as_bytes()), "{\"ü\"");
        assert!(text(&[0xff, 0]).contains(r#""base64":"/wA=""#), "{}", text(&[0xff, 0]));
        assert!(text(b"a\0b").contains(r#""base64":"YQBi""#), "no text column takes a NUL");
    }

    #[test]
    fn the_letter_of_a_record_has_one_id_and_sorts_by_its_time() {
        let id = |offset, written| Broken::id("notifier", "work/3", offset, written);
        assert_eq!(id(7, 1_800_000_000_000), id(7, 1_800_000_000_000));
        assert_ne!(id(7, 1_800_000_000_000), id(8, 1_800_000_000_000));
        assert_ne!(id(7, 1_800_000_000_000), Broken::id("webhooks", "work/3", 7, 1_800_000_000_000));
        assert!(id(9, 1_800_000_000_000) < id(1, 1_800_000_000_001));
        assert_ne!(id(7, -1), id(8, -1), "without a time");
        assert_eq!(id(7, 1_800_000_000_000).0.get_version_num(), 7);
    }
}
