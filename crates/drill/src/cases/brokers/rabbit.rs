//! RabbitMQ.

use std::time::Instant;

use lapin::{
    BasicProperties, Channel, Confirmation, Connection, ConnectionProperties,
    message::BasicGetMessage,
    options::{
        BasicAckOptions, BasicGetOptions, BasicPublishOptions, ConfirmSelectOptions, ExchangeDeleteOptions,
        QueueDeclareOptions, QueueDeleteOptions, QueuePurgeOptions,
    },
    types::{AMQPValue, FieldTable},
};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng, seq::SliceRandom as _};
use taskpost_common::Clock;
use taskpost_testkit::Part;
use uuid::Uuid;

use super::{super::processes::until_seldom, BETWEEN, DELAYS, OVERDUE, fail_some};
use crate::{case::Arena, history::Mark};

const LANES: [&str; 6] =
    ["email.high", "email.normal", "email.low", "webhook.high", "webhook.normal", "webhook.low"];
/// How often everything is deleted or purged.
const ROUNDS: usize = 3;
/// One of so many messages is doubled.
const SHARE: u32 = 10;
/// What is no delivery's id.
const POISON: [&[u8]; 6] = [
    b"",
    b"not an id",
    b"0198f0c0-0000-7000-8000-00000000000",
    b"0198f0c0-0000-7000-8000-0000000000000",
    &[0xff, 0xfe, 0x00],
    b"{\"id\":\"0198f0c0-0000-7000-8000-000000000000\"}",
];

/// The instance's things at the broker.
struct Broker {
    connection: Connection,
    instance: String,
}

impl Broker {
    async fn of(arena: &Arena) -> Self {
        let connection = Connection::connect(&Part::RabbitMq.url(), ConnectionProperties::default()).await;
        let connection = connection.expect("RabbitMQ answers");
        Self { connection, instance: arena.stack.api().instance().to_owned() }
    }

    /// A channel for one question: the broker closes it when it does not like the question.
    async fn channel(&self) -> Channel {
        self.connection.create_channel().await.expect("a channel")
    }

    async fn confirming(&self) -> Channel {
        let channel = self.channel().await;
        channel.confirm_select(ConfirmSelectOptions::default()).await.expect("confirms");
        channel
    }

    fn name(&self, of: &str) -> String {
        format!("{}.notify.{of}", self.instance)
    }

    fn retries(&self) -> impl Iterator<Item = String> {
        DELAYS.iter().map(|delay| self.name(&format!("retry.{delay}")))
    }

    fn queues(&self) -> Vec<String> {
        let lanes = LANES.iter().chain(&["dlq"]).map(|lane| self.name(lane));
        lanes.chain(self.retries()).collect()
    }

    fn exchanges(&self) -> Vec<String> {
        let own = [format!("{}.notify", self.instance), self.name("dlq")];
        own.into_iter().chain(self.retries()).collect()
    }

    /// How many messages a queue has; none when there is no such queue.
    async fn ready(&self, queue: &str) -> Option<u32> {
        let passive = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
        let asked = self.channel().await.queue_declare(queue.into(), passive, FieldTable::default()).await;
        asked.ok().map(|queue| queue.message_count())
    }

    /// Waits until every queue is there.
    async fn complete(&self, arena: &Arena) {
        until_seldom(arena, || async {
            for queue in self.queues() {
                self.ready(&queue).await.ok_or_else(|| format!("{queue} is not there"))?;
            }
            Ok(())
        })
        .await;
    }

    /// Has some webhooks fail, and waits until messages wait for another try.
    async fn with_retries(&self, arena: &Arena) {
        fail_some(arena);
        until_seldom(arena, || async {
            for retry in self.retries() {
                if self.ready(&retry).await.is_some_and(|ready| ready > 0) {
                    return Ok(());
                }
            }
            Err("no message waits for another try".to_owned())
        })
        .await;
    }

    /// Publishes as the product does; the broker must take it.
    async fn publish(&self, channel: &Channel, lane: &str, body: &[u8]) {
        let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
        let exchange = format!("{}.notify", self.instance);
        let persistent = BasicProperties::default().with_delivery_mode(2);
        let sent = channel.basic_publish(exchange.into(), lane.into(), options, body, persistent).await;
        let confirmed = sent.expect("it is sent").await.expect("an answer");
        assert!(matches!(confirmed, Confirmation::Ack(None)), "{confirmed:?}");
    }
}

/// Every queue and exchange is deleted, with what is in them.
pub(super) async fn deleted(arena: &Arena) {
    let broker = Broker::of(arena).await;
    for _ in 0..ROUNDS {
        broker.complete(arena).await;
        broker.with_retries(arena).await;
        let (queues, exchanges, channel) = (broker.queues(), broker.exchanges(), broker.channel().await);
        let mut messages = 0;
        for queue in &queues {
            let gone = channel.queue_delete(queue.as_str().into(), QueueDeleteOptions::default()).await;
            messages += gone.expect("the queue can be deleted");
        }
        for exchange in &exchanges {
            let gone =
                channel.exchange_delete(exchange.as_str().into(), ExchangeDeleteOptions::default()).await;
            gone.expect("the exchange can be deleted");
        }
        let began = Instant::now();
        broker.complete(arena).await;
        arena.history.mark(Mark::Fault(format!(
            "rabbitmq: {} queues with {messages} messages and {} exchanges deleted; declared again after {:.1} s",
            queues.len(),
            exchanges.len(),
            began.elapsed().as_secs_f64(),
        )));
        arena.load.wait_for_more(BETWEEN).await;
    }
    arena.last(OVERDUE).await;
}

/// Every queue is emptied.
pub(super) async fn purged(arena: &Arena) {
    let broker = Broker::of(arena).await;
    let channel = broker.channel().await;
    for _ in 0..ROUNDS {
        broker.with_retries(arena).await;
        let mut messages = 0;
        for queue in broker.queues() {
            let gone = channel.queue_purge(queue.into(), QueuePurgeOptions::default()).await;
            messages += gone.expect("the queue can be purged");
        }
        if messages > 0 {
            arena.history.mark(Mark::Fault(format!("rabbitmq: {messages} messages purged")));
        }
        arena.load.wait_for_more(BETWEEN).await;
    }
    arena.last(OVERDUE).await;
}

/// Messages come again: of deliveries that are done, under way, and wait for another try, in any order; and of none at all.
pub(super) async fn duplicates(arena: &Arena) {
    let broker = Broker::of(arena).await;
    let channel = broker.confirming().await;
    let mut random = StdRng::seed_from_u64(arena.seed);
    for _ in 0..ROUNDS {
        broker.with_retries(arena).await;
        let id = arena.stack.id_text("id");
        let sql = format!("SELECT {id} || ' ' || channel || '.' || class, attempt FROM deliveries");
        let mut known = arena.stack.rows(&sql).await;
        known.retain(|_| random.random_ratio(1, SHARE));
        known.shuffle(&mut random);
        for (message, _) in &known {
            let (id, lane) = message.split_once(' ').expect("an id and a lane");
            let id: Uuid = id.parse().expect("an id");
            broker.publish(&channel, lane, id.to_string().as_bytes()).await;
        }
        let strangers = known.len().div_ceil(10);
        for _ in 0..strangers {
            let id: Uuid = Clock::system().id();
            broker
                .publish(&channel, LANES[random.random_range(0..LANES.len())], id.to_string().as_bytes())
                .await;
        }
        arena.history.mark(Mark::Fault(format!(
            "rabbitmq: {} messages came again, and {strangers} of deliveries that nobody knows",
            known.len(),
        )));
        arena.load.wait_for_more(BETWEEN).await;
    }
}

/// Messages that are no id are set aside whole, and the others go on.
pub(super) async fn poison(arena: &Arena) {
    let broker = Broker::of(arena).await;
    let channel = broker.confirming().await;
    let mut random = StdRng::seed_from_u64(arena.seed);
    for _ in 0..ROUNDS {
        for body in POISON {
            broker.publish(&channel, LANES[random.random_range(0..LANES.len())], body).await;
        }
        arena.load.wait_for_more(BETWEEN).await;
    }
    let dlq = broker.name("dlq");
    let mut left: Vec<&[u8]> = std::iter::repeat_n(POISON, ROUNDS).flatten().collect();
    let sent = left.len();
    while !left.is_empty() {
        let message = until_seldom(arena, || async { take(&channel, &dlq, left.len()).await }).await;
        let place = left.iter().position(|body| *body == message.data.as_slice());
        left.swap_remove(place.unwrap_or_else(|| panic!("nobody sent {:?}", message.data)));
        assert_eq!(reason(&message).as_deref(), Some("rejected"), "{:?}", message.properties);
        message.ack(BasicAckOptions::default()).await.expect("it can be taken");
    }
    arena.history.mark(Mark::Fault(format!("rabbitmq: {sent} messages that are no id, all in notify.dlq")));
}

async fn take(channel: &Channel, queue: &str, left: usize) -> Result<BasicGetMessage, String> {
    let got = channel.basic_get(queue.into(), BasicGetOptions::default()).await.expect("an answer");
    got.ok_or_else(|| format!("{left} messages are not set aside"))
}

/// Why the broker set a message aside: the first entry of its x-death.
fn reason(message: &BasicGetMessage) -> Option<String> {
    let headers = message.properties.headers().as_ref()?;
    let AMQPValue::FieldArray(deaths) = headers.inner().get("x-death")? else { return None };
    let AMQPValue::FieldTable(death) = deaths.as_slice().first()? else { return None };
    match death.inner().get("reason")? {
        AMQPValue::LongString(reason) => Some(reason.to_string()),
        AMQPValue::ShortString(reason) => Some(reason.to_string()),
        _ => None,
    }
}
