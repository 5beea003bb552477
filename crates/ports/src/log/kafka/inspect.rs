//! How our topics are, for `taskpost doctor`.

use std::time::Duration;

use rdkafka::{metadata::MetadataTopic, producer::Producer as _};
use taskpost_common::event::Topic;

use super::{Kafka, LogError};

/// How long the brokers may take.
const QUESTION: Duration = Duration::from_secs(5);

/// A topic of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicState {
    /// Its full name.
    pub name: String,
    /// How many partitions it has; none when there is no such topic.
    pub partitions: usize,
    /// How many copies the partition with the fewest has.
    pub copies: usize,
    /// How many copies the partition with the fewest has that are up to date.
    pub in_sync: usize,
    /// How many partitions nobody leads, so that nothing can be written to them.
    pub leaderless: usize,
}

impl Kafka {
    /// Looks at every topic of ours, and makes none.
    pub async fn inspect(&self) -> Result<Vec<TopicState>, LogError> {
        let kafka = self.clone();
        // Bounded by the limit of its question.
        let looked = tokio::task::spawn_blocking(move || kafka.look()).await;
        looked.map_err(|_| LogError::Away("the look at its topics panicked".to_owned()))?
    }

    fn look(&self) -> Result<Vec<TopicState>, LogError> {
        let client = self.0.side.producer()?.client();
        // All of them, as asking for one by name may make it.
        let metadata = client.fetch_metadata(None, QUESTION).map_err(|error| self.away(&error))?;
        let names = Topic::ALL.iter().map(|topic| topic.as_str()).chain(["ingest", "dlq"]);
        let state = |name: &str| {
            let name = self.name(name);
            let found = metadata.topics().iter().find(|topic| topic.name() == name);
            found.map_or_else(|| TopicState::missing(&name), |topic| TopicState::of(&name, topic))
        };
        Ok(names.map(state).collect())
    }
}

impl TopicState {
    fn missing(name: &str) -> Self {
        Self { name: name.to_owned(), partitions: 0, copies: 0, in_sync: 0, leaderless: 0 }
    }

    fn of(name: &str, topic: &MetadataTopic) -> Self {
        let partitions = topic.partitions();
        Self {
            name: name.to_owned(),
            partitions: partitions.len(),
            copies: partitions.iter().map(|partition| partition.replicas().len()).min().unwrap_or(0),
            in_sync: partitions.iter().map(|partition| partition.isr().len()).min().unwrap_or(0),
            leaderless: partitions.iter().filter(|partition| partition.leader() < 0).count(),
        }
    }
}
