//! What the queue needs on the broker, all prefixed by `INSTANCE`. Declaring what is there already changes nothing.
//!
//! ```text
//! notify ──email.high──▶ notify.email.high ──refused, or too often given back──▶ notify.dlq
//!   ▲                    … one queue for each channel and class
//!   └──original routing key── notify.retry.5s … one queue for each delay, whose time to live it is
//! ```

use std::time::Duration;

use lapin::{
    Channel as Amqp, ExchangeKind, Queue,
    options::{ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions},
    types::{AMQPValue, FieldTable, ShortString},
};
use taskpost_common::notification::{Channel, Class};
use tokio::time::timeout;

use super::{link::ANSWER, trouble::Trouble};

/// How often a message may be given back before it is set aside: a net for crashes, not the rule for retries.
const DELIVERY_LIMIT: i64 = 20;
/// The most messages of a queue; beyond, publishing is refused, and the rows wait.
const MAX_LENGTH: i64 = 1_000_000;
/// The most messages that are set aside; beyond, the oldest go. Their dead letters are in the store.
const MAX_LENGTH_DLQ: i64 = 100_000;
/// How long a message is set aside for.
const DLQ_TTL: Duration = Duration::from_hours(14 * 24);
/// The longest time to live that the broker takes.
const LONGEST_TTL: Duration = Duration::from_millis(u32::MAX as u64);

/// The ways that pass the broker; the inbox does not.
pub(super) const CHANNELS: [Channel; 2] = [Channel::Email, Channel::Webhook];

/// The names.
#[derive(Clone, Debug)]
pub(super) struct Topology {
    instance: String,
    delays: Vec<Duration>,
}

impl Topology {
    pub(super) fn new(instance: &str, retry_delays: &[Duration]) -> Self {
        let mut delays = retry_delays.to_vec();
        delays.retain(|delay| (1..=LONGEST_TTL.as_millis()).contains(&delay.as_millis()));
        delays.sort_unstable();
        delays.dedup();
        Self { instance: instance.to_owned(), delays }
    }

    /// The exchange that sends each message to the queue of its routing key.
    pub(super) fn work(&self) -> ShortString {
        self.name("notify")
    }

    /// The routing key of a channel and class.
    pub(super) fn key(channel: Channel, class: Class) -> ShortString {
        format!("{channel}.{class}").into()
    }

    /// The queue of a channel and class.
    pub(super) fn queue(&self, channel: Channel, class: Class) -> ShortString {
        self.name(&format!("notify.{channel}.{class}"))
    }

    /// The exchange whose messages come back to [`Topology::work`] after this wait, if it is a step of the ladder.
    pub(super) fn retry(&self, wait: Duration) -> Option<ShortString> {
        self.delays.contains(&wait).then(|| self.name(&format!("notify.retry.{}", label(wait))))
    }

    /// The exchange and the queue of what was set aside.
    fn dlq(&self) -> ShortString {
        self.name("notify.dlq")
    }

    fn name(&self, of: &str) -> ShortString {
        format!("{}.{of}", self.instance).into()
    }

    /// Declares everything.
    pub(super) async fn declare(&self, amqp: &Amqp) -> Result<(), Trouble> {
        declare_exchange(amqp, self.work(), ExchangeKind::Direct).await?;
        let dlq = self.dlq();
        let set_aside = vec![
            ("x-queue-type", text("quorum")),
            ("x-message-ttl", millis(DLQ_TTL)),
            ("x-max-length", AMQPValue::LongLongInt(MAX_LENGTH_DLQ)),
            ("x-overflow", text("drop-head")),
        ];
        declare_exchange(amqp, dlq.clone(), ExchangeKind::Fanout).await?;
        declare_queue(amqp, dlq.clone(), set_aside).await?;
        bind(amqp, dlq.clone(), dlq.clone(), "".into()).await?;
        for channel in CHANNELS {
            for &class in Class::ALL {
                let queue = self.queue(channel, class);
                declare_queue(amqp, queue.clone(), guarded(dlq.as_str())).await?;
                bind(amqp, queue, self.work(), Self::key(channel, class)).await?;
            }
        }
        for &delay in &self.delays {
            let Some(name) = self.retry(delay) else { continue };
            let mut arguments = guarded(self.work().as_str());
            arguments.push(("x-message-ttl", millis(delay)));
            declare_exchange(amqp, name.clone(), ExchangeKind::Fanout).await?;
            declare_queue(amqp, name.clone(), arguments).await?;
            bind(amqp, name.clone(), name, "".into()).await?;
        }
        Ok(())
    }

    /// How many messages of a channel and class wait on the broker.
    pub(super) async fn ready(&self, amqp: &Amqp, channel: Channel, class: Class) -> Result<u32, Trouble> {
        let name = self.queue(channel, class);
        let what = format!("the queue {name}");
        let options = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::durable() };
        let asked = amqp.queue_declare(name, options, FieldTable::default());
        Ok(declared(&what, asked).await?.message_count())
    }

    /// Whether the broker answers.
    pub(super) async fn probe(&self, amqp: &Amqp) -> Result<(), Trouble> {
        let name = self.work();
        let what = format!("the exchange {name}");
        let options = ExchangeDeclareOptions { passive: true, ..ExchangeDeclareOptions::default() };
        declared(&what, amqp.exchange_declare(name, ExchangeKind::Direct, options, FieldTable::default()))
            .await
    }
}

/// The arguments of a queue that loses nothing: what it dead-letters is kept until `to` has it.
fn guarded(to: &str) -> Vec<(&'static str, AMQPValue)> {
    vec![
        ("x-queue-type", text("quorum")),
        ("x-delivery-limit", AMQPValue::LongLongInt(DELIVERY_LIMIT)),
        ("x-max-length", AMQPValue::LongLongInt(MAX_LENGTH)),
        ("x-overflow", text("reject-publish")),
        ("x-dead-letter-exchange", text(to)),
        ("x-dead-letter-strategy", text("at-least-once")),
    ]
}

/// A delay as people write it: in the largest unit that has a whole number of it.
fn label(delay: Duration) -> String {
    let millis = delay.as_millis();
    for (unit, size) in [("h", 3_600_000), ("m", 60_000), ("s", 1_000)] {
        if millis.is_multiple_of(size) {
            return format!("{}{unit}", millis / size);
        }
    }
    format!("{millis}ms")
}

fn text(value: &str) -> AMQPValue {
    AMQPValue::LongString(value.into())
}

fn millis(time: Duration) -> AMQPValue {
    AMQPValue::LongLongInt(i64::try_from(time.as_millis()).unwrap_or(i64::MAX))
}

async fn declare_exchange(amqp: &Amqp, name: ShortString, kind: ExchangeKind) -> Result<(), Trouble> {
    let what = format!("the exchange {name}");
    let options = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
    declared(&what, amqp.exchange_declare(name, kind, options, FieldTable::default())).await
}

async fn declare_queue(
    amqp: &Amqp,
    name: ShortString,
    arguments: Vec<(&'static str, AMQPValue)>,
) -> Result<Queue, Trouble> {
    let what = format!("the queue {name}");
    let mut table = FieldTable::default();
    for (name, value) in arguments {
        table.insert(name.into(), value);
    }
    declared(&what, amqp.queue_declare(name, QueueDeclareOptions::durable(), table)).await
}

async fn bind(
    amqp: &Amqp,
    queue: ShortString,
    exchange: ShortString,
    key: ShortString,
) -> Result<(), Trouble> {
    let what = format!("the queue {queue}");
    let options = QueueBindOptions::default();
    declared(&what, amqp.queue_bind(queue, exchange, key, options, FieldTable::default())).await
}

async fn declared<T>(what: &str, work: impl Future<Output = lapin::Result<T>>) -> Result<T, Trouble> {
    match timeout(ANSWER, work).await {
        Ok(answer) => answer.map_err(|error| Trouble::of_declaring(&error, what)),
        Err(_) => Err(Trouble::Late("declaring queues")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_is_named_by_its_delay() {
        for (millis, name) in [
            (10, "10ms"),
            (1_500, "1500ms"),
            (5_000, "5s"),
            (90_000, "90s"),
            (1_800_000, "30m"),
            (7_200_000, "2h"),
            (86_400_000, "24h"),
        ] {
            assert_eq!(label(Duration::from_millis(millis)), name);
        }
    }

    #[test]
    fn only_a_step_of_the_ladder_has_a_queue() {
        let secs = Duration::from_secs;
        let ladder = [secs(5), secs(30), secs(5), Duration::ZERO, Duration::from_hours(24 * 365)];
        let topology = Topology::new("t", &ladder);
        assert_eq!(topology.delays, [secs(5), secs(30)], "one of each; without what needs or gets no queue");
        assert_eq!(
            topology.retry(secs(30)).map(|name| name.to_string()),
            Some("t.notify.retry.30s".to_owned())
        );
        assert_eq!(topology.retry(secs(31)), None);
        assert_eq!(topology.queue(Channel::Email, Class::High).as_str(), "t.notify.email.high");
        assert_eq!(Topology::key(Channel::Webhook, Class::Low).as_str(), "webhook.low");
    }
}
