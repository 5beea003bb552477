//! Reading the ingest topic as a member of a group.

use std::{collections::BTreeMap, fmt, sync::Arc, time::Duration};

use futures::{FutureExt as _, StreamExt as _};
use rdkafka::{
    ClientContext, Message as _, Statistics, TopicPartitionList,
    config::RDKafkaLogLevel,
    consumer::{Consumer as _, ConsumerContext, StreamConsumer},
    error::{KafkaError, RDKafkaErrorCode},
    message::BorrowedMessage,
    statistics::Partition,
};
use tokio::time::{Instant, timeout, timeout_at};

use super::{super::client, Ingest, IngestError, Quiet, drop_apart};

/// How long a batch waits for more once it has one.
const GATHER: Duration = Duration::from_millis(5);
/// The most bytes in a batch, but for its last record.
const BYTES: usize = 8 * 1024 * 1024;
/// So many KiB are fetched ahead.
const AHEAD: usize = 4_096;
/// How long leaving the group may take.
const LEAVE: Duration = Duration::from_secs(5);
/// How often the consumer is polled when nothing comes.
const POLL: Duration = Duration::from_secs(1);

/// A record as it stands on the topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// The partition.
    pub partition: i32,
    /// Its place there.
    pub offset: i64,
    /// When it was written, in milliseconds since 1970.
    pub written_at: i64,
    /// The key.
    pub key: Option<Vec<u8>>,
    /// The value.
    pub value: Option<Vec<u8>>,
}

/// A reading of the ingest topic. After a failure it joins the group anew by itself.
pub struct Commands {
    ingest: Ingest,
    consumer: Option<Reader>,
    /// What was read and not given out yet.
    read: Vec<Record>,
    /// By partition, the last offset that was given out.
    given: BTreeMap<i32, i64>,
    /// The consumer can do no more.
    broken: bool,
}

impl fmt::Debug for Commands {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Commands")
            .field("ingest", &self.ingest)
            .field("given", &self.given)
            .finish_non_exhaustive()
    }
}

type Reader = Arc<StreamConsumer<Lag>>;

impl Commands {
    pub(super) fn new(ingest: Ingest) -> Self {
        Self { ingest, consumer: None, read: Vec::new(), given: BTreeMap::new(), broken: false }
    }

    /// Waits for the next records, at most `limit`, those of each partition in their order. Loses nothing when it is
    /// dropped half-way. Call it at least every four minutes, or the group takes the member for dead.
    pub async fn next(&mut self, limit: usize) -> Result<Vec<Record>, IngestError> {
        if self.broken {
            self.rewind().await;
        }
        let consumer = self.consumer()?;
        let mut stream = consumer.stream();
        while self.read.is_empty() {
            // Polls now and then of its own accord, in case a wake-up is lost.
            if let Ok(Some(message)) = timeout(POLL, stream.next()).await {
                self.take(message)?;
            }
        }
        let until = Instant::now() + GATHER;
        let mut bytes = self.read.iter().map(Record::size).sum::<usize>();
        while self.read.len() < limit && bytes < BYTES && !self.broken {
            let next = match stream.next().now_or_never() {
                Some(next) => next,
                None => timeout_at(until, stream.next()).await.ok().flatten(),
            };
            let Some(message) = next else { break };
            // What is wrong shows again at the next call, if it lasts; what was read is not held back for it.
            if self.take(message).is_err() {
                break;
            }
            bytes += self.read.last().map_or(0, Record::size);
        }
        let records = std::mem::take(&mut self.read);
        for record in &records {
            self.given.insert(record.partition, record.offset);
        }
        Ok(records)
    }

    /// Says that all that was given out has had its effects.
    pub fn done(&mut self) {
        let given = std::mem::take(&mut self.given);
        let Some(consumer) = &self.consumer else { return };
        let mut offsets = TopicPartitionList::with_capacity(given.len());
        for (partition, offset) in given {
            let next = rdkafka::Offset::Offset(offset + 1);
            // The list takes any offset that is not negative.
            let _ = offsets.add_partition_offset(&self.ingest.0.topic, partition, next);
        }
        // A partition that was taken from us meanwhile is read again by another member, which finds the effects there.
        if let Err(error) = consumer.store_offsets(&offsets) {
            tracing::debug!(%error, "the place in the ingest topic was not kept; some commands come again");
        }
    }

    /// Leaves the group and forgets what was given out since the last [`Commands::done`]: it comes again, here or at
    /// another member.
    pub async fn rewind(&mut self) {
        self.read.clear();
        self.given.clear();
        self.broken = false;
        // Whoever has the partitions now tells it.
        tell_lag(0);
        if let Some(consumer) = self.consumer.take() {
            let gone = drop_apart("kafka-consumer-end", consumer);
            if timeout(LEAVE, gone).await.is_err() {
                tracing::warn!("a consumer of the ingest topic did not end within {} s", LEAVE.as_secs());
            }
        }
    }

    fn take(&mut self, message: Result<BorrowedMessage<'_>, KafkaError>) -> Result<(), IngestError> {
        match message {
            Ok(message) => {
                self.read.push(Record {
                    partition: message.partition(),
                    offset: message.offset(),
                    written_at: message.timestamp().to_millis().unwrap_or_default(),
                    key: message.key().map(<[u8]>::to_vec),
                    value: message.payload().map(<[u8]>::to_vec),
                });
                Ok(())
            }
            Err(error) => {
                self.broken = !passes(&error);
                Err(IngestError::Away(error))
            }
        }
    }

    fn consumer(&mut self) -> Result<Reader, IngestError> {
        if let Some(consumer) = &self.consumer {
            return Ok(Arc::clone(consumer));
        }
        let mut config = client::member(&self.ingest.0.connection, &self.ingest.0.group, AHEAD);
        config
            // The work of a batch is bounded far below this.
            .set("max.poll.interval.ms", "300000")
            .set("statistics.interval.ms", "5000");
        let lag = Lag { topic: self.ingest.0.topic.clone() };
        let consumer: StreamConsumer<Lag> = config.create_with_context(lag).map_err(IngestError::Settings)?;
        consumer.subscribe(&[&self.ingest.0.topic]).map_err(IngestError::Settings)?;
        tell_lag(0);
        Ok(Arc::clone(self.consumer.insert(Arc::new(consumer))))
    }
}

impl Drop for Commands {
    fn drop(&mut self) {
        if let Some(consumer) = self.consumer.take() {
            drop_apart("kafka-consumer-end", consumer);
        }
    }
}

impl Record {
    fn size(&self) -> usize {
        self.key.as_ref().map_or(0, Vec::len) + self.value.as_ref().map_or(0, Vec::len)
    }
}

/// Whether the same consumer goes on by itself after this.
fn passes(error: &KafkaError) -> bool {
    use RDKafkaErrorCode as Code;
    let KafkaError::MessageConsumption(code) = error else { return false };
    matches!(
        code,
        Code::AllBrokersDown
            | Code::BrokerTransportFailure
            | Code::Resolve
            | Code::OperationTimedOut
            | Code::NetworkException
            | Code::LeaderNotAvailable
            | Code::NotLeaderForPartition
            | Code::CoordinatorLoadInProgress
            | Code::CoordinatorNotAvailable
            | Code::NotCoordinator
            | Code::RebalanceInProgress
    )
}

#[expect(clippy::cast_precision_loss, reason = "a gauge shows a magnitude")]
fn tell_lag(commands: i64) {
    metrics::gauge!("taskpost_ingestion_lag").set(commands as f64);
}

/// Tells how many commands wait.
#[derive(Debug)]
struct Lag {
    topic: String,
}

impl ClientContext for Lag {
    fn stats(&self, statistics: Statistics) {
        let Some(topic) = statistics.topics.get(&self.topic) else { return };
        // It is -1 for partitions of other members, and while nothing is known yet.
        let waits = |lags: &Partition| lags.consumer_lag.max(lags.consumer_lag_stored).max(0);
        let waiting: i64 = topic.partitions.values().map(waits).sum();
        tell_lag(waiting);
    }

    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        Quiet.log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        Quiet.error(error, reason);
    }
}

impl ConsumerContext for Lag {}
