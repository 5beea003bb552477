//! The whole product in this process.

use std::{
    collections::BTreeMap,
    future::IntoFuture,
    ops::Deref,
    path::PathBuf,
    pin::Pin,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use metrics_exporter_prometheus::PrometheusHandle;
use serde_json::Value;
use taskpost::wire::{self, Roles, Running};
use taskpost_common::{Clock, config::Config};
use taskpost_store::Db;
use tokio::runtime::Handle;

use crate::{Backend, Client, Mail, Raw, User, WebhookSink, database, drain, mail, place::Place, raw};

/// How long shutting down may take when nothing is in flight: a moment, but on a busy machine.
const STOP: Duration = Duration::from_secs(40);

/// An app that is about to start: await it.
#[derive(Debug)]
#[must_use = "await it to start the app"]
pub struct Starting {
    backend: Backend,
    place: Arc<Place>,
    variables: BTreeMap<String, String>,
    clock: Clock,
}

impl Starting {
    /// Sets a variable.
    pub fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.variables.insert(name.to_owned(), value.into());
        self
    }

    /// Leaves a variable unset.
    pub fn without(mut self, name: &str) -> Self {
        self.variables.remove(name);
        self
    }

    /// Takes time and ids from this clock. While a manual one stands, nothing falls due.
    pub fn clock(self, clock: Clock) -> Self {
        Self { clock, ..self }
    }

    async fn start(self) -> TestApp {
        let Self { backend, place, variables, clock } = self;
        place.used_with(&variables);
        wire::install_crypto();
        let config =
            Config::load(|name| variables.get(name).cloned()).expect("the test's variables are good");
        logs(&config);
        let running = wire::start(&config, Roles::ALL, clock, metrics(), &Handle::current())
            .await
            .expect("the app starts");
        TestApp {
            backend,
            client: Client::new(running.address),
            running: Some(running),
            place: Some(place),
            variables,
            dead_letters: AtomicBool::new(false),
            unfinished: AtomicBool::new(false),
        }
    }
}

impl IntoFuture for Starting {
    type Output = TestApp;
    type IntoFuture = Pin<Box<dyn Future<Output = TestApp>>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.start())
    }
}

/// A running app, and the client that speaks to it. It must be [finished](TestApp::finish).
pub struct TestApp {
    backend: Backend,
    client: Client,
    running: Option<Running>,
    place: Option<Arc<Place>>,
    variables: BTreeMap<String, String>,
    dead_letters: AtomicBool,
    unfinished: AtomicBool,
}

impl Deref for TestApp {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.client
    }
}

impl TestApp {
    /// Starts an app on a free port, with a data folder and a database of its own.
    pub fn start(backend: Backend) -> Starting {
        let place = Arc::new(Place::new(backend));
        Starting { backend, variables: place.unhurried(), place, clock: Clock::system() }
    }

    /// The database it runs on.
    pub fn backend(&self) -> Backend {
        self.backend
    }

    /// The wired product.
    pub fn running(&self) -> &Running {
        self.running.as_ref().expect("the app runs")
    }

    /// The store, for what no public door shows.
    pub fn db(&self) -> &Db {
        &self.running().db
    }

    /// The data folder.
    pub fn folder(&self) -> PathBuf {
        self.place.as_ref().expect("the app runs").folder().to_owned()
    }

    /// The only number of a query.
    pub async fn number(&self, sql: &str) -> i64 {
        database::number(self.db(), sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"))
    }

    /// Runs statements, for what nobody can do through a public door.
    pub async fn execute(&self, sql: &'static str) {
        database::execute(self.db(), sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
    }

    /// The clock it runs on.
    pub fn clock(&self) -> &Clock {
        &self.running().clock
    }

    /// Waits until nothing moves any more: the outbox is empty, every consumer group is at the head of the log, and
    /// no delivery is under way or due within the next seconds.
    pub async fn drain(&self) {
        drain::drain(self.db(), self.clock()).await;
    }

    /// As [`Client::hook`], but without what happened before: a new webhook also gets events on which its consumer
    /// group has yet to decide.
    pub async fn hook(&self, user: &User, sink: &WebhookSink, event_types: &[&str]) -> Value {
        self.drain().await;
        self.client.hook(user, sink, event_types).await
    }

    /// The e-mails written so far, oldest first.
    pub fn mails(&self) -> Vec<Mail> {
        mail::read(&self.folder().join("mail"))
    }

    /// Sends bytes as they are and reads one answer.
    pub async fn raw(&self, bytes: impl AsRef<[u8]>) -> Raw {
        raw::send(self.address(), bytes.as_ref()).await
    }

    /// This test means to leave dead letters.
    pub fn expect_dead_letters(&self) {
        self.dead_letters.store(true, Ordering::Relaxed);
    }

    /// This test means to leave deliveries that wait for a later try.
    pub fn expect_unfinished(&self) {
        self.unfinished.store(true, Ordering::Relaxed);
    }

    /// Another process of the same instance: the same data folder, the same database, a port of its own. Finish it first.
    pub fn beside(&self) -> Starting {
        let place = Arc::clone(self.place.as_ref().expect("the app runs"));
        let clock = self.clock().clone();
        Starting { backend: self.backend, place, variables: self.variables.clone(), clock }
    }

    /// Shuts down as it is, to be started again with the same data.
    pub async fn stop(mut self) -> Starting {
        let running = self.running.take().expect("the app runs");
        let clock = running.clock.clone();
        running.shut_down().await;
        let place = self.place.take().expect("the app runs");
        Starting { backend: self.backend, place, variables: std::mem::take(&mut self.variables), clock }
    }

    /// Drains, checks that nothing was buried or left, shuts down and removes everything.
    pub async fn finish(mut self) {
        self.drain().await;
        self.check().await;
        let running = self.running.take().expect("the app runs");
        let began = Instant::now();
        running.shut_down().await;
        assert!(began.elapsed() < STOP, "an idle app took {:?} to shut down", began.elapsed());
        if let Some(place) = self.place.take().and_then(Arc::into_inner) {
            place.remove().await;
        }
    }

    async fn check(&self) {
        if !self.dead_letters.load(Ordering::Relaxed) {
            let buried = drain::buried(self.db()).await;
            assert!(
                buried.is_empty(),
                "dead letters are left: {buried:#?}; expect_dead_letters() if they are meant"
            );
        }
        if !self.unfinished.load(Ordering::Relaxed) {
            let left = self.number("SELECT count(*) FROM deliveries WHERE finished_at IS NULL").await;
            assert_eq!(left, 0, "deliveries wait for a later try; expect_unfinished() if they are meant");
        }
        let (head, last) = ("SELECT position FROM log_head", "SELECT COALESCE(max(position), 0) FROM events");
        let (head, last) = (self.number(head).await, self.number(last).await);
        let events = self.number("SELECT count(*) FROM events").await;
        assert_eq!(
            (last, events),
            (head, head),
            "the log is not dense: last position and count against the head"
        );
    }
}

impl Drop for TestApp {
    fn drop(&mut self) {
        assert!(
            self.running.is_none() || std::thread::panicking(),
            "the test must end with app.finish().await"
        );
    }
}

/// The recorder of this process, which all its apps share.
fn metrics() -> PrometheusHandle {
    static METRICS: OnceLock<PrometheusHandle> = OnceLock::new();
    METRICS.get_or_init(|| wire::install_metrics().expect("a recorder")).clone()
}

/// Logs are written when RUST_LOG asks for them.
#[expect(clippy::disallowed_methods, reason = "whoever looks into a failing test sets it")]
fn logs(config: &Config) {
    if std::env::var_os("RUST_LOG").is_some() {
        taskpost::logs::start(config.log_format);
    }
}
