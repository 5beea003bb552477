//! Tasks in projects: keys, lists, members, history, search, reminders.

use std::collections::HashSet;

use chrono::Duration;
use futures::future::join_all;
use serde_json::{Value, json};
use taskpost_store::projects;
use taskpost_testkit::{Backend, Fields as _, TestApp, User, both};

both!(
    keys_are_never_doubled,
    a_retried_request_takes_no_other_number,
    a_batch_into_projects_fails_task_by_task,
    a_project_has_lists_of_its_own,
    an_assignee_must_be_a_member,
    who_may_what,
    an_id_and_a_key_name_the_same_task,
    lists_are_filtered_sorted_and_searched,
    every_page_comes_once_while_tasks_are_made,
    what_happened_is_kept,
    open_tasks_are_dealt_out_again,
    due_tasks_are_told_of_once,
    a_held_project_holds_nobody_else_up,
);

async fn started(backend: Backend) -> (TestApp, User, User, Value) {
    let app = TestApp::start(backend).await;
    // The first is admin, who may do everything everywhere.
    app.user("Root").await;
    let (ada, bob) = (app.user("Ada").await, app.user("Bob").await);
    let project = app.project(&ada, json!({"title": "Operations", "key": "OPS"})).await;
    (app, ada, bob, project)
}

fn in_project(project: &Value, title: &str) -> Value {
    json!({"title": title, "project_id": project["id"]})
}

async fn keys_are_never_doubled(backend: Backend) {
    let (app, ada, bob, project) = started(backend).await;
    app.member(&ada, &project, &bob, "member").await;
    let single = (0..60).map(|i| {
        let user = [&ada, &bob][i % 2];
        app.task(user, in_project(&project, &format!("task {i}")))
    });
    let batch = json!({"tasks": vec![in_project(&project, "of a batch"); 40]});
    let (tasks, batch) =
        tokio::join!(join_all(single), app.post("/v1/tasks/batch", batch).as_(&bob).expect(207));
    let mut keys: Vec<String> = tasks.iter().map(|task| task.text("key").to_owned()).collect();
    let results = batch.json();
    keys.extend(results.list("results").iter().map(|item| item["task"].text("key").to_owned()));
    let expected: HashSet<String> = (1..=100).map(|number| format!("OPS-{number}")).collect();
    assert_eq!((keys.len(), keys.into_iter().collect::<HashSet<_>>()), (100, expected));
    app.drain().await;
    let made = app.events(&ada).await.into_iter().filter(|event| event.text("type") == "task.created");
    assert!(
        made.filter(|event| event["projectid"] == project["id"])
            .all(|event| { event["data"]["task"].text("key").starts_with("OPS-") })
    );
    app.finish().await;
}

async fn a_retried_request_takes_no_other_number(backend: Backend) {
    let (app, ada, _, project) = started(backend).await;
    let post = |key: &str| app.post("/v1/tasks", in_project(&project, "once")).as_(&ada).key(key);
    let answers = join_all((0..20).map(|_| post("one").expect(201))).await;
    let first = answers[0].json();
    for answer in &answers {
        assert_eq!((answer.json(), answer.header("etag")), (first.clone(), "\"v1.0\""));
        assert!(answer.header("location").ends_with(first.text("id")));
    }
    assert_eq!(answers.iter().filter(|answer| answer.find("idempotency-replayed").is_none()).count(), 1);
    assert_eq!(post("two").expect(201).await.json().text("key"), "OPS-2");
    let other = app.post("/v1/tasks", in_project(&project, "other")).as_(&ada).key("one");
    assert_eq!(other.refused(422).await.texts("errors", "code"), ["idempotency_key_reused"]);
    app.finish().await;
}

async fn a_batch_into_projects_fails_task_by_task(backend: Backend) {
    let (app, ada, bob, project) = started(backend).await;
    let nowhere = "0198f0c0-0000-7000-8000-000000000000";
    let tasks = json!({"tasks": [
        {"title": "personal"},
        {"title": "in it", "project_id": project["id"]},
        {"title": "nowhere", "project_id": nowhere},
        {"title": "a stranger's", "project_id": project["id"], "assignee_id": bob.id},
        {"title": ""},
        {"title": "in it too", "project_id": project["id"]},
    ]});
    let answer = app.post("/v1/tasks/batch", tasks.clone()).as_(&ada).key("batch").expect(207).await;
    let results = answer.json();
    let statuses: Vec<i64> = results.list("results").iter().map(|item| item.int("status")).collect();
    assert_eq!(statuses, [201, 201, 422, 409, 422, 201]);
    let keys: Vec<Value> = results.list("results").iter().map(|item| item["task"]["key"].clone()).collect();
    assert_eq!(keys, [json!(null), json!("OPS-1"), json!(null), json!(null), json!(null), json!("OPS-2")]);
    assert_eq!(results["results"][2]["problem"]["errors"][0].text("pointer"), "/tasks/2/project_id");
    let again = app.post("/v1/tasks/batch", tasks).as_(&ada).key("batch").expect(207).await;
    assert_eq!((again.json(), again.header("idempotency-replayed")), (results, "true"));
    app.finish().await;
}

async fn a_project_has_lists_of_its_own(backend: Backend) {
    let (app, ada, _, project) = started(backend).await;
    let path = format!("/v1/projects/{}", project.text("id"));
    for (list, body) in [
        ("statuses", json!({"name": "triage", "category": "backlog", "position": 0})),
        ("statuses", json!({"name": "shipped", "category": "done"})),
        ("task-types", json!({"name": "incident", "position": 0})),
    ] {
        app.post(&format!("{path}/{list}"), body).as_(&ada).expect(201).await;
    }
    app.patch(&path, json!({"resolutions": ["fixed", "duplicate"], "priorities": ["low", "high"]}))
        .as_(&ada)
        .expect(200)
        .await;
    let task = app.task(&ada, in_project(&project, "a")).await;
    assert_eq!((task.text("status"), task.text("status_category")), ("triage", "backlog"));
    assert_eq!((task.text("type"), task.text("priority")), ("incident", "low"));
    for (fields, pointer) in [
        (json!({"title": "a", "project_id": project["id"], "type": "story"}), "/type"),
        (json!({"title": "a", "project_id": project["id"], "priority": "urgent"}), "/priority"),
    ] {
        let problem = app.post("/v1/tasks", fields).as_(&ada).refused(422).await;
        assert_eq!(problem.texts("errors", "pointer"), [pointer]);
    }
    let to = |to: &str, resolution: Option<&str>| {
        let path = format!("/v1/tasks/{}/transitions", task.text("key"));
        app.post(&path, json!({"to": to, "resolution": resolution})).as_(&ada)
    };
    assert_eq!(to("shipped", Some("done")).refused(422).await.texts("errors", "pointer"), ["/resolution"]);
    let shipped = to("shipped", Some("fixed")).expect(200).await.json();
    assert_eq!((shipped.text("state"), shipped.text("resolution")), ("closed", "fixed"));
    to("triage", None).refused(409).await;
    assert_eq!(to("todo", None).expect(200).await.json().text("state"), "open");

    let category =
        app.post(&format!("{path}/categories"), json!({"name": "Lifts"})).as_(&ada).expect(201).await.json();
    let change = |patch: Value| app.patch(&format!("/v1/tasks/{}", task.text("id")), patch).as_(&ada);
    let grouped = change(json!({"category_id": category["id"]})).expect(200).await.json();
    assert_eq!(grouped["category_id"], category["id"]);
    let other = app.project(&ada, json!({"title": "Other", "key": "OTH"})).await;
    let foreign = app.post(&format!("/v1/projects/{}/categories", other.text("id")), json!({"name": "Its"}));
    let foreign = foreign.as_(&ada).expect(201).await.json();
    change(json!({"category_id": foreign["id"]})).refused(422).await;
    app.delete(&format!("{path}/categories/{}", category.text("id"))).as_(&ada).expect(204).await;
    assert_eq!(app.read(&ada, &format!("/v1/tasks/{}", task.text("id"))).await["category_id"], Value::Null);
    app.finish().await;
}

async fn an_assignee_must_be_a_member(backend: Backend) {
    let (app, ada, bob, project) = started(backend).await;
    let given = json!({"title": "a", "project_id": project["id"], "assignee_id": bob.id});
    let problem = app.post("/v1/tasks", given.clone()).as_(&ada).refused(409).await;
    assert!(problem.text("detail").contains("OPS"), "{problem}");
    let task = app.task(&ada, in_project(&project, "a")).await;
    let path = format!("/v1/tasks/{}/assignee", task.text("id"));
    app.put(&path, json!({"assignee_id": bob.id})).as_(&ada).refused(409).await;
    app.member(&ada, &project, &bob, "member").await;
    app.put(&path, json!({"assignee_id": bob.id})).as_(&ada).expect(200).await;
    app.task(&ada, given).await;
    // Who is out has no tasks there any more, and sees none.
    app.delete(&format!("/v1/projects/{}/members/{}", project.text("id"), bob.id))
        .as_(&ada)
        .expect(204)
        .await;
    for task in app.list(&ada, &format!("/v1/tasks?project_id={}", project.text("id"))).await {
        assert_eq!(task["assignee_id"], Value::Null);
        app.get(&format!("/v1/tasks/{}", task.text("id"))).as_(&bob).refused(404).await;
    }
    app.finish().await;
}

async fn who_may_what(backend: Backend) {
    let (app, ada, bob, project) = started(backend).await;
    let eve = app.user("Eve").await;
    let task = app.task(&ada, in_project(&project, "a")).await;
    let path = format!("/v1/tasks/{}", task.text("key"));
    // A stranger knows of nothing, not even that the project is there.
    app.get(&path).as_(&eve).refused(404).await;
    app.post("/v1/tasks", in_project(&project, "b")).as_(&eve).refused(422).await;
    app.get(&format!("/v1/projects/{}/tasks", project.text("id"))).as_(&eve).refused(404).await;
    assert!(app.list(&eve, "/v1/tasks").await.is_empty());
    // A viewer reads.
    app.member(&ada, &project, &bob, "viewer").await;
    app.get(&path).as_(&bob).expect(200).await;
    assert_eq!(app.list(&bob, "/v1/tasks").await.len(), 1);
    app.post("/v1/tasks", in_project(&project, "b")).as_(&bob).refused(403).await;
    app.patch(&path, json!({"title": "b"})).as_(&bob).refused(403).await;
    app.delete(&path).as_(&bob).refused(403).await;
    // An internal project is read by everyone.
    app.patch(&format!("/v1/projects/{}", project.text("id")), json!({"visibility": "internal"}))
        .as_(&ada)
        .expect(200)
        .await;
    app.get(&path).as_(&eve).expect(200).await;
    app.patch(&path, json!({"title": "b"})).as_(&eve).refused(403).await;
    // Whoever put it there may take it away, as long as they belong there.
    app.patch(&format!("/v1/projects/{}/members/{}", project.text("id"), bob.id), json!({"role": "member"}))
        .as_(&ada)
        .expect(200)
        .await;
    app.delete(&path).as_(&bob).refused(403).await;
    let own = app.task(&bob, in_project(&project, "b")).await;
    app.delete(&format!("/v1/tasks/{}", own.text("id"))).as_(&bob).expect(204).await;
    app.delete(&path).as_(&ada).expect(204).await;
    // Nothing is put into an archived one.
    app.patch(&format!("/v1/projects/{}", project.text("id")), json!({"archived": true}))
        .as_(&ada)
        .expect(200)
        .await;
    app.post("/v1/tasks", in_project(&project, "c")).as_(&ada).refused(409).await;
    app.finish().await;
}

async fn an_id_and_a_key_name_the_same_task(backend: Backend) {
    let (app, ada, _, project) = started(backend).await;
    let path = format!("/v1/projects/{}/tasks", project.text("id"));
    let answer = app.post(&path, json!({"title": "a"})).as_(&ada).expect(201).await;
    let task = answer.json();
    assert_eq!((task.text("key"), &task["project_id"]), ("OPS-1", &project["id"]));
    for name in [task.text("id"), "OPS-1"] {
        assert_eq!(app.read(&ada, &format!("/v1/tasks/{name}")).await, task, "{name}");
    }
    for name in [
        "ops-1",
        "OPS-01",
        "OPS-2",
        "OPS-",
        "-1",
        "OPS",
        "OPS-9999999999999999999",
        "OPS-1%00",
        "%27%20OR%201=1",
    ] {
        app.get(&format!("/v1/tasks/{name}")).as_(&ada).refused(404).await;
    }
    app.post(&path, json!({"title": "a", "project_id": task["id"]})).as_(&ada).refused(422).await;
    app.finish().await;
}

async fn lists_are_filtered_sorted_and_searched(backend: Backend) {
    let (app, ada, bob, project) = started(backend).await;
    app.member(&ada, &project, &bob, "member").await;
    let day = |days: i64| (app.clock().now() + Duration::days(days)).to_rfc3339();
    for (title, more) in [
        ("Fix the lift", json!({"labels": ["garden", "a\"b"], "due_at": day(30)})),
        (
            "Paint the stairs",
            json!({"type": "bug", "description": "The LIFT was 100% in the way", "due_at": day(20)}),
        ),
        ("Call the painter", json!({"assignee_id": bob.id, "priority": "high"})),
    ] {
        let mut fields = in_project(&project, title);
        fields.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        app.task(&ada, fields).await;
    }
    app.task(&ada, json!({"title": "A personal lift"})).await;
    app.task(&bob, json!({"title": "Somebody else's lift"})).await;
    let titles = async |query: &str| {
        let tasks = app.list(&ada, &format!("/v1/tasks?{query}")).await;
        tasks.iter().map(|task| task.text("title").to_owned()).collect::<Vec<_>>()
    };
    let (lift, stairs, call, own) =
        ("Fix the lift", "Paint the stairs", "Call the painter", "A personal lift");
    let id = project.text("id");
    for (query, expected) in [
        ("sort=created_at".to_owned(), vec![lift, stairs, call, own]),
        (format!("project_id={id}&sort=created_at"), vec![lift, stairs, call]),
        ("sort=due_at".to_owned(), vec![stairs, lift]),
        ("sort=-due_at".to_owned(), vec![lift, stairs]),
        ("q=lift&sort=created_at".to_owned(), vec![lift, stairs, own]),
        ("q=LIFT%20way".to_owned(), vec![stairs]),
        ("q=100%25&sort=created_at".to_owned(), vec![stairs]),
        ("q=nothing".to_owned(), vec![]),
        ("label=garden".to_owned(), vec![lift]),
        ("label=a%22b".to_owned(), vec![lift]),
        ("label=gard".to_owned(), vec![]),
        ("label=b".to_owned(), vec![]),
        ("type=bug".to_owned(), vec![stairs]),
        ("priority=high&state=open".to_owned(), vec![call]),
        (format!("assignee_id={}", bob.id), vec![call]),
        (format!("due_at[lt]={}", day(25).replace('+', "%2B")), vec![stairs]),
    ] {
        assert_eq!(titles(&query).await, expected, "{query}");
    }
    for bad in [
        "q=",
        "q=%25",
        "q=a%20b%20c%20d%20e%20f%20g%20h%20i%20j%20k",
        "sort=password",
        "sort=title",
        "order=asc",
        "project_id=OPS",
        "category_id=x",
    ] {
        app.get(&format!("/v1/tasks?{bad}")).as_(&ada).refused(400).await;
    }
    app.finish().await;
}

async fn every_page_comes_once_while_tasks_are_made(backend: Backend) {
    let (app, ada, bob, project) = started(backend).await;
    app.member(&ada, &project, &bob, "member").await;
    for i in 0..25 {
        app.task(&ada, in_project(&project, &format!("task {i}"))).await;
        app.task(&bob, json!({"title": format!("own {i}")})).await;
    }
    for order in ["created_at", "-created_at", "updated_at", "-updated_at"] {
        let (mut seen, mut cursor) = (Vec::new(), String::new());
        let wanted: HashSet<String> = app
            .all_pages(&bob, "/v1/tasks?limit=50")
            .await
            .iter()
            .map(|task| task.text("id").to_owned())
            .collect();
        loop {
            let page = app.read(&bob, &format!("/v1/tasks?limit=7&sort={order}{cursor}")).await;
            seen.extend(page.list("data").iter().map(|task| task.text("id").to_owned()));
            app.task(&bob, in_project(&project, "meanwhile")).await;
            let Some(next) = page["page"]["next_cursor"].as_str() else { break };
            cursor = format!("&cursor={next}");
        }
        let once: HashSet<String> = seen.iter().cloned().collect();
        assert_eq!(once.len(), seen.len(), "{order}: no task twice");
        assert!(wanted.is_subset(&once), "{order}: none is missed");
    }
    let page = app.read(&bob, "/v1/tasks?limit=7&sort=-updated_at").await;
    let cursor = page["page"].text("next_cursor").to_owned();
    // A cursor is of its user, list and order.
    for (user, query) in
        [(&ada, "sort=-updated_at"), (&bob, "sort=updated_at"), (&bob, "sort=-updated_at&type=bug")]
    {
        app.get(&format!("/v1/tasks?limit=7&{query}&cursor={cursor}")).as_(user).refused(400).await;
    }
    app.finish().await;
}

async fn what_happened_is_kept(backend: Backend) {
    let (app, ada, bob, project) = started(backend).await;
    app.member(&ada, &project, &bob, "member").await;
    let task = app.task(&ada, in_project(&project, "a")).await;
    let path = format!("/v1/tasks/{}", task.text("id"));
    app.patch(&path, json!({"title": "b"})).as_(&bob).expect(200).await;
    app.put(&format!("{path}/assignee"), json!({"assignee_id": bob.id})).as_(&ada).expect(200).await;
    app.move_task(&bob, &task, json!({"to": "done", "resolution": "done"})).await;
    let history = app.all_pages(&ada, &format!("{path}/history?limit=2")).await;
    let types: Vec<&str> = history.iter().map(|item| item.text("type")).collect();
    assert_eq!(
        types,
        ["task.created", "task.updated", "task.assigned", "task.status_changed", "task.completed"]
    );
    let versions: Vec<i64> = history.iter().map(|item| item.int("version")).collect();
    assert_eq!(versions, [1, 2, 3, 4, 4]);
    assert_eq!(history[1]["data"]["changes"]["title"], json!(["a", "b"]));
    assert_eq!(
        (history[0].text("actor_id"), history[1].text("actor_id")),
        (ada.id.as_str(), bob.id.as_str())
    );
    let eve = app.user("Eve").await;
    app.get(&format!("{path}/history")).as_(&eve).refused(404).await;
    app.finish().await;
}

async fn open_tasks_are_dealt_out_again(backend: Backend) {
    let (app, ada, bob, project) = started(backend).await;
    app.member(&ada, &project, &bob, "member").await;
    let viewer = app.user("Vic").await;
    app.member(&ada, &project, &viewer, "viewer").await;
    let mut closed = Value::Null;
    for i in 0..9 {
        let task = app.task(&ada, in_project(&project, &format!("task {i}"))).await;
        if i == 0 {
            closed = app.move_task(&ada, &task, json!({"to": "cancelled", "resolution": "obsolete"})).await;
        }
    }
    let path = format!("/v1/projects/{}/tasks/reassign", project.text("id"));
    let deal = json!({"strategy": "least_loaded", "seed": 7});
    let dealt = app.post(&path, deal.clone()).as_(&ada).expect(200).await.json();
    assert_eq!((dealt.int("reassigned"), dealt.int("seed")), (8, 7));
    let tasks = app.list(&ada, &format!("/v1/tasks?project_id={}&state=open", project.text("id"))).await;
    for user in [&ada, &bob] {
        assert_eq!(tasks.iter().filter(|task| task["assignee_id"] == json!(user.id)).count(), 4);
    }
    assert_eq!(app.read(&ada, &format!("/v1/tasks/{}", closed.text("id"))).await["assignee_id"], Value::Null);
    app.post(&path, deal.clone()).as_(&bob).refused(403).await;
    for bad in [json!({}), json!({"strategy": "fair"}), json!({"strategy": "random", "seed": -1})] {
        app.post(&path, bad).as_(&ada).refused(422).await;
    }
    app.drain().await;
    let events = app.events(&ada).await;
    let assigned = events.iter().filter(|event| event.text("type") == "task.assigned");
    assert!(
        assigned.clone().count() == 8
            && assigned.clone().all(|event| event["data"].text("cause") == "reassign")
    );
    app.finish().await;
}

async fn due_tasks_are_told_of_once(backend: Backend) {
    let app = TestApp::start(backend).await;
    let ada = app.user("Ada").await;
    let at = |hours: i64| (app.clock().now() + Duration::hours(hours)).to_rfc3339();
    for (title, due) in [("soon", at(20)), ("late", at(-1)), ("long past", at(-100)), ("far off", at(48))] {
        app.task(&ada, json!({"title": title, "due_at": due})).await;
    }
    let told = async || {
        app.drain().await;
        let events = app.events(&ada).await;
        let due =
            events.iter().filter(|event| matches!(event.text("type"), "task.due_soon" | "task.overdue"));
        due.map(|event| format!("{} {}", event.text("type"), event["data"]["task"].text("title")))
            .collect::<Vec<_>>()
    };
    taskpost_testkit::until(async || {
        let mut told = told().await;
        told.sort();
        if told == ["task.due_soon soon", "task.overdue late"] { Ok(()) } else { Err(format!("{told:?}")) }
    })
    .await;
    // A closed task is told of no more, and a new date is a new matter.
    let tasks = app.list(&ada, "/v1/tasks?q=soon").await;
    app.patch(&format!("/v1/tasks/{}", tasks[0].text("id")), json!({"due_at": at(10)}))
        .as_(&ada)
        .expect(200)
        .await;
    taskpost_testkit::until(async || {
        let told = told().await;
        if told.len() == 3 { Ok(()) } else { Err(format!("{told:?}")) }
    })
    .await;
    app.finish().await;
}

async fn a_held_project_holds_nobody_else_up(backend: Backend) {
    let (app, ada, _, project) = started(backend).await;
    // As a large deletion does. On SQLite there is one writer, which holds everything.
    if app.db().has_outbox() {
        let mut tx = app.db().begin().await.unwrap();
        projects::lock(&mut tx, project.text("id").parse().unwrap()).await.unwrap();
        let held = app.post("/v1/tasks", in_project(&project, "held")).as_(&ada).send();
        let (held, free) = tokio::join!(held, app.task(&ada, json!({"title": "free"})));
        assert_eq!((held.status, free.text("title")), (503, "free"));
        assert_eq!(held.header("retry-after"), "1");
        tx.rollback().await.unwrap();
    }
    assert_eq!(app.task(&ada, in_project(&project, "again")).await.text("key"), "OPS-1");
    app.finish().await;
}
