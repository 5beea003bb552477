//! Where webhooks may go: what is refused when it is saved, and what is blocked when it is dialled. Names that lead
//! inside need a resolver of one's own: `workers/tests/guard.rs` has them.

use serde_json::json;
use taskpost_testkit::{Answer, Backend, Fields as _, Starting, TestApp, WebhookSink, both};

both!(a_private_target_is_refused_at_once, what_was_saved_before_is_judged_again, no_redirect_leads_inside,);

/// As an operator runs it.
fn guarded(backend: Backend) -> Starting {
    TestApp::start(backend).without("WEBHOOK_ALLOW_PRIVATE")
}

async fn a_private_target_is_refused_at_once(backend: Backend) {
    let app = guarded(backend).await;
    let ada = app.user("Ada").await;
    app.drain().await;
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

async fn what_was_saved_before_is_judged_again(backend: Backend) {
    let app = TestApp::start(backend).await;
    let ada = app.user("Ada").await;
    let sink = WebhookSink::start().await;
    let hook = app.hook(&ada, &sink, &["task.created"]).await;
    let app = app.stop().await.without("WEBHOOK_ALLOW_PRIVATE").await;
    app.task(&ada, json!({"title": "a"})).await;
    app.drain().await;
    let attempts = app.list(&ada, &format!("/v1/webhooks/{}/attempts", hook.text("id"))).await;
    assert_eq!((attempts.len(), attempts[0].text("outcome")), (1, "blocked"));
    assert!(sink.received().is_empty());
    app.expect_dead_letters();
    app.finish().await;
}

async fn no_redirect_leads_inside(backend: Backend) {
    let app = TestApp::start(backend).await;
    let ada = app.user("Ada").await;
    let sink = WebhookSink::start().await;
    let hook = app.hook(&ada, &sink, &["task.created"]).await;
    for status in [301, 302, 303, 307, 308] {
        sink.script([Answer::status(status).header("location", &sink.url("/inside"))]);
        app.task(&ada, json!({"title": "a"})).await;
        app.drain().await;
    }
    assert_eq!(sink.received().len(), 5);
    assert!(sink.received().iter().all(|one| one.path == "/hook"));
    let attempts = app.list(&ada, &format!("/v1/webhooks/{}/attempts", hook.text("id"))).await;
    assert!(attempts.iter().all(|one| one.text("outcome") == "rejected"), "{attempts:#?}");
    app.expect_dead_letters();
    app.finish().await;
}
