//! What time brings about: the app's clock stands still until the test moves it.

use std::time::Duration;

use serde_json::{Value, json};
use taskpost_common::Clock;
use taskpost_testkit::{Answer, Backend, Fields as _, TestApp, User, WebhookSink, both, until};

both!(
    an_access_token_lasts_a_quarter_of_an_hour,
    a_session_lasts_thirty_days_unused,
    a_cursor_lasts_a_week,
    an_old_secret_signs_for_a_day,
    five_days_of_failure_switch_a_webhook_off,
);

const MINUTE: Duration = Duration::from_mins(1);
const DAY: Duration = Duration::from_hours(24);

async fn at_noon(backend: Backend) -> TestApp {
    let noon = "2030-01-31T12:00:00Z".parse().unwrap_or_default();
    TestApp::start(backend).with("RETRY_DELAYS", "1h").clock(Clock::manual(noon)).await
}

async fn an_access_token_lasts_a_quarter_of_an_hour(backend: Backend) {
    let app = at_noon(backend).await;
    let ada = app.user("Ada").await;
    app.clock().advance(15 * MINUTE);
    app.get("/v1/me").as_(&ada).expect(200).await;
    app.clock().advance(MINUTE);
    app.get("/v1/me").as_(&ada).refused(401).await;
    let refreshed =
        app.post("/v1/auth/refresh", json!({"refresh_token": ada.refresh_token})).expect(200).await;
    app.get("/v1/me").as_(&User::of(&refreshed.json(), &ada.password)).expect(200).await;
    app.finish().await;
}

async fn a_session_lasts_thirty_days_unused(backend: Backend) {
    let app = at_noon(backend).await;
    let (ada, bob) = (app.user("Ada").await, app.user("Bob").await);
    let refresh = |user: &User| app.post("/v1/auth/refresh", json!({"refresh_token": user.refresh_token}));
    app.clock().advance(29 * DAY);
    let ada = User::of(&refresh(&ada).expect(200).await.json(), &ada.password);
    app.clock().advance(2 * DAY);
    refresh(&bob).refused(401).await;
    // A session that is used goes on.
    refresh(&ada).expect(200).await;
    app.finish().await;
}

async fn a_cursor_lasts_a_week(backend: Backend) {
    let app = at_noon(backend).await;
    let ada = app.user("Ada").await;
    for _ in 0..2 {
        app.task(&ada, json!({"title": "a"})).await;
    }
    let cursor = app.read(&ada, "/v1/tasks?limit=1").await["page"].text("next_cursor").to_owned();
    let list = format!("/v1/tasks?limit=1&cursor={cursor}");
    app.clock().advance(6 * DAY);
    let ada = app.login(&ada).await;
    app.get(&list).as_(&ada).expect(200).await;
    app.clock().advance(DAY + MINUTE);
    let ada = app.login(&ada).await;
    app.get(&list).as_(&ada).refused(400).await;
    app.finish().await;
}

async fn an_old_secret_signs_for_a_day(backend: Backend) {
    let app = at_noon(backend).await;
    let ada = app.user("Ada").await;
    let sink = WebhookSink::start().await;
    let hook = app.hook(&ada, &sink, &["task.created"]).await;
    app.post(&format!("/v1/webhooks/{}/rotate-secret", hook.text("id")), None).as_(&ada).expect(200).await;
    for (wait, signatures) in [(DAY / 2, 2), (DAY / 2 + MINUTE, 1)] {
        app.clock().advance(wait);
        let ada = app.login(&ada).await;
        app.task(&ada, json!({"title": "a"})).await;
        app.drain().await;
        let last = sink.received().pop().map(|one| one.header("webhook-signature").split(' ').count());
        assert_eq!(last, Some(signatures));
    }
    app.finish().await;
}

async fn five_days_of_failure_switch_a_webhook_off(backend: Backend) {
    let app = at_noon(backend).await;
    let ada = app.user("Ada").await;
    let sink = WebhookSink::start().await;
    sink.always(Answer::status(503));
    let hook = app.hook(&ada, &sink, &["task.created"]).await;
    let path = format!("/v1/webhooks/{}", hook.text("id"));
    app.task(&ada, json!({"title": "a"})).await;
    app.drain().await;
    let failing = app.read(&ada, &path).await;
    assert_eq!((failing.text("failing_since"), &failing["enabled"]), ("2030-01-31T12:00:00Z", &json!(true)));

    // A success in between makes it begin anew.
    sink.script([Answer::status(204)]);
    app.clock().advance(4 * DAY);
    sink.wait_for(2).await;
    app.drain().await;
    let ada = app.login(&ada).await;
    assert_eq!(app.read(&ada, &path).await["failing_since"], Value::Null);
    app.task(&ada, json!({"title": "b"})).await;
    app.drain().await;
    app.clock().advance(5 * DAY);
    sink.wait_for(4).await;
    let ada = app.login(&ada).await;
    let off = until(|| async {
        let hook = app.read(&ada, &path).await;
        if hook["enabled"] == json!(false) { Ok(hook) } else { Err(format!("{hook:#}")) }
    })
    .await;
    assert!(off.text("disabled_reason").contains("5 days"), "{off}");
    app.expect_dead_letters();
    app.finish().await;
}
