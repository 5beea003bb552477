//! Registering, logging in, staying logged in, logging out.

use std::collections::HashSet;

use futures::future::join_all;
use serde_json::json;
use taskpost_testkit::{Backend, Fields as _, TestApp, User, both};

both!(
    the_first_user_is_admin,
    nobody_is_admin_when_that_is_switched_off,
    of_many_first_users_one_is_admin,
    an_account_as_it_comes,
    a_taken_email_is_refused,
    an_address_that_is_taken_can_be_written_to,
    wrong_credentials_tell_nothing,
    a_refresh_token_works_once,
    of_parallel_refreshes_one_wins,
    logging_out_acts_at_once,
    handles_never_collide,
);

async fn the_first_user_is_admin(backend: Backend) {
    let app = TestApp::start(backend).await;
    assert_eq!(app.user("Ada").await.roles, ["admin"]);
    assert!(app.user("Bob").await.roles.is_empty());
    app.finish().await;
}

async fn nobody_is_admin_when_that_is_switched_off(backend: Backend) {
    let app = TestApp::start(backend).with("FIRST_USER_IS_ADMIN", "false").await;
    assert!(app.user("Ada").await.roles.is_empty());
    app.finish().await;
}

async fn of_many_first_users_one_is_admin(backend: Backend) {
    let app = TestApp::start(backend).await;
    let users = join_all((0..8).map(|i| app.user(["Ada", "Bob"][i % 2]))).await;
    assert_eq!(users.iter().filter(|user| user.roles == ["admin"]).count(), 1);
    app.finish().await;
}

async fn an_account_as_it_comes(backend: Backend) {
    let app = TestApp::start(backend).await;
    let account =
        json!({"email": " Ada@Example.org ", "name": " Ada Lovelace ", "password": "correct horse battery"});
    let answer = app.post("/auth/register", account).expect(201).await;
    assert!(answer.find("event-id").is_some() && answer.find("location").is_some());
    assert_eq!(answer.header("cache-control"), "no-store");
    let session = answer.json();
    assert_eq!((session.text("token_type"), session.int("expires_in")), ("Bearer", 900));
    assert_eq!(
        (session["user"].text("email"), session["user"].text("name")),
        ("ada@example.org", "Ada Lovelace")
    );
    let ada = User::of(&session, "correct horse battery");

    let me = app.get("/v1/me").as_(&ada).expect(200).await;
    assert_eq!((me.header("etag"), me.json()), ("\"v1\"", session["user"].clone()));
    assert!(!me.text().contains("password") && !me.text().contains("argon2"));
    let anonymous = app.get("/v1/me").expect(401).await;
    assert_eq!(anonymous.header("www-authenticate"), "Bearer");
    app.get("/v1/me").token(&ada.refresh_token).refused(401).await;
    app.finish().await;
}

async fn a_taken_email_is_refused(backend: Backend) {
    let app = TestApp::start(backend).await;
    let ada = app.user("Ada").await;
    for email in [ada.email.clone(), ada.email.to_uppercase(), format!("  {}", ada.email)] {
        let account = json!({"email": email, "name": "Eve", "password": "correct horse battery"});
        app.post("/v1/auth/register", account).refused(409).await;
    }
    let account =
        |email: &str, name: &str, password: &str| json!({"email": email, "name": name, "password": password});
    for (account, pointer) in [
        (account("ada", "Ada", "correct horse battery"), "/email"),
        (account("a@b.c\r\nRCPT", "Ada", "correct horse battery"), "/email"),
        (account("ada@example.org", "", "correct horse battery"), "/name"),
        (account("ada@example.org", "A\r\nda", "correct horse battery"), "/name"),
        (account("ada@example.org", "Ada", "eleven char"), "/password"),
        (account("ada@example.org", "Ada", &"x".repeat(129)), "/password"),
    ] {
        let problem = app.post("/v1/auth/register", account).refused(422).await;
        assert_eq!(problem.texts("errors", "pointer"), [pointer]);
    }
    let twins = (0..6).map(|_| {
        app.post("/v1/auth/register", account("x@example.org", "X", "correct horse battery")).send()
    });
    let statuses: Vec<u16> = join_all(twins).await.iter().map(|answer| answer.status).collect();
    assert_eq!(statuses.iter().filter(|status| **status == 201).count(), 1, "{statuses:?}");
    assert!(statuses.iter().all(|status| [201, 409].contains(status)), "{statuses:?}");
    app.finish().await;
}

async fn an_address_that_is_taken_can_be_written_to(backend: Backend) {
    let app = TestApp::start(backend).await;
    let mut taken = Vec::new();
    for email in [
        ".a@example.org",
        "a.@example.org",
        "a..b@example.org",
        "a@-example.org",
        "a@example-.org",
        "a@exa_mple.org",
        "ä@example.org",
        "a@bücher.example",
        "a@localhost",
        "a+b@example.org",
        "o'neil@example.org",
        "a@1.2.3.4",
        "a@xn--bcher-kva.example",
        "a!#$%&'*+-/=?^_`{|}~b@example.org",
        &format!("{}@example.org", "a".repeat(64)),
        &format!("a@{}.org", "b".repeat(64)),
    ] {
        let account = json!({"email": email, "name": "Ada", "password": "correct horse battery"});
        match app.post("/v1/auth/register", account).send().await {
            answer if answer.status == 201 => taken.push(email.to_owned()),
            answer => assert_eq!(
                (answer.status, answer.problem().texts("errors", "pointer")),
                (422, vec!["/email".to_owned()])
            ),
        }
    }
    app.drain().await;
    let mut written: Vec<_> = app.mails().iter().map(|mail| mail.to().to_owned()).collect();
    taken.sort();
    written.sort();
    assert_eq!(written, taken);
    app.finish().await;
}

async fn wrong_credentials_tell_nothing(backend: Backend) {
    let app = TestApp::start(backend).await;
    let ada = app.user("Ada").await;
    let login = |email: &str, password: &str| {
        app.post("/v1/auth/login", json!({"email": email, "password": password}))
    };
    let wrong = login(&ada.email, "incorrect horse").refused(401).await;
    let unknown = login("nobody@example.org", "incorrect horse").refused(401).await;
    for part in ["type", "title", "detail", "instance"] {
        assert_eq!(wrong.text(part), unknown.text(part));
    }
    let answer = login(&ada.email.to_uppercase(), &ada.password).expect(200).await;
    assert!(answer.find("event-id").is_some());
    assert_eq!(User::of(&answer.json(), &ada.password).id, ada.id);
    app.finish().await;
}

async fn a_refresh_token_works_once(backend: Backend) {
    let app = TestApp::start(backend).await;
    let ada = app.user("Ada").await;
    let elsewhere = app.login(&ada).await;
    let refresh = |user: &User| app.post("/v1/auth/refresh", json!({"refresh_token": user.refresh_token}));

    let second = User::of(&refresh(&ada).expect(200).await.json(), &ada.password);
    assert_ne!(second.refresh_token, ada.refresh_token);
    let third = User::of(&refresh(&second).expect(200).await.json(), &ada.password);
    app.get("/v1/me").as_(&third).expect(200).await;
    // A token that comes back is in two hands: the whole family ends, and at once.
    refresh(&second).refused(401).await;
    for stolen in [&ada, &second, &third] {
        app.get("/v1/me").as_(stolen).refused(401).await;
        refresh(stolen).refused(401).await;
    }
    app.get("/v1/me").as_(&elsewhere).expect(200).await;
    refresh(&elsewhere).expect(200).await;
    app.post("/v1/auth/refresh", json!({"refresh_token": "nonsense"})).refused(401).await;
    app.finish().await;
}

async fn of_parallel_refreshes_one_wins(backend: Backend) {
    let app = TestApp::start(backend).await;
    let ada = app.user("Ada").await;
    let refresh = || app.post("/v1/auth/refresh", json!({"refresh_token": ada.refresh_token})).send();
    let answers = join_all((0..6).map(|_| refresh())).await;
    let mut statuses: Vec<u16> = answers.iter().map(|answer| answer.status).collect();
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 401, 401, 401, 401, 401]);
    app.finish().await;
}

async fn logging_out_acts_at_once(backend: Backend) {
    let app = TestApp::start(backend).await;
    let ada = app.user("Ada").await;
    let elsewhere = app.login(&ada).await;
    let answer = app.post("/v1/auth/logout", None).as_(&ada).expect(204).await;
    assert!(answer.find("event-id").is_some());
    app.get("/v1/me").as_(&ada).refused(401).await;
    app.post("/v1/auth/refresh", json!({"refresh_token": ada.refresh_token})).refused(401).await;
    app.get("/v1/me").as_(&elsewhere).expect(200).await;
    app.drain().await;
    let types: Vec<_> =
        app.events(&elsewhere).await.iter().map(|event| event.text("type").to_owned()).collect();
    assert_eq!(types, ["user.registered", "user.logged_in", "user.logged_in", "user.logged_out"]);
    app.finish().await;
}

async fn handles_never_collide(backend: Backend) {
    let app = TestApp::start(backend).await;
    assert_eq!(app.user("Ada Lovelace").await.handle, "ada-lovelace");
    assert_eq!(app.user("ada  LOVELACE!").await.handle, "ada-lovelace-2");
    assert_eq!(app.user("東京").await.handle, "user");
    assert_eq!(app.user("É").await.handle, "user-2");
    let many = join_all((0..10).map(|_| app.user("Same"))).await;
    let handles: HashSet<_> = many.iter().map(|user| user.handle.clone()).collect();
    assert_eq!(handles.len(), 10, "{handles:?}");
    app.finish().await;
}
