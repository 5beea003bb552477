//! The usual way in Node: Express, Prisma, ioredis, kafkajs and amqplib, with the roles that it has.

use std::{
    fs,
    net::{SocketAddr, TcpListener},
    path::PathBuf,
    process::Command,
    time::Duration,
};

use anyhow::{Context as _, Result};
use serde_json::json;
use taskpost_common::Clock;
use tokio::time::sleep;
use url::Url;
use uuid::Uuid;

use super::{command, copy, step};
use crate::{
    bench::{Bench, Need, given},
    figure::Outcome,
    measure::wrk::{self, Ask, Loop},
    rows::{Row, TASK},
    start::{
        brokers,
        client::{Client, text},
        place::Place,
        process::{Process, Ready},
        stack::until,
    },
};

/// How long its start may take, migration included.
const START: Duration = Duration::from_mins(1);
/// The other workers of its cluster, and its consumer's joining the group.
const JOIN: Duration = Duration::from_secs(3);
/// How long it is warmed up besides: it compiles what runs often.
const WARM_UP: u64 = 4;
/// A database of its Redis that nobody else uses.
const REDIS: &str = "/5";
const NEEDS: &[Need] = &[Need::Wrk, Need::Postgres, Need::Kafka, Need::Rabbitmq, Need::Redis, Need::Express];

pub const ROWS: &[Row] = &[
    Row {
        name: "express-api",
        about: "POST /tasks of the Express peer, its API alone (2 processes)",
        needs: NEEDS,
        run: |bench| Box::pin(express(bench, "api")),
    },
    Row {
        name: "express-whole",
        about: "POST /tasks of the Express peer with its consumer and worker",
        needs: NEEDS,
        run: |bench| Box::pin(express(bench, "api consumer worker")),
    },
];

fn home(bench: &Bench) -> PathBuf {
    bench.folder.join("peers").join("express")
}

/// Copies, installs and builds it, as its run.sh would.
pub async fn prepare(bench: &Bench) -> Result<()> {
    let home = home(bench);
    let changed = copy::changed(&bench.peers.join("express"), &home)?;
    let (installed, built) = (home.join("node_modules/.package-lock.json"), home.join("dist/server.js"));
    if changed || !installed.is_file() {
        let words = ["ci", "--ignore-scripts", "--no-audit", "--no-fund"];
        step("npm", command("npm", &words, &home), &home).await.context("npm ci")?;
        touch(&installed)?;
    }
    if changed || !built.is_file() {
        let mut npm = command("npm", &["run", "build"], &home);
        // It generates without its engine, but would download it.
        npm.env("PRISMA_SCHEMA_ENGINE_BINARY", "/bin/true");
        step("build", npm, &home).await.context("npm run build")?;
        touch(&built)?;
    }
    Ok(())
}

/// run.sh builds what is older than its sources.
fn touch(path: &std::path::Path) -> Result<()> {
    let file = fs::File::options().append(true).open(path);
    let file = file.with_context(|| format!("there is no {}", path.display()))?;
    Ok(file.set_modified(std::time::SystemTime::now())?)
}

async fn express(bench: &Bench, roles: &str) -> Result<Outcome> {
    let place = Place::on_postgres(bench, false).await?;
    let names = Names::new();
    let result = run(bench, &place, &names, roles).await;
    let cleaned = names.remove(bench).await;
    let removed = place.remove().await;
    let outcome = result?;
    cleaned.and(removed).map(|()| outcome)
}

async fn run(bench: &Bench, place: &Place, names: &Names, roles: &str) -> Result<Outcome> {
    // Nobody is told of a port that is free, so the next one who asks may be given it too; that is rare.
    let port = TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port();
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    let mut command = command("bash", &["run.sh"], &home(bench));
    names.tell(bench, place, &mut command)?;
    command.env("PORT", port.to_string()).env("ROLES", roles);
    let process = Process::start("express", command, place.folder(), Ready::AtOnce).await?;
    let result = measure(bench, place, address).await.with_context(|| process.last_words());
    let stopped = process.stop().await;
    let outcome = result?;
    stopped.map(|()| outcome)
}

async fn measure(bench: &Bench, place: &Place, address: SocketAddr) -> Result<Outcome> {
    let client = Client::new(address)?;
    until("the Express peer is well", START, async || Ok(client.is_well("/health").await)).await?;
    sleep(JOIN).await;
    let account = json!({"email": "ada@example.org", "password": "correct horse battery"});
    client.post("/auth/register", &account, 201).await?;
    let session = client.post("/auth/login", &account, 200).await?;
    let ask = Ask::post("/tasks", text(&session, "token")?, TASK);
    wrk::once(bench, place.folder(), address, &ask, Loop::lasting(WARM_UP)).await?;
    let (measured, _) = wrk::load(bench, place.folder(), address, &ask).await?;
    Ok(measured.outcome())
}

/// What it is called at the brokers.
struct Names {
    prefix: String,
}

impl Names {
    fn new() -> Self {
        Self { prefix: format!("peer_express_{}", Clock::system().id::<Uuid>().simple()) }
    }

    fn topic(&self) -> String {
        format!("{}.task.created", self.prefix)
    }

    fn tell(&self, bench: &Bench, place: &Place, command: &mut Command) -> Result<()> {
        let ours = &bench.options.given;
        let database = place.database.as_ref().context("the place has a database")?;
        let mut redis: Url = given(ours.redis.as_ref(), "Redis")?.parse()?;
        redis.set_path(REDIS);
        command.env("DATABASE_URL", database.url().as_str()).env("REDIS_URL", redis.as_str());
        command.env("KAFKA_BROKERS", given(ours.kafka.as_ref(), "Kafka")?);
        command.env("KAFKA_TOPIC", self.topic()).env("KAFKA_GROUP", format!("{}.ingest", self.prefix));
        command.env("RABBITMQ_URL", given(ours.rabbitmq.as_ref(), "RabbitMQ")?);
        command.env("RABBIT_PREFIX", &self.prefix);
        command.env("RATE_LIMIT", "100000000").env("AUTH_RATE_LIMIT", "100000000");
        Ok(())
    }

    async fn remove(&self, bench: &Bench) -> Result<()> {
        let ours = &bench.options.given;
        let of = |names: &[&str]| -> Vec<String> {
            names.iter().map(|name| format!("{}.{name}", self.prefix)).collect()
        };
        let queues = of(&["notifications", "notifications.retry", "notifications.dlq"]);
        let exchanges = of(&["tasks", "tasks.retry"]);
        let rabbitmq = given(ours.rabbitmq.as_ref(), "RabbitMQ")?;
        let emptied = brokers::remove_these(rabbitmq, &queues, &exchanges).await;
        let kafka = given(ours.kafka.as_ref(), "Kafka")?;
        emptied.and(brokers::remove_these_topics(kafka, &[self.topic()]).await)
    }
}
