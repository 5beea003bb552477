//! Looking into the instance's queues of RabbitMQ.

use std::time::{Duration, Instant};

use lapin::{
    Connection, ConnectionProperties,
    options::{BasicGetOptions, QueueDeclareOptions},
    types::FieldTable,
};
use taskpost_testkit::Part;

use crate::stack::Stack;

/// How long what is only late may take: a message that comes twice waits for its delay once more.
const SETTLING: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(200);

/// What is in the queues.
#[derive(Clone, Debug, Default)]
pub struct Queues {
    /// The queues of work and of retries that have messages, and how many.
    pub left: Vec<(String, u32)>,
    /// Queues that are not there.
    pub gone: Vec<String>,
    /// The messages that were set aside: a delivery's id each, or poison.
    pub set_aside: Vec<String>,
}

/// Looks until the queues are empty or nothing more can be hoped for.
pub async fn read(stack: &Stack) -> Queues {
    let instance = stack.api().instance();
    let work = ["email", "webhook"].into_iter().flat_map(|channel| {
        ["high", "normal", "low"].map(|class| format!("{instance}.notify.{channel}.{class}"))
    });
    let beside = stack.api().beside();
    let delays = beside.variable("RETRY_DELAYS").unwrap_or_default();
    let retries = delays.split(',').map(|delay| format!("{instance}.notify.retry.{}", delay.trim()));
    let mut names: Vec<String> = work.chain(retries).collect();
    names.sort_unstable();
    names.dedup();
    let properties = ConnectionProperties::default();
    let connection = Connection::connect(&Part::RabbitMq.url(), properties).await.expect("RabbitMQ answers");
    let began = Instant::now();
    let mut queues = loop {
        let queues = look(&connection, &names).await;
        if queues.left.is_empty() || began.elapsed() > SETTLING {
            break queues;
        }
        tokio::time::sleep(PAUSE).await;
    };
    let dlq = format!("{instance}.notify.dlq");
    match set_aside(&connection, &dlq).await {
        Ok(messages) => queues.set_aside = messages,
        Err(_) => queues.gone.push(dlq),
    }
    // Nothing is done with it any more.
    let _ = connection.close(200, "done".into()).await;
    queues
}

async fn look(connection: &Connection, names: &[String]) -> Queues {
    let mut queues = Queues::default();
    for name in names {
        // One that is not there closes the channel.
        let channel = connection.create_channel().await.expect("a channel");
        let options = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::durable() };
        match channel.queue_declare(name.as_str().into(), options, FieldTable::default()).await {
            Ok(queue) if queue.message_count() > 0 => queues.left.push((name.clone(), queue.message_count())),
            Ok(_) => {}
            Err(_) => queues.gone.push(name.clone()),
        }
        // It may be closed already.
        let _ = channel.close(200, "done".into()).await;
    }
    queues
}

/// The bodies of the messages of a queue, which all go back when the channel is closed.
async fn set_aside(connection: &Connection, name: &str) -> lapin::Result<Vec<String>> {
    let channel = connection.create_channel().await?;
    let mut bodies = Vec::new();
    while let Some(message) = channel.basic_get(name.into(), BasicGetOptions::default()).await? {
        bodies.push(String::from_utf8_lossy(&message.delivery.data).into_owned());
    }
    channel.close(200, "done".into()).await?;
    Ok(bodies)
}
