//! Ingestion: commands on the ingest topic, which are tasks that are accepted but not stored yet.
//!
//! Contract:
//!
//! - [`Ingest::accept`] returns `Ok` only once all in-sync replicas have the command. Any other answer but
//!   [`IngestError::Full`] means unknown: it may be on the topic.
//! - [`Commands::next`] gives every command at least once. A place in the topic only says where reading starts again,
//!   so a command may come twice, at any time, and whoever applies it must be exact by itself.
//! - [`Commands::done`] says that a batch has had its effects; until then it comes again after a restart.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use rdkafka::{
    ClientConfig, ClientContext,
    config::RDKafkaLogLevel,
    error::{KafkaError, RDKafkaErrorCode},
    message::{Header, OwnedHeaders},
    producer::{FutureProducer, FutureRecord, Producer as _},
};
use taskpost_common::config::Kafka;

use super::{Log, client};

mod commands;

pub use commands::{Commands, Record};

/// How long Kafka has to acknowledge a command. The answer to a client waits for it.
const PATIENCE: Duration = Duration::from_secs(2);
/// The group that stores what was accepted.
const GROUP: &str = "ingestion";

/// The way to the ingest topic. Cheap to clone; connects when it is first used.
#[derive(Clone, Debug)]
pub struct Ingest(Arc<Inner>);

struct Inner {
    connection: ClientConfig,
    topic: String,
    group: String,
    producer: Mutex<Option<Sender>>,
}

type Producing = FutureProducer<Quiet>;

impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ingest")
            .field("topic", &self.topic)
            .field("group", &self.group)
            .finish_non_exhaustive()
    }
}

/// Why a command is not known to be on the topic, or cannot be read from it.
#[derive(Debug, thiserror::Error)]
pub enum IngestError {
    /// The queue to Kafka is full: this command was not sent.
    #[error("the queue to Kafka is full")]
    Full,
    /// It was not acknowledged in time, or the acknowledgement was lost.
    #[error("Kafka did not acknowledge a command in time: {0}; check KAFKA_BROKERS and the brokers")]
    Unknown(String),
    /// Kafka cannot be read now.
    #[error("cannot read the ingest topic: {0}; check KAFKA_BROKERS and the brokers")]
    Away(KafkaError),
    /// The settings cannot be used.
    #[error("cannot make a client of Kafka: {0}; check the KAFKA_ variables")]
    Settings(KafkaError),
}

impl Log {
    /// The way to the ingest topic, which only Kafka has.
    pub fn ingest(&self) -> Option<&Ingest> {
        match self {
            Self::Local { .. } => None,
            Self::Kafka(kafka) => Some(kafka.ingest()),
        }
    }
}

impl Ingest {
    /// For the topics and groups of this instance. Never waits for a broker.
    pub fn new(settings: &Kafka, instance: &str) -> Self {
        Self(Arc::new(Inner {
            connection: client::connection(settings, instance),
            topic: client::topic(settings, "ingest"),
            group: client::group(instance, GROUP),
            producer: Mutex::new(None),
        }))
    }

    /// Connects ahead of need, so that the first command does not wait for it.
    pub fn connect(&self) -> Result<(), IngestError> {
        self.producer().map(drop)
    }

    /// Puts a command on the topic and waits until it is durable there, at most two seconds.
    pub async fn accept(
        &self,
        key: &str,
        command: &[u8],
        traceparent: Option<&str>,
    ) -> Result<(), IngestError> {
        let mut record = FutureRecord::to(&self.0.topic).key(key).payload(command);
        if let Some(traceparent) = traceparent {
            let header = Header { key: "traceparent", value: Some(traceparent) };
            record.headers = Some(OwnedHeaders::new().insert(header));
        }
        let sending = self.producer()?.send_result(record).map_err(|(error, _)| match error {
            KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull) => IngestError::Full,
            error => self.unknown(error.to_string()),
        })?;
        match tokio::time::timeout(PATIENCE, sending).await {
            Ok(Ok(Ok(_))) => Ok(()),
            Ok(Ok(Err((error, _)))) => Err(self.unknown(error.to_string())),
            Ok(Err(_)) => Err(self.unknown("the producer was closed".to_owned())),
            Err(_) => Err(self.unknown("no answer".to_owned())),
        }
    }

    /// Begins to read commands as a member of the group that stores them.
    pub fn commands(&self) -> Commands {
        Commands::new(self.clone())
    }

    /// The producer, made anew after a fatal error.
    fn producer(&self) -> Result<Producing, IngestError> {
        let mut producer = self.0.producer.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(Sender(Some(producer))) = &*producer {
            return Ok(producer.clone());
        }
        let made: Producing = self.producing().create_with_context(Quiet).map_err(IngestError::Settings)?;
        *producer = Some(Sender(Some(made.clone())));
        Ok(made)
    }

    fn producing(&self) -> ClientConfig {
        let mut config = self.0.connection.clone();
        config
            .set("enable.idempotence", "true")
            .set("acks", "all")
            .set("partitioner", "murmur2_random")
            .set("compression.type", "lz4")
            .set("linger.ms", "2")
            // Behind this the client was told that the outcome is unknown: nothing is sent for it any more.
            .set("message.timeout.ms", PATIENCE.as_millis().to_string())
            .set("queue.buffering.max.messages", "20000")
            .set("queue.buffering.max.kbytes", "65536");
        config
    }

    /// An idempotent producer does not recover from a fatal error, so the next record gets a new one.
    fn unknown(&self, reason: String) -> IngestError {
        let mut producer = self.0.producer.lock().unwrap_or_else(PoisonError::into_inner);
        let fatal = match &*producer {
            Some(Sender(Some(producer))) => producer.client().fatal_error(),
            _ => None,
        };
        if let Some((code, text)) = fatal {
            tracing::warn!(%code, text, "the producer of accepted tasks failed for good; makes a new one");
            *producer = None;
        }
        IngestError::Unknown(reason)
    }
}

/// A producer that is dropped on a thread of its own, because dropping it waits.
struct Sender(Option<Producing>);

impl Drop for Sender {
    fn drop(&mut self) {
        if let Some(producer) = self.0.take() {
            drop_apart("kafka-producer-end", producer);
        }
    }
}

/// What librdkafka says goes to the debug log: whoever uses the client says once what lasts.
struct Quiet;

impl ClientContext for Quiet {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        tracing::debug!(target: "librdkafka", ?level, facility, "{message}");
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(target: "librdkafka", %error, reason);
    }
}

/// Drops a client of Kafka where nobody waits for it; gives what is ready when it is gone. Not in the runtime's own
/// threads for blocking work: one that hangs there would keep the process from ending.
pub(super) fn drop_apart<T: Send + 'static>(name: &str, client: T) -> tokio::sync::oneshot::Receiver<()> {
    let (gone, wait) = tokio::sync::oneshot::channel();
    let dropping = std::thread::Builder::new().name(name.to_owned()).spawn(move || {
        drop(client);
        // Whoever does not wait any more does not mind.
        let _ = gone.send(());
    });
    if let Err(error) = dropping {
        tracing::debug!(%error, "no thread to end a client of Kafka in; it ended here");
    }
    wait
}
