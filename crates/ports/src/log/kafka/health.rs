//! Whether Kafka answers.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use rdkafka::{metadata::MetadataTopic, producer::Producer as _, types::RDKafkaRespErr};
use taskpost_common::event::Topic;

use super::{Kafka, LogError};

/// How long an answer holds.
const HOLDS: Duration = Duration::from_secs(1);
/// How long the brokers may take; the caller has two seconds.
const QUESTION: Duration = Duration::from_millis(1_700);
const LONGEST: Duration = Duration::from_millis(1_900);

/// The last answer.
#[derive(Debug, Default)]
pub(super) struct Last(Mutex<Option<(Instant, Option<String>)>>);

impl Kafka {
    /// What is wrong and what to do; none when all is well. Answers within two seconds.
    pub(in super::super) async fn problem(&self) -> Option<String> {
        if let Some(why) = self.0.trouble.why_stuck() {
            return Some(why);
        }
        let last = self.0.health.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some((at, problem)) = last
            && at.elapsed() < HOLDS
        {
            return problem;
        }
        let kafka = self.clone();
        let asked = tokio::task::spawn_blocking(move || kafka.ask());
        let problem = match tokio::time::timeout(LONGEST, asked).await {
            Ok(Ok(Ok(()))) => None,
            Ok(Ok(Err(problem))) => Some(problem),
            Ok(Err(_)) | Err(_) => Some(self.no_answer("no answer in time")),
        };
        let mut last = self.0.health.0.lock().unwrap_or_else(PoisonError::into_inner);
        *last = Some((Instant::now(), problem.clone()));
        problem
    }

    fn ask(&self) -> Result<(), String> {
        let topic = self.topic(Topic::Work);
        let client = self.0.side.producer().map_err(|error: LogError| error.to_string())?.client();
        let metadata = client
            .fetch_metadata(Some(&topic), QUESTION)
            .map_err(|error| self.no_answer(&error.to_string()))?;
        let error =
            metadata.topics().iter().find(|found| found.name() == topic).and_then(MetadataTopic::error);
        match error {
            None => Ok(()),
            Some(RDKafkaRespErr::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART) => Err(format!(
                "KAFKA_BROKERS: the topic {topic} is not there; the consumers make it when they start, see their log"
            )),
            Some(RDKafkaRespErr::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED) => Err(format!(
                "KAFKA_USERNAME: may not use the topic {topic}; grant it read, write and describe"
            )),
            Some(error) => Err(format!("KAFKA_BROKERS: the topic {topic} cannot be used now ({error:?})")),
        }
    }

    fn no_answer(&self, error: &str) -> String {
        let said = self.0.trouble.last().map(|said| format!("; {said}")).unwrap_or_default();
        let brokers = &self.0.settings.brokers;
        format!(
            "KAFKA_BROKERS: no broker of {brokers} answers ({error}{said}); is Kafka up and the address right?"
        )
    }
}
