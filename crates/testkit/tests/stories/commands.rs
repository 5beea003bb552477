//! The command line beside serving: what it says of the schema and of everything the program stands on.

use std::{net::Ipv4Addr, path::Path};

use serde_json::{Value, json};
use sqlx::migrate::Migrator;
use taskpost_store::Db;
use taskpost_testkit::{Backend, Exit, Fields as _, Server, ServerStarting, both, until};
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    task::JoinSet,
};
use url::Url;

both!(the_schema_is_looked_at_and_brought_up, the_doctor_finds_nothing_wrong_with_what_runs);

static MIGRATIONS: Migrator = sqlx::migrate!("../../prisma-free-migrations/postgres");

/// What a command that must succeed printed as JSON.
fn printed(exit: &Exit) -> Value {
    assert!(exit.status.success(), "{}{}", exit.stdout, exit.stderr);
    serde_json::from_str(&exit.stdout).unwrap_or_else(|error| panic!("{error}: {}", exit.stdout))
}

async fn the_schema_is_looked_at_and_brought_up(backend: Backend) {
    let place = Server::start(backend);
    let before = printed(&place.run(&["migrate", "status", "--json"]).await);
    assert_eq!(
        (&before["current"], &before["pending"]),
        (&json!(false), &json!(before.list("migrations").len()))
    );
    let table = place.run(&["migrate", "status"]).await.stdout;
    assert!(
        table.contains("0001") && table.contains("pending") && table.contains("`taskpost migrate up`"),
        "{table}"
    );
    let folder = place.variable("DATA_DIR").map(Path::new).map(|folder| folder.join("taskpost.db"));
    assert!(!folder.is_some_and(|file| file.exists()), "looking makes nothing");

    let up = place.run(&["migrate", "up"]).await;
    assert!(
        up.status.success() && up.stdout.contains("0001") && up.stdout.contains("is current"),
        "{}",
        up.stdout
    );
    let after = printed(&place.run(&["migrate", "status", "--json"]).await);
    assert_eq!((&after["current"], after.int("pending")), (&json!(true), 0));
    assert!(after.list("migrations").iter().all(|migration| migration.text("state") == "applied"), "{after}");
    let again = place.run(&["migrate", "up"]).await;
    assert!(again.status.success() && again.stdout.contains("nothing to do"), "{}", again.stdout);
    place.await.finish().await;
}

/// The store of a place that is not started.
async fn store(place: &ServerStarting) -> Db {
    let url = place.variable("DATABASE_URL").expect("a place on Postgres");
    Db::postgres(url, 1).await.expect("the store can be opened")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_refuses_an_older_schema_and_the_whole_brings_it_up() {
    let place = Server::start(Backend::Postgres);
    let Db::Postgres { write, .. } = store(&place).await else { panic!("a place on Postgres") };
    MIGRATIONS.run_to(1, &write).await.expect("the first migration runs");
    write.close().await;
    for role in ["api", "consumers", "workers"] {
        let exit = place.run(&[role]).await;
        assert!(!exit.status.success(), "{role}");
        for says in ["DATABASE_URL", "older", "0002", "`taskpost migrate up`"] {
            assert!(exit.stderr.contains(says), "{role}: {says} in {}", exit.stderr);
        }
    }
    let server = place.await;
    until(|| async {
        let health = server.get("/health").expect(200).await.json();
        if health["checks"]["store"].text("status") == "ok" { Ok(()) } else { Err(health.to_string()) }
    })
    .await;
    server.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_touches_a_newer_schema() {
    const NEWER: &str = "
        INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time)
        VALUES (9000, 'what comes', TRUE, '', 1)";
    let place = Server::start(Backend::Postgres).migrated();
    let Db::Postgres { write, .. } = store(&place).await else { panic!("a place on Postgres") };
    sqlx::query(NEWER).execute(&write).await.expect("a row can be added");
    write.close().await;
    for command in [&[][..], &["api"], &["consumers"], &["workers"], &["migrate", "up"]] {
        let exit = place.run(command).await;
        assert!(!exit.status.success(), "{command:?}");
        assert!(
            exit.stderr.contains("newer") && exit.stderr.contains("9000"),
            "{command:?}: {}",
            exit.stderr
        );
    }
    let status = printed(&place.run(&["migrate", "status", "--json"]).await);
    let found: Vec<&str> =
        status.list("migrations").iter().map(|migration| migration.text("state")).collect();
    assert_eq!(found.last(), Some(&"unknown"), "{status}");
}

/// A way to Postgres that hangs up on the first who come, as a server does that is starting.
async fn starting_up(url: &str, hang_up_on: usize) -> (String, JoinSet<()>) {
    let mut url: Url = url.parse().expect("the URL of Postgres");
    let server = (url.host_str().unwrap_or_default().to_owned(), url.port().unwrap_or(5432));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("its address").port();
    url.set_ip_host(Ipv4Addr::LOCALHOST.into()).and_then(|()| url.set_port(Some(port))).expect("a URL");
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        for _ in 0..hang_up_on {
            // Dropped at once.
            let _ = listener.accept().await;
        }
        let mut connections = JoinSet::new();
        while let Ok((mut client, _)) = listener.accept().await {
            let server = server.clone();
            connections.spawn(async move {
                if let Ok(mut server) = TcpStream::connect(server).await {
                    // Whoever hangs up first, it is over.
                    let _ = copy_bidirectional(&mut client, &mut server).await;
                }
            });
        }
    });
    (url.into(), tasks)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_not_up_yet_is_waited_for() {
    let place = Server::start(Backend::Postgres).migrated();
    let url = place.variable("DATABASE_URL").expect("a place on Postgres").to_owned();
    let (url, _way) = starting_up(&url, 6).await;
    let server = place.with("DATABASE_URL", url).role("api").await;
    assert!(server.stderr().contains("DATABASE_URL: waiting for Postgres"), "{}", server.stderr());
    server.user("Ada").await;
    server.finish().await;
}

/// The same URL with one word changed.
fn changed(place: &ServerStarting, change: impl FnOnce(&mut Url)) -> String {
    let mut url: Url = place.variable("DATABASE_URL").and_then(|url| url.parse().ok()).expect("a URL");
    change(&mut url);
    url.into()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_pass_by_waiting_stops_the_start() {
    let place = || Server::start(Backend::Postgres);
    let password = changed(&place(), |url| url.set_password(Some("hunter2-wrong")).expect("a URL"));
    let database = changed(&place(), |url| url.set_path("/no_database_of_this_name"));
    for (url, says) in [(password, "password is wrong"), (database, "does not exist")] {
        for role in [None, Some("workers")] {
            let place = place().with("DATABASE_URL", &url);
            let exit = place.run(role.as_slice()).await;
            assert!(!exit.status.success(), "{role:?}");
            assert!(exit.stderr.contains("DATABASE_URL: ") && exit.stderr.contains(says), "{}", exit.stderr);
            assert!(!exit.stderr.contains("hunter2"), "{}", exit.stderr);
        }
    }
}

fn find<'a>(report: &'a Value, name: &str) -> &'a Value {
    let checks = report["checks"].as_array().map(Vec::as_slice).unwrap_or_default();
    let found = checks.iter().find(|check| check["name"] == name);
    found.unwrap_or_else(|| panic!("{name} is not in {report}"))
}

async fn the_doctor_finds_nothing_wrong_with_what_runs(backend: Backend) {
    let server = Server::start(backend).with("JWT_SECRET", "a secret of at least 32 characters").await;
    let names =
        ["data folder", "store", "schema", "writing", "event log", "delivery queue", "rate limit", "e-mail"];
    // On a busy machine a part may be slow to answer once.
    let report = until(|| async {
        let (status, report, errors) = server.run(&["doctor", "--json"]);
        if !status.success() {
            return Err(format!("{report}{errors}"));
        }
        let report: Value = serde_json::from_str(&report).unwrap_or_else(|error| panic!("{error}: {report}"));
        let mut names = names.into_iter().chain(["JWT_SECRET", "HTTP_PORT"]);
        if names.all(|name| find(&report, name).text("status") == "ok") {
            Ok(report)
        } else {
            Err(report.to_string())
        }
    })
    .await;
    let port = find(&report, "HTTP_PORT").text("detail");
    assert!(port.contains("Taskpost") && port.contains("serves"), "{port}");
    let (status, table, _) = server.run(&["doctor"]);
    assert!(status.success() && table.contains("STATUS") && !table.contains("a secret of"), "{table}");
    server.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_doctor_names_what_is_wrong_and_the_mend() {
    let taken = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = taken.local_addr().expect("its address").port().to_string();
    let place = Server::start(Backend::Postgres)
        .with("DATABASE_URL", "postgres://ada:hunter2-pg@127.0.0.1:1/x")
        .with("KAFKA_BROKERS", "127.0.0.1:1")
        .with("RABBITMQ_URL", "amqp://ada:hunter2-mq@127.0.0.1:1/%2f")
        .with("REDIS_URL", "redis://:hunter2-redis@127.0.0.1:1/0")
        .with("SMTP_URL", "smtp://ada:hunter2-smtp@127.0.0.1:1")
        .with("HTTP_PORT", port);
    let exit = place.run(&["doctor", "--json"]).await;
    assert_eq!(exit.status.code(), Some(1), "{}", exit.stdout);
    let report: Value =
        serde_json::from_str(&exit.stdout).unwrap_or_else(|error| panic!("{error}: {}", exit.stdout));
    for (name, variable) in [
        ("store", "DATABASE_URL"),
        ("event log", "KAFKA_BROKERS"),
        ("delivery queue", "RABBITMQ_URL"),
        ("rate limit", "REDIS_URL"),
        ("e-mail", "SMTP_URL"),
        ("HTTP_PORT", "HTTP_PORT"),
    ] {
        let check = find(&report, name);
        assert_eq!(check.text("status"), "fail", "{check}");
        assert!(!check.text("mend").is_empty() && check.to_string().contains(variable), "{check}");
    }
    assert_eq!(find(&report, "data folder").text("status"), "ok");

    let fresh = Server::start(Backend::Postgres);
    let table = fresh.run(&["doctor"]).await;
    assert_eq!(table.status.code(), Some(1));
    assert!(
        table.stdout.contains("no schema yet") && table.stdout.contains("schema: run `taskpost migrate up`"),
        "{}",
        table.stdout
    );
    let unreadable = fresh.with("RETRY_DELAYS", "soon").run(&["doctor"]).await;
    assert!(
        unreadable.status.code() == Some(1) && unreadable.stdout.contains("RETRY_DELAYS"),
        "{}",
        unreadable.stdout
    );
    for said in [exit.stdout, exit.stderr, table.stdout] {
        assert!(!said.contains("hunter2"), "{said}");
    }
}
