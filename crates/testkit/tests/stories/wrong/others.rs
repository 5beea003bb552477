//! What no document says: things that are there, but belong elsewhere, and nulls where something must stay.

use serde_json::{Value, json};
use taskpost_testkit::{Backend, Fields as _, TestApp, User, both};

both!(
    what_belongs_elsewhere_is_refused,
    of_a_batch_each_wrong_task_is_told,
    what_cannot_be_empty_takes_no_null,
);

/// Ada's two projects, and what she may not change.
struct Places {
    app: TestApp,
    ada: User,
    eve: User,
    ours: Value,
    /// With a category, a status, a type and a resolution that ours has not.
    other: Value,
    category: Value,
    /// Eve's, which Ada may not read.
    hidden: Value,
    /// Eve's, which Ada may read.
    internal: Value,
}

impl Places {
    async fn new(backend: Backend) -> Self {
        let app = TestApp::start(backend).await;
        app.user("Root").await;
        let (ada, eve) = (app.user("Ada").await, app.user("Eve").await);
        let ours = app.project(&ada, json!({"title": "Ours", "key": "OURS"})).await;
        let other = app.project(&ada, json!({"title": "Other"})).await;
        let path = format!("/v1/projects/{}", other.text("id"));
        let make = async |list: &str, body: Value| {
            app.post(&format!("{path}/{list}"), body).as_(&ada).expect(201).await.json()
        };
        make("statuses", json!({"name": "shipped", "category": "done"})).await;
        make("task-types", json!({"name": "incident"})).await;
        let category = make("categories", json!({"name": "Lifts"})).await;
        app.patch(&path, json!({"resolutions": ["fixed"]})).as_(&ada).expect(200).await;
        let hidden = app.project(&eve, json!({"title": "Hidden"})).await;
        let internal = app.project(&eve, json!({"title": "Seen", "visibility": "internal"})).await;
        Self { app, ada, eve, ours, other, category, hidden, internal }
    }

    /// A task of ours with these fields besides its title.
    fn task(&self, fields: &Value) -> Value {
        let mut task = json!({"title": "a", "project_id": self.ours["id"]});
        for (name, value) in fields.as_object().into_iter().flatten() {
            task[name] = value.clone();
        }
        task
    }
}

async fn what_belongs_elsewhere_is_refused(backend: Backend) {
    let places = Places::new(backend).await;
    let Places { app, ada, eve, category, hidden, .. } = &places;
    let (ours, other) = (places.ours.text("id"), places.other.text("id"));
    let task = app.task(ada, places.task(&json!({}))).await;
    let personal = app.task(ada, json!({"title": "a"})).await;
    let secret = app.task(eve, json!({"title": "a", "project_id": hidden["id"]})).await;
    let path = |task: Value| format!("/v1/tasks/{}", task.text("id"));
    let [task, personal, secret] = [task, personal, secret].map(path);
    let project = format!("/v1/projects/{ours}");
    let (grouped, given) = (json!({"category_id": category["id"]}), json!({"assignee_id": eve.id}));
    let hook = json!({"url": "http://127.0.0.1:9/", "event_types": ["task.*"], "project_id": hidden["id"]});
    let post = json!({"title": "a", "project_id": hidden["id"]});
    let loose = json!({"title": "a", "category_id": category["id"]});
    let (shipped, fixed) =
        (json!({"to": "shipped", "resolution": "fixed"}), json!({"to": "done", "resolution": "fixed"}));
    app.drain().await;
    let before = app.number("SELECT count(*) FROM events").await;
    for (method, path, body, status, pointer) in [
        ("POST", "/v1/tasks".to_owned(), places.task(&grouped), 422, "/category_id"),
        ("POST", "/v1/tasks".to_owned(), loose, 422, "/category_id"),
        ("POST", "/v1/tasks".to_owned(), places.task(&json!({"type": "incident"})), 422, "/type"),
        ("POST", "/v1/tasks".to_owned(), post.clone(), 422, "/project_id"),
        ("POST", "/v1/tasks".to_owned(), places.task(&given), 409, ""),
        ("POST", format!("{project}/tasks"), places.task(&grouped), 422, "/category_id"),
        ("POST", format!("{project}/tasks"), places.task(&json!({"project_id": other})), 422, "/project_id"),
        ("POST", format!("/v1/projects/{}/tasks", hidden.text("id")), json!({"title": "a"}), 404, ""),
        ("PATCH", task.clone(), grouped.clone(), 422, "/category_id"),
        ("PATCH", personal.clone(), grouped, 422, "/category_id"),
        ("PATCH", task.clone(), json!({"type": "incident"}), 422, "/type"),
        ("PATCH", task.clone(), given.clone(), 409, ""),
        ("PUT", format!("{task}/assignee"), given, 409, ""),
        ("POST", format!("{task}/transitions"), shipped, 422, "/to"),
        ("POST", format!("{task}/transitions"), fixed, 422, "/resolution"),
        ("POST", format!("{task}/watchers"), json!({"user_ids": [ada.id, eve.id]}), 422, "/user_ids/1"),
        ("POST", format!("{secret}/comments"), json!({"body": "a"}), 404, ""),
        ("POST", format!("{project}/members"), json!({"user_id": other}), 422, "/user_id"),
        ("POST", "/v1/posts".to_owned(), post, 422, "/project_id"),
        ("POST", "/v1/webhooks".to_owned(), hook, 422, "/project_id"),
        ("GET", format!("{project}/tasks?project_id={other}"), Value::Null, 400, "?project_id"),
        ("GET", format!("/v1/views/projects/{ours}/board?status=shipped"), Value::Null, 400, "?status"),
    ] {
        let told = format!("{method} {path} {body}");
        let asked = app.request(method, &path).json((!body.is_null()).then_some(body));
        let problem = asked.as_(ada).refused(status).await;
        let named = problem["errors"][0]["pointer"].as_str().unwrap_or_default();
        assert_eq!(named, pointer, "{told}: {problem}");
    }
    app.drain().await;
    assert_eq!(app.number("SELECT count(*) FROM events").await, before);
    places.app.finish().await;
}

async fn of_a_batch_each_wrong_task_is_told(backend: Backend) {
    let places = Places::new(backend).await;
    let Places { app, ada, eve, category, hidden, internal, other, .. } = &places;
    let away = json!({"archived": true});
    app.patch(&format!("/v1/projects/{}", other.text("id")), away).as_(ada).expect(200).await;
    let of = |project: &Value| json!({"title": "a", "project_id": project["id"]});
    let tasks = json!([
        places.task(&json!({})),
        places.task(&json!({"category_id": category["id"]})),
        places.task(&json!({"type": "incident"})),
        of(hidden),
        of(internal),
        of(other),
        places.task(&json!({"assignee_id": eve.id})),
        {"title": "a", "category_id": category["id"]},
        places.task(&json!({"colour": "red"})),
        places.task(&json!({"priority": {"low": null}})),
        places.task(&json!({})),
    ]);
    let answer = app.post("/v1/tasks/batch", json!({"tasks": tasks})).as_(ada).expect(207).await.json();
    let results = answer.list("results");
    let statuses: Vec<i64> = results.iter().map(|result| result.int("status")).collect();
    assert_eq!(statuses, [201, 422, 422, 422, 403, 409, 409, 422, 422, 422, 201], "{answer:#}");
    for (place, name) in [
        (1, "category_id"),
        (2, "type"),
        (3, "project_id"),
        (7, "category_id"),
        (8, "colour"),
        (9, "priority"),
    ] {
        let pointers = results[place]["problem"].texts("errors", "pointer");
        assert_eq!(pointers, [format!("/tasks/{place}/{name}")]);
    }
    let keys = [&results[0], &results[10]].map(|result| result["task"].text("key"));
    assert_eq!(keys, ["OURS-1", "OURS-2"]);
    assert_eq!(app.list(ada, "/v1/tasks").await.len(), 2);
    places.app.finish().await;
}

async fn what_cannot_be_empty_takes_no_null(backend: Backend) {
    let Places { app, ada, other, category, .. } = Places::new(backend).await;
    let project = format!("/v1/projects/{}", other.text("id"));
    let label = json!({"name": "garden", "color": "#0e8a16", "description": "outside"});
    let label = app.post(&format!("{project}/labels"), label).as_(&ada).expect(201).await;
    let label = label.header("location").to_owned();
    let hook = json!({"url": "http://127.0.0.1:9/", "event_types": ["task.deleted"], "description": "a"});
    let hook = app.post("/v1/webhooks", hook).as_(&ada).expect(201).await;
    let hook = hook.header("location").to_owned();
    app.drain().await;
    let notification = app.list(&ada, "/v1/notifications").await[0].text("id").to_owned();
    for (path, names) in [
        (format!("{project}/categories/{}", category.text("id")), &["name", "position"][..]),
        (format!("{project}/statuses/shipped"), &["name", "category", "position"]),
        (format!("{project}/task-types/incident"), &["name", "position"]),
        (format!("/v1/users/{}", ada.id), &["name", "status"]),
        (format!("/v1/notifications/{notification}"), &["read", "archived"]),
        (label.clone(), &["name"]),
        (hook.clone(), &["url", "event_types"]),
    ] {
        for name in names {
            let problem = app.patch(&path, json!({*name: null})).as_(&ada).refused(422).await;
            assert_eq!(problem.texts("errors", "pointer"), [format!("/{name}")], "{path}");
        }
    }
    // Null takes back what was said.
    let nothing = json!({"color": null, "description": null});
    let plain = app.patch(&label, nothing).as_(&ada).expect(200).await.json();
    assert_eq!((plain.text("color"), plain.text("description")), ("#808080", ""));
    let silent = app.patch(&hook, json!({"description": null})).as_(&ada).expect(200).await.json();
    assert_eq!(silent.text("description"), "");
    app.finish().await;
}
