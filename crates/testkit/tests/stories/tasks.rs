//! Tasks, one at a time.

use futures::future::join_all;
use serde_json::{Value, json};
use taskpost_testkit::{Backend, Fields as _, Response, TestApp, both};

both!(
    a_task_is_made_at_both_doors,
    what_does_not_fit_is_refused,
    a_known_version_is_not_sent_again,
    a_patch_merges,
    of_two_changes_to_one_version_one_wins,
    a_deleted_task_is_gone,
    a_task_moves_through_its_workflow,
    a_task_is_given_and_taken,
    strangers_know_of_nothing,
);

async fn a_task_is_made_at_both_doors(backend: Backend) {
    let app = TestApp::start(backend).await;
    let ada = app.user("Ada").await;
    for (path, fields) in [
        ("/tasks", json!({"title": "Fix the lift"})),
        (
            "/v1/tasks",
            json!({"title": "Réparer 🛗", "description": "a\nb", "type": "bug", "priority": "urgent", "assignee_id": ada.id,
                   "labels": ["x", "y"], "due_at": "2030-01-31T12:00:00.123456Z"}),
        ),
    ] {
        let answer = app.post(path, fields.clone()).as_(&ada).expect(201).await;
        let task = answer.json();
        assert_eq!(answer.header("location"), format!("/v1/tasks/{}", task.text("id")));
        assert_eq!(answer.header("etag"), "\"v1.0\"");
        for (name, value) in fields.as_object().into_iter().flatten() {
            assert_eq!(task[name], *value, "{name}");
        }
        assert_eq!((task.text("status"), task.text("state"), task.int("version")), ("todo", "open", 1));
        assert_eq!(task.text("reporter_id"), ada.id);
        for door in ["", "/v1"] {
            let read = app.get(&format!("{door}/tasks/{}", task.text("id"))).as_(&ada).expect(200).await;
            assert_eq!((read.header("etag"), read.json()), ("\"v1.0\"", task.clone()));
        }
        app.drain().await;
        // The last event of the write: of one with an assignee, the assignment.
        let event = app.read(&ada, &format!("/v1/events/{}", answer.header("event-id"))).await;
        let last = if task["assignee_id"].is_null() { "task.created" } else { "task.assigned" };
        assert_eq!((event.text("type"), event["data"]["task"].text("id")), (last, task.text("id")));
    }
    app.finish().await;
}

async fn what_does_not_fit_is_refused(backend: Backend) {
    let app = TestApp::start(backend).await;
    let ada = app.user("Ada").await;
    let nobody = "0198f0c0-0000-7000-8000-000000000000";
    for (fields, pointer) in [
        (json!({}), "/title"),
        (json!({"title": ""}), "/title"),
        (json!({"title": "x".repeat(201)}), "/title"),
        (json!({"title": "a\nb"}), "/title"),
        (json!({"title": "a\u{0}b"}), "/title"),
        (json!({"title": 5}), "/title"),
        (json!({"title": "a", "description": "x".repeat(20_001)}), "/description"),
        (json!({"title": "a", "description": "\u{0}"}), "/description"),
        (json!({"title": "a", "type": "story"}), "/type"),
        (json!({"title": "a", "priority": "most"}), "/priority"),
        (json!({"title": "a", "labels": ["ok", ""]}), "/labels/1"),
        (json!({"title": "a", "labels": vec!["x"; 21]}), "/labels"),
        (json!({"title": "a", "due_at": "tomorrow"}), "/due_at"),
        (json!({"title": "a", "assignee_id": nobody}), "/assignee_id"),
        (json!({"title": "a", "project_id": nobody}), "/project_id"),
        (json!({"title": "a", "id": nobody}), "/id"),
        (json!({"title": "a", "reporter_id": ada.id}), "/reporter_id"),
        (json!({"title": "a", "version": 7}), "/version"),
    ] {
        let problem = app.post("/v1/tasks", fields.clone()).as_(&ada).refused(422).await;
        assert_eq!(problem.texts("errors", "pointer"), [pointer], "{fields}");
    }
    let both = json!({"title": "", "labels": [""], "due_at": "1900-01-01T00:00:00Z"});
    let problem = app.post("/v1/tasks", both).as_(&ada).refused(422).await;
    assert_eq!(problem.texts("errors", "pointer"), ["/title", "/labels/0", "/due_at"]);
    assert!(app.list(&ada, "/v1/tasks").await.is_empty());
    app.task(&ada, json!({"title": "é".repeat(200), "description": "x".repeat(20_000)})).await;
    app.finish().await;
}

async fn a_known_version_is_not_sent_again(backend: Backend) {
    let app = TestApp::start(backend).await;
    let ada = app.user("Ada").await;
    let task = app.task(&ada, json!({"title": "a"})).await;
    let path = format!("/v1/tasks/{}", task.text("id"));
    for tag in ["\"v1.0\"", "W/\"v1.0\"", "\"other\", \"v1.0\"", "*"] {
        let answer = app.get(&path).as_(&ada).header("if-none-match", tag).expect(304).await;
        assert_eq!((answer.header("etag"), answer.body.len()), ("\"v1.0\"", 0));
    }
    app.patch(&path, json!({"title": "b"})).as_(&ada).expect(200).await;
    let answer = app.get(&path).as_(&ada).header("if-none-match", "\"v1.0\"").expect(200).await;
    assert_eq!(answer.header("etag"), "\"v2.0\"");
    app.finish().await;
}

async fn a_patch_merges(backend: Backend) {
    let app = TestApp::start(backend).await;
    let (ada, bob) = (app.user("Ada").await, app.user("Bob").await);
    let task = json!({"title": "a", "description": "b", "type": "bug", "priority": "high", "labels": ["x"],
                      "due_at": "2030-01-31T12:00:00Z", "assignee_id": bob.id});
    let task = app.task(&ada, task).await;
    let path = format!("/v1/tasks/{}", task.text("id"));
    let change = |patch: Value| app.patch(&path, patch).as_(&ada);

    let answer = change(json!({"title": "c", "labels": null, "due_at": null})).expect(200).await;
    let changed = answer.json();
    assert_eq!((answer.header("etag"), changed.int("version")), ("\"v2.0\"", 2));
    assert_eq!(
        (&changed["title"], &changed["labels"], &changed["due_at"]),
        (&json!("c"), &json!([]), &Value::Null)
    );
    for stays in ["description", "type", "priority", "assignee_id", "status", "created_at", "reporter_id"] {
        assert_eq!(changed[stays], task[stays], "{stays}");
    }
    let answer = change(json!({"assignee_id": null, "priority": null, "type": null, "description": null}))
        .expect(200)
        .await;
    let emptied = answer.json();
    assert_eq!(emptied["assignee_id"], Value::Null);
    let texts = ["priority", "type", "description"].map(|name| emptied.text(name).to_owned());
    assert_eq!(texts, ["none", "task", ""]);
    app.drain().await;
    let event = app.read(&ada, &format!("/v1/events/{}", answer.header("event-id"))).await;
    assert_eq!((event.text("type"), event.int("aggregateversion")), ("task.unassigned", 3));

    // What changes nothing is no change.
    let same = change(json!({"title": "c"})).expect(200).await;
    assert_eq!((same.header("etag"), same.find("event-id")), ("\"v3.0\"", None));
    change(json!({})).expect(200).await;
    for (bad, pointer) in [
        (json!({"title": null}), "/title"),
        (json!({"status": "done"}), "/status"),
        (json!({"version": 9}), "/version"),
        (json!({"reporter_id": bob.id}), "/reporter_id"),
        (json!({"assignee_id": "0198f0c0-0000-7000-8000-000000000000"}), "/assignee_id"),
    ] {
        let problem = change(bad).refused(422).await;
        assert_eq!(problem.texts("errors", "pointer"), [pointer]);
    }
    let merge = app.patch(&path, None).as_(&ada).body("application/merge-patch+json", r#"{"title":"d"}"#);
    assert_eq!(merge.expect(200).await.json().text("title"), "d");
    app.finish().await;
}

async fn of_two_changes_to_one_version_one_wins(backend: Backend) {
    let app = TestApp::start(backend).await;
    let ada = app.user("Ada").await;
    let task = app.task(&ada, json!({"title": "a"})).await;
    let path = format!("/v1/tasks/{}", task.text("id"));
    let change = |title: &str| app.patch(&path, json!({"title": title})).as_(&ada);

    let both = join_all(["b", "c"].map(|title| change(title).header("if-match", "\"v1.0\"").send())).await;
    let mut statuses: Vec<u16> = both.iter().map(|answer| answer.status).collect();
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 412]);
    change("d").header("if-match", "\"v1.0\"").refused(412).await;
    change("d").header("if-match", "W/\"v2.0\"").refused(412).await;
    change("d").header("if-match", "v2").refused(400).await;
    // Comments change what is shown, but not the version.
    change("d").header("if-match", "\"v2.7\"").expect(200).await;
    change("e").header("if-match", "*").expect(200).await;
    let transition = app.post(&format!("{path}/transitions"), json!({"to": "in_progress"})).as_(&ada);
    transition.header("if-match", "\"v1.0\"").refused(412).await;
    app.delete(&path).as_(&ada).header("if-match", "\"v1.0\"").refused(412).await;

    // Without a version every change finds its place.
    let many =
        join_all((0..12).map(|i| app.patch(&path, json!({"title": format!("t{i}")})).as_(&ada).send())).await;
    let lost = many.iter().filter(|answer| answer.status != 200).map(Response::text);
    assert_eq!(lost.collect::<Vec<_>>(), Vec::<String>::new());
    assert_eq!(app.read(&ada, &path).await.int("version"), 16);
    app.finish().await;
}

async fn a_deleted_task_is_gone(backend: Backend) {
    let app = TestApp::start(backend).await;
    let (ada, bob, eve) = (app.user("Ada").await, app.user("Bob").await, app.user("Eve").await);
    let task = app.task(&bob, json!({"title": "a", "assignee_id": eve.id})).await;
    let path = format!("/v1/tasks/{}", task.text("id"));
    app.delete(&path).as_(&eve).refused(403).await;
    let answer = app.delete(&path).as_(&bob).expect(204).await;
    assert!(answer.body.is_empty());
    for user in [&ada, &bob, &eve] {
        app.get(&path).as_(user).refused(404).await;
        app.delete(&path).as_(user).refused(404).await;
    }
    app.drain().await;
    let event = app.read(&bob, &format!("/v1/events/{}", answer.header("event-id"))).await;
    assert_eq!((event.text("type"), event.int("aggregateversion")), ("task.deleted", 2));
    let other = app.task(&bob, json!({"title": "b"})).await;
    app.delete(&format!("/tasks/{}", other.text("id"))).as_(&ada).expect(204).await;
    app.finish().await;
}

async fn a_task_moves_through_its_workflow(backend: Backend) {
    let app = TestApp::start(backend).await;
    let ada = app.user("Ada").await;
    let task = app.task(&ada, json!({"title": "a"})).await;
    let path = format!("/v1/tasks/{}/transitions", task.text("id"));
    let go = |transition: Value| app.post(&path, transition).as_(&ada);

    let moved = go(json!({"to": "in_progress"})).expect(200).await;
    assert_eq!(moved.header("etag"), "\"v2.0\"");
    assert_eq!(moved.json().text("status_category"), "in_progress");
    for (bad, pointer) in [
        (json!({"to": "done"}), "/resolution"),
        (json!({"to": "done", "resolution": "because"}), "/resolution"),
        (json!({"to": "in_review", "resolution": "done"}), "/resolution"),
        (json!({"to": "nowhere"}), "/to"),
        (json!({}), "/to"),
        (json!({"to": "todo", "version": 1}), "/version"),
    ] {
        assert_eq!(go(bad).refused(422).await.texts("errors", "pointer"), [pointer]);
    }
    go(json!({"to": "in_progress"})).refused(409).await;
    let done = go(json!({"to": "done", "resolution": "duplicate"})).expect(200).await.json();
    assert_eq!((done.text("state"), done.text("resolution")), ("closed", "duplicate"));
    assert!(done["completed_at"].is_string());
    for (to, resolution) in [("in_review", None), ("cancelled", Some("wont_do")), ("done", Some("done"))] {
        go(json!({"to": to, "resolution": resolution})).refused(409).await;
    }
    let reopened = go(json!({"to": "todo"})).expect(200).await.json();
    assert_eq!(
        (reopened.text("state"), &reopened["resolution"], &reopened["completed_at"]),
        ("open", &Value::Null, &Value::Null)
    );
    app.drain().await;
    let types: Vec<_> =
        app.events(&ada).await.iter().skip(3).map(|event| event.text("type").to_owned()).collect();
    let expected = ["status_changed", "status_changed", "completed", "status_changed", "reopened"];
    assert_eq!(types, expected.map(|name| format!("task.{name}")));
    app.finish().await;
}

async fn a_task_is_given_and_taken(backend: Backend) {
    let app = TestApp::start(backend).await;
    let (_admin, ada, bob) = (app.user("Root").await, app.user("Ada").await, app.user("Bob").await);
    let task = app.task(&ada, json!({"title": "a"})).await;
    let path = format!("/v1/tasks/{}", task.text("id"));
    let give = |to: &str| app.put(&format!("{path}/assignee"), json!({"assignee_id": to})).as_(&ada);

    app.get(&path).as_(&bob).refused(404).await;
    let given = give(&bob.id).expect(200).await;
    assert_eq!((given.header("etag"), given.json().text("assignee_id")), ("\"v2.0\"", bob.id.as_str()));
    app.get(&path).as_(&bob).expect(200).await;
    app.move_task(&bob, &task, json!({"to": "in_progress"})).await;
    let problem = give("0198f0c0-0000-7000-8000-000000000000").refused(422).await;
    assert_eq!(problem.texts("errors", "pointer"), ["/assignee_id"]);
    give("nobody").refused(422).await;

    let taken = app.delete(&format!("{path}/assignee")).as_(&ada).expect(204).await;
    assert_eq!(taken.header("etag"), "\"v4.0\"");
    assert!(taken.find("event-id").is_some());
    app.get(&path).as_(&bob).refused(404).await;
    // Taking it from nobody changes nothing.
    let nothing = app.delete(&format!("{path}/assignee")).as_(&ada).expect(204).await;
    assert_eq!((nothing.header("etag"), nothing.find("event-id")), ("\"v4.0\"", None));
    app.finish().await;
}

async fn strangers_know_of_nothing(backend: Backend) {
    let app = TestApp::start(backend).await;
    let (admin, ada, eve) = (app.user("Root").await, app.user("Ada").await, app.user("Eve").await);
    let task = app.task(&ada, json!({"title": "a"})).await;
    let (path, absent) =
        (format!("/v1/tasks/{}", task.text("id")), "/v1/tasks/0198f0c0-0000-7000-8000-000000000000");
    for path in [path.as_str(), absent, "/v1/tasks/OPS-1", "/v1/tasks/1"] {
        let requests = || {
            [
                app.get(path),
                app.patch(path, json!({"title": "b"})),
                app.delete(path),
                app.post(&format!("{path}/transitions"), json!({"to": "in_progress"})),
                app.put(&format!("{path}/assignee"), json!({"assignee_id": eve.id})),
                app.delete(&format!("{path}/assignee")),
            ]
        };
        for request in requests() {
            let problem = request.as_(&eve).refused(404).await;
            assert!(!problem.text("detail").contains("title"), "{problem}");
        }
        for request in requests() {
            request.refused(401).await;
        }
    }
    assert!(app.list(&eve, "/v1/tasks").await.is_empty());
    assert_eq!(app.read(&admin, &path).await, task);
    assert_eq!(app.list(&admin, "/v1/tasks").await, [task]);
    app.finish().await;
}
