//! Our topics: made by hand, because one that a broker makes by itself has whatever partitions the broker likes.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use rdkafka::{
    admin::{AdminClient, AdminOptions, NewTopic, TopicReplication},
    error::{KafkaError, RDKafkaErrorCode},
    producer::Producer as _,
    types::RDKafkaRespErr,
};
use taskpost_common::event::Topic;

use super::{Kafka, LogError, partition_name};

/// How long a broker may take for one question.
const QUESTION: Duration = Duration::from_secs(5);
/// How long a new topic may take until every broker knows it.
const SPREAD: Duration = Duration::from_secs(10);
const LOOK: Duration = Duration::from_millis(50);
/// Events are in the store as well; Kafka keeps what a group may still have to read.
const WEEK: &str = "604800000";
const FORTNIGHT: &str = "1209600000";

/// Warnings that were given already.
#[derive(Debug, Default)]
pub(super) struct Told {
    partitions: AtomicBool,
}

/// What is in Kafka.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Survey {
    /// By topic, such as `work`, how many partitions it has.
    pub partitions: BTreeMap<String, i64>,
    /// By partition, such as `work/3`, the offset that its next record gets.
    pub ends: BTreeMap<String, i64>,
}

impl Kafka {
    /// Makes the topics that are missing, and looks how far each partition is written.
    pub async fn survey(&self) -> Result<Survey, LogError> {
        let kafka = self.clone();
        // Bounded by the limits of its questions.
        tokio::task::spawn_blocking(move || {
            let partitions = kafka.make_topics()?;
            let ends = kafka.ends(&partitions)?;
            Ok(Survey { partitions, ends })
        })
        .await
        .map_err(|_| LogError::Away("the survey of its topics panicked".to_owned()))?
    }

    /// Makes the topics that are missing; gives the number of partitions of those that carry events. Blocks.
    ///
    /// A topic that is there stays as it is, also when KAFKA_PARTITIONS says otherwise: more partitions would send the
    /// next event of a task elsewhere than the one before, and a group could apply the later one first.
    pub(super) fn make_topics(&self) -> Result<BTreeMap<String, i64>, LogError> {
        let events = Topic::ALL.iter().map(|topic| topic.as_str());
        let mut missing = Vec::new();
        for name in events.clone().chain(["ingest", "dlq"]) {
            if self.count(name)?.is_none() {
                missing.push(name);
            }
        }
        if !missing.is_empty() {
            self.create(&missing)?;
        }
        let mut counts = BTreeMap::new();
        for name in events {
            counts.insert(name.to_owned(), self.count_new(name)?);
        }
        self.warn_of_other_counts(&counts);
        Ok(counts)
    }

    fn warn_of_other_counts(&self, counts: &BTreeMap<String, i64>) {
        let wanted = i64::from(self.0.settings.partitions);
        if counts.values().any(|count| *count != wanted)
            && !self.0.topics.partitions.swap(true, Ordering::Relaxed)
        {
            tracing::warn!(
                ?counts,
                wanted,
                "KAFKA_PARTITIONS is for topics that are yet to be made: these stay as they are, for with other partitions the events of a task would lose their order"
            );
        }
    }

    /// How many partitions a topic has; none when there is no such topic.
    fn count(&self, name: &str) -> Result<Option<i64>, LogError> {
        let full = self.name(name);
        let client = self.0.side.producer()?.client();
        let metadata = client.fetch_metadata(Some(&full), QUESTION).map_err(|error| self.away(&error))?;
        let topic = metadata.topics().iter().find(|topic| topic.name() == full);
        match topic.map(|topic| (topic.error(), topic.partitions().len())) {
            Some((None, partitions)) if partitions > 0 => {
                Ok(Some(i64::try_from(partitions).unwrap_or(i64::MAX)))
            }
            Some((Some(RDKafkaRespErr::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED), _)) => {
                Err(refused(&full, "KAFKA_USERNAME may not read it; grant it read, write and describe"))
            }
            _ => Ok(None),
        }
    }

    /// The same of a topic that was just made, which the broker that is asked may not know yet.
    fn count_new(&self, name: &str) -> Result<i64, LogError> {
        let begun = Instant::now();
        loop {
            if let Some(count) = self.count(name)? {
                return Ok(count);
            }
            if begun.elapsed() > SPREAD {
                return Err(LogError::Away(format!("the topic {} is not there yet", self.name(name))));
            }
            std::thread::sleep(LOOK);
        }
    }

    fn create(&self, names: &[&str]) -> Result<(), LogError> {
        let settings = &self.0.settings;
        let full: Vec<(&str, String)> = names.iter().map(|name| (*name, self.name(name))).collect();
        let replication = i32::from(settings.replication);
        // With three copies one may be away; with fewer a minimum of two would stop everything with the first.
        let in_sync = if replication >= 3 { "2" } else { "1" };
        let topics: Vec<NewTopic<'_>> = full
            .iter()
            .map(|(name, full)| {
                let retention = if *name == "dlq" { FORTNIGHT } else { WEEK };
                NewTopic::new(full, i32::from(settings.partitions), TopicReplication::Fixed(replication))
                    .set("cleanup.policy", "delete")
                    .set("retention.ms", retention)
                    // The broker's own time: one of ours that is an hour ahead would be refused, and one that is
                    // older than the retention deleted at once.
                    .set("message.timestamp.type", "LogAppendTime")
                    .set("min.insync.replicas", in_sync)
            })
            .collect();
        let admin: AdminClient<_> = self
            .0
            .connection
            .create_with_context(self.context())
            .map_err(|error| LogError::Settings(error.to_string()))?;
        let options = AdminOptions::new().request_timeout(Some(QUESTION)).operation_timeout(Some(QUESTION));
        let made = futures::executor::block_on(admin.create_topics(&topics, &options))
            .map_err(|error| self.away(&error))?;
        for result in made {
            match result {
                Ok(name) => tracing::info!(topic = name, "made a topic"),
                Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
                Err((name, code)) => return Err(not_made(&name, code)),
            }
        }
        Ok(())
    }

    fn ends(&self, partitions: &BTreeMap<String, i64>) -> Result<BTreeMap<String, i64>, LogError> {
        let begun = Instant::now();
        let mut ends = BTreeMap::new();
        for (name, count) in partitions {
            let topic = self.name(name);
            for partition in 0..i32::try_from(*count).unwrap_or(i32::MAX) {
                ends.insert(partition_name(name, partition), self.end(&topic, partition, begun)?);
            }
        }
        Ok(ends)
    }

    fn end(&self, topic: &str, partition: i32, begun: Instant) -> Result<i64, LogError> {
        let client = self.0.side.producer()?.client();
        loop {
            match client.fetch_watermarks(topic, partition, QUESTION) {
                Ok((_, end)) => return Ok(end),
                // A partition that was just made has yet to find its leader.
                Err(error) if is_young(&error) && begun.elapsed() < SPREAD => std::thread::sleep(LOOK),
                Err(error) => return Err(self.away(&error)),
            }
        }
    }

    pub(super) fn away(&self, error: &KafkaError) -> LogError {
        let said = self.0.trouble.last().map(|said| format!(" ({said})")).unwrap_or_default();
        LogError::Away(format!("{error}{said}"))
    }
}

fn is_young(error: &KafkaError) -> bool {
    matches!(
        error.rdkafka_error_code(),
        Some(
            RDKafkaErrorCode::NotLeaderForPartition
                | RDKafkaErrorCode::LeaderNotAvailable
                | RDKafkaErrorCode::UnknownTopicOrPartition
                | RDKafkaErrorCode::UnknownPartition
                | RDKafkaErrorCode::OffsetNotAvailable
        )
    )
}

fn not_made(name: &str, code: RDKafkaErrorCode) -> LogError {
    match code {
        RDKafkaErrorCode::InvalidReplicationFactor => {
            refused(name, "there are fewer brokers than KAFKA_REPLICATION says")
        }
        RDKafkaErrorCode::TopicAuthorizationFailed | RDKafkaErrorCode::ClusterAuthorizationFailed => {
            refused(name, "KAFKA_USERNAME may not make it; make it by hand, or grant it the right to")
        }
        RDKafkaErrorCode::PolicyViolation | RDKafkaErrorCode::InvalidPartitions => {
            refused(name, "the brokers do not allow it with KAFKA_PARTITIONS and KAFKA_REPLICATION")
        }
        RDKafkaErrorCode::InvalidTopic => refused(name, "KAFKA_TOPIC_PREFIX makes no good name"),
        code => LogError::Away(format!("the topic {name} could not be made: {code}")),
    }
}

fn refused(name: &str, why: &str) -> LogError {
    LogError::Refused(format!("the topic {name} cannot be used: {why}"))
}
