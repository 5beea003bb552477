//! Two processes of one instance on one Postgres: neither loses, doubles or contradicts what the other does.

use std::collections::{BTreeMap, HashSet};

use futures::{StreamExt as _, future::join_all, stream};
use serde_json::json;
use taskpost_testkit::{Backend, Fields as _, Part, TestApp, WebhookSink, until};

#[tokio::test(flavor = "multi_thread")]
async fn what_one_takes_both_deliver_once() {
    let app = TestApp::start(Backend::Postgres).await;
    let other = app.beside().await;
    let (ada, bob) = (app.user("Ada").await, other.user("Bob").await);
    let sink = WebhookSink::start().await;
    app.hook(&ada, &sink, &["task.*"]).await;
    let create = |i: usize| {
        let (app, ada, bob) = (if i.is_multiple_of(2) { &app } else { &other }, &ada, &bob);
        async move {
            let task = app.task(ada, json!({"title": format!("{i}"), "assignee_id": bob.id})).await;
            app.move_task(bob, &task, json!({"to": "in_progress"})).await;
        }
    };
    stream::iter(0..20).for_each_concurrent(4, create).await;
    app.drain().await;

    let events = other.events(&ada).await;
    let positions: Vec<i64> = events.iter().map(|event| event.int("position")).collect();
    assert_eq!(positions, (1..=4 + 20 * 3).collect::<Vec<_>>());
    let mut came: BTreeMap<String, usize> = BTreeMap::new();
    for one in sink.received() {
        *came.entry(one.event().text("id").to_owned()).or_default() += 1;
    }
    let of_tasks = events.iter().filter(|event| event.text("type").starts_with("task."));
    assert_eq!(came, of_tasks.map(|event| (event.text("id").to_owned(), 1)).collect());
    assert_eq!(other.read(&bob, "/v1/notifications/unread-count").await.int("unread"), 21);
    assert_eq!(app.mails().iter().filter(|mail| mail.to() == bob.email).count(), 21);
    other.finish().await;
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_logs_out_here_is_out_there() {
    let app = TestApp::start(Backend::Postgres).await;
    let other = app.beside().await;
    let ada = app.user("Ada").await;
    other.get("/v1/me").as_(&ada).expect(200).await;
    app.post("/v1/auth/logout", None).as_(&ada).expect(204).await;
    app.get("/v1/me").as_(&ada).refused(401).await;
    until(|| async {
        match other.get("/v1/me").as_(&ada).send().await.status {
            401 => Ok(()),
            status => Err(format!("the other process still answers {status}")),
        }
    })
    .await;
    other.finish().await;
    app.finish().await;
}

/// Where Redis counts. While it is slow each process counts for itself, so a few more than the limit may get in.
#[tokio::test(flavor = "multi_thread")]
async fn one_limit_counts_for_both() {
    const BURST: usize = 200;
    if !Part::Redis.is_used() {
        return;
    }
    let app = TestApp::start(Backend::Postgres).with("RATE_LIMIT_READ", format!("1/h,{BURST}")).await;
    let other = app.beside().await;
    let ada = app.user("Ada").await;
    let mut let_in = 0;
    for app in [&app, &other].into_iter().cycle() {
        match app.get("/v1/me").as_(&ada).send().await.status {
            200 => let_in += 1,
            status => {
                assert_eq!(status, 429);
                break;
            }
        }
        assert!(let_in < BURST + BURST / 2, "each counts for itself");
    }
    assert!(let_in >= BURST, "{let_in} were let in");
    other.finish().await;
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_key_is_one_task_whoever_is_asked() {
    let app = TestApp::start(Backend::Postgres).await;
    let other = app.beside().await;
    let ada = app.user("Ada").await;
    let create = |i: usize| {
        let app = if i.is_multiple_of(2) { &app } else { &other };
        app.post("/v1/tasks", json!({"title": "a"})).as_(&ada).key(&format!("k{}", i / 10)).send()
    };
    let answers = join_all((0..100).map(create)).await;
    let mut ids: BTreeMap<usize, HashSet<String>> = BTreeMap::new();
    for (i, answer) in answers.iter().enumerate() {
        assert_eq!(answer.status, 201, "{}", answer.text());
        ids.entry(i / 10).or_default().insert(answer.json().text("id").to_owned());
    }
    assert!(ids.values().all(|ids| ids.len() == 1), "{ids:?}");
    assert_eq!(app.number("SELECT count(*) FROM tasks").await, 10);
    other.finish().await;
    app.finish().await;
}
