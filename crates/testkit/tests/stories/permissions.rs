//! The permission table, tried out: every row of it, by everybody it speaks of.

use serde_json::{Value, json};
use taskpost_api::http::{Access, Route, TABLE};
use taskpost_testkit::{Backend, Client, Fields as _, TestApp, User, both};

both!(
    every_route_lets_in_whom_its_row_says,
    tokens_for_machines_do_not_reach_the_account,
    parents_and_children_belong_together
);

/// Somebody, by what they are to the project.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Role {
    Stranger,
    ExMember,
    Viewer,
    Member,
    /// A member, who wrote everything in it.
    Author,
    Maintainer,
    Owner,
    Admin,
}

const ROLES: [Role; 8] = [
    Role::Stranger,
    Role::ExMember,
    Role::Viewer,
    Role::Member,
    Role::Author,
    Role::Maintainer,
    Role::Owner,
    Role::Admin,
];

/// What becomes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    /// 404: they may not know of it. Of a project in a body, 422.
    Hidden,
    /// 403: they may know of it.
    Refused,
    /// Anything else; what the request asks for may still be wrong.
    Let,
}

/// What the row says about somebody.
fn verdict(row: &Route, role: Role) -> Verdict {
    let least = match row.access {
        Access::Anyone | Access::Member | Access::Person => return Verdict::Let,
        Access::Admin if role == Role::Admin => return Verdict::Let,
        Access::Admin => return Verdict::Refused,
        Access::Viewer => Role::Viewer,
        Access::Worker => Role::Member,
        Access::Author => Role::Author,
        Access::Maintainer => Role::Maintainer,
        Access::Owner => Role::Owner,
    };
    let place = format!("{} {}", row.method, row.path);
    let exception = match (place.as_str(), role) {
        // Nobody puts words into another's mouth.
        ("PATCH /comments/{id}", Role::Maintainer | Role::Owner | Role::Admin) => Some(Verdict::Refused),
        // A draft is its author's and the maintainers'.
        ("POST /posts/{id}/publish", Role::Viewer | Role::Member) => Some(Verdict::Hidden),
        // It is about the viewer, who may leave; and who made a task may take it back.
        ("DELETE /projects/{id}/members/{user_id}", Role::Viewer) | ("DELETE /tasks/{id}", Role::Author) => {
            Some(Verdict::Let)
        }
        _ => None,
    };
    exception.unwrap_or(match role {
        Role::Stranger | Role::ExMember => Verdict::Hidden,
        role if role < least => Verdict::Refused,
        _ => Verdict::Let,
    })
}

/// The people, and a project with something of every kind in it.
struct World<'a> {
    people: &'a People,
    project: Value,
    task: Value,
    category: Value,
    label: Value,
    comment: Value,
    post: Value,
    draft: Value,
}

struct People([User; 8]);

impl People {
    async fn new(app: &Client) -> Self {
        // The first is admin.
        let admin = app.user("Root").await;
        let mut users = Vec::new();
        for role in &ROLES[..7] {
            users.push(app.user(&format!("{role:?}")).await);
        }
        users.push(admin);
        Self(users.try_into().expect("eight people"))
    }

    fn get(&self, role: Role) -> &User {
        &self.0[ROLES.iter().position(|known| *known == role).expect("a role")]
    }
}

impl<'a> World<'a> {
    async fn new(app: &Client, people: &'a People) -> Self {
        let (owner, author) = (people.get(Role::Owner), people.get(Role::Author));
        let project = app.project(owner, json!({"title": "Operations"})).await;
        let path = format!("/v1/projects/{}", project.text("id"));
        for (role, word) in [
            (Role::ExMember, "member"),
            (Role::Viewer, "viewer"),
            (Role::Member, "member"),
            (Role::Author, "member"),
            (Role::Maintainer, "maintainer"),
        ] {
            app.member(owner, &project, people.get(role), word).await;
        }
        let ex = &people.get(Role::ExMember).id;
        app.delete(&format!("{path}/members/{ex}")).as_(owner).expect(204).await;
        let make = async |user: &User, path: &str, body: Value| {
            app.post(path, body).as_(user).expect(201).await.json()
        };
        let category = make(owner, &format!("{path}/categories"), json!({"name": "Lifts"})).await;
        let label = make(owner, &format!("{path}/labels"), json!({"name": "garden"})).await;
        let task =
            make(author, "/v1/tasks", json!({"title": "Fix the lift", "project_id": project["id"]})).await;
        let comments = format!("/v1/tasks/{}/comments", task.text("id"));
        let comment = make(author, &comments, json!({"body": "It is stuck"})).await;
        let post = json!({"title": "News", "body": "b", "project_id": project["id"]});
        let draft = make(author, "/v1/posts", post.clone()).await;
        let post = make(author, "/v1/posts", post).await;
        app.post(&format!("/v1/posts/{}/publish", post.text("id")), None).as_(author).expect(200).await;
        Self { people, project, task, category, label, comment, post, draft }
    }

    /// The address of a row, with ids of this world.
    fn path(&self, row: &Route) -> String {
        let nothing = "0198f0c0-0000-7000-8000-000000000000";
        let id = match row.path.split('/').nth(1).unwrap_or_default() {
            "projects" | "views" => self.project.text("id"),
            "tasks" => self.task.text("id"),
            "comments" => self.comment.text("id"),
            "posts" if row.path.ends_with("/publish") => self.draft.text("id"),
            "posts" => self.post.text("id"),
            "users" => self.people.get(Role::Viewer).id.as_str(),
            _ => nothing,
        };
        let path = row.canonical().replace("{id}", id);
        let path = path.replace("{user_id}", &self.people.get(Role::Viewer).id);
        let path = path.replace("{category_id}", self.category.text("id"));
        let path = path.replace("{label_id}", self.label.text("id"));
        path.replace("{name}", if row.path.contains("task-types") { "chore" } else { "in_review" })
            .replace("{file}", "index.css")
    }

    /// A good body for a row. A row that reads one and has none here is not tried, so it fails.
    fn body(&self, row: &Route) -> Option<Value> {
        if !row.input.is_json() {
            return None;
        }
        let stranger = &self.people.get(Role::Stranger).id;
        let text = json!({"body": "Mine as well"});
        Some(match (row.method.as_str(), row.path) {
            ("POST", path) if path.starts_with("/auth/") => json!({}),
            ("PATCH", "/me" | "/me/tokens/{id}") => json!({"name": "Another"}),
            ("PUT", "/me/password") => {
                json!({"current_password": "not the one", "new_password": "correct horse"})
            }
            ("POST", "/me/tokens") => json!({"name": "CI", "scopes": ["read"]}),
            ("POST", "/users") => json!({"email": "x", "name": "X", "password": "x"}),
            ("PATCH", "/users/{id}") => json!({"name": "Vic"}),
            ("PUT", "/users/{id}/roles") => json!({"roles": []}),
            ("POST", "/projects") => json!({"title": "Another"}),
            ("PATCH", "/projects/{id}") => json!({"title": "Renamed"}),
            ("POST", "/projects/{id}/members") => json!({"user_id": stranger}),
            ("PATCH", "/projects/{id}/members/{user_id}") => json!({"role": "member"}),
            ("POST", "/projects/{id}/categories" | "/projects/{id}/labels") => json!({"name": "new"}),
            ("POST", "/projects/{id}/statuses") => json!({"name": "triage", "category": "todo"}),
            ("PATCH", path)
                if ["{name}", "{category_id}", "{label_id}"].iter().any(|last| path.ends_with(last)) =>
            {
                json!({"name": "newer"})
            }
            ("POST", "/projects/{id}/task-types") => json!({"name": "incident"}),
            ("PUT", "/projects/{id}/watch" | "/tasks/{id}/watch") => json!({"level": "all"}),
            ("POST", "/projects/{id}/tasks/reassign") => json!({"strategy": "random"}),
            ("POST", "/tasks" | "/projects/{id}/tasks") => json!({"title": "a"}),
            ("POST", "/tasks/batch") => json!({"tasks": [{"title": "a"}]}),
            ("PATCH", "/tasks/{id}") => json!({"title": "b"}),
            ("POST", "/tasks/{id}/transitions") => json!({"to": "in_progress"}),
            ("PUT", "/tasks/{id}/assignee") => json!({"assignee_id": self.people.get(Role::Author).id}),
            ("POST", "/tasks/{id}/watchers") => json!({"user_ids": [self.people.get(Role::Author).id]}),
            ("POST", "/tasks/{id}/comments" | "/posts/{id}/comments") | ("PATCH", "/comments/{id}") => text,
            ("POST", "/posts") => json!({"title": "a", "body": "b", "project_id": self.project["id"]}),
            ("PATCH", "/posts/{id}") => json!({"title": "c"}),
            ("PATCH", "/notifications/{id}") => json!({"read": true}),
            ("POST", "/webhooks") => json!({"url": "http://127.0.0.1:1/", "event_types": ["task.*"]}),
            ("PATCH", "/webhooks/{id}") => json!({"description": "a"}),
            ("POST", "/admin/dead-letters/{id}/redrive") => json!({}),
            ("POST", "/admin/dead-letters/{id}/discard") => json!({"reason": "a"}),
            (method, path) => panic!("{method} {path}: give it a good body here, so that its row is tried"),
        })
    }
}

fn judged(row: &Route, status: u16) -> Verdict {
    let in_the_body = row.path == "/posts" && status == 422;
    match status {
        404 => Verdict::Hidden,
        422 if in_the_body => Verdict::Hidden,
        403 => Verdict::Refused,
        _ => Verdict::Let,
    }
}

async fn every_route_lets_in_whom_its_row_says(backend: Backend) {
    let app = TestApp::start(backend)
        .with("RATE_LIMIT_WRITE", "100000/s")
        .with("RATE_LIMIT_AUTH", "100000/s")
        .await;
    let people = People::new(&app).await;
    let shared = World::new(&app, &people).await;
    for row in TABLE {
        let place = format!("{} {}", row.method, row.path);
        if row.access != Access::Anyone {
            let asked = app.request(row.method.clone(), &shared.path(row)).json(shared.body(row));
            assert_eq!(asked.send().await.status, 401, "{place}, by nobody");
        }
        // These are about one's own, and end the session that asks.
        if place.contains("/auth/") || place == "DELETE /me/sessions" {
            continue;
        }
        for role in ROLES {
            let expected = verdict(row, role);
            let changes = expected == Verdict::Let && !row.method.is_safe() && row.access != Access::Person;
            let own;
            let world = if changes && row.access >= Access::Viewer {
                own = World::new(&app, &people).await;
                &own
            } else {
                &shared
            };
            if changes && row.access == Access::Admin && row.path.starts_with("/users") {
                // Would disable somebody the others need.
                continue;
            }
            let asked = app.request(row.method.clone(), &world.path(row)).json(world.body(row));
            let answer = asked.as_(people.get(role)).send().await;
            assert!(answer.status != 401 && answer.status < 500, "{place}, by {role:?}: {}", answer.text());
            if row.access >= Access::Viewer || row.access == Access::Admin {
                let nothing_there = row.access == Access::Admin && answer.status == 404;
                if !nothing_there {
                    assert_eq!(
                        judged(row, answer.status),
                        expected,
                        "{place}, by {role:?}: {}",
                        answer.text()
                    );
                }
            }
        }
    }
    app.finish().await;
}

async fn tokens_for_machines_do_not_reach_the_account(backend: Backend) {
    let app = TestApp::start(backend).with("RATE_LIMIT_AUTH", "100000/s").await;
    let people = People::new(&app).await;
    let world = World::new(&app, &people).await;
    let make = json!({"name": "everything", "scopes": ["read", "write", "tasks:create"]});
    let token = app.post("/v1/me/tokens", make).as_(people.get(Role::Owner)).expect(201).await.json();
    for row in TABLE.iter().filter(|row| row.access == Access::Person) {
        let asked = app.request(row.method.clone(), &world.path(row)).json(world.body(row));
        let answer = asked.token(token.text("secret")).send().await;
        assert_eq!(answer.status, 403, "{} {}: {}", row.method, row.path, answer.text());
    }
    app.finish().await;
}

async fn parents_and_children_belong_together(backend: Backend) {
    let app = TestApp::start(backend).await;
    let people = People::new(&app).await;
    let (ours, theirs) = (World::new(&app, &people).await, World::new(&app, &people).await);
    let owner = people.get(Role::Owner);
    let path = format!("/v1/projects/{}", ours.project.text("id"));
    for (method, child, body) in [
        ("PATCH", format!("categories/{}", theirs.category.text("id")), Some(json!({"name": "a"}))),
        ("DELETE", format!("categories/{}", theirs.category.text("id")), None),
        ("PATCH", format!("labels/{}", theirs.label.text("id")), Some(json!({"name": "a"}))),
        ("DELETE", format!("labels/{}", theirs.label.text("id")), None),
        ("GET", format!("members/{}", people.get(Role::Stranger).id), None),
        ("DELETE", format!("members/{}", people.get(Role::Stranger).id), None),
        ("DELETE", "statuses/nowhere".to_owned(), None),
    ] {
        let answer = app.request(method, &format!("{path}/{child}")).json(body).as_(owner).send().await;
        assert_eq!(answer.status, 404, "{method} {child}: {}", answer.text());
    }
    let foreign = json!({"category_id": theirs.category["id"]});
    app.patch(&format!("/v1/tasks/{}", ours.task.text("id")), foreign).as_(owner).refused(422).await;
    app.finish().await;
}
