//! The real brokers that a run of the tests uses: `TASKPOST_TEST_PARTS` is a comma list of kafka, rabbitmq and redis.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use lapin::{
    Connection, ConnectionProperties,
    options::{ExchangeDeleteOptions, QueueDeleteOptions},
};
use rdkafka::{
    ClientConfig,
    admin::{AdminClient, AdminOptions},
    client::DefaultClientContext,
};
use taskpost_common::Clock;
use uuid::Uuid;

/// How long removing what a test left at a broker may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// Few, so that topics are made fast, and more than one, so that order by aggregate means something.
const PARTITIONS: &str = "2";
const TOPICS: [&str; 6] = ["identity", "work", "content", "delivery", "ingest", "dlq"];
const QUEUES: [&str; 7] =
    ["email.high", "email.normal", "email.low", "webhook.high", "webhook.normal", "webhook.low", "dlq"];

/// A real part of the product.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The event log.
    Kafka,
    /// The delivery queue.
    RabbitMq,
    /// The rate limiter.
    Redis,
}

impl Part {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Kafka, Self::RabbitMq, Self::Redis];

    /// Those that this run of the tests uses.
    pub(crate) fn used() -> Vec<Self> {
        Self::ALL.into_iter().filter(|part| part.is_used()).collect()
    }

    /// Whether this run of the tests uses it.
    pub fn is_used(self) -> bool {
        variable("TASKPOST_TEST_PARTS").is_some_and(|parts| parts.split(',').any(|part| part == self.name()))
    }

    /// Its address.
    pub fn url(self) -> String {
        let name = self.test_variable();
        variable(name)
            .unwrap_or_else(|| panic!("{name} is not set; `cargo xtask test` starts it and sets it"))
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Kafka => "kafka",
            Self::RabbitMq => "rabbitmq",
            Self::Redis => "redis",
        }
    }

    /// The product's variable.
    pub const fn variable(self) -> &'static str {
        match self {
            Self::Kafka => "KAFKA_BROKERS",
            Self::RabbitMq => "RABBITMQ_URL",
            Self::Redis => "REDIS_URL",
        }
    }

    const fn test_variable(self) -> &'static str {
        match self {
            Self::Kafka => "TASKPOST_TEST_KAFKA_BROKERS",
            Self::RabbitMq => "TASKPOST_TEST_RABBITMQ_URL",
            Self::Redis => "TASKPOST_TEST_REDIS_URL",
        }
    }
}

/// What one instance has at the brokers, under a name of its own.
#[derive(Debug)]
pub(crate) struct Brokers {
    instance: String,
    parts: Vec<Part>,
    /// What it was started with; nothing while it was not.
    used: Mutex<BTreeSet<Names>>,
}

/// What the names at the brokers are made of.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Names {
    instance: String,
    retry_delays: String,
}

impl Brokers {
    pub(crate) fn new(parts: Vec<Part>) -> Self {
        Self {
            instance: format!("t-{}", Clock::system().id::<Uuid>().simple()),
            parts,
            used: Mutex::default(),
        }
    }

    /// It is started with these variables, so that there is something to delete.
    pub(crate) fn used_with(&self, variables: &BTreeMap<String, String>) {
        let instance = variables.get("INSTANCE").unwrap_or(&self.instance).clone();
        let retry_delays = variables.get("RETRY_DELAYS").cloned().unwrap_or_default();
        self.used().insert(Names { instance, retry_delays });
    }

    fn used(&self) -> MutexGuard<'_, BTreeSet<Names>> {
        self.used.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn instance(&self) -> &str {
        &self.instance
    }

    pub(crate) fn variables(&self) -> Vec<(String, String)> {
        let parts = self.parts.iter();
        let mut variables: Vec<_> = parts.map(|part| (part.variable().to_owned(), part.url())).collect();
        if !variables.is_empty() {
            variables.push(("INSTANCE".to_owned(), self.instance.clone()));
            variables.push(("KAFKA_PARTITIONS".to_owned(), PARTITIONS.to_owned()));
        }
        variables
    }

    /// Deletes what the instance left; keys of Redis vanish by themselves.
    pub(crate) async fn remove(&self) {
        let used = std::mem::take(&mut *self.used());
        for names in &used {
            if self.parts.contains(&Part::Kafka) {
                names.remove_topics().await;
            }
            if self.parts.contains(&Part::RabbitMq) {
                names.remove_queues().await;
            }
        }
    }
}

impl Names {
    async fn remove_topics(&self) {
        let mut config = ClientConfig::new();
        let admin: AdminClient<DefaultClientContext> =
            config.set("bootstrap.servers", Part::Kafka.url()).create().expect("a client of Kafka");
        let topics: Vec<String> = TOPICS.iter().map(|topic| format!("{}.{topic}", self.instance)).collect();
        let topics: Vec<&str> = topics.iter().map(String::as_str).collect();
        let options = AdminOptions::new().request_timeout(Some(PATIENCE));
        // One that was never made is no reason to fail a test.
        let _ = tokio::time::timeout(PATIENCE, admin.delete_topics(&topics, &options)).await;
        // Dropping a client waits for its threads.
        let _ = tokio::task::spawn_blocking(move || drop(admin)).await;
    }

    async fn remove_queues(&self) {
        let retries: Vec<String> =
            self.retry_delays.split(',').map(|delay| format!("retry.{}", delay.trim())).collect();
        let queues = QUEUES.into_iter().chain(retries.iter().map(String::as_str));
        let queues = queues.map(|queue| format!("{}.notify.{queue}", self.instance));
        let exchanges = retries.iter().map(|retry| format!("{}.notify.{retry}", self.instance));
        let exchanges =
            exchanges.chain(["notify", "notify.dlq"].map(|name| format!("{}.{name}", self.instance)));
        let removed = async {
            let connection =
                Connection::connect(&Part::RabbitMq.url(), ConnectionProperties::default()).await?;
            let channel = connection.create_channel().await?;
            for name in queues {
                channel.queue_delete(name.into(), QueueDeleteOptions::default()).await?;
            }
            for name in exchanges {
                channel.exchange_delete(name.into(), ExchangeDeleteOptions::default()).await?;
            }
            connection.close(200, "done".into()).await
        };
        // A queue left behind is no reason to fail a test.
        let _ = tokio::time::timeout(PATIENCE, removed).await;
    }
}

#[expect(clippy::disallowed_methods, reason = "the tests' own variables")]
pub(crate) fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}
