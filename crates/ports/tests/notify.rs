//! Processes on one Postgres wake one another, by one message for many rings, and without an echo.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test may stop at the first surprise")]

use std::time::Duration;

use taskpost_common::Clock;
use taskpost_ports::{Wakes, notify, wake::Listener};
use taskpost_store::{Channel, Db, Listening};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// Nothing here takes nearly so long.
const DEADLINE: Duration = Duration::from_secs(40);

/// A schema, which no test shares, and the processes on it.
struct Site {
    db: Db,
    schema: String,
    processes: JoinSet<()>,
    stop: CancellationToken,
}

/// A process of an instance.
struct Process {
    wakes: Wakes,
    outbox: Listener,
    log: Listener,
    deliveries: Listener,
}

impl Site {
    async fn new() -> Self {
        #[expect(clippy::disallowed_methods, reason = "which Postgres tests may use is known to their starter only")]
        let url = std::env::var("TASKPOST_TEST_POSTGRES_URL").expect(
            "TASKPOST_TEST_POSTGRES_URL names no Postgres; run these tests by `cargo xtask test -- -p taskpost-ports`",
        );
        let schema = format!("test_{}", Clock::system().id::<Uuid>().simple());
        let and = if url.contains('?') { '&' } else { '?' };
        // Logging in takes a while on a busy machine.
        let db = Db::postgres(&format!("{url}{and}schema={schema}&pool_timeout=40"), 2).await.unwrap();
        Self { db, schema, processes: JoinSet::new(), stop: CancellationToken::new() }
    }

    /// Starts a process; it hears others as soon as this returns.
    async fn process(&mut self, instance: &str) -> Process {
        let wakes = Wakes::default();
        let mut process = Process {
            outbox: wakes.outbox.listen(),
            log: wakes.log.listen(),
            deliveries: wakes.deliveries.listen(),
            wakes: wakes.clone(),
        };
        self.processes.spawn(notify::run(self.db.clone(), wakes, instance.to_owned(), self.stop.clone()));
        // Beginning to listen rings every bell, as something may have been missed before.
        process.hears_all().await;
        process
    }

    /// Hears what is on the wire.
    async fn spy(&self, instance: &str) -> Listening {
        Channel::new(&self.db, instance).unwrap().listen().await.unwrap()
    }

    async fn finish(mut self) {
        self.stop.cancel();
        while let Some(ended) = self.processes.join_next().await {
            ended.unwrap();
        }
        let Db::Postgres { read, .. } = &self.db else { return };
        let drop = format!("DROP SCHEMA {}", self.schema);
        sqlx::query(sqlx::AssertSqlSafe(drop)).execute(read).await.unwrap();
        self.db.close().await;
    }
}

impl Process {
    async fn hears_all(&mut self) {
        for bell in [&mut self.outbox, &mut self.log, &mut self.deliveries] {
            hears(bell).await;
        }
    }
}

async fn hears(bell: &mut Listener) {
    tokio::time::timeout(DEADLINE, bell.rung()).await.expect("the bell stays silent");
}

/// Whose the next message is, and the bells it names.
async fn told(spy: &mut Listening) -> (String, String) {
    let message = tokio::time::timeout(DEADLINE, spy.next()).await.expect("nobody tells anything").unwrap();
    let (from, letters) = message.split_once(' ').unwrap();
    (from.to_owned(), letters.to_owned())
}

#[tokio::test]
async fn what_rings_here_rings_there_once_and_does_not_come_back() {
    let mut site = Site::new().await;
    let (mut one, mut other) = (site.process("a").await, site.process("a").await);
    let mut spy = site.spy("a").await;

    // Nothing else runs between these rings, so that they are one message.
    for _ in 0..1_000 {
        one.wakes.outbox.ring();
        one.wakes.log.ring();
    }
    hears(&mut other.outbox).await;
    hears(&mut other.log).await;
    let (first, letters) = told(&mut spy).await;
    assert!(letters.contains('o') && letters.contains('l') && !letters.contains('d'), "{letters}");

    // An echo of the first would come before the answer, and one of the answer before the last.
    other.wakes.deliveries.ring();
    hears(&mut one.deliveries).await;
    let (second, letters) = told(&mut spy).await;
    assert_eq!(letters, "d");
    assert_ne!(second, first);
    one.wakes.outbox.ring();
    hears(&mut other.outbox).await;
    assert_eq!(told(&mut spy).await, (first, "o".to_owned()));
    site.finish().await;
}

#[tokio::test]
async fn another_instance_is_not_woken() {
    let mut site = Site::new().await;
    let elsewhere = Site::new().await;
    let (namesake, this) = (elsewhere.spy("a").await, site.spy("a").await);
    assert_ne!(namesake.name(), this.name(), "the schema is part of the name");

    let (one, mut other) = (site.process("a").await, site.process("a").await);
    let (stranger, mut neighbour) = (site.process("b").await, site.process("b").await);
    one.wakes.outbox.ring();
    hears(&mut other.outbox).await;
    // The server sends to all in one order, so the neighbour would have heard of the outbox before the log.
    stranger.wakes.log.ring();
    hears(&mut neighbour.log).await;
    let silent = tokio::time::timeout(Duration::ZERO, neighbour.outbox.rung()).await;
    assert!(silent.is_err(), "another instance's ring was heard");
    drop((namesake, this));
    elsewhere.finish().await;
    site.finish().await;
}

#[tokio::test]
async fn cut_off_they_find_each_other_again() {
    const CUT: &str =
        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = $1";
    let mut site = Site::new().await;
    let (mut one, mut other) = (site.process("a").await, site.process("a").await);
    let mut spy = site.spy("a").await;
    for process in [&one, &other] {
        process.wakes.outbox.ring();
        told(&mut spy).await;
    }
    hears(&mut one.outbox).await;
    hears(&mut other.outbox).await;

    let Db::Postgres { read, .. } = &site.db else { return };
    let (cut,): (i64,) = sqlx::query_as(CUT).bind(spy.name()).fetch_one(read).await.unwrap();
    assert_eq!(cut, 2 * 2 + 1, "each process listens and tells by connections of its own");
    assert!(tokio::time::timeout(DEADLINE, spy.next()).await.unwrap().is_err(), "the spy is cut off as well");
    // What was told meanwhile is lost, so all bells ring once they hear again.
    one.hears_all().await;
    other.hears_all().await;
    let mut spy = site.spy("a").await;
    one.wakes.deliveries.ring();
    hears(&mut other.deliveries).await;
    assert_eq!(told(&mut spy).await.1, "d");
    site.finish().await;
}
