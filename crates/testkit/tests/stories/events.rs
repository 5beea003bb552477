//! The log, as far as one may see it.

use std::collections::{BTreeMap, HashSet};

use futures::future::join_all;
use serde_json::{Value, json};
use taskpost_testkit::{Backend, Fields as _, TestApp, User, both};

both!(
    the_log_is_dense_and_in_order,
    one_sees_what_is_ones_own,
    what_happens_in_a_project_is_for_who_may_read_it_now,
    whoever_belonged_to_a_deleted_project_sees_that,
    a_cursor_moves_over_hidden_events,
    types_and_families_narrow,
    an_event_by_its_id,
    every_type_has_its_schema,
);

async fn the_log_is_dense_and_in_order(backend: Backend) {
    let app = TestApp::start(backend).await;
    let (admin, ada) = (app.user("Root").await, app.user("Ada").await);
    let stories = (0..20).map(|i| {
        let (app, user) = (&app, if i % 2 == 0 { &admin } else { &ada });
        async move {
            let task = app.task(user, json!({"title": format!("{i}")})).await;
            let path = format!("/v1/tasks/{}", task.text("id"));
            app.patch(&path, json!({"priority": "high"})).as_(user).expect(200).await;
            app.move_task(user, &task, json!({"to": "done", "resolution": "done"})).await;
            app.delete(&path).as_(user).expect(204).await;
        }
    });
    join_all(stories).await;
    app.drain().await;
    let events = app.events(&admin).await;
    let positions: Vec<i64> = events.iter().map(|event| event.int("position")).collect();
    assert_eq!(positions, (1..=i64::try_from(events.len()).unwrap_or(0)).collect::<Vec<_>>());
    assert_eq!(events.len(), 4 + 20 * 5);

    let mut versions: BTreeMap<&str, Vec<i64>> = BTreeMap::new();
    for event in events.iter().filter(|event| event.text("subject").starts_with("task/")) {
        versions.entry(event.text("subject")).or_default().push(event.int("aggregateversion"));
    }
    assert_eq!(versions.len(), 20);
    assert!(versions.values().all(|versions| versions == &[1, 2, 3, 3, 4]), "{versions:?}");
    let ids: HashSet<&str> = events.iter().map(|event| event.text("id")).collect();
    assert_eq!(ids.len(), events.len());
    app.finish().await;
}

async fn one_sees_what_is_ones_own(backend: Backend) {
    let app = TestApp::start(backend).await;
    let (admin, ada, bob, eve) =
        (app.user("Root").await, app.user("Ada").await, app.user("Bob").await, app.user("Eve").await);
    let task = app.task(&ada, json!({"title": "a", "assignee_id": bob.id})).await;
    app.move_task(&bob, &task, json!({"to": "in_progress"})).await;
    app.patch(&format!("/v1/tasks/{}", task.text("id")), json!({"title": "b"})).as_(&admin).expect(200).await;
    app.drain().await;
    let of_tasks = ["task.created", "task.assigned", "task.status_changed", "task.updated"];
    for (user, expected) in [(&ada, &of_tasks[..]), (&bob, &of_tasks[..]), (&eve, &[])] {
        let events = app.events(user).await;
        let types: Vec<&str> = events.iter().map(|event| event.text("type")).collect();
        assert_eq!(types, [&["user.registered", "user.logged_in"], expected].concat(), "{}", user.name);
        let own = events.iter().take(2).all(|event| event["data"]["user"].text("id") == user.id);
        assert!(own, "{}", user.name);
    }
    let all = app.events(&admin).await;
    assert_eq!(all.len(), 4 * 2 + 4);
    let created = &all[8];
    assert_eq!(created["data"], json!({"task": task}));
    let (subject, schema) = (format!("task/{}", task.text("id")), "/event-types/task.created");
    for (name, value) in
        [("specversion", "1.0"), ("subject", &subject), ("dataschema", schema), ("actorid", &ada.id)]
    {
        assert_eq!(created.text(name), value);
    }
    assert!(
        !all.iter().any(|event| event.to_string().contains("@example.org")),
        "personal data is on the log"
    );
    app.get("/v1/events").refused(401).await;
    app.finish().await;
}

/// The types of a project's events that the user sees.
async fn seen(app: &TestApp, user: &User, project: &Value) -> Vec<String> {
    let path = format!("/v1/events?project_id={}", project.text("id"));
    app.list(user, &path).await.iter().map(|event| event.text("type").to_owned()).collect()
}

async fn what_happens_in_a_project_is_for_who_may_read_it_now(backend: Backend) {
    let app = TestApp::start(backend).await;
    let (admin, ada, bob, eve) =
        (app.user("Root").await, app.user("Ada").await, app.user("Bob").await, app.user("Eve").await);
    let project = app.project(&ada, json!({"title": "Operations", "key": "OPS"})).await;
    let open = json!({"title": "Commons", "key": "ALL", "visibility": "internal"});
    let open = app.project(&ada, open).await;
    app.member(&ada, &project, &bob, "viewer").await;
    let task = json!({"title": "a", "project_id": project["id"]});
    let made = app.post("/v1/tasks", task.clone()).as_(&ada).expect(201).await;
    app.task(&ada, json!({"title": "b", "project_id": open["id"]})).await;
    app.drain().await;
    let event = format!("/v1/events/{}", made.header("event-id"));
    let all = ["project.created", "project.member_added", "task.created"];
    for user in [&admin, &ada, &bob] {
        assert_eq!(seen(&app, user, &project).await, all, "{}", user.name);
        app.get(&event).as_(user).expect(200).await;
    }
    assert!(seen(&app, &eve, &project).await.is_empty());
    app.get(&event).as_(&eve).refused(404).await;
    for user in [&admin, &ada, &bob, &eve] {
        assert_eq!(seen(&app, user, &open).await, ["project.created", "task.created"], "{}", user.name);
    }

    // Who is out sees that they came and went, and nothing else any more.
    let path = format!("/v1/projects/{}", project.text("id"));
    app.delete(&format!("{path}/members/{}", bob.id)).as_(&ada).expect(204).await;
    app.task(&ada, task).await;
    app.drain().await;
    assert_eq!(seen(&app, &bob, &project).await, ["project.member_added", "project.member_removed"]);
    app.get(&event).as_(&bob).refused(404).await;
    let all = [&all[..], &["project.member_removed", "task.created"]].concat();
    assert_eq!(seen(&app, &ada, &project).await, all);

    app.patch(&path, json!({"visibility": "internal"})).as_(&ada).expect(200).await;
    app.drain().await;
    let all = [&all[..], &["project.updated"]].concat();
    assert_eq!(seen(&app, &eve, &project).await, all);
    app.finish().await;
}

async fn whoever_belonged_to_a_deleted_project_sees_that(backend: Backend) {
    let app = TestApp::start(backend).await;
    let (root, ada, bob, eve) =
        (app.user("Root").await, app.user("Ada").await, app.user("Bob").await, app.user("Eve").await);
    let open = json!({"title": "Commons", "key": "ALL", "visibility": "internal"});
    let project = app.project(&ada, open).await;
    app.member(&ada, &project, &bob, "viewer").await;
    app.task(&ada, json!({"title": "a", "project_id": project["id"]})).await;
    app.delete(&format!("/v1/projects/{}", project.text("id"))).as_(&ada).expect(204).await;
    app.drain().await;
    let all = [
        "project.created",
        "project.member_added",
        "task.created",
        "task.deleted",
        "project.member_removed",
        "project.member_removed",
        "project.deleted",
    ];
    for user in [&root, &ada] {
        assert_eq!(seen(&app, user, &project).await, all, "{}", user.name);
    }
    assert_eq!(seen(&app, &bob, &project).await, ["project.member_added", "project.member_removed"]);
    let last = app.events(&bob).await.pop().unwrap_or_default();
    assert_eq!((&last["data"]["user_id"], &last["data"]["cascade"]), (&json!(bob.id), &json!(true)));
    assert!(seen(&app, &eve, &project).await.is_empty());
    app.finish().await;
}

async fn a_cursor_moves_over_hidden_events(backend: Backend) {
    let app = TestApp::start(backend).await;
    let (_admin, ada, bob) = (app.user("Root").await, app.user("Ada").await, app.user("Bob").await);
    for i in 0..12 {
        let user = if i % 4 == 3 { &bob } else { &ada };
        app.task(user, json!({"title": format!("{i}")})).await;
    }
    app.drain().await;
    let head = app.number("SELECT position FROM log_head").await;
    let (mut after, mut seen) = (0, Vec::new());
    loop {
        let answer = app.get(&format!("/v1/events?limit=2&after={after}")).as_(&bob).expect(200).await;
        let page = answer.json();
        let next = page["page"].text("next_cursor").parse::<i64>().unwrap_or(-1);
        assert!(answer.header("link").contains(&format!("after={next}")));
        seen.extend(page.list("data").iter().map(|event| event.int("position")));
        if next == after {
            break;
        }
        assert!(next > after && next <= head, "from {after} to {next}");
        after = next;
    }
    assert_eq!(after, head, "it ends at the head, though Bob may not see what stands there");
    assert_eq!(seen, [5, 6, 10, 14, 18]);
    // Beyond the end there is nothing, until there is.
    let beyond = app.read(&bob, &format!("/v1/events?after={}", head + 100)).await;
    assert_eq!(beyond.list("data").len(), 0);
    app.task(&bob, json!({"title": "new"})).await;
    app.drain().await;
    assert_eq!(app.list(&bob, &format!("/v1/events?after={head}")).await.len(), 1);
    app.finish().await;
}

async fn types_and_families_narrow(backend: Backend) {
    let app = TestApp::start(backend).await;
    let ada = app.user("Ada").await;
    let task = app.task(&ada, json!({"title": "a", "assignee_id": ada.id})).await;
    app.move_task(&ada, &task, json!({"to": "done", "resolution": "done"})).await;
    app.drain().await;
    for (types, expected) in [
        ("task.created", 1),
        ("task.*", 4),
        ("user.*", 2),
        ("task.created,user.*", 3),
        ("task.*,user.*", 6),
        ("delivery.*", 0),
        ("task.reopened", 0),
    ] {
        assert_eq!(app.list(&ada, &format!("/v1/events?type={types}")).await.len(), expected, "{types}");
    }
    for bad in ["type=task", "type=*", "type=task.unknown", "after=-1", "after=x", "limit=1000", "colour=red"]
    {
        app.get(&format!("/v1/events?{bad}")).as_(&ada).refused(400).await;
    }
    app.finish().await;
}

async fn an_event_by_its_id(backend: Backend) {
    let app = TestApp::start(backend).await;
    let (admin, ada, eve) = (app.user("Root").await, app.user("Ada").await, app.user("Eve").await);
    let made = app.post("/v1/tasks", json!({"title": "a"})).as_(&ada).expect(201).await;
    app.drain().await;
    let path = format!("/v1/events/{}", made.header("event-id"));
    let event = app.read(&ada, &path).await;
    assert_eq!(event["data"]["task"], made.json());
    assert_eq!(app.read(&admin, &path).await, event);
    app.get(&path).as_(&eve).refused(404).await;
    app.get("/v1/events/0198f0c0-0000-7000-8000-000000000000").as_(&ada).refused(404).await;
    app.get("/v1/events/1").as_(&ada).refused(404).await;
    app.finish().await;
}

async fn every_type_has_its_schema(backend: Backend) {
    let app = TestApp::start(backend).await;
    let ada = app.user("Ada").await;
    let types = app.list(&ada, "/v1/event-types").await;
    let names: Vec<&str> = types.iter().map(|kind| kind.text("type")).collect();
    assert!(
        ["user.registered", "task.created", "delivery.exhausted"].iter().all(|name| names.contains(name))
    );
    for kind in &types {
        assert_eq!(kind["schema"].text("type"), "object", "{kind}");
        assert!(kind["schema"]["properties"].is_object(), "{kind}");
    }
    app.finish().await;
}
