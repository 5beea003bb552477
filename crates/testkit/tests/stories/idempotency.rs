//! The same request twice is one change.

use std::collections::HashSet;

use futures::future::join_all;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use taskpost_testkit::{Answer, Backend, Fields as _, Request, Response, TestApp, User, WebhookSink, both};

both!(
    a_repeat_gets_the_same_answer,
    a_key_is_of_its_user_and_route,
    a_refusal_is_not_kept,
    of_parallel_tasks_one_is_made,
    of_parallel_batches_one_is_stored,
    of_parallel_moves_one_is_made,
    different_bodies_race_for_one_key,
    every_other_change_is_made_once,
    a_secret_is_kept_under_no_key,
    a_password_cannot_be_guessed_from_what_is_kept,
);

fn replayed(answer: &Response) -> bool {
    answer.find("idempotency-replayed") == Some("true")
}

/// What a repeat must get again, beside the body.
fn told(answer: &Response) -> (u16, [Option<&str>; 3], String) {
    (answer.status, ["location", "etag", "event-id"].map(|name| answer.find(name)), answer.text())
}

/// Sends the same request so many times at once: all get the one answer, all but one as a replay.
async fn all_at_once(count: usize, request: impl Fn() -> Request) -> Response {
    let mut answers = join_all((0..count).map(|_| request().key("the-key").send())).await;
    let first = answers.pop().unwrap_or_else(|| unreachable!("at least one"));
    for answer in &answers {
        assert_eq!(told(answer), told(&first));
    }
    let fresh = answers.iter().chain([&first]).filter(|answer| !replayed(answer)).count();
    assert_eq!(fresh, 1, "one answer is not a replay");
    first
}

async fn a_repeat_gets_the_same_answer(backend: Backend) {
    let app = TestApp::start(backend).await;
    let ada = app.user("Ada").await;
    let create = |title: &str| app.post("/v1/tasks", json!({"title": title})).as_(&ada).key("k-1");

    let first = create("a").expect(201).await;
    assert!(!replayed(&first));
    let again = create("a").expect(201).await;
    assert!(replayed(&again));
    assert_eq!(told(&again), told(&first));
    // The answer is what it was, even when the task has gone on.
    app.patch(first.header("location"), json!({"title": "b"})).as_(&ada).expect(200).await;
    assert_eq!(told(&create("a").expect(201).await), told(&first));
    let other = create("c").refused(422).await;
    assert_eq!(other.texts("errors", "code"), ["idempotency_key_reused"]);
    assert_eq!(app.list(&ada, "/v1/tasks").await.len(), 1);

    for bad in ["", "a b", "é", &"x".repeat(256)] {
        app.post("/v1/tasks", json!({"title": "a"})).as_(&ada).key(bad).refused(400).await;
    }
    app.post("/v1/tasks", json!({"title": "a"})).as_(&ada).key(&"x".repeat(255)).expect(201).await;
    app.finish().await;
}

async fn a_key_is_of_its_user_and_route(backend: Backend) {
    let app = TestApp::start(backend).await;
    let (ada, bob) = (app.user("Ada").await, app.user("Bob").await);
    let create = |user: &User, path: &str| app.post(path, json!({"title": "a"})).as_(user).key("k");
    let first = create(&ada, "/tasks").expect(201).await;
    // With and without the version it is one route.
    assert_eq!(told(&create(&ada, "/v1/tasks").expect(201).await), told(&first));
    let other = create(&bob, "/tasks").expect(201).await;
    assert!(!replayed(&other));
    assert_ne!(other.json()["id"], first.json()["id"]);
    let batch =
        app.post("/tasks/batch", json!({"tasks": [{"title": "a"}]})).as_(&ada).key("k").expect(207).await;
    assert!(!replayed(&batch));
    let ids =
        [first.json().text("id").to_owned(), batch.json().list("results")[0]["task"].text("id").to_owned()];
    for id in ids {
        let path = format!("/v1/tasks/{id}/transitions");
        let moved = app.post(&path, json!({"to": "in_progress"})).as_(&ada).key("k").expect(200).await;
        assert!(!replayed(&moved));
    }
    assert_eq!(app.list(&ada, "/v1/tasks").await.len(), 3, "an admin sees Bob's too");
    app.finish().await;
}

async fn a_refusal_is_not_kept(backend: Backend) {
    let app = TestApp::start(backend).await;
    let ada = app.user("Ada").await;
    let task = app.task(&ada, json!({"title": "a"})).await;
    let path = format!("/v1/tasks/{}/transitions", task.text("id"));
    let go = |transition: Value| app.post(&path, transition).as_(&ada).key("k");
    go(json!({"to": "todo"})).refused(409).await;
    let moved = go(json!({"to": "in_progress"})).expect(200).await;
    assert!(!replayed(&moved));
    let nobody = json!({"title": "a", "assignee_id": "0198f0c0-0000-7000-8000-000000000000"});
    app.post("/v1/tasks", nobody).as_(&ada).key("k").refused(422).await;
    app.post("/v1/tasks", json!({"title": "a"})).as_(&ada).key("k").expect(201).await;
    app.finish().await;
}

async fn of_parallel_tasks_one_is_made(backend: Backend) {
    let app = TestApp::start(backend).await;
    let ada = app.user("Ada").await;
    let answer = all_at_once(100, || app.post("/v1/tasks", json!({"title": "a"})).as_(&ada)).await;
    assert_eq!(answer.status, 201);
    let tasks = app.list(&ada, "/v1/tasks").await;
    assert_eq!(tasks, [answer.json()]);
    app.drain().await;
    let made = app.events(&ada).await.iter().filter(|event| event.text("type") == "task.created").count();
    assert_eq!(made, 1);
    app.finish().await;
}

async fn of_parallel_batches_one_is_stored(backend: Backend) {
    let app = TestApp::start(backend).await;
    let ada = app.user("Ada").await;
    let tasks = json!({"tasks": [{"title": "a"}, {"title": ""}, {"title": "b"}, {"title": "c", "assignee_id": "0198f0c0-0000-7000-8000-000000000000"}]});
    let answer = all_at_once(30, || app.post("/v1/tasks/batch", tasks.clone()).as_(&ada)).await;
    let statuses: Vec<i64> =
        answer.json().list("results").iter().map(|result| result.int("status")).collect();
    assert_eq!(statuses, [201, 422, 201, 422]);
    assert_eq!(app.list(&ada, "/v1/tasks").await.len(), 2);
    app.finish().await;
}

async fn of_parallel_moves_one_is_made(backend: Backend) {
    let app = TestApp::start(backend).await;
    let ada = app.user("Ada").await;
    let task = app.task(&ada, json!({"title": "a"})).await;
    let path = format!("/v1/tasks/{}/transitions", task.text("id"));
    let answer = all_at_once(10, || app.post(&path, json!({"to": "in_progress"})).as_(&ada)).await;
    assert_eq!((answer.status, answer.json().int("version")), (200, 2));
    app.drain().await;
    let moved =
        app.events(&ada).await.iter().filter(|event| event.text("type") == "task.status_changed").count();
    assert_eq!(moved, 1);
    app.finish().await;
}

async fn different_bodies_race_for_one_key(backend: Backend) {
    let app = TestApp::start(backend).await;
    let ada = app.user("Ada").await;
    let create =
        |i: usize| app.post("/v1/tasks", json!({"title": format!("{}", i % 2)})).as_(&ada).key("k").send();
    let answers = join_all((0..40).map(create)).await;
    let statuses: HashSet<u16> = answers.iter().map(|answer| answer.status).collect();
    assert_eq!(statuses, HashSet::from([201, 422]));
    let ids: HashSet<_> = answers
        .iter()
        .filter(|answer| answer.status == 201)
        .map(|answer| answer.json()["id"].to_string())
        .collect();
    assert_eq!((ids.len(), app.list(&ada, "/v1/tasks").await.len()), (1, 1));
    app.finish().await;
}

async fn every_other_change_is_made_once(backend: Backend) {
    let app = TestApp::start(backend).await;
    let ada = app.user("Ada").await;
    let sink = WebhookSink::start().await;
    let hook = app.hook(&ada, &sink, &["task.created"]).await;
    let hook = format!("/v1/webhooks/{}", hook.text("id"));
    for path in [
        format!("{hook}/test"),
        format!("{hook}/disable"),
        format!("{hook}/enable"),
        "/v1/notifications/read-all".to_owned(),
    ] {
        all_at_once(8, || app.post(&path, None).as_(&ada)).await;
        app.drain().await;
    }
    assert_eq!(sink.received().len(), 1, "one test was sent");
    assert_eq!(app.read(&ada, &hook).await.int("version"), 3);

    sink.always(Answer::status(400));
    app.task(&ada, json!({"title": "a"})).await;
    app.drain().await;
    let letter = app.list(&ada, "/v1/admin/dead-letters").await.remove(0);
    sink.always(Answer::status(204));
    let path = format!("/v1/admin/dead-letters/{}/redrive", letter.text("id"));
    let redriven = all_at_once(8, || app.post(&path, json!({})).as_(&ada)).await;
    assert_eq!(redriven.status, 202);
    app.drain().await;
    assert_eq!(sink.received().len(), 3);
    app.finish().await;
}

async fn a_secret_is_kept_under_no_key(backend: Backend) {
    let app = TestApp::start(backend).await;
    let ada = app.user("Ada").await;
    let hook = json!({"url": "https://hooks.example.org/", "event_types": ["task.completed"]});
    let create = || app.post("/v1/webhooks", hook.clone()).as_(&ada).key("k");
    let (first, second) = (create().expect(201).await, create().expect(201).await);
    assert_ne!(first.json()["secret"], second.json()["secret"]);
    let rotate = format!("/v1/webhooks/{}/rotate-secret", first.json().text("id"));
    for _ in 0..2 {
        assert!(!replayed(&app.post(&rotate, None).as_(&ada).key("k").expect(200).await));
    }
    assert_eq!(app.number("SELECT count(*) FROM idempotency_keys").await, 0);
    app.finish().await;
}

async fn a_password_cannot_be_guessed_from_what_is_kept(backend: Backend) {
    let app = TestApp::start(backend).await;
    let ada = app.user("Ada").await;
    let bob = json!({"email": "bob@example.org", "name": "Bob", "password": "correct horse battery"});
    for (path, body) in [("/v1/users", bob), ("/v1/tasks", json!({"title": "a"}))] {
        let digits = Sha256::digest(body.to_string()).into_iter().flat_map(|byte| [byte >> 4, byte & 15]);
        let guess: String = digits.filter_map(|digit| char::from_digit(digit.into(), 16)).collect();
        app.post(path, body).as_(&ada).key("k").expect(201).await;
        let guessed = format!("SELECT count(*) FROM idempotency_keys WHERE body_hash = '{guess}'");
        assert_eq!(app.number(&guessed).await, 0, "{path}");
    }
    assert_eq!(app.number("SELECT count(*) FROM idempotency_keys").await, 2);
    app.finish().await;
}
