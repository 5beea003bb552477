//! Lists of tasks: filters, orders, and pages that nothing falls between.

use std::collections::HashSet;

use futures::future::join_all;
use serde_json::{Value, json};
use taskpost_testkit::{Backend, Fields as _, TestApp, User, both};

both!(filters_narrow, pages_walk_both_ways, nothing_falls_between_pages, a_cursor_is_for_its_own_list);

fn titles(tasks: &[Value]) -> Vec<&str> {
    tasks.iter().map(|task| task.text("title")).collect()
}

async fn filters_narrow(backend: Backend) {
    let app = TestApp::start(backend).await;
    let (admin, ada, bob) = (app.user("Root").await, app.user("Ada").await, app.user("Bob").await);
    app.task(&ada, json!({"title": "a", "priority": "high", "type": "bug"})).await;
    let b = app.task(&ada, json!({"title": "b", "priority": "low", "assignee_id": bob.id})).await;
    let c = app.task(&bob, json!({"title": "c", "priority": "high", "assignee_id": ada.id})).await;
    let d = app.task(&bob, json!({"title": "d"})).await;
    app.move_task(&ada, &b, json!({"to": "in_progress"})).await;
    app.move_task(&bob, &d, json!({"to": "done", "resolution": "done"})).await;
    let (at, ada_id, bob_id) = (c.text("created_at"), &ada.id, &bob.id);
    for (user, query, expected) in [
        (&ada, String::new(), "cba"),
        (&bob, String::new(), "dcb"),
        (&admin, String::new(), "dcba"),
        (&ada, "sort=created_at".to_owned(), "abc"),
        (&admin, "sort=-updated_at".to_owned(), "dbca"),
        (&admin, "sort=updated_at".to_owned(), "acbd"),
        (&ada, "priority=high".to_owned(), "ca"),
        (&ada, "priority=high,low&sort=created_at".to_owned(), "abc"),
        (&ada, "priority=high&type=bug".to_owned(), "a"),
        (&ada, "status=in_progress".to_owned(), "b"),
        (&ada, "status=in_progress,todo".to_owned(), "cba"),
        (&ada, "status=%25".to_owned(), ""),
        (&bob, "state=closed".to_owned(), "d"),
        (&bob, "state=open".to_owned(), "cb"),
        (&bob, "state=open,closed".to_owned(), "dcb"),
        (&ada, "assignee_id=me".to_owned(), "c"),
        (&ada, format!("assignee_id={ada_id},{bob_id}"), "cb"),
        (&ada, format!("reporter_id={bob_id}"), "c"),
        (&admin, "reporter_id=me".to_owned(), ""),
        (&admin, format!("created_at[gte]={at}&sort=created_at"), "cd"),
        (&admin, format!("created_at%5Blt%5D={at}"), "ba"),
    ] {
        let found = app.list(user, &format!("/v1/tasks?{query}")).await;
        assert_eq!(titles(&found).concat(), expected, "{query} by {}", user.name);
    }
    for (query, pointer) in [
        ("colour=red", "?colour"),
        ("limit=0", "?limit"),
        ("limit=201", "?limit"),
        ("limit=5&limit=5", "?limit"),
        ("sort=title", "?sort"),
        ("sort=password", "?sort"),
        ("priority=most", "?priority"),
        ("assignee_id=you", "?assignee_id"),
        ("created_at[gte]=yesterday", "?created_at[gte]"),
    ] {
        let problem = app.get(&format!("/v1/tasks?{query}")).as_(&ada).refused(400).await;
        assert_eq!(problem.texts("errors", "pointer"), [pointer]);
    }
    app.finish().await;
}

/// Tasks named by their number; every third is Bob's for Ada, every third Ada's for Bob, every third Ada's alone.
async fn many(app: &TestApp, ada: &User, bob: &User, count: usize) -> HashSet<String> {
    let mut ids = HashSet::new();
    for i in 0..count {
        let (reporter, assignee) = [(bob, Some(&ada.id)), (ada, Some(&bob.id)), (ada, None)][i % 3];
        let task = app.task(reporter, json!({"title": format!("{i}"), "assignee_id": assignee})).await;
        ids.insert(task.text("id").to_owned());
    }
    ids
}

async fn pages_walk_both_ways(backend: Backend) {
    let app = TestApp::start(backend).await;
    let (_admin, ada, bob) = (app.user("Root").await, app.user("Ada").await, app.user("Bob").await);
    many(&app, &ada, &bob, 7).await;
    for (sort, expected) in [
        ("created_at", ["0123", "456"]),
        ("-created_at", ["6543", "210"]),
        ("updated_at", ["0123", "456"]),
        ("-updated_at", ["6543", "210"]),
    ] {
        let list = format!("/v1/tasks?limit=4&sort={sort}");
        let first = app.get(&list).as_(&ada).expect(200).await;
        assert_eq!(titles(first.json().list("data")).concat(), expected[0]);
        assert_eq!(first.json()["page"]["prev_cursor"], Value::Null);
        let link = first.header("link").to_owned();
        let next = link.trim_start_matches('<').split('>').next().unwrap_or_default();
        assert!(link.ends_with("; rel=\"next\"") && next.starts_with(&list), "{link}");

        let second = app.read(&ada, next).await;
        assert_eq!(titles(second.list("data")).concat(), expected[1]);
        assert_eq!(second["page"]["next_cursor"], Value::Null);
        let back = format!("{list}&cursor={}", second["page"].text("prev_cursor"));
        let back = app.read(&ada, &back).await;
        assert_eq!(titles(back.list("data")).concat(), expected[0], "back by {sort}");
        assert_eq!(back["page"]["prev_cursor"], Value::Null);
    }
    app.finish().await;
}

async fn nothing_falls_between_pages(backend: Backend) {
    let app = TestApp::start(backend).await;
    let (admin, ada, bob) = (app.user("Root").await, app.user("Ada").await, app.user("Bob").await);
    let before = many(&app, &ada, &bob, 30).await;
    for (user, sort) in
        [(&ada, "created_at"), (&ada, "-created_at"), (&admin, "created_at"), (&admin, "-created_at")]
    {
        let list = format!("/v1/tasks?limit=4&sort={sort}");
        let walk = app.all_pages(user, &list);
        let meanwhile = join_all((0..20).map(|_| app.task(&ada, json!({"title": "new"}))));
        let (walked, _) = tokio::join!(walk, meanwhile);
        let ids: Vec<&str> = walked.iter().map(|task| task.text("id")).collect();
        let unique: HashSet<String> = ids.iter().map(|id| (*id).to_owned()).collect();
        assert_eq!(unique.len(), ids.len(), "a row came twice by {sort}");
        assert!(unique.is_superset(&before), "a row was missed by {sort}");
    }
    app.finish().await;
}

async fn a_cursor_is_for_its_own_list(backend: Backend) {
    let app = TestApp::start(backend).await;
    let (ada, bob) = (app.user("Ada").await, app.user("Bob").await);
    for _ in 0..3 {
        app.task(&ada, json!({"title": "a"})).await;
    }
    let page = app.read(&ada, "/v1/tasks?limit=1").await;
    let cursor = page["page"].text("next_cursor");
    let mut flipped = cursor.to_owned();
    flipped.replace_range(10..11, if &cursor[10..11] == "A" { "B" } else { "A" });
    for (user, query) in [
        (&bob, format!("limit=1&cursor={cursor}")),
        (&ada, format!("limit=1&cursor={cursor}&sort=created_at")),
        (&ada, format!("limit=1&cursor={cursor}&state=open")),
        (&ada, format!("limit=1&cursor={flipped}")),
        (&ada, "cursor=".to_owned()),
        (&ada, "cursor=1".to_owned()),
        (&ada, format!("cursor={}", "A".repeat(5_000))),
    ] {
        app.get(&format!("/v1/tasks?{query}")).as_(user).refused(400).await;
    }
    app.get(&format!("/v1/tasks?limit=2&cursor={cursor}")).as_(&ada).expect(200).await;
    app.get(&format!("/tasks?limit=1&cursor={cursor}")).as_(&ada).expect(200).await;
    app.finish().await;
}
