//! The real program: its first minute, its signals, its sudden end, its command line.

use std::{
    collections::{BTreeMap, HashSet},
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use futures::future::join_all;
use serde_json::{Value, json};
use taskpost_testkit::{Backend, Fields as _, Server, User, WebhookSink, both, until};

both!(
    the_banner_says_what_to_type,
    asked_to_stop_it_fails_nobody,
    killed_it_has_lost_nothing,
    a_bad_variable_stops_the_start,
);

/// How many clients load the server at once.
const CLIENTS: usize = 16;

/// What clients saw until the server left them without an answer.
#[derive(Default)]
struct Seen {
    acknowledged: HashSet<String>,
    refused: Vec<String>,
}

/// Clients that create tasks, one after the other, each until it gets no answer any more.
#[derive(Default)]
struct Load {
    acknowledged: AtomicUsize,
}

impl Load {
    async fn run(&self, server: &Server, user: &User) -> Seen {
        let clients = join_all((0..CLIENTS).map(|_| self.client(server, user))).await;
        clients.into_iter().fold(Seen::default(), |mut all, seen| {
            all.acknowledged.extend(seen.acknowledged);
            all.refused.extend(seen.refused);
            all
        })
    }

    async fn client(&self, server: &Server, user: &User) -> Seen {
        let mut seen = Seen::default();
        loop {
            // Every request on a connection of its own, so that an idle one that closes is nobody's failure.
            let request =
                server.post("/v1/tasks", json!({"title": "a"})).as_(user).header("connection", "close");
            match request.try_send().await {
                Ok(answer) if answer.status == 201 => {
                    seen.acknowledged.insert(answer.json().text("id").to_owned());
                    self.acknowledged.fetch_add(1, Ordering::Relaxed);
                }
                Ok(answer) => seen.refused.push(format!("{} {}", answer.status, answer.text())),
                Err(_) => return seen,
            }
        }
    }

    /// Waits until so many tasks are acknowledged.
    async fn wait_for(&self, count: usize) {
        until(|| async {
            match self.acknowledged.load(Ordering::Relaxed) {
                enough if enough >= count => Ok(()),
                some => Err(format!("{some} tasks of {count} are acknowledged")),
            }
        })
        .await;
    }
}

async fn stored(server: &Server, user: &User) -> HashSet<String> {
    let tasks = server.all_pages(user, "/v1/tasks?limit=200&sort=created_at").await;
    tasks.iter().map(|task| task.text("id").to_owned()).collect()
}

async fn the_banner_says_what_to_type(backend: Backend) {
    let server = Server::start(backend).await;
    let banner = server.stdout();
    let store = if backend == Backend::Sqlite { "SQLite in " } else { "Postgres" };
    for says in
        [&format!("listens on {}", server.url("")), store, "event log", "delivery queue", "e-mail", "/docs"]
    {
        assert!(banner.contains(says), "{says} in {banner}");
    }
    assert!(!banner.contains("password") && !banner.contains("postgres://"), "{banner}");

    // First line: the token. Its arguments stand behind `token`.
    let line = banner.split_once("TOKEN=$(").and_then(|(_, rest)| rest.split(')').next()).unwrap_or_default();
    let arguments: Vec<&str> = line.split_once(" token").unwrap_or_default().1.split_whitespace().collect();
    let (status, token, errors) = server.run(&[&["token"], arguments.as_slice()].concat());
    assert!(status.success(), "{errors}");
    // Second line: the request.
    let curl = banner.split_once("curl -i ").map(|(_, rest)| rest.to_owned()).unwrap_or_default();
    let url = curl.split_whitespace().next().unwrap_or_default();
    let body = curl.split_once("-d '").and_then(|(_, rest)| rest.split('\'').next()).unwrap_or_default();
    assert!(
        curl.contains("Authorization: Bearer $TOKEN") && curl.contains("Content-Type: application/json"),
        "{curl}"
    );
    let path = url.strip_prefix(&server.url("")).unwrap_or("the address is another one's");
    let request = server.post(path, None).body("application/json", body.to_owned()).token(token.trim());
    assert_eq!(request.expect(201).await.json().text("title"), "Fix the lift");

    // The user is there now, and is logged in again.
    let (status, again, _) = server.run(&["token", "--url", &server.url("")]);
    assert!(status.success());
    server.get("/v1/me").token(again.trim()).expect(200).await;
    let (status, _, errors) =
        server.run(&["token", "--url", &server.url(""), "--password", "another password"]);
    assert!(!status.success() && errors.contains("--password"), "{errors}");
    let (status, _, errors) = server.run(&["token", "--url", "http://127.0.0.1:1"]);
    assert!(!status.success() && errors.contains("--url"), "{errors}");
    let (status, version, _) = server.run(&["--version"]);
    assert!(status.success() && version.starts_with("taskpost "), "{version}");
    server.finish().await;
}

async fn asked_to_stop_it_fails_nobody(backend: Backend) {
    let server = Server::start(backend).await;
    let ada = server.user("Ada").await;
    let load = Load::default();
    let asked = async {
        load.wait_for(100).await;
        server.terminate().await
    };
    let (seen, exit) = tokio::join!(load.run(&server, &ada), asked);
    assert!(exit.status.success(), "{}: {}", exit.status, exit.stderr);
    assert!(exit.took < Duration::from_secs(20), "{:?}", exit.took);
    assert_eq!(seen.refused, Vec::<String>::new(), "while stopping it either takes a request or does not");
    assert!(seen.acknowledged.len() >= 100);
    server.restart().await;
    // What it took from a client that got no answer would be here and not there.
    assert_eq!(stored(&server, &ada).await, seen.acknowledged);
    server.finish().await;
}

async fn killed_it_has_lost_nothing(backend: Backend) {
    let sink = WebhookSink::start().await;
    let server = Server::start(backend).await;
    let ada = server.user("Ada").await;
    server.hook(&ada, &sink, &["task.created"]).await;
    let load = Load::default();
    let killed = async {
        load.wait_for(200).await;
        server.kill();
    };
    let (seen, ()) = tokio::join!(load.run(&server, &ada), killed);
    assert_eq!(seen.refused, Vec::<String>::new());
    if backend == Backend::Postgres {
        // Others might be sending, so leases end by themselves.
        server.end_leases().await;
    }
    server.restart().await;

    let stored = stored(&server, &ada).await;
    assert!(stored.is_superset(&seen.acknowledged), "lost: {:?}", seen.acknowledged.difference(&stored));
    // Each client had at most one request without an answer, which may be there or not.
    assert!(stored.len() <= seen.acknowledged.len() + CLIENTS);
    // A task is there with its event, or not at all.
    let created = until(|| async {
        let events = server.events(&ada).await;
        let created: HashSet<String> = events
            .iter()
            .filter(|event| event.text("type") == "task.created")
            .map(|event| event["data"]["task"].text("id").to_owned())
            .collect();
        if created == stored {
            Ok(created)
        } else {
            Err(format!("{} events of {} tasks", created.len(), stored.len()))
        }
    })
    .await;
    // Each one reaches the receiver, as often as it may be always under one id.
    let ids = until(|| async {
        let mut ids: BTreeMap<String, HashSet<String>> = BTreeMap::new();
        for one in sink.received() {
            let task = one.event()["data"]["task"].text("id").to_owned();
            ids.entry(task).or_default().insert(one.webhook_id().to_owned());
        }
        match created.iter().filter(|task| !ids.contains_key(*task)).count() {
            0 => Ok(ids),
            missing => Err(format!("{missing} of {} tasks were not delivered", created.len())),
        }
    })
    .await;
    assert!(ids.values().all(|ids| ids.len() == 1), "a second delivery has another webhook-id");
    let letters: Vec<Value> = server.list(&ada, "/v1/admin/dead-letters").await;
    assert_eq!(letters, Vec::<Value>::new());
    server.finish().await;
}

async fn a_bad_variable_stops_the_start(backend: Backend) {
    for (name, value, says) in [
        ("HTTP_PORT", "70000", "a port"),
        ("RATE_LIMIT_WRITE", "fast", "rate/unit"),
        ("RETRY_DELAYS", "soon", "ms, s, m or h"),
        ("DATABASE_URL", "mysql://user:hunter2@host/db", "postgres://"),
        ("DATABASE_URL", "postgres://a:hunter2@127.0.0.1:1/b?pool_timeout=long", "pool_timeout= takes"),
        ("DATABASE_URL", "postgres://a:hunter2@127.0.0.1:1/b?connection_limit=0", "connection_limit= takes"),
        ("ENVIRONMENT", "production", "JWT_SECRET"),
        ("JWT_SECRET", "hunter2", "32 characters"),
        ("KAFKA_BROKERS", "localhost", "host:port"),
        ("RABBITMQ_URL", "http://hunter2@localhost", "amqp://"),
        ("REDIS_URL", "localhost:6379", "redis://"),
        ("SMTP_URL", "mail.example.org", "smtp://"),
        ("MAIL_FROM", "nobody", "MAIL_FROM"),
        ("DATA_DIR", "/dev/null/data", "DATA_DIR"),
    ] {
        let exit = Server::start(backend).with(name, value).exit().await;
        assert!(!exit.status.success(), "{name}={value} was taken");
        assert!(exit.stderr.contains(says), "{name}={value}: {}", exit.stderr);
        assert!(exit.stderr.contains(name) || says == "JWT_SECRET", "{name}={value}: {}", exit.stderr);
        assert!(!exit.stderr.contains("hunter2") && !exit.stderr.contains("panicked"), "{}", exit.stderr);
        assert!(
            exit.stdout.is_empty() && exit.took < Duration::from_secs(30),
            "{:?}: {}",
            exit.took,
            exit.stdout
        );
    }
    let server = Server::start(backend).await;
    let port = server.address().port().to_string();
    let exit = Server::start(backend).with("HTTP_PORT", port).exit().await;
    assert!(!exit.status.success() && exit.stderr.contains("HTTP_PORT"), "{}", exit.stderr);
    server.finish().await;
}
