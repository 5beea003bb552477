//! The relay's producer: many records under way at once, each partition in order, nothing passed over.
//!
//! Idempotent with acknowledgement by all in-sync replicas, and without a time-out for a message: one that timed out and
//! was sent again would land behind newer ones. Where one record of a partition is refused, the gapless guarantee keeps
//! the later ones from being taken.

mod window;

use std::{collections::BTreeMap, fmt, sync::Arc, time::Duration};

use rdkafka::{
    ClientContext, Message as _,
    config::RDKafkaLogLevel,
    error::{KafkaError, RDKafkaErrorCode},
    producer::{BaseRecord, DeliveryResult, Producer as _, ProducerContext, ThreadedProducer},
};
use taskpost_common::{Envelope, Position, event::Topic};

use super::{Kafka, LogError, context::Quiet, partition_name, placing, record};
use window::Shared;

/// Memory for records that Kafka has not acknowledged.
const QUEUE_KBYTES: &str = "32768";
/// How long the last records may take when the relay stops.
const FLUSH: Duration = Duration::from_secs(4);

/// A producer at work. What it could not do is in [`RelayProducer::failure`]; it does nothing more then.
pub struct RelayProducer {
    producer: Option<ThreadedProducer<Deliveries>>,
    shared: Arc<Shared>,
    topics: Vec<Target>,
}

/// A topic that events go to. Its number of partitions stays what it was when the relay began: more would send the next
/// event of a task elsewhere than the one before.
struct Target {
    topic: Topic,
    name: String,
    partitions: i32,
}

/// Where the relay begins.
#[derive(Clone, Debug, Default)]
pub struct Start {
    /// Everything up to here is in Kafka.
    pub cursor: Position,
    /// By topic, how many partitions it has.
    pub partitions: BTreeMap<String, i64>,
    /// By partition, the last position that was put there.
    pub heads: BTreeMap<String, Position>,
}

impl fmt::Debug for RelayProducer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RelayProducer").finish_non_exhaustive()
    }
}

/// What became of a call to [`RelayProducer::send`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sending {
    /// It is under way.
    UnderWay,
    /// There is no room; try again after [`RelayProducer::moved`].
    Full,
    /// Nothing more goes through this producer.
    Failed,
}

/// How far Kafka has acknowledged.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Acknowledged {
    /// Everything up to here.
    pub cursor: Position,
    /// By partition, the last record that this producer has put there.
    pub heads: BTreeMap<String, Head>,
    /// How many records are under way.
    pub in_flight: usize,
    /// How many were acknowledged in all.
    pub total: u64,
}

/// The last record of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// The event's position.
    pub position: Position,
    /// Its offset; none when the broker did not say.
    pub offset: Option<i64>,
}

/// Why a producer does nothing more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// Kafka will not have this event.
    Refused(Position, String),
    /// The producer lost its state; a new one goes on.
    Lost(String),
    /// A partition counts its offsets from lower ones again: what was acknowledged there is gone.
    Emptied(String),
}

impl RelayProducer {
    pub(super) fn new(kafka: &Kafka, start: &Start) -> Result<Self, LogError> {
        let shared = Arc::new(Shared::new(start));
        let context = Deliveries { shared: Arc::clone(&shared), quiet: kafka.context() };
        let mut config = kafka.0.connection.clone();
        config
            .set("enable.idempotence", "true")
            .set("enable.gapless.guarantee", "true")
            .set("acks", "all")
            .set("message.timeout.ms", "0")
            .set("request.timeout.ms", "10000")
            // Partitions are told with each record; this says how they are chosen.
            .set("partitioner", "murmur2_random")
            .set("compression.type", "lz4")
            // The sequencer moves many at once; the few that come alone need not wait.
            .set("linger.ms", "0")
            .set("queue.buffering.max.kbytes", QUEUE_KBYTES)
            // How long a topic may be unknown before its records fail; by default half a minute.
            .set("topic.metadata.propagation.max.ms", "10000");
        let producer =
            config.create_with_context(context).map_err(|error| LogError::Settings(error.to_string()))?;
        let target = |topic: &Topic| {
            let partitions = start.partitions.get(topic.as_str()).copied().unwrap_or_default();
            let partitions = i32::try_from(partitions).unwrap_or_default();
            Target { topic: *topic, name: kafka.topic(*topic), partitions }
        };
        let topics = Topic::ALL.iter().map(target).collect();
        Ok(Self { producer: Some(producer), shared, topics })
    }

    /// Sends an event, whose position is above that of the one before. Never waits.
    pub fn send(&self, event: &Envelope) -> Sending {
        let Some(producer) = &self.producer else { return Sending::Failed };
        let count = |topic| self.target(topic).map(|target| target.partitions);
        let Some((topic, partition)) = placing::place(event, count) else {
            return self.shared.refuse(event.position, "its topic has no partitions".to_owned());
        };
        let name = self.target(topic).map_or("", |target| target.name.as_str());
        let value = match record::value(event) {
            Ok(value) => value,
            Err(error) => return self.shared.refuse(event.position, error.to_string()),
        };
        let Some(sequence) = self.shared.begin(event.position) else { return Sending::Failed };
        let (key, partition_name) = (placing::key(event), partition_name(topic.as_str(), partition));
        let previous = self.shared.lock().sent.get(&partition_name).copied();
        let record = BaseRecord::with_opaque_to(name, sequence)
            .partition(partition)
            .key(&key)
            .payload(&value)
            .headers(record::headers(event, previous));
        match producer.send(record) {
            Ok(()) => {
                self.shared.lock().sent.insert(partition_name, event.position);
                Sending::UnderWay
            }
            Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), _)) => {
                self.shared.take_back();
                Sending::Full
            }
            Err((error, _)) => {
                self.shared.take_back();
                self.shared.fail(event.position, &error);
                Sending::Failed
            }
        }
    }

    fn target(&self, topic: Topic) -> Option<&Target> {
        self.topics.iter().find(|target| target.topic == topic)
    }

    /// How far Kafka has acknowledged.
    pub fn acknowledged(&self) -> Acknowledged {
        self.shared.lock().acknowledged()
    }

    /// How many records are under way.
    pub fn in_flight(&self) -> usize {
        self.shared.lock().window.len()
    }

    /// How many records were acknowledged in all.
    pub fn total(&self) -> u64 {
        self.shared.lock().total
    }

    /// How far everything is acknowledged.
    pub fn cursor(&self) -> Position {
        self.shared.lock().cursor
    }

    /// Why nothing more goes through this producer.
    pub fn failure(&self) -> Option<Failure> {
        self.shared.lock().failure.clone()
    }

    /// Waits until something is acknowledged or fails.
    pub async fn moved(&self) {
        self.shared.moved.notified().await;
    }

    /// Waits a while for what is under way, then forgets it: it is sent again from the cursor.
    pub async fn end(mut self) -> Acknowledged {
        if let Some(producer) = self.producer.take() {
            let failed = self.failure().is_some();
            // On a thread of its own, for both wait.
            let ended = apart(move || {
                if !failed {
                    let _ = producer.flush(FLUSH);
                }
                drop(producer);
            });
            let _ = tokio::time::timeout(FLUSH + Duration::from_secs(1), ended).await;
        }
        self.acknowledged()
    }
}

impl Drop for RelayProducer {
    fn drop(&mut self) {
        if let Some(producer) = self.producer.take() {
            drop(apart(move || drop(producer)));
        }
    }
}

/// Runs what waits on a thread of its own, which keeps no runtime from ending.
fn apart(work: impl FnOnce() + Send + 'static) -> tokio::sync::oneshot::Receiver<()> {
    let (done, wait) = tokio::sync::oneshot::channel();
    let spawned = std::thread::Builder::new().name("kafka-relay-end".to_owned()).spawn(move || {
        work();
        // Whoever does not wait any more does not mind.
        let _ = done.send(());
    });
    if let Err(error) = spawned {
        tracing::debug!(%error, "no thread to end the relay's producer in; it ended here");
    }
    wait
}

/// Hears what became of each record.
struct Deliveries {
    shared: Arc<Shared>,
    quiet: Quiet,
}

impl ClientContext for Deliveries {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.quiet.log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        if error.rdkafka_error_code() == Some(RDKafkaErrorCode::Fatal) {
            self.shared.lock().fail(Failure::Lost(reason.to_owned()));
            self.shared.moved.notify_one();
        }
        self.quiet.error(error, reason);
    }
}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, sequence: usize) {
        match result {
            Ok(record) => {
                self.shared.delivered(sequence, record.topic(), record.partition(), record.offset());
            }
            Err((error, _)) => {
                let state = self.shared.lock();
                let slot = sequence.checked_sub(state.first).and_then(|index| state.window.get(index));
                let position = slot.map(|slot| slot.0);
                drop(state);
                if let Some(position) = position {
                    self.shared.fail(position, error);
                }
            }
        }
    }
}
