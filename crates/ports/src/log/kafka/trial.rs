//! For tests of other crates: a Kafka that fails on demand, and records that no relay would write. librdkafka brings it
//! along; it makes no topics by itself.

use std::time::Duration;

use futures::executor::block_on;
use rdkafka::{
    ClientConfig,
    admin::{AdminClient, AdminOptions},
    client::DefaultClientContext,
    error::KafkaResult,
    mocking::MockCluster,
    producer::{DefaultProducerContext, FutureProducer, FutureRecord},
    types::{RDKafkaApiKey, RDKafkaRespErr},
};
use taskpost_common::event::Topic;

const PATIENCE: Duration = Duration::from_secs(20);

/// A Kafka with one broker. Gone when dropped.
pub struct Cluster(MockCluster<'static, DefaultProducerContext>);

impl Cluster {
    /// With the topics of this prefix, of `partitions` each.
    pub fn start(prefix: &str, partitions: u16) -> KafkaResult<Self> {
        let cluster = MockCluster::new(1)?;
        for topic in names(prefix) {
            cluster.create_topic(&topic, i32::from(partitions), 1)?;
        }
        Ok(Self(cluster))
    }

    /// For KAFKA_BROKERS.
    pub fn brokers(&self) -> String {
        self.0.bootstrap_servers()
    }

    /// Refuses every write for good, until [`Cluster::accept`].
    pub fn refuse(&self) {
        let errors = vec![RDKafkaRespErr::RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE; 1_000];
        self.0.request_errors(RDKafkaApiKey::Produce, &errors);
    }

    /// Takes writes again.
    pub fn accept(&self) {
        self.0.clear_request_errors(RDKafkaApiKey::Produce);
    }

    /// Makes the next write cost its producer its place.
    pub fn confuse(&self) {
        let error = RDKafkaRespErr::RD_KAFKA_RESP_ERR_OUT_OF_ORDER_SEQUENCE_NUMBER;
        self.0.request_errors(RDKafkaApiKey::Produce, &[error]);
    }

    /// Hangs up on everybody, and lets nobody in.
    pub fn down(&self) -> KafkaResult<()> {
        self.0.broker_down(-1)
    }

    /// Lets everybody in again.
    pub fn up(&self) -> KafkaResult<()> {
        self.0.broker_up(-1)
    }
}

/// The topics of a test on a Kafka that others use too. Gone when dropped.
#[derive(Debug)]
pub struct Topics {
    brokers: String,
    prefix: String,
}

impl Topics {
    /// Those of this prefix, which need not be there yet.
    pub fn new(brokers: &str, prefix: &str) -> Self {
        Self { brokers: brokers.to_owned(), prefix: prefix.to_owned() }
    }
}

impl Drop for Topics {
    fn drop(&mut self) {
        let names: Vec<String> = names(&self.prefix).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let options = AdminOptions::new().request_timeout(Some(PATIENCE));
        let admin: KafkaResult<AdminClient<DefaultClientContext>> =
            ClientConfig::new().set("bootstrap.servers", &self.brokers).create();
        // Whatever is left costs a little room.
        if let Ok(admin) = admin {
            let _ = block_on(admin.delete_topics(&names, &options));
        }
    }
}

fn names(prefix: &str) -> impl Iterator<Item = String> {
    let topics = Topic::ALL.iter().map(|topic| topic.as_str()).chain(["ingest", "dlq"]);
    topics.map(move |topic| format!("{prefix}.{topic}"))
}

/// Puts a record on a partition.
pub async fn smuggle(brokers: &str, topic: &str, partition: i32, value: &[u8]) -> KafkaResult<()> {
    let producer: FutureProducer = ClientConfig::new().set("bootstrap.servers", brokers).create()?;
    let record = FutureRecord::<str, [u8]>::to(topic).partition(partition).payload(value);
    producer.send(record, PATIENCE).await.map(drop).map_err(|(error, _)| error)
}
