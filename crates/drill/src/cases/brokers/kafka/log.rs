//! The instance's topics and groups, as an operator's tools see them.

use std::time::Duration;

use rdkafka::{
    ClientConfig, Offset, TopicPartitionList,
    admin::{AdminClient, AdminOptions},
    client::DefaultClientContext,
    consumer::{BaseConsumer, CommitMode, Consumer as _},
    error::KafkaError,
    message::OwnedMessage,
    topic_partition_list::TopicPartitionListElem,
};
use taskpost_testkit::Part;

use super::{super::super::processes::until_seldom, GROUPS};
use crate::case::Arena;

/// The topics that carry events.
pub(super) const EVENTS: [&str; 4] = ["identity", "work", "content", "delivery"];
/// How long one question may take.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

/// The instance's things in Kafka.
#[derive(Clone)]
pub(super) struct Log {
    instance: String,
}

/// By topic and partition.
pub(super) type Offsets = Vec<((String, i32), i64)>;

impl Log {
    pub(super) fn of(arena: &Arena) -> Self {
        Self { instance: arena.stack.api().instance().to_owned() }
    }

    pub(super) fn name(&self, of: &str) -> String {
        format!("{}.{of}", self.instance)
    }

    pub(super) fn client() -> ClientConfig {
        let mut config = ClientConfig::new();
        // A question after a topic must not make it.
        config.set("bootstrap.servers", Part::Kafka.url()).set("allow.auto.create.topics", "false");
        config
    }

    pub(super) fn admin() -> AdminClient<DefaultClientContext> {
        Self::client().create().expect("a client of Kafka")
    }

    pub(super) fn patience() -> AdminOptions {
        AdminOptions::new().request_timeout(Some(PATIENCE)).operation_timeout(Some(PATIENCE))
    }

    /// Asks something that blocks, as a consumer of this group.
    async fn ask<T: Send + 'static>(
        &self,
        group: &str,
        question: impl FnOnce(&BaseConsumer) -> T + Send + 'static,
    ) -> T {
        let group = self.name(group);
        let asked = tokio::task::spawn_blocking(move || {
            let mut config = Self::client();
            config
                .set("group.id", group)
                .set("enable.auto.commit", "false")
                .set("enable.partition.eof", "true");
            let consumer: BaseConsumer = config.create().expect("a consumer");
            question(&consumer)
        });
        asked.await.expect("it ends")
    }

    /// The partitions of the topics that carry events; fewer while topics are missing.
    pub(super) async fn partitions(&self) -> Vec<(String, i32)> {
        let topics = EVENTS.map(|topic| self.name(topic));
        self.ask("drill", move |consumer| {
            let metadata = consumer.fetch_metadata(None, PATIENCE).expect("Kafka answers");
            let ours =
                metadata.topics().iter().filter(|topic| topics.iter().any(|name| name == topic.name()));
            ours.flat_map(|topic| {
                topic.partitions().iter().map(|found| (topic.name().to_owned(), found.id()))
            })
            .collect()
        })
        .await
    }

    /// The offset that the next record of each partition gets.
    pub(super) async fn ends(&self) -> Offsets {
        let partitions = self.partitions().await;
        self.ask("drill", move |consumer| {
            let end = |(topic, partition): &(String, i32)| {
                consumer.fetch_watermarks(topic, *partition, PATIENCE).expect("Kafka answers").1
            };
            partitions.into_iter().map(|partition| (partition.clone(), end(&partition))).collect()
        })
        .await
    }

    /// Where a group would read on.
    pub(super) async fn committed(&self, group: &str) -> Offsets {
        let partitions = self.partitions().await;
        self.ask(group, move |consumer| {
            let mut list = TopicPartitionList::new();
            for (topic, partition) in &partitions {
                list.add_partition(topic, *partition);
            }
            let found = consumer.committed_offsets(list, PATIENCE).expect("Kafka answers");
            let offset = |offset| if let Offset::Offset(offset) = offset { offset } else { 0 };
            let elements = found.elements();
            let of = |found: &TopicPartitionListElem<'_>| {
                ((found.topic().to_owned(), found.partition()), offset(found.offset()))
            };
            elements.iter().map(of).collect()
        })
        .await
    }

    /// Has a group read on there. It must have no members.
    pub(super) async fn commit(&self, group: &str, offsets: &Offsets) -> Result<(), String> {
        let mut list = TopicPartitionList::new();
        for ((topic, partition), offset) in offsets {
            let added = list.add_partition_offset(topic, *partition, Offset::Offset(*offset));
            added.expect("an offset");
        }
        self.ask(group, move |consumer| {
            consumer.commit(&list, CommitMode::Sync).map_err(|error| format!("offsets are not set: {error}"))
        })
        .await
    }

    /// Every record there is.
    pub(super) async fn records(&self) -> Vec<OwnedMessage> {
        let ends = self.ends().await;
        self.ask("drill", move |consumer| {
            let mut list = TopicPartitionList::new();
            for ((topic, partition), _) in &ends {
                list.add_partition_offset(topic, *partition, Offset::Beginning).expect("an offset");
            }
            consumer.assign(&list).expect("they can be read");
            let all: i64 = ends.iter().map(|(_, end)| end).sum();
            let mut records = Vec::new();
            while i64::try_from(records.len()).is_ok_and(|some| some < all) {
                match consumer.poll(PATIENCE) {
                    Some(Ok(record)) => records.push(record.detach()),
                    Some(Err(KafkaError::PartitionEOF(_))) => {}
                    Some(Err(error)) => panic!("{error}"),
                    None => panic!("Kafka gives {} records of {all}", records.len()),
                }
            }
            records
        })
        .await
    }

    /// Waits until the groups have passed these offsets.
    pub(super) async fn passed(&self, arena: &Arena, ends: &Offsets) {
        until_seldom(arena, || async {
            for group in GROUPS {
                let at = self.committed(group).await;
                let behind = |(key, end): &&((String, i32), i64)| {
                    *end > 0 && at.iter().any(|(of, at)| of == key && at < end)
                };
                if let Some((key, end)) = ends.iter().find(behind) {
                    return Err(format!("{group} has not passed {end} of {key:?}: {at:?}"));
                }
            }
            Ok(())
        })
        .await;
    }
}
