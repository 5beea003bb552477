//! The topics of one instance on a real Kafka, seen from outside.
#![expect(clippy::expect_used, reason = "a test may stop at the first surprise")]

use rdkafka::{
    ClientConfig, Message as _, Offset, TopicPartitionList,
    admin::{AdminClient, AdminOptions},
    client::DefaultClientContext,
    consumer::{BaseConsumer, Consumer as _},
    producer::{FutureProducer, FutureRecord, Producer as _},
};
use serde_json::Value;
use taskpost_common::Clock;
use taskpost_testkit::{Backend, PATIENCE, Part, TestApp, until};
use uuid::Uuid;

/// The topics of one instance.
pub struct Kafka {
    instance: String,
    producer: FutureProducer,
}

/// A record of any of them.
pub struct Record {
    pub key: Vec<u8>,
    pub value: Vec<u8>,
}

impl Kafka {
    pub fn new() -> Self {
        let instance = format!("t-{}", Clock::system().id::<Uuid>().simple());
        Self { instance, producer: Self::config().create().expect("a producer") }
    }

    fn config() -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", Part::Kafka.url());
        config
    }

    /// What an app must be told.
    pub fn variables(&self) -> [(&'static str, String); 3] {
        [
            ("KAFKA_BROKERS", Part::Kafka.url()),
            ("INSTANCE", self.instance.clone()),
            ("KAFKA_PARTITIONS", "2".to_owned()),
        ]
    }

    /// An app that can accept tasks from the first one on.
    pub async fn start(&self, backend: Backend) -> TestApp {
        let app = TestApp::start(backend);
        let app = self.variables().into_iter().fold(app, |app, (name, value)| app.with(name, value)).await;
        self.stands().await;
        app
    }

    /// Waits for the ingest topic, which a process makes a moment after its start.
    pub async fn stands(&self) {
        let topic = format!("{}.ingest", self.instance);
        until(|| async {
            let (producer, topic) = (self.producer.clone(), topic.clone());
            let looking = tokio::task::spawn_blocking(move || {
                (0..2).try_for_each(|partition| {
                    producer.client().fetch_watermarks(&topic, partition, PATIENCE).map(drop)
                })
            });
            looking.await.expect("nobody panicked").map_err(|error| error.to_string())
        })
        .await;
    }

    /// Writes to a partition of the ingest topic.
    pub async fn write(&self, partition: i32, key: &[u8], value: &[u8]) {
        let topic = format!("{}.ingest", self.instance);
        let record = FutureRecord::to(&topic).partition(partition).key(key).payload(value);
        self.producer.send(record, PATIENCE).await.expect("it is written");
    }

    /// All that is in a topic.
    pub async fn read(&self, topic: &str) -> Vec<Record> {
        let topic = format!("{}.{topic}", self.instance);
        let reading = tokio::task::spawn_blocking(move || {
            let consumer: BaseConsumer =
                Self::config().set("group.id", "nobody").create().expect("a consumer");
            let (mut places, mut wanted) = (TopicPartitionList::new(), 0);
            for partition in 0..2 {
                let (_, end) = consumer.fetch_watermarks(&topic, partition, PATIENCE).expect("its end");
                places.add_partition_offset(&topic, partition, Offset::Beginning).expect("a place");
                wanted += end;
            }
            consumer.assign(&places).expect("its partitions");
            let mut records = Vec::new();
            while i64::try_from(records.len()).expect("a few") < wanted {
                let message = consumer.poll(PATIENCE).expect("another record").expect("a good one");
                let bytes = |bytes: Option<&[u8]>| bytes.unwrap_or_default().to_vec();
                records.push(Record { key: bytes(message.key()), value: bytes(message.payload()) });
            }
            records
        });
        reading.await.expect("the topic can be read")
    }

    /// The value of the only record in a topic.
    pub async fn value(&self, topic: &str) -> Value {
        let records = self.read(topic).await;
        assert_eq!(records.len(), 1);
        serde_json::from_slice(&records[0].value).expect("JSON")
    }

    /// Deletes the group of ingestion, as a broker does that has forgotten it.
    pub async fn forget_how_far_it_was_read(&self) {
        let admin: AdminClient<DefaultClientContext> = Self::config().create().expect("a client");
        let group = format!("{}.ingestion", self.instance);
        until(|| async {
            let deleted = admin.delete_groups(&[&group], &AdminOptions::new()).await;
            let deleted = deleted.map_err(|error| error.to_string())?.pop().expect("one answer");
            deleted.map(drop).map_err(|(_, code)| code.to_string())
        })
        .await;
        // Dropping a client waits for its threads.
        tokio::task::spawn_blocking(move || drop(admin)).await.expect("it ends");
    }
}

impl Drop for Kafka {
    /// A test that failed leaves no topics behind either. It has no runtime to wait in any more, so this brings its own.
    fn drop(&mut self) {
        let topics = ["identity", "work", "content", "delivery", "ingest", "dlq"];
        let topics = topics.map(|topic| format!("{}.{topic}", self.instance));
        let left = async {
            let Ok(admin) = Self::config().create::<AdminClient<DefaultClientContext>>() else { return };
            let topics = topics.each_ref().map(String::as_str);
            // What fails here must not hide why the test failed.
            let _ = admin.delete_topics(&topics, &AdminOptions::new().request_timeout(Some(PATIENCE))).await;
        };
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
                let _ = runtime.map(|runtime| runtime.block_on(left));
            });
        });
    }
}
