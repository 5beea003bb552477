//! Removing what an instance or a peer has made at the brokers. Keys of Redis vanish by themselves.

use std::time::Duration;

use anyhow::{Context as _, Result};
use lapin::{
    Connection, ConnectionProperties,
    options::{ExchangeDeleteOptions, QueueDeleteOptions},
};
use rdkafka::{
    ClientConfig,
    admin::{AdminClient, AdminOptions},
    client::DefaultClientContext,
};
use tokio::time::timeout;

/// How long a broker may take.
const PATIENCE: Duration = Duration::from_secs(20);
const TOPICS: [&str; 6] = ["identity", "work", "content", "delivery", "ingest", "dlq"];
const CHANNELS: [&str; 2] = ["email", "webhook"];
const CLASSES: [&str; 3] = ["high", "normal", "low"];

/// What the product makes at Kafka under this name.
pub async fn remove_topics(kafka: &str, instance: &str) -> Result<()> {
    let topics: Vec<String> = TOPICS.iter().map(|topic| format!("{instance}.{topic}")).collect();
    remove_these_topics(kafka, &topics).await
}

/// Deletes topics; one that was never made is no failure.
pub async fn remove_these_topics(kafka: &str, topics: &[String]) -> Result<()> {
    let admin: AdminClient<DefaultClientContext> =
        ClientConfig::new().set("bootstrap.servers", kafka).create().context("a client of Kafka")?;
    let names: Vec<&str> = topics.iter().map(String::as_str).collect();
    let options = AdminOptions::new().request_timeout(Some(PATIENCE));
    let deleted = timeout(PATIENCE, admin.delete_topics(&names, &options)).await;
    // Dropping a client waits for its threads.
    tokio::task::spawn_blocking(move || drop(admin)).await?;
    deleted.context("Kafka took too long")?.context("Kafka did not delete topics")?;
    Ok(())
}

/// What the product makes at RabbitMQ under this name, with these waits between tries.
pub async fn remove_queues(rabbitmq: &str, instance: &str, retry_delays: &str) -> Result<()> {
    let work = format!("{instance}.notify");
    let apart = retry_delays.split(',').map(|delay| format!("retry.{}", delay.trim()));
    let apart: Vec<String> = apart.chain(["dlq".to_owned()]).map(|name| format!("{work}.{name}")).collect();
    let of_channel = |channel| CLASSES.map(|class| format!("{work}.{channel}.{class}"));
    let queues: Vec<String> =
        CHANNELS.into_iter().flat_map(of_channel).chain(apart.iter().cloned()).collect();
    let exchanges: Vec<String> = apart.into_iter().chain([work]).collect();
    remove_these(rabbitmq, &queues, &exchanges).await
}

/// Deletes queues and exchanges; one that was never made is no failure.
pub async fn remove_these(rabbitmq: &str, queues: &[String], exchanges: &[String]) -> Result<()> {
    let removed = async {
        let connection = Connection::connect(rabbitmq, ConnectionProperties::default()).await?;
        let channel = connection.create_channel().await?;
        for name in exchanges {
            channel.exchange_delete(name.as_str().into(), ExchangeDeleteOptions::default()).await?;
        }
        for name in queues {
            channel.queue_delete(name.as_str().into(), QueueDeleteOptions::default()).await?;
        }
        connection.close(200, "done".into()).await
    };
    timeout(PATIENCE, removed)
        .await
        .context("RabbitMQ took too long")?
        .context("RabbitMQ did not delete queues")
}
