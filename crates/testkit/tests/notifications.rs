//! Who is told of what, in the inbox and by e-mail.

use serde_json::{Value, json};
use taskpost_testkit::{Backend, Fields as _, TestApp, User, both};

both!(
    a_new_user_is_welcome,
    whoever_gets_a_task_is_told,
    a_move_is_told_to_those_concerned,
    nobody_is_told_of_their_own_deed,
    the_inbox_is_read,
    the_inbox_has_pages,
    a_mail_is_a_mail,
);

/// Type, reason and subject of what is in the inbox beside the welcome, oldest first.
async fn told(app: &TestApp, user: &User) -> Vec<String> {
    app.drain().await;
    let mut inbox = app.list(user, "/v1/notifications").await;
    inbox.reverse();
    let of = |item: &Value| format!("{} {} {}", item.text("type"), item.text("reason"), item.text("title"));
    inbox.iter().filter(|item| item.text("type") != "welcome").map(of).collect()
}

fn subjects(app: &TestApp, user: &User) -> Vec<String> {
    app.mails().iter().filter(|mail| mail.to() == user.email).map(|mail| mail.subject().to_owned()).collect()
}

async fn a_new_user_is_welcome(backend: Backend) {
    let app = TestApp::start(backend).await;
    let ada = app.user("Ada").await;
    app.drain().await;
    let inbox = app.list(&ada, "/v1/notifications").await;
    assert_eq!(inbox.len(), 1);
    let welcome = &inbox[0];
    assert_eq!((welcome.text("type"), welcome.text("reason")), ("welcome", "account"));
    assert_eq!((welcome["subject"].text("type"), welcome["subject"].text("id")), ("user", ada.id.as_str()));
    assert_eq!((&welcome["read_at"], &welcome["archived_at"]), (&Value::Null, &Value::Null));
    let event = app.read(&ada, &format!("/v1/events/{}", welcome.text("event_id"))).await;
    assert_eq!(event.text("type"), "user.registered");
    app.get(welcome["subject"].text("url")).as_(&ada).expect(200).await;
    assert_eq!(subjects(&app, &ada), ["Welcome to Taskpost"]);
    app.finish().await;
}

async fn whoever_gets_a_task_is_told(backend: Backend) {
    let app = TestApp::start(backend).await;
    let (ada, bob, eve) = (app.user("Ada").await, app.user("Bob").await, app.user("Eve").await);
    let task = app.task(&ada, json!({"title": "Fix the lift", "assignee_id": bob.id})).await;
    let path = format!("/v1/tasks/{}", task.text("id"));
    let assigned = "task_assigned assigned “Fix the lift” was assigned to you";
    let unassigned = "task_unassigned assigned “Fix the lift” is no longer assigned to you";
    assert_eq!(told(&app, &bob).await, [assigned]);
    let item = &app.list(&bob, "/v1/notifications?type=task_assigned").await[0];
    assert_eq!(app.read(&bob, item["subject"].text("url")).await, task);

    app.put(&format!("{path}/assignee"), json!({"assignee_id": eve.id})).as_(&ada).expect(200).await;
    assert_eq!(told(&app, &bob).await, [assigned, unassigned]);
    assert_eq!(told(&app, &eve).await, [assigned]);
    app.patch(&path, json!({"assignee_id": null})).as_(&ada).expect(200).await;
    assert_eq!(told(&app, &eve).await, [assigned, unassigned]);
    assert!(told(&app, &ada).await.is_empty());
    for user in [&bob, &eve] {
        let title = "“Fix the lift” ";
        let expected =
            ["was assigned to you", "is no longer assigned to you"].map(|what| format!("{title}{what}"));
        // Accounts and tasks are different topics, so the welcome may come at any point.
        let mut mails = subjects(&app, user);
        mails.retain(|subject| subject != "Welcome to Taskpost");
        assert_eq!(mails, expected, "{}", user.name);
    }
    assert_eq!(subjects(&app, &ada).len(), 1);
    app.finish().await;
}

async fn a_move_is_told_to_those_concerned(backend: Backend) {
    let app = TestApp::start(backend).await;
    let (admin, ada, bob) = (app.user("Root").await, app.user("Ada").await, app.user("Bob").await);
    let task = app.task(&ada, json!({"title": "a", "assignee_id": bob.id})).await;
    app.move_task(&bob, &task, json!({"to": "in_progress"})).await;
    app.move_task(&admin, &task, json!({"to": "done", "resolution": "wont_do"})).await;
    app.move_task(&ada, &task, json!({"to": "todo"})).await;
    // A closing is told once, as what it is.
    let of_ada =
        ["task_status_changed author “a” is now in progress", "task_completed author “a” was closed"];
    assert_eq!(told(&app, &ada).await, of_ada);
    let of_bob = [
        "task_assigned assigned “a” was assigned to you",
        "task_completed assigned “a” was closed",
        "task_status_changed assigned “a” is now todo",
    ];
    assert_eq!(told(&app, &bob).await, of_bob);
    assert!(told(&app, &admin).await.is_empty());
    assert_eq!((subjects(&app, &ada).len(), subjects(&app, &bob).len()), (1, 2), "moves are not mailed");
    app.finish().await;
}

async fn nobody_is_told_of_their_own_deed(backend: Backend) {
    let app = TestApp::start(backend).await;
    let ada = app.user("Ada").await;
    let task = app.task(&ada, json!({"title": "a", "assignee_id": ada.id})).await;
    app.move_task(&ada, &task, json!({"to": "done", "resolution": "done"})).await;
    app.delete(&format!("/v1/tasks/{}/assignee", task.text("id"))).as_(&ada).expect(204).await;
    assert!(told(&app, &ada).await.is_empty());
    let kept =
        app.number("SELECT count(*) FROM decisions WHERE outcome = 'suppressed' AND rule = 'actor'").await;
    assert!(kept > 0, "why nobody was told is kept");
    app.finish().await;
}

async fn the_inbox_is_read(backend: Backend) {
    let app = TestApp::start(backend).await;
    let (ada, bob) = (app.user("Ada").await, app.user("Bob").await);
    app.task(&ada, json!({"title": "a", "assignee_id": bob.id})).await;
    app.task(&ada, json!({"title": "b", "assignee_id": bob.id})).await;
    app.drain().await;
    let unread = async || app.read(&bob, "/v1/notifications/unread-count").await.int("unread");
    assert_eq!(unread().await, 3);
    let inbox = app.list(&bob, "/v1/notifications").await;
    let of_b: Vec<&Value> = inbox.iter().filter(|item| item.text("title").starts_with("“b”")).collect();
    let item = of_b[0];
    let path = format!("/v1/notifications/{}", item.text("id"));
    let mark = |user: &User, mark: Value| app.patch(&path, mark).as_(user);

    assert!(mark(&bob, json!({"read": true})).expect(200).await.json()["read_at"].is_string());
    assert_eq!(unread().await, 2);
    assert_eq!(app.list(&bob, "/v1/notifications?unread=true").await.len(), 2);
    let read = app.list(&bob, "/v1/notifications?unread=false").await;
    assert_eq!(read.iter().map(|item| item.text("title")).collect::<Vec<_>>(), ["“b” was assigned to you"]);
    assert_eq!(mark(&bob, json!({"read": false})).expect(200).await.json()["read_at"], Value::Null);
    mark(&bob, json!({"archived": true})).expect(200).await;
    assert_eq!((unread().await, app.list(&bob, "/v1/notifications").await.len()), (2, 2));
    mark(&bob, json!({"archived": false})).expect(200).await;

    mark(&ada, json!({"read": true})).refused(404).await;
    mark(&bob, json!({"read_at": "2030-01-01T00:00:00Z"})).refused(422).await;
    mark(&bob, json!({"read": "yes"})).refused(422).await;
    let all = app.post("/v1/notifications/read-all", None).as_(&bob).expect(200).await.json();
    assert_eq!((all.int("read"), unread().await), (3, 0));
    assert_eq!(
        app.read(&ada, "/v1/notifications/unread-count").await.int("unread"),
        1,
        "others' stay unread"
    );
    app.finish().await;
}

async fn the_inbox_has_pages(backend: Backend) {
    let app = TestApp::start(backend).await;
    let (ada, bob) = (app.user("Ada").await, app.user("Bob").await);
    let tasks: Vec<Value> =
        (0..11).map(|i| json!({"title": format!("{i}"), "assignee_id": bob.id})).collect();
    app.post("/v1/tasks/batch", json!({"tasks": tasks})).as_(&ada).expect(207).await;
    app.drain().await;
    let all = app.list(&bob, "/v1/notifications").await;
    assert_eq!(all.len(), 12);
    assert_eq!(app.all_pages(&bob, "/v1/notifications?limit=5").await, all);
    let assigned =
        app.all_pages(&bob, "/v1/notifications?limit=5&type=task_assigned&reason=assigned,author").await;
    assert_eq!(assigned.len(), 11);

    let mut numbered = Vec::new();
    for (number, count) in [(1, 5), (2, 5), (3, 2), (4, 0)] {
        let page = app.read(&bob, &format!("/v1/notifications?page={number}&per_page=5")).await;
        assert_eq!(page.list("data").len(), count);
        let totals = ["total", "total_pages"].map(|name| page[name].as_i64().or(page["page"][name].as_i64()));
        assert_eq!(totals, [Some(12), Some(3)]);
        numbered.extend_from_slice(page.list("data"));
    }
    assert_eq!(numbered, all);
    for bad in [
        "page=0",
        "per_page=0",
        "per_page=201",
        "page=1&limit=5",
        "page=1&cursor=x",
        "unread=maybe",
        "type=spam",
    ] {
        app.get(&format!("/v1/notifications?{bad}")).as_(&bob).refused(400).await;
    }
    app.finish().await;
}

async fn a_mail_is_a_mail(backend: Backend) {
    let app = TestApp::start(backend)
        .with("PUBLIC_URL", "https://tasks.example.org/base")
        .with("MAIL_FROM", "Post <post@example.org>")
        .await;
    let ada = app.user("Ada").await;
    let name = json!({"email": "bob@example.org", "name": "Bob, \"the\" <Builder>", "password": "correct horse battery"});
    let bob = app.post("/v1/auth/register", name).expect(201).await.json();
    let title = "<b>Réparer</b> & co: Bcc=eve@example.org";
    let task = app.task(&ada, json!({"title": title, "assignee_id": bob["user"]["id"]})).await;
    app.drain().await;
    let mails = app.mails();
    assert_eq!(mails.len(), 3);
    for mail in &mails {
        let delivery = mail.file.trim_end_matches(".eml");
        assert_eq!(mail.header("Message-ID"), format!("<{delivery}@tasks.example.org>"));
        assert_eq!(mail.header("From"), "Post <post@example.org>");
        assert!(mail.header("Content-Type").starts_with("multipart/alternative"));
    }
    let subject = format!("“{title}” was assigned to you");
    let about: Vec<_> = mails.iter().filter(|mail| mail.subject() == subject).collect();
    let mail = about[0];
    assert_eq!(mail.to(), "bob@example.org");
    let link = format!("https://tasks.example.org/base/v1/tasks/{}", task.text("id"));
    assert_eq!(mail.text().matches(&link).count(), 1, "{}", mail.text());
    assert!(
        mail.html().contains("&lt;b&gt;Réparer&lt;/b&gt; &amp; co") && !mail.html().contains("<b>"),
        "{}",
        mail.html()
    );
    app.finish().await;
}
