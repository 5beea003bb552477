//! Comments: counts that are right, whom they name, who may what, and in which order their events come.

use std::collections::HashSet;

use futures::future::join_all;
use serde_json::{Value, json};
use taskpost_testkit::{Backend, Fields as _, Request, Response, TestApp, User, both};

both!(
    a_comment_is_written_and_read,
    what_does_not_fit_is_refused,
    counts_are_right_whoever_races,
    users_are_named,
    an_edit_is_its_authors,
    everyone_does_what_they_may,
    a_comment_on_a_personal_task_is_between_two,
    a_post_has_comments_too,
    pages_walk_both_ways,
    nothing_falls_between_pages,
);

const NOBODY: &str = "0198f0c0-0000-7000-8000-000000000000";

/// Where a thing is.
fn path(kind: &str, thing: &Value) -> String {
    format!("/v1/{kind}/{}", thing.text("id"))
}

/// Writes a comment on what is at the path.
async fn comment(app: &TestApp, user: &User, on: &str, body: &str) -> Value {
    app.post(&format!("{on}/comments"), json!({"body": body})).as_(user).expect(201).await.json()
}

/// The events about comments that a user sees, in their order.
async fn told(app: &TestApp, user: &User) -> Vec<Value> {
    app.drain().await;
    let mut events = app.events(user).await;
    events.retain(|event| event.text("type").starts_with("comment."));
    events
}

async fn a_comment_is_written_and_read(backend: Backend) {
    let app = TestApp::start(backend).await;
    let ada = app.user("Ada").await;
    let task = app.task(&ada, json!({"title": "a"})).await;
    let on = path("tasks", &task);
    let written = json!({"body": "Réparé 🛗\n\n- ja"});
    let answer = app.post(&format!("{on}/comments"), written.clone()).as_(&ada).expect(201).await;
    let made = answer.json();
    assert_eq!(answer.header("location"), path("comments", &made));
    assert_eq!(answer.header("etag"), "\"v1\"");
    assert_eq!(made["subject"], json!({"type": "task", "id": task["id"]}));
    assert_eq!((&made["body"], made.text("author_id")), (&written["body"], ada.id.as_str()));
    assert_eq!((made.int("version"), &made["mentions"], &made["edited_at"]), (1, &json!([]), &Value::Null));
    let read = app.get(answer.header("location")).as_(&ada).expect(200).await;
    assert_eq!((read.header("etag"), read.json()), ("\"v1\"", made.clone()));
    app.get(answer.header("location")).as_(&ada).header("if-none-match", "\"v1\"").expect(304).await;
    assert_eq!(app.list(&ada, &format!("{on}/comments")).await, std::slice::from_ref(&made));

    // It changes what is shown of the task, but not its version.
    let seen = app.get(&on).as_(&ada).header("if-none-match", "\"v1.0\"").expect(200).await;
    assert_eq!((seen.header("etag"), seen.json().int("comment_count")), ("\"v1.1\"", 1));
    assert_eq!(seen.json()["updated_at"], task["updated_at"]);
    app.drain().await;
    let event = app.read(&ada, &format!("/v1/events/{}", answer.header("event-id"))).await;
    assert_eq!((event.text("type"), event.int("aggregateversion")), ("comment.created", 1));
    assert_eq!(event.text("subject"), format!("task/{}", task.text("id")));
    let data = &event["data"];
    assert_eq!((data["task"].text("id"), data.int("comment_count")), (task.text("id"), 1));
    assert_eq!((&data["comment"]["id"], &data["comment"]["excerpt"]), (&made["id"], &written["body"]));

    // A repeat is no second one, by whichever door.
    let again = |door: &str| {
        let path = format!("{door}/tasks/{}/comments", task.text("id"));
        app.post(&path, json!({"body": "b"})).as_(&ada).key("k")
    };
    let (first, second) = (again("/v1").expect(201).await, again("").expect(201).await);
    assert_eq!((first.json(), second.header("idempotency-replayed")), (second.json(), "true"));
    assert_eq!(app.read(&ada, &on).await.int("comment_count"), 2);
    app.finish().await;
}

async fn what_does_not_fit_is_refused(backend: Backend) {
    let app = TestApp::start(backend).await;
    let ada = app.user("Ada").await;
    let task = app.task(&ada, json!({"title": "a"})).await;
    let on = path("tasks", &task);
    let made = comment(&app, &ada, &on, &"é".repeat(20_000)).await;
    let (all, one) = (format!("{on}/comments"), path("comments", &made));
    for (fields, pointer) in [
        (json!({"body": ""}), "/body"),
        (json!({"body": " \n\t"}), "/body"),
        (json!({"body": "x".repeat(20_001)}), "/body"),
        (json!({"body": "a\u{0}b"}), "/body"),
        (json!({"body": 5}), "/body"),
        (json!({"body": null}), "/body"),
        (json!({"body": "a", "id": NOBODY}), "/id"),
        (json!({"body": "a", "author_id": ada.id}), "/author_id"),
        (json!({"body": "a", "mentions": []}), "/mentions"),
        (json!({"body": "a", "subject": made["subject"]}), "/subject"),
        (json!({"body": "a", "version": 7}), "/version"),
    ] {
        for request in [app.post(&all, fields.clone()), app.patch(&one, fields.clone())] {
            let problem = request.as_(&ada).refused(422).await;
            assert_eq!(problem.texts("errors", "pointer"), [pointer], "{fields}");
        }
    }
    let problem = app.post(&all, json!({})).as_(&ada).refused(422).await;
    assert_eq!(problem.texts("errors", "pointer"), ["/body"]);
    for (query, pointer) in [
        ("colour=red", "?colour"),
        ("sort=body", "?sort"),
        ("limit=0", "?limit"),
        ("limit=201", "?limit"),
        ("limit=5&limit=5", "?limit"),
    ] {
        let problem = app.get(&format!("{all}?{query}")).as_(&ada).refused(400).await;
        assert_eq!(problem.texts("errors", "pointer"), [pointer]);
    }
    for on in ["tasks", "posts"] {
        for id in [NOBODY, "1", "OPS-1"] {
            let path = format!("/v1/{on}/{id}/comments");
            app.get(&path).as_(&ada).refused(404).await;
            app.post(&path, json!({"body": "a"})).as_(&ada).refused(404).await;
        }
    }
    let absent = format!("/v1/comments/{NOBODY}");
    for request in [app.get(&absent), app.patch(&absent, json!({"body": "a"})), app.delete(&absent)] {
        request.as_(&ada).refused(404).await;
    }
    assert_eq!(app.list(&ada, &all).await, [made]);
    app.finish().await;
}

async fn counts_are_right_whoever_races(backend: Backend) {
    const REQUESTS: usize = 1_000;
    const AT_ONCE: usize = 32;
    let app = TestApp::start(backend).await;
    let ada = app.user("Ada").await;
    let task = app.task(&ada, json!({"title": "a"})).await;
    let on = path("tasks", &task);
    let all = format!("{on}/comments");
    let (mut ids, mut left) = (Vec::new(), REQUESTS);
    while left > 0 {
        let portion = left.min(AT_ONCE);
        let doomed: Vec<String> = ids.split_off(ids.len().saturating_sub(portion / 5));
        let creations = doomed.len()..portion;
        let creations = creations.map(|_| app.post(&all, json!({"body": "a"})).as_(&ada));
        let deletions = doomed.iter().map(|id| app.delete(&format!("/v1/comments/{id}")).as_(&ada));
        for answer in join_all(deletions.chain(creations).map(Request::send)).await {
            match answer.status {
                201 => ids.push(answer.json().text("id").to_owned()),
                status => assert_eq!(status, 204, "{}", answer.text()),
            }
        }
        left -= portion;
    }
    let count = i64::try_from(ids.len()).unwrap_or(0);
    let seen = app.get(&on).as_(&ada).expect(200).await;
    assert_eq!(seen.json().int("comment_count"), count);
    assert_eq!(seen.header("etag"), format!("\"v1.{count}\""));
    assert_eq!(app.all_pages(&ada, &format!("{all}?limit=200")).await.len(), ids.len());

    // Each event has the count that it made, so they come in the order of what happened.
    let events = told(&app, &ada).await;
    assert_eq!(events.len(), REQUESTS);
    let mut so_far = 0;
    for event in &events {
        so_far += if event.text("type") == "comment.created" { 1 } else { -1 };
        assert_eq!(event["data"].int("comment_count"), so_far);
    }
    assert_eq!(so_far, count);

    // A task takes its comments with it: more of them than go into one statement.
    assert!(count > 500);
    app.delete(&on).as_(&ada).expect(204).await;
    app.get(&format!("/v1/comments/{}", ids[0])).as_(&ada).refused(404).await;
    app.get(&all).as_(&ada).refused(404).await;
    assert_eq!(app.number("SELECT count(*) FROM comments").await, 0);
    let gone = told(&app, &ada).await.split_off(REQUESTS);
    let counts: Vec<i64> = gone.iter().map(|event| event["data"].int("comment_count")).collect();
    assert_eq!(counts, (0..count).rev().collect::<Vec<_>>());
    assert!(gone.iter().all(|event| event.text("type") == "comment.deleted"));
    let events = app.events(&ada).await;
    assert_eq!(events.last().map(|event| event.text("type")), Some("task.deleted"));
    app.finish().await;
}

async fn users_are_named(backend: Backend) {
    let app = TestApp::start(backend).await;
    let (ada, bob, eve) = (app.user("Ada").await, app.user("Bob").await, app.user("Eve").await);
    let task = app.task(&ada, json!({"title": "a"})).await;
    let on = path("tasks", &task);
    let (first, second) = (bob.handle.to_uppercase(), &eve.handle);
    let body = format!(
        "@{first}, @{second}-- and @{first} again; `@{0}`, x@{0}, a/@{0}, @no-such-user\n\n```\n@{0}\n```\n",
        ada.handle
    );
    let made = comment(&app, &ada, &on, &body).await;
    assert_eq!(made["mentions"], json!([bob.id, eve.id]));
    let edited = json!({"body": format!("@{} and @{}", ada.handle, eve.handle)});
    let edited = app.patch(&path("comments", &made), edited).as_(&ada).expect(200).await.json();
    assert_eq!(edited["mentions"], json!([ada.id, eve.id]));

    let events = told(&app, &ada).await;
    let mentions: Vec<&Value> = events.iter().map(|event| &event["data"]["comment"]["mentions"]).collect();
    assert_eq!(mentions, [&made["mentions"], &edited["mentions"]]);
    assert_eq!(events[0]["data"].get("new_mentions"), None);
    assert_eq!(events[1]["data"]["new_mentions"], json!([ada.id]));
    app.finish().await;
}

async fn an_edit_is_its_authors(backend: Backend) {
    let app = TestApp::start(backend).await;
    let ada = app.user("Ada").await;
    let task = app.task(&ada, json!({"title": "a"})).await;
    let on = path("tasks", &task);
    let made = comment(&app, &ada, &on, "a").await;
    let one = path("comments", &made);
    let edit = |patch: Value| app.patch(&one, patch).as_(&ada);

    let answer = edit(json!({"body": "b"})).expect(200).await;
    let edited = answer.json();
    assert_eq!((answer.header("etag"), edited.int("version"), edited.text("body")), ("\"v2\"", 2, "b"));
    assert!(edited["edited_at"].is_string());
    assert_eq!((&edited["created_at"], &edited["id"]), (&made["created_at"], &made["id"]));
    app.drain().await;
    let event = app.read(&ada, &format!("/v1/events/{}", answer.header("event-id"))).await;
    assert_eq!((event.text("type"), event.int("aggregateversion")), ("comment.updated", 1));
    assert_eq!((event["data"]["comment"].text("excerpt"), event["data"].int("comment_count")), ("b", 1));
    // What changes nothing is no change.
    for patch in [json!({}), json!({"body": "b"})] {
        let same = edit(patch).expect(200).await;
        assert_eq!((same.header("etag"), same.find("event-id")), ("\"v2\"", None));
    }

    edit(json!({"body": "c"})).header("if-match", "\"v1\"").refused(412).await;
    app.delete(&one).as_(&ada).header("if-match", "\"v1\"").refused(412).await;
    assert_eq!(app.read(&ada, &on).await.int("comment_count"), 1);
    let both = ["c", "d"].map(|body| edit(json!({"body": body})).header("if-match", "\"v2\"").send());
    let mut statuses: Vec<u16> = join_all(both).await.iter().map(|answer| answer.status).collect();
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 412]);
    // Without a version every edit finds its place.
    let many = join_all((0..12).map(|i| edit(json!({"body": format!("{i}")})).send())).await;
    let lost = many.iter().filter(|answer| answer.status != 200).map(Response::text);
    assert_eq!(lost.collect::<Vec<_>>(), Vec::<String>::new());
    assert_eq!(app.read(&ada, &one).await.int("version"), 15);

    let gone = app.delete(&one).as_(&ada).header("if-match", "\"v15\"").expect(204).await;
    assert!(gone.body.is_empty() && gone.find("event-id").is_some());
    app.delete(&one).as_(&ada).refused(404).await;
    edit(json!({"body": "e"})).refused(404).await;
    assert_eq!(app.read(&ada, &on).await.int("comment_count"), 0);
    app.finish().await;
}

async fn everyone_does_what_they_may(backend: Backend) {
    let app = TestApp::start(backend).await;
    let (root, ada, max) = (app.user("Root").await, app.user("Ada").await, app.user("Max").await);
    let (bob, vic, xena, eve) =
        (app.user("Bob").await, app.user("Vic").await, app.user("Xena").await, app.user("Eve").await);
    let project = app.project(&ada, json!({"title": "Operations", "key": "OPS"})).await;
    for (user, role) in [(&max, "maintainer"), (&bob, "member"), (&vic, "member"), (&xena, "member")] {
        app.member(&ada, &project, user, role).await;
    }
    let task = app.task(&ada, json!({"title": "a", "project_id": project["id"]})).await;
    let on = format!("/v1/tasks/{}", task.text("key"));
    let all = format!("{on}/comments");
    let (vics, xenas) = (comment(&app, &vic, &on, "vic").await, comment(&app, &xena, &on, "xena").await);
    let member = |user: &User| format!("{}/members/{}", path("projects", &project), user.id);
    app.patch(&member(&vic), json!({"role": "viewer"})).as_(&ada).expect(200).await;
    app.delete(&member(&xena)).as_(&ada).expect(204).await;

    for (user, statuses) in [
        (&root, [200, 201, 200, 403, 204]),
        (&ada, [200, 201, 200, 403, 204]),
        (&max, [200, 201, 200, 403, 204]),
        (&bob, [200, 201, 200, 200, 204]),
        (&vic, [200, 403, 200, 403, 403]),
        (&xena, [404, 404, 404, 404, 404]),
        (&eve, [404, 404, 404, 404, 404]),
    ] {
        let one = path("comments", &comment(&app, &bob, &on, "bob").await);
        let requests = || {
            [
                app.get(&all),
                app.post(&all, json!({"body": "a"})),
                app.get(&one),
                app.patch(&one, json!({"body": "b"})),
                app.delete(&one),
            ]
        };
        for request in requests() {
            request.refused(401).await;
        }
        for (request, status) in requests().into_iter().zip(statuses) {
            request.as_(user).expect(status).await;
        }
    }
    // What one wrote is one's own no longer than one may write there.
    for (user, one, status) in [(&vic, &vics, 403), (&xena, &xenas, 404)] {
        let one = path("comments", one);
        app.patch(&one, json!({"body": "b"})).as_(user).refused(status).await;
        app.delete(&one).as_(user).refused(status).await;
    }
    // Nothing tells a stranger whether a comment is there.
    let there = app.get(&path("comments", &vics)).as_(&eve).refused(404).await;
    let absent = app.get(&format!("/v1/comments/{NOBODY}")).as_(&eve).refused(404).await;
    assert_eq!(there["detail"], absent["detail"]);

    // In an internal project everyone reads.
    let internal = json!({"visibility": "internal"});
    app.patch(&path("projects", &project), internal).as_(&ada).expect(200).await;
    app.list(&eve, &all).await;
    app.post(&all, json!({"body": "a"})).as_(&eve).refused(403).await;
    // A project that is put away takes none, and gives them up.
    let bobs = path("comments", &comment(&app, &bob, &on, "bob").await);
    app.patch(&path("projects", &project), json!({"archived": true})).as_(&ada).expect(200).await;
    app.post(&all, json!({"body": "a"})).as_(&bob).refused(409).await;
    app.patch(&bobs, json!({"body": "b"})).as_(&bob).refused(409).await;
    app.get(&bobs).as_(&bob).expect(200).await;
    app.delete(&bobs).as_(&bob).expect(204).await;
    app.finish().await;
}

async fn a_comment_on_a_personal_task_is_between_two(backend: Backend) {
    let app = TestApp::start(backend).await;
    let (root, ada) = (app.user("Root").await, app.user("Ada").await);
    let (bob, eve) = (app.user("Bob").await, app.user("Eve").await);
    let task = app.task(&ada, json!({"title": "a", "assignee_id": bob.id})).await;
    let on = path("tasks", &task);
    let adas = path("comments", &comment(&app, &ada, &on, "a").await);
    let bobs = path("comments", &comment(&app, &bob, &on, "b").await);
    comment(&app, &root, &on, "c").await;
    assert_eq!(told(&app, &bob).await.len(), 3);
    assert_eq!(told(&app, &eve).await.len(), 0);
    for (user, one, status) in [(&bob, &adas, 403), (&ada, &bobs, 403), (&eve, &adas, 404)] {
        app.patch(one, json!({"body": "d"})).as_(user).refused(status).await;
        app.delete(one).as_(user).refused(status).await;
    }
    app.patch(&adas, json!({"body": "d"})).as_(&root).refused(403).await;
    app.delete(&adas).as_(&root).expect(204).await;

    // Who has the task no more is out.
    app.delete(&format!("{on}/assignee")).as_(&ada).expect(204).await;
    app.patch(&bobs, json!({"body": "d"})).as_(&bob).refused(404).await;
    app.post(&format!("{on}/comments"), json!({"body": "d"})).as_(&bob).refused(404).await;
    app.finish().await;
}

async fn a_post_has_comments_too(backend: Backend) {
    let app = TestApp::start(backend).await;
    let (root, ada) = (app.user("Root").await, app.user("Ada").await);
    let news = json!({"title": "News"});
    let news = app.post("/v1/posts", news).as_(&root).expect(201).await.json();
    let (on, all) = (path("posts", &news), format!("{}/comments", path("posts", &news)));
    // Nobody comments on a draft but those who see it.
    app.get(&all).as_(&ada).refused(404).await;
    app.post(&all, json!({"body": "a"})).as_(&ada).refused(404).await;
    app.post(&format!("{on}/publish"), None).as_(&root).expect(200).await;

    let made = comment(&app, &ada, &on, "a").await;
    let one = path("comments", &made);
    assert_eq!(made["subject"], json!({"type": "post", "id": news["id"]}));
    let seen = app.get(&on).as_(&ada).expect(200).await;
    assert_eq!((seen.header("etag"), seen.json().int("comment_count")), ("\"v2.1\"", 1));
    app.patch(&one, json!({"body": "b"})).as_(&ada).expect(200).await;
    app.delete(&one).as_(&ada).expect(204).await;
    let made = comment(&app, &ada, &on, "c").await;
    app.post(&format!("{on}/unpublish"), None).as_(&root).expect(200).await;
    app.get(&path("comments", &made)).as_(&ada).refused(404).await;
    app.get(&path("comments", &made)).as_(&root).expect(200).await;
    app.delete(&on).as_(&root).expect(204).await;
    assert_eq!(app.number("SELECT count(*) FROM comments").await, 0);

    app.drain().await;
    let subject = format!("post/{}", news.text("id"));
    let events = app.events(&root).await;
    let of_post: Vec<&Value> = events.iter().filter(|event| event.text("subject") == subject).collect();
    let told: Vec<_> =
        of_post.iter().map(|event| (event.text("type"), event.int("aggregateversion"))).collect();
    assert_eq!(
        told,
        [
            ("post.created", 1),
            ("post.published", 2),
            ("comment.created", 2),
            ("comment.updated", 2),
            ("comment.deleted", 2),
            ("comment.created", 2),
            ("post.unpublished", 3),
            ("comment.deleted", 3),
            ("post.deleted", 4),
        ]
    );
    let counts: Vec<i64> =
        of_post.iter().filter_map(|event| event["data"]["comment_count"].as_i64()).collect();
    assert_eq!(counts, [1, 1, 0, 1, 0]);
    assert!(of_post.iter().all(|event| event["data"]["post"]["id"] == news["id"]));
    app.finish().await;
}

/// The bodies of a page, one after the other.
fn bodies(page: &Value) -> String {
    page.texts("data", "body").concat()
}

async fn pages_walk_both_ways(backend: Backend) {
    let app = TestApp::start(backend).await;
    let (ada, bob) = (app.user("Ada").await, app.user("Bob").await);
    let task = app.task(&ada, json!({"title": "a", "assignee_id": bob.id})).await;
    let other = app.task(&ada, json!({"title": "b", "assignee_id": bob.id})).await;
    let on = path("tasks", &task);
    for i in 0..7 {
        comment(&app, &ada, &on, &i.to_string()).await;
    }
    let list = format!("{on}/comments?limit=3");
    let first = app.get(&list).as_(&ada).expect(200).await;
    assert_eq!(
        (bodies(&first.json()), &first.json()["page"]["prev_cursor"]),
        ("012".to_owned(), &Value::Null)
    );
    let next = first.header("link").trim_start_matches('<').split('>').next().unwrap_or_default();
    let second = app.read(&ada, next).await;
    assert_eq!(bodies(&second), "345");
    let third = app.read(&ada, &format!("{list}&cursor={}", second["page"].text("next_cursor"))).await;
    assert_eq!((bodies(&third), &third["page"]["next_cursor"]), ("6".to_owned(), &Value::Null));
    let back = app.read(&ada, &format!("{list}&cursor={}", third["page"].text("prev_cursor"))).await;
    assert_eq!(bodies(&back), "345");
    let back = app.read(&ada, &format!("{list}&cursor={}", back["page"].text("prev_cursor"))).await;
    assert_eq!((bodies(&back), &back["page"]["prev_cursor"]), ("012".to_owned(), &Value::Null));

    let cursor = second["page"].text("next_cursor");
    let elsewhere = format!("{}/comments?limit=3", path("tasks", &other));
    for (user, list, cursor) in [
        (&bob, &list, cursor),
        (&ada, &elsewhere, cursor),
        (&ada, &list, ""),
        (&ada, &list, "1"),
        (&ada, &list, &cursor[1..]),
    ] {
        app.get(&format!("{list}&cursor={cursor}")).as_(user).refused(400).await;
    }
    app.finish().await;
}

async fn nothing_falls_between_pages(backend: Backend) {
    let app = TestApp::start(backend).await;
    let ada = app.user("Ada").await;
    let task = app.task(&ada, json!({"title": "a"})).await;
    let on = path("tasks", &task);
    let mut before = HashSet::new();
    for _ in 0..20 {
        before.insert(comment(&app, &ada, &on, "a").await.text("id").to_owned());
    }
    let list = format!("{on}/comments?limit=4");
    let walk = app.all_pages(&ada, &list);
    let meanwhile = join_all((0..20).map(|_| comment(&app, &ada, &on, "b")));
    let (walked, _) = tokio::join!(walk, meanwhile);
    let ids: HashSet<String> = walked.iter().map(|comment| comment.text("id").to_owned()).collect();
    assert_eq!(ids.len(), walked.len(), "a comment came twice");
    assert!(ids.is_superset(&before), "a comment was missed");
    app.finish().await;
}
