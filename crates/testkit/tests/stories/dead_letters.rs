//! What was given up, and what an admin does about it.

use futures::future::join_all;
use serde_json::{Value, json};
use taskpost_testkit::{Answer, Backend, Fields as _, TestApp, User, WebhookSink, both};

both!(
    only_admins_see_them,
    what_was_given_up_is_kept_whole,
    a_healed_receiver_gets_it_after_all,
    a_broken_one_gives_it_up_again,
    an_edited_payload_is_sent,
    a_letter_is_put_away,
    of_many_decisions_one_counts,
);

/// A receiver whose one delivery was given up, and its letter.
async fn bury(app: &TestApp, admin: &User) -> (WebhookSink, Value, Value) {
    let sink = WebhookSink::start().await;
    sink.always(Answer::status(503).body("out of order"));
    let hook = app.hook(admin, &sink, &["task.created"]).await;
    app.task(admin, json!({"title": "a"})).await;
    app.drain().await;
    let letters = app.list(admin, "/v1/admin/dead-letters").await;
    assert_eq!(letters.len(), 1);
    (sink, hook, letters[0].clone())
}

fn path(letter: &Value, action: &str) -> String {
    format!("/v1/admin/dead-letters/{}{action}", letter.text("id"))
}

async fn only_admins_see_them(backend: Backend) {
    let app = TestApp::start(backend).await;
    let (admin, ada) = (app.user("Root").await, app.user("Ada").await);
    let (_sink, _hook, letter) = bury(&app, &admin).await;
    let requests = || {
        [
            app.get("/v1/admin/dead-letters"),
            app.get(&path(&letter, "")),
            app.post(&path(&letter, "/redrive"), None),
            app.post(&path(&letter, "/discard"), json!({"reason": "x"})),
        ]
    };
    for request in requests() {
        request.as_(&ada).refused(403).await;
    }
    for request in requests() {
        request.refused(401).await;
    }
    let absent = "/v1/admin/dead-letters/0198f0c0-0000-7000-8000-000000000000";
    app.get(absent).as_(&admin).refused(404).await;
    app.post(&format!("{absent}/redrive"), None).as_(&admin).refused(404).await;
    assert_eq!(app.read(&admin, &path(&letter, "")).await.text("state"), "dead");
    app.expect_dead_letters();
    app.finish().await;
}

async fn what_was_given_up_is_kept_whole(backend: Backend) {
    let app = TestApp::start(backend).await;
    let admin = app.user("Root").await;
    let (sink, hook, letter) = bury(&app, &admin).await;
    let received = sink.received();
    assert_eq!(received.len(), 3, "the first try and the two of the ladder");
    for (name, value) in [
        ("source", "queue"),
        ("channel", "webhook"),
        ("state", "dead"),
        ("delivery_id", received[0].webhook_id()),
        ("event_id", received[0].event().text("id")),
    ] {
        assert_eq!(letter.text(name), value);
    }
    assert!(letter.text("reason").contains("503") && !letter.text("fingerprint").contains("503"), "{letter}");
    let attempts = letter.list("attempts");
    assert_eq!(attempts.len(), 3);
    assert!(attempts.iter().all(|one| one.int("status_code") == 503 && one["error"].is_string()));
    assert_eq!(letter["payload"].text("body"), received[0].body);
    assert_eq!(app.read(&admin, &path(&letter, "")).await, letter);
    for (query, count) in [
        ("state=dead", 1),
        ("state=redriven", 0),
        ("source=queue&handler=webhook", 1),
        ("source=log", 0),
        ("handler=email", 0),
    ] {
        assert_eq!(
            app.list(&admin, &format!("/v1/admin/dead-letters?{query}")).await.len(),
            count,
            "{query}"
        );
    }
    app.get("/v1/admin/dead-letters?state=lost").as_(&admin).refused(400).await;
    let exhausted = app.list(&admin, "/v1/events?type=delivery.exhausted").await;
    assert_eq!(exhausted.len(), 1);
    assert_eq!(exhausted[0]["data"].text("delivery_id"), received[0].webhook_id());
    assert_eq!(exhausted[0]["data"]["endpoint_id"], hook["id"]);
    app.expect_dead_letters();
    app.finish().await;
}

async fn a_healed_receiver_gets_it_after_all(backend: Backend) {
    let app = TestApp::start(backend).await;
    let admin = app.user("Root").await;
    let (sink, hook, letter) = bury(&app, &admin).await;
    sink.always(Answer::status(204));
    let redriven = app.post(&path(&letter, "/redrive"), None).as_(&admin).expect(202).await.json();
    assert_eq!((redriven.text("id"), redriven.text("state")), (letter.text("id"), "redriven"));
    app.drain().await;
    let received = sink.received();
    assert_eq!(received.len(), 4);
    assert!(
        received
            .iter()
            .all(|one| one.webhook_id() == letter.text("delivery_id") && one.body == received[0].body)
    );
    assert!(received[3].is_signed_by(hook.text("secret")));
    app.post(&path(&letter, "/redrive"), None).as_(&admin).refused(409).await;
    app.post(&path(&letter, "/discard"), json!({"reason": "x"})).as_(&admin).refused(409).await;
    let hook = app.read(&admin, &format!("/v1/webhooks/{}", hook.text("id"))).await;
    assert_eq!(hook["failing_since"], Value::Null);
    app.finish().await;
}

async fn a_broken_one_gives_it_up_again(backend: Backend) {
    let app = TestApp::start(backend).await;
    let admin = app.user("Root").await;
    let (sink, _hook, letter) = bury(&app, &admin).await;
    app.post(&path(&letter, "/redrive"), json!({})).as_(&admin).expect(202).await;
    app.drain().await;
    assert_eq!(sink.received().len(), 6, "with all its tries before it");
    let dead = app.list(&admin, "/v1/admin/dead-letters?state=dead").await;
    assert_eq!((dead.len(), dead[0]["delivery_id"].clone()), (1, letter["delivery_id"].clone()));
    assert_eq!(dead[0].list("attempts").len(), 6, "its whole history");
    app.post(&path(&dead[0], "/discard"), json!({"reason": "the receiver was retired"}))
        .as_(&admin)
        .expect(200)
        .await;
    app.finish().await;
}

async fn an_edited_payload_is_sent(backend: Backend) {
    let app = TestApp::start(backend).await;
    let admin = app.user("Root").await;
    let (sink, hook, letter) = bury(&app, &admin).await;
    for bad in [json!({"payload": "text"}), json!({"payload": [1]}), json!({"paylod": {}})] {
        app.post(&path(&letter, "/redrive"), bad).as_(&admin).refused(422).await;
    }
    sink.always(Answer::status(204));
    let mut payload = letter["payload"].clone();
    payload["body"] = json!("{\"edited\":true}");
    app.post(&path(&letter, "/redrive"), json!({"payload": payload})).as_(&admin).expect(202).await;
    app.drain().await;
    let last = sink.received().remove(3);
    assert_eq!(last.event(), json!({"edited": true}));
    assert!(last.is_signed_by(hook.text("secret")));
    app.finish().await;
}

async fn a_letter_is_put_away(backend: Backend) {
    let app = TestApp::start(backend).await;
    let admin = app.user("Root").await;
    let (sink, _hook, letter) = bury(&app, &admin).await;
    let discard = |body: Value| app.post(&path(&letter, "/discard"), body).as_(&admin);
    for bad in
        [json!({}), json!({"reason": ""}), json!({"reason": "a\nb"}), json!({"reason": "x".repeat(501)})]
    {
        assert_eq!(discard(bad).refused(422).await.texts("errors", "pointer"), ["/reason"]);
    }
    let away = discard(json!({"reason": "the receiver was retired"})).expect(200).await.json();
    assert_eq!((away.text("state"), away.text("resolve_reason")), ("discarded", "the receiver was retired"));
    app.post(&path(&letter, "/redrive"), None).as_(&admin).refused(409).await;
    app.drain().await;
    assert_eq!(sink.received().len(), 3, "nothing more is sent");
    app.finish().await;
}

async fn of_many_decisions_one_counts(backend: Backend) {
    let app = TestApp::start(backend).await;
    let admin = app.user("Root").await;
    let (sink, _hook, letter) = bury(&app, &admin).await;
    sink.always(Answer::status(204));
    let decide = |i: usize| match i % 2 {
        0 => app.post(&path(&letter, "/redrive"), None).as_(&admin).send(),
        _ => app.post(&path(&letter, "/discard"), json!({"reason": "x"})).as_(&admin).send(),
    };
    let answers = join_all((0..8).map(decide)).await;
    let mut statuses: Vec<u16> = answers.iter().map(|answer| answer.status).collect();
    statuses.sort_unstable();
    assert!(
        [200, 202].contains(&statuses[0]) && statuses[1..].iter().all(|status| *status == 409),
        "{statuses:?}"
    );
    app.drain().await;
    assert_eq!(sink.received().len(), if statuses[0] == 202 { 4 } else { 3 });
    app.finish().await;
}
