//! The thread that reads for a group. librdkafka wants to be polled whatever else happens, and blocks when it is closed;
//! so it has a thread of its own, which takes part in rebalances even while the group is held.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use rdkafka::{
    ClientContext, Message as _, Offset, TopicPartitionList,
    config::RDKafkaLogLevel,
    consumer::{BaseConsumer, Consumer as _, ConsumerContext, Rebalance},
    error::{KafkaError, RDKafkaErrorCode},
    message::BorrowedMessage,
};
use taskpost_common::event::Topic;
use tokio::sync::Notify;

use super::{
    super::{Broken, LogError, client},
    Kafka,
    buffer::{Buffer, Key, Record},
    context::{self, Quiet},
    partition_name, record,
};

/// What a stop and an offset may wait for.
const POLL: Duration = Duration::from_millis(100);
/// How long a full buffer is waited for before the broker is told to pause.
const PATIENCE: Duration = Duration::from_millis(200);
/// So many KiB are fetched ahead.
const AHEAD: usize = 2_048;
/// How long after a failure reading begins anew.
const AGAIN: Duration = Duration::from_secs(1);

/// What the thread receives and the group takes.
#[derive(Debug, Default)]
pub(super) struct Feed {
    buffer: Mutex<Buffer>,
    /// There is something to take.
    pub(super) ready: Notify,
    /// There is room again, or it is time to stop.
    room: Condvar,
    stop: AtomicBool,
    /// The consumer is to be made anew.
    anew: AtomicBool,
}

impl Feed {
    pub(super) fn lock(&self) -> MutexGuard<'_, Buffer> {
        self.buffer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// After something was taken.
    pub(super) fn taken(&self) {
        self.room.notify_all();
    }

    pub(super) fn stop(&self) {
        self.stop.store(true, Ordering::Release);
        self.room.notify_all();
    }

    /// Leaves the group and joins it with another consumer.
    pub(super) fn begin_anew(&self) {
        self.anew.store(true, Ordering::Release);
        self.room.notify_all();
    }

    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Acquire)
    }

    /// Waits until there is room; `false` when there is none for so long that others must be waited for meanwhile.
    fn wait_for_room(&self) -> bool {
        let full = |buffer: &mut Buffer| buffer.is_full() && !self.stopped();
        let waited = self.room.wait_timeout_while(self.lock(), PATIENCE, full);
        !waited.unwrap_or_else(PoisonError::into_inner).1.timed_out()
    }

    /// Waits before reading begins anew.
    fn pause(&self) {
        let guard = self.lock();
        drop(self.room.wait_timeout_while(guard, AGAIN, |_| !self.stopped()));
    }
}

/// Reads for a group until the feed is stopped; begins anew after whatever goes wrong.
pub(super) fn run(kafka: &Kafka, group: &'static str, feed: &Arc<Feed>) {
    let mut failing = false;
    while !feed.stopped() {
        let ended = read(kafka, group, feed, &mut failing);
        feed.lock().clear();
        if let Err(error) = ended {
            if std::mem::replace(&mut failing, true) {
                tracing::debug!(group, %error, "still cannot read");
            } else {
                tracing::warn!(group, %error, "cannot read from Kafka; nothing is skipped, and it goes on by itself");
            }
            feed.pause();
        }
    }
}

fn read(kafka: &Kafka, group: &'static str, feed: &Arc<Feed>, failing: &mut bool) -> Result<(), LogError> {
    feed.anew.store(false, Ordering::Release);
    kafka.make_topics()?;
    let reader = Reader::new(kafka, group, feed)?;
    let mut paused = None;
    while !feed.stopped() && !feed.anew.load(Ordering::Acquire) {
        reader.store_offsets();
        reader.press_back(&mut paused)?;
        match reader.consumer.poll(POLL) {
            None => {}
            Some(Ok(message)) => {
                if std::mem::take(failing) {
                    tracing::info!(group, "reads from Kafka again");
                }
                reader.receive(&message);
            }
            Some(Err(error)) if passes(&error) => {
                tracing::debug!(target: "librdkafka", group, %error, "passes");
            }
            Some(Err(error)) => return Err(kafka.away(&error)),
        }
    }
    reader.store_offsets();
    Ok(())
}

struct Reader {
    consumer: BaseConsumer<Rebalancing>,
    group: &'static str,
    feed: Arc<Feed>,
}

impl Reader {
    fn new(kafka: &Kafka, group: &'static str, feed: &Arc<Feed>) -> Result<Self, LogError> {
        let topics: Vec<(String, &'static str)> =
            Topic::ALL.iter().map(|topic| (kafka.topic(*topic), topic.as_str())).collect();
        let mut config = client::member(&kafka.0.connection, &client::group(&kafka.0.instance, group), AHEAD);
        config
            // Eager: everybody lets go of everything and begins anew, which costs little where progress is in the
            // store, and has fewer states to be in than cooperative rebalancing. Round robin, because by ranges a
            // fourth process would get nothing of a topic with few partitions before others have two.
            .set("partition.assignment.strategy", "roundrobin")
            .set("fetch.error.backoff.ms", "200");
        let context = Rebalancing { group, quiet: kafka.context(), feed: Arc::clone(feed), topics };
        let names: Vec<String> = context.topics.iter().map(|(full, _)| full.clone()).collect();
        let settings = |error: KafkaError| LogError::Settings(error.to_string());
        let consumer: BaseConsumer<Rebalancing> = config.create_with_context(context).map_err(settings)?;
        consumer.subscribe(&names.iter().map(String::as_str).collect::<Vec<_>>()).map_err(settings)?;
        Ok(Self { consumer, group, feed: Arc::clone(feed) })
    }

    fn receive(&self, message: &BorrowedMessage<'_>) {
        let context = self.consumer.context();
        let Some(key) = context.key(message.topic(), message.partition()) else { return };
        let record = match record::read(message.payload()) {
            Ok(event) => Record::Event(Box::new(event), record::previous(message.headers())),
            Err(reason) => Record::Broken(Box::new(self.broken(key, message, reason))),
        };
        self.feed.lock().push(key, message.offset(), record);
        self.feed.ready.notify_one();
    }

    fn broken(&self, key: Key, message: &BorrowedMessage<'_>, reason: String) -> Broken {
        let partition = partition_name(key.0, key.1);
        let written = message.timestamp().to_millis().unwrap_or_default();
        Broken {
            id: Broken::id(self.group, &partition, message.offset(), written),
            partition,
            offset: message.offset(),
            key: message.key().map(<[u8]>::to_vec),
            payload: message.payload().unwrap_or_default().to_vec(),
            reason,
        }
    }

    fn store_offsets(&self) {
        self.consumer.context().store_offsets(&self.consumer);
    }

    /// Takes nothing more while the buffer is full. Waits a little, and then has the broker pause, for the consumer must
    /// be polled all the same. `paused` tells at which assignment.
    fn press_back(&self, paused: &mut Option<u64>) -> Result<(), LogError> {
        let has_room = self.feed.wait_for_room();
        let assignment = self.feed.lock().assignment();
        let pausing = |error: KafkaError| LogError::Away(format!("cannot pause reading: {error}"));
        if has_room && paused.take().is_some() {
            self.consumer.resume(&self.consumer.assignment().map_err(pausing)?).map_err(pausing)?;
        } else if !has_room && *paused != Some(assignment) {
            self.consumer.pause(&self.consumer.assignment().map_err(pausing)?).map_err(pausing)?;
            *paused = Some(assignment);
        }
        Ok(())
    }
}

/// Whether the consumer gets over an error by itself.
fn passes(error: &KafkaError) -> bool {
    let KafkaError::MessageConsumption(code) = error else {
        return !matches!(error, KafkaError::MessageConsumptionFatal(_));
    };
    !matches!(
        code,
        // It left the group, and would stay out of it.
        RDKafkaErrorCode::PollExceeded
            // The topics are to be made again.
            | RDKafkaErrorCode::UnknownTopic
            | RDKafkaErrorCode::UnknownTopicOrPartition
            | RDKafkaErrorCode::UnknownPartition
            // Somebody must do something, and shall read why.
            | RDKafkaErrorCode::TopicAuthorizationFailed
            | RDKafkaErrorCode::GroupAuthorizationFailed
            | RDKafkaErrorCode::InconsistentGroupProtocol
            | RDKafkaErrorCode::InvalidSessionTimeout
    )
}

/// Keeps the feed to the partitions that are ours.
struct Rebalancing {
    group: &'static str,
    quiet: Quiet,
    feed: Arc<Feed>,
    /// Full name and own name.
    topics: Vec<(String, &'static str)>,
}

impl Rebalancing {
    fn key(&self, topic: &str, partition: i32) -> Option<Key> {
        let (_, name) = self.topics.iter().find(|(full, _)| full == topic)?;
        Some((*name, partition))
    }

    fn keys(&self, list: &TopicPartitionList) -> Vec<Key> {
        let elements = list.elements();
        elements.iter().filter_map(|element| self.key(element.topic(), element.partition())).collect()
    }

    fn store_offsets(&self, consumer: &BaseConsumer<Self>) {
        let offsets: BTreeMap<Key, i64> = self.feed.lock().take_offsets();
        let mut list = TopicPartitionList::with_capacity(offsets.len());
        for ((name, partition), offset) in offsets {
            if let Some((full, _)) = self.topics.iter().find(|(_, own)| *own == name) {
                // The list takes any offset that is not negative.
                let _ = list.add_partition_offset(full, partition, Offset::Offset(offset));
            }
        }
        if list.count() > 0
            && let Err(error) = consumer.store_offsets(&list)
        {
            // Who has the partition now reads these again, and skips them by their positions.
            tracing::debug!(group = self.group, %error, "offsets were not kept");
        }
    }
}

impl ClientContext for Rebalancing {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        if facility == "OFFSET" && matches!(level, RDKafkaLogLevel::Warning) {
            metrics::counter!("taskpost_group_offset_resets_total", "group" => self.group).increment(1);
            tracing::error!(
                group = self.group,
                message,
                "Kafka no longer has what this group would read next, so it reads on from the earliest there is; if the topic was not made anew, its retention is shorter than the group's lag"
            );
        }
        context::log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.quiet.error(error, reason);
    }
}

impl ConsumerContext for Rebalancing {
    fn pre_rebalance(&self, consumer: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        match rebalance {
            Rebalance::Assign(list) => {
                let keys = self.keys(list);
                tracing::debug!(group = self.group, partitions = ?keys, "got partitions");
                let mut buffer = self.feed.lock();
                for key in keys {
                    buffer.assign(key);
                }
            }
            Rebalance::Revoke(list) => {
                self.store_offsets(consumer);
                let mut buffer = self.feed.lock();
                for key in self.keys(list) {
                    buffer.revoke(key);
                }
            }
            Rebalance::Error(error) => tracing::debug!(group = self.group, %error, "rebalancing failed"),
        }
    }
}
