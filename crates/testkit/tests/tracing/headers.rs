//! The trace in the headers of Kafka and RabbitMQ, read by a client of the test's own.

use std::time::Duration;

use lapin::{
    Channel, Connection, ConnectionProperties,
    options::{BasicGetOptions, QueueBindOptions, QueueDeclareOptions},
    types::{AMQPValue, FieldTable},
};
use rdkafka::{
    ClientConfig, Message as _, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer as _},
    message::Headers as _,
    metadata::MetadataTopic,
};
use taskpost_testkit::{PATIENCE, Part, until};

/// A copy of the webhooks that the dispatcher announces.
pub struct Announced {
    channel: Channel,
    queue: String,
    _connection: Connection,
}

impl Announced {
    /// From now on.
    pub async fn listen(instance: &str) -> Self {
        let url = Part::RabbitMq.url();
        let connection = Connection::connect(&url, ConnectionProperties::default());
        let connection = connection.await.expect("RabbitMQ");
        let exchange = format!("{instance}.notify");
        // The exchange is made behind the scenes; asking too early costs the channel.
        let (channel, queue) = until(|| async {
            let channel = connection.create_channel().await.map_err(|error| error.to_string())?;
            let options = QueueDeclareOptions { exclusive: true, ..QueueDeclareOptions::default() };
            let queue = channel.queue_declare("".into(), options, FieldTable::default()).await;
            let queue = queue.map_err(|error| error.to_string())?.name().to_string();
            let (name, key) = (queue.as_str().into(), "webhook.normal".into());
            let (from, options) = (exchange.as_str().into(), QueueBindOptions::default());
            let bound = channel.queue_bind(name, from, key, options, FieldTable::default()).await;
            bound.map(|()| (channel, queue)).map_err(|error| error.to_string())
        })
        .await;
        Self { channel, queue, _connection: connection }
    }

    /// The `traceparent` of the next message.
    pub async fn traceparent(&self) -> String {
        until(|| async {
            let options = BasicGetOptions { no_ack: true };
            let got = self.channel.basic_get(self.queue.as_str().into(), options).await;
            let message = got.expect("RabbitMQ answers").ok_or("no message")?;
            let headers = message.properties.headers().as_ref().expect("headers");
            match headers.inner().get("traceparent") {
                Some(AMQPValue::LongString(text)) => Ok(text.to_string()),
                other => panic!("traceparent is {other:?}"),
            }
        })
        .await
    }
}

/// The `traceparent` of an event's record.
pub async fn of_record(instance: &str, event_id: &str) -> String {
    let (topic, event_id) = (format!("{instance}.work"), event_id.to_owned());
    let read = tokio::task::spawn_blocking(move || read(&topic, &event_id));
    tokio::time::timeout(PATIENCE, read).await.expect("the record in time").expect("the reader ends")
}

fn read(topic: &str, event_id: &str) -> String {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", Part::Kafka.url())
        .set("group.id", "a test of traces")
        .create()
        .expect("a client of Kafka");
    let metadata = consumer.fetch_metadata(Some(topic), PATIENCE).expect("the topic");
    let mut all = TopicPartitionList::new();
    for partition in metadata.topics().iter().flat_map(MetadataTopic::partitions) {
        all.add_partition_offset(topic, partition.id(), Offset::Beginning).expect("an offset");
    }
    consumer.assign(&all).expect("an assignment");
    let end = std::time::Instant::now() + PATIENCE;
    while std::time::Instant::now() < end {
        let Some(Ok(message)) = consumer.poll(Duration::from_millis(200)) else { continue };
        let header = |name: &str| {
            let found = message.headers()?.iter().find(|header| header.key == name)?;
            Some(String::from_utf8_lossy(found.value?).into_owned())
        };
        if header("ce_id").is_some_and(|id| id == event_id) {
            return header("traceparent").expect("a traceparent");
        }
    }
    panic!("no record of event {event_id}");
}
