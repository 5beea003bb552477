//! Ingestion on librdkafka's own mock of a cluster and on real stores: whatever is killed, doubled or refused, each
//! accepted task is stored once, or is a dead letter.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test may stop at the first surprise"
)]

use std::{future::Future, time::Duration};

use futures::future::join_all;
use rdkafka::{mocking::MockCluster, producer::DefaultProducerContext};
use serde_json::{Value, json};
use taskpost_common::{Clock, Position, config::Kafka};
use taskpost_consumers::{Consumers, ingestion};
use taskpost_ports::{Log, Wakes};
use taskpost_store::{
    Db, Session,
    dead_letters::{self, DeadLetter, LetterFilter},
    events,
    tasks::{self, TaskFilter, Within},
};
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

const DEADLINE: Duration = Duration::from_mins(1);

/// What makes a store refuse tasks of the title `poison`.
const REFUSE_ON_SQLITE: &str = "CREATE TRIGGER no_poison BEFORE INSERT ON tasks WHEN NEW.title = 'poison'
    BEGIN SELECT RAISE(ABORT, 'constraint no_poison'); END";
const REFUSE_ON_POSTGRES: &str = "ALTER TABLE tasks ADD CONSTRAINT no_poison CHECK (title <> 'poison')";

macro_rules! both {
    ($($case:ident),+ $(,)?) => {$(
        mod $case {
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn sqlite() {
                Box::pin(super::$case(super::Stage::sqlite().await)).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn postgres() {
                Box::pin(super::$case(super::Stage::postgres().await)).await;
            }
        }
    )+};
}

both!(members_that_are_killed_lose_and_double_nothing, one_that_the_store_refuses_fails_alone);

async fn members_that_are_killed_lose_and_double_nothing(stage: Stage) {
    let mut ids = Vec::new();
    for _ in 0..3 {
        let members = [stage.member(), stage.member()];
        let commands = stage.commands(400, "Water the plants");
        ids.extend(commands.iter().map(id_of));
        // Every seventh comes twice, and once more when it may have been stored long ago.
        let again: Vec<Value> = commands.iter().step_by(7).cloned().collect();
        stage.accept(&commands).await;
        stage.accept(&again).await;
        let most = ids.len() - 300;
        until("some are stored", || async { (stage.stored().await.len() >= most).then_some(()) }).await;
        for member in members {
            member.kill().await;
        }
        stage.accept(&again).await;
    }
    // So many that some come last in each partition, behind everything else.
    let last = stage.commands(60, "Fix the lift");
    ids.extend(last.iter().map(id_of));
    stage.accept(&last).await;
    let member = stage.member();
    until("all are stored", || async { (stage.stored().await.len() >= ids.len()).then_some(()) }).await;
    member.end().await;
    ids.sort_unstable();
    assert_eq!(stage.stored().await, ids);
    assert_eq!(stage.told().await, ids, "one event of each");
    assert!(stage.letters().await.is_empty());
    stage.end().await;
}

fn id_of(command: &Value) -> String {
    command["id"].as_str().unwrap().to_owned()
}

async fn one_that_the_store_refuses_fails_alone(stage: Stage) {
    stage.execute(REFUSE_ON_SQLITE, REFUSE_ON_POSTGRES).await;
    let good = stage.commands(40, "Water the plants");
    let bad = stage.commands(1, "poison");
    stage.accept(&[&good[..20], &bad, &good[20..]].concat()).await;
    let member = stage.member();
    let letter = until("there is a letter", || async { stage.letters().await.pop() }).await;
    until("the others are stored", || async { (stage.stored().await.len() == 40).then_some(()) }).await;
    member.end().await;
    assert_eq!(letter.id.to_string(), id_of(&bad[0]), "its task leads to it");
    assert_eq!((letter.source.as_str(), letter.handler.as_str()), ("log", "ingestion"));
    assert_eq!(letter.payload, bad[0].to_string());
    assert_eq!(letter.attempts.matches(r#""at""#).count(), 3, "{}", letter.attempts);
    assert!(letter.reason.contains("no_poison"), "{}", letter.reason);
    assert_eq!(stage.told().await.len(), 40);
    stage.end().await;
}

/// The disk is full for a while. How often that was found out is counted where no rollback reaches.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_without_room_holds_and_nothing_is_buried() {
    let stage = Stage::postgres().await;
    for sql in [
        "CREATE SEQUENCE tries",
        "CREATE FUNCTION no_room() RETURNS trigger LANGUAGE plpgsql AS $$
            BEGIN PERFORM nextval('tries'); RAISE 'no room' USING ERRCODE = 'disk_full'; END $$",
        "CREATE TRIGGER no_room BEFORE INSERT ON tasks EXECUTE FUNCTION no_room()",
    ] {
        stage.execute("", sql).await;
    }
    stage.accept(&stage.commands(30, "Water the plants")).await;
    let member = stage.member();
    until("it was tried again", || async { (stage.tries().await >= 3).then_some(()) }).await;
    assert!(stage.letters().await.is_empty() && stage.stored().await.is_empty());
    stage.execute("", "DROP TRIGGER no_room ON tasks").await;
    until("all are stored", || async { (stage.stored().await.len() == 30).then_some(()) }).await;
    member.end().await;
    assert!(stage.letters().await.is_empty());
    assert_eq!(stage.told().await.len(), 30);
    stage.end().await;
}

/// A store, a cluster, and what works on them.
struct Stage {
    cluster: MockCluster<'static, DefaultProducerContext>,
    consumers: Consumers,
    /// What goes when the test ends: a folder, or a schema's name.
    place: Result<TempDir, String>,
}

impl Stage {
    async fn sqlite() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let db = Db::sqlite(folder.path()).await.unwrap();
        Self::new(db, Ok(folder)).await
    }

    async fn postgres() -> Self {
        #[expect(
            clippy::disallowed_methods,
            reason = "which database tests may use is known to their starter only"
        )]
        let url = std::env::var("TASKPOST_TEST_POSTGRES_URL").unwrap_or_else(|_| {
            panic!("TASKPOST_TEST_POSTGRES_URL names no Postgres; run these tests by `cargo xtask test -- -p taskpost-consumers`")
        });
        let schema = format!("test_{}", Clock::system().id::<Uuid>().simple());
        let and = if url.contains('?') { '&' } else { '?' };
        let url = format!("{url}{and}schema={schema}&pool_timeout=40");
        let db = until("Postgres answers", || async { Db::postgres(&url, 6).await.ok() }).await;
        Self::new(db, Err(schema)).await
    }

    async fn new(db: Db, place: Result<TempDir, String>) -> Self {
        db.migrate().await.unwrap();
        let cluster = MockCluster::new(1).unwrap();
        for topic in ["test.ingest", "test.dlq"] {
            cluster.create_topic(topic, 3, 1).unwrap();
        }
        let settings = Kafka {
            brokers: cluster.bootstrap_servers(),
            topic_prefix: "test".to_owned(),
            partitions: 3,
            replication: 1,
            security_protocol: "plaintext".to_owned(),
            ca_file: None,
            sasl: None,
        };
        let clock = Clock::system();
        let log = Log::kafka(&settings, "test", db.clone(), clock.clone()).unwrap();
        Self { cluster, consumers: Consumers { db, log, wakes: Wakes::default(), clock }, place }
    }

    /// So many commands, as the API writes them.
    fn commands(&self, count: usize, title: &str) -> Vec<Value> {
        let clock = &self.consumers.clock;
        let id = || clock.id::<Uuid>();
        let command = |_| {
            json!({
                "version": 1, "id": id(), "accepted_at": clock.now(), "actor_id": id(), "correlation_id": id(),
                "task": {"title": title, "labels": ["a"]},
            })
        };
        (0..count).map(command).collect()
    }

    async fn accept(&self, commands: &[Value]) {
        let ingest = self.consumers.log.ingest().unwrap();
        let accepting = commands.iter().map(|command| async {
            let (key, value) = (command["id"].as_str().unwrap(), command.to_string());
            // What is unknown is asked for again, as a client does: the store knows it by its id.
            while ingest.accept(key, value.as_bytes(), None).await.is_err() {}
        });
        tokio::time::timeout(DEADLINE, join_all(accepting)).await.expect("all are accepted");
    }

    /// One more process that stores what is accepted.
    fn member(&self) -> Member {
        let (stage, stop) = (self.consumers.clone(), CancellationToken::new());
        let ingest = stage.log.ingest().unwrap().clone();
        Member { running: tokio::spawn(ingestion::run(stage, ingest, stop.clone())), stop }
    }

    /// The ids of the tasks that are stored, in order.
    async fn stored(&self) -> Vec<String> {
        let everything = TaskFilter::default();
        let found = tasks::list(&mut self.reader().await, Within::Everything, &everything, None, 100_000)
            .await
            .unwrap();
        found.tasks.into_iter().map(|task| task.id.to_string()).collect()
    }

    /// The ids of the tasks of which it was told that they were made, in order.
    async fn told(&self) -> Vec<String> {
        while events::sequence(&self.consumers.db, 5_000).await.unwrap() > 0 {}
        let events = events::after(&mut self.reader().await, Position(0), 100_000).await.unwrap();
        let made = events.into_iter().filter(|event| event.type_name == "task.created");
        let mut ids: Vec<String> = made.map(|event| event.aggregate_id.to_string()).collect();
        ids.sort_unstable();
        ids
    }

    async fn letters(&self) -> Vec<DeadLetter> {
        dead_letters::list(&mut self.reader().await, &LetterFilter::default(), None, 1_000).await.unwrap()
    }

    /// How often a trigger was run.
    async fn tries(&self) -> i64 {
        match &self.consumers.db {
            Db::Postgres { read, .. } => {
                let tries =
                    sqlx::query_scalar("SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM tries");
                tries.fetch_one(read).await.unwrap()
            }
            Db::Sqlite { .. } => panic!("a case for Postgres"),
        }
    }

    async fn execute(&self, sqlite: &'static str, postgres: &'static str) {
        match &self.consumers.db {
            Db::Sqlite { write, .. } => drop(sqlx::raw_sql(sqlite).execute(write).await.unwrap()),
            Db::Postgres { write, .. } => drop(sqlx::raw_sql(postgres).execute(write).await.unwrap()),
        }
    }

    async fn reader(&self) -> Session {
        until("the store can be read", || async { self.consumers.db.reader().await.ok() }).await
    }

    /// Removes the schema.
    async fn end(self) {
        if let (Err(schema), Db::Postgres { write, .. }) = (&self.place, &self.consumers.db) {
            let drop = format!("DROP SCHEMA {schema} CASCADE");
            sqlx::raw_sql(sqlx::AssertSqlSafe(drop)).execute(write).await.unwrap();
        }
        let Self { cluster, consumers, place } = self;
        consumers.db.close().await;
        drop(place);
        // Its clients first.
        drop(consumers);
        drop(cluster);
    }
}

/// One of a group.
struct Member {
    running: JoinHandle<()>,
    stop: CancellationToken,
}

impl Member {
    async fn end(self) {
        self.stop.cancel();
        tokio::time::timeout(DEADLINE, self.running).await.unwrap().unwrap();
    }

    /// Ends wherever it is.
    async fn kill(self) {
        self.running.abort();
        assert!(self.running.await.unwrap_err().is_cancelled());
    }
}

/// Looks again and again until there is something.
async fn until<T, F: Future<Output = Option<T>>>(what: &str, mut look: impl FnMut() -> F) -> T {
    let mut ticks = tokio::time::interval(Duration::from_millis(10));
    let found = tokio::time::timeout(DEADLINE, async {
        loop {
            ticks.tick().await;
            if let Some(found) = look().await {
                return found;
            }
        }
    });
    found.await.unwrap_or_else(|_| panic!("waited in vain until {what}"))
}
