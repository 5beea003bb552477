//! The connection that consumes: made once somebody wants to claim, kept up by a task of its own, and dropped whole on
//! any error, with all that was received and is not claimed; the broker sends that again.

use std::{collections::HashMap, sync::Arc, time::Duration};

use futures::{
    Stream, StreamExt,
    stream::{self, BoxStream, SelectAll},
};
use lapin::{
    Channel as Amqp,
    message::Delivery,
    options::{BasicConsumeOptions, BasicQosOptions, BasicRejectOptions},
    types::FieldTable,
};
use taskpost_common::{
    DeliveryId,
    notification::{Channel, Class},
};
use tokio::{
    sync::watch,
    time::{Instant, interval, sleep},
};
use tracing::warn;
use uuid::Uuid;

use super::{
    closing::Closing,
    condition::{Attempts, Condition},
    inbox::{Inbox, Received},
    link::{Address, Link, answered},
    topology::{CHANNELS, Topology},
    trouble::Trouble,
};

/// How often the connection is looked at.
const LOOK: Duration = Duration::from_secs(1);

pub(super) struct Consumer {
    address: Address,
    topology: Topology,
    /// How many messages of each class the broker sends ahead.
    prefetch: u16,
    pub condition: Condition,
    inboxes: HashMap<Channel, Inbox>,
    /// The channels that somebody claims from.
    wanted: watch::Sender<Vec<Channel>>,
}

/// What comes from the broker.
type Arrivals = SelectAll<BoxStream<'static, (Channel, Class, Result<Delivery, Trouble>)>>;

impl Consumer {
    pub(super) fn new(address: Address, topology: Topology, prefetch: usize) -> Self {
        Self {
            address,
            topology,
            prefetch: u16::try_from(prefetch.max(1)).unwrap_or(u16::MAX),
            condition: Condition::new("consume"),
            inboxes: CHANNELS.into_iter().map(|channel| (channel, Inbox::new(channel))).collect(),
            wanted: watch::Sender::new(Vec::new()),
        }
    }

    /// The inbox of a channel, which is consumed from now on; none of a channel that does not pass the queue.
    pub(super) fn inbox(&self, channel: Channel) -> Option<&Inbox> {
        let inbox = self.inboxes.get(&channel)?;
        self.wanted.send_if_modified(|wanted| {
            let is_new = !wanted.contains(&channel);
            if is_new {
                wanted.push(channel);
            }
            is_new
        });
        Some(inbox)
    }

    /// What is wrong, if anything is to be consumed at all.
    pub(super) async fn trouble(&self, deadline: Instant) -> Option<Trouble> {
        if self.wanted.borrow().is_empty() { None } else { self.condition.trouble(deadline).await }
    }

    /// Keeps the connection up until the end, from the first time that somebody wants to claim.
    pub(super) async fn keep_up(self: Arc<Self>, closing: Closing) {
        let mut wanted = self.wanted.subscribe();
        let any = wanted.wait_for(|wanted| !wanted.is_empty());
        if closing.unless_begun(any).await.is_none() {
            return;
        }
        let mut attempts = Attempts::default();
        while !closing.begun() {
            let since = Instant::now();
            let (trouble, stood) = match closing.unless_begun(self.open()).await {
                None => break,
                Some(Ok(link)) => {
                    let trouble = self.consume(&link, &closing).await.err();
                    self.forget();
                    link.close().await;
                    (trouble, Some(since))
                }
                Some(Err(trouble)) => (Some(trouble), None),
            };
            if let Some(trouble) = trouble {
                self.condition.down(trouble);
                closing.unless_begun(sleep(attempts.wait(stood))).await;
            }
        }
    }

    async fn open(&self) -> Result<Link, Trouble> {
        let link = self.address.connect("consume").await?;
        self.topology.declare(&link.channel().await?).await?;
        Ok(link)
    }

    /// Consumes whatever is wanted until the process stops, then waits for the last acknowledgements.
    async fn consume(&self, link: &Link, closing: &Closing) -> Result<(), Trouble> {
        let mut arrivals = Arrivals::new();
        // Acknowledgements go on the channel that the message came on, so they are kept open.
        let mut channels = Vec::new();
        let mut wanted = self.wanted.subscribe();
        wanted.mark_changed();
        let mut looks = interval(LOOK);
        loop {
            tokio::select! {
                () = closing.beginning() => break,
                Some((channel, class, arrival)) = arrivals.next() => self.receive(channel, class, arrival?).await?,
                Ok(()) = wanted.changed() => {
                    let all = wanted.borrow_and_update().clone();
                    for &channel in &all[channels.len()..] {
                        channels.push(self.subscribe(link, channel, &mut arrivals).await?);
                    }
                    self.condition.up();
                }
                _ = looks.tick() => if !link.stands() {
                    return Err(Trouble::closed());
                }
            }
        }
        drop(arrivals);
        self.forget();
        closing.done().await;
        Ok(())
    }

    /// Subscribes to the classes of a channel, on an AMQP channel of their own.
    async fn subscribe(
        &self,
        link: &Link,
        channel: Channel,
        arrivals: &mut Arrivals,
    ) -> Result<Amqp, Trouble> {
        let amqp = link.channel().await?;
        answered("setting the prefetch", amqp.basic_qos(self.prefetch, BasicQosOptions::default())).await?;
        for &class in Class::ALL {
            let queue = self.topology.queue(channel, class);
            let options = BasicConsumeOptions::default();
            let consumer = amqp.basic_consume(queue, "".into(), options, FieldTable::default());
            let deliveries = until_its_end(answered("consuming", consumer).await?);
            arrivals.push(deliveries.map(move |arrival| (channel, class, arrival)).boxed());
        }
        Ok(amqp)
    }

    async fn receive(&self, channel: Channel, class: Class, delivery: Delivery) -> Result<(), Trouble> {
        if delivery.redelivered {
            metrics::counter!("taskpost_queue_redelivered_total").increment(1);
        }
        let id = Uuid::try_parse_ascii(&delivery.data);
        if let (Ok(id), Some(inbox)) = (id, self.inboxes.get(&channel)) {
            inbox.push(Received { id: DeliveryId(id), class, acker: delivery.acker });
            return Ok(());
        }
        warn!(%channel, bytes = delivery.data.len(), "a message is no delivery's id; it is set aside in notify.dlq");
        let refused = delivery.acker.reject(BasicRejectOptions { requeue: false });
        answered("setting a message aside", refused).await.map(drop)
    }

    /// Forgets what was received and not claimed: the broker sends it again.
    fn forget(&self) {
        self.inboxes.values().for_each(Inbox::clear);
    }
}

/// Deliveries, and as the last one that there are no more: the broker ends a consumer whose queue is deleted.
fn until_its_end(consumer: lapin::Consumer) -> impl Stream<Item = Result<Delivery, Trouble>> + Send {
    let end = stream::once(async { Err(Trouble::Unroutable) });
    consumer.map(|delivery| delivery.map_err(|error| Trouble::of_work(&error))).chain(end)
}
