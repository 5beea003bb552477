//! Tokens for machines: what each may do, and how it ends.

use std::time::Duration;

use futures::future::join_all;
use serde_json::{Value, json};
use taskpost_common::Clock;
use taskpost_testkit::{Backend, Fields as _, Request, TestApp, User, both, until};

both!(
    a_secret_is_shown_once,
    a_token_does_what_its_scopes_say,
    no_token_reaches_the_account_itself,
    an_admins_token_is_no_admin_without_the_scope,
    a_revoked_token_is_refused_at_once,
    a_token_ends_with_its_owner,
    a_token_has_an_end,
    a_token_has_the_roles_of_now,
    wrong_tokens_are_not_made,
    there_are_at_most_a_hundred,
    the_last_use_is_noted,
    nobody_knows_of_others_tokens,
);

async fn make(app: &TestApp, user: &User, scopes: &[&str]) -> Value {
    let token = json!({"name": "a machine", "scopes": scopes});
    app.post("/v1/me/tokens", token).as_(user).expect(201).await.json()
}

fn path(token: &Value) -> String {
    format!("/v1/me/tokens/{}", token.text("id"))
}

async fn a_secret_is_shown_once(backend: Backend) {
    let app = TestApp::start(backend).await;
    let ada = app.user("Ada").await;
    let body = json!({"name": "nightly build", "scopes": ["write", "read", "read"]});
    let answer = app.post("/v1/me/tokens", body).as_(&ada).key("k").expect(201).await;
    let made = answer.json();
    assert_eq!(answer.header("location"), path(&made));
    assert_eq!(answer.header("cache-control"), "no-store");
    let secret = made.text("secret");
    assert!(secret.starts_with("tp_") && secret.len() == 46, "{secret}");
    assert_eq!((&made["scopes"], &made["expires_at"]), (&json!(["read", "write"]), &Value::Null));

    let shown = app.get(&path(&made)).as_(&ada).expect(200).await;
    assert!(!shown.text().contains(secret) && shown.json().get("secret").is_none());
    let again = make(&app, &ada, &["read"]).await;
    let renamed = app.patch(&path(&made), json!({"name": "weekly build"})).as_(&ada).expect(200).await;
    assert_eq!(renamed.json().text("name"), "weekly build");
    let names = app.read(&ada, "/v1/me/tokens").await.texts("data", "name");
    assert_eq!(names, ["a machine", "weekly build"]);
    let all = app.list(&ada, "/v1/me/tokens").await;
    assert_eq!(app.all_pages(&ada, "/v1/me/tokens?limit=1").await, all);
    assert!(!json!(all).to_string().contains("tp_"), "{all:?}");
    app.get("/v1/me").token(secret).expect(200).await;
    assert_ne!(again["secret"], made["secret"]);
    // A digest has 43 letters, and a secret 46.
    assert_eq!(app.number("SELECT count(*) FROM api_tokens WHERE length(digest) <> 43").await, 0);
    let rows = app.list(&ada, "/v1/admin/audit-log?action=token.created").await;
    assert_eq!(rows.len(), 2);
    assert!(!json!(rows).to_string().contains(secret));
    app.finish().await;
}

/// What is asked, what it answers to who may, and which scopes may.
type Row<'a> = (&'a str, &'a dyn Fn() -> Request, u16, &'a [&'a str]);

async fn a_token_does_what_its_scopes_say(backend: Backend) {
    let app = TestApp::start(backend).await;
    let ada = app.user("Ada").await;
    let task = app.task(&ada, json!({"title": "a"})).await;
    let of_task = format!("/v1/tasks/{}", task.text("id"));
    let (new, some) = (|| json!({"title": "b"}), || json!({"tasks": [{"title": "b"}]}));
    let rows: [Row<'_>; 10] = [
        ("list tasks", &|| app.get("/v1/tasks"), 200, &["read"]),
        ("read a task", &|| app.get(&of_task), 200, &["read"]),
        ("read oneself", &|| app.get("/v1/me"), 200, &["read"]),
        ("read the log", &|| app.get("/v1/events"), 200, &["read"]),
        ("list users", &|| app.get("/v1/users"), 200, &["read"]),
        ("make a task", &|| app.post("/v1/tasks", new()), 201, &["write", "tasks:create"]),
        ("make some tasks", &|| app.post("/v1/tasks/batch", some()), 207, &["write", "tasks:create"]),
        ("change a task", &|| app.patch(&of_task, json!({"priority": "low"})), 200, &["write"]),
        ("read the inbox", &|| app.post("/v1/notifications/read-all", None), 200, &["write"]),
        ("read the audit log", &|| app.get("/v1/admin/audit-log"), 200, &["admin"]),
    ];
    for scope in ["read", "write", "tasks:create", "admin"] {
        let token = make(&app, &ada, &[scope]).await;
        for (what, request, status, may) in &rows {
            let answer = request().token(token.text("secret")).send().await;
            if may.contains(&scope) {
                assert_eq!(answer.status, *status, "{scope} may {what}: {}", answer.text());
                continue;
            }
            assert_eq!(answer.status, 403, "{scope} may not {what}: {}", answer.text());
            let problem = answer.problem();
            assert!(problem.text("detail").contains(may[0]), "{what}: {problem}");
        }
    }
    let all = make(&app, &ada, &["admin", "read", "tasks:create", "write"]).await;
    for (what, request, status, _) in &rows {
        let answer = request().token(all.text("secret")).send().await;
        assert_eq!(answer.status, *status, "{what}: {}", answer.text());
    }
    app.finish().await;
}

async fn no_token_reaches_the_account_itself(backend: Backend) {
    let app = TestApp::start(backend).await;
    let ada = app.user("Ada").await;
    let token = make(&app, &ada, &["admin", "read", "tasks:create", "write"]).await;
    let passwords = json!({"current_password": ada.password, "new_password": "another horse battery"});
    for request in [
        app.post("/v1/auth/logout", None),
        app.patch("/v1/me", json!({"name": "Eve"})),
        app.put("/v1/me/password", passwords),
        app.get("/v1/me/sessions"),
        app.delete("/v1/me/sessions"),
        app.get("/v1/me/tokens"),
        app.post("/v1/me/tokens", json!({"name": "more", "scopes": ["read"]})),
        app.get(&path(&token)),
        app.patch(&path(&token), json!({"name": "more"})),
        app.delete(&path(&token)),
        app.patch(&format!("/v1/users/{}", ada.id), json!({"name": "Eve"})),
    ] {
        let problem = request.token(token.text("secret")).refused(403).await;
        assert!(problem.text("detail").contains("log in"), "{problem}");
    }
    app.get("/v1/me").as_(&ada).expect(200).await;
    assert_eq!(app.list(&ada, "/v1/me/tokens").await.len(), 1);
    app.finish().await;
}

async fn an_admins_token_is_no_admin_without_the_scope(backend: Backend) {
    let app = TestApp::start(backend).await;
    let (admin, ada) = (app.user("Root").await, app.user("Ada").await);
    let task = app.task(&ada, json!({"title": "hidden"})).await;
    let of_task = format!("/v1/tasks/{}", task.text("id"));
    let of_ada = format!("/v1/users/{}", ada.id);
    let plain = make(&app, &admin, &["read", "write"]).await;
    let full = make(&app, &admin, &["admin", "read"]).await;
    app.get(&of_task).token(plain.text("secret")).refused(404).await;
    app.get(&of_task).token(full.text("secret")).expect(200).await;
    let seen = |token: &Value| app.get(&of_ada).token(token.text("secret")).expect(200);
    assert_eq!(seen(&plain).await.json().get("email"), None);
    assert_eq!(seen(&full).await.json().text("email"), ada.email);
    app.finish().await;
}

async fn a_revoked_token_is_refused_at_once(backend: Backend) {
    let app = TestApp::start(backend).await;
    let ada = app.user("Ada").await;
    let (token, other) = (make(&app, &ada, &["read"]).await, make(&app, &ada, &["read"]).await);
    let secret = token.text("secret");
    app.get("/v1/me").token(secret).expect(200).await;
    let twins = [(); 2].map(|()| app.delete(&path(&token)).as_(&ada).send());
    let mut statuses: Vec<u16> = join_all(twins).await.iter().map(|answer| answer.status).collect();
    statuses.sort_unstable();
    assert_eq!(statuses, [204, 404], "of two that end it");
    let revoked = app.get("/v1/me").token(secret).refused(401).await;
    let nonsense = app.get("/v1/me").token("tp_nonsense").refused(401).await;
    let unknown = app.get("/v1/me").token(&format!("tp_{}", "A".repeat(43))).refused(401).await;
    for refused in [&nonsense, &unknown] {
        assert_eq!(refused["detail"], revoked["detail"], "one text for all");
    }
    for request in
        [app.get(&path(&token)), app.delete(&path(&token)), app.patch(&path(&token), json!({"name": "b"}))]
    {
        request.as_(&ada).refused(404).await;
    }
    app.get("/v1/me").token(other.text("secret")).expect(200).await;
    app.get("/v1/me").as_(&ada).expect(200).await;
    assert_eq!(app.list(&ada, "/v1/me/tokens").await.len(), 1);
    let rows = app.list(&ada, "/v1/admin/audit-log?action=token.revoked").await;
    assert_eq!((rows.len(), &rows[0]["subject_id"]), (1, &token["id"]));
    app.finish().await;
}

/// Two processes of one instance.
#[tokio::test(flavor = "multi_thread")]
async fn what_ends_here_ends_there() {
    let app = TestApp::start(Backend::Postgres).await;
    let other = app.beside().await;
    let (admin, ada) = (app.user("Root").await, app.user("Ada").await);
    let (token, kept) = (make(&app, &ada, &["read"]).await, make(&app, &ada, &["read"]).await);
    let refused = async |token: &Value| {
        until(|| async {
            match other.get("/v1/me").token(token.text("secret")).send().await.status {
                401 => Ok(()),
                status => Err(format!("the other process still answers {status}")),
            }
        })
        .await;
    };
    for token in [&token, &kept] {
        other.get("/v1/me").token(token.text("secret")).expect(200).await;
    }
    app.delete(&path(&token)).as_(&ada).expect(204).await;
    refused(&token).await;
    other.get("/v1/me").token(kept.text("secret")).expect(200).await;
    app.delete(&format!("/v1/users/{}", ada.id)).as_(&admin).expect(204).await;
    refused(&kept).await;
    other.finish().await;
    app.finish().await;
}

async fn a_token_ends_with_its_owner(backend: Backend) {
    let app = TestApp::start(backend).await;
    let (admin, ada) = (app.user("Root").await, app.user("Ada").await);
    let token = make(&app, &ada, &["read"]).await;
    let me = || app.get("/v1/me").token(token.text("secret"));
    me().expect(200).await;
    app.delete(&format!("/v1/users/{}", ada.id)).as_(&admin).expect(204).await;
    me().refused(401).await;
    let active = json!({"status": "active"});
    app.patch(&format!("/v1/users/{}", ada.id), active).as_(&admin).expect(200).await;
    me().expect(200).await;
    // A new password ends sessions; what machines do goes on.
    let ada = app.login(&ada).await;
    let passwords = json!({"current_password": ada.password, "new_password": "another horse battery"});
    app.put("/v1/me/password", passwords).as_(&ada).expect(204).await;
    me().expect(200).await;
    app.finish().await;
}

async fn a_token_has_an_end(backend: Backend) {
    let app = TestApp::start(backend).clock(Clock::manual(Clock::system().now())).await;
    let ada = app.user("Ada").await;
    let end = (app.clock().now() + Duration::from_mins(5)).to_rfc3339();
    let token = json!({"name": "a", "scopes": ["read"], "expires_at": end});
    let token = app.post("/v1/me/tokens", token).as_(&ada).expect(201).await.json();
    let me = || app.get("/v1/me").token(token.text("secret"));
    me().expect(200).await;
    app.clock().advance(Duration::from_secs(299));
    me().expect(200).await;
    app.clock().advance(Duration::from_secs(1));
    me().refused(401).await;
    assert_eq!(app.list(&ada, "/v1/me/tokens").await.len(), 1, "it is there to be seen");
    app.finish().await;
}

async fn a_token_has_the_roles_of_now(backend: Backend) {
    let app = TestApp::start(backend).await;
    let (admin, ada) = (app.user("Root").await, app.user("Ada").await);
    let roles = async |roles: Value| {
        let body = json!({"roles": roles});
        app.put(&format!("/v1/users/{}/roles", ada.id), body).as_(&admin).expect(200).await;
    };
    let scopes = json!({"name": "a", "scopes": ["admin"]});
    let problem = app.post("/v1/me/tokens", scopes).as_(&ada).refused(422).await;
    assert_eq!(problem.texts("errors", "pointer"), ["/scopes"]);
    roles(json!(["admin"])).await;
    let token = make(&app, &app.login(&ada).await, &["admin"]).await;
    let audit = || app.get("/v1/admin/audit-log").token(token.text("secret"));
    audit().expect(200).await;
    roles(json!([])).await;
    let problem = audit().refused(403).await;
    assert!(problem.text("detail").contains("role admin"), "{problem}");
    app.finish().await;
}

async fn wrong_tokens_are_not_made(backend: Backend) {
    let app = TestApp::start(backend).await;
    let ada = app.user("Ada").await;
    for (wrong, pointer) in [
        (json!({"scopes": ["read"]}), "/name"),
        (json!({"name": "", "scopes": ["read"]}), "/name"),
        (json!({"name": "a\nb", "scopes": ["read"]}), "/name"),
        (json!({"name": "a"}), "/scopes"),
        (json!({"name": "a", "scopes": []}), "/scopes"),
        (json!({"name": "a", "scopes": ["read", "all"]}), "/scopes/1"),
        (json!({"name": "a", "scopes": "read"}), "/scopes"),
        (json!({"name": "a", "scopes": ["read"], "expires_at": "2020-01-01T00:00:00Z"}), "/expires_at"),
        (json!({"name": "a", "scopes": ["read"], "user_id": ada.id}), "/user_id"),
        (json!({"name": "a", "scopes": ["read"], "secret": "tp_mine"}), "/secret"),
    ] {
        let text = wrong.to_string();
        let problem = app.post("/v1/me/tokens", wrong).as_(&ada).refused(422).await;
        assert_eq!(problem.texts("errors", "pointer"), [pointer], "{text}");
    }
    let token = make(&app, &ada, &["read"]).await;
    for wrong in [json!({}), json!({"name": ""}), json!({"name": "b", "scopes": ["write"]})] {
        app.patch(&path(&token), wrong).as_(&ada).refused(422).await;
    }
    app.get("/v1/me/tokens?scopes=read").as_(&ada).refused(400).await;
    app.post("/v1/me/tokens", json!({"name": "a", "scopes": ["read"]})).refused(401).await;
    app.finish().await;
}

async fn there_are_at_most_a_hundred(backend: Backend) {
    let app = TestApp::start(backend).await;
    let (ada, bob) = (app.user("Ada").await, app.user("Bob").await);
    let token = json!({"name": "a", "scopes": ["read"]});
    for _ in 0..96 {
        app.post("/v1/me/tokens", token.clone()).as_(&ada).expect(201).await;
    }
    let crowd = join_all((0..8).map(|_| app.post("/v1/me/tokens", token.clone()).as_(&ada).send())).await;
    let mut statuses: Vec<u16> = crowd.iter().map(|answer| answer.status).collect();
    statuses.sort_unstable();
    assert_eq!(statuses, [201, 201, 201, 201, 409, 409, 409, 409]);
    let all = app.list(&ada, "/v1/me/tokens?limit=200").await;
    assert_eq!(all.len(), 100);
    app.delete(&path(&all[0])).as_(&ada).expect(204).await;
    app.post("/v1/me/tokens", token.clone()).as_(&ada).expect(201).await;
    app.post("/v1/me/tokens", token).as_(&bob).expect(201).await;
    app.finish().await;
}

async fn the_last_use_is_noted(backend: Backend) {
    let app = TestApp::start(backend).await;
    let ada = app.user("Ada").await;
    let token = make(&app, &ada, &["read"]).await;
    assert_eq!(app.read(&ada, &path(&token)).await["used_at"], Value::Null);
    app.get("/v1/me").token(token.text("secret")).expect(200).await;
    let used = until(|| async {
        let token = app.read(&ada, &path(&token)).await;
        token["used_at"].as_str().map(str::to_owned).ok_or_else(|| token.to_string())
    })
    .await;
    app.get("/v1/me").token(token.text("secret")).expect(200).await;
    assert_eq!(app.read(&ada, &path(&token)).await["used_at"], used, "to the minute");
    app.finish().await;
}

async fn nobody_knows_of_others_tokens(backend: Backend) {
    let app = TestApp::start(backend).await;
    let (admin, ada, eve) = (app.user("Root").await, app.user("Ada").await, app.user("Eve").await);
    let token = make(&app, &ada, &["read"]).await;
    let requests = || {
        [app.get(&path(&token)), app.patch(&path(&token), json!({"name": "mine"})), app.delete(&path(&token))]
    };
    for user in [&eve, &admin] {
        for request in requests() {
            request.as_(user).refused(404).await;
        }
        assert!(app.list(user, "/v1/me/tokens").await.is_empty());
    }
    for request in requests() {
        request.refused(401).await;
    }
    assert_eq!(app.read(&ada, &path(&token)).await.text("name"), "a machine");
    app.finish().await;
}
