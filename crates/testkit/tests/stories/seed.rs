//! The demo: all of it, once, and never in production.

use std::collections::{BTreeMap, HashSet};

use serde_json::{Value, json};
use taskpost_testkit::{Backend, Fields as _, PATIENCE, Server, User, both};

both!(
    the_demo_has_something_of_everything,
    a_second_run_adds_nothing,
    its_size_is_a_setting,
    a_start_makes_it_too,
    production_gets_none,
);

/// What `taskpost seed` printed.
async fn seed(server: &Server) -> Value {
    let exit = server.beside().run(&["seed", "--json"]).await;
    assert!(exit.status.success(), "{}", exit.stderr);
    serde_json::from_str(&exit.stdout).unwrap_or_else(|error| panic!("{error}: {}", exit.stdout))
}

async fn logged_in(server: &Server, email: &str, password: &str) -> User {
    let credentials = json!({"email": email, "password": password});
    let session = server.post("/v1/auth/login", credentials).expect(200).await.json();
    User::of(&session, password)
}

/// How many rows there are of what the demo makes.
async fn counts(server: &Server) -> BTreeMap<String, i64> {
    const SQL: &str = "
        SELECT 'users', count(*) FROM users UNION ALL SELECT 'projects', count(*) FROM projects
        UNION ALL SELECT 'members', count(*) FROM members UNION ALL SELECT 'categories', count(*) FROM categories
        UNION ALL SELECT 'labels', count(*) FROM labels UNION ALL SELECT 'tasks', count(*) FROM tasks
        UNION ALL SELECT 'comments', count(*) FROM comments UNION ALL SELECT 'posts', count(*) FROM posts
        UNION ALL SELECT 'audit', count(*) FROM audit_log";
    server.rows(SQL).await.unwrap().into_iter().collect()
}

fn words(items: &[Value], field: &str) -> HashSet<String> {
    items.iter().map(|item| item.text(field).to_owned()).collect()
}

async fn the_demo_has_something_of_everything(backend: Backend) {
    let server = Server::start(backend).await;
    let said = seed(&server).await;
    let added = &said["added"];
    assert_eq!((added.int("users"), added.int("projects"), added.int("tasks")), (5, 5, 60));
    assert!(added.int("comments") > 30 && added.int("posts") == 16, "{added}");
    let ada = logged_in(&server, "ada@taskpost.example", said.text("password")).await;
    assert_eq!(ada.roles, ["admin"]);
    let edsger = logged_in(&server, "edsger@taskpost.example", said.text("password")).await;

    let projects = server.list(&ada, "/v1/projects").await;
    assert_eq!(words(&projects, "visibility").len(), 2);
    let operations = projects.iter().find(|project| project.text("key") == "OPS").unwrap();
    let members = server.list(&ada, &format!("/v1/projects/{}/members", operations.text("id"))).await;
    assert_eq!(words(&members, "role").len(), 4, "all roles");

    let tasks = server.all_pages(&ada, "/v1/tasks?limit=200").await;
    assert_eq!(tasks.len(), 60);
    assert_eq!((words(&tasks, "status").len(), words(&tasks, "priority").len()), (5, 5));
    assert_eq!(words(&tasks, "type").len(), 4);
    let has = |field: &str| tasks.iter().filter(|task| !task[field].is_null()).count();
    for field in ["assignee_id", "due_at", "resolution"] {
        assert!((1..60).contains(&has(field)), "{field}: {}", has(field));
    }
    assert_eq!(has("category_id"), 60);
    assert!(tasks.iter().any(|task| task.int("comment_count") == 2));
    let task = server.read(&ada, "/v1/tasks/OPS-1").await;
    assert_eq!(task.text("title"), "Replace the disk of the second database");
    let history = server.list(&ada, "/v1/tasks/OPS-4/history").await;
    assert!(history.len() >= 3, "{history:?}");
    let posts = server.list(&ada, "/v1/posts").await;
    assert_eq!(words(&posts, "status").len(), 3, "draft, published, unpublished");
    assert!(posts.iter().any(|post| post["project_id"].is_null()), "news of the organisation");

    // It went through the use cases, so people were told.
    server.drain_within(PATIENCE).await;
    let inbox = server.list(&edsger, "/v1/notifications?limit=200").await;
    let reasons = words(&inbox, "type");
    assert!(reasons.contains("task_assigned") && reasons.contains("mention"), "{reasons:?}");
    server.finish().await;
}

async fn a_second_run_adds_nothing(backend: Backend) {
    let server = Server::start(backend).await;
    let first = seed(&server).await;
    let before = counts(&server).await;
    let again = seed(&server).await;
    assert_eq!(again["password"], Value::Null);
    for (what, number) in again["added"].as_object().unwrap() {
        assert_eq!(number, &json!(0), "{what}");
    }
    assert_eq!(counts(&server).await, before);
    let exit = server.beside().run(&["seed"]).await;
    assert!(exit.status.success() && exit.stdout.contains("nothing was added"), "{}", exit.stdout);

    // What was deleted since stays deleted.
    let ada = logged_in(&server, "ada@taskpost.example", first.text("password")).await;
    let last = server.read(&ada, "/v1/tasks/OPS-12").await;
    server.delete(&format!("/v1/tasks/{}", last.text("id"))).as_(&ada).expect(204).await;
    assert_eq!(seed(&server).await["added"].int("tasks"), 0);
    assert_eq!(server.number("SELECT count(*) FROM tasks").await.unwrap(), 59);
    server.finish().await;
}

async fn its_size_is_a_setting(backend: Backend) {
    let server = Server::start(backend).with("SEED_USER_COUNT", "2").with("SEED_PROJECT_COUNT", "1").await;
    let ops = server.user("Somebody").await;
    let theirs = json!({"title": "Our own", "key": "WEB"});
    server.post("/v1/projects", theirs).as_(&ops).expect(201).await;
    assert_eq!(seed(&server).await["added"].int("projects"), 1);
    // More of it later: what is there stays, and what is somebody else's is not touched.
    let exit = server
        .beside()
        .with("SEED_USER_COUNT", "12")
        .with("SEED_PROJECT_COUNT", "6")
        .run(&["seed", "--json"])
        .await;
    let more: Value = serde_json::from_str(&exit.stdout).unwrap();
    assert_eq!((more["added"].int("users"), more["added"].int("projects")), (10, 4), "{}", exit.stderr);
    let keys = words(&server.list(&ops, "/v1/projects").await, "key");
    assert!(keys.contains("OPS2") && keys.contains("WEB"), "{keys:?}");
    assert_eq!(server.number("SELECT count(*) FROM tasks").await.unwrap(), 60);
    server.finish().await;
}

async fn a_start_makes_it_too(backend: Backend) {
    let server = Server::start(backend)
        .with("SEED_RELATIONSHIPS", "true")
        .with("SEED_USER_COUNT", "3")
        .with("SEED_PROJECT_COUNT", "1")
        .await;
    let before = counts(&server).await;
    assert_eq!((before["users"], before["projects"], before["tasks"]), (3, 1, 12));
    server.terminate().await;
    server.restart().await;
    assert_eq!(counts(&server).await, before);
    server.finish().await;
}

async fn production_gets_none(backend: Backend) {
    let secret = "0123456789abcdef0123456789abcdef";
    let place = Server::start(backend).with("ENVIRONMENT", "production").with("JWT_SECRET", secret);
    let exit = place.run(&["seed"]).await;
    assert!(!exit.status.success() && exit.stderr.contains("ENVIRONMENT"), "{}", exit.stderr);
    let exit = place.with("SEED_RELATIONSHIPS", "true").exit().await;
    assert!(!exit.status.success() && exit.stderr.contains("SEED_RELATIONSHIPS"), "{}", exit.stderr);
}
