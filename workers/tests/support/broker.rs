//! What the tests' own connection to RabbitMQ does.

use lapin::{
    BasicProperties, Connection, ConnectionProperties,
    options::{
        BasicPublishOptions, ConfirmSelectOptions, ExchangeDeleteOptions, QueueDeclareOptions,
        QueueDeleteOptions,
    },
    types::FieldTable,
};
use taskpost_common::notification::Channel;
use taskpost_ports::Queue;

use super::until;

/// Waits until all that the broker has for these classes of e-mail is with the queue's process: behind it comes a message
/// that is no id, which is set aside as soon as it is received.
pub async fn received(url: &str, instance: &str, queue: &Queue, classes: &[&str]) {
    let connection = Connection::connect(url, ConnectionProperties::default()).await.unwrap();
    let channel = connection.create_channel().await.unwrap();
    channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
    for class in classes {
        let (exchange, key) = (format!("{instance}.notify"), format!("email.{class}"));
        let options = BasicPublishOptions::default();
        let properties = BasicProperties::default();
        let sent = channel.basic_publish(exchange.into(), key.into(), options, b"no id", properties);
        sent.await.unwrap().await.unwrap();
    }
    let aside = format!("{instance}.notify.dlq");
    let wanted = u32::try_from(classes.len()).unwrap();
    until("all is received", async || {
        // Nothing is received before somebody asks.
        queue.announced(Channel::Email).await;
        let options = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::durable() };
        let found = channel.queue_declare(aside.as_str().into(), options, FieldTable::default()).await;
        (found.unwrap().message_count() == wanted).then_some(())
    })
    .await;
}

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
