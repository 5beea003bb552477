//! Mass assignment: fields that are the product's own are named and refused, and keep their values.

use serde_json::{Value, json};
use taskpost_testkit::{Answer, Backend, Fields as _, TestApp, User, WebhookSink, both};

use crate::{case::Case, row::Row};

both!(row);

/// What a client would like to say for itself, and its value.
fn wishes() -> Vec<(&'static str, Value)> {
    let id = "01920000-0000-7000-8000-000000000001";
    vec![
        ("id", json!(id)),
        ("owner_id", json!(id)),
        ("tenant_id", json!(id)),
        ("user_id", json!(id)),
        ("reporter_id", json!(id)),
        ("role", json!("admin")),
        ("roles", json!(["admin"])),
        ("is_admin", json!(true)),
        ("status", json!("done")),
        ("state", json!("closed")),
        ("key", json!("OPS-1")),
        ("created_at", json!("2001-01-01T00:00:00Z")),
        ("updated_at", json!("2001-01-01T00:00:00Z")),
        ("completed_at", json!("2001-01-01T00:00:00Z")),
        ("version", json!(99)),
        ("comment_count", json!(99)),
        ("plan", json!("enterprise")),
        ("email_verified", json!(true)),
        ("password_hash", json!("x")),
        ("secret", json!("whsec_AAAA")),
        ("enabled", json!(false)),
        ("handle", json!("root")),
        ("user", json!({"roles": ["admin"]})),
    ]
}

/// What there is to be changed.
struct Site {
    admin: User,
    member: User,
    task: String,
    hook: String,
    notification: String,
    letter: String,
}

async fn row(backend: Backend) {
    let mut row = Row::start("Mass assignment", TestApp::start(backend)).await;
    row.app.expect_dead_letters();
    let site = furnish(&row.app).await;
    let before = snapshot(&row.app, &site).await;
    let register = json!({"email": "eve@example.org", "name": "Eve", "password": "correct horse battery"});
    let login = json!({"email": site.member.email, "password": site.member.password});
    let hook = json!({"url": "http://127.0.0.1:9/", "event_types": ["task.created"]});
    let (patch, title) = (json!({"description": "b"}), json!({"title": "a"}));
    let doors = [
        ("POST", "/v1/auth/register".to_owned(), register),
        ("POST", "/v1/auth/login".to_owned(), login),
        ("POST", "/v1/auth/refresh".to_owned(), json!({"refresh_token": "a"})),
        ("POST", "/v1/tasks".to_owned(), title.clone()),
        ("PATCH", site.task.clone(), patch.clone()),
        ("POST", format!("{}/transitions", site.task), json!({"to": "in_progress"})),
        ("PUT", format!("{}/assignee", site.task), json!({"assignee_id": site.member.id})),
        ("POST", "/v1/webhooks".to_owned(), hook),
        ("PATCH", site.hook.clone(), patch),
        ("PATCH", site.notification.clone(), json!({"read": true})),
        ("POST", format!("{}/discard", site.letter), json!({"reason": "a"})),
        ("POST", format!("{}/redrive", site.letter), json!({"payload": {}})),
    ];
    for (method, path, body) in &doors {
        let user = if path.starts_with("/v1/admin") { &site.admin } else { &site.member };
        for (field, value) in wishes() {
            let case = Case::new(method, path, format!("{field} at {method} {path}")).token(&user.token);
            let body = with(body, field, &value).to_string();
            row.run([case.json(body).invalid(&format!("/{field}"))]).await;
        }
    }
    row.run(wishes().iter().map(|(field, value)| in_batch(&site.member, field, &with(&title, field, value))))
        .await;
    let after = snapshot(&row.app, &site).await;
    row.claim("nothing has another value", before == after, || format!("{before:#} became {after:#}"));
    row.end(250).await;
}

fn with(body: &Value, field: &str, value: &Value) -> Value {
    let mut body = body.clone();
    body[field] = value.clone();
    body
}

/// In a batch the one task is refused, and named.
fn in_batch(user: &User, field: &str, task: &Value) -> Case {
    let pointer = format!("/tasks/0/{field}");
    let case = Case::new("POST", "/v1/tasks/batch", format!("{field} in a batch")).token(&user.token);
    case.json(json!({"tasks": [task]}).to_string()).expect(&[207]).unchanged().check(move |answer| {
        let result = &answer.json()["results"][0];
        let refused = result["status"] == 422 && result["problem"]["errors"][0]["pointer"] == pointer;
        if refused { Ok(()) } else { Err(format!("not refused at {pointer}: {result}")) }
    })
}

/// A task, a webhook, a notification and a dead letter.
async fn furnish(app: &TestApp) -> Site {
    let (admin, member) = (app.user("Ada").await, app.user("Bob").await);
    let sink = WebhookSink::start().await;
    sink.always(Answer::status(400));
    let hook = json!({"url": sink.url("/"), "event_types": ["task.created"]});
    let hook = app.post("/v1/webhooks", hook).as_(&member).expect(201).await.json();
    let task = json!({"title": "a", "assignee_id": member.id});
    let task = app.post("/v1/tasks", task).as_(&admin).expect(201).await.json();
    app.drain().await;
    let inbox = app.get("/v1/notifications?type=task_assigned").as_(&member).expect(200).await.json();
    let letters = app.get("/v1/admin/dead-letters").as_(&admin).expect(200).await.json();
    Site {
        task: format!("/v1/tasks/{}", task.text("id")),
        hook: format!("/v1/webhooks/{}", hook.text("id")),
        notification: format!("/v1/notifications/{}", inbox.list("data")[0].text("id")),
        letter: format!("/v1/admin/dead-letters/{}", letters.list("data")[0].text("id")),
        admin,
        member,
    }
}

/// Everything that a wish could have changed, as its owner sees it.
async fn snapshot(app: &TestApp, site: &Site) -> Value {
    let mut seen = Vec::new();
    for (user, path) in [
        (&site.member, "/v1/me"),
        (&site.admin, "/v1/me"),
        (&site.member, &site.task),
        (&site.member, &site.hook),
        (&site.member, "/v1/notifications"),
        (&site.member, "/v1/tasks"),
        (&site.member, "/v1/webhooks"),
        (&site.admin, &site.letter),
    ] {
        seen.push(app.get(path).as_(user).expect(200).await.json());
    }
    Value::Array(seen)
}
