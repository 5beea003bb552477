//! Reading the instance's topics from their beginning.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use rdkafka::{
    ClientConfig, Message as _, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer as _},
    message::BorrowedMessage,
    metadata::MetadataTopic,
};
use taskpost_common::event::{CloudEvent, Topic};
use taskpost_testkit::Part;

use super::facts::plain;
use crate::stack::{Role, Stack};

/// How long the broker may take for one answer.
const PATIENCE: Duration = Duration::from_secs(20);
/// What the relay logs when it begins anew.
const LOST: &str = "Kafka no longer has records that it had acknowledged";

/// What is in the topics.
#[derive(Clone, Debug, Default)]
pub struct Topics {
    /// Those of a partition in their order.
    pub records: Vec<Record>,
    /// What is no event, in words.
    pub broken: Vec<String>,
    /// The relay has seen that records were lost.
    pub lost: bool,
}

/// An event in Kafka.
#[derive(Clone, Debug)]
pub struct Record {
    /// Such as `work/1`.
    pub partition: String,
    pub position: i64,
    pub aggregate: String,
    pub version: i64,
}

/// Reads all that the instance has there.
pub async fn read(stack: &Stack) -> Topics {
    let instance = stack.api().instance().to_owned();
    let reading = tokio::task::spawn_blocking(move || read_all(&instance));
    let topics = reading.await.expect("Kafka can be read");
    Topics { lost: stack.server(Role::Consumers).stderr().contains(LOST), ..topics }
}

fn read_all(instance: &str) -> Topics {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", Part::Kafka.url())
        .set("group.id", "drill")
        .set("enable.auto.commit", "false")
        .create()
        .expect("a consumer");
    let mut ends = ends(&consumer, instance);
    let mut places = TopicPartitionList::new();
    for (topic, partition) in ends.keys() {
        places.add_partition_offset(topic, *partition, Offset::Beginning).expect("a place");
    }
    consumer.assign(&places).expect("its partitions");
    let (mut topics, mut moved) = (Topics::default(), Instant::now());
    while !ends.is_empty() {
        let Some(polled) = consumer.poll(Duration::from_secs(1)) else {
            assert!(moved.elapsed() < PATIENCE, "Kafka does not give the rest of {ends:?}");
            continue;
        };
        // What fails for a moment is tried again by the client.
        let Ok(message) = polled else { continue };
        moved = Instant::now();
        topics.take(&message, instance);
        let place = (message.topic().to_owned(), message.partition());
        if ends.get(&place).is_some_and(|end| message.offset() + 1 >= *end) {
            ends.remove(&place);
        }
    }
    topics
}

/// Where each partition that has anything ends.
fn ends(consumer: &BaseConsumer, instance: &str) -> BTreeMap<(String, i32), i64> {
    let mut ends = BTreeMap::new();
    for topic in Topic::ALL {
        let name = format!("{instance}.{topic}");
        let metadata = consumer.fetch_metadata(Some(&name), PATIENCE).expect("Kafka answers");
        for partition in metadata.topics().iter().flat_map(MetadataTopic::partitions) {
            let marks = consumer.fetch_watermarks(&name, partition.id(), PATIENCE);
            let (begin, end) = marks.expect("the ends of a partition");
            if end > begin {
                ends.insert((name.clone(), partition.id()), end);
            }
        }
    }
    ends
}

impl Topics {
    fn take(&mut self, message: &BorrowedMessage<'_>, instance: &str) {
        let topic = message.topic().strip_prefix(instance).unwrap_or_default().trim_start_matches('.');
        let partition = format!("{topic}/{}", message.partition());
        let value = message.payload().unwrap_or_default();
        match serde_json::from_slice::<CloudEvent>(value) {
            Ok(event) => self.records.push(Record {
                partition,
                position: event.position.0,
                aggregate: plain(event.subject.split('/').next_back().unwrap_or_default()),
                version: event.aggregateversion,
            }),
            Err(error) => self.broken.push(format!("{partition} at {}: {error}", message.offset())),
        }
    }
}
