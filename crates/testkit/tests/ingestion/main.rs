//! `Prefer: respond-async`: where the log is Kafka a task is accepted first and stored a moment later, once; what cannot be
//! stored is told to whoever sent it. Elsewhere the preference is ignored.
#![expect(clippy::expect_used, clippy::panic, reason = "a test may stop at the first surprise")]

mod kafka;

use std::{collections::BTreeSet, sync::Mutex, time::Duration};

use chrono::TimeDelta;
use futures::future::join_all;
use serde_json::{Value, json};
use taskpost_common::{Clock, page::CursorKey};
use taskpost_testkit::{Backend, Fields as _, Response, Server, TestApp, User, both, until, until_within};
use uuid::Uuid;

use kafka::Kafka;

both!(
    on_the_stores_own_log_the_preference_is_ignored,
    a_token_holds_for_one_task_one_user_and_a_day,
    an_accepted_task_is_stored_and_told_like_any_other,
    a_refusal_is_told_to_whoever_sent_it_and_can_be_mended,
    a_task_is_stored_with_the_rights_of_its_request,
    what_comes_twice_happens_once_and_what_cannot_be_read_is_kept,
    a_killed_process_loses_nothing_that_it_accepted,
);

/// Until a killed process is missed by its group, and its successor has done its work.
const RECOVERY: Duration = Duration::from_mins(3);
const SECRET: &str = "a secret that only the tests of ingestion have";
const NOBODY: &str = "0198f0c0-0000-7000-8000-000000000000";

async fn on_the_stores_own_log_the_preference_is_ignored(backend: Backend) {
    let app = TestApp::start(backend).without("KAFKA_BROKERS").await;
    let ada = app.user("Ada").await;
    let title = json!({"title": "Fix the lift"});
    let answer = app.post("/v1/tasks", title).header("prefer", "respond-async").as_(&ada).expect(201).await;
    assert!(answer.find("preference-applied").is_none());
    assert!(answer.find("etag").is_some() && answer.find("event-id").is_some());
    let location = answer.header("location").to_owned();
    assert_eq!(location, format!("/v1/tasks/{}", answer.json().text("id")));
    app.get(&format!("{location}?accepted=x")).as_(&ada).expect(200).await;
    for (query, code) in [("?accept=x", "unknown_key"), ("?accepted=a&accepted=b", "repeated_key")] {
        let problem = app.get(&format!("{location}{query}")).as_(&ada).refused(400).await;
        assert_eq!(problem.texts("errors", "code"), [code]);
    }
    app.finish().await;
}

/// Made as the product makes them, so that their time is ours.
async fn a_token_holds_for_one_task_one_user_and_a_day(backend: Backend) {
    let clock = Clock::manual(Clock::system().now());
    let starting = TestApp::start(backend).without("KAFKA_BROKERS").with("JWT_SECRET", SECRET);
    let app = starting.clock(clock.clone()).await;
    let (ada, bob) = (app.user("Ada").await, app.user("Bob").await);
    let absent = clock.id::<Uuid>().to_string();
    let path = |id: &str, token: &str| format!("/v1/tasks/{id}?accepted={token}");
    let token = |id: &str, user: &User, age: TimeDelta| {
        let at = clock.now() - age;
        let scope = format!("accepted {id} {}", user.id);
        CursorKey::derive(SECRET.as_bytes()).seal(&scope, at, clock.now()).expect("a token")
    };
    let new = TimeDelta::zero();

    let good = token(&absent, &ada, new);
    let accepted = app.get(&path(&absent, &good)).as_(&ada).expect(202).await;
    assert_eq!(accepted.json(), json!({"id": absent, "status": "accepted"}));
    assert_eq!(accepted.header("retry-after"), "1");
    app.get(&path(&absent, &token(&absent, &ada, TimeDelta::hours(24)))).as_(&ada).expect(202).await;

    for _ in 0..2 {
        app.task(&ada, json!({"title": "For a cursor"})).await;
    }
    let page = app.read(&ada, "/v1/tasks?limit=1").await;
    let cursor = page["page"].text("next_cursor").to_owned();
    let other = clock.id::<Uuid>().to_string();
    let late = TimeDelta::hours(24) + TimeDelta::microseconds(1);
    for (why, token) in [
        ("none", String::new()),
        ("cut", good[..good.len() - 1].to_owned()),
        ("longer", format!("{good}A")),
        ("no token at all", "ü%20{}".to_owned()),
        ("huge", "A".repeat(5_000)),
        ("of another task", token(&other, &ada, new)),
        ("of another user", token(&absent, &bob, new)),
        ("of yesterday", token(&absent, &ada, late)),
        ("a cursor", cursor),
    ] {
        let answer = app.get(&path(&absent, &token)).as_(&ada).send().await;
        assert_eq!(answer.status, 404, "{why}: {}", answer.text());
    }
    app.get(&format!("/v1/tasks/{absent}")).as_(&ada).refused(404).await;
    app.get(&path(&absent, &good)).as_(&bob).refused(404).await;
    app.get(&path(&absent, &good)).expect(401).await;

    // Once it is stored, the task itself decides who sees it; once it is deleted, there is nothing to wait for.
    let task = app.task(&ada, json!({"title": "Fix the lift"})).await;
    let id = task.text("id");
    let of_ada = token(id, &ada, new);
    assert_eq!(app.read(&ada, &path(id, &of_ada)).await, task);
    app.delete(&format!("/v1/tasks/{id}")).as_(&ada).expect(204).await;
    app.get(&path(id, &of_ada)).as_(&ada).refused(404).await;
    app.finish().await;
}

async fn an_accepted_task_is_stored_and_told_like_any_other(backend: Backend) {
    let kafka = Kafka::new();
    let app = kafka.start(backend).await;
    let (ada, bob) = (app.user("Ada").await, app.user("Bob").await);
    let fields = json!({
        "title": "Fix the lift", "description": "It is stuck.\n\"Third\" floor ü", "type": "bug", "priority": "urgent",
        "labels": ["house", "a,b"], "assignee_id": bob.id, "due_at": "2030-01-31T12:00:00Z",
    });
    let accepted = accept(&app, &ada, fields.clone()).await;
    assert_eq!(accepted.header("preference-applied"), "respond-async");
    assert!(accepted.find("etag").is_none() && accepted.find("event-id").is_none());
    let body = accepted.json();
    let id = body.text("id");
    assert_eq!(body, json!({"id": id, "status": "accepted"}));
    let location = accepted.header("location");
    assert!(location.starts_with(&format!("/v1/tasks/{id}?accepted=")), "{location}");

    let stored = settled(&app, &ada, location).await;
    assert_eq!(stored.status, 200, "{}", stored.text());
    let (task, path) = (stored.json(), format!("/v1/tasks/{id}"));
    let plain = app.task(&ada, fields.clone()).await;
    for (field, value) in plain.as_object().expect("a task") {
        if !["id", "created_at", "updated_at"].contains(&field.as_str()) {
            assert_eq!(&task[field], value, "{field}");
        }
    }
    let tag = stored.header("etag");
    app.get(location).header("if-none-match", tag).as_(&ada).expect(304).await;
    assert_eq!(app.read(&bob, &path).await, task, "whoever has it sees it without a token");

    app.drain().await;
    let told: Vec<Value> =
        app.events(&ada).await.into_iter().filter(|event| event["subject"] == format!("task/{id}")).collect();
    let types: Vec<&str> = told.iter().map(|event| event.text("type")).collect();
    assert_eq!(types, ["task.created", "task.assigned"]);
    assert!(told.iter().all(|event| event["actorid"] == ada.id), "{told:?}");
    assert_eq!(told[0]["correlationid"], told[1]["correlationid"]);
    let inbox = app.list(&bob, "/v1/notifications").await;
    let told = inbox.iter().filter(|item| item["subject"]["id"] == id).count();
    assert_eq!(told, 1, "{inbox:?}");

    // What asks for the answer itself gets it, and what is wrong is told at once.
    for (prefer, key, status) in [
        ("respond-async", Some("k"), 201),
        ("return=minimal", None, 201),
        ("respond-async=no", None, 201),
        ("wait=5, Respond-Async", None, 202),
    ] {
        let request = app.post("/v1/tasks", json!({"title": prefer})).header("prefer", prefer).as_(&ada);
        let request = if let Some(key) = key { request.key(key) } else { request };
        let answer = request.expect(status).await;
        assert_eq!(answer.find("preference-applied").is_some(), status == 202, "{prefer}");
        if status == 202 {
            assert_eq!(settled(&app, &ada, answer.header("location")).await.status, 200);
        }
    }
    // The lag is told now and then.
    until(|| async {
        let metrics = app.get("/metrics").expect(200).await.text();
        let is_told = |name: &&str| metrics.contains(&format!("\ntaskpost_ingestion_{name} "));
        match ["accepted_total", "stored_total", "lag"].iter().find(|name| !is_told(name)) {
            Some(name) => Err(format!("{name}: {metrics}")),
            None => Ok(()),
        }
    })
    .await;
    let untitled = app.post("/v1/tasks", json!({"title": ""})).header("prefer", "respond-async");
    assert_eq!(untitled.as_(&ada).refused(422).await.texts("errors", "pointer"), ["/title"]);
    app.post("/v1/tasks", json!({"title": "a"})).header("prefer", "respond-async").expect(401).await;
    app.finish().await;
}

async fn a_refusal_is_told_to_whoever_sent_it_and_can_be_mended(backend: Backend) {
    let kafka = Kafka::new();
    let app = kafka.start(backend).await;
    let (root, ada) = (app.user("Root").await, app.user("Ada").await);
    let accepted = accept(&app, &ada, json!({"title": "Fix the lift", "assignee_id": NOBODY})).await;
    let (id, location) = (accepted.json().text("id").to_owned(), accepted.header("location").to_owned());
    let refused = settled(&app, &ada, &location).await;
    assert_eq!(refused.status, 422);
    let at_once = app.post("/v1/tasks", json!({"title": "a", "assignee_id": NOBODY})).as_(&ada).refused(422);
    assert_eq!(refused.problem()["errors"], at_once.await["errors"], "as if it had been told at once");
    app.get(&location).as_(&root).refused(404).await;
    app.get(&format!("/v1/tasks/{id}")).as_(&ada).refused(404).await;
    assert!(app.events(&root).await.iter().all(|event| event["subject"] != format!("task/{id}")));

    let letters = app.list(&root, "/v1/admin/dead-letters").await;
    let [letter] = letters.as_slice() else { panic!("{letters:?}") };
    assert_eq!((letter.text("source"), letter.text("group")), ("log", "ingestion"));
    assert!(letter.text("reason").contains(NOBODY), "{letter}");
    assert_eq!(letter["attempts"][0]["status_code"], 422);
    assert_eq!(letter["payload"]["task"]["title"], "Fix the lift");
    let copies = kafka.read("dlq").await;
    // A copy may be there twice, where Kafka was slow to confirm the first.
    let sent = kafka.read("ingest").await.remove(0);
    assert!(!copies.is_empty() && copies.iter().all(|copy| copy.value == sent.value));

    // As it is it fails again; edited it is stored, under its own id only.
    let letter = format!("/v1/admin/dead-letters/{}", letter.text("id"));
    let mut payload = kafka.value("ingest").await;
    let mut other = payload.clone();
    other["id"] = json!(NOBODY);
    payload["task"]["assignee_id"] = json!(ada.id);
    for (body, state) in [
        (Value::Null, "dead"),
        (json!({"payload": {"version": 1}}), "dead"),
        (json!({"payload": other}), "dead"),
        (json!({"payload": payload}), "redriven"),
    ] {
        let body = Some(body).filter(|body| !body.is_null());
        app.post(&format!("{letter}/redrive"), body).as_(&root).expect(202).await;
        let letter = until(|| async {
            let letter = app.read(&root, &letter).await;
            if letter["state"] == "redriving" { Err(letter.to_string()) } else { Ok(letter) }
        });
        assert_eq!(letter.await.text("state"), state);
        let status = if state == "dead" { 422 } else { 200 };
        app.get(&location).as_(&ada).expect(status).await;
    }
    let task = app.read(&ada, &location).await;
    assert_eq!((task.text("id"), task.text("assignee_id")), (id.as_str(), ada.id.as_str()));
    app.drain().await;
    assert_eq!(created(&app, &root, &id).await, 1);
    app.finish().await;
}

async fn a_task_is_stored_with_the_rights_of_its_request(backend: Backend) {
    let kafka = Kafka::new();
    let app = kafka.start(backend).await;
    let (root, ada) = (app.user("Root").await, app.user("Ada").await);
    let project = app.project(&ada, json!({"title": "Hidden", "visibility": "private"})).await;
    let fields = json!({"title": "Fix the lift", "project_id": project["id"]});
    let token = json!({"name": "a machine", "scopes": ["read", "write"]});
    let token = app.post("/v1/me/tokens", token).as_(&root).expect(201).await.json();
    let request = || app.post("/v1/tasks", fields.clone()).token(token.text("secret"));
    let at_once = request().refused(422).await;

    // Root is an admin, and this token is none.
    let accepted = request().header("prefer", "respond-async").expect(202).await;
    let refused = settled(&app, &root, accepted.header("location")).await;
    assert_eq!(refused.status, 422);
    assert_eq!(refused.problem()["errors"], at_once["errors"]);
    let accepted = accept(&app, &root, fields.clone()).await;
    assert_eq!(settled(&app, &root, accepted.header("location")).await.status, 200);

    // Of what does not say it, nobody knows whether an admin sent it as one.
    let sent = kafka.read("ingest").await.into_iter();
    let sent = sent.map(|record| serde_json::from_slice::<Value>(&record.value).expect("JSON"));
    let mut old = sent.filter(|command| command["admin"] == true).collect::<Vec<_>>().remove(0);
    old.as_object_mut().expect("a command").remove("admin");
    old["id"] = json!(NOBODY);
    kafka.write(0, NOBODY.as_bytes(), old.to_string().as_bytes()).await;
    until(|| async {
        let letters = app.list(&root, "/v1/admin/dead-letters").await;
        let is_there = letters.iter().any(|letter| letter["payload"]["id"] == NOBODY);
        if is_there { Ok(()) } else { Err(format!("{letters:?}")) }
    })
    .await;
    app.expect_dead_letters();
    app.finish().await;
}

async fn what_comes_twice_happens_once_and_what_cannot_be_read_is_kept(backend: Backend) {
    let kafka = Kafka::new();
    let app = kafka.start(backend).await;
    let root = app.user("Root").await;
    let [kept, gone] = ["Water the plants", "Fix the lift"].map(|title| json!({"title": title}));
    let mut ids = Vec::new();
    for fields in [kept, gone] {
        let accepted = accept(&app, &root, fields).await;
        assert_eq!(settled(&app, &root, accepted.header("location")).await.status, 200);
        ids.push(accepted.json().text("id").to_owned());
    }
    app.delete(&format!("/v1/tasks/{}", ids[1])).as_(&root).expect(204).await;

    let records = kafka.read("ingest").await;
    assert_eq!(records.len(), 2);
    let newer = String::from_utf8(records[0].value.clone()).expect("JSON");
    let newer = newer.replace("\"version\":1", "\"version\":2").into_bytes();
    let unreadable: [(&str, &[u8]); 4] =
        [(NOBODY, b"{"), ("", b"\xff\x00"), (&ids[0], &newer), (NOBODY, b"[]")];
    // Twice, and then once more because nobody knows any more how far it was read.
    for (round, letters) in [6, 10].into_iter().enumerate() {
        for record in &records {
            kafka.write(0, &record.key, &record.value).await;
        }
        for (key, value) in &unreadable {
            kafka.write(0, key.as_bytes(), value).await;
        }
        // The same words under the same key are one letter; without a key each record is one.
        assert_eq!(letters_until(&app, &root, &kafka, &format!("round {round}")).await, letters);
    }
    let starting = app.stop().await;
    kafka.forget_how_far_it_was_read().await;
    let app = starting.await;
    assert_eq!(letters_until(&app, &root, &kafka, "the end").await, 12);
    app.drain().await;
    assert_eq!(created(&app, &root, &ids[0]).await, 1);
    assert_eq!(created(&app, &root, &ids[1]).await, 1);
    app.get(&format!("/v1/tasks/{}", ids[0])).as_(&root).expect(200).await;
    app.get(&format!("/v1/tasks/{}", ids[1])).as_(&root).refused(404).await;
    assert_eq!(app.list(&root, "/v1/tasks").await.len(), 1);
    app.expect_dead_letters();
    app.finish().await;
}

async fn a_killed_process_loses_nothing_that_it_accepted(backend: Backend) {
    let kafka = Kafka::new();
    let variables = kafka.variables().into_iter();
    let server =
        variables.fold(Server::start(backend), |server, (name, value)| server.with(name, value)).await;
    kafka.stands().await;
    let ada = server.user("Ada").await;
    let accepted = Mutex::new(BTreeSet::new());
    let count = || accepted.lock().expect("no client panicked").len();
    let client = async || {
        let title = json!({"title": "Fix the lift"});
        // The first that gets no answer has seen the end.
        while let Ok(answer) = server
            .post("/v1/tasks", title.clone())
            .header("prefer", "respond-async")
            .as_(&ada)
            .try_send()
            .await
        {
            // Of what Kafka has yet to confirm nobody knows whether it is there.
            if answer.status == 503 {
                continue;
            }
            assert_eq!(answer.status, 202, "{}", answer.text());
            accepted.lock().expect("no client panicked").insert(answer.json().text("id").to_owned());
        }
    };
    let killer = async {
        until(|| async { if count() >= 500 { Ok(()) } else { Err("too few were accepted".to_owned()) } })
            .await;
        server.kill();
    };
    tokio::join!(join_all((0..8).map(|_| client())), killer);
    let all = count();
    server.restart().await;
    until_within(RECOVERY, || async {
        let told = server.events(&ada).await;
        let made = told.iter().filter(|event| event["type"] == "task.created");
        let made: Vec<String> = made.map(|event| event["data"]["task"].text("id").to_owned()).collect();
        let once: BTreeSet<String> = made.iter().cloned().collect();
        assert_eq!(made.len(), once.len(), "a task was made twice");
        let missing = accepted.lock().expect("no client panicked").difference(&once).count();
        if missing == 0 { Ok(()) } else { Err(format!("{missing} of {all} are not stored")) }
    })
    .await;
    server.finish().await;
}

/// Without brokers nobody knows what became of it, and everything else goes on.
#[tokio::test(flavor = "multi_thread")]
async fn without_kafka_the_outcome_is_unknown() {
    let app = TestApp::start(Backend::Sqlite).with("KAFKA_BROKERS", "127.0.0.1:1").await;
    let ada = app.user("Ada").await;
    let title = json!({"title": "Fix the lift"});
    let request = app.post("/v1/tasks", title.clone()).header("prefer", "respond-async").as_(&ada);
    let answer = request.expect(503).await;
    assert_eq!(answer.header("retry-after"), "1");
    assert!(answer.problem().text("detail").contains("unknown"), "{}", answer.text());
    app.post("/v1/tasks", title).as_(&ada).expect(201).await;
    drop(app.stop().await);
}

async fn accept(app: &TestApp, user: &User, fields: Value) -> Response {
    app.post("/v1/tasks", fields).header("prefer", "respond-async").as_(user).expect(202).await
}

/// What is said of an accepted task once it is not merely accepted any more.
async fn settled(app: &TestApp, user: &User, location: &str) -> Response {
    until(|| async {
        let answer = app.get(location).as_(user).send().await;
        if answer.status == 202 { Err(format!("still accepted: {location}")) } else { Ok(answer) }
    })
    .await
}

/// The number of dead letters once all that was written before is done, which unreadable marks at the end of each
/// partition tell.
async fn letters_until(app: &TestApp, root: &User, kafka: &Kafka, mark: &str) -> usize {
    let marks = [0, 1].map(|partition| format!("{mark} in {partition}"));
    for (partition, mark) in marks.iter().enumerate() {
        let partition = i32::try_from(partition).expect("a small number");
        kafka.write(partition, mark.as_bytes(), mark.as_bytes()).await;
    }
    until(|| async {
        let letters = app.list(root, "/v1/admin/dead-letters?limit=200").await;
        assert!(letters.iter().all(|letter| letter["group"] == "ingestion"), "{letters:#?}");
        let is_there = |mark: &String| letters.iter().any(|letter| letter["payload"] == *mark);
        if marks.iter().all(is_there) { Ok(letters.len()) } else { Err(format!("no letters of {marks:?}")) }
    })
    .await
}

/// How often it was told that a task was made.
async fn created(app: &TestApp, user: &User, id: &str) -> usize {
    let told = app.events(user).await;
    told.iter()
        .filter(|event| event["type"] == "task.created" && event["subject"] == format!("task/{id}"))
        .count()
}
