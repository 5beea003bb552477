//! Who belongs to a project: adding, roles, kicking and leaving; and who watches what.

use futures::future::join_all;
use serde_json::{Value, json};
use taskpost_testkit::{Backend, Fields as _, TestApp, User, both};

both!(
    members_come_and_go,
    wrong_members_are_refused,
    maintainers_touch_no_owner,
    the_last_owner_stays,
    of_two_owners_one_leaves,
    a_kick_takes_the_tasks,
    everybody_may_leave,
    the_list_has_pages,
    a_watch_is_chosen_and_kept,
    others_are_asked_to_watch,
);

const ABSENT: &str = "0198f0c0-0000-7000-8000-000000000000";

fn path(project: &Value) -> String {
    format!("/v1/projects/{}", project.text("id"))
}

fn of(project: &Value, user: &User) -> String {
    format!("{}/members/{}", path(project), user.id)
}

/// The types of the events about a project, in order, as a reader of it sees them.
async fn told(app: &TestApp, user: &User, project: &Value) -> Vec<String> {
    app.drain().await;
    let subject = format!("project/{}", project.text("id"));
    let events = app.events(user).await.into_iter().filter(|event| event.text("subject") == subject);
    events.map(|event| event.text("type").to_owned()).collect()
}

async fn watches(app: &TestApp, what: &str) -> i64 {
    app.number(&format!("SELECT count(*) FROM watches WHERE {what}")).await
}

async fn members_come_and_go(backend: Backend) {
    let app = TestApp::start(backend).await;
    let (_admin, ada, bob) = (app.user("Root").await, app.user("Ada").await, app.user("Bob").await);
    let project = app.project(&ada, json!({"title": "a"})).await;
    app.get(&path(&project)).as_(&bob).refused(404).await;
    let add = || {
        let body = json!({"user_id": bob.id});
        app.post(&format!("{}/members", path(&project)), body).as_(&ada).key("k")
    };
    let added = add().expect(201).await;
    let member = added.json();
    assert_eq!((added.header("location"), added.header("etag")), (of(&project, &bob).as_str(), "\"v2\""));
    assert_eq!((member.text("handle"), member.text("role")), (bob.handle.as_str(), "member"));
    assert_eq!(add().expect(201).await.json(), member);
    app.get(&path(&project)).as_(&bob).expect(200).await;
    assert_eq!(app.read(&bob, &of(&project, &bob)).await, member);

    let role = |role: &str| app.patch(&of(&project, &bob), json!({"role": role})).as_(&ada);
    let changed = role("viewer").expect(200).await;
    assert_eq!((changed.header("etag"), changed.json().text("role")), ("\"v3\"", "viewer"));
    let nothing = role("viewer").expect(200).await;
    assert_eq!((nothing.header("etag"), nothing.find("event-id")), ("\"v3\"", None));
    role("member").header("if-match", "\"v2\"").refused(412).await;
    let kick = || app.delete(&of(&project, &bob)).as_(&ada);
    kick().header("if-match", "\"v2\"").refused(412).await;
    let gone = kick().header("if-match", "\"v3\"").expect(204).await;
    kick().refused(404).await;
    app.get(&path(&project)).as_(&bob).refused(404).await;

    let expected = ["created", "member_added", "member_role_changed", "member_removed"]
        .map(|what| format!("project.{what}"));
    assert_eq!(told(&app, &ada, &project).await, expected);
    let event = app.read(&ada, &format!("/v1/events/{}", gone.header("event-id"))).await;
    assert_eq!((event.text("type"), event.int("aggregateversion")), ("project.member_removed", 4));
    assert_eq!((event["data"].text("user_id"), event["data"].text("role")), (bob.id.as_str(), "viewer"));
    // Whom it is about sees it, though they may not read the project any more.
    assert_eq!(app.read(&bob, &format!("/v1/events/{}", gone.header("event-id"))).await, event);
    assert_eq!(app.number("SELECT count(*) FROM audit_log WHERE action LIKE 'member.%'").await, 3);
    app.finish().await;
}

async fn wrong_members_are_refused(backend: Backend) {
    let app = TestApp::start(backend).await;
    let (ada, bob, dis) = (app.user("Ada").await, app.user("Bob").await, app.user("Dis").await);
    let project = app.project(&ada, json!({"title": "a"})).await;
    app.execute("UPDATE users SET status = 'disabled' WHERE handle = 'dis'").await;
    let add = |body: Value| app.post(&format!("{}/members", path(&project)), body).as_(&ada);
    for (body, pointer) in [
        (json!({}), "/user_id"),
        (json!({"user_id": ABSENT}), "/user_id"),
        (json!({"user_id": dis.id}), "/user_id"),
        (json!({"user_id": "bob"}), "/user_id"),
        (json!({"user_id": bob.id, "role": "admin"}), "/role"),
        (json!({"user_id": bob.id, "handle": "bob"}), "/handle"),
    ] {
        assert_eq!(add(body).refused(422).await.texts("errors", "pointer"), [pointer]);
    }
    add(json!({"user_id": bob.id})).expect(201).await;
    add(json!({"user_id": bob.id, "role": "viewer"})).refused(409).await;
    let role = |body: Value| app.patch(&of(&project, &bob), body).as_(&ada);
    for (body, pointer) in [
        (json!({}), "/role"),
        (json!({"role": null}), "/role"),
        (json!({"role": "viewer", "name": "b"}), "/name"),
    ] {
        assert_eq!(role(body).refused(422).await.texts("errors", "pointer"), [pointer]);
    }
    for person in [ABSENT, "bob", "1"] {
        let one = format!("{}/members/{person}", path(&project));
        app.get(&one).as_(&ada).refused(404).await;
        app.patch(&one, json!({"role": "viewer"})).as_(&ada).refused(404).await;
        app.delete(&one).as_(&ada).refused(404).await;
    }
    assert_eq!(app.read(&ada, &path(&project)).await.int("version"), 2);
    app.finish().await;
}

async fn maintainers_touch_no_owner(backend: Backend) {
    let app = TestApp::start(backend).await;
    let (root, ada, bob, may) =
        (app.user("Root").await, app.user("Ada").await, app.user("Bob").await, app.user("May").await);
    let project = app.project(&ada, json!({"title": "a"})).await;
    app.member(&ada, &project, &may, "maintainer").await;
    let body = json!({"user_id": bob.id, "role": "owner"});
    app.post(&format!("{}/members", path(&project)), body).as_(&may).refused(403).await;
    app.member(&may, &project, &bob, "viewer").await;
    app.patch(&of(&project, &bob), json!({"role": "maintainer"})).as_(&may).expect(200).await;
    app.patch(&of(&project, &bob), json!({"role": "owner"})).as_(&may).refused(403).await;
    app.patch(&of(&project, &ada), json!({"role": "viewer"})).as_(&may).refused(403).await;
    app.patch(&of(&project, &may), json!({"role": "owner"})).as_(&may).refused(403).await;
    app.delete(&of(&project, &ada)).as_(&may).refused(403).await;
    app.delete(&of(&project, &bob)).as_(&may).expect(204).await;
    app.patch(&of(&project, &may), json!({"role": "owner"})).as_(&root).expect(200).await;
    app.delete(&of(&project, &ada)).as_(&may).expect(204).await;
    app.finish().await;
}

async fn the_last_owner_stays(backend: Backend) {
    let app = TestApp::start(backend).await;
    let (root, ada, bob) = (app.user("Root").await, app.user("Ada").await, app.user("Bob").await);
    let project = app.project(&ada, json!({"title": "a"})).await;
    app.member(&ada, &project, &bob, "maintainer").await;
    for user in [&ada, &root] {
        app.delete(&of(&project, &ada)).as_(user).refused(409).await;
        app.patch(&of(&project, &ada), json!({"role": "member"})).as_(user).refused(409).await;
    }
    app.patch(&of(&project, &bob), json!({"role": "owner"})).as_(&ada).expect(200).await;
    // An owner who cannot log in is none to be left with.
    app.execute("UPDATE users SET status = 'disabled' WHERE handle = 'bob'").await;
    app.delete(&of(&project, &ada)).as_(&ada).refused(409).await;
    app.execute("UPDATE users SET status = 'active' WHERE handle = 'bob'").await;
    app.patch(&of(&project, &ada), json!({"role": "member"})).as_(&ada).expect(200).await;
    app.delete(&of(&project, &bob)).as_(&bob).refused(409).await;
    app.finish().await;
}

async fn of_two_owners_one_leaves(backend: Backend) {
    let app = TestApp::start(backend).await;
    let (_admin, ada, bob) = (app.user("Root").await, app.user("Ada").await, app.user("Bob").await);
    for _ in 0..4 {
        let project = app.project(&ada, json!({"title": "a"})).await;
        app.member(&ada, &project, &bob, "owner").await;
        let both = [&ada, &bob].map(|user| app.delete(&of(&project, user)).as_(user).send());
        let mut statuses: Vec<u16> = join_all(both).await.iter().map(|answer| answer.status).collect();
        statuses.sort_unstable();
        assert_eq!(statuses, [204, 409]);
    }
    let owned = "SELECT count(*) FROM members WHERE role = 'owner'";
    assert_eq!(app.number(owned).await, 4, "each project has one owner left");
    app.finish().await;
}

async fn a_kick_takes_the_tasks(backend: Backend) {
    let app = TestApp::start(backend).await;
    let (_admin, ada, bob) = (app.user("Root").await, app.user("Ada").await, app.user("Bob").await);
    let project = app.project(&ada, json!({"title": "a"})).await;
    app.member(&ada, &project, &bob, "member").await;
    let of_bob = json!({"title": "b", "project_id": project["id"], "assignee_id": bob.id});
    let task = app.task(&ada, of_bob).await;
    let personal = app.task(&ada, json!({"title": "c", "assignee_id": bob.id})).await;
    let gone = app.delete(&of(&project, &bob)).as_(&ada).expect(204).await;
    let task = format!("/v1/tasks/{}", task.text("id"));
    assert_eq!(app.read(&ada, &task).await["assignee_id"], Value::Null);
    app.get(&task).as_(&bob).refused(404).await;
    let personal = app.read(&bob, &format!("/v1/tasks/{}", personal.text("id"))).await;
    assert_eq!(personal.text("assignee_id"), bob.id);
    app.drain().await;
    let events = app.events(&ada).await;
    let last: Vec<&str> = events[events.len() - 2..].iter().map(|event| event.text("type")).collect();
    assert_eq!(last, ["task.unassigned", "project.member_removed"]);
    assert_eq!(events[events.len() - 1].text("id"), gone.header("event-id"));
    app.finish().await;
}

async fn everybody_may_leave(backend: Backend) {
    let app = TestApp::start(backend).await;
    let (_admin, ada, bob, eve) =
        (app.user("Root").await, app.user("Ada").await, app.user("Bob").await, app.user("Eve").await);
    let project = app.project(&ada, json!({"title": "a", "visibility": "internal"})).await;
    app.member(&ada, &project, &bob, "viewer").await;
    app.delete(&of(&project, &eve)).as_(&bob).refused(403).await;
    app.delete(&of(&project, &bob)).as_(&bob).expect(204).await;
    app.delete(&of(&project, &bob)).as_(&bob).refused(404).await;
    app.delete(&of(&project, &eve)).as_(&eve).refused(404).await;
    assert_eq!(watches(&app, "subject_type = 'project'").await, 1, "who left is not told by a rule");
    app.finish().await;
}

async fn the_list_has_pages(backend: Backend) {
    let app = TestApp::start(backend).await;
    let ada = app.user("Ada").await;
    let project = app.project(&ada, json!({"title": "a"})).await;
    let mut handles = vec![ada.handle.clone()];
    for name in ["Zoe", "Bob", "Yan", "Carl"] {
        let user = app.user(name).await;
        app.member(&ada, &project, &user, "viewer").await;
        handles.push(user.handle);
    }
    let list = format!("{}/members?limit=2", path(&project));
    let all = app.all_pages(&ada, &list).await;
    let listed: Vec<&str> = all.iter().map(|member| member.text("handle")).collect();
    assert_eq!(listed, handles, "in the order they came");
    let first = app.read(&ada, &list).await;
    let next = first["page"].text("next_cursor");
    let second = app.read(&ada, &format!("{list}&cursor={next}")).await;
    let back = second["page"].text("prev_cursor");
    assert_eq!(app.read(&ada, &format!("{list}&cursor={back}")).await["data"], first["data"]);
    let other = app.project(&ada, json!({"title": "b"})).await;
    app.get(&format!("{}/members?limit=2&cursor={next}", path(&other))).as_(&ada).refused(400).await;
    for (query, pointer) in [("role=owner", "?role"), ("limit=0", "?limit")] {
        let problem = app.get(&format!("{}/members?{query}", path(&project))).as_(&ada).refused(400).await;
        assert_eq!(problem.texts("errors", "pointer"), [pointer]);
    }
    app.finish().await;
}

async fn a_watch_is_chosen_and_kept(backend: Backend) {
    let app = TestApp::start(backend).await;
    let (_admin, ada, bob) = (app.user("Root").await, app.user("Ada").await, app.user("Bob").await);
    let project = app.project(&ada, json!({"title": "a"})).await;
    app.member(&ada, &project, &bob, "member").await;
    assert_eq!(watches(&app, "subject_type = 'project' AND level = 'all' AND NOT chosen").await, 2);
    let task = app.task(&ada, json!({"title": "b", "project_id": project["id"]})).await;
    let personal = app.task(&ada, json!({"title": "c"})).await;
    app.drain().await;
    for (kind, id, at) in [
        ("project", project.text("id"), path(&project)),
        ("task", task.text("id"), format!("/v1/tasks/{}", task.text("key"))),
    ] {
        let at = format!("{at}/watch");
        let set = |body: Option<Value>| app.put(&at, body).as_(&bob);
        let watch = set(None).expect(200).await.json();
        assert_eq!((watch.text("subject_type"), watch.text("subject_id")), (kind, id));
        assert_eq!((watch.text("level"), &watch["chosen"]), ("all", &json!(true)));
        let watch = set(Some(json!({"level": "participating"}))).expect(200).await.json();
        assert_eq!(watch.text("level"), "participating");
        for (body, pointer) in [(json!({"level": "some"}), "/level"), (json!({"chosen": false}), "/chosen")] {
            assert_eq!(set(Some(body)).refused(422).await.texts("errors", "pointer"), [pointer]);
        }
        app.delete(&at).as_(&bob).expect(204).await;
        app.delete(&at).as_(&bob).expect(204).await;
    }
    assert_eq!(watches(&app, "level = 'muted' AND chosen").await, 2, "the rows stay");
    app.put(&format!("/v1/tasks/{}/watch", personal.text("id")), None).as_(&bob).refused(404).await;
    app.delete(&format!("/v1/tasks/{ABSENT}/watch")).as_(&bob).refused(404).await;
    // No rule brings a chosen one back.
    app.delete(&of(&project, &bob)).as_(&ada).expect(204).await;
    app.member(&ada, &project, &bob, "member").await;
    assert_eq!(watches(&app, "subject_type = 'project' AND level = 'muted' AND chosen").await, 1);
    app.finish().await;
}

async fn others_are_asked_to_watch(backend: Backend) {
    let app = TestApp::start(backend).await;
    let (root, ada, bob) = (app.user("Root").await, app.user("Ada").await, app.user("Bob").await);
    let (vic, eve) = (app.user("Vic").await, app.user("Eve").await);
    let project = app.project(&ada, json!({"title": "a"})).await;
    app.member(&ada, &project, &bob, "member").await;
    app.member(&ada, &project, &vic, "viewer").await;
    let task = app.task(&ada, json!({"title": "b", "project_id": project["id"]})).await;
    let task = format!("/v1/tasks/{}", task.text("id"));
    let ask =
        |user: &User, ids: Value| app.post(&format!("{task}/watchers"), json!({"user_ids": ids})).as_(user);
    app.delete(&format!("{task}/watch")).as_(&bob).expect(204).await;
    let asked = ask(&ada, json!([bob.id, vic.id, vic.id, root.id])).expect(200).await.json();
    assert_eq!(asked.list("user_ids").len(), 3);
    assert_eq!(watches(&app, "subject_type = 'task' AND level = 'muted' AND chosen").await, 1);
    let theirs = "subject_type = 'task' AND level = 'all' AND user_id IN (SELECT id FROM users WHERE handle IN ('vic', 'root'))";
    assert_eq!(watches(&app, theirs).await, 2);
    for (ids, pointer) in [
        (json!([]), "/user_ids"),
        (json!(vec![bob.id.as_str(); 51]), "/user_ids"),
        (json!([bob.id, eve.id]), "/user_ids/1"),
        (json!([ABSENT]), "/user_ids/0"),
        (json!(["bob"]), "/user_ids/0"),
    ] {
        assert_eq!(ask(&ada, ids).refused(422).await.texts("errors", "pointer"), [pointer]);
    }
    ask(&vic, json!([bob.id])).refused(403).await;
    ask(&eve, json!([bob.id])).refused(404).await;
    let personal = app.task(&ada, json!({"title": "c", "assignee_id": bob.id})).await;
    let at = format!("/v1/tasks/{}/watchers", personal.text("id"));
    app.post(&at, json!({"user_ids": [ada.id, bob.id]})).as_(&bob).expect(200).await;
    app.post(&at, json!({"user_ids": [vic.id]})).as_(&ada).refused(422).await;
    app.finish().await;
}
