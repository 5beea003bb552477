//! Events that nobody can handle: each becomes a dead letter, whole, and stops nobody.

use serde_json::{Value, json};
use taskpost_testkit::{Backend, Fields as _, TestApp, User, both};

both!(an_unknown_event_stops_nobody, an_edited_event_takes_effect, a_redriven_one_may_die_again);

/// Records the first registration once more, under a type that nobody knows, as a newer version would.
async fn poison(app: &TestApp) {
    app.drain().await;
    app.execute(match app.backend() {
        Backend::Sqlite => {
            "BEGIN IMMEDIATE;
             UPDATE log_head SET position = position + 1;
             INSERT INTO events
             SELECT log_head.position, randomblob(16), 'user.abducted', aggregate_id, aggregate_version, actor_id,
                    project_id, owner_id, assignee_id, correlation_id, causation_id, traceparent, at, data
             FROM log_head, events WHERE events.position = 1;
             COMMIT"
        }
        Backend::Postgres => {
            "INSERT INTO outbox (id, type, aggregate_id, aggregate_version, actor_id, project_id, owner_id,
                                 assignee_id, correlation_id, causation_id, traceparent, at, data)
             SELECT gen_random_uuid(), 'user.abducted', aggregate_id, aggregate_version, actor_id, project_id,
                    owner_id, assignee_id, correlation_id, causation_id, traceparent, at, data
             FROM events WHERE position = 1"
        }
    })
    .await;
}

/// The letters of the poison, that of the notifier first.
async fn letters(app: &TestApp, admin: &User) -> Vec<Value> {
    app.drain().await;
    let mut letters = app.list(admin, "/v1/admin/dead-letters?source=log").await;
    letters.sort_by_key(|letter| letter.text("group").to_owned());
    letters
}

fn path(letter: &Value, action: &str) -> String {
    format!("/v1/admin/dead-letters/{}{action}", letter.text("id"))
}

async fn unread(app: &TestApp, user: &User) -> i64 {
    app.drain().await;
    app.read(user, "/v1/notifications/unread-count").await.int("unread")
}

async fn an_unknown_event_stops_nobody(backend: Backend) {
    let app = TestApp::start(backend).await;
    let (admin, ada) = (app.user("Root").await, app.user("Ada").await);
    poison(&app).await;
    app.task(&admin, json!({"title": "a", "assignee_id": ada.id})).await;
    assert_eq!(unread(&app, &ada).await, 2, "what came after it is told");
    let letters = letters(&app, &admin).await;
    let groups: Vec<&str> = letters.iter().map(|letter| letter.text("group")).collect();
    assert_eq!(groups, ["notifier", "projections", "webhooks"]);
    for letter in &letters {
        assert_eq!((letter.text("state"), letter.int("position")), ("dead", 5));
        assert!(letter.text("reason").contains("user.abducted"), "{letter}");
        assert_eq!(letter["payload"].text("type"), "user.abducted");
        assert_eq!(letter["payload"]["data"]["user"].text("id"), admin.id);
    }
    app.expect_dead_letters();
    app.finish().await;
}

async fn an_edited_event_takes_effect(backend: Backend) {
    let app = TestApp::start(backend).await;
    let admin = app.user("Root").await;
    poison(&app).await;
    let letters = letters(&app, &admin).await;
    assert_eq!(unread(&app, &admin).await, 1);
    let mut payload = letters[0]["payload"].clone();
    payload["type"] = json!("user.registered");
    let asked = app
        .post(&path(&letters[0], "/redrive"), json!({"payload": payload}))
        .as_(&admin)
        .expect(202)
        .await
        .json();
    assert_eq!(asked.text("state"), "redriving");
    assert_eq!(unread(&app, &admin).await, 2, "a second welcome");
    assert_eq!(app.read(&admin, &path(&letters[0], "")).await.text("state"), "redriven");
    app.post(&path(&letters[0], "/redrive"), None).as_(&admin).refused(409).await;
    for letter in &letters[1..] {
        let reason = json!({"reason": "nobody was abducted"});
        app.post(&path(letter, "/discard"), reason).as_(&admin).expect(200).await;
    }
    app.finish().await;
}

async fn a_redriven_one_may_die_again(backend: Backend) {
    let app = TestApp::start(backend).await;
    let admin = app.user("Root").await;
    poison(&app).await;
    let letters = letters(&app, &admin).await;
    let mut other = letters[0]["payload"].clone();
    other["id"] = json!("0198f0c0-0000-7000-8000-000000000000");
    for (i, body) in [json!({}), json!({"payload": {"type": "user.registered"}}), json!({"payload": other})]
        .into_iter()
        .enumerate()
    {
        app.post(&path(&letters[0], "/redrive"), body).as_(&admin).expect(202).await;
        app.drain().await;
        let letter = app.read(&admin, &path(&letters[0], "")).await;
        assert_eq!((letter.text("state"), letter.list("attempts").len()), ("dead", 2 + i), "{letter}");
    }
    assert_eq!(unread(&app, &admin).await, 1);
    app.expect_dead_letters();
    app.finish().await;
}
