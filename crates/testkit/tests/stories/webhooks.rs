//! Webhooks: what is sent, how it is proven, and what becomes of receivers that fail.

use std::{collections::HashSet, time::Duration};

use futures::future::join_all;
use serde_json::{Value, json};
use taskpost_testkit::{
    Answer, Backend, Fields as _, Part, Received, TestApp, User, WebhookSink, both, until,
};

both!(
    an_event_is_delivered_and_proven,
    an_owner_gets_what_an_owner_sees,
    an_owner_gets_what_happens_in_projects_that_they_may_read,
    a_projects_webhook_gets_what_happens_there,
    a_projects_webhook_ends_with_it,
    types_narrow_what_is_sent,
    a_failing_receiver_is_tried_again,
    a_receiver_says_when_to_come_back,
    a_receiver_that_is_gone_is_switched_off,
    a_slow_or_broken_answer_is_a_failure,
    a_stuck_receiver_delays_nobody_else,
    redirects_are_not_followed,
    a_new_secret_signs_beside_the_old_one,
    a_test_goes_the_same_way,
    a_webhook_is_changed_and_deleted,
    strangers_know_of_no_webhook,
);

/// The types of what came, sorted, because two of them may change places on their way.
fn types(sink: &WebhookSink) -> Vec<String> {
    let mut types: Vec<_> = sink.received().iter().map(|one| one.event().text("type").to_owned()).collect();
    types.sort();
    types
}

async fn attempts(app: &TestApp, user: &User, hook: &Value) -> Vec<Value> {
    let path = format!("/v1/webhooks/{}/attempts", hook.text("id"));
    let mut attempts = app.list(user, &path).await;
    attempts.reverse();
    attempts
}

async fn an_event_is_delivered_and_proven(backend: Backend) {
    let app = TestApp::start(backend).await;
    let ada = app.user("Ada").await;
    let sink = WebhookSink::start().await;
    let hook = app.hook(&ada, &sink, &["*"]).await;
    assert!(hook.text("secret").starts_with("whsec_"));
    let made = app.post("/v1/tasks", json!({"title": "Réparer \u{1F6D7}"})).as_(&ada).expect(201).await;
    app.drain().await;

    let received = sink.received().remove(0);
    assert_eq!((received.method.as_str(), received.path.as_str()), ("POST", "/hook"));
    assert_eq!(received.header("content-type"), "application/cloudevents+json");
    assert!(received.is_signed_by(hook.text("secret")));
    let mut changed = received.clone();
    changed.body.push(' ');
    assert!(!changed.is_signed_by(hook.text("secret")));
    assert_eq!(received.event(), app.read(&ada, &format!("/v1/events/{}", made.header("event-id"))).await);

    let attempts = attempts(&app, &ada, &hook).await;
    assert_eq!(attempts.len(), 1);
    assert_eq!(attempts[0].text("delivery_id"), received.webhook_id());
    assert_eq!((attempts[0].text("outcome"), attempts[0].int("status_code")), ("delivered", 204));
    app.finish().await;
}

async fn an_owner_gets_what_an_owner_sees(backend: Backend) {
    let app = TestApp::start(backend).await;
    let (admin, ada, bob) = (app.user("Root").await, app.user("Ada").await, app.user("Bob").await);
    let (of_admin, of_bob) = (WebhookSink::start().await, WebhookSink::start().await);
    app.hook(&admin, &of_admin, &["task.*"]).await;
    app.hook(&bob, &of_bob, &["task.*"]).await;
    app.task(&ada, json!({"title": "hidden"})).await;
    app.task(&ada, json!({"title": "shown", "assignee_id": bob.id})).await;
    app.drain().await;
    assert_eq!(of_admin.received().len(), 3);
    let titles: Vec<_> =
        of_bob.received().iter().map(|one| one.event()["data"]["task"].text("title").to_owned()).collect();
    assert_eq!(titles, ["shown", "shown"]);
    app.finish().await;
}

async fn an_owner_gets_what_happens_in_projects_that_they_may_read(backend: Backend) {
    let app = TestApp::start(backend).await;
    app.user("Root").await;
    let (ada, bob, eve) = (app.user("Ada").await, app.user("Bob").await, app.user("Eve").await);
    let project = app.project(&ada, json!({"title": "Operations", "key": "OPS"})).await;
    let open = json!({"title": "Commons", "key": "ALL", "visibility": "internal"});
    let open = app.project(&ada, open).await;
    let (of_bob, of_eve) = (WebhookSink::start().await, WebhookSink::start().await);
    app.hook(&bob, &of_bob, &["*"]).await;
    app.hook(&eve, &of_eve, &["*"]).await;
    app.member(&ada, &project, &bob, "viewer").await;
    for project in [&project, &open] {
        app.task(&ada, json!({"title": "a", "project_id": project["id"]})).await;
    }
    app.drain().await;
    assert_eq!(types(&of_bob), ["project.member_added", "task.created", "task.created"]);
    assert_eq!(types(&of_eve), ["task.created"]);

    let member = format!("/v1/projects/{}/members/{}", project.text("id"), bob.id);
    app.delete(&member).as_(&ada).expect(204).await;
    app.task(&ada, json!({"title": "b", "project_id": project["id"]})).await;
    app.drain().await;
    let mut expected = vec!["project.member_added", "project.member_removed", "task.created", "task.created"];
    assert_eq!(types(&of_bob), expected, "who is out gets that they are, and no more");
    app.member(&ada, &project, &bob, "viewer").await;
    app.drain().await;
    expected.insert(0, "project.member_added");
    assert_eq!(types(&of_bob), expected);
    app.finish().await;
}

async fn a_projects_webhook_gets_what_happens_there(backend: Backend) {
    let app = TestApp::start(backend).await;
    app.user("Root").await;
    let (ada, bob, eve) = (app.user("Ada").await, app.user("Bob").await, app.user("Eve").await);
    let project = app.project(&ada, json!({"title": "Operations", "key": "OPS"})).await;
    let other = app.project(&ada, json!({"title": "Other", "key": "OTH"})).await;
    app.member(&ada, &project, &bob, "member").await;
    let sink = WebhookSink::start().await;
    let hook = |user: &User, project: &Value| {
        let hook = json!({"url": sink.url("/hook"), "event_types": ["task.*"], "project_id": project});
        app.post("/v1/webhooks", hook).as_(user)
    };
    hook(&bob, &project["id"]).refused(403).await;
    // Of a project that one may not know of no more is said than of none.
    let foreign = hook(&eve, &project["id"]).refused(422).await;
    let none = hook(&eve, &json!("0198f0c0-0000-7000-8000-000000000000")).refused(422).await;
    assert_eq!(foreign.texts("errors", "pointer"), ["/project_id"]);
    assert_eq!(foreign["errors"], none["errors"]);

    let made = hook(&ada, &project["id"]).expect(201).await.json();
    assert_eq!(made["project_id"], project["id"]);
    for (user, fields) in [
        (&ada, json!({"title": "hers", "project_id": project["id"]})),
        (&bob, json!({"title": "his", "project_id": project["id"]})),
        (&ada, json!({"title": "elsewhere", "project_id": other["id"]})),
        (&ada, json!({"title": "personal"})),
    ] {
        app.task(user, fields).await;
    }
    app.drain().await;
    let mut titles: Vec<_> =
        sink.received().iter().map(|one| one.event()["data"]["task"].text("title").to_owned()).collect();
    titles.sort();
    assert_eq!(titles, ["hers", "his"]);
    app.finish().await;
}

async fn a_projects_webhook_ends_with_it(backend: Backend) {
    let app = TestApp::start(backend).await;
    app.user("Root").await;
    let ada = app.user("Ada").await;
    let project = app.project(&ada, json!({"title": "Operations", "key": "OPS"})).await;
    let sink = WebhookSink::start().await;
    let hook = json!({"url": sink.url("/hook"), "event_types": ["task.*", "project.*"], "project_id": project["id"]});
    let hook = app.post("/v1/webhooks", hook).as_(&ada).expect(201).await.json();
    app.task(&ada, json!({"title": "Fix the lift", "project_id": project["id"]})).await;
    app.delete(&format!("/v1/projects/{}", project.text("id"))).as_(&ada).expect(204).await;
    app.drain().await;
    // What happened last is told as well.
    let mut told = types(&sink);
    told.sort_unstable();
    assert_eq!(told, ["project.deleted", "project.member_removed", "task.created", "task.deleted"]);
    let path = format!("/v1/webhooks/{}", hook.text("id"));
    app.post(&format!("{path}/disable"), None).as_(&ada).expect(200).await;
    app.post(&format!("{path}/enable"), None).as_(&ada).refused(409).await;
    app.delete(&path).as_(&ada).expect(204).await;
    app.finish().await;
}

async fn types_narrow_what_is_sent(backend: Backend) {
    let app = TestApp::start(backend).await;
    let ada = app.user("Ada").await;
    let (exact, family) = (WebhookSink::start().await, WebhookSink::start().await);
    app.hook(&ada, &exact, &["task.completed", "user.logged_in"]).await;
    app.hook(&ada, &family, &["user.*"]).await;
    let task = app.task(&ada, json!({"title": "a"})).await;
    app.move_task(&ada, &task, json!({"to": "done", "resolution": "done"})).await;
    app.login(&ada).await;
    app.drain().await;
    assert_eq!(types(&exact), ["task.completed", "user.logged_in"]);
    assert_eq!(types(&family), ["user.logged_in"]);
    for bad in [json!([]), json!(["task"]), json!(["task.unknown"]), json!(["ta*"]), json!("task.*")] {
        let hook = json!({"url": exact.url("/"), "event_types": bad});
        app.post("/v1/webhooks", hook).as_(&ada).refused(422).await;
    }
    app.finish().await;
}

async fn a_failing_receiver_is_tried_again(backend: Backend) {
    let app = TestApp::start(backend).with("RETRY_DELAYS", "20ms,40ms,60ms,80ms").await;
    let ada = app.user("Ada").await;
    let sink = WebhookSink::start().await;
    let hook = app.hook(&ada, &sink, &["task.created"]).await;
    sink.script([Answer::status(500), Answer::status(408), Answer::reset(), Answer::status(429)]);
    app.task(&ada, json!({"title": "a"})).await;
    app.drain().await;
    let received = sink.received();
    assert_eq!(received.len(), 5);
    let ids: HashSet<&str> = received.iter().map(Received::webhook_id).collect();
    assert_eq!(ids.len(), 1, "the same id on every try");
    for (pair, delay) in received.windows(2).zip([20, 40, 60, 80]) {
        assert!(pair[1].at - pair[0].at >= Duration::from_millis(delay));
    }
    for one in &received {
        assert!(one.is_signed_by(hook.text("secret")));
        assert_eq!(one.body, received[0].body);
    }
    let attempts = attempts(&app, &ada, &hook).await;
    let seen: Vec<_> = attempts
        .iter()
        .map(|one| (one.int("number"), one.text("outcome"), one["status_code"].as_i64()))
        .collect();
    let expected = [
        (1, "failed", Some(500)),
        (2, "failed", Some(408)),
        (3, "failed", None),
        (4, "failed", Some(429)),
        (5, "delivered", Some(204)),
    ];
    assert_eq!(seen, expected);
    let hook = app.read(&ada, &format!("/v1/webhooks/{}", hook.text("id"))).await;
    assert_eq!((&hook["enabled"], &hook["failing_since"]), (&json!(true), &Value::Null));
    app.finish().await;
}

async fn a_receiver_says_when_to_come_back(backend: Backend) {
    let app = TestApp::start(backend).with("RETRY_DELAYS", "800ms").await;
    let ada = app.user("Ada").await;
    let sink = WebhookSink::start().await;
    app.hook(&ada, &sink, &["task.created"]).await;
    sink.script([Answer::status(429).header("retry-after", "1")]);
    app.task(&ada, json!({"title": "a"})).await;
    let received = sink.wait_for(2).await;
    assert!(received[1].at - received[0].at >= Duration::from_secs(1), "sooner than it asked for");
    app.finish().await;
}

async fn a_receiver_that_is_gone_is_switched_off(backend: Backend) {
    let app = TestApp::start(backend).await;
    let (_admin, ada) = (app.user("Root").await, app.user("Ada").await);
    let (sink, watch) = (WebhookSink::start().await, WebhookSink::start().await);
    let hook = app.hook(&ada, &sink, &["task.created"]).await;
    app.hook(&ada, &watch, &["endpoint.*", "delivery.*"]).await;
    sink.script([Answer::status(410)]);
    app.task(&ada, json!({"title": "a"})).await;
    app.drain().await;
    let path = format!("/v1/webhooks/{}", hook.text("id"));
    let off = app.read(&ada, &path).await;
    assert_eq!(off["enabled"], json!(false));
    assert!(off.text("disabled_reason").contains("410"), "{off}");
    // Its owner hears of it by another webhook.
    assert_eq!(types(&watch), ["delivery.exhausted", "endpoint.disabled"]);
    app.task(&ada, json!({"title": "b"})).await;
    app.drain().await;
    assert_eq!(sink.received().len(), 1, "nothing is sent while it is off");
    app.post(&format!("{path}/test"), None).as_(&ada).refused(409).await;
    let on = app.post(&format!("{path}/enable"), None).as_(&ada).expect(200).await.json();
    assert_eq!((&on["enabled"], &on["disabled_reason"]), (&json!(true), &Value::Null));
    app.task(&ada, json!({"title": "c"})).await;
    app.drain().await;
    assert_eq!(sink.received().len(), 2);
    app.expect_dead_letters();
    app.finish().await;
}

async fn a_slow_or_broken_answer_is_a_failure(backend: Backend) {
    let app = TestApp::start(backend).with("WEBHOOK_TIMEOUT", "3s").await;
    let ada = app.user("Ada").await;
    let sink = WebhookSink::start().await;
    let hook = app.hook(&ada, &sink, &["task.created"]).await;
    sink.script([Answer::hang(), Answer::status(200).after(Duration::from_mins(1))]);
    app.task(&ada, json!({"title": "a"})).await;
    app.drain().await;
    // A body without end is read no further than it takes, and what was said before it counts.
    sink.script([Answer::huge(50_000_000)]);
    app.task(&ada, json!({"title": "b"})).await;
    app.drain().await;
    let seen = attempts(&app, &ada, &hook).await;
    let outcomes: Vec<&str> = seen.iter().map(|one| one.text("outcome")).collect();
    assert_eq!(outcomes, ["timed_out", "timed_out", "delivered", "delivered"]);
    assert!(seen[3].text("excerpt").len() <= 1_024);
    app.finish().await;
}

async fn a_stuck_receiver_delays_nobody_else(backend: Backend) {
    // RabbitMQ sends no more ahead than this, and what waits for a seat is among it for up to a second.
    let concurrency = if Part::RabbitMq.is_used() { "16" } else { "4" };
    let app = TestApp::start(backend)
        .with("DELIVERY_CONCURRENCY", concurrency)
        .with("WEBHOOK_CONCURRENCY", "2")
        .with("WEBHOOK_TIMEOUT", "10s")
        .with("RETRY_DELAYS", "1h")
        .await;
    let ada = app.user("Ada").await;
    let (stuck, quick) = (WebhookSink::start().await, WebhookSink::start().await);
    stuck.always(Answer::hang());
    app.hook(&ada, &stuck, &["task.created"]).await;
    app.hook(&ada, &quick, &["task.created"]).await;
    let tasks: Vec<Value> = (0..12).map(|i| json!({"title": format!("{i}")})).collect();
    app.post("/v1/tasks/batch", json!({"tasks": tasks})).as_(&ada).expect(207).await;
    quick.wait_for(12).await;
    stuck.wait_for(2).await;
    assert_eq!(stuck.received().len(), 2, "no more at once than it has seats");
    stuck.always(Answer::status(204));
    stuck.wait_for(12).await;
    app.drain().await;
    // The two that hung cost a try; those that waited for a seat did not.
    assert_eq!(app.number("SELECT count(*) FROM deliveries WHERE finished_at IS NULL").await, 2);
    assert_eq!(app.number("SELECT count(*) FROM deliveries WHERE attempt > 1").await, 0);
    app.expect_unfinished();
    app.finish().await;
}

async fn redirects_are_not_followed(backend: Backend) {
    let app = TestApp::start(backend).await;
    let ada = app.user("Ada").await;
    let (sink, inside) = (WebhookSink::start().await, WebhookSink::start().await);
    let hook = app.hook(&ada, &sink, &["task.created"]).await;
    sink.script([Answer::redirect(&inside.url("/secret"))]);
    app.task(&ada, json!({"title": "a"})).await;
    app.drain().await;
    assert!(inside.received().is_empty(), "a redirect was followed");
    let seen = attempts(&app, &ada, &hook).await;
    assert_eq!(seen.len(), 1);
    assert_eq!((seen[0].text("outcome"), seen[0].int("status_code")), ("rejected", 307));
    app.expect_dead_letters();
    app.finish().await;
}

async fn a_new_secret_signs_beside_the_old_one(backend: Backend) {
    let app = TestApp::start(backend).await;
    let ada = app.user("Ada").await;
    let sink = WebhookSink::start().await;
    let hook = app.hook(&ada, &sink, &["task.created"]).await;
    let path = format!("/v1/webhooks/{}", hook.text("id"));
    let rotated = app.post(&format!("{path}/rotate-secret"), None).as_(&ada).expect(200).await.json();
    assert_ne!(rotated.text("secret"), hook.text("secret"));
    assert_eq!(app.read(&ada, &path).await["secret"], Value::Null, "shown once");
    app.task(&ada, json!({"title": "a"})).await;
    app.drain().await;
    let received = &sink.received()[0];
    assert_eq!(received.header("webhook-signature").split(' ').count(), 2);
    for secret in [hook.text("secret"), rotated.text("secret")] {
        assert!(received.is_signed_by(secret));
    }
    assert!(!received.is_signed_by("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"));
    app.finish().await;
}

async fn a_test_goes_the_same_way(backend: Backend) {
    let app = TestApp::start(backend).await;
    let ada = app.user("Ada").await;
    let sink = WebhookSink::start().await;
    let hook = app.hook(&ada, &sink, &["task.created"]).await;
    let path = format!("/v1/webhooks/{}/test", hook.text("id"));
    let test = app.post(&path, None).as_(&ada).expect(202).await.json();
    app.drain().await;
    let received = sink.received().remove(0);
    assert_eq!(received.webhook_id(), test.text("delivery_id"));
    assert_eq!((received.event().text("type"), received.event().int("position")), ("webhook.test", 0));
    assert!(received.is_signed_by(hook.text("secret")));
    app.finish().await;
}

async fn a_webhook_is_changed_and_deleted(backend: Backend) {
    let app = TestApp::start(backend).with("RETRY_DELAYS", "1h").await;
    let ada = app.user("Ada").await;
    let (sink, other) = (WebhookSink::start().await, WebhookSink::start().await);
    let hook = app.hook(&ada, &sink, &["task.created"]).await;
    let path = format!("/v1/webhooks/{}", hook.text("id"));
    let change = |patch: Value| app.patch(&path, patch).as_(&ada);
    let changed = change(json!({"url": other.url("/new"), "description": "b"}))
        .header("if-match", "\"v1\"")
        .expect(200)
        .await;
    assert_eq!((changed.header("etag"), changed.json().text("description")), ("\"v2\"", "b"));
    change(json!({"description": "c"})).header("if-match", "\"v1\"").refused(412).await;
    for (bad, pointer) in [
        (json!({"url": "ftp://example.org/"}), "/url"),
        (json!({"event_types": ["nonsense"]}), "/event_types/0"),
        (json!({"secret": "whsec_AAAA"}), "/secret"),
        (json!({"enabled": false}), "/enabled"),
    ] {
        assert_eq!(change(bad).refused(422).await.texts("errors", "pointer"), [pointer]);
    }
    let both =
        ["d", "e"].map(|text| change(json!({"description": text})).header("if-match", "\"v2\"").send());
    let mut statuses = join_all(both).await.iter().map(|answer| answer.status).collect::<Vec<_>>();
    statuses.sort_unstable();
    assert!(
        statuses[0] == 200 && [409, 412].contains(&statuses[1]),
        "of two changes to one version {statuses:?}"
    );
    app.task(&ada, json!({"title": "a"})).await;
    app.drain().await;
    assert_eq!((sink.received().len(), other.received().len()), (0, 1));

    // What waits for it is called back with it.
    other.always(Answer::status(503));
    app.task(&ada, json!({"title": "b"})).await;
    other.wait_for(2).await;
    until(|| async {
        match attempts(&app, &ada, &hook).await.len() {
            2 => Ok(()),
            count => Err(format!("{count} attempts are noted")),
        }
    })
    .await;
    app.delete(&path).as_(&ada).expect(204).await;
    app.get(&path).as_(&ada).refused(404).await;
    assert!(app.list(&ada, "/v1/webhooks").await.is_empty());
    app.finish().await;
}

async fn strangers_know_of_no_webhook(backend: Backend) {
    let app = TestApp::start(backend).await;
    let (admin, ada, eve) = (app.user("Root").await, app.user("Ada").await, app.user("Eve").await);
    let sink = WebhookSink::start().await;
    let hook = app.hook(&ada, &sink, &["*"]).await;
    let path = format!("/v1/webhooks/{}", hook.text("id"));
    let requests = || {
        let post = |action: &str| app.post(&format!("{path}/{action}"), None);
        [
            app.get(&path),
            app.patch(&path, json!({"description": "x"})),
            app.delete(&path),
            post("test"),
            post("rotate-secret"),
            post("enable"),
            post("disable"),
            app.get(&format!("{path}/attempts")),
        ]
    };
    for request in requests() {
        request.as_(&eve).refused(404).await;
    }
    for request in requests() {
        request.refused(401).await;
    }
    assert!(app.list(&eve, "/v1/webhooks").await.is_empty());
    assert_eq!(app.read(&admin, &path).await["url"], hook["url"]);
    assert_eq!(app.read(&ada, &path).await.int("version"), 1, "nothing happened to it");
    app.finish().await;
}
