//! How the parts are: for probes and monitors of every role, and for `taskpost doctor`.

use std::{
    collections::BTreeMap,
    future::Future,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use futures::{
    FutureExt as _,
    future::{BoxFuture, Shared, join, join_all},
};
use serde::Serialize;
use taskpost_common::Clock;
use taskpost_ports::{Limiter, Log, PortHealth, Queue};
use taskpost_store::{Db, MigrationState, StoreError, Trouble};
use utoipa::ToSchema;

use crate::Tracker;

/// How long a part may take to answer.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long an answer stands: however many ask, the parts are asked four times a second.
const STANDS: Duration = Duration::from_millis(250);
/// How long the schema is taken to be what it was.
const SCHEMA_STANDS: Duration = Duration::from_secs(5);
/// Above this the committer's queue is as good as full.
const FULL: f64 = 0.9;
/// How long an event may wait for its position before somebody should look.
const WAITS: chrono::Duration = chrono::Duration::seconds(10);
/// With so many events waiting, new ones are no longer taken: the disk must not fill.
const BACKLOG: i64 = 5_000_000;

/// The state of the whole.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Health {
    /// The worst of the parts.
    pub status: HealthStatus,
    /// Of this program.
    pub version: &'static str,
    /// Each part.
    pub checks: BTreeMap<&'static str, Check>,
}

/// How well something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum HealthStatus {
    /// All is well.
    Ok,
    /// It works, but something needs looking after.
    Degraded,
    /// It does not work.
    Down,
}

/// The state of a part.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Check {
    /// How well it is.
    pub status: HealthStatus,
    /// How long it took to answer.
    pub latency_ms: u64,
    /// What it runs on, or what is wrong and what to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

impl Health {
    /// Whether requests may be sent here: the store can be written and the committer has room. The brokers may be away
    /// meanwhile, as the store keeps what is for them.
    pub fn is_ready(&self) -> bool {
        self.status != HealthStatus::Down
    }

    fn new() -> Self {
        Self { status: HealthStatus::Ok, version: env!("CARGO_PKG_VERSION"), checks: BTreeMap::new() }
    }

    fn add(&mut self, part: &'static str, check: Check) {
        self.status = self.status.max(check.status);
        self.checks.insert(part, check);
    }
}

impl Check {
    fn new(status: HealthStatus, detail: impl Into<String>) -> Self {
        Self { status, latency_ms: 0, detail: Some(detail.into()) }
    }

    fn took(self, since: Instant) -> Self {
        Self { latency_ms: u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX), ..self }
    }
}

/// Asks the parts that a role stands on: the store always, and what it was given. Clones share what they were answered.
#[derive(Clone)]
pub struct Checkup {
    parts: Arc<Parts>,
    round: Arc<Mutex<Option<Round>>>,
}

#[derive(Clone)]
struct Parts {
    db: Db,
    clock: Clock,
    schema: Arc<Seen>,
    others: Vec<(&'static str, Ask)>,
}

type Ask = Arc<dyn Fn() -> BoxFuture<'static, PortHealth> + Send + Sync>;

/// One asking of all parts, which any number may wait for, and when it ended.
type Round = Shared<BoxFuture<'static, (Instant, Health)>>;

impl Checkup {
    /// Of the store alone.
    pub fn new(db: Db, clock: Clock) -> Self {
        Self {
            parts: Arc::new(Parts { db, clock, schema: Arc::default(), others: Vec::new() }),
            round: Arc::default(),
        }
    }

    /// Also of the event log.
    #[must_use]
    pub fn log(self, log: &Log) -> Self {
        let log = log.clone();
        self.part("log", move || {
            let log = log.clone();
            async move { log.check().await }
        })
    }

    /// Also of the delivery queue.
    #[must_use]
    pub fn queue(self, queue: &Queue) -> Self {
        let queue = queue.clone();
        self.part("queue", move || {
            let queue = queue.clone();
            async move { queue.check().await }
        })
    }

    /// Also of the rate limiter.
    #[must_use]
    pub fn limiter(self, limiter: &Arc<Limiter>) -> Self {
        let limiter = Arc::clone(limiter);
        self.part("limiter", move || {
            let limiter = Arc::clone(&limiter);
            async move { limiter.health().await }
        })
    }

    /// Also of another part, which is degraded when it has a problem.
    #[must_use]
    pub fn part<F>(mut self, name: &'static str, ask: impl Fn() -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = PortHealth> + Send + 'static,
    {
        Arc::make_mut(&mut self.parts).others.push((name, Arc::new(move || ask().boxed())));
        self
    }

    /// Of all that the tracker stands on.
    pub(crate) fn of(parts: &crate::Parts) -> Self {
        let spread = parts.spread.clone();
        let checkup = Self::new(parts.db.clone(), parts.clock.clone());
        let checkup = match &parts.queue {
            Some(queue) => checkup.queue(queue),
            None => checkup,
        };
        checkup.log(&parts.log).limiter(&parts.limiter).part("sessions", move || {
            let spread = spread.clone();
            async move { spread.check().await }
        })
    }

    /// How the parts are, or were a moment ago.
    pub async fn health(&self) -> Health {
        let round = self.join();
        round.await.1
    }

    /// The round that is under way or has just ended, else a new one.
    fn join(&self) -> Round {
        let mut round = self.round.lock().unwrap_or_else(PoisonError::into_inner);
        match round.as_ref() {
            Some(round) if round.peek().is_none_or(|(ended, _)| ended.elapsed() < STANDS) => round.clone(),
            _ => round.insert(begin(Arc::clone(&self.parts))).clone(),
        }
    }
}

/// As a task of its own, so that who asked may leave, and leaves nothing half-way.
fn begin(parts: Arc<Parts>) -> Round {
    let asking = tokio::spawn(async move { parts.ask().await });
    let ended = async move {
        let health = asking.await.unwrap_or_else(|error| {
            tracing::error!(%error, "a health check ended by itself");
            let mut health = Health::new();
            health.add("store", Check::new(HealthStatus::Down, "its check failed; see the log"));
            health
        });
        (Instant::now(), health)
    };
    ended.boxed().shared()
}

impl Parts {
    /// Asks every part at once.
    async fn ask(&self) -> Health {
        let others = self.others.iter().map(|(part, ask)| async move { (*part, check_port(ask).await) });
        let (own, others) = join(self.check_store(), join_all(others)).await;
        let mut health = Health::new();
        for (part, check) in own.chain(others) {
            health.add(part, check);
        }
        health
    }

    async fn check_store(&self) -> impl Iterator<Item = (&'static str, Check)> {
        let began = Instant::now();
        let checks = join(self.check_database(), self.check_outbox());
        let (database, outbox) = tokio::time::timeout(PATIENCE, checks).await.unwrap_or_else(|_| {
            let detail = "does not answer within 2 s; see that the database of DATABASE_URL or DATA_DIR is up and not overloaded";
            (Check::new(HealthStatus::Down, detail), None)
        });
        [("store", database.took(began))].into_iter().chain(outbox.map(|outbox| ("outbox", outbox)))
    }

    async fn check_database(&self) -> Check {
        if let Err(error) = self.db.check_writable().await {
            return failed(&error);
        }
        let well = Check::new(HealthStatus::Ok, self.db.name());
        if self.schema.is_fresh() {
            return well;
        }
        let schema = match self.db.schema().await {
            Ok(schema) => schema,
            Err(error) => return failed(&error),
        };
        match schema.require_current() {
            Ok(()) => {
                self.schema.note();
                well
            }
            // A newer program has been here, and this one goes on beside it until it is replaced.
            Err(error) if schema.in_state(MigrationState::Pending).next().is_none() => {
                Check::new(HealthStatus::Degraded, error.to_string())
            }
            Err(error) => Check::new(HealthStatus::Down, error.to_string()),
        }
    }

    /// Where there is an outbox it shows whether anybody gives out positions.
    async fn check_outbox(&self) -> Option<Check> {
        if !self.db.has_outbox() {
            return None;
        }
        // Why it cannot be asked is told of the store.
        let (waiting, since) = self.db.backlog().await.ok()?;
        let late = since.is_some_and(|since| self.clock.now() - since > WAITS);
        let status = match waiting {
            BACKLOG.. => HealthStatus::Down,
            _ if late => HealthStatus::Degraded,
            _ => HealthStatus::Ok,
        };
        let detail = (status != HealthStatus::Ok).then(|| {
            format!("about {waiting} events wait for more than 10 s; see that a process with the role consumers runs, and its log")
        });
        Some(Check { status, latency_ms: 0, detail })
    }
}

/// When the schema was last found to be current; it changes rarely.
#[derive(Debug, Default)]
struct Seen(Mutex<Option<Instant>>);

impl Seen {
    fn is_fresh(&self) -> bool {
        let seen = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        seen.is_some_and(|seen| seen.elapsed() < SCHEMA_STANDS)
    }

    fn note(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }
}

fn failed(error: &StoreError) -> Check {
    tracing::debug!(%error, "the store is not as it should be");
    let trouble = error.trouble();
    // It is there, and others hold it: that passes by itself.
    let status =
        if matches!(error, StoreError::Locked(_)) { HealthStatus::Degraded } else { HealthStatus::Down };
    Check::new(status, format!("{}; {}", trouble.what, trouble.mend))
}

async fn check_port(ask: &Ask) -> Check {
    let began = Instant::now();
    let check = match tokio::time::timeout(PATIENCE, ask()).await {
        Ok(PortHealth { name, problem: None }) => Check::new(HealthStatus::Ok, name),
        Ok(PortHealth { name, problem: Some(problem) }) => {
            Check::new(HealthStatus::Degraded, format!("{name}: {problem}"))
        }
        Err(_) => Check::new(HealthStatus::Degraded, "does not answer within 2 s"),
    };
    check.took(began)
}

impl Tracker {
    /// How every part is, and the committer's queue.
    pub async fn health(&self) -> Health {
        let mut health = self.0.checkup.health().await;
        health.add("committer", self.check_committer());
        health
    }

    fn check_committer(&self) -> Check {
        let committer = &self.0.committer;
        if committer.fullness() > FULL {
            let detail = "the queue for new tasks is over 90 % full; COMMIT_QUEUE sets its size";
            return Check::new(HealthStatus::Down, detail);
        }
        match committer.refusal() {
            Some(Trouble { what, mend, .. }) => {
                Check::new(HealthStatus::Degraded, format!("the store takes no tasks: {what}; {mend}"))
            }
            None => Check { status: HealthStatus::Ok, latency_ms: 0, detail: None },
        }
    }
}
