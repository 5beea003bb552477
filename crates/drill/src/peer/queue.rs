//! The peer's queue: durable, with persistent messages and confirms; a message is a task's id.

use std::{sync::Arc, time::Duration};

use anyhow::{Context as _, ensure};
use lapin::{
    BasicProperties, Channel, Confirmation, Connection, ConnectionProperties, PublisherConfirm,
    options::{BasicPublishOptions, ConfirmSelectOptions, QueueDeclareOptions, QueueDeleteOptions},
    types::FieldTable,
};
use tokio::{sync::Mutex, time::timeout};
use uuid::Uuid;

/// How long the broker may take to connect, and to confirm.
const PATIENCE: Duration = Duration::from_secs(5);

/// Where the queue is.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Queue {
    #[arg(long)]
    pub rabbitmq: String,
    #[arg(long = "queue")]
    pub name: String,
}

/// A connection with a channel in confirm mode.
pub(super) struct Link {
    _connection: Connection,
    pub channel: Channel,
}

impl Queue {
    /// Connects, and makes the queue if it is missing.
    pub(super) async fn open(&self) -> anyhow::Result<Link> {
        let opening = async {
            let connection = Connection::connect(&self.rabbitmq, ConnectionProperties::default()).await?;
            let channel = connection.create_channel().await?;
            channel.confirm_select(ConfirmSelectOptions::default()).await?;
            let name = self.name.as_str().into();
            channel.queue_declare(name, QueueDeclareOptions::durable(), FieldTable::default()).await?;
            Ok(Link { _connection: connection, channel })
        };
        timeout(PATIENCE, opening).await.context("RabbitMQ did not answer")?
    }

    /// Deletes it.
    pub(super) async fn remove(&self) -> anyhow::Result<()> {
        let link = self.open().await?;
        link.channel.queue_delete(self.name.as_str().into(), QueueDeleteOptions::default()).await?;
        Ok(())
    }
}

/// Publishes on one connection, which is made anew after it broke.
pub(super) struct Publisher {
    queue: Queue,
    link: Mutex<Option<Arc<Link>>>,
}

impl Publisher {
    pub(super) fn new(queue: Queue) -> Self {
        Self { queue, link: Mutex::default() }
    }

    /// Publishes a task's id; an error unless the broker has confirmed it.
    pub(super) async fn publish(&self, task: Uuid) -> anyhow::Result<()> {
        let confirm = self.send(task).await?;
        let answer = timeout(PATIENCE, confirm).await.context("RabbitMQ did not confirm")??;
        // Anything else is a message that was refused, or that no queue took.
        ensure!(answer == Confirmation::Ack(None), "RabbitMQ did not take the message");
        Ok(())
    }

    /// One at a time, as the confirms of a channel are told apart by the order of its messages.
    async fn send(&self, task: Uuid) -> anyhow::Result<PublisherConfirm> {
        const PERSISTENT: u8 = 2;
        let mut link = self.link.lock().await;
        let good = link.take().filter(|link| link.channel.status().connected());
        let good = match good {
            Some(good) => good,
            None => Arc::new(self.queue.open().await?),
        };
        let (good, id) = (link.insert(good), task.to_string());
        let confirm = good.channel.basic_publish(
            "".into(),
            self.queue.name.as_str().into(),
            BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() },
            id.as_bytes(),
            BasicProperties::default().with_delivery_mode(PERSISTENT),
        );
        Ok(confirm.await?)
    }
}
