//! What the tests' own connection to RabbitMQ does.

use lapin::{
    Connection, ConnectionProperties,
    options::{ExchangeDeleteOptions, QueueDeleteOptions},
};

/// Removes everything of an instance.
pub async fn remove(url: &str, instance: &str, steps: &[&str]) {
    let connection = Connection::connect(url, ConnectionProperties::default()).await.unwrap();
    let channel = connection.create_channel().await.unwrap();
    let mut names = vec![format!("{instance}.notify.dlq")];
    names.extend(steps.iter().map(|step| format!("{instance}.notify.retry.{step}")));
    for name in &names {
        channel.exchange_delete(name.as_str().into(), ExchangeDeleteOptions::default()).await.unwrap();
    }
    for class in ["high", "normal", "low"] {
        names.extend(["email", "webhook"].map(|channel| format!("{instance}.notify.{channel}.{class}")));
    }
    for name in names {
        channel.queue_delete(name.into(), QueueDeleteOptions::default()).await.unwrap();
    }
    let work = format!("{instance}.notify");
    channel.exchange_delete(work.into(), ExchangeDeleteOptions::default()).await.unwrap();
}
