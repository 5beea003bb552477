//! One's own account: its sessions, its password, and the way back in for who forgot it.

use std::{
    os::unix::fs::PermissionsExt as _,
    time::{Duration, Instant},
};

use futures::future::join_all;
use serde_json::{Value, json};
use taskpost_common::Clock;
use taskpost_testkit::{Backend, Fields as _, Mail, Request, TestApp, User, both};

both!(
    one_changes_oneself,
    a_password_is_changed,
    of_parallel_changes_one_counts,
    sessions_are_seen_and_ended,
    all_other_sessions_end_at_once,
    a_session_ends_once_whoever_else_ends_it,
    nobody_learns_who_has_an_account,
    a_forgotten_password_is_set_anew,
    a_mail_works_without_a_page,
    what_else_was_sent_is_used_up,
    of_parallel_resets_one_counts,
    a_reset_has_half_an_hour,
    a_mailbox_is_not_flooded,
);

const OTHER: &str = "another horse battery";

async fn log_in(app: &TestApp, user: &User, password: &str) -> u16 {
    let credentials = json!({"email": user.email, "password": password});
    app.post("/v1/auth/login", credentials).send().await.status
}

async fn forget(app: &TestApp, email: &str) {
    let answer = app.post("/v1/auth/password/forgot", json!({"email": email})).expect(202).await;
    assert_eq!((answer.text().as_str(), answer.find("event-id")), ("", None));
}

/// The mails that lead back in, oldest first.
async fn ways_back(app: &TestApp) -> Vec<Mail> {
    app.drain().await;
    let mails = app.mails().into_iter();
    mails.filter(|mail| mail.subject() == "Set a new password").collect()
}

/// The token in a mail: the one line of its text that is nothing else.
fn token(mail: &Mail) -> String {
    let text = mail.text();
    let letters = |line: &&str| line.bytes().all(|c| c.is_ascii_alphanumeric() || b"-_".contains(&c));
    let token = text.lines().map(str::trim).find(|line| line.len() == 43 && letters(line));
    token.unwrap_or_else(|| panic!("no token in {text}")).to_owned()
}

async fn one_changes_oneself(backend: Backend) {
    let app = TestApp::start(backend).await;
    let ada = app.user("Ada").await;
    let change = |patch: Value| app.patch("/v1/me", patch).as_(&ada);
    let patch = json!({"name": "Ada L.", "timezone": "Europe/London"});
    let changed = change(patch).header("if-match", "\"v1\"").expect(200).await;
    assert_eq!((changed.header("etag"), changed.json().text("name")), ("\"v2\"", "Ada L."));
    assert!(changed.find("event-id").is_some());
    assert_eq!(app.read(&ada, "/v1/me").await, changed.json());
    change(json!({"name": "x"})).header("if-match", "\"v1\"").refused(412).await;
    for (wrong, pointer) in [
        (json!({"name": "A\r\nda"}), "/name"),
        (json!({"timezone": ""}), "/timezone"),
        (json!({"locale": 7}), "/locale"),
        (json!({"status": "disabled"}), "/status"),
        (json!({"roles": ["admin"]}), "/roles"),
        (json!({"email": "eve@example.org"}), "/email"),
        (json!({"password": OTHER}), "/password"),
    ] {
        assert_eq!(change(wrong).refused(422).await.texts("errors", "pointer"), [pointer]);
    }
    let twins = ["b", "c"].map(|name| change(json!({"name": name})).header("if-match", "\"v2\"").send());
    let mut statuses: Vec<u16> = join_all(twins).await.iter().map(|answer| answer.status).collect();
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 412], "of two changes to one version");
    app.finish().await;
}

async fn a_password_is_changed(backend: Backend) {
    let app = TestApp::start(backend).await;
    let ada = app.user("Ada").await;
    let elsewhere = app.login(&ada).await;
    let change = |current: &str, new: &str| {
        app.put("/v1/me/password", json!({"current_password": current, "new_password": new})).as_(&ada)
    };
    for (current, new, pointer) in [
        ("a wrong password", OTHER, "/current_password"),
        (&"x".repeat(2_000), OTHER, "/current_password"),
        (&ada.password, "short", "/new_password"),
        (&ada.password, &"x".repeat(129), "/new_password"),
    ] {
        let problem = change(current, new).refused(422).await;
        assert_eq!(problem.texts("errors", "pointer"), [pointer]);
    }
    app.get("/v1/me").as_(&elsewhere).expect(200).await;
    let changed = change(&ada.password, OTHER).expect(204).await;
    assert!(changed.find("event-id").is_some());
    app.get("/v1/me").as_(&ada).expect(200).await;
    app.get("/v1/me").as_(&elsewhere).refused(401).await;
    let refresh = |user: &User| app.post("/v1/auth/refresh", json!({"refresh_token": user.refresh_token}));
    refresh(&elsewhere).refused(401).await;
    let ada = User::of(&refresh(&ada).expect(200).await.json(), OTHER);
    assert_eq!(log_in(&app, &ada, "correct horse battery").await, 401);
    assert_eq!(log_in(&app, &ada, OTHER).await, 200);
    app.drain().await;
    let events = app.events(&ada).await;
    let types: Vec<&str> = events.iter().map(|event| event.text("type")).collect();
    let expected =
        ["user.registered", "user.logged_in", "user.logged_in", "user.password_changed", "user.logged_out"];
    assert_eq!(types[..5], expected);
    app.finish().await;
}

async fn of_parallel_changes_one_counts(backend: Backend) {
    let app = TestApp::start(backend).await;
    let ada = app.user("Ada").await;
    let new: Vec<String> = (0..4).map(|i| format!("a new password {i}")).collect();
    let change = |new: &String| {
        let passwords = json!({"current_password": ada.password, "new_password": new});
        app.put("/v1/me/password", passwords).as_(&ada).send()
    };
    let statuses: Vec<u16> = join_all(new.iter().map(change)).await.iter().map(|a| a.status).collect();
    assert_eq!(statuses.iter().filter(|status| **status == 204).count(), 1, "{statuses:?}");
    assert!(statuses.iter().all(|status| [204, 409, 422].contains(status)), "{statuses:?}");
    for (new, status) in new.iter().zip(&statuses) {
        assert_eq!(log_in(&app, &ada, new).await, if *status == 204 { 200 } else { 401 });
    }
    app.finish().await;
}

async fn sessions_are_seen_and_ended(backend: Backend) {
    let app = TestApp::start(backend).await;
    let (ada, eve) = (app.user("Ada").await, app.user("Eve").await);
    let log_in = |agent: &str| {
        let credentials = json!({"email": ada.email, "password": ada.password});
        app.post("/v1/auth/login", credentials).header("user-agent", agent).expect(200)
    };
    let phone = User::of(&log_in("A phone/1.0").await.json(), &ada.password);
    log_in(&"x".repeat(300)).await;
    let sessions = app.list(&phone, "/v1/me/sessions").await;
    let seen: Vec<_> = sessions.iter().map(|one| (one.text("user_agent"), one["current"] == true)).collect();
    assert_eq!(seen, [("x".repeat(200).as_str(), false), ("A phone/1.0", true), ("", false)]);
    assert!(sessions.iter().all(|one| one["used_at"].is_string() && one["expires_at"].is_string()));
    assert_eq!(app.all_pages(&phone, "/v1/me/sessions?limit=1").await, sessions);
    app.get("/v1/me/sessions?user_id=x").as_(&ada).refused(400).await;

    let path = |session: &Value| format!("/v1/me/sessions/{}", session.text("id"));
    assert_eq!(app.read(&phone, &path(&sessions[0])).await, sessions[0]);
    for foreign in [app.get(&path(&sessions[1])), app.delete(&path(&sessions[1]))] {
        foreign.as_(&eve).refused(404).await;
    }
    let ended = app.delete(&path(&sessions[1])).as_(&ada).expect(204).await;
    assert!(ended.find("event-id").is_some());
    app.get("/v1/me").as_(&phone).refused(401).await;
    app.get(&path(&sessions[1])).as_(&ada).refused(404).await;
    app.delete(&path(&sessions[1])).as_(&ada).refused(404).await;
    assert_eq!(app.list(&ada, "/v1/me/sessions").await.len(), 2);
    // One's own session ends like any other.
    app.delete(&path(&sessions[2])).as_(&ada).expect(204).await;
    app.get("/v1/me").as_(&ada).refused(401).await;
    app.finish().await;
}

async fn all_other_sessions_end_at_once(backend: Backend) {
    let app = TestApp::start(backend).await;
    let (admin, ada) = (app.user("Root").await, app.user("Ada").await);
    let others = [app.login(&ada).await, app.login(&ada).await];
    app.delete("/v1/me/sessions").as_(&ada).expect(204).await;
    for other in &others {
        app.get("/v1/me").as_(other).refused(401).await;
        app.post("/v1/auth/refresh", json!({"refresh_token": other.refresh_token})).refused(401).await;
    }
    assert_eq!(app.list(&ada, "/v1/me/sessions").await.len(), 1);
    let nothing = app.delete("/v1/me/sessions").as_(&ada).expect(204).await;
    assert_eq!(nothing.find("event-id"), None);
    app.get("/v1/me").as_(&admin).expect(200).await;
    app.drain().await;
    let events = app.events(&ada).await;
    let ended: Vec<_> = events.iter().filter(|event| event.text("type") == "user.logged_out").collect();
    assert_eq!(ended.len(), 2, "one for each");
    let rows = app.list(&admin, "/v1/admin/audit-log?action=session.ended").await;
    assert_eq!(rows.iter().filter(|row| row["actor_id"] == *ada.id).count(), 2);
    app.finish().await;
}

async fn a_session_ends_once_whoever_else_ends_it(backend: Backend) {
    let app = TestApp::start(backend).await;
    let ada = app.user("Ada").await;
    let (mut requests, count) = (Vec::new(), 6);
    for i in 0..count {
        let other = app.login(&ada).await;
        let session = app.list(&other, "/v1/me/sessions").await.remove(0);
        let end = || app.delete(&format!("/v1/me/sessions/{}", session.text("id"))).as_(&ada);
        let refresh = app.post("/v1/auth/refresh", json!({"refresh_token": other.refresh_token}));
        let change = app.patch("/v1/me", json!({"name": format!("Ada {i}")})).as_(&ada);
        let logout = app.post("/v1/auth/logout", None).as_(&other);
        requests.extend([end(), refresh, change, logout, end()]);
    }
    let answers = join_all(requests.into_iter().map(Request::send)).await;
    assert!(answers.iter().all(|answer| [200, 204, 401, 404].contains(&answer.status)), "{answers:?}");
    let ended = answers.iter().filter(|answer| answer.status == 204 && answer.find("event-id").is_some());
    assert_eq!(ended.count(), count);
    app.drain().await;
    let mut events = app.events(&ada).await;
    events.retain(|event| event.text("type").starts_with("user."));
    assert_eq!(events.iter().filter(|event| event.text("type") == "user.logged_out").count(), count);
    let versions: Vec<i64> = events.iter().map(|event| event.int("aggregateversion")).collect();
    assert!(versions.is_sorted(), "{versions:?}");
    let late = "SELECT count(*) FROM refresh_tokens AS r JOIN sessions AS s ON s.id = r.session_id
        WHERE r.created_at > s.revoked_at";
    assert_eq!(app.number(late).await, 0, "a session that has ended gets no new token");
    app.finish().await;
}

async fn nobody_learns_who_has_an_account(backend: Backend) {
    let app = TestApp::start(backend).await;
    let (admin, ada, bob) = (app.user("Root").await, app.user("Ada").await, app.user("Bob").await);
    app.delete(&format!("/v1/users/{}", bob.id)).as_(&admin).expect(204).await;
    for email in [ada.email.as_str(), "nobody@example.org", bob.email.as_str(), &ada.email.to_uppercase()] {
        let began = Instant::now();
        forget(&app, email).await;
        assert!(began.elapsed() >= Duration::from_millis(195), "{email}: {:?}", began.elapsed());
    }
    for wrong in [json!({}), json!({"email": "ada"}), json!({"email": ada.email, "name": "x"})] {
        app.post("/v1/auth/password/forgot", wrong).refused(422).await;
    }
    let mails = ways_back(&app).await;
    assert_eq!(mails.iter().map(Mail::to).collect::<Vec<_>>(), [&ada.email, &ada.email]);
    app.finish().await;
}

async fn a_forgotten_password_is_set_anew(backend: Backend) {
    let app = TestApp::start(backend).with("PUBLIC_URL", "https://tasks.example.org/base").await;
    let (admin, ada) = (app.user("Root").await, app.user("Ada").await);
    let elsewhere = app.login(&ada).await;
    forget(&app, &ada.email).await;
    let mails = ways_back(&app).await;
    let token = token(&mails[0]);
    let link = format!("https://tasks.example.org/base/ui/reset?token={token}");
    assert!(mails[0].text().contains(&link), "{}", mails[0].text());
    for kept in ["password_resets WHERE digest", "deliveries WHERE payload"] {
        let kept = format!("SELECT count(*) FROM {kept} LIKE '%{token}%'");
        assert_eq!(app.number(&kept).await, 0, "only the mail tells it: {kept}");
    }
    let file = app.folder().join("mail").join(&mails[0].file).metadata().expect("the mail's file");
    assert_eq!(file.permissions().mode() & 0o077, 0, "nobody else reads it");

    let reset = |token: &str, password: &str| {
        app.post("/v1/auth/password/reset", json!({"token": token, "password": password}))
    };
    for (token, password, pointer) in [
        ("nonsense", OTHER, "/token"),
        ("", OTHER, "/token"),
        (&token.to_lowercase(), OTHER, "/token"),
        (token.as_str(), "short", "/password"),
    ] {
        assert_eq!(reset(token, password).refused(422).await.texts("errors", "pointer"), [pointer]);
    }
    let set = reset(&token, OTHER).expect(204).await;
    assert!(set.find("event-id").is_some());
    for session in [&ada, &elsewhere] {
        app.get("/v1/me").as_(session).refused(401).await;
        app.post("/v1/auth/refresh", json!({"refresh_token": session.refresh_token})).refused(401).await;
    }
    reset(&token, "yet another password").refused(422).await;
    assert_eq!(log_in(&app, &ada, &ada.password).await, 401);
    assert_eq!(log_in(&app, &ada, OTHER).await, 200);
    app.drain().await;
    let events = app.events(&admin).await;
    let is_change = |event: &&Value| event.text("type") == "user.password_changed";
    let changed: Vec<&Value> = events.iter().filter(is_change).collect();
    assert_eq!(changed.len(), 1);
    assert_eq!((changed[0].text("actorid"), changed[0]["data"]["user"].text("id")), (&*ada.id, &*ada.id));
    let rows = app.list(&admin, "/v1/admin/audit-log?action=user.password_changed").await;
    assert_eq!((rows.len(), rows[0]["detail"]["by"].as_str()), (1, Some("mail")));
    app.finish().await;
}

async fn a_mail_works_without_a_page(backend: Backend) {
    let app = TestApp::start(backend).await;
    let ada = app.user("Ada").await;
    forget(&app, &ada.email).await;
    let mails = ways_back(&app).await;
    assert!(!mails[0].text().contains("/ui/reset"), "{}", mails[0].text());
    let input = json!({"token": token(&mails[0]), "password": OTHER});
    app.post("/v1/auth/password/reset", input).expect(204).await;
    app.finish().await;
}

async fn what_else_was_sent_is_used_up(backend: Backend) {
    let app = TestApp::start(backend).await;
    let ada = app.user("Ada").await;
    for _ in 0..3 {
        forget(&app, &ada.email).await;
    }
    let tokens: Vec<String> = ways_back(&app).await.iter().map(token).collect();
    let reset = |token: &str| {
        let input = json!({"token": token, "password": OTHER});
        app.post("/v1/auth/password/reset", input)
    };
    reset(&tokens[1]).expect(204).await;
    for token in &tokens {
        reset(token).refused(422).await;
    }
    // So it is when the password is changed by who knows it.
    forget(&app, &ada.email).await;
    let last = ways_back(&app).await.last().map(token).unwrap_or_default();
    let credentials = json!({"email": ada.email, "password": OTHER});
    let session = app.post("/v1/auth/login", credentials).expect(200).await.json();
    let passwords = json!({"current_password": OTHER, "new_password": "yet another password"});
    app.put("/v1/me/password", passwords).as_(&User::of(&session, OTHER)).expect(204).await;
    reset(&last).refused(422).await;
    app.finish().await;
}

async fn of_parallel_resets_one_counts(backend: Backend) {
    let app = TestApp::start(backend).await;
    let ada = app.user("Ada").await;
    forget(&app, &ada.email).await;
    forget(&app, &ada.email).await;
    let tokens: Vec<String> = ways_back(&app).await.iter().map(token).collect();
    let reset = |i: usize| {
        let input = json!({"token": tokens[i % 2], "password": format!("a new password {i}")});
        app.post("/v1/auth/password/reset", input).send()
    };
    let statuses: Vec<u16> = join_all((0..6).map(reset)).await.iter().map(|a| a.status).collect();
    assert_eq!(statuses.iter().filter(|status| **status == 204).count(), 1, "{statuses:?}");
    assert!(statuses.iter().all(|status| [204, 422].contains(status)), "{statuses:?}");
    for (i, status) in statuses.iter().enumerate() {
        let expected = if *status == 204 { 200 } else { 401 };
        assert_eq!(log_in(&app, &ada, &format!("a new password {i}")).await, expected);
    }
    app.finish().await;
}

async fn a_reset_has_half_an_hour(backend: Backend) {
    let app = TestApp::start(backend).clock(Clock::manual(Clock::system().now())).await;
    let ada = app.user("Ada").await;
    let reset =
        |token: String| app.post("/v1/auth/password/reset", json!({"token": token, "password": OTHER}));
    forget(&app, &ada.email).await;
    let late = ways_back(&app).await.last().map(token).unwrap_or_default();
    app.clock().advance(Duration::from_mins(30));
    reset(late).refused(422).await;
    forget(&app, &ada.email).await;
    let in_time = ways_back(&app).await.last().map(token).unwrap_or_default();
    app.clock().advance(Duration::from_mins(29));
    reset(in_time).expect(204).await;
    app.finish().await;
}

async fn a_mailbox_is_not_flooded(backend: Backend) {
    let app = TestApp::start(backend).await;
    let ada = app.user("Ada").await;
    join_all((0..12).map(|_| forget(&app, &ada.email))).await;
    forget(&app, &ada.email).await;
    assert_eq!(ways_back(&app).await.len(), 5);
    app.finish().await;
}
