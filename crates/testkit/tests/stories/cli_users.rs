//! Accounts, settings and the log on the command line, beside a running server.

use std::fs;

use serde_json::{Value, json};
use taskpost_testkit::{Backend, Fields as _, Server, User, both, until};

both!(
    an_account_is_made_beside_the_server,
    what_is_wrong_is_told_by_its_option,
    roles_and_passwords_end_sessions,
    settings_show_where_they_came_from,
    the_log_is_followed,
    a_new_instance_is_given_its_first_admin,
);

const PASSWORD: &str = "correct horse battery";
const AUDITED: &str = "SELECT count(*) FROM audit_log WHERE action = 'user.registered' AND actor_id IS NULL";

/// What a command printed as JSON; it must have succeeded.
fn printed((status, stdout, stderr): (std::process::ExitStatus, String, String)) -> Value {
    assert!(status.success(), "{stderr}");
    serde_json::from_str(&stdout).unwrap_or_else(|error| panic!("{error}: {stdout}"))
}

fn made(server: &Server, email: &str, name: &str, roles: &[&str]) -> Value {
    let roles = roles.join(",");
    let mut arguments =
        vec!["user", "create", "--email", email, "--name", name, "--password-stdin", "--json"];
    if !roles.is_empty() {
        arguments.extend(["--role", &roles]);
    }
    printed(server.run_with(&arguments, &format!("{PASSWORD}\n")))
}

async fn logged_in(server: &Server, email: &str, password: &str) -> User {
    let credentials = json!({"email": email, "password": password});
    let session = server.post("/v1/auth/login", credentials).expect(200).await.json();
    User::of(&session, password)
}

/// Ended sessions are known everywhere within a second.
async fn refused(server: &Server, user: &User) {
    until(|| async {
        match server.get("/v1/me").as_(user).send().await.status {
            401 => Ok(()),
            status => Err(format!("the token is still good: {status}")),
        }
    })
    .await;
}

async fn an_account_is_made_beside_the_server(backend: Backend) {
    let server = Server::start(backend).await;
    let user = made(&server, " Root@Example.org ", "Root", &["finance", "admin"]);
    assert_eq!((user.text("email"), user.text("handle")), ("root@example.org", "root"));
    assert_eq!(user["roles"], json!(["admin", "finance"]));
    assert!(!user.to_string().contains("argon2"));
    let root = logged_in(&server, "root@example.org", PASSWORD).await;
    assert_eq!(root.roles, ["admin", "finance"]);
    assert_eq!(root.id, user.text("id"));

    // It is an event and a row of the audit log like any other, made by nobody.
    let events = until(|| async {
        let events = server.events(&root).await;
        if events.iter().any(|event| event.text("type") == "user.logged_in") {
            Ok(events)
        } else {
            Err("not logged in yet".to_owned())
        }
    })
    .await;
    let registered = events.iter().find(|event| event.text("type") == "user.registered").unwrap();
    assert!(registered.get("actorid").is_none(), "{registered}");
    assert_eq!(registered["data"]["user"].text("id"), root.id);
    assert_eq!(server.number(AUDITED).await.unwrap(), 1);

    made(&server, "bob@example.org", "Bob", &[]);
    let (status, table, errors) = server.run(&["user", "list"]);
    assert!(status.success(), "{errors}");
    let lines: Vec<&str> = table.lines().collect();
    assert!(lines[0].starts_with("HANDLE") && lines.len() == 3, "{table}");
    assert!(lines[1].starts_with("bob ") && lines[2].contains("admin,finance"), "{table}");
    let listed = printed(server.run(&["user", "list", "--json", "--name", "OB"]));
    assert_eq!(listed.as_array().map(Vec::len), Some(1));
    assert_eq!(listed[0].text("email"), "bob@example.org");
    server.finish().await;
}

async fn what_is_wrong_is_told_by_its_option(backend: Backend) {
    let server = Server::start(backend).await;
    made(&server, "ada@example.org", "Ada", &["admin"]);
    let create = ["user", "create", "--password-stdin"];
    for (arguments, input, says) in [
        (vec!["--email", "eve@example.org", "--name", "Eve"], "short\n", "--password: "),
        (vec!["--email", "eve@example.org", "--name", "Eve"], "", "--password-stdin"),
        (vec!["--email", "eve", "--name", "Eve"], PASSWORD, "--email: "),
        (vec!["--email", "eve@example.org", "--name", " "], PASSWORD, "--name: "),
        (vec!["--email", "ADA@example.org", "--name", "Ada"], PASSWORD, "exists"),
        (vec!["--email", "eve@example.org", "--name", "Eve", "--role", "king"], PASSWORD, "moderator"),
        (vec!["--email", "eve@example.org", "--name", "Eve", "--password", PASSWORD], "", "--password"),
    ] {
        let (status, stdout, stderr) = server.run_with(&[&create, arguments.as_slice()].concat(), input);
        assert!(!status.success() && stdout.is_empty(), "{arguments:?}: {stdout}");
        assert!(stderr.contains(says) && !stderr.contains("panicked"), "{arguments:?}: {stderr}");
    }
    for (arguments, says) in [
        (vec!["user", "role", "--email", "nobody@example.org", "--none"], "no such user"),
        (vec!["user", "role", "--email", "ada@example.org"], "--role"),
        (vec!["user", "role", "--email", "ada@example.org", "--none"], "last active admin"),
    ] {
        let (status, _, stderr) = server.run(&arguments);
        assert!(!status.success() && stderr.contains(says), "{arguments:?}: {stderr}");
    }
    assert_eq!(server.number("SELECT count(*) FROM users").await.unwrap(), 1);
    server.finish().await;
}

async fn roles_and_passwords_end_sessions(backend: Backend) {
    let server = Server::start(backend).await;
    for (email, name) in [("ada@example.org", "Ada"), ("bob@example.org", "Bob")] {
        made(&server, email, name, &["admin"]);
    }
    let ada = logged_in(&server, "ada@example.org", PASSWORD).await;
    server.get("/v1/me").as_(&ada).expect(200).await;
    let changed = printed(server.run(&["user", "role", "--email", "Ada@Example.org", "--none", "--json"]));
    assert_eq!(changed["roles"], json!([]));
    refused(&server, &ada).await;
    let ada = logged_in(&server, "ada@example.org", PASSWORD).await;
    assert!(ada.roles.is_empty());
    printed(server.run(&["user", "role", "--email", "ada@example.org", "--role", "finance", "--json"]));
    refused(&server, &ada).await;

    let ada = logged_in(&server, "ada@example.org", PASSWORD).await;
    assert_eq!(ada.roles, ["finance"]);
    let another = "another good password";
    let (status, said, errors) = server.run_with(
        &["user", "password", "--email", "ada@example.org", "--password-stdin"],
        &format!("{another}\n"),
    );
    assert!(status.success() && said.contains("sessions ended: 1"), "{said}{errors}");
    assert!(!said.contains(another) && !errors.contains(another));
    refused(&server, &ada).await;
    let wrong = json!({"email": "ada@example.org", "password": PASSWORD});
    server.post("/v1/auth/login", wrong).refused(401).await;
    logged_in(&server, "ada@example.org", another).await;
    server.finish().await;
}

async fn settings_show_where_they_came_from(backend: Backend) {
    let server = Server::start(backend).with("METRICS_TOKEN", "hunter2 of the monitor").await;
    let file = "MAIL_FROM='Ada <ada@example.org>'\nHTTP_PORT=1\nSMTP_URL=smtp://ada:hunter2@mail:587\n";
    fs::write(server.folder().join(".env"), file).unwrap();
    let settings = printed(server.run(&["config", "--json"]));
    let of = |name: &str| {
        let all = settings.as_array().unwrap();
        let setting = all.iter().find(|setting| setting.text("name") == name).unwrap();
        (setting.text("value").to_owned(), setting.text("from").to_owned())
    };
    let said = |value: &str, from: &str| (value.to_owned(), from.to_owned());
    assert_eq!(of("HTTP_PORT"), said(&server.address().port().to_string(), "environment"));
    assert_eq!(of("MAIL_FROM"), said("Ada <ada@example.org>", ".env"));
    assert_eq!(of("SMTP_URL"), said("smtp://ada:***@mail:587", ".env"));
    assert_eq!(of("METRICS_TOKEN"), said("***", "environment"));
    assert_eq!(of("LOG_FORMAT"), said("pretty", "default"));
    assert_eq!(of("JWT_SECRET"), said("***", "generated into DATA_DIR"));
    assert_eq!(of("SEED_USER_COUNT"), said("5", "default"));
    let (status, table, errors) = server.run(&["config"]);
    assert!(status.success() && errors.is_empty(), "{errors}");
    assert!(table.starts_with("VARIABLE") && !table.contains("hunter2"), "{table}");
    if backend == Backend::Sqlite {
        let older = server.beside().with("DB_TYPE", "postgres").with("POSTGRES_PASSWORD", "hunter2");
        let exit = older.run(&["config"]).await;
        assert!(exit.status.success(), "{}", exit.stderr);
        let shown = exit.stdout.lines().find(|line| line.starts_with("DATABASE_URL")).unwrap();
        assert!(shown.contains("postgres:***@") && shown.ends_with("DB_TYPE"), "{shown}");
    }
    let (status, _, errors) = server.run(&["token"]);
    assert!(status.success(), "without --url it asks the instance at HTTP_PORT: {errors}");
    fs::write(server.folder().join(".env"), "LOG_FORMAT=loud\n").unwrap();
    let (status, _, errors) = server.run(&["config"]);
    assert!(!status.success() && errors.contains("LOG_FORMAT"), "{errors}");
    server.finish().await;
}

async fn the_log_is_followed(backend: Backend) {
    let server = Server::start(backend).await;
    let ada = server.user("Ada").await;
    for title in ["a", "b", "c"] {
        server.task(&ada, json!({"title": title})).await;
    }
    let events = until(|| async {
        match server.events(&ada).await {
            all if all.len() >= 5 => Ok(all),
            few => Err(format!("{} events", few.len())),
        }
    })
    .await;
    let (status, lines, errors) = server.run(&["events", "tail", "--after", "0", "--once", "--json"]);
    assert!(status.success(), "{errors}");
    let tailed: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(tailed, events);

    let after = events[2].int("position").to_string();
    let tail = ["events", "tail", "--once", "--after", &after, "--type", "task.created,user.*"];
    let (_, lines, _) = server.run(&tail);
    assert_eq!(lines.lines().count(), events.len() - 3, "{lines}");
    assert!(lines.contains("task.created") && lines.contains(&ada.id), "{lines}");
    let (status, _, errors) = server.run(&["events", "tail", "--once", "--type", "task.exploded"]);
    assert!(!status.success() && errors.contains("--type"), "{errors}");
    server.finish().await;
}

/// In production the first who registers is not admin.
async fn a_new_instance_is_given_its_first_admin(backend: Backend) {
    let place = Server::start(backend).with("FIRST_USER_IS_ADMIN", "false");
    let list = place.run(&["user", "list"]).await;
    assert!(!list.status.success() && list.stdout.is_empty(), "there is no store yet");
    assert!(list.stderr.contains("DATA_DIR") || list.stderr.contains("migrate up"), "{}", list.stderr);
    let server = place.await;
    made(&server, "root@example.org", "Root", &["admin"]);
    assert!(server.user("Eve").await.roles.is_empty());
    let root = logged_in(&server, "root@example.org", PASSWORD).await;
    server.get("/v1/admin/dead-letters").as_(&root).expect(200).await;
    server.finish().await;
}
