//! Who is told of what, in the inbox and by e-mail.

use serde_json::{Value, json};
use taskpost_testkit::{Backend, Fields as _, TestApp, User, both};

both!(
    a_new_user_is_welcome,
    whoever_gets_a_task_is_told,
    a_move_is_told_to_those_concerned,
    nobody_is_told_of_their_own_deed,
    whom_a_comment_names_is_told,
    a_comment_is_told_to_whose_post_it_is_on,
    who_comes_into_a_project_and_goes_is_told,
    a_project_begins_and_ends,
    news_are_told_to_those_they_are_for,
    an_assignee_is_told_of_what_matters,
    what_becomes_of_an_account_is_told_to_its_holder,
    the_inbox_is_read,
    the_inbox_has_pages,
    a_mail_is_a_mail,
);

/// Type, reason and subject of what is in the inbox, oldest first, but for the welcome and projects of one's own.
async fn told(app: &TestApp, user: &User) -> Vec<String> {
    app.drain().await;
    let mut inbox = app.list(user, "/v1/notifications").await;
    inbox.reverse();
    let of = |item: &Value| format!("{} {} {}", item.text("type"), item.text("reason"), item.text("title"));
    inbox.iter().filter(|item| !matches!(item.text("type"), "welcome" | "project_created")).map(of).collect()
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
    // A closing is told once, as what it is, and so is an opening.
    let of_ada =
        ["task_status_changed author “a” is now in progress", "task_completed author “a” was closed"];
    assert_eq!(told(&app, &ada).await, of_ada);
    let of_bob = [
        "task_assigned assigned “a” was assigned to you",
        "task_completed assigned “a” was closed",
        "task_reopened assigned “a” was opened again",
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

async fn whom_a_comment_names_is_told(backend: Backend) {
    let app = TestApp::start(backend).await;
    app.user("Root").await;
    let (ada, bob, cleo, eve) =
        (app.user("Ada").await, app.user("Bob").await, app.user("Cleo").await, app.user("Eve").await);
    let project = app.project(&ada, json!({"title": "Operations", "key": "OPS"})).await;
    for user in [&bob, &cleo] {
        app.member(&ada, &project, user, "member").await;
    }
    // Projects and tasks may come in any order.
    app.drain().await;
    let task = json!({"title": "Fix the lift", "project_id": project["id"], "assignee_id": bob.id});
    let task = app.task(&ada, task).await;
    let path = format!("/v1/tasks/{}/comments", task.text("id"));
    // Eve cannot read it.
    let body = format!("The motor is here, @{} and @{}.", cleo.handle.to_uppercase(), eve.handle);
    let comment = app.post(&path, json!({"body": body})).as_(&ada).expect(201).await.json();
    let added = "project_member_added member You were added to “Operations”";
    let mention = "You were mentioned on “Fix the lift”";
    let of_cleo = [added.to_owned(), format!("mention mentioned {mention}")];
    let of_bob = [
        added.to_owned(),
        "task_assigned assigned “Fix the lift” was assigned to you".to_owned(),
        "comment_created assigned “Fix the lift” has a new comment".to_owned(),
    ];
    assert_eq!(told(&app, &cleo).await, of_cleo);
    assert_eq!(told(&app, &bob).await, of_bob);
    assert!(told(&app, &eve).await.is_empty(), "who cannot read it is not told");
    assert!(told(&app, &ada).await.is_empty(), "her own comment");
    let item = &app.list(&cleo, "/v1/notifications?type=mention&reason=mentioned").await[0];
    assert_eq!(app.read(&cleo, item["subject"].text("url")).await["id"], task["id"]);
    assert!(item.text("body").starts_with("OPS-1 “Fix the lift”: The motor is here"), "{item}");
    assert!(subjects(&app, &cleo).iter().any(|subject| subject == mention));
    assert!(!subjects(&app, &bob).iter().any(|subject| subject.contains("comment")), "that is not mailed");

    // An edit tells the newly named alone; the assignee too, for the stronger reason.
    let body = json!({"body": format!("The motor is here, @{} and @{}.", cleo.handle, bob.handle)});
    app.patch(&format!("/v1/comments/{}", comment.text("id")), body).as_(&ada).expect(200).await;
    assert_eq!(told(&app, &cleo).await, of_cleo);
    assert_eq!(told(&app, &bob).await[3..], [format!("mention assigned {mention}")]);
    assert!(subjects(&app, &bob).iter().any(|subject| subject == mention));

    // Who made it hears of what others say.
    app.post(&path, json!({"body": "It fits."})).as_(&bob).expect(201).await;
    assert_eq!(told(&app, &ada).await, ["comment_created author “Fix the lift” has a new comment"]);
    app.finish().await;
}

async fn a_comment_is_told_to_whose_post_it_is_on(backend: Backend) {
    let app = TestApp::start(backend).await;
    app.user("Root").await;
    let (ada, bob, eve) = (app.user("Ada").await, app.user("Bob").await, app.user("Eve").await);
    let project = app.project(&ada, json!({"title": "Operations", "key": "OPS"})).await;
    app.member(&ada, &project, &bob, "member").await;
    let post = json!({"title": "News", "body": "It runs.", "project_id": project["id"]});
    let post = app.post("/v1/posts", post).as_(&ada).expect(201).await.json();
    let path = format!("/v1/posts/{}", post.text("id"));
    app.post(&format!("{path}/publish"), None).as_(&ada).expect(200).await;
    let body = json!({"body": format!("Well done, @{} and @{}", ada.handle, eve.handle)});
    app.post(&format!("{path}/comments"), json!({"body": "Well done"})).as_(&bob).expect(201).await;
    app.post(&format!("{path}/comments"), body).as_(&bob).expect(201).await;
    let expected =
        ["comment_created author “News” has a new comment", "mention mentioned You were mentioned on “News”"];
    assert_eq!(told(&app, &ada).await, expected);
    assert!(told(&app, &eve).await.is_empty(), "who cannot read it is not told");
    let item = &app.list(&ada, "/v1/notifications?type=mention").await[0];
    assert_eq!((item["subject"].text("type"), item["subject"].text("url")), ("post", path.as_str()));
    app.finish().await;
}

async fn who_comes_into_a_project_and_goes_is_told(backend: Backend) {
    let app = TestApp::start(backend).await;
    app.user("Root").await;
    let (ada, bob) = (app.user("Ada").await, app.user("Bob").await);
    let project = app.project(&ada, json!({"title": "Operations", "key": "OPS"})).await;
    app.member(&ada, &project, &bob, "member").await;
    let added = "project_member_added member You were added to “Operations”";
    assert_eq!(told(&app, &bob).await, [added]);
    let path = format!("/v1/projects/{}", project.text("id"));
    let item = &app.list(&bob, "/v1/notifications?type=project_member_added").await[0];
    assert_eq!((item["subject"].text("type"), item["subject"].text("url")), ("project", path.as_str()));

    for title in ["a", "b"] {
        app.task(&ada, json!({"title": title, "project_id": project["id"], "assignee_id": bob.id})).await;
    }
    let before = told(&app, &bob).await.len();
    app.delete(&format!("{path}/members/{}", bob.id)).as_(&ada).expect(204).await;
    let removed = "project_member_removed member You were removed from “Operations”";
    let told_bob = told(&app, &bob).await;
    assert_eq!(told_bob[before..], [removed], "though he cannot read it any more, and of no task");
    let silent = "SELECT count(*) FROM decisions WHERE rule = 'member_removed says it'";
    assert!(app.number(silent).await > 0, "why is kept");
    let mails = subjects(&app, &bob);
    assert!(!mails.iter().any(|subject| subject.contains("no longer assigned")), "{mails:?}");
    assert!(mails.iter().any(|subject| subject == "You were added to “Operations”"), "{mails:?}");
    assert!(!mails.iter().any(|subject| subject.contains("removed")), "{mails:?}");
    assert!(told(&app, &ada).await.is_empty(), "she did it");
    app.finish().await;
}

async fn a_project_begins_and_ends(backend: Backend) {
    let app = TestApp::start(backend).await;
    app.user("Root").await;
    let (ada, bob) = (app.user("Ada").await, app.user("Bob").await);
    let project = app.project(&ada, json!({"title": "Operations", "key": "OPS"})).await;
    app.member(&ada, &project, &bob, "member").await;
    app.drain().await;
    let made = &app.list(&ada, "/v1/notifications?type=project_created").await[0];
    assert_eq!(made.text("title"), "Your project “Operations” is ready", "though she did it");
    let path = format!("/v1/projects/{}", project.text("id"));
    assert_eq!(made["subject"].text("url"), path);

    app.delete(&path).as_(&ada).expect(204).await;
    let added = "project_member_added member You were added to “Operations”";
    let deleted = "project_deleted member “Operations” was deleted";
    assert_eq!(told(&app, &bob).await, [added, deleted]);
    assert!(subjects(&app, &bob).iter().any(|subject| subject == "“Operations” was deleted"));
    assert!(told(&app, &ada).await.is_empty(), "she did it");
    // Who belonged to it sees why.
    let item = &app.list(&bob, "/v1/notifications?type=project_deleted").await[0];
    let event = app.read(&bob, &format!("/v1/events/{}", item.text("event_id"))).await;
    assert_eq!((event.text("type"), &event["data"]["cascade"]), ("project.member_removed", &json!(true)));
    app.finish().await;
}

async fn news_are_told_to_those_they_are_for(backend: Backend) {
    let app = TestApp::start(backend).await;
    let (root, ada, bob, eve) =
        (app.user("Root").await, app.user("Ada").await, app.user("Bob").await, app.user("Eve").await);
    let project = app.project(&ada, json!({"title": "Operations", "key": "OPS"})).await;
    app.member(&ada, &project, &bob, "viewer").await;
    app.drain().await;
    let added = "project_member_added member You were added to “Operations”";
    let [of_project, of_all] =
        ["The lift runs", "We are 100"].map(|title| format!("post_published member “{title}” was published"));
    let nowhere = Value::Null;
    for (author, title, place) in [(&ada, "The lift runs", &project["id"]), (&root, "We are 100", &nowhere)] {
        let draft = json!({"title": title, "body": "a", "project_id": place});
        let post = app.post("/v1/posts", draft).as_(author).expect(201).await.json();
        let path = format!("/v1/posts/{}", post.text("id"));
        assert!(!told(&app, &bob).await.iter().any(|told| told.contains(title)), "a draft is no news");
        app.post(&format!("{path}/publish"), None).as_(author).expect(200).await;
        app.drain().await;
        let item = &app.list(&bob, "/v1/notifications?type=post_published").await[0];
        assert_eq!(item["subject"].text("url"), path);
    }
    assert_eq!(told(&app, &bob).await, [added, &of_project, &of_all]);
    assert_eq!(told(&app, &ada).await, [of_all.as_str()], "not of her own");
    assert_eq!(told(&app, &eve).await, [of_all.as_str()]);
    assert!(told(&app, &root).await.is_empty());
    assert!(!subjects(&app, &eve).iter().any(|subject| subject.contains("published")), "that is not mailed");
    app.finish().await;
}

async fn an_assignee_is_told_of_what_matters(backend: Backend) {
    let app = TestApp::start(backend).await;
    let (ada, bob) = (app.user("Ada").await, app.user("Bob").await);
    let task = app.task(&ada, json!({"title": "a", "assignee_id": bob.id})).await;
    let path = format!("/v1/tasks/{}", task.text("id"));
    for patch in [json!({"labels": ["x"], "description": "b"}), json!({"title": "b", "priority": "high"})] {
        app.patch(&path, patch).as_(&ada).expect(200).await;
    }
    let of_bob = ["task_assigned assigned “a” was assigned to you", "task_updated assigned “b” was changed"];
    assert_eq!(told(&app, &bob).await, of_bob);
    let item = &app.list(&bob, "/v1/notifications?type=task_updated").await[0];
    assert_eq!(item.text("body"), "“b” has another title and priority.");
    assert!(told(&app, &ada).await.is_empty(), "that is for who works on it");
    app.finish().await;
}

async fn what_becomes_of_an_account_is_told_to_its_holder(backend: Backend) {
    let app = TestApp::start(backend).await;
    let (admin, ada) = (app.user("Root").await, app.user("Ada").await);
    let password = "another correct horse".to_owned();
    let change = json!({"current_password": ada.password, "new_password": password});
    app.put("/v1/me/password", change).as_(&ada).expect(204).await;
    let roles = app.put(&format!("/v1/users/{}/roles", ada.id), json!({"roles": ["finance"]})).as_(&admin);
    roles.expect(200).await;
    let ada = app.login(&User { password, ..ada }).await;
    let expected = ["security account Your password was changed", "security account Your roles were changed"];
    assert_eq!(told(&app, &ada).await, expected, "though she did it herself");
    let mails = subjects(&app, &ada);
    for subject in ["Your password was changed", "Your roles were changed"] {
        assert!(mails.iter().any(|mail| mail == subject), "{mails:?}");
    }
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
