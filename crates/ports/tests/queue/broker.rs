//! The broker as its operator sees it, on a connection apart from the queue's.

use std::{collections::BTreeMap, time::Duration};

use lapin::{
    BasicProperties, Channel, Confirmation, Connection, ConnectionProperties,
    message::BasicGetMessage,
    options::{
        BasicGetOptions, BasicPublishOptions, ConfirmSelectOptions, ExchangeDeleteOptions,
        QueueDeclareOptions, QueueDeleteOptions, QueuePurgeOptions,
    },
    types::{AMQPValue, FieldTable},
};

use crate::harness::from_environment;

/// The broker of the tests.
pub struct Broker {
    pub url: String,
    connection: Connection,
}

impl Broker {
    pub async fn of_tests() -> Self {
        let url = from_environment("TASKPOST_TEST_RABBITMQ_URL");
        let connection = Connection::connect(&url, ConnectionProperties::default()).await.unwrap();
        Self { url, connection }
    }

    /// Host and port.
    pub fn address(&self) -> (String, u16) {
        let url = url::Url::parse(&self.url).unwrap();
        (url.host_str().unwrap().to_owned(), url.port().unwrap_or(5672))
    }

    /// Its URL with another port, for a proxy before it.
    pub fn url_at(&self, port: u16) -> String {
        let mut url = url::Url::parse(&self.url).unwrap();
        url.set_host(Some("127.0.0.1")).unwrap();
        url.set_port(Some(port)).unwrap();
        url.to_string()
    }

    pub async fn channel(&self) -> Channel {
        self.connection.create_channel().await.unwrap()
    }

    /// A channel in confirm mode.
    pub async fn confirming(&self) -> Channel {
        let channel = self.channel().await;
        channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
        channel
    }

    /// How many messages wait in a queue; none if there is no such queue.
    pub async fn ready(&self, queue: &str) -> Option<u32> {
        let options = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::durable() };
        let asked = self.channel().await.queue_declare(queue.into(), options, FieldTable::default()).await;
        asked.ok().map(|queue| queue.message_count())
    }

    /// How many messages wait in each queue of an instance, without those where none does.
    pub async fn counts(&self, instance: &str, ladder: &[Duration]) -> BTreeMap<String, u32> {
        let mut counts = BTreeMap::new();
        for name in queues(instance, ladder) {
            match self.ready(&name).await {
                Some(0) | None => {}
                Some(count) => drop(counts.insert(name, count)),
            }
        }
        counts
    }

    pub async fn purge(&self, queue: &str) -> u32 {
        self.channel().await.queue_purge(queue.into(), QueuePurgeOptions::default()).await.unwrap()
    }

    pub async fn delete_queue(&self, queue: &str) {
        self.channel().await.queue_delete(queue.into(), QueueDeleteOptions::default()).await.unwrap();
    }

    pub async fn delete_exchange(&self, exchange: &str) {
        let options = ExchangeDeleteOptions::default();
        self.channel().await.exchange_delete(exchange.into(), options).await.unwrap();
    }

    /// Declares a queue with these arguments.
    pub async fn declare(&self, queue: &str, arguments: &[(&str, AMQPValue)]) {
        let mut table = FieldTable::default();
        for (name, value) in arguments {
            table.insert((*name).into(), value.clone());
        }
        let options = QueueDeclareOptions::durable();
        self.channel().await.queue_declare(queue.into(), options, table).await.unwrap();
    }

    /// Takes a message out of a queue.
    pub async fn get(&self, queue: &str) -> Option<BasicGetMessage> {
        self.channel().await.basic_get(queue.into(), BasicGetOptions { no_ack: true }).await.unwrap()
    }

    /// Publishes a message straight to an exchange and waits for the confirm.
    pub async fn publish(&self, exchange: &str, key: &str, body: &[u8]) {
        let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
        let channel = self.confirming().await;
        let properties = BasicProperties::default().with_delivery_mode(2);
        let sent =
            channel.basic_publish(exchange.into(), key.into(), options, body, properties).await.unwrap();
        assert_eq!(sent.await.unwrap(), Confirmation::Ack(None));
    }

    /// Removes everything of an instance.
    pub async fn remove(&self, instance: &str, ladder: &[Duration]) {
        for name in queues(instance, ladder) {
            self.delete_queue(&name).await;
        }
        for name in exchanges(instance, ladder) {
            self.delete_exchange(&name).await;
        }
        // Its channels may still be closing.
        let _ = self.connection.close(200, "OK".into()).await;
    }
}

pub fn queues(instance: &str, ladder: &[Duration]) -> Vec<String> {
    let mut names = vec![format!("{instance}.notify.dlq")];
    for channel in ["email", "webhook"] {
        names.extend(["high", "normal", "low"].map(|class| format!("{instance}.notify.{channel}.{class}")));
    }
    names.extend(steps(instance, ladder));
    names
}

pub fn exchanges(instance: &str, ladder: &[Duration]) -> Vec<String> {
    let mut names = vec![format!("{instance}.notify"), format!("{instance}.notify.dlq")];
    names.extend(steps(instance, ladder));
    names
}

fn steps(instance: &str, ladder: &[Duration]) -> Vec<String> {
    let label = |delay: &Duration| match delay.as_millis() {
        millis if millis % 3_600_000 == 0 => format!("{}h", millis / 3_600_000),
        millis => format!("{millis}ms"),
    };
    ladder.iter().map(|delay| format!("{instance}.notify.retry.{}", label(delay))).collect()
}
