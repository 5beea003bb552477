//! One of everything that has an address and two of everything that is listed, and good requests with it.

use std::collections::HashMap;

use serde_json::{Value, json};
use taskpost_testkit::{Answer, Fields as _, Request, TestApp, User, WebhookSink};

use super::document::Operation;

/// The parts of addresses that stand before a parameter, and what stands there.
type Ids = HashMap<&'static str, String>;

pub(super) struct Fixture<'a> {
    app: &'a TestApp,
    /// An admin, whose everything is.
    pub(super) root: User,
    /// Another admin.
    pub(super) ben: User,
    spare: User,
    newcomer: User,
    sink: WebhookSink,
    ids: Ids,
}

impl<'a> Fixture<'a> {
    pub(super) async fn new(app: &'a TestApp) -> Self {
        let root = app.user("Root").await;
        let (ben, vic, newcomer) = (app.user("Ben").await, app.user("Vic").await, app.user("New").await);
        let roles = json!({"roles": ["admin"]});
        app.put(&format!("/v1/users/{}/roles", ben.id), roles).as_(&root).expect(200).await;
        let (ben, spare) = (app.login(&ben).await, app.login(&root).await);
        app.task(&ben, json!({"title": "For you", "assignee_id": root.id})).await;
        let sink = WebhookSink::start().await;
        let mut ids = Ids::from([
            ("users", vic.id.clone()),
            ("members", vic.id.clone()),
            ("statuses", "in_review".to_owned()),
            ("task-types", "chore".to_owned()),
            ("docs", "index.css".to_owned()),
        ]);
        furnish(app, &root, &vic, &mut ids).await;
        bury(app, &root, &sink, &mut ids).await;
        let sessions = app.list(&root, "/v1/me/sessions").await;
        let other = sessions.iter().find(|session| session["current"] == false).expect("another session");
        ids.insert("sessions", other.text("id").to_owned());
        ids.insert("events", app.events(&root).await[0].text("id").to_owned());
        let inbox = app.list(&root, "/v1/notifications").await;
        ids.insert("notifications", inbox[0].text("id").to_owned());
        Self { app, root, ben, spare, newcomer, sink, ids }
    }

    /// What stands for the parameter behind this part of an address.
    pub(super) fn id(&self, part: &str) -> &str {
        let known = self.ids.get(part);
        known.unwrap_or_else(|| panic!("give the fixture one of /{part}/, so that its routes are tried"))
    }

    /// The address, with `instead` for the parameter of that name.
    pub(super) fn address(&self, path: &str, instead: Option<(&str, &str)>) -> String {
        let mut before = "";
        let mut parts = Vec::new();
        for part in path.split('/') {
            let parameter = part.strip_prefix('{').and_then(|part| part.strip_suffix('}'));
            parts.push(match (parameter, instead) {
                (Some(name), Some((wrong, id))) if name == wrong => id,
                (Some(_), _) => self.id(before),
                (None, _) => part,
            });
            before = part;
        }
        parts.join("/")
    }

    /// A request of the admin's, without a body.
    pub(super) fn request(&self, operation: Operation<'_>, address: &str) -> Request {
        self.app.request(operation.method, address).as_(&self.root)
    }

    /// A good request, but for its address.
    pub(super) fn good(&self, operation: Operation<'_>, address: &str) -> Request {
        let body = operation.body().map(|_| self.body(operation));
        self.request(operation, address).json(body)
    }

    /// A good body.
    pub(super) fn body(&self, operation: Operation<'_>) -> Value {
        let (root, name) = (&self.root, operation.name());
        let account = |name: &str| {
            let email = format!("{name}@example.net");
            json!({"email": email, "name": name, "password": "correct horse battery"})
        };
        match name.replacen("/v1/", "/", 1).as_str() {
            "POST /auth/register" => account("somebody"),
            "POST /auth/login" => json!({"email": root.email, "password": root.password}),
            "POST /auth/refresh" => json!({"refresh_token": self.spare.refresh_token}),
            "POST /auth/password/forgot" => json!({"email": root.email}),
            "POST /auth/password/reset" => json!({"token": "none", "password": "correct horse battery"}),
            "PATCH /me" => json!({"locale": "de"}),
            "PUT /me/password" => {
                json!({"current_password": root.password, "new_password": "another battery"})
            }
            "POST /me/tokens" => json!({"name": "CI", "scopes": ["read"]}),
            "PATCH /me/tokens/{id}" | "PATCH /users/{id}" => json!({"name": "Another"}),
            "POST /users" => account("else"),
            "PUT /users/{id}/roles" => json!({"roles": ["moderator"]}),
            "POST /projects" | "PATCH /projects/{id}" | "PATCH /tasks/{id}" | "PATCH /posts/{id}" => {
                json!({"title": "Another"})
            }
            "POST /projects/{id}/members" => json!({"user_id": self.newcomer.id}),
            "PATCH /projects/{id}/members/{user_id}" => json!({"role": "viewer"}),
            "POST /projects/{id}/categories"
            | "POST /projects/{id}/labels"
            | "POST /projects/{id}/task-types" => json!({"name": "new"}),
            "PATCH /projects/{id}/categories/{category_id}" | "PATCH /projects/{id}/labels/{label_id}" => {
                json!({"name": "newer"})
            }
            "POST /projects/{id}/statuses" => json!({"name": "triage", "category": "todo"}),
            "PATCH /projects/{id}/statuses/{name}" | "PATCH /projects/{id}/task-types/{name}" => {
                json!({"position": 1})
            }
            "PUT /projects/{id}/watch" | "PUT /tasks/{id}/watch" => json!({"level": "all"}),
            "POST /projects/{id}/tasks/reassign" => json!({"strategy": "random"}),
            "POST /tasks" | "POST /projects/{id}/tasks" => json!({"title": "a"}),
            "POST /tasks/batch" => json!({"tasks": [{"title": "a"}]}),
            "POST /tasks/{id}/transitions" => json!({"to": "in_progress"}),
            "PUT /tasks/{id}/assignee" => json!({"assignee_id": root.id}),
            "POST /tasks/{id}/watchers" => json!({"user_ids": [root.id]}),
            "POST /tasks/{id}/comments" | "POST /posts/{id}/comments" | "PATCH /comments/{id}" => {
                json!({"body": "Mine as well"})
            }
            "POST /posts" => json!({"title": "a", "project_id": self.id("projects")}),
            "PATCH /notifications/{id}" => json!({"read": true}),
            "POST /webhooks" => json!({"url": self.sink.url("/new"), "event_types": ["task.deleted"]}),
            "PATCH /webhooks/{id}" => json!({"description": "a"}),
            "POST /admin/dead-letters/{id}/redrive" => json!({}),
            "POST /admin/dead-letters/{id}/discard" => json!({"reason": "a"}),
            name => panic!("{name}: give it a good body here, so that its route is tried"),
        }
    }

    /// What everything says that can be read, by its address, and how much there is that cannot.
    pub(super) async fn seen(&self, operations: &[Operation<'_>]) -> Vec<(String, Value)> {
        self.app.drain().await;
        let mut seen = Vec::new();
        for operation in operations.iter().filter(|one| one.method == "GET" && one.path.starts_with("/v1/")) {
            let address = self.address(operation.path, None);
            seen.push((address.clone(), self.app.read(&self.root, &address).await));
        }
        for (rows, sql) in [
            ("events", "SELECT count(*) FROM events"),
            ("audit log", "SELECT count(*) FROM audit_log"),
            ("keys", "SELECT count(*) FROM idempotency_keys"),
            ("watches", "SELECT count(*) FROM watches"),
        ] {
            seen.push((rows.to_owned(), json!(self.app.number(sql).await)));
        }
        seen
    }
}

/// A project with everything in it, and tokens.
async fn furnish(app: &TestApp, root: &User, vic: &User, ids: &mut Ids) {
    let make = async |path: &str, body: Value| app.post(path, body).as_(root).expect(201).await.json();
    app.project(root, json!({"title": "Another"})).await;
    let project = app.project(root, json!({"title": "Operations"})).await;
    app.member(root, &project, vic, "member").await;
    let path = format!("/v1/projects/{}", project.text("id"));
    let category = make(&format!("{path}/categories"), json!({"name": "Lifts"})).await;
    let label = make(&format!("{path}/labels"), json!({"name": "garden"})).await;
    let mut things = vec![("projects", project), ("categories", category), ("labels", label)];
    for _ in 0..2 {
        let thing = json!({"title": "Fix the lift", "project_id": things[0].1["id"]});
        things.push(("tasks", make("/v1/tasks", thing.clone()).await));
        things.push(("posts", make("/v1/posts", thing).await));
        things.push(("tokens", make("/v1/me/tokens", json!({"name": "CI", "scopes": ["read"]})).await));
    }
    ids.extend(things.iter().map(|(part, thing)| (*part, thing.text("id").to_owned())));
    let task = format!("/v1/tasks/{}", ids["tasks"]);
    app.patch(&task, json!({"title": "Mend the lift"})).as_(root).expect(200).await;
    for on in [format!("/v1/posts/{}/comments", ids["posts"]), format!("{task}/comments")] {
        make(&on, json!({"body": "It is stuck"})).await;
        let comment = make(&on, json!({"body": "It still is"})).await;
        ids.insert("comments", comment.text("id").to_owned());
    }
}

/// Two letters of a webhook that was tried in vain, and another webhook.
async fn bury(app: &TestApp, root: &User, sink: &WebhookSink, ids: &mut Ids) {
    sink.always(Answer::status(503));
    let hook = app.hook(root, sink, &["task.created"]).await;
    for _ in 0..2 {
        app.task(root, json!({"title": "Of no use"})).await;
    }
    app.drain().await;
    sink.always(Answer::status(204));
    let letters = app.list(root, "/v1/admin/dead-letters").await;
    let quiet = json!({"url": sink.url("/quiet"), "event_types": ["task.deleted"]});
    app.post("/v1/webhooks", quiet).as_(root).expect(201).await;
    ids.insert("webhooks", hook.text("id").to_owned());
    ids.insert("dead-letters", letters[0].text("id").to_owned());
}
