//! The harness itself: what it promises to the tests that stand on it.

use std::time::Duration;

use serde_json::json;
use taskpost_testkit::{Answer, Backend, Fields as _, Mail, TestApp, WebhookSink, both};
use tokio::task::JoinError;

both!(a_story_from_door_to_door, what_was_buried_is_told, leftovers_are_told);

/// What finishing it panics with; empty when it does not.
async fn panic_of(app: TestApp) -> String {
    let finished = tokio::spawn(app.finish()).await.map_err(JoinError::into_panic);
    finished.err().and_then(|panic| panic.downcast_ref::<String>().cloned()).unwrap_or_default()
}

async fn a_story_from_door_to_door(backend: Backend) {
    let app = TestApp::start(backend).await;
    assert_eq!(app.backend(), backend);
    let (ada, bob) = (app.user("Ada").await, app.user("Bob").await);
    let sink = WebhookSink::start().await;
    let hook = json!({"url": sink.url("/hook"), "event_types": ["task.created"]});
    let hook = app.post("/webhooks", hook).as_(&ada).expect(201).await.json();
    let task = json!({"title": "Fix the lift", "assignee_id": bob.id});
    let task = app.post("/tasks", task).as_(&ada).expect(201).await.json();
    app.drain().await;

    let received = sink.received();
    assert_eq!(received.len(), 1);
    assert_eq!(received[0].event()["data"]["task"], task);
    assert!(received[0].is_signed_by(hook.text("secret")));
    let mails = app.mails();
    let mut subjects: Vec<_> =
        mails.iter().filter(|mail| mail.to() == bob.email).map(Mail::subject).collect();
    // One is about Bob and one about the task, so either may be first.
    subjects.sort_unstable();
    assert_eq!(subjects, ["Welcome to Taskpost", "“Fix the lift” was assigned to you"]);
    let raw = app.raw("GET /health/live HTTP/1.1\r\nhost: a\r\n\r\n").await;
    assert_eq!((raw.status, raw.json().text("status")), (200, "ok"));
    app.finish().await;
}

async fn what_was_buried_is_told(backend: Backend) {
    let app = TestApp::start(backend).await;
    let ada = app.user("Ada").await;
    let sink = WebhookSink::start().await;
    sink.always(Answer::status(400));
    let hook = json!({"url": sink.url("/hook"), "event_types": ["task.created"]});
    app.post("/webhooks", hook).as_(&ada).expect(201).await;
    app.post("/tasks", json!({"title": "a"})).as_(&ada).expect(201).await;
    app.drain().await;
    let text = panic_of(app).await;
    assert!(text.contains("dead letters are left") && text.contains("400"), "{text}");
}

async fn leftovers_are_told(backend: Backend) {
    let app = TestApp::start(backend).with("RETRY_DELAYS", "1h").await;
    let ada = app.user("Ada").await;
    let sink = WebhookSink::start().await;
    sink.script([Answer::status(503).after(Duration::from_millis(50))]);
    let hook = json!({"url": sink.url("/hook"), "event_types": ["task.created"]});
    app.post("/webhooks", hook).as_(&ada).expect(201).await;
    app.post("/tasks", json!({"title": "a"})).as_(&ada).expect(201).await;
    app.drain().await;
    assert_eq!(sink.received().len(), 1, "draining waits for what is being sent");
    let text = panic_of(app).await;
    assert!(text.contains("wait for a later try"), "{text}");
}
