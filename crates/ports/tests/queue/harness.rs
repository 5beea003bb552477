//! A store and a queue on it for each case, and what cases ask of both.

use std::{
    collections::BTreeMap,
    future::Future,
    sync::Arc,
    time::{Duration, Instant},
};

use chrono::{DateTime, Utc};
use secrecy::SecretString;
use taskpost_common::{
    Cause, Clock, DeliveryId,
    delivery::AttemptOutcome,
    notification::{Channel, Class},
};
use taskpost_ports::{
    Queue,
    queue::{Fate, RabbitSettings},
};
use taskpost_store::{
    Change, Db,
    deliveries::{self, Attempt, Delivery, NewDelivery, Settlement},
};
use tempfile::TempDir;
use tokio::{sync::Mutex, task::JoinSet};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::broker::Broker;

/// No case takes nearly so long; one that does hangs.
const DEADLINE: Duration = Duration::from_mins(3);
/// How long anything may take.
pub const SOON: Duration = Duration::from_secs(45);
/// How long stopping may take: a few seconds go to the last acknowledgements.
const STOPPING: Duration = Duration::from_secs(45);
/// A lease that no case outlives, as its clock stands still.
pub const LEASE: chrono::Duration = chrono::Duration::seconds(60);
/// The steps of the ladder here. They pass on the broker; the clock of a case does not move by itself.
pub const LADDER: [Duration; 3] =
    [Duration::from_millis(20), Duration::from_millis(40), Duration::from_hours(1)];
/// How many messages of each class the broker sends ahead.
pub const PREFETCH: usize = 100;
/// The channel of all cases.
pub const CHANNEL: Channel = Channel::Email;

/// Makes of each case a test on every backend.
macro_rules! everywhere {
    ($($case:ident),+ $(,)?) => {$(
        mod $case {
            use crate::harness::{Store, local, rabbit};

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn store() {
                local(super::$case).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn rabbitmq_and_sqlite() {
                rabbit(Store::Sqlite, super::$case).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn rabbitmq_and_postgres() {
                rabbit(Store::Postgres, super::$case).await;
            }
        }
    )+};
}

/// Makes of each case a test on RabbitMQ and Postgres.
macro_rules! on_rabbitmq {
    ($($case:ident),+ $(,)?) => {
        mod rabbitmq {$(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                crate::harness::rabbit(crate::harness::Store::Postgres, super::$case).await;
            }
        )+}
    };
}

/// Where the rows are.
#[derive(Clone, Copy)]
pub enum Store {
    Sqlite,
    Postgres,
}

/// Runs a case on the store's own queue.
pub async fn local<F: Future<Output = ()> + Send + 'static>(case: impl FnOnce(Stage) -> F) {
    let stage = Stage::new(Store::Sqlite, None).await;
    stage.start_queue(None).await;
    run(stage, case).await;
}

/// Runs a case on a queue on the broker, whose names are removed at the end.
pub async fn rabbit<F: Future<Output = ()> + Send + 'static>(store: Store, case: impl FnOnce(Stage) -> F) {
    let broker = Broker::of_tests().await;
    let url = broker.url.clone();
    let stage = Stage::new(store, Some(broker)).await;
    stage.start_queue(Some(&url)).await;
    run(stage, case).await;
}

/// Runs a case on a broker that its queue is not yet connected to.
pub async fn unconnected<F: Future<Output = ()> + Send + 'static>(case: impl FnOnce(Stage) -> F) {
    let broker = Broker::of_tests().await;
    run(Stage::new(Store::Sqlite, Some(broker)).await, case).await;
}

/// Runs a case to its end, cleans up whatever became of it, then fails if it failed.
async fn run<F: Future<Output = ()> + Send + 'static>(stage: Stage, case: impl FnOnce(Stage) -> F) {
    let outcome = tokio::spawn(tokio::time::timeout(DEADLINE, case(stage.clone()))).await;
    let took = stage.stop().await;
    stage.remove().await;
    match outcome {
        Ok(in_time) => in_time.expect("the case hangs"),
        Err(failure) => std::panic::resume_unwind(failure.into_panic()),
    }
    assert!(took < STOPPING, "stopping took {took:?}");
}

/// Looks again and again until there is something.
pub async fn until<T, F: Future<Output = Option<T>>>(what: &str, mut look: impl FnMut() -> F) -> T {
    let end = Instant::now() + SOON;
    let mut ticks = tokio::time::interval(Duration::from_millis(5));
    while Instant::now() < end {
        ticks.tick().await;
        if let Some(found) = look().await {
            return found;
        }
    }
    panic!("waited in vain until {what}");
}

/// A store and its queues. Clones are the same.
#[derive(Clone)]
pub struct Stage {
    pub db: Db,
    /// Stands still, so that nothing falls due and no lease ends by itself.
    pub clock: Clock,
    pub instance: String,
    broker: Option<Arc<Broker>>,
    folder: Arc<TempDir>,
    /// One for each process.
    processes: Arc<Mutex<Vec<Process>>>,
}

struct Process {
    queue: Queue,
    tasks: JoinSet<()>,
    stop: CancellationToken,
}

impl Stage {
    async fn new(store: Store, broker: Option<Broker>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let id: Uuid = Clock::system().id();
        let db = match store {
            Store::Sqlite => Db::sqlite(folder.path()).await.unwrap(),
            Store::Postgres => {
                let url = from_environment("TASKPOST_TEST_POSTGRES_URL");
                let and = if url.contains('?') { '&' } else { '?' };
                // Logging in takes a while on a busy machine.
                let of_its_own = format!("schema=test_{}&pool_timeout=40", id.simple());
                Db::postgres(&format!("{url}{and}{of_its_own}"), 5).await.unwrap()
            }
        };
        db.migrate().await.unwrap();
        Self {
            db,
            clock: Clock::manual(Clock::system().now()),
            instance: format!("test-{}", id.simple()),
            broker: broker.map(Arc::new),
            folder: Arc::new(folder),
            processes: Arc::default(),
        }
    }

    /// Starts another process's queue: on the broker at `url`, or in the store.
    pub async fn start_queue(&self, url: Option<&str>) -> Queue {
        let (mut tasks, stop) = (JoinSet::new(), CancellationToken::new());
        let (db, clock) = (self.db.clone(), self.clock.clone());
        let queue = match url {
            None => Queue::local(db, clock),
            Some(url) => {
                let settings = RabbitSettings {
                    url: &SecretString::from(url),
                    instance: &self.instance,
                    retry_delays: &LADDER,
                    prefetch: PREFETCH,
                };
                Queue::rabbitmq(&settings, db, clock, &mut tasks, stop.clone()).unwrap()
            }
        };
        self.processes.lock().await.push(Process { queue: queue.clone(), tasks, stop });
        queue
    }

    /// The queue of the first process.
    pub async fn queue(&self) -> Queue {
        self.processes.lock().await.first().unwrap().queue.clone()
    }

    /// The broker, with what tests do on it.
    pub fn broker(&self) -> &Broker {
        self.broker.as_deref().unwrap()
    }

    pub fn has_broker(&self) -> bool {
        self.broker.is_some()
    }

    /// A name on the broker.
    pub fn name(&self, of: &str) -> String {
        format!("{}.{of}", self.instance)
    }

    /// Stops every process; gives how long that took.
    pub async fn stop(&self) -> Duration {
        let began = Instant::now();
        let processes = std::mem::take(&mut *self.processes.lock().await);
        for process in &processes {
            process.stop.cancel();
        }
        for mut process in processes {
            while let Some(ended) = process.tasks.join_next().await {
                ended.unwrap();
            }
        }
        began.elapsed()
    }

    async fn remove(self) {
        if let Some(broker) = &self.broker {
            broker.remove(&self.instance, &LADDER).await;
        }
        if let Db::Postgres { write, .. } = &self.db {
            let schema = self.instance.replace('-', "_");
            let drop = format!("DROP SCHEMA \"{schema}\" CASCADE");
            sqlx::query(sqlx::AssertSqlSafe(drop)).execute(write).await.unwrap();
        }
        self.db.close().await;
        drop(self.folder);
    }

    pub fn new_delivery(&self, class: Class) -> NewDelivery {
        NewDelivery {
            id: self.clock.id(),
            channel: CHANNEL,
            class,
            event_id: self.clock.id(),
            user_id: Some(self.clock.id()),
            endpoint_id: None,
            notification_id: None,
            payload: "{}".to_owned(),
            traceparent: None,
            due_at: self.clock.now(),
        }
    }

    /// Stores deliveries that are due.
    pub async fn insert(&self, class: Class, count: usize) -> Vec<DeliveryId> {
        let new: Vec<NewDelivery> = (0..count).map(|_| self.new_delivery(class)).collect();
        self.insert_all(&new).await
    }

    pub async fn insert_all(&self, new: &[NewDelivery]) -> Vec<DeliveryId> {
        for new in new.chunks(500) {
            let mut tx = self.db.begin().await.unwrap();
            deliveries::insert(&mut tx, new, self.clock.now()).await.unwrap();
            tx.commit().await.unwrap();
        }
        new.iter().map(|delivery| delivery.id).collect()
    }

    /// Lets the dispatcher's turn come.
    pub async fn dispatch(&self) -> Option<DateTime<Utc>> {
        self.queue().await.publish_due(CHANNEL).await.unwrap()
    }

    /// Claims in one go what is there now.
    pub async fn claim(&self, room: usize) -> Vec<Delivery> {
        self.queue().await.claim(CHANNEL, room, LEASE).await.unwrap()
    }

    /// Dispatches and claims until there are so many.
    pub async fn claim_all(&self, count: usize) -> Vec<Delivery> {
        let queue = self.queue().await;
        let claimed = Mutex::new(Vec::new());
        until(&format!("{count} deliveries are claimed"), async || {
            let mut claimed = claimed.lock().await;
            queue.publish_due(CHANNEL).await.unwrap();
            let room = 500.min(count - claimed.len());
            claimed.extend(queue.claim(CHANNEL, room, LEASE).await.unwrap());
            (claimed.len() >= count).then_some(())
        })
        .await;
        claimed.into_inner()
    }

    /// Waits until there is nothing on the broker but what `left` says, by queue.
    pub async fn broker_holds(&self, left: &[(&str, u32)]) {
        if !self.has_broker() {
            return;
        }
        let wanted: BTreeMap<String, u32> =
            left.iter().map(|(name, count)| (self.name(name), *count)).collect();
        until(&format!("the broker holds {left:?}"), async || {
            (self.broker().counts(&self.instance, &LADDER).await == wanted).then_some(())
        })
        .await;
    }

    /// Waits until the queue says that all is well.
    pub async fn is_well(&self) {
        let queue = self.queue().await;
        until("it is well", async || queue.check().await.problem.is_none().then_some(())).await;
    }

    /// Waits until what the broker has of these classes is with the first process: behind it comes a message that is no id,
    /// which is set aside as soon as it is received.
    pub async fn received(&self, classes: &[&str]) {
        let aside = self.name("notify.dlq");
        let before = self.broker().ready(&aside).await.unwrap_or_default();
        for class in classes {
            self.broker().publish(&self.name("notify"), &format!("email.{class}"), b"no id").await;
        }
        let wanted = before + u32::try_from(classes.len()).unwrap();
        until("all is received", async || {
            // Nothing is received before somebody asks.
            self.queue().await.announced(CHANNEL).await;
            (self.broker().ready(&aside).await == Some(wanted)).then_some(())
        })
        .await;
    }

    /// Records an outcome and says so to the queue; `false` when the lease was lost.
    pub async fn settle(&self, delivery: &Delivery, settlement: Settlement, wait: Option<Duration>) -> bool {
        let cause = Cause::default();
        let change = Change { clock: &self.clock, cause: &cause };
        let mut tx = self.db.begin().await.unwrap();
        let kept = deliveries::settle(&mut tx, change, delivery, &settlement).await.unwrap();
        tx.commit().await.unwrap();
        let fate = match (&settlement, wait) {
            (Settlement::Retry(_, due_at), Some(wait)) if kept => Fate::Retry { wait, due_at: *due_at },
            (Settlement::Bury(..), _) if kept => Fate::Buried,
            _ => Fate::Settled,
        };
        self.queue().await.settled([(delivery, fate)]);
        kept
    }

    pub async fn deliver(&self, deliveries: &[Delivery]) {
        for delivery in deliveries {
            assert!(self.settle(delivery, Settlement::Delivered(self.attempt()), None).await);
        }
    }

    /// Sends a delivery to its next try after `wait`.
    pub async fn retry(&self, delivery: &Delivery, wait: Duration) {
        let due_at = self.clock.now() + wait;
        assert!(self.settle(delivery, Settlement::Retry(self.attempt(), due_at), Some(wait)).await);
    }

    pub fn attempt(&self) -> Attempt {
        Attempt {
            outcome: AttemptOutcome::Failed,
            status_code: None,
            error: None,
            excerpt: None,
            started_at: self.clock.now(),
            duration_ms: 1,
        }
    }

    /// How many rows count on the broker.
    pub async fn queued(&self) -> usize {
        let mut reader = self.db.reader().await.unwrap();
        deliveries::queued(&mut reader, CHANNEL, self.clock.now(), 100_000).await.unwrap().len()
    }

    /// Whether nothing is unfinished.
    pub async fn finished(&self) -> bool {
        deliveries::unfinished(&mut self.db.reader().await.unwrap()).await.unwrap().is_empty()
    }
}

/// How many of each class, high first.
pub fn classes(deliveries: &[Delivery]) -> [usize; 3] {
    [Class::High, Class::Normal, Class::Low]
        .map(|class| deliveries.iter().filter(|delivery| delivery.class == class).count())
}

pub fn ids(deliveries: &[Delivery]) -> Vec<DeliveryId> {
    let mut ids: Vec<DeliveryId> = deliveries.iter().map(|delivery| delivery.id).collect();
    ids.sort_unstable();
    ids
}

/// Where a service of the tests is.
pub fn from_environment(name: &str) -> String {
    #[expect(
        clippy::disallowed_methods,
        reason = "which services tests may use is known to their starter only"
    )]
    let value = std::env::var(name);
    value.unwrap_or_else(|_| {
        panic!("{name} is not set; run these tests by `cargo xtask test -- -p taskpost-ports`")
    })
}
