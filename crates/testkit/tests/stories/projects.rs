//! Projects: how they come, change and go, who may do what, and their list.

use std::collections::HashSet;

use futures::future::join_all;
use serde_json::{Value, json};
use taskpost_testkit::{Backend, Fields as _, Request, TestApp, User, both};

both!(
    a_project_as_it_comes,
    keys_are_made_and_unique,
    wrong_bodies_are_refused,
    a_project_changes,
    of_two_changes_to_one_version_one_wins,
    a_project_is_put_away,
    a_role_says_what_one_may,
    strangers_know_of_no_project,
    everyone_reads_what_is_internal,
    a_project_takes_everything_with_it,
    the_list_is_filtered,
    the_list_has_pages,
);

const ABSENT: &str = "0198f0c0-0000-7000-8000-000000000000";

fn path(project: &Value) -> String {
    format!("/v1/projects/{}", project.text("id"))
}

fn titles(projects: &[Value]) -> Vec<&str> {
    projects.iter().map(|project| project.text("title")).collect()
}

/// The types and data of the events about a project, in order, as its maker sees them.
async fn told(app: &TestApp, user: &User, project: &Value) -> Vec<(String, Value)> {
    app.drain().await;
    let subject = format!("project/{}", project.text("id"));
    let events = app.events(user).await.into_iter().filter(|event| event.text("subject") == subject);
    events.map(|event| (event.text("type").to_owned(), event["data"].clone())).collect()
}

async fn a_project_as_it_comes(backend: Backend) {
    let app = TestApp::start(backend).await;
    let (_admin, ada) = (app.user("Root").await, app.user("Ada").await);
    let make = || app.post("/v1/projects", json!({"title": "Operations"})).as_(&ada).key("k");
    let answer = make().expect(201).await;
    let project = answer.json();
    assert_eq!((answer.header("location"), answer.header("etag")), (path(&project).as_str(), "\"v1\""));
    assert_eq!((project.text("key"), project.text("title")), ("OPER", "Operations"));
    assert_eq!((project.text("visibility"), project.text("description")), ("private", ""));
    assert_eq!(project.texts("statuses", "name"), ["todo", "in_progress", "in_review", "done", "cancelled"]);
    assert_eq!(project["task_types"], json!(["task", "bug", "feature", "chore"]));
    assert_eq!(project["priorities"], json!(["none", "low", "medium", "high", "urgent"]));
    assert_eq!(project["resolutions"].as_array().map(Vec::len), Some(5));
    assert_eq!((&project["archived_at"], project.int("version")), (&Value::Null, 1));

    let again = make().expect(201).await;
    assert_eq!((again.json(), again.header("idempotency-replayed")), (project.clone(), "true"));
    let shown = app.get(&path(&project)).as_(&ada).expect(200).await;
    assert_eq!((shown.json(), shown.header("etag")), (project.clone(), "\"v1\""));
    app.get(&path(&project)).as_(&ada).header("if-none-match", "\"v1\"").expect(304).await;
    let members = app.list(&ada, &format!("{}/members", path(&project))).await;
    assert_eq!(members.len(), 1);
    assert_eq!((members[0].text("user_id"), members[0].text("role")), (ada.id.as_str(), "owner"));

    app.drain().await;
    let event = app.read(&ada, &format!("/v1/events/{}", answer.header("event-id"))).await;
    assert_eq!((event.text("type"), event.int("aggregateversion")), ("project.created", 1));
    assert_eq!(event["projectid"], project["id"]);
    let reference = json!({"id": project["id"], "key": "OPER", "title": "Operations"});
    assert_eq!(event["data"], json!({"project": reference}));
    let watched = app.number("SELECT count(*) FROM watches WHERE level = 'all' AND NOT chosen").await;
    assert_eq!(watched, 1, "who makes a project watches it");
    app.finish().await;
}

async fn keys_are_made_and_unique(backend: Backend) {
    let app = TestApp::start(backend).await;
    let ada = app.user("Ada").await;
    for (fields, key) in [
        (json!({"title": "Customer support desk"}), "CSD"),
        (json!({"title": "Cold storage, Dover"}), "CSD2"),
        (json!({"title": "Ops", "key": "OPS"}), "OPS"),
        (json!({"title": "ops"}), "OPS2"),
        (json!({"title": "東京"}), "PRJ"),
        (json!({"title": "Lifts", "key": null}), "LIFT"),
    ] {
        assert_eq!(app.project(&ada, fields).await.text("key"), key);
    }
    app.post("/v1/projects", json!({"title": "a", "key": "OPS"})).as_(&ada).refused(409).await;
    let many = join_all((0..6).map(|_| app.project(&ada, json!({"title": "Same"})))).await;
    let keys: HashSet<&str> = many.iter().map(|project| project.text("key")).collect();
    assert_eq!(keys.len(), 6, "{keys:?}");
    let twin = json!({"title": "a", "key": "TWIN"});
    let twins = (0..4).map(|_| app.post("/v1/projects", twin.clone()).as_(&ada).send());
    let mut statuses: Vec<u16> = join_all(twins).await.iter().map(|answer| answer.status).collect();
    statuses.sort_unstable();
    assert_eq!(statuses, [201, 409, 409, 409]);
    app.finish().await;
}

async fn wrong_bodies_are_refused(backend: Backend) {
    let app = TestApp::start(backend).await;
    let ada = app.user("Ada").await;
    for (body, pointer) in [
        (json!({}), "/title"),
        (json!({"title": ""}), "/title"),
        (json!({"title": "a\nb"}), "/title"),
        (json!({"title": "a".repeat(201)}), "/title"),
        (json!({"title": "a", "description": "a".repeat(20_001)}), "/description"),
        (json!({"title": "a", "key": "a"}), "/key"),
        (json!({"title": "a", "key": "A"}), "/key"),
        (json!({"title": "a", "key": "1A"}), "/key"),
        (json!({"title": "a", "key": "A-B"}), "/key"),
        (json!({"title": "a", "key": "ABCDEFGHIJK"}), "/key"),
        (json!({"title": "a", "visibility": "public"}), "/visibility"),
        (json!({"title": "a", "version": 7}), "/version"),
        (json!({"title": "a", "id": ABSENT}), "/id"),
    ] {
        let problem = app.post("/v1/projects", body).as_(&ada).refused(422).await;
        assert_eq!(problem.texts("errors", "pointer"), [pointer]);
    }
    let project = app.project(&ada, json!({"title": "a"})).await;
    let words = |count: usize| (0..count).map(|i| format!("w{i}")).collect::<Vec<_>>();
    for (patch, pointer) in [
        (json!({"title": null}), "/title"),
        (json!({"title": " "}), "/title"),
        (json!({"key": "OPS"}), "/key"),
        (json!({"statuses": []}), "/statuses"),
        (json!({"archived_at": null}), "/archived_at"),
        (json!({"archived": "yes"}), "/archived"),
        (json!({"priorities": []}), "/priorities"),
        (json!({"priorities": ["low", "low"]}), "/priorities/1"),
        (json!({"priorities": ["huge"]}), "/priorities/0"),
        (json!({"resolutions": []}), "/resolutions"),
        (json!({"resolutions": ["done", "done"]}), "/resolutions/1"),
        (json!({"resolutions": ["Done"]}), "/resolutions/0"),
        (json!({"resolutions": ["a".repeat(41)]}), "/resolutions/0"),
        (json!({"resolutions": words(31)}), "/resolutions"),
    ] {
        let problem = app.patch(&path(&project), patch).as_(&ada).refused(422).await;
        assert_eq!(problem.texts("errors", "pointer"), [pointer]);
    }
    app.patch(&path(&project), json!({"resolutions": words(30)})).as_(&ada).expect(200).await;
    assert_eq!(app.read(&ada, &path(&project)).await.int("version"), 2);
    app.finish().await;
}

async fn a_project_changes(backend: Backend) {
    let app = TestApp::start(backend).await;
    let (_admin, ada) = (app.user("Root").await, app.user("Ada").await);
    let project = app.project(&ada, json!({"title": "a", "description": "old"})).await;
    let change = |patch: Value| app.patch(&path(&project), patch).as_(&ada);

    let changed = change(json!({"title": "b", "description": null})).expect(200).await;
    assert_eq!(changed.header("etag"), "\"v2\"");
    assert!(changed.find("event-id").is_some());
    assert_eq!((changed.json().text("title"), changed.json().text("description")), ("b", ""));
    let nothing = change(json!({"title": "b"})).expect(200).await;
    assert_eq!((nothing.header("etag"), nothing.find("event-id")), ("\"v2\"", None));
    let lists = json!({"priorities": ["low", "high"], "resolutions": ["fixed", "wont_fix"]});
    assert_eq!(change(lists).expect(200).await.json()["priorities"], json!(["low", "high"]));
    let back = change(json!({"priorities": null, "visibility": "internal"})).expect(200).await.json();
    assert_eq!((&back["priorities"], back.text("visibility")), (&project["priorities"], "internal"));
    assert_eq!(back["resolutions"], json!(["fixed", "wont_fix"]));

    let told = told(&app, &ada, &project).await;
    let types: Vec<&str> = told.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(types, ["project.created", "project.updated", "project.updated", "project.updated"]);
    assert_eq!(told[1].1["changes"], json!({"title": ["a", "b"], "description": ["old", ""]}));
    assert_eq!(
        told[3].1["changes"],
        json!({"priorities": [["low", "high"], project["priorities"]], "visibility": ["private", "internal"]})
    );
    let noted = "SELECT count(*) FROM audit_log WHERE action = 'project.visibility_changed'";
    assert_eq!(app.number(noted).await, 1);
    app.finish().await;
}

async fn of_two_changes_to_one_version_one_wins(backend: Backend) {
    let app = TestApp::start(backend).await;
    let ada = app.user("Ada").await;
    let project = app.project(&ada, json!({"title": "a"})).await;
    let path = path(&project);
    let change = |title: &str| app.patch(&path, json!({"title": title})).as_(&ada);
    let both = join_all(["b", "c"].map(|title| change(title).header("if-match", "\"v1\"").send())).await;
    let mut statuses: Vec<u16> = both.iter().map(|answer| answer.status).collect();
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 412]);
    change("d").header("if-match", "\"v1\"").refused(412).await;
    app.delete(&path).as_(&ada).header("if-match", "\"v1\"").refused(412).await;
    let new = json!({"name": "a"});
    let category = app.post(&format!("{path}/categories"), new).as_(&ada).expect(201).await;
    assert_eq!(category.header("etag"), "\"v3\"");
    let part = category.header("location").to_owned();
    app.patch(&part, json!({"name": "b"})).as_(&ada).header("if-match", "\"v2\"").refused(412).await;
    app.delete(&part).as_(&ada).header("if-match", "\"v2\"").refused(412).await;
    app.delete(&part).as_(&ada).header("if-match", "\"v3\"").expect(204).await;

    // Without a version every change finds its place.
    let many = join_all((0..8).map(|i| change(&format!("t{i}")).send())).await;
    assert!(many.iter().all(|answer| answer.status == 200));
    assert_eq!(app.read(&ada, &path).await.int("version"), 12);
    app.finish().await;
}

async fn a_project_is_put_away(backend: Backend) {
    let app = TestApp::start(backend).await;
    let (ada, bob) = (app.user("Ada").await, app.user("Bob").await);
    let project = app.project(&ada, json!({"title": "a"})).await;
    let path = path(&project);
    let change = |patch: Value| app.patch(&path, patch).as_(&ada);
    let away = change(json!({"archived": true})).expect(200).await.json();
    assert!(away["archived_at"].is_string());
    let still = change(json!({"archived": true})).expect(200).await.json();
    assert_eq!(still, away, "it is put away since then");
    let task = json!({"title": "a", "project_id": project["id"]});
    app.post("/v1/tasks", task.clone()).as_(&ada).refused(409).await;
    for part in ["categories", "labels", "task-types"] {
        app.post(&format!("{path}/{part}"), json!({"name": "new"})).as_(&ada).refused(409).await;
    }
    app.member(&ada, &project, &bob, "member").await;
    change(json!({"archived": false})).expect(200).await;
    app.post("/v1/tasks", task).as_(&bob).expect(201).await;
    app.finish().await;
}

/// A request for each route of a project and its parts that changes something.
fn changes(app: &TestApp, path: &str, user: &str, part: &str) -> Vec<Request> {
    let below = |rest: &str| format!("{path}/{rest}");
    vec![
        app.patch(path, json!({"title": "x"})),
        app.post(&below("members"), json!({"user_id": user})),
        app.patch(&below(&format!("members/{user}")), json!({"role": "viewer"})),
        app.delete(&below(&format!("members/{user}"))),
        app.post(&below("categories"), json!({"name": "x"})),
        app.patch(&below(&format!("categories/{part}")), json!({"name": "x"})),
        app.delete(&below(&format!("categories/{part}"))),
        app.post(&below("labels"), json!({"name": "x"})),
        app.patch(&below(&format!("labels/{part}")), json!({"name": "x"})),
        app.delete(&below(&format!("labels/{part}"))),
        app.post(&below("statuses"), json!({"name": "x", "category": "todo"})),
        app.patch(&below("statuses/todo"), json!({"name": "x"})),
        app.delete(&below("statuses/todo")),
        app.post(&below("task-types"), json!({"name": "x"})),
        app.patch(&below("task-types/bug"), json!({"name": "x"})),
        app.delete(&below("task-types/bug")),
        app.delete(path),
    ]
}

fn reads(app: &TestApp, path: &str, user: &str) -> Vec<Request> {
    let member = format!("members/{user}");
    let parts = ["members", "categories", "labels", "statuses", "task-types", member.as_str()];
    let below = parts.iter().map(|part| app.get(&format!("{path}/{part}")));
    std::iter::once(app.get(path)).chain(below).collect()
}

async fn a_role_says_what_one_may(backend: Backend) {
    let app = TestApp::start(backend).await;
    let (admin, ada) = (app.user("Root").await, app.user("Ada").await);
    let (may, mem, vic) = (app.user("May").await, app.user("Mem").await, app.user("Vic").await);
    let project = app.project(&ada, json!({"title": "a"})).await;
    let path = path(&project);
    for (user, role) in [(&may, "maintainer"), (&mem, "member"), (&vic, "viewer")] {
        assert_eq!(app.member(&ada, &project, user, role).await.text("role"), role);
    }
    for user in [&mem, &vic] {
        for request in changes(&app, &path, &ada.id, ABSENT) {
            request.as_(user).refused(403).await;
        }
        for request in reads(&app, &path, &ada.id) {
            request.as_(user).expect(200).await;
        }
        app.put(&format!("{path}/watch"), None).as_(user).expect(200).await;
    }
    app.patch(&path, json!({"title": "b"})).as_(&may).expect(200).await;
    app.delete(&path).as_(&may).refused(403).await;
    app.patch(&path, json!({"title": "c"})).as_(&admin).expect(200).await;
    app.get(&path).as_(&admin).expect(200).await;
    let version = app.read(&vic, &path).await.int("version");
    assert_eq!(version, 6, "three members and two changes, and nothing besides");
    app.delete(&path).as_(&admin).expect(204).await;
    app.finish().await;
}

async fn strangers_know_of_no_project(backend: Backend) {
    let app = TestApp::start(backend).await;
    let (_admin, ada, eve) = (app.user("Root").await, app.user("Ada").await, app.user("Eve").await);
    let project = app.project(&ada, json!({"title": "a"})).await;
    let own = app.project(&eve, json!({"title": "own"})).await;
    let category = json!({"name": "c"});
    let category = app.post(&format!("{}/categories", path(&project)), category).as_(&ada).expect(201).await;
    let label = json!({"name": "l"});
    let label = app.post(&format!("{}/labels", path(&project)), label).as_(&ada).expect(201).await;
    for path in [path(&project), format!("/v1/projects/{ABSENT}"), "/v1/projects/1".to_owned()] {
        let watch = || [app.put(&format!("{path}/watch"), None), app.delete(&format!("{path}/watch"))];
        let all = || {
            let mut all = changes(&app, &path, &ada.id, category.json().text("id"));
            all.extend(reads(&app, &path, &ada.id));
            all.extend(watch());
            all
        };
        for request in all() {
            let problem = request.as_(&eve).refused(404).await;
            assert!(!problem.text("detail").contains("title"), "{problem}");
        }
        for request in all() {
            request.refused(401).await;
        }
    }
    // A part of another project is none of this one's.
    for part in [
        format!("categories/{}", category.json().text("id")),
        format!("labels/{}", label.json().text("id")),
        format!("members/{}", ada.id),
        "statuses/nowhere".to_owned(),
        "task-types/%00".to_owned(),
    ] {
        let part = format!("{}/{part}", path(&own));
        app.delete(&part).as_(&eve).refused(404).await;
    }
    assert_eq!(app.read(&ada, &path(&project)).await.int("version"), 3, "nothing happened to it");
    app.finish().await;
}

async fn everyone_reads_what_is_internal(backend: Backend) {
    let app = TestApp::start(backend).await;
    let (_admin, ada, eve) = (app.user("Root").await, app.user("Ada").await, app.user("Eve").await);
    let project = app.project(&ada, json!({"title": "a", "visibility": "internal"})).await;
    let path = path(&project);
    for request in reads(&app, &path, &ada.id) {
        request.as_(&eve).expect(200).await;
    }
    for request in changes(&app, &path, &ada.id, ABSENT) {
        request.as_(&eve).refused(403).await;
    }
    assert_eq!(titles(&app.list(&eve, "/v1/projects").await), ["a"]);
    app.patch(&path, json!({"visibility": "private"})).as_(&ada).expect(200).await;
    app.get(&path).as_(&eve).refused(404).await;
    assert!(app.list(&eve, "/v1/projects").await.is_empty());
    app.finish().await;
}

async fn a_project_takes_everything_with_it(backend: Backend) {
    let app = TestApp::start(backend).await;
    let (root, ada, bob) = (app.user("Root").await, app.user("Ada").await, app.user("Bob").await);
    let kept = app.project(&ada, json!({"title": "kept"})).await;
    app.task(&ada, json!({"title": "kept", "project_id": kept["id"]})).await;
    let project = app.project(&ada, json!({"title": "Lifts"})).await;
    let path = path(&project);
    app.member(&ada, &project, &bob, "member").await;
    let fields = json!({"title": "a", "project_id": project["id"], "assignee_id": bob.id});
    let task = app.task(&ada, fields).await;
    for (at, body) in [
        (format!("{path}/categories"), json!({"name": "c"})),
        (format!("{path}/labels"), json!({"name": "l"})),
        (format!("/v1/tasks/{}/comments", task.text("id")), json!({"body": "a"})),
        ("/v1/posts".to_owned(), json!({"title": "a", "body": "a", "project_id": project["id"]})),
    ] {
        app.post(&at, body).as_(&ada).expect(201).await;
    }
    app.drain().await;
    let before = app.events(&root).await.len();
    app.delete(&path).as_(&bob).refused(403).await;
    let gone = app.delete(&path).as_(&ada).expect(204).await;
    for user in [&root, &ada, &bob] {
        app.get(&path).as_(user).refused(404).await;
        app.delete(&path).as_(user).refused(404).await;
    }
    app.drain().await;
    let events = app.events(&root).await.split_off(before);
    let types: Vec<&str> = events.iter().map(|event| event.text("type")).collect();
    let expected = [
        "comment.deleted",
        "task.deleted",
        "post.deleted",
        "project.updated",
        "project.member_removed",
        "project.member_removed",
        "project.deleted",
    ];
    assert_eq!(types, expected);
    assert_eq!(events[3]["data"]["changes"], json!({"categories": [["c"], []], "labels": [["l"], []]}));
    let last = &events[6];
    assert_eq!(last.text("id"), gone.header("event-id"));
    assert_eq!(last["data"]["member_ids"], json!([ada.id, bob.id]), "the owner first");
    assert_eq!(last["data"]["member_count"], json!(2));
    for table in ["tasks", "projects", "members", "watches"] {
        let count = app.number(&format!("SELECT count(*) FROM {table}")).await;
        assert!(count <= 2, "{table} keeps what is gone");
    }
    for table in ["comments", "posts", "categories", "labels"] {
        assert_eq!(app.number(&format!("SELECT count(*) FROM {table}")).await, 0, "{table}");
    }
    assert_eq!(app.number("SELECT count(*) FROM audit_log WHERE action = 'project.deleted'").await, 1);
    app.get(&format!("/v1/tasks/{}", task.text("id"))).as_(&ada).refused(404).await;
    app.finish().await;
}

async fn the_list_is_filtered(backend: Backend) {
    let app = TestApp::start(backend).await;
    let (admin, ada, bob) = (app.user("Root").await, app.user("Ada").await, app.user("Bob").await);
    for title in ["Lifts", "100% lifts", "Lift_2", "Été"] {
        app.project(&ada, json!({"title": title})).await;
    }
    let shared = app.project(&bob, json!({"title": "Shared", "visibility": "internal"})).await;
    let away = app.project(&bob, json!({"title": "Away"})).await;
    app.member(&bob, &away, &ada, "viewer").await;
    app.patch(&path(&away), json!({"archived": true})).as_(&bob).expect(200).await;
    for (user, query, expected) in [
        (&ada, "", &["Away", "Shared", "Été", "Lift_2", "100% lifts", "Lifts"][..]),
        (&bob, "", &["Away", "Shared"]),
        (&admin, "archived=true", &["Away"]),
        (&ada, "archived=false&title=S", &["Shared", "100% lifts", "Lifts"]),
        (&ada, "title=LIFTS", &["100% lifts", "Lifts"]),
        (&ada, "title=%25", &["100% lifts"]),
        (&ada, "title=t_", &["Lift_2"]),
        (&ada, "title=%C3%89t%C3%A9", &["Été"]),
        (&ada, "title=%5C", &[]),
        (&ada, "title='%20OR%201=1--", &[]),
        (&bob, "title=lift", &[]),
    ] {
        let found = app.list(user, &format!("/v1/projects?{query}")).await;
        assert_eq!(titles(&found), expected, "{query} by {}", user.name);
    }
    assert_eq!(app.list(&admin, "/v1/projects").await.len(), 6);
    assert_eq!(app.list(&ada, "/v1/projects?title=shared").await, [shared]);
    for (query, pointer) in [
        ("colour=red", "?colour"),
        ("title=", "?title"),
        ("title=a%00", "?title"),
        ("archived=yes", "?archived"),
        ("limit=0", "?limit"),
        ("page=0", "?page"),
        ("page=1&limit=2", "?limit"),
        ("sort=title", "?sort"),
    ] {
        let problem = app.get(&format!("/v1/projects?{query}")).as_(&ada).refused(400).await;
        assert_eq!(problem.texts("errors", "pointer"), [pointer]);
    }
    let long = format!("/v1/projects?title={}", "%25".repeat(200));
    assert!(app.list(&ada, &long).await.is_empty());
    app.finish().await;
}

async fn the_list_has_pages(backend: Backend) {
    let app = TestApp::start(backend).await;
    let (_admin, ada, bob) = (app.user("Root").await, app.user("Ada").await, app.user("Bob").await);
    for i in 0..7 {
        let user = if i % 3 == 0 { &bob } else { &ada };
        app.project(user, json!({"title": format!("p{i}"), "visibility": "internal"})).await;
    }
    let all = app.all_pages(&ada, "/v1/projects?limit=3").await;
    assert_eq!(titles(&all), ["p6", "p5", "p4", "p3", "p2", "p1", "p0"]);
    let first = app.read(&ada, "/v1/projects?limit=3").await;
    let next = first["page"].text("next_cursor");
    let second = app.read(&ada, &format!("/v1/projects?limit=3&cursor={next}")).await;
    let back = second["page"].text("prev_cursor");
    let back = app.read(&ada, &format!("/v1/projects?limit=3&cursor={back}")).await;
    assert_eq!((&back["data"], &back["page"]["prev_cursor"]), (&first["data"], &Value::Null));
    let numbered = app.read(&bob, "/v1/projects?page=3&per_page=3").await;
    assert_eq!(titles(numbered.list("data")), ["p0"]);
    assert_eq!((numbered.int("total"), numbered.int("total_pages")), (7, 3));
    for (user, query) in [
        (&bob, format!("limit=3&cursor={next}")),
        (&ada, format!("limit=3&archived=false&cursor={next}")),
        (&ada, format!("page=1&cursor={next}")),
        (&ada, "cursor=1".to_owned()),
    ] {
        app.get(&format!("/v1/projects?{query}")).as_(user).refused(400).await;
    }
    app.finish().await;
}
