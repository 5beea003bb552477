//! How fast accepted tasks are stored: a measurement on a real Kafka and a real Postgres, for a quiet machine.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test may stop at the first surprise")]

use std::time::{Duration, Instant};

use futures::future::join_all;
use rdkafka::{
    ClientConfig,
    admin::{AdminClient, AdminOptions},
    client::DefaultClientContext,
};
use serde_json::json;
use taskpost_common::{Clock, config::Kafka};
use taskpost_consumers::{Consumers, ingestion};
use taskpost_ports::{Log, Wakes, log::ingest::Ingest};
use taskpost_store::Db;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

const TASKS: usize = 200_000;
/// The time of the first and last ones is not counted: joining the group takes seconds.
const EDGE: i64 = 10_000;

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement: cargo test --release -p taskpost-consumers --test ingestion_rate -- --ignored --nocapture"]
async fn accepted_tasks_are_drained() {
    let clock = Clock::system();
    let name = format!("rate-{}", clock.id::<Uuid>().simple());
    let schema = name.replace('-', "_");
    let url = format!("{}?schema={schema}", variable("TASKPOST_TEST_POSTGRES_URL"));
    let db = Db::postgres(&url, 6).await.unwrap();
    db.migrate().await.unwrap();
    let log = Log::kafka(&settings(&name), &name, db.clone(), clock.clone()).unwrap();
    let Log::Kafka(kafka) = &log else { panic!("Kafka was asked for") };
    kafka.survey().await.unwrap();
    let ingest = log.ingest().unwrap().clone();

    let began = Instant::now();
    accept(&ingest, &clock).await;
    println!("accepted {:.0}/s", rate(TASKS, began));

    let stop = CancellationToken::new();
    let consumers = Consumers { db: db.clone(), log, wakes: Wakes::default(), clock };
    let running = tokio::spawn(ingestion::run(consumers, ingest, stop.clone()));
    stored(&db, EDGE).await;
    let began = Instant::now();
    let last = i64::try_from(TASKS).unwrap() - EDGE;
    stored(&db, last).await;
    println!("stored   {:.0}/s", rate(TASKS - 2 * usize::try_from(EDGE).unwrap(), began));
    stored(&db, last + EDGE).await;
    stop.cancel();
    running.await.unwrap();
    let Db::Postgres { write, .. } = &db else { panic!("Postgres was asked for") };
    let drop = format!("DROP SCHEMA {schema} CASCADE");
    sqlx::raw_sql(sqlx::AssertSqlSafe(drop)).execute(write).await.unwrap();
    remove_topics(&name).await;
}

async fn remove_topics(name: &str) {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", settings(name).brokers);
    let admin: AdminClient<DefaultClientContext> = config.create().unwrap();
    let topics = ["identity", "work", "content", "delivery", "ingest", "dlq"];
    let topics = topics.map(|topic| format!("{name}.{topic}"));
    admin.delete_topics(&topics.each_ref().map(String::as_str), &AdminOptions::new()).await.unwrap();
    // Dropping a client waits for its threads.
    tokio::task::spawn_blocking(move || drop(admin)).await.unwrap();
}

async fn accept(ingest: &Ingest, clock: &Clock) {
    let user: Uuid = clock.id();
    for _ in 0..TASKS / 5_000 {
        let commands = (0..5_000).map(|_| {
            let id: Uuid = clock.id();
            let command = json!({
                "version": 1, "id": id, "accepted_at": clock.now(), "actor_id": user, "correlation_id": id,
                "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
                "task": {"title": "Water the plants in the office", "priority": "low", "labels": ["plants"]},
            });
            (id.to_string(), command.to_string())
        });
        let accepting = commands.map(|(key, command)| async move {
            ingest.accept(&key, command.as_bytes(), None).await.unwrap();
        });
        join_all(accepting).await;
    }
}

/// Waits until so many are stored.
async fn stored(db: &Db, wanted: i64) {
    let Db::Postgres { read, .. } = db else { panic!("Postgres was asked for") };
    let mut ticks = tokio::time::interval(Duration::from_millis(20));
    let counting = tokio::time::timeout(Duration::from_mins(5), async {
        loop {
            ticks.tick().await;
            // Each has one event; counting rows would be a load of its own.
            let count: i64 =
                sqlx::query_scalar("SELECT last_value FROM outbox_seq_seq").fetch_one(read).await.unwrap();
            if count >= wanted {
                return;
            }
        }
    });
    assert!(counting.await.is_ok(), "not even {wanted} are stored");
}

#[expect(clippy::cast_precision_loss, reason = "a rate for people")]
fn rate(count: usize, since: Instant) -> f64 {
    count as f64 / since.elapsed().as_secs_f64()
}

fn settings(name: &str) -> Kafka {
    Kafka {
        brokers: variable("TASKPOST_TEST_KAFKA_BROKERS"),
        topic_prefix: name.to_owned(),
        partitions: 6,
        replication: 1,
        security_protocol: "plaintext".to_owned(),
        ca_file: None,
        sasl: None,
    }
}

#[expect(clippy::disallowed_methods, reason = "which services tests may use is known to their starter only")]
fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set; `cargo xtask services env` tells it"))
}
