//! A store, the workers on it, and what tests ask of both.
#![expect(clippy::unwrap_used, reason = "a test may stop at the first surprise")]

pub mod broker;
pub mod channels;
pub mod receiver;

use std::{
    future::Future,
    path::PathBuf,
    time::{Duration, Instant},
};

use taskpost_common::{
    Cause, Clock, DeliveryId, EndpointId, EventId, NotificationId, Position, UserId,
    config::Webhooks,
    delivery::{EmailPayload, WebhookPayload},
    notification::{Channel, Class, NotificationType},
    secret::{Keys, Purpose},
    user::{Roles, User, UserStatus},
};
use taskpost_ports::{Queue, Wakes, queue::RabbitSettings};
use taskpost_store::{
    Change, Db, Session, Tx,
    dead_letters::{self, DeadLetter, LetterFilter},
    deliveries::{self, AttemptRow, Delivery, NewDelivery},
    endpoints::{self, Endpoint},
    events, users,
};
use taskpost_workers::{Engine, MailSettings, Workers, channels::Channel as Way};
use tempfile::TempDir;
use tokio::{sync::Mutex, task::JoinSet};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// `whsec_` and 24 bytes.
pub const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
/// What a webhook carries here.
pub const BODY: &str =
    "{\"specversion\":\"1.0\",\"type\":\"task.created\",\"data\":{\"title\":\"gr\u{fc}n\"}}";
/// How long anything may take here.
const DEADLINE: Duration = Duration::from_mins(1);
/// The waits that have a queue on the broker; others are kept by the row.
const STEPS: [Duration; 2] = [Duration::from_millis(10), Duration::from_millis(600)];
/// How many messages of each class the broker sends ahead.
const PREFETCH: usize = 200;

/// A store of its own, and the workers on it once they are started.
pub struct Stage {
    pub db: Db,
    pub clock: Clock,
    pub queue: Queue,
    pub wakes: Wakes,
    pub user: UserId,
    folder: TempDir,
    tasks: JoinSet<()>,
    stop: CancellationToken,
    /// What keeps the queue up; it outlives the workers.
    queue_tasks: JoinSet<()>,
    /// Where the queue is, if it is on RabbitMQ: URL and instance.
    broker: Option<(String, String)>,
}

impl Stage {
    /// On SQLite in a temporary folder.
    pub async fn sqlite() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let db = Db::sqlite(folder.path()).await.unwrap();
        Self::on(db, folder).await
    }

    /// On Postgres in a schema of its own.
    pub async fn postgres() -> Self {
        let url = from_environment("TASKPOST_TEST_POSTGRES_URL");
        let schema: Uuid = Clock::system().id();
        let and = if url.contains('?') { '&' } else { '?' };
        // Logging in takes a while on a machine that is busy with other tests.
        let url = format!("{url}{and}schema=test_{}&pool_timeout=40", schema.simple());
        Self::on(Db::postgres(&url, 5).await.unwrap(), tempfile::tempdir().unwrap()).await
    }

    /// On Postgres, with the queue on RabbitMQ.
    async fn rabbitmq(url: &str, instance: &str) -> Self {
        let mut stage = Self::postgres().await;
        let settings =
            RabbitSettings { url: &url.into(), instance, retry_delays: &STEPS, prefetch: PREFETCH };
        let (db, clock) = (stage.db.clone(), stage.clock.clone());
        let stop = CancellationToken::new();
        stage.queue = Queue::rabbitmq(&settings, db, clock, &mut stage.queue_tasks, stop).unwrap();
        stage.broker = Some((url.to_owned(), instance.to_owned()));
        stage
    }

    async fn on(db: Db, folder: TempDir) -> Self {
        db.migrate().await.unwrap();
        events::ensure_partitions(&db).await.unwrap();
        let clock = Clock::system();
        let stage = Self {
            queue: Queue::local(db.clone(), clock.clone()),
            wakes: Wakes::default(),
            user: clock.id(),
            folder,
            tasks: JoinSet::new(),
            stop: CancellationToken::new(),
            queue_tasks: JoinSet::new(),
            broker: None,
            clock,
            db,
        };
        stage.register("Ann", "ann@example.org").await;
        stage
    }

    async fn register(&self, name: &str, email: &str) {
        let now = self.clock.now();
        let user = User {
            id: self.user,
            handle: "ann".to_owned(),
            email: email.to_owned(),
            name: name.to_owned(),
            roles: Roles::default(),
            status: UserStatus::Active,
            timezone: "UTC".to_owned(),
            locale: "en".to_owned(),
            version: 1,
            created_at: now,
            updated_at: now,
        };
        let mut tx = self.begin().await;
        let change = Change { clock: &self.clock, cause: &Cause::default() };
        users::insert(&mut tx, change, &user, "").await.unwrap();
        tx.commit().await.unwrap();
    }

    /// Starts the workers, which may dial this machine.
    pub fn start(&mut self, retry_delays: &[u64]) {
        self.start_with(retry_delays, true);
    }

    /// Starts the workers.
    pub fn start_with(&mut self, retry_delays: &[u64], allow_private: bool) {
        let workers = Workers {
            db: self.db.clone(),
            queue: self.queue.clone(),
            wakes: self.wakes.clone(),
            clock: self.clock.clone(),
            retry_delays: millis(retry_delays),
            concurrency: 8,
            webhooks: Webhooks {
                allow_private,
                ports: vec![80],
                timeout: Duration::from_mins(1),
                per_endpoint: 2,
            },
            mail: MailSettings {
                folder: self.mails(),
                smtp: None,
                from: "Taskpost <taskpost@example.org>".to_owned(),
                public_url: Some("https://tasks.example.org".parse().unwrap()),
            },
            keys: Keys::derive(&[], Purpose::MailedToken),
        };
        workers.start(&mut self.tasks, self.stop.clone()).unwrap();
    }

    /// Starts the engine with one channel of the test's own.
    pub fn start_channel(&mut self, channel: impl Way, concurrency: usize, retry_delays: &[u64]) {
        let engine = Engine {
            db: self.db.clone(),
            queue: self.queue.clone(),
            wakes: self.wakes.clone(),
            clock: self.clock.clone(),
            retry_delays: millis(retry_delays),
            concurrency,
            per_endpoint: 2,
        };
        engine.start(&mut self.tasks, self.stop.clone()).add(&mut self.tasks, channel);
    }

    /// Stops the workers and waits for them; gives how long that took.
    pub async fn stop(&mut self) -> Duration {
        let began = Instant::now();
        self.stop.cancel();
        while let Some(ended) = self.tasks.join_next().await {
            ended.unwrap();
        }
        self.stop = CancellationToken::new();
        began.elapsed()
    }

    /// A transaction, as soon as there is a connection for it: a busy machine may take longer than the product waits.
    pub async fn begin(&self) -> Tx {
        until("the store begins a transaction", async || self.db.begin().await.ok()).await
    }

    async fn reader(&self) -> Session {
        until("the store can be read", async || self.db.reader().await.ok()).await
    }

    /// Where mails are written.
    pub fn mails(&self) -> PathBuf {
        self.folder.path().join("mail")
    }

    /// An endpoint at `url`.
    pub async fn endpoint(&self, url: &str) -> EndpointId {
        let now = self.clock.now();
        let endpoint = Endpoint {
            id: self.clock.id(),
            user_id: self.user,
            project_id: None,
            url: url.to_owned(),
            event_types: vec!["*".to_owned()],
            description: String::new(),
            secret: SECRET.to_owned(),
            previous_secret: None,
            previous_until: None,
            enabled: true,
            disabled_reason: None,
            failing_since: None,
            version: 1,
            created_at: now,
            updated_at: now,
        };
        let mut tx = self.begin().await;
        endpoints::insert(&mut tx, &endpoint).await.unwrap();
        tx.commit().await.unwrap();
        endpoint.id
    }

    /// The endpoint as it is.
    pub async fn read_endpoint(&self, id: EndpointId) -> Endpoint {
        endpoints::by_ids(&mut self.reader().await, &[id]).await.unwrap().remove(0)
    }

    /// Changes an endpoint.
    pub async fn change_endpoint(&self, id: EndpointId, change: impl FnOnce(&mut Endpoint)) {
        let mut endpoint = self.read_endpoint(id).await;
        change(&mut endpoint);
        endpoint.version += 1;
        let mut tx = self.begin().await;
        endpoints::update(&mut tx, &endpoint, false).await.unwrap();
        tx.commit().await.unwrap();
    }

    /// A webhook that is due now.
    pub async fn webhook(&self, endpoint: EndpointId) -> DeliveryId {
        self.webhook_of(endpoint, BODY).await
    }

    /// A webhook with this body that is due now.
    pub async fn webhook_of(&self, endpoint: EndpointId, body: &str) -> DeliveryId {
        let event_id = self.clock.id();
        let payload = WebhookPayload { endpoint_id: endpoint, body: body.to_owned(), event_id };
        let delivery =
            self.new_delivery(Channel::Webhook, Class::Normal, serde_json::to_string(&payload).unwrap());
        let delivery = NewDelivery { endpoint_id: Some(endpoint), user_id: None, event_id, ..delivery };
        self.insert(&[delivery]).await[0]
    }

    /// A mail that is due now.
    pub async fn mail(&self, title: &str, body: &str) -> DeliveryId {
        let payload = EmailPayload {
            user_id: self.user,
            kind: NotificationType::TaskAssigned,
            notification_id: self.clock.id::<NotificationId>(),
            title: title.to_owned(),
            body: body.to_owned(),
            url: "/v1/tasks/1".to_owned(),
            token: None,
        };
        let delivery =
            self.new_delivery(Channel::Email, Class::High, serde_json::to_string(&payload).unwrap());
        self.insert(&[delivery]).await[0]
    }

    /// A delivery to the user, due now and not yet stored.
    pub fn new_delivery(&self, channel: Channel, class: Class, payload: String) -> NewDelivery {
        NewDelivery {
            id: self.clock.id(),
            channel,
            class,
            event_id: self.clock.id::<EventId>(),
            user_id: Some(self.user),
            endpoint_id: None,
            notification_id: None,
            payload,
            traceparent: None,
            due_at: self.clock.now(),
        }
    }

    /// Stores deliveries and rings.
    pub async fn insert(&self, new: &[NewDelivery]) -> Vec<DeliveryId> {
        let mut tx = self.begin().await;
        deliveries::insert(&mut tx, new, self.clock.now()).await.unwrap();
        tx.commit().await.unwrap();
        self.wakes.deliveries.ring();
        new.iter().map(|delivery| delivery.id).collect()
    }

    /// Claims so many deliveries, before or after the workers run.
    pub async fn claim(&self, channel: Channel, count: usize, lease: chrono::Duration) -> Vec<Delivery> {
        let claimed = Mutex::new(Vec::new());
        until("they are claimed", async || {
            let mut claimed = claimed.lock().await;
            self.queue.publish_due(channel).await.unwrap();
            let room = count - claimed.len();
            claimed.extend(self.queue.claim(channel, room, lease).await.unwrap());
            (claimed.len() == count).then_some(())
        })
        .await;
        claimed.into_inner()
    }

    /// Announces so many mails, and has them where the workers claim from: which queue a broker serves first is its affair.
    pub async fn announced(&self, count: usize, classes: &[&str]) {
        let Some((url, instance)) = &self.broker else { return };
        until("they are announced", async || {
            self.queue.publish_due(Channel::Email).await.unwrap();
            let mut reader = self.reader().await;
            let told =
                deliveries::queued(&mut reader, Channel::Email, self.clock.now(), 10_000).await.unwrap();
            (told.len() == count).then_some(())
        })
        .await;
        broker::received(url, instance, &self.queue, classes).await;
    }

    /// Waits until no delivery is unfinished.
    pub async fn drained(&self) {
        until("every delivery is finished", async || {
            deliveries::unfinished(&mut self.reader().await).await.unwrap().is_empty().then_some(())
        })
        .await;
    }

    /// The tries of a delivery.
    pub async fn attempts(&self, id: DeliveryId) -> Vec<AttemptRow> {
        deliveries::attempts(&mut self.reader().await, id).await.unwrap()
    }

    /// How the tries of a delivery ended.
    pub async fn outcomes(&self, id: DeliveryId) -> Vec<String> {
        self.attempts(id).await.into_iter().map(|attempt| attempt.outcome).collect()
    }

    /// Every dead letter.
    pub async fn letters(&self) -> Vec<DeadLetter> {
        let mut reader = self.reader().await;
        dead_letters::list(&mut reader, &LetterFilter::default(), None, 100).await.unwrap()
    }

    /// The types of all events of deliveries and endpoints.
    pub async fn events(&self) -> Vec<String> {
        events::sequence(&self.db, 1_000).await.unwrap();
        let all = events::after(&mut self.reader().await, Position(0), 1_000).await.unwrap();
        let types = all.into_iter().map(|event| event.type_name);
        types.filter(|name| !name.starts_with("user.")).collect()
    }
}

/// Runs a case with the queue on RabbitMQ, and removes what it made there.
pub async fn rabbitmq<F: Future<Output = ()> + Send + 'static>(case: impl FnOnce(Stage) -> F) {
    let url = from_environment("TASKPOST_TEST_RABBITMQ_URL");
    let instance = format!("test-{}", Clock::system().id::<Uuid>().simple());
    let outcome = tokio::spawn(case(Stage::rabbitmq(&url, &instance).await)).await;
    broker::remove(&url, &instance, &["10ms", "600ms"]).await;
    if let Err(failure) = outcome {
        std::panic::resume_unwind(failure.into_panic());
    }
}

fn from_environment(name: &str) -> String {
    #[expect(clippy::disallowed_methods, reason = "tests are told of the servers by the environment only")]
    let value = std::env::var(name);
    assert!(value.is_ok(), "{name} is not set; run `cargo xtask test -- -p taskpost-workers`");
    value.unwrap()
}

fn millis(delays: &[u64]) -> Vec<Duration> {
    delays.iter().map(|delay| Duration::from_millis(*delay)).collect()
}

/// Waits until `ask` gives something.
pub async fn until<T, F: Future<Output = Option<T>>>(what: &str, ask: impl Fn() -> F) -> T {
    let end = Instant::now() + DEADLINE;
    loop {
        if let Some(found) = ask().await {
            return found;
        }
        assert!(Instant::now() < end, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
