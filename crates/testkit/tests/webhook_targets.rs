//! Where webhooks may go: what is refused when it is saved, and what is blocked when it is dialled.

use serde_json::json;
use taskpost_testkit::{Answer, Backend, Fields as _, Starting, TestApp, WebhookSink, both};

both!(a_private_target_is_refused_at_once, a_name_that_leads_inside_is_blocked, what_was_saved_before_is_judged_again);

/// As an operator runs it.
fn guarded(backend: Backend) -> Starting {
    TestApp::start(backend).without("WEBHOOK_ALLOW_PRIVATE")
}

async fn a_private_target_is_refused_at_once(backend: Backend) {
    let app = guarded(backend).await;
    let ada = app.user("Ada").await;
    let hook = |url: &str| app.post("/v1/webhooks", json!({"url": url, "event_types": ["*"]})).as_(&ada);
    for url in [
        "http://127.0.0.1/",
        "http://127.1/",
        "http://2130706433/",
        "http://0x7f.1/",
        "http://0177.0.0.1/",
        "http://[::1]/",
        "http://[::ffff:127.0.0.1]/",
        "http://10.0.0.1/",
        "http://169.254.169.254/latest/meta-data/",
        "http://localhost/",
        "http://a.localhost./",
        "https://example.org:22/",
        "https://user@example.org/",
        "https://example.org/#a",
        "file:///etc/passwd",
        "ftp://example.org/",
        "example.org",
        "",
    ] {
        assert_eq!(hook(url).refused(422).await.texts("errors", "pointer"), ["/url"], "{url}");
    }
    let kept = hook("https://hooks.example.org/a?b=c").expect(201).await.json();
    let path = format!("/v1/webhooks/{}", kept.text("id"));
    app.patch(&path, json!({"url": "http://127.0.0.1/"})).as_(&ada).refused(422).await;
    app.finish().await;
}

async fn a_name_that_leads_inside_is_blocked(backend: Backend) {
    let sink = WebhookSink::start().await;
    let app = guarded(backend).with("WEBHOOK_PORTS", format!("443,{}", sink.port())).await;
    let ada = app.user("Ada").await;
    // Every machine knows its own name, and it leads to itself.
    let host = std::fs::read_to_string("/etc/hostname").unwrap_or_default().trim().to_owned();
    let url = format!("http://{host}:{}/hook", sink.port());
    let hook = json!({"url": url, "event_types": ["task.created"]});
    let answer = app.post("/v1/webhooks", hook).as_(&ada).send().await;
    if answer.status == 201 {
        app.task(&ada, json!({"title": "a"})).await;
        app.drain().await;
        let path = format!("/v1/webhooks/{}/attempts", answer.json().text("id"));
        let attempts = app.list(&ada, &path).await;
        assert_eq!(attempts.len(), 1, "it is given up at once");
        assert_eq!(attempts[0].text("outcome"), "blocked");
        app.expect_dead_letters();
    } else {
        assert_eq!(answer.problem().texts("errors", "pointer"), ["/url"]);
    }
    assert!(sink.received().is_empty());
    app.finish().await;
}

async fn what_was_saved_before_is_judged_again(backend: Backend) {
    let app = TestApp::start(backend).await;
    let ada = app.user("Ada").await;
    let sink = WebhookSink::start().await;
    sink.always(Answer::status(503));
    let hook = app.hook(&ada, &sink, &["task.created"]).await;
    // Redirects are where most guards end: each kind leads to a private address, and none is followed.
    for status in [301, 302, 303, 307, 308] {
        sink.script([Answer::status(status).header("location", &sink.url("/inside"))]);
        app.task(&ada, json!({"title": "a"})).await;
        app.drain().await;
    }
    assert!(sink.received().iter().all(|one| one.path == "/hook"));
    let path = format!("/v1/webhooks/{}/attempts", hook.text("id"));
    assert!(app.list(&ada, &path).await.iter().all(|one| one.text("outcome") == "rejected"));
    app.expect_dead_letters();
    app.finish().await;
}
