//! The queue on RabbitMQ. It carries the ids of deliveries and nothing else; the rows stay the truth.
//!
//! The way of a delivery: `announce.rs` publishes its id when its row is due, `consumer.rs` receives it, [`RabbitQueue::claim`]
//! leases the row, and `settle.rs` acknowledges the message once the outcome is stored.

mod announce;
mod closing;
mod condition;
mod consumer;
mod inbox;
mod link;
mod publisher;
mod settle;
mod topology;
mod trouble;

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex},
    time::Duration,
};

use chrono::{DateTime, Utc};
use lapin::Acker;
use secrecy::SecretString;
use taskpost_common::{Clock, DeliveryId, notification::Channel};
use taskpost_store::{
    Db, StoreError,
    deliveries::{self, Delivery},
};
use tokio::{
    sync::mpsc,
    task::JoinSet,
    time::{Instant, timeout_at},
};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::{Fate, POLL};
use crate::PortHealth;
use closing::Closing;
use consumer::Consumer;
use inbox::{Inbox, Received};
use link::Address;
use publisher::Publisher;
use settle::{Claimed, Settlement, Settler, acknowledge};
use topology::Topology;
use trouble::Trouble;

pub use link::InvalidRabbitmqUrl;

/// How long /health waits.
const HEALTH: Duration = Duration::from_millis(1_800);
/// By how much the clocks of two machines may differ: a message that is early by less is kept until its time.
const SKEW: Duration = Duration::from_secs(5);
/// How long a message is kept whose row somebody else is just changing.
const PAUSE: Duration = Duration::from_millis(2);

/// The queue on RabbitMQ.
#[derive(Clone)]
pub struct RabbitQueue(Arc<Parts>);

struct Parts {
    db: Db,
    clock: Clock,
    topology: Topology,
    publisher: Arc<Publisher>,
    consumer: Arc<Consumer>,
    claimed: Claimed,
    settlements: mpsc::Sender<Settlement>,
    closing: Closing,
    /// When each channel was last looked through for what the broker lost.
    swept: Mutex<HashMap<Channel, Instant>>,
}

/// What the queue needs to know.
#[derive(Clone, Debug)]
pub struct RabbitSettings<'a> {
    /// `RABBITMQ_URL`.
    pub url: &'a SecretString,
    /// `INSTANCE`: prefix of all names on the broker.
    pub instance: &'a str,
    /// `RETRY_DELAYS`: each gets a queue.
    pub retry_delays: &'a [Duration],
    /// `DELIVERY_PREFETCH`: how many messages of each class the broker sends ahead of their acknowledgement.
    pub prefetch: usize,
}

impl RabbitQueue {
    /// Starts the tasks that keep the connections up. Waits for nothing.
    pub(super) fn start(
        settings: &RabbitSettings<'_>,
        db: Db,
        clock: Clock,
        tasks: &mut JoinSet<()>,
        stop: CancellationToken,
    ) -> Result<Self, InvalidRabbitmqUrl> {
        let address = Address::parse(settings.url, settings.instance)?;
        let topology = Topology::new(settings.instance, settings.retry_delays);
        let closing = Closing::new(stop);
        let publisher = Arc::new(Publisher::new(address.clone(), topology.clone()));
        let consumer = Arc::new(Consumer::new(address, topology.clone(), settings.prefetch));
        let (settlements, waiting) = mpsc::channel(settle::WAITING);
        let settler = Settler {
            db: db.clone(),
            clock: clock.clone(),
            publisher: Arc::clone(&publisher),
            closing: closing.clone(),
        };
        tasks.spawn(Arc::clone(&publisher).keep_up(closing.clone()));
        tasks.spawn(Arc::clone(&consumer).keep_up(closing.clone()));
        tasks.spawn(settler.run(waiting));
        Ok(Self(Arc::new(Parts {
            db,
            clock,
            topology,
            publisher,
            consumer,
            claimed: Claimed::default(),
            settlements,
            closing,
            swept: Mutex::default(),
        })))
    }

    /// Whether messages can be published now.
    pub(super) fn is_ready(&self) -> bool {
        self.0.publisher.session().is_some()
    }

    pub(super) async fn publish_due(&self, channel: Channel) -> Result<Option<DateTime<Utc>>, StoreError> {
        self.0.publish_due(channel).await
    }

    pub(super) async fn announced(&self, channel: Channel) {
        match self.0.consumer.inbox(channel) {
            Some(inbox) => inbox.announced().await,
            None => tokio::time::sleep(POLL).await,
        }
    }

    pub(super) async fn claim(
        &self,
        channel: Channel,
        room: usize,
        lease: chrono::Duration,
    ) -> Result<Vec<Delivery>, StoreError> {
        match self.0.consumer.inbox(channel) {
            Some(inbox) => self.0.claim(channel, inbox, room, lease).await,
            None => Ok(Vec::new()),
        }
    }

    /// Hands over what is to become of messages. What finds no room is let go: its message comes again.
    pub(super) fn settled<'a>(&self, fates: impl Iterator<Item = (&'a Delivery, Fate)>) {
        let parts = &*self.0;
        for (delivery, fate) in fates {
            let settlement = settle::settlement(&parts.claimed, &parts.topology, delivery, fate);
            if settlement.is_some_and(|settlement| parts.settlements.try_send(settlement).is_err()) {
                parts.closing.settled(1);
            }
        }
    }

    pub(super) async fn check(&self) -> PortHealth {
        let deadline = Instant::now() + HEALTH;
        let problem = self.0.trouble(deadline).await.map(|trouble| trouble.to_string());
        PortHealth { name: "rabbitmq", problem }
    }
}

impl Parts {
    /// Claims what was received by its shares. An id stays with us until its row says that nobody can claim it.
    async fn claim(
        &self,
        channel: Channel,
        inbox: &Inbox,
        room: usize,
        lease: chrono::Duration,
    ) -> Result<Vec<Delivery>, StoreError> {
        self.forget_ended().await;
        let (messages, doubles) = distinct(inbox.take(room));
        let ids: Vec<DeliveryId> = messages.keys().copied().collect();
        let now = self.clock.now();
        let deliveries = match deliveries::claim_by_id(&self.db, channel, &ids, now, now + lease).await {
            Ok(deliveries) => deliveries,
            Err(error) => {
                inbox.park(messages.into_values().chain(doubles), Instant::now() + PAUSE);
                return Err(error);
            }
        };
        let mut rest = messages;
        self.closing.claimed(deliveries.len());
        for delivery in &deliveries {
            if let Some(message) = rest.remove(&delivery.id) {
                self.claimed.keep(delivery, message);
            }
        }
        let mut served = self.sort_out(channel, inbox, rest, now).await;
        served.extend(doubles.into_iter().map(|double| double.acker));
        if !served.is_empty() {
            acknowledge(served).await;
        }
        Ok(deliveries)
    }

    /// Gives those of the messages whose deliveries were not claimed that have served, and keeps the others:
    ///
    /// - finished or unknown: it has served.
    /// - due: its row was being changed, by its announcement being noted or by another claim. It is tried again.
    /// - due soon: whoever announced it has a clock that goes ahead of ours. It is tried again when it is due.
    /// - due later: leased, so that it is announced anew when the lease ends; or a stray, and it is announced at its time.
    async fn sort_out(
        &self,
        channel: Channel,
        inbox: &Inbox,
        mut messages: HashMap<DeliveryId, Received>,
        now: DateTime<Utc>,
    ) -> Vec<Acker> {
        if messages.is_empty() {
            return Vec::new();
        }
        let ids: Vec<DeliveryId> = messages.keys().copied().collect();
        match deliveries::due_times(&self.db, channel, &ids).await {
            Ok(times) => {
                for (id, due_at) in times {
                    let wait = (due_at - now).to_std().unwrap_or_default().max(PAUSE);
                    if wait <= SKEW {
                        inbox.park(messages.remove(&id), Instant::now() + wait);
                    }
                }
            }
            Err(error) => {
                debug!(%error, "cannot tell which messages have served");
                inbox.park(messages.drain().map(|(_, message)| message), Instant::now() + PAUSE);
            }
        }
        messages.into_values().map(|message| message.acker).collect()
    }

    /// Acknowledges the messages of claims whose outcome never came; their deliveries are announced anew.
    async fn forget_ended(&self) {
        let ended = self.claimed.take_ended(self.clock.now());
        if !ended.is_empty() {
            self.closing.settled(ended.len());
            acknowledge(ended).await;
        }
    }

    /// What is wrong, asking the broker until the deadline.
    async fn trouble(&self, deadline: Instant) -> Option<Trouble> {
        if let Some(trouble) = self.publisher.condition.trouble(deadline).await {
            return Some(trouble);
        }
        if let Some(session) = self.publisher.session() {
            match timeout_at(deadline, self.topology.probe(&session.control)).await {
                Ok(Ok(())) => {}
                Ok(Err(trouble)) => return Some(trouble),
                Err(_) => return Some(Trouble::Late("a question")),
            }
        }
        self.consumer.trouble(deadline).await
    }
}

/// One message for each delivery, and the doubles.
fn distinct(messages: Vec<Received>) -> (HashMap<DeliveryId, Received>, Vec<Received>) {
    let mut first = HashMap::with_capacity(messages.len());
    let mut doubles = Vec::new();
    for message in messages {
        doubles.extend(first.insert(message.id, message));
    }
    (first, doubles)
}

impl fmt::Debug for RabbitQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RabbitQueue").field("topology", &self.0.topology).finish_non_exhaustive()
    }
}
