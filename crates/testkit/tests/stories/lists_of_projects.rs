//! What a project has in it besides tasks: categories, labels, statuses and task types.

use futures::future::join_all;
use serde_json::{Value, json};
use taskpost_testkit::{Backend, Fields as _, TestApp, User, both};

both!(
    categories_keep_their_order,
    a_deleted_category_leaves_its_tasks,
    labels_explain_words,
    statuses_are_added_moved_and_deleted,
    what_tasks_have_stays,
    a_workflow_begins_open_and_can_be_done,
    wrong_parts_are_refused,
    lists_end_somewhere,
);

fn path(project: &Value) -> String {
    format!("/v1/projects/{}", project.text("id"))
}

async fn names(app: &TestApp, user: &User, at: &str) -> Vec<String> {
    app.read(user, at).await.texts("data", "name")
}

/// The changes that the events about a project tell of, in order.
async fn changes(app: &TestApp, user: &User, project: &Value) -> Vec<Value> {
    app.drain().await;
    let events = app.events(user).await.into_iter();
    let updated =
        events.filter(|event| event.text("type") == "project.updated" && event["projectid"] == project["id"]);
    updated.map(|event| event["data"]["changes"].clone()).collect()
}

async fn categories_keep_their_order(backend: Backend) {
    let app = TestApp::start(backend).await;
    let (_admin, ada) = (app.user("Root").await, app.user("Ada").await);
    let project = app.project(&ada, json!({"title": "a"})).await;
    let list = format!("{}/categories", path(&project));
    let add = |body: Value| app.post(&list, body).as_(&ada);
    let first = add(json!({"name": "b"})).key("k").expect(201).await;
    assert_eq!(first.header("location"), format!("{list}/{}", first.json().text("id")));
    assert_eq!((first.header("etag"), first.json().int("position")), ("\"v2\"", 0));
    assert_eq!(add(json!({"name": "b"})).key("k").expect(201).await.json(), first.json());
    let second = add(json!({"name": "c", "position": 99})).expect(201).await.json();
    assert_eq!(second.int("position"), 1);
    add(json!({"name": "a", "position": 0})).expect(201).await;
    assert_eq!(names(&app, &ada, &list).await, ["a", "b", "c"]);
    assert_eq!(app.read(&ada, &list).await["page"]["next_cursor"], Value::Null);

    let second = format!("{list}/{}", second.text("id"));
    let change = |body: Value| app.patch(&second, body).as_(&ada);
    let moved = change(json!({"position": 0})).expect(200).await;
    assert_eq!((moved.header("etag"), moved.json().int("position")), ("\"v5\"", 0));
    assert_eq!(names(&app, &ada, &list).await, ["c", "a", "b"]);
    change(json!({"position": 1, "name": "d"})).expect(200).await;
    assert_eq!(names(&app, &ada, &list).await, ["a", "d", "b"]);
    change(json!({"position": 7})).expect(200).await;
    assert_eq!(names(&app, &ada, &list).await, ["a", "b", "d"]);
    let nothing = change(json!({"name": "d", "position": 2})).expect(200).await;
    assert_eq!((nothing.header("etag"), nothing.find("event-id")), ("\"v7\"", None));
    change(json!({"name": "a"})).refused(409).await;
    add(json!({"name": "a"})).refused(409).await;
    app.delete(first.header("location")).as_(&ada).expect(204).await;
    app.delete(first.header("location")).as_(&ada).refused(404).await;
    let left = app.list(&ada, &list).await;
    let left: Vec<(&str, i64)> = left.iter().map(|one| (one.text("name"), one.int("position"))).collect();
    assert_eq!(left, [("a", 0), ("d", 1)]);

    let told = changes(&app, &ada, &project).await;
    assert_eq!(told[0], json!({"categories": [[], ["b"]]}));
    assert_eq!(told[3], json!({"categories": [["a", "b", "c"], ["c", "a", "b"]]}));
    assert_eq!(told[6], json!({"categories": [["a", "b", "d"], ["a", "d"]]}));
    assert_eq!(told.len(), 7);

    // Many at once do not get into each other's way.
    let many = join_all((0..6).map(|i| add(json!({"name": format!("n{i}"), "position": 1})).send())).await;
    assert!(many.iter().all(|answer| answer.status == 201));
    let places: Vec<i64> = app.list(&ada, &list).await.iter().map(|one| one.int("position")).collect();
    assert_eq!(places, (0..8).collect::<Vec<_>>());
    app.finish().await;
}

async fn a_deleted_category_leaves_its_tasks(backend: Backend) {
    let app = TestApp::start(backend).await;
    let (_admin, ada) = (app.user("Root").await, app.user("Ada").await);
    let project = app.project(&ada, json!({"title": "a"})).await;
    let category = json!({"name": "b"});
    let category = app.post(&format!("{}/categories", path(&project)), category).as_(&ada).expect(201).await;
    let fields = json!({"title": "c", "project_id": project["id"], "category_id": category.json()["id"]});
    let task = app.task(&ada, fields).await;
    assert_eq!(task["category_id"], category.json()["id"]);
    let gone = app.delete(category.header("location")).as_(&ada).expect(204).await;
    let task = app.read(&ada, &format!("/v1/tasks/{}", task.text("id"))).await;
    assert_eq!((&task["category_id"], task.int("version")), (&Value::Null, 2));
    app.drain().await;
    let events = app.events(&ada).await;
    let last: Vec<&str> = events[events.len() - 2..].iter().map(|event| event.text("type")).collect();
    assert_eq!(last, ["task.updated", "project.updated"]);
    assert_eq!(events[events.len() - 1].text("id"), gone.header("event-id"));
    app.finish().await;
}

async fn labels_explain_words(backend: Backend) {
    let app = TestApp::start(backend).await;
    let (_admin, ada) = (app.user("Root").await, app.user("Ada").await);
    let project = app.project(&ada, json!({"title": "a"})).await;
    let list = format!("{}/labels", path(&project));
    let add = |body: Value| app.post(&list, body).as_(&ada);
    let made = add(json!({"name": "security", "color": "#D73A4A", "description": "holes"})).expect(201).await;
    let label = made.json();
    assert_eq!((label.text("color"), label.text("description")), ("#d73a4a", "holes"));
    assert_eq!(add(json!({"name": "later"})).expect(201).await.json().text("color"), "#808080");
    add(json!({"name": "later"})).refused(409).await;
    let change = |body: Value| app.patch(made.header("location"), body).as_(&ada);
    let changed = change(json!({"description": null, "color": "#000000"})).expect(200).await;
    assert_eq!((changed.header("etag"), changed.json().text("description")), ("\"v4\"", ""));
    change(json!({"name": "later"})).refused(409).await;
    change(json!({"name": "safety"})).expect(200).await;
    assert_eq!(names(&app, &ada, &list).await, ["safety", "later"]);
    let task = app.task(&ada, json!({"title": "b", "project_id": project["id"], "labels": ["safety"]})).await;
    app.delete(made.header("location")).as_(&ada).expect(204).await;
    app.patch(made.header("location"), json!({"name": "x"})).as_(&ada).refused(404).await;
    assert_eq!(names(&app, &ada, &list).await, ["later"]);
    let task = app.read(&ada, &format!("/v1/tasks/{}", task.text("id"))).await;
    assert_eq!(task["labels"], json!(["safety"]), "tasks keep the word");
    let told = changes(&app, &ada, &project).await;
    assert_eq!(told[3], json!({"labels": [["security", "later"], ["safety", "later"]]}));
    assert_eq!(told.len(), 5);
    app.finish().await;
}

async fn statuses_are_added_moved_and_deleted(backend: Backend) {
    let app = TestApp::start(backend).await;
    let (_admin, ada) = (app.user("Root").await, app.user("Ada").await);
    let project = app.project(&ada, json!({"title": "a"})).await;
    let list = format!("{}/statuses", path(&project));
    let inbox = json!({"name": "inbox", "category": "backlog", "position": 0});
    let made = app.post(&list, inbox).as_(&ada).expect(201).await;
    assert_eq!(made.header("location"), format!("{list}/inbox"));
    assert_eq!(
        (made.json(), made.header("etag")),
        (json!({"name": "inbox", "category": "backlog"}), "\"v2\"")
    );
    let task = app.task(&ada, json!({"title": "b", "project_id": project["id"]})).await;
    assert_eq!(task.text("status"), "inbox", "a new task gets the first");
    app.patch(&format!("{list}/in_review"), json!({"name": "qa", "category": "todo", "position": 1}))
        .as_(&ada)
        .expect(200)
        .await;
    app.delete(&format!("{list}/cancelled")).as_(&ada).expect(204).await;
    app.delete(&format!("{list}/cancelled")).as_(&ada).refused(404).await;
    assert_eq!(names(&app, &ada, &list).await, ["inbox", "qa", "todo", "in_progress", "done"]);
    assert_eq!(app.read(&ada, &path(&project)).await.texts("statuses", "name").len(), 5);

    let types = format!("{}/task-types", path(&project));
    let made = app.post(&types, json!({"name": "incident", "position": 1})).as_(&ada).expect(201).await;
    assert_eq!(
        (made.header("location"), made.json()),
        (format!("{types}/incident").as_str(), json!({"name": "incident"}))
    );
    app.patch(&format!("{types}/chore"), json!({"name": "toil"})).as_(&ada).expect(200).await;
    app.delete(&format!("{types}/feature")).as_(&ada).expect(204).await;
    assert_eq!(names(&app, &ada, &types).await, ["task", "incident", "bug", "toil"]);

    let changes = changes(&app, &ada, &project).await;
    assert_eq!(changes.len(), 6);
    assert_eq!(changes[0]["statuses"][1][0], json!({"name": "inbox", "category": "backlog"}));
    assert_eq!(
        changes[5],
        json!({"task_types": [["task", "incident", "bug", "feature", "toil"], ["task", "incident", "bug", "toil"]]})
    );
    app.finish().await;
}

async fn what_tasks_have_stays(backend: Backend) {
    let app = TestApp::start(backend).await;
    let ada = app.user("Ada").await;
    let project = app.project(&ada, json!({"title": "a"})).await;
    for title in ["b", "c"] {
        app.task(&ada, json!({"title": title, "project_id": project["id"], "type": "bug"})).await;
    }
    let path = path(&project);
    for (at, body) in [
        ("statuses/todo", json!({"name": "next"})),
        ("statuses/todo", json!({"category": "backlog"})),
        ("task-types/bug", json!({"name": "defect"})),
    ] {
        let problem = app.patch(&format!("{path}/{at}"), body).as_(&ada).refused(409).await;
        assert!(problem.text("detail").contains("2 tasks"), "{problem}");
    }
    for at in ["statuses/todo", "task-types/bug"] {
        let problem = app.delete(&format!("{path}/{at}")).as_(&ada).refused(409).await;
        assert!(problem.text("detail").contains("2 tasks"), "{problem}");
        app.patch(&format!("{path}/{at}"), json!({"position": 1})).as_(&ada).expect(200).await;
    }
    let statuses = names(&app, &ada, &format!("{path}/statuses")).await;
    assert_eq!(statuses[..2], ["in_progress", "todo"]);
    app.finish().await;
}

async fn a_workflow_begins_open_and_can_be_done(backend: Backend) {
    let app = TestApp::start(backend).await;
    let ada = app.user("Ada").await;
    let project = app.project(&ada, json!({"title": "a"})).await;
    let list = format!("{}/statuses", path(&project));
    let change = |name: &str, body: Value| app.patch(&format!("{list}/{name}"), body).as_(&ada);
    change("done", json!({"position": 0})).refused(409).await;
    change("done", json!({"category": "cancelled"})).refused(409).await;
    app.delete(&format!("{list}/done")).as_(&ada).refused(409).await;
    let first = json!({"name": "over", "category": "done", "position": 0});
    app.post(&list, first).as_(&ada).refused(409).await;
    for name in ["in_progress", "in_review"] {
        app.delete(&format!("{list}/{name}")).as_(&ada).expect(204).await;
    }
    app.delete(&format!("{list}/todo")).as_(&ada).refused(409).await;
    assert_eq!(names(&app, &ada, &list).await, ["todo", "done", "cancelled"]);
    let types = format!("{}/task-types", path(&project));
    for name in ["bug", "feature", "chore"] {
        app.delete(&format!("{types}/{name}")).as_(&ada).expect(204).await;
    }
    app.delete(&format!("{types}/task")).as_(&ada).refused(409).await;
    app.finish().await;
}

async fn wrong_parts_are_refused(backend: Backend) {
    let app = TestApp::start(backend).await;
    let ada = app.user("Ada").await;
    let project = app.project(&ada, json!({"title": "a"})).await;
    let path = path(&project);
    for (at, body, pointer) in [
        ("categories", json!({}), "/name"),
        ("categories", json!({"name": ""}), "/name"),
        ("categories", json!({"name": "a".repeat(51)}), "/name"),
        ("categories", json!({"name": "a\tb"}), "/name"),
        ("categories", json!({"name": "a", "position": -1}), "/position"),
        ("categories", json!({"name": "a", "id": "b"}), "/id"),
        ("labels", json!({"name": "a\n"}), "/name"),
        ("labels", json!({"name": "a", "color": "red"}), "/color"),
        ("labels", json!({"name": "a", "color": "#12345g"}), "/color"),
        ("labels", json!({"name": "a", "description": "a".repeat(201)}), "/description"),
        ("labels", json!({"name": "a", "project_id": project["id"]}), "/project_id"),
        ("statuses", json!({"name": "a"}), "/category"),
        ("statuses", json!({"name": "A", "category": "todo"}), "/name"),
        ("statuses", json!({"name": "a b", "category": "todo"}), "/name"),
        ("statuses", json!({"name": "", "category": "todo"}), "/name"),
        ("statuses", json!({"name": "a", "category": "open"}), "/category"),
        ("task-types", json!({"name": "a".repeat(41)}), "/name"),
        ("task-types", json!({"name": "a", "category": "todo"}), "/category"),
    ] {
        let problem = app.post(&format!("{path}/{at}"), body).as_(&ada).refused(422).await;
        assert_eq!(problem.texts("errors", "pointer"), [pointer], "{at}");
    }
    for (at, body) in
        [("statuses", json!({"name": "todo", "category": "todo"})), ("task-types", json!({"name": "bug"}))]
    {
        app.post(&format!("{path}/{at}"), body).as_(&ada).refused(409).await;
    }
    app.patch(&format!("{path}/statuses/done"), json!({"name": "todo"})).as_(&ada).refused(409).await;
    app.patch(&format!("{path}/statuses/nowhere"), json!({"name": "a"})).as_(&ada).refused(404).await;
    let queried = app.get(&format!("{path}/labels?limit=2")).as_(&ada).refused(400).await;
    assert_eq!(queried.texts("errors", "pointer"), ["?limit"]);
    assert_eq!(app.read(&ada, &path).await.int("version"), 1);
    app.finish().await;
}

async fn lists_end_somewhere(backend: Backend) {
    let app = TestApp::start(backend).await;
    let ada = app.user("Ada").await;
    let project = app.project(&ada, json!({"title": "a"})).await;
    let path = path(&project);
    for i in 5..30 {
        let status = json!({"name": format!("s{i}"), "category": "todo"});
        app.post(&format!("{path}/statuses"), status).as_(&ada).expect(201).await;
    }
    let one_more = json!({"name": "one_more", "category": "todo"});
    app.post(&format!("{path}/statuses"), one_more).as_(&ada).refused(409).await;
    assert_eq!(names(&app, &ada, &format!("{path}/statuses")).await.len(), 30);
    app.finish().await;
}
