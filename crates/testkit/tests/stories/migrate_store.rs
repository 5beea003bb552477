//! Embedded data moves to Postgres, whole or not at all.

use serde_json::{Value, json};
use taskpost_testkit::{Backend, Exit, Fields as _, PATIENCE, Server, ServerStarting, User, WebhookSink};

const SECRET: &str = "0123456789abcdef0123456789abcdef";

/// With no brokers, whose copies of the log do not move with the store.
fn start(backend: Backend) -> ServerStarting {
    Server::start_with(backend, &[]).with("JWT_SECRET", SECRET).with("COMMIT_WAIT", "1m")
}

/// An empty Postgres, for later.
fn target() -> (ServerStarting, String) {
    let target = start(Backend::Postgres);
    let url = target.variable("DATABASE_URL").unwrap().to_owned();
    (target, url)
}

async fn migrate(server: &Server, url: &str) -> Exit {
    server.beside().run(&["migrate", "store", "--to", url, "--json"]).await
}

fn printed(exit: &Exit) -> Value {
    assert!(exit.status.success(), "{}", exit.stderr);
    serde_json::from_str(&exit.stdout).unwrap_or_else(|error| panic!("{error}: {}", exit.stdout))
}

/// What users see of all that the store has.
async fn seen(server: &Server, user: &User) -> Vec<Vec<Value>> {
    let mut lists = Vec::new();
    for path in [
        "/v1/tasks?limit=200&sort=created_at",
        "/v1/projects?limit=200",
        "/v1/posts?limit=200",
        "/v1/notifications?limit=200",
        "/v1/webhooks?limit=200",
        "/v1/users?limit=200",
    ] {
        lists.push(server.all_pages(user, path).await);
    }
    lists
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_arrives() {
    let sink = WebhookSink::start().await;
    let source = start(Backend::Sqlite).await;
    let ada = source.user("Ada").await;
    source.hook(&ada, &sink, &["task.*"]).await;
    let exit = source.beside().run(&["seed"]).await;
    assert!(exit.status.success(), "{}", exit.stderr);
    let task = json!({"title": "Größer, \"quoted\", 🛗", "due_at": "2027-01-02T03:04:05.678901Z"});
    let keyed = || source.post("/v1/tasks", task.clone()).as_(&ada).key("once");
    let answer = keyed().expect(201).await.json();
    source.drain_within(PATIENCE).await;
    let (before, events) = (seen(&source, &ada).await, source.events(&ada).await);

    let (target, url) = target();
    let refused = migrate(&source, &url).await;
    assert!(!refused.status.success() && refused.stderr.contains("stop the instance"), "{}", refused.stderr);
    source.terminate().await;

    let moved = printed(&migrate(&source, &url).await);
    let tables = moved.list("tables");
    for (name, least) in [("users", 6), ("tasks", 61), ("members", 1), ("board_cards", 60), ("attempts", 1)] {
        let table = tables.iter().find(|table| table.text("table") == name).unwrap();
        assert!(table.int("rows") >= least, "{table}");
        assert_eq!(table.text("checksum").len(), 32);
        let count = format!("SELECT count(*) FROM {name}");
        assert_eq!(source.number(&count).await.unwrap(), table.int("rows"), "{name}");
    }
    assert!(tables.iter().all(|table| !table.text("table").starts_with("task_text")));
    assert_eq!(moved.int("rows"), tables.iter().map(|table| table.int("rows")).sum::<i64>());
    assert!(moved["next"].to_string().contains("DATABASE_URL"));
    assert!(!moved.to_string().contains("postgres://"), "it may hold a password");

    let again = migrate(&source, &url).await;
    assert!(!again.status.success() && again.stderr.contains("not empty"), "{}", again.stderr);
    assert!(again.stderr.contains("rows") && again.stderr.contains("users 6"), "{}", again.stderr);

    let server = target.await;
    // Tokens are as good as before: it is the same instance.
    for (was, now) in before.iter().zip(seen(&server, &ada).await) {
        // A task may have fallen due meanwhile, of which people are told.
        let lost: Vec<&Value> = was.iter().filter(|item| !now.contains(item)).collect();
        assert!(lost.is_empty(), "{lost:#?}");
    }
    let now = server.events(&ada).await;
    assert_eq!(now[..events.len()], events);
    let replayed = server.post("/v1/tasks", task.clone()).as_(&ada).key("once").expect(201).await;
    assert_eq!(replayed.header("idempotency-replayed"), "true");
    assert_eq!(replayed.json(), answer);
    let ops = server.read(&ada, "/v1/tasks/OPS-1").await;
    let next = json!({"title": "The next", "project_id": ops["project_id"]});
    assert_eq!(server.task(&ada, next).await.text("key"), "OPS-13");
    server.drain_within(PATIENCE).await;
    let later = server.events(&ada).await;
    let positions = later.iter().map(|event| event.int("position"));
    assert!(positions.eq((1..).take(later.len())), "the positions are dense");
    server.finish().await;
    source.restart().await;
    source.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_moved_is_refused_and_left_alone() {
    let place = start(Backend::Sqlite);
    for (to, says) in [
        (vec![], "--to"),
        (vec!["--to", "mysql://ada:hunter2@127.0.0.1/x"], "postgres://"),
        (vec!["--to", "postgres://ada:hunter2@127.0.0.1:1/x"], "DATA_DIR"),
    ] {
        let exit = place.run(&[&["migrate", "store"], to.as_slice()].concat()).await;
        assert!(!exit.status.success() && exit.stderr.contains(says), "{to:?}: {}", exit.stderr);
        assert!(!exit.stderr.contains("hunter2"), "{}", exit.stderr);
    }
    let source = place.await;
    let ada = source.user("Ada").await;
    source.task(&ada, json!({"title": "a"})).await;
    source.drain_within(PATIENCE).await;
    // A name that Postgres cannot hold, which no public door lets in.
    source.execute("UPDATE users SET name = 'A' || char(0) || 'da'").await;
    source.terminate().await;

    let away = migrate(&source, "postgres://ada:hunter2@127.0.0.1:1/x").await;
    assert!(!away.status.success() && away.stderr.contains("--to"), "{}", away.stderr);
    assert!(!away.stderr.contains("hunter2"), "{}", away.stderr);

    let (target, url) = target();
    let refused = migrate(&source, &url).await;
    assert!(!refused.status.success() && refused.stderr.contains("users"), "{}", refused.stderr);
    assert!(refused.stderr.contains("nothing was moved"), "{}", refused.stderr);
    source.execute("UPDATE users SET name = 'Ada'").await;
    // Nothing is left of the first try, so the second is not refused.
    printed(&migrate(&source, &url).await);
    let server = target.await;
    assert_eq!(server.number("SELECT count(*) FROM tasks").await.unwrap(), 1);
    server.finish().await;
    source.restart().await;
    assert_eq!(source.number("SELECT count(*) FROM tasks").await.unwrap(), 1);
    source.finish().await;
}
