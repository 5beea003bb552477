//! Changes inside a project beside changes of its rules: whatever is stored fits the rules, and nobody is refused only
//! because somebody else is busy there.

use futures::future::join_all;
use serde_json::{Value, json};
use taskpost_store::projects;
use taskpost_testkit::{Backend, Fields as _, Request, TestApp, User, both};

both!(
    changes_inside_wait_for_who_changes_the_project,
    what_is_stored_fits_the_rules_whoever_races,
    nobody_is_refused_because_others_edit,
);

async fn started(backend: Backend) -> (TestApp, User, User) {
    let app = TestApp::start(backend).await;
    // The first is admin, who may do everything everywhere.
    app.user("Root").await;
    let (ada, bob) = (app.user("Ada").await, app.user("Bob").await);
    (app, ada, bob)
}

fn path(kind: &str, thing: &Value) -> String {
    format!("/v1/{kind}/{}", thing.text("id"))
}

async fn all(requests: Vec<Request>, user: &User) -> Vec<u16> {
    let answers = join_all(requests.into_iter().map(|request| request.as_(user).send())).await;
    answers.iter().map(|answer| answer.status).collect()
}

async fn changes_inside_wait_for_who_changes_the_project(backend: Backend) {
    let (app, ada, bob) = started(backend).await;
    let project = app.project(&ada, json!({"title": "a"})).await;
    app.member(&ada, &project, &bob, "member").await;
    let task = app.task(&ada, json!({"title": "a", "project_id": project["id"]})).await;
    let own = app.task(&ada, json!({"title": "own"})).await;
    let (on, whole) = (path("tasks", &task), path("projects", &project));
    let said = json!({"body": "a"});
    let comment = app.post(&format!("{on}/comments"), said.clone()).as_(&ada).expect(201).await.json();
    let inside = || {
        vec![
            app.patch(&on, json!({"title": "b"})),
            app.post(&format!("{on}/transitions"), json!({"to": "in_progress"})),
            app.post(&format!("{on}/comments"), said.clone()),
            app.patch(&path("comments", &comment), json!({"body": "b"})),
            app.post(&format!("{whole}/tasks/reassign"), json!({"strategy": "random"})),
            app.delete(&on),
        ]
    };
    // On SQLite there is one writer, and everybody waits for everybody.
    if app.db().has_outbox() {
        let (id, before) = (project.text("id").parse().unwrap(), app.read(&ada, &on).await);
        let mut change = app.db().begin().await.unwrap();
        projects::lock(&mut change, id).await.unwrap();
        let held = join_all(inside().into_iter().map(|request| request.as_(&ada).refused(503)));
        let personal = app.patch(&path("tasks", &own), json!({"title": "b"})).as_(&ada).expect(200);
        let (held, _) = tokio::join!(held, personal);
        assert!(held.iter().all(|problem| problem.text("detail").contains("nothing was stored")), "{held:?}");
        change.rollback().await.unwrap();
        assert_eq!(app.read(&ada, &on).await, before);

        // Who changes something inside is in the way of those who change the rules, and of nobody else.
        let mut edit = app.db().begin().await.unwrap();
        projects::keep(&mut edit, id).await.unwrap();
        let kick = app.delete(&format!("{whole}/members/{}", bob.id)).as_(&ada).refused(503);
        let others = async {
            app.task(&ada, json!({"title": "b", "project_id": project["id"]})).await;
            app.patch(&on, json!({"title": "c"})).as_(&ada).expect(200).await;
        };
        let (held, ()) = tokio::join!(kick, others);
        assert!(held.text("detail").contains("nothing was stored"), "{held}");
        edit.rollback().await.unwrap();
    }
    for request in inside() {
        let answer = request.as_(&ada).send().await;
        assert!((200..300).contains(&answer.status), "{}", answer.text());
    }
    app.finish().await;
}

async fn what_is_stored_fits_the_rules_whoever_races(backend: Backend) {
    let (app, ada, bob) = started(backend).await;
    for _ in 0..6 {
        let project = app.project(&ada, json!({"title": "a"})).await;
        app.member(&ada, &project, &bob, "member").await;
        let whole = path("projects", &project);
        let category = app.post(&format!("{whole}/categories"), json!({"name": "c"})).as_(&ada);
        let category = category.expect(201).await.json();
        let tasks = join_all((0..4).map(|i| {
            let fields = json!({"title": format!("{i}"), "project_id": project["id"]});
            app.task(&ada, fields)
        }));
        let on: Vec<String> = tasks.await.iter().map(|task| path("tasks", task)).collect();
        let statuses = all(
            vec![
                app.post(&format!("{}/transitions", on[0]), json!({"to": "in_review"})),
                app.delete(&format!("{whole}/statuses/in_review")),
                app.patch(&on[1], json!({"category_id": category["id"]})),
                app.delete(&format!("{whole}/categories/{}", category.text("id"))),
                app.put(&format!("{}/assignee", on[2]), json!({"assignee_id": bob.id})),
                app.delete(&format!("{whole}/members/{}", bob.id)),
                app.patch(&on[3], json!({"type": "chore"})),
                app.delete(&format!("{whole}/task-types/chore")),
            ],
            &ada,
        )
        .await;
        assert!(statuses.iter().all(|status| [200, 204, 409, 422].contains(status)), "{statuses:?}");
        let rules = app.read(&ada, &whole).await;
        let task = async |i: usize| app.read(&ada, &on[i]).await;
        let status = task(0).await.text("status").to_owned();
        assert!(rules.texts("statuses", "name").contains(&status), "{status} of {rules}");
        assert_eq!(task(1).await["category_id"], Value::Null, "the category is gone");
        assert_eq!(task(2).await["assignee_id"], Value::Null, "Bob is gone");
        assert!(rules.list("task_types").contains(&task(3).await["type"]), "{rules}");
    }
    app.finish().await;
}

async fn nobody_is_refused_because_others_edit(backend: Backend) {
    let (app, ada, bob) = started(backend).await;
    let project = app.project(&ada, json!({"title": "a"})).await;
    let whole = path("projects", &project);
    let fields = json!({"title": "a", "project_id": project["id"]});
    let made = app.post("/v1/tasks/batch", json!({"tasks": vec![fields; 40]})).as_(&ada).expect(207).await;
    let made = made.json();
    let on: Vec<String> = made.list("results").iter().map(|result| path("tasks", &result["task"])).collect();
    for round in 0..4 {
        app.member(&ada, &project, &bob, "member").await;
        let mut requests: Vec<Request> =
            on[4..20].iter().map(|on| app.patch(on, json!({"title": format!("b{round}")}))).collect();
        let seed = json!({"strategy": "random", "seed": round});
        requests.push(app.post(&format!("{whole}/tasks/reassign"), seed));
        requests.push(app.delete(&format!("{whole}/members/{}", bob.id)));
        // One that is deleted is not there for those who come later.
        requests.push(app.delete(&on[round]));
        let gone = (0..3).map(|i| app.patch(&on[round], json!({"title": format!("c{i}")})).as_(&ada).send());
        let (statuses, gone) = tokio::join!(all(requests, &ada), join_all(gone));
        assert!(statuses.iter().all(|status| [200, 204].contains(status)), "{statuses:?}");
        assert!(gone.iter().all(|answer| [200, 404].contains(&answer.status)), "{gone:?}");
    }
    let left =
        "SELECT count(*) FROM tasks AS t JOIN users AS u ON u.id = t.assignee_id WHERE u.handle = 'bob'";
    assert_eq!(app.number(left).await, 0, "who is out has none");
    app.finish().await;
}
