//! Who there is, who sees what of whom, and what admins do about it.

use std::collections::HashSet;

use futures::future::join_all;
use serde_json::{Value, json};
use taskpost_testkit::{Backend, Fields as _, TestApp, User, both};

both!(
    a_stranger_sees_a_profile,
    users_are_found_by_their_names,
    the_list_has_pages,
    an_admin_makes_an_account,
    an_account_is_changed_by_its_holder_and_by_admins,
    other_roles_end_the_sessions,
    who_is_disabled_is_out,
    the_last_admin_stays,
    of_two_admins_one_stays,
    who_did_what_is_written_down,
);

fn path(user: &User) -> String {
    format!("/v1/users/{}", user.id)
}

async fn set_roles(app: &TestApp, admin: &User, user: &User, roles: Value) -> Value {
    let roles = json!({"roles": roles});
    app.put(&format!("{}/roles", path(user)), roles).as_(admin).expect(200).await.json()
}

/// Type and data of the events about a user from `since` on, in their order.
async fn told(app: &TestApp, admin: &User, since: usize, user: &User) -> Vec<(String, Value)> {
    app.drain().await;
    let events = app.events(admin).await.split_off(since);
    let about = events.into_iter().filter(|event| event["data"]["user"]["id"] == *user.id);
    about.map(|event| (event.text("type").to_owned(), event["data"].clone())).collect()
}

fn types(told: &[(String, Value)]) -> Vec<&str> {
    told.iter().map(|(name, _)| name.as_str()).collect()
}

async fn a_stranger_sees_a_profile(backend: Backend) {
    let app = TestApp::start(backend).await;
    let (admin, ada, bob) = (app.user("Root").await, app.user("Ada").await, app.user("Bob").await);
    let whole = app.read(&bob, "/v1/me").await;
    let profile = app.get(&path(&bob)).as_(&ada).expect(200).await;
    assert_eq!(profile.header("etag"), "\"v1\"");
    let profile = profile.json();
    let fields: HashSet<String> = profile.as_object().into_iter().flatten().map(|(k, _)| k.clone()).collect();
    let seen = ["id", "handle", "name", "roles", "status", "timezone", "created_at"];
    assert_eq!(fields, HashSet::from(seen.map(str::to_owned)));
    for name in seen {
        assert_eq!(profile[name], whole[name], "{name}");
    }
    for who in [&admin, &bob] {
        assert_eq!(app.read(who, &path(&bob)).await, whole);
    }
    let listed = app.list(&ada, "/v1/users").await;
    let emails: Vec<Option<&str>> = listed.iter().map(|user| user["email"].as_str()).collect();
    assert_eq!(emails, [None, Some(ada.email.as_str()), None]);
    let listed = app.list(&admin, "/v1/users").await;
    assert!(listed.iter().all(|user| user["email"].is_string()), "{listed:?}");
    assert!(!json!(listed).to_string().contains("argon2"));
    for unknown in ["01920000-0000-7000-8000-000000000001", "ada", "1"] {
        app.get(&format!("/v1/users/{unknown}")).as_(&ada).refused(404).await;
    }
    app.finish().await;
}

async fn users_are_found_by_their_names(backend: Backend) {
    let app = TestApp::start(backend).await;
    let ada = app.user("Ada Lovelace").await;
    for name in ["Bob 100%", "Eve_Online", "Ünal Ärzte"] {
        app.user(name).await;
    }
    let (bob, eve, unal) = ("Bob 100%", "Eve_Online", "Ünal Ärzte");
    for (part, found) in [
        ("LOVE", &["Ada Lovelace"][..]),
        ("ada-love", &["Ada Lovelace"]),
        ("o", &[eve, bob, "Ada Lovelace"]),
        ("100%25", &[bob]),
        ("%25", &[bob]),
        ("_", &[eve]),
        ("%25_", &[]),
        ("%5C", &[]),
        ("%25%25", &[]),
        ("%C3%BCnal", &[unal]),
        ("%C3%84RZTE", &[unal]),
        ("%27%20OR%201%3D1--", &[]),
    ] {
        let names: Vec<String> =
            app.read(&ada, &format!("/v1/users?name={part}")).await.texts("data", "name");
        assert_eq!(names, found, "{part}");
    }
    for (query, pointer) in [
        ("name=", "?name"),
        ("name=a%00", "?name"),
        (&format!("name={}", "a".repeat(101)), "?name"),
        ("email=ada1%40example.org", "?email"),
        ("sort=password", "?sort"),
        ("name=a&name=b", "?name"),
    ] {
        let problem = app.get(&format!("/v1/users?{query}")).as_(&ada).refused(400).await;
        assert_eq!(problem.texts("errors", "pointer"), [pointer], "{query}");
    }
    app.finish().await;
}

async fn the_list_has_pages(backend: Backend) {
    let app = TestApp::start(backend).await;
    let ada = app.user("Ada").await;
    for i in 0..6 {
        app.user(&format!("User {i}")).await;
    }
    let all = app.list(&ada, "/v1/users").await;
    assert_eq!(all.len(), 7);
    assert_eq!(app.all_pages(&ada, "/v1/users?limit=3").await, all);

    let mut numbered = Vec::new();
    for (number, count) in [(1, 3), (2, 3), (3, 1), (4, 0)] {
        let page = app.read(&ada, &format!("/v1/users?page={number}&per_page=3")).await;
        assert_eq!((page.list("data").len(), page.int("total"), page.int("total_pages")), (count, 7, 3));
        numbered.extend_from_slice(page.list("data"));
    }
    assert_eq!(numbered, all);
    assert_eq!(app.read(&ada, "/v1/users?name=user&page=1").await.int("total"), 6);

    // Who comes while somebody walks the pages neither doubles nor hides anybody.
    let first = app.read(&ada, "/v1/users?limit=3").await;
    let bob = app.user("Bob").await;
    let next = first["page"].text("next_cursor");
    let second = app.read(&ada, &format!("/v1/users?limit=4&cursor={next}")).await;
    assert_eq!([first.list("data"), second.list("data")].concat(), all);
    let back = second["page"].text("prev_cursor");
    let back = app.list(&ada, &format!("/v1/users?limit=3&cursor={back}")).await;
    assert_eq!(back, first.list("data"), "the nearest on the way back");
    for (user, query) in [
        (&bob, format!("limit=3&cursor={next}")),
        (&ada, format!("limit=3&name=user&cursor={next}")),
        (&ada, "cursor=x".to_owned()),
        (&ada, "page=0".to_owned()),
        (&ada, "per_page=201".to_owned()),
        (&ada, "page=1&limit=5".to_owned()),
        (&ada, format!("page=1&cursor={next}")),
    ] {
        app.get(&format!("/v1/users?{query}")).as_(user).refused(400).await;
    }
    app.finish().await;
}

async fn an_admin_makes_an_account(backend: Backend) {
    let app = TestApp::start(backend).await;
    let (admin, ada) = (app.user("Root").await, app.user("Ada").await);
    let account = |email: &str| {
        let password = "correct horse battery";
        json!({"email": email, "name": " Bob ", "password": password, "roles": ["moderator"]})
    };
    let make = |account: Value| app.post("/v1/users", account).as_(&admin);
    let answer = make(account("Bob@Example.org")).key("k").expect(201).await;
    let bob = answer.json();
    assert_eq!((bob.text("email"), bob.text("name")), ("bob@example.org", "Bob"));
    assert_eq!((&bob["roles"], answer.header("etag")), (&json!(["moderator"]), "\"v1\""));
    assert_eq!(answer.header("location"), format!("/v1/users/{}", bob.text("id")));
    assert!(answer.find("event-id").is_some() && !answer.text().contains("password"));
    let again = make(account("Bob@Example.org")).key("k").expect(201).await;
    assert_eq!((again.header("idempotency-replayed"), again.json()), ("true", bob.clone()));
    make(account("eve@example.org")).key("k").refused(422).await;
    make(account("bob@example.org")).refused(409).await;
    for (field, value, pointer) in [
        ("email", json!("bob"), "/email"),
        ("name", json!(""), "/name"),
        ("password", json!("short"), "/password"),
        ("roles", json!(["root"]), "/roles/0"),
        ("status", json!("disabled"), "/status"),
        ("id", json!("01920000-0000-7000-8000-000000000001"), "/id"),
    ] {
        let mut wrong = account("eve@example.org");
        wrong[field] = value;
        assert_eq!(make(wrong).refused(422).await.texts("errors", "pointer"), [pointer]);
    }
    app.post("/v1/users", account("eve@example.org")).as_(&ada).refused(403).await;
    app.post("/v1/users", account("eve@example.org")).refused(401).await;

    let credentials = json!({"email": "bob@example.org", "password": "correct horse battery"});
    let session = app.post("/v1/auth/login", credentials).expect(200).await.json();
    assert_eq!(session["user"], bob);
    app.drain().await;
    let events = app.events(&admin).await;
    let bobs: Vec<_> = events.iter().filter(|event| event["data"]["user"]["id"] == bob["id"]).collect();
    assert_eq!((bobs[0].text("type"), bobs[0].text("actorid")), ("user.registered", admin.id.as_str()));
    app.finish().await;
}

async fn an_account_is_changed_by_its_holder_and_by_admins(backend: Backend) {
    let app = TestApp::start(backend).await;
    let (admin, ada, bob) = (app.user("Root").await, app.user("Ada").await, app.user("Bob").await);
    app.drain().await;
    let before = app.events(&admin).await.len();
    let change = |who: &User, patch: Value| app.patch(&path(&bob), patch).as_(who);
    let patch = json!({"name": " Robert ", "timezone": "Europe/Berlin", "locale": "de-AT"});
    let changed = change(&bob, patch.clone()).header("if-match", "\"v1\"").expect(200).await;
    let robert = changed.json();
    assert_eq!((robert.text("name"), robert.text("timezone")), ("Robert", "Europe/Berlin"));
    assert_eq!((robert.text("locale"), changed.header("etag")), ("de-AT", "\"v2\""));
    assert_eq!(robert["handle"], "bob", "a handle stays as it is");
    change(&bob, patch.clone()).header("if-match", "\"v1\"").refused(412).await;
    let same = change(&bob, patch).expect(200).await;
    assert_eq!((same.json(), same.find("event-id")), (robert, None), "nothing changed");
    let reset = change(&admin, json!({"timezone": null, "locale": null})).expect(200).await.json();
    assert_eq!((reset.text("timezone"), reset.text("locale")), ("UTC", "en"));

    change(&ada, json!({"name": "Eve"})).refused(403).await;
    change(&bob, json!({"status": "disabled"})).refused(403).await;
    change(&admin, json!({"status": "gone"})).refused(422).await;
    app.patch("/v1/users/01920000-0000-7000-8000-000000000001", json!({})).as_(&admin).refused(404).await;
    for (patch, pointer) in [
        (json!({"name": ""}), "/name"),
        (json!({"name": null}), "/name"),
        (json!({"name": "a".repeat(101)}), "/name"),
        (json!({"timezone": "Europe/Atlantis"}), "/timezone"),
        (json!({"locale": "de-AT-AT"}), "/locale"),
        (json!({"email": "eve@example.org"}), "/email"),
        (json!({"handle": "eve"}), "/handle"),
        (json!({"roles": ["admin"]}), "/roles"),
        (json!({"version": 7}), "/version"),
    ] {
        assert_eq!(change(&admin, patch).refused(422).await.texts("errors", "pointer"), [pointer]);
    }
    let told = told(&app, &admin, before, &bob).await;
    assert_eq!(types(&told), ["user.updated", "user.updated"]);
    assert_eq!(told[0].1["fields"], json!(["name", "timezone", "locale"]));
    assert_eq!(told[1].1["fields"], json!(["timezone", "locale"]));
    assert!(!json!(told[0].1).to_string().contains("Robert"), "the log holds nothing personal");
    app.finish().await;
}

async fn other_roles_end_the_sessions(backend: Backend) {
    let app = TestApp::start(backend).await;
    let (admin, bob) = (app.user("Root").await, app.user("Bob").await);
    let elsewhere = app.login(&bob).await;
    app.drain().await;
    let before = app.events(&admin).await.len();
    app.put(&format!("{}/roles", path(&bob)), json!({"roles": ["admin"]})).as_(&bob).refused(403).await;
    let changed = set_roles(&app, &admin, &bob, json!(["moderator", "finance", "finance"])).await;
    assert_eq!((&changed["roles"], changed.int("version")), (&json!(["finance", "moderator"]), 2));
    for session in [&bob, &elsewhere] {
        app.get("/v1/me").as_(session).refused(401).await;
        let refresh = json!({"refresh_token": session.refresh_token});
        app.post("/v1/auth/refresh", refresh).refused(401).await;
    }
    let bob = app.login(&bob).await;
    assert_eq!(bob.roles, ["finance", "moderator"]);
    set_roles(&app, &admin, &bob, json!(["finance", "moderator"])).await;
    app.get("/v1/me").as_(&bob).expect(200).await;
    for wrong in [json!({}), json!({"roles": ["root"]}), json!({"roles": [], "id": bob.id})] {
        app.put(&format!("{}/roles", path(&bob)), wrong).as_(&admin).refused(422).await;
    }
    let stale = app.put(&format!("{}/roles", path(&bob)), json!({"roles": []})).as_(&admin);
    stale.header("if-match", "\"v1\"").refused(412).await;

    let told = told(&app, &admin, before, &bob).await;
    let expected = ["user.role_changed", "user.logged_out", "user.logged_out", "user.logged_in"];
    assert_eq!(types(&told), expected);
    let change = &told[0].1;
    assert_eq!((&change["from"], &change["to"]), (&json!([]), &json!(["finance", "moderator"])));
    app.finish().await;
}

async fn who_is_disabled_is_out(backend: Backend) {
    let app = TestApp::start(backend).await;
    let (admin, bob) = (app.user("Root").await, app.user("Bob").await);
    app.drain().await;
    let before = app.events(&admin).await.len();
    app.delete(&path(&bob)).as_(&bob).refused(403).await;
    app.delete(&path(&bob)).as_(&admin).header("if-match", "\"v9\"").refused(412).await;
    let gone = app.delete(&path(&bob)).as_(&admin).expect(204).await;
    assert!(gone.find("event-id").is_some());
    app.get("/v1/me").as_(&bob).refused(401).await;
    app.post("/v1/auth/refresh", json!({"refresh_token": bob.refresh_token})).refused(401).await;
    let credentials = json!({"email": bob.email, "password": bob.password});
    let refused = app.post("/v1/auth/login", credentials.clone()).refused(401).await;
    let unknown = json!({"email": "nobody@example.org", "password": bob.password});
    let unknown = app.post("/v1/auth/login", unknown).refused(401).await;
    assert_eq!(refused["detail"], unknown["detail"], "it tells no more than of an unknown account");
    app.delete(&path(&bob)).as_(&admin).expect(204).await;
    assert_eq!(app.read(&admin, &path(&bob)).await.text("status"), "disabled");

    app.patch(&path(&bob), json!({"status": "active"})).as_(&admin).expect(200).await;
    app.get("/v1/me").as_(&bob).refused(401).await;
    app.post("/v1/auth/login", credentials).expect(200).await;
    let told = told(&app, &admin, before, &bob).await;
    assert_eq!(types(&told), ["user.disabled", "user.logged_out", "user.updated", "user.logged_in"]);
    assert_eq!(told[2].1["fields"], json!(["status"]));
    app.finish().await;
}

async fn the_last_admin_stays(backend: Backend) {
    let app = TestApp::start(backend).await;
    let (admin, ada) = (app.user("Root").await, app.user("Ada").await);
    let roles = |of: &User| app.put(&format!("{}/roles", path(of)), json!({"roles": ["finance"]}));
    roles(&admin).as_(&admin).refused(409).await;
    app.delete(&path(&admin)).as_(&admin).refused(409).await;
    let off = json!({"status": "disabled", "name": "Nobody"});
    app.patch(&path(&admin), off).as_(&admin).refused(409).await;
    assert_eq!(app.read(&admin, "/v1/me").await.int("version"), 1, "nothing happened");

    // A disabled admin does not count.
    set_roles(&app, &admin, &ada, json!(["admin"])).await;
    app.delete(&path(&ada)).as_(&admin).expect(204).await;
    roles(&admin).as_(&admin).refused(409).await;
    app.patch(&path(&ada), json!({"status": "active"})).as_(&admin).expect(200).await;
    roles(&admin).as_(&admin).expect(200).await;
    app.get("/v1/me").as_(&admin).refused(401).await;
    app.finish().await;
}

async fn of_two_admins_one_stays(backend: Backend) {
    let app = TestApp::start(backend).await;
    let (root, ada) = (app.user("Root").await, app.user("Ada").await);
    set_roles(&app, &root, &ada, json!(["admin"])).await;
    let ada = app.login(&ada).await;
    let demote = |by: &User, whom: &User| {
        app.put(&format!("{}/roles", path(whom)), json!({"roles": []})).as_(by).send()
    };
    let answers = join_all([demote(&root, &ada), demote(&ada, &root)]).await;
    let statuses: Vec<u16> = answers.iter().map(|answer| answer.status).collect();
    // Whoever comes too late is no admin any more, or the last one.
    assert_eq!(statuses.iter().filter(|status| **status == 200).count(), 1, "{statuses:?}");
    assert!(statuses.iter().all(|status| [200, 401, 409].contains(status)), "{statuses:?}");
    assert_eq!(app.number("SELECT count(*) FROM users WHERE roles = 'admin'").await, 1);
    app.finish().await;
}

async fn who_did_what_is_written_down(backend: Backend) {
    let app = TestApp::start(backend).await;
    let (admin, ada) = (app.user("Root").await, app.user("Ada").await);
    set_roles(&app, &admin, &ada, json!(["finance"])).await;
    app.patch(&path(&ada), json!({"name": "Adele"})).as_(&admin).expect(200).await;
    let ada = app.login(&ada).await;
    let hook = json!({"url": "https://hooks.example.org/secret-path", "event_types": ["task.*"]});
    let hook = app.post("/v1/webhooks", hook).as_(&ada).expect(201).await.json();
    for action in ["rotate-secret", "disable", "enable"] {
        app.post(&format!("/v1/webhooks/{}/{action}", hook.text("id")), None).as_(&ada).expect(200).await;
    }
    app.delete(&format!("/v1/webhooks/{}", hook.text("id"))).as_(&ada).expect(204).await;
    app.delete(&path(&ada)).as_(&admin).expect(204).await;

    let log = |query: String| {
        let (app, admin) = (&app, &admin);
        async move { app.list(admin, &format!("/v1/admin/audit-log?{query}")).await }
    };
    let action = |row: &Value| row.text("action").to_owned();
    let actions = |rows: &[Value]| rows.iter().rev().map(action).collect::<Vec<String>>();
    let of_ada = log(format!("subject_id={}", ada.id)).await;
    let expected = ["user.registered", "user.role_changed", "user.updated", "user.disabled"];
    assert_eq!(actions(&of_ada), expected);
    assert_eq!(of_ada[2]["detail"], json!({"from": [], "to": ["finance"]}));
    assert_eq!((of_ada[2].text("actor_id"), of_ada[2].text("subject_type")), (admin.id.as_str(), "user"));
    let by_ada = log(format!("actor_id={}&limit=200", ada.id)).await;
    let expected = [
        "user.registered",
        "webhook.created",
        "webhook.secret_rotated",
        "webhook.disabled",
        "webhook.enabled",
        "webhook.deleted",
    ];
    assert_eq!(actions(&by_ada), expected);
    assert!(!json!(by_ada).to_string().contains("secret-path"), "{by_ada:?}");
    assert_eq!(log("action=user.role_changed".to_owned()).await, [of_ada[2].clone()]);
    let all = log("limit=200".to_owned()).await;
    assert_eq!(app.all_pages(&admin, "/v1/admin/audit-log?limit=3").await, all);
    for wrong in ["actor_id=me", "action=", "colour=red", "cursor=x", "limit=0"] {
        app.get(&format!("/v1/admin/audit-log?{wrong}")).as_(&admin).refused(400).await;
    }
    let bob = app.user("Bob").await;
    app.get("/v1/admin/audit-log").as_(&bob).refused(403).await;
    app.get("/v1/admin/audit-log").refused(401).await;
    app.finish().await;
}
