//! The peer's worker: tells the receiver of each task in the queue, and acknowledges what it took.

use std::{convert::Infallible, time::Duration};

use anyhow::{Context as _, bail};
use futures::TryStreamExt as _;
use lapin::{
    message::Delivery,
    options::{BasicAckOptions, BasicConsumeOptions, BasicNackOptions, BasicQosOptions},
    types::FieldTable,
};
use reqwest::Client;
use serde_json::json;
use tokio::time::sleep;

use super::queue::Queue;

/// How many messages it works on at once.
const PREFETCH: u16 = 10;
/// How long it holds a message that the receiver did not take.
const PAUSE: Duration = Duration::from_millis(100);
/// How long the receiver may take.
const ANSWER: Duration = Duration::from_secs(5);

/// How the worker is started.
#[derive(Debug, clap::Args)]
pub struct Options {
    #[command(flatten)]
    queue: Queue,
    #[arg(long)]
    sink: String,
}

/// Works until something fails; the broker sends what was not acknowledged again.
pub(super) async fn run(options: &Options) -> anyhow::Result<Infallible> {
    let http = Client::builder().no_proxy().timeout(ANSWER).build()?;
    let link = options.queue.open().await?;
    link.channel.basic_qos(PREFETCH, BasicQosOptions::default()).await?;
    let (name, how) = (options.queue.name.as_str().into(), BasicConsumeOptions::default());
    link.channel
        .basic_consume(name, "".into(), how, FieldTable::default())
        .await?
        .map_err(anyhow::Error::from)
        .try_for_each_concurrent(usize::from(PREFETCH), |delivery| tell(&http, &options.sink, delivery))
        .await?;
    bail!("RabbitMQ has ended the consumer")
}

/// The header is the task's id, by which a receiver can tell doubles.
async fn tell(http: &Client, sink: &str, delivery: Delivery) -> anyhow::Result<()> {
    let id = str::from_utf8(&delivery.data).context("a message that is no id")?;
    let answer = http.post(sink).header("webhook-id", id).json(&json!({"id": id})).send().await;
    if answer.is_ok_and(|answer| answer.status().is_success()) {
        delivery.ack(BasicAckOptions::default()).await?;
    } else {
        sleep(PAUSE).await;
        delivery.nack(BasicNackOptions { requeue: true, multiple: false }).await?;
    }
    Ok(())
}
