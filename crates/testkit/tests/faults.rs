//! Faults under load, on the real brokers and with one process for each role: processes are killed and services are
//! restarted, and nothing that was acknowledged is lost and nothing takes effect twice.
//!
//! These tests take the services away from everybody, so only `cargo xtask test` runs them, last and one by one.

use std::{
    collections::{BTreeMap, HashSet},
    process::Command,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use futures::future::join_all;
use serde_json::json;
use taskpost_testkit::{Backend, Fields as _, Part, Server, User, WebhookSink, until_within};

/// How many clients load the API, and how long each pauses between two requests.
const CLIENTS: usize = 4;
const PAUSE: Duration = Duration::from_millis(10);
/// How many tasks are acknowledged before a fault, and between a fault's end and the next one.
const BETWEEN: usize = 300;
/// How long the system has to be normal again after a fault, and to finish everything at the end.
const RECOVERY: Duration = Duration::from_secs(90);
const SETTLING: Duration = Duration::from_mins(3);

#[tokio::test(flavor = "multi_thread")]
#[ignore = "kills processes under load for a minute; `cargo xtask test` runs it"]
async fn every_process_may_be_killed() {
    let stack = Stack::start().await;
    let load = Load::default();
    let faults = async {
        for (name, server) in
            [("api", &stack.api), ("consumers", &stack.consumers), ("workers", &stack.workers)]
        {
            load.wait_for_more(BETWEEN).await;
            let began = Instant::now();
            server.kill();
            server.restart().await;
            load.wait_for_more(1).await;
            println!(
                "{name}: killed, and tasks were taken again {:.1} s later",
                began.elapsed().as_secs_f64()
            );
        }
        load.wait_for_more(BETWEEN).await;
        load.stop();
    };
    tokio::join!(load.run(&stack), faults);
    stack.check(&load).await;
    stack.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes every service away for a while; `cargo xtask test` runs it"]
async fn every_service_may_be_restarted() {
    let stack = Stack::start().await;
    let load = Load::default();
    let faults = async {
        for service in ["redis", "rabbitmq", "kafka", "postgres"] {
            load.wait_for_more(BETWEEN).await;
            services("kill", service).await;
            services("up", service).await;
            let began = Instant::now();
            load.wait_for_more(1).await;
            stack.is_well().await;
            println!("{service}: normal again {:.1} s after its return", began.elapsed().as_secs_f64());
        }
        load.wait_for_more(BETWEEN).await;
        load.stop();
    };
    tokio::join!(load.run(&stack), faults);
    stack.check(&load).await;
    stack.finish().await;
}

/// One process for each role.
struct Stack {
    api: Server,
    consumers: Server,
    workers: Server,
    sink: WebhookSink,
    ada: User,
    bob: User,
}

impl Stack {
    async fn start() -> Self {
        for part in [Part::Kafka, Part::RabbitMq, Part::Redis] {
            assert!(
                part.is_used(),
                "set TASKPOST_TEST_PARTS=kafka,rabbitmq,redis, as `cargo xtask test` does"
            );
        }
        let sink = WebhookSink::start().await;
        let starting =
            Server::start(Backend::Postgres).with("JWT_SECRET", "0123456789abcdef0123456789abcdef");
        let api = starting.migrated().role("api").await;
        let consumers = api.beside().role("consumers").await;
        let workers = api.beside().role("workers").await;
        let (ada, bob) = (api.user("Ada").await, api.user("Bob").await);
        let stack = Self { api, consumers, workers, sink, ada, bob };
        stack.is_well().await;
        stack.api.hook(&stack.ada, &stack.sink, &["task.created"]).await;
        stack
    }

    /// Waits until every process says that all its parts are well.
    async fn is_well(&self) {
        for server in [&self.api, &self.consumers, &self.workers] {
            until_within(RECOVERY, || async {
                match server.get("/health").try_send().await {
                    Ok(answer) if answer.status == 200 && answer.json().text("status") == "ok" => Ok(()),
                    Ok(answer) => Err(answer.text()),
                    Err(error) => Err(format!("{error:?}")),
                }
            })
            .await;
        }
    }

    /// What was acknowledged is there once, with its event, its notification and its delivery, each once.
    async fn check(&self, load: &Load) {
        let acknowledged = load.acknowledged.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let tasks = until_within(SETTLING, || async {
            let delivered = self.delivered();
            let tasks = self.number("SELECT count(*) FROM tasks").await?;
            let unfinished = self.number("SELECT count(*) FROM deliveries WHERE finished_at IS NULL").await?;
            let notified =
                self.number("SELECT count(*) FROM notifications WHERE type = 'task_assigned'").await?;
            if usize::try_from(tasks) == Ok(delivered.len()) && notified == tasks && unfinished == 0 {
                return Ok(tasks);
            }
            Err(format!(
                "{tasks} tasks, {notified} notifications, {} delivered, {unfinished} unfinished deliveries",
                delivered.len()
            ))
        })
        .await;
        let stored: HashSet<String> = self
            .api
            .all_pages(&self.ada, "/v1/tasks?limit=200&sort=created_at")
            .await
            .iter()
            .map(|task| task.text("id").to_owned())
            .collect();
        let lost: Vec<_> = acknowledged.difference(&stored).collect();
        assert_eq!(lost, Vec::<&String>::new(), "acknowledged and lost");
        for (what, sql) in [
            (
                "tasks without an event",
                "SELECT count(*) FROM tasks t WHERE NOT EXISTS (SELECT 1 FROM events e WHERE e.aggregate_id = t.id AND e.type = 'task.created')",
            ),
            (
                "events that are there twice",
                "SELECT count(*) - count(DISTINCT (aggregate_id, aggregate_version, type)) FROM events",
            ),
            ("gaps in the log", "SELECT (SELECT position FROM log_head) - count(*) FROM events"),
            (
                "notifications that are there twice",
                "SELECT count(*) - count(DISTINCT (subject_id, user_id)) FROM notifications WHERE type = 'task_assigned'",
            ),
            ("dead letters", "SELECT count(*) FROM dead_letters"),
        ] {
            assert_eq!(self.number(sql).await, Ok(0), "{what}");
        }
        let delivered = self.delivered();
        let twice = delivered.values().map(|ids| ids.seen - ids.distinct.len()).sum::<usize>();
        assert!(
            delivered.values().all(|ids| ids.distinct.len() == 1),
            "a second delivery has another webhook-id"
        );
        println!(
            "{} acknowledged, {tasks} stored, 0 lost, {} requests without an answer, {twice} deliveries seen twice under one id",
            acknowledged.len(),
            load.unanswered.load(Ordering::Relaxed),
        );
        assert!(acknowledged.len() >= 500, "too few tasks to prove anything");
    }

    async fn number(&self, sql: &str) -> Result<i64, String> {
        self.api.number(sql).await.map_err(|error| error.to_string())
    }

    /// By task, the webhook-ids that the receiver saw.
    fn delivered(&self) -> BTreeMap<String, Ids> {
        let mut tasks: BTreeMap<String, Ids> = BTreeMap::new();
        for one in self.sink.received() {
            let ids = tasks.entry(one.event()["data"]["task"].text("id").to_owned()).or_default();
            ids.seen += 1;
            ids.distinct.insert(one.webhook_id().to_owned());
        }
        tasks
    }

    async fn finish(self) {
        self.workers.finish().await;
        self.consumers.finish().await;
        self.api.finish().await;
    }
}

#[derive(Default)]
struct Ids {
    seen: usize,
    distinct: HashSet<String>,
}

/// Clients that create tasks until they are told to stop, whatever becomes of their requests.
#[derive(Default)]
struct Load {
    acknowledged: Mutex<HashSet<String>>,
    unanswered: AtomicUsize,
    stop: AtomicBool,
}

impl Load {
    async fn run(&self, stack: &Stack) {
        join_all((0..CLIENTS).map(|_| self.client(stack))).await;
    }

    async fn client(&self, stack: &Stack) {
        let mut ticks = tokio::time::interval(PAUSE);
        while !self.stop.load(Ordering::Relaxed) {
            ticks.tick().await;
            let task = json!({"title": "a", "assignee_id": stack.bob.id});
            match stack.api.post("/v1/tasks", task).as_(&stack.ada).try_send().await {
                Ok(answer) if answer.status == 201 => {
                    let id = answer.json().text("id").to_owned();
                    self.acknowledged.lock().unwrap_or_else(PoisonError::into_inner).insert(id);
                }
                Ok(answer) => {
                    assert!(matches!(answer.status, 429 | 503), "{} {}", answer.status, answer.text());
                    self.unanswered.fetch_add(1, Ordering::Relaxed);
                }
                Err(_) => drop(self.unanswered.fetch_add(1, Ordering::Relaxed)),
            }
        }
    }

    /// Waits until so many more tasks are acknowledged.
    async fn wait_for_more(&self, more: usize) {
        let count = || self.acknowledged.lock().unwrap_or_else(PoisonError::into_inner).len();
        let enough = count() + more;
        until_within(RECOVERY, || async {
            let some = count();
            if some >= enough { Ok(()) } else { Err(format!("{some} tasks of {enough} are acknowledged")) }
        })
        .await;
    }

    fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// Runs `cargo xtask services VERB SERVICE`.
#[expect(
    clippy::disallowed_methods,
    clippy::expect_used,
    reason = "the tests' own variable, and a fault that must work"
)]
async fn services(verb: &'static str, service: &'static str) {
    let xtask =
        std::env::var("TASKPOST_XTASK").expect("TASKPOST_XTASK is not set; `cargo xtask test` sets it");
    // Addresses in our environment would make it believe that the services are somebody else's.
    let mut command = Command::new(xtask);
    for name in ["DATABASE_URL", "KAFKA_BROKERS", "RABBITMQ_URL", "REDIS_URL"] {
        command.env_remove(name);
    }
    command.args(["services", verb, service]);
    // Beside the load, which must not stand still meanwhile.
    let ran = tokio::task::spawn_blocking(move || command.output()).await.expect("it ends");
    let ran = ran.expect("xtask runs");
    assert!(ran.status.success(), "services {verb} {service}: {}", String::from_utf8_lossy(&ran.stderr));
}
