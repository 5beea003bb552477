//! The log on Kafka: the relay puts events there, consumer groups read them.
//!
//! Kafka carries; the store decides. What a group has applied is its progress in the store, so an offset only says where
//! reading starts, and a record that comes twice is skipped by its position.

mod buffer;
mod context;
mod dead;
mod health;
mod inspect;
mod placing;
mod producer;
mod reader;
mod record;
mod subscription;
mod topics;
#[cfg(feature = "trial")]
pub mod trial;

use std::{fmt, sync::Arc};

use rdkafka::{ClientConfig, producer::FutureProducer};
use taskpost_common::{Clock, config, event::Topic};
use taskpost_store::Db;

use super::{LogError, client, ingest::Ingest};
use context::{Quiet, Trouble};

pub use inspect::TopicState;
pub use producer::{Acknowledged, Failure, Head, RelayProducer, Sending, Start};
pub use record::envelope_of;
pub use subscription::KafkaSubscription;
pub use topics::Survey;

/// The way to Kafka. Cheap to clone.
#[derive(Clone)]
pub struct Kafka(Arc<Inner>);

struct Inner {
    settings: config::Kafka,
    instance: String,
    connection: ClientConfig,
    db: Db,
    clock: Clock,
    ingest: Ingest,
    /// For questions and dead letters.
    side: Side,
    trouble: Arc<Trouble>,
    health: health::Last,
    topics: topics::Told,
}

impl fmt::Debug for Kafka {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner { settings, instance, .. } = &*self.0;
        f.debug_struct("Kafka")
            .field("brokers", &settings.brokers)
            .field("topic_prefix", &settings.topic_prefix)
            .field("instance", instance)
            .finish_non_exhaustive()
    }
}

impl Kafka {
    /// With these settings. Never waits for a broker.
    pub(super) fn new(
        settings: &config::Kafka,
        instance: &str,
        db: Db,
        clock: Clock,
    ) -> Result<Self, LogError> {
        let mut connection = client::connection(settings, instance);
        connection
            // A broker that is stopped, not dead, must not hold a request for the default of a minute.
            .set("socket.timeout.ms", "10000")
            .set("socket.connection.setup.timeout.ms", "5000")
            .set("topic.metadata.refresh.interval.ms", "30000")
            .set_log_level(rdkafka::config::RDKafkaLogLevel::Warning);
        let trouble = Arc::new(Trouble::default());
        let side = Side(Some(dead::producer(&connection, &trouble)?));
        Ok(Self(Arc::new(Inner {
            settings: settings.clone(),
            instance: instance.to_owned(),
            connection,
            ingest: Ingest::new(settings, instance),
            db,
            clock,
            side,
            trouble,
            health: health::Last::default(),
            topics: topics::Told::default(),
        })))
    }

    /// Says that the relay can get no further and why, or that it can again.
    pub fn stuck(&self, why: Option<String>) {
        self.0.trouble.stuck(why);
    }

    /// A producer for the relay.
    pub fn relay_producer(&self, start: &Start) -> Result<RelayProducer, LogError> {
        RelayProducer::new(self, start)
    }

    /// The way of commands that are accepted before they are stored.
    pub(super) fn ingest(&self) -> &Ingest {
        &self.0.ingest
    }

    /// Begins to read for a group.
    pub(super) fn subscribe(&self, group: &'static str) -> KafkaSubscription {
        KafkaSubscription::new(self.clone(), group)
    }

    /// The full name of a topic.
    fn topic(&self, topic: Topic) -> String {
        self.name(topic.as_str())
    }

    fn name(&self, topic: &str) -> String {
        client::topic(&self.0.settings, topic)
    }

    fn context(&self) -> Quiet {
        Quiet::new(&self.0.trouble)
    }
}

/// The name of a partition in progress, metrics and logs: `work/3`.
fn partition_name(topic: &str, partition: i32) -> String {
    format!("{topic}/{partition}")
}

/// A producer that is dropped on a thread of its own, because dropping it waits.
struct Side(Option<FutureProducer<Quiet>>);

impl Side {
    /// None is not to be had once it is dropped.
    fn producer(&self) -> Result<&FutureProducer<Quiet>, LogError> {
        self.0.as_ref().ok_or_else(|| LogError::Away("the client was closed".to_owned()))
    }
}

impl Drop for Side {
    fn drop(&mut self) {
        if let Some(producer) = self.0.take() {
            super::ingest::drop_apart("kafka-side-end", producer);
        }
    }
}
