//! What bounds the engine on RabbitMQ: the same messages through a quorum queue by the client library alone.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use futures::{StreamExt as _, stream::FuturesUnordered};
use lapin::{
    BasicProperties, Channel, Connection, ConnectionProperties,
    options::{
        BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions, ConfirmSelectOptions,
        QueueDeclareOptions, QueueDeleteOptions,
    },
    types::{AMQPValue, FieldTable, ShortString},
};
use secrecy::ExposeSecret as _;
use serde::{Deserialize, Serialize};
use taskpost::environment;
use tokio::time::timeout;

/// How long everything may take.
const PATIENCE: Duration = Duration::from_mins(3);
/// How many messages wait for their confirmation, and how many are sent ahead to the consumer, as in the product's row.
const UNDER_WAY: usize = 500;
const PREFETCH: u16 = 500;
/// As long as the id that the product sends.
const ID: &[u8] = b"0192d5a1-0000-7000-8000-000000000001";

/// What came of it, for whoever started this process.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Passed {
    /// How many.
    pub jobs: usize,
    /// Until all were published and confirmed.
    pub published: f64,
    /// From then until all were consumed and acknowledged.
    pub consumed: f64,
}

/// Publishes, consumes, acknowledges, and prints how long each took.
pub async fn run(jobs: usize) -> Result<()> {
    let config = environment::config()?;
    let url = config.rabbitmq.context("RABBITMQ_URL: there is no broker")?;
    let name: ShortString = format!("{}.bare", config.instance).into();
    let connection = Connection::connect(url.expose_secret(), ConnectionProperties::default());
    let connection = timeout(PATIENCE, connection).await.context("RabbitMQ took too long")??;
    let channel = connection.create_channel().await?;
    let passed = timeout(PATIENCE, pass(&connection, &channel, &name, jobs)).await;
    let removed = channel.queue_delete(name, QueueDeleteOptions::default()).await;
    println!("{}", serde_json::to_string(&passed.context("the messages took too long")??)?);
    removed.map(drop).context("a queue stays behind")
}

async fn pass(connection: &Connection, channel: &Channel, name: &ShortString, jobs: usize) -> Result<Passed> {
    let mut quorum = FieldTable::default();
    quorum.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
    channel.queue_declare(name.clone(), QueueDeclareOptions::durable(), quorum).await?;
    channel.confirm_select(ConfirmSelectOptions::default()).await?;
    let began = Instant::now();
    publish(channel, name, jobs).await?;
    let published = began.elapsed().as_secs_f64();
    let consumer = connection.create_channel().await?;
    consumer.basic_qos(PREFETCH, BasicQosOptions::default()).await?;
    let began = Instant::now();
    let options = BasicConsumeOptions::default();
    let mut messages =
        consumer.basic_consume(name.clone(), "bare".into(), options, FieldTable::default()).await?;
    for _ in 0..jobs {
        let message = messages.next().await.context("the consumer ended")??;
        message.acker.ack(BasicAckOptions::default()).await?;
    }
    // An answer to this comes after every acknowledgement before it.
    let options = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::durable() };
    let queue = consumer.queue_declare(name.clone(), options, FieldTable::default()).await?;
    ensure!(queue.message_count() == 0, "{} messages are left", queue.message_count());
    Ok(Passed { jobs, published, consumed: began.elapsed().as_secs_f64() })
}

async fn publish(channel: &Channel, name: &ShortString, jobs: usize) -> Result<()> {
    const PERSISTENT: u8 = 2;
    let properties = BasicProperties::default().with_delivery_mode(PERSISTENT);
    let mut under_way = FuturesUnordered::new();
    for _ in 0..jobs {
        if under_way.len() >= UNDER_WAY {
            confirmed(under_way.next().await)?;
        }
        let options = BasicPublishOptions::default();
        let sent = channel.basic_publish("".into(), name.clone(), options, ID, properties.clone()).await?;
        under_way.push(sent);
    }
    while let Some(confirmation) = under_way.next().await {
        confirmed(Some(confirmation))?;
    }
    Ok(())
}

fn confirmed(confirmation: Option<lapin::Result<lapin::Confirmation>>) -> Result<()> {
    let confirmation = confirmation.context("a confirmation is missing")??;
    ensure!(confirmation.is_ack(), "RabbitMQ refused a message");
    Ok(())
}
