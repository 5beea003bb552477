//! Boards: what they show, that one reads what one wrote, and that they can be built anew.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use futures::{StreamExt as _, future::join_all, stream};
use serde_json::{Value, json};
use taskpost_testkit::{Backend, Client, Exit, Fields as _, PATIENCE, Server, TestApp, User, both};

both!(
    the_board_follows_changes,
    counts_are_right_after_a_crowd,
    one_reads_what_one_wrote,
    a_column_goes_on_behind_its_cursor,
    only_readers_see_it_and_wrong_questions_are_refused,
    a_replay_finds_no_difference,
    a_difference_is_found_printed_and_mended,
    a_replay_goes_on_beside_writers,
);

/// An event that never was: a board that must hold it can only come from the store.
const NOWHERE: &str = "0198f0c0-0000-7000-8000-000000000000";
/// Requests at once.
const CROWD: usize = 32;

async fn project(client: &Client, owner: &User) -> Value {
    let project = json!({"title": "Operations", "key": "OPS"});
    client.post("/v1/projects", project).as_(owner).expect(201).await.json()
}

fn address(project: &Value, query: &str) -> String {
    format!("/v1/views/projects/{}/board{query}", project.text("id"))
}

async fn task(client: &Client, user: &User, project: &Value, title: &str) -> Value {
    client.task(user, json!({"title": title, "project_id": project["id"]})).await
}

fn of_task(task: &Value, rest: &str) -> String {
    format!("/v1/tasks/{}{rest}", task.text("id"))
}

async fn comment(client: &Client, user: &User, task: &Value) -> Value {
    client.post(&of_task(task, "/comments"), json!({"body": "a"})).as_(user).expect(201).await.json()
}

/// The board that holds an event.
async fn board_after(client: &Client, user: &User, project: &Value, query: &str, event: &str) -> Value {
    let request = client.get(&address(project, query)).as_(user).header("after-event", event);
    request.expect(200).await.json()
}

/// The columns, which the view and the store must show alike.
async fn columns(client: &Client, user: &User, project: &Value) -> Value {
    let view = client.read(user, &address(project, "?limit=200")).await;
    let store = board_after(client, user, project, "?limit=200", NOWHERE).await;
    assert_eq!((view.text("source"), store.text("source")), ("view", "store"));
    let whole = |board: &Value| {
        let columns = board.list("columns").iter().cloned().map(|mut column| {
            // Each has a cursor of its own time.
            column["next_cursor"] = json!(column["next_cursor"].is_string());
            column
        });
        Value::Array(columns.collect())
    };
    assert_eq!(whole(&view), whole(&store));
    view["columns"].clone()
}

/// How many tasks stand in each column, in their order.
fn counts(columns: &Value) -> Vec<i64> {
    columns.as_array().into_iter().flatten().map(|column| column.int("count")).collect()
}

/// Titles in a column.
fn titles(columns: &Value, status: &str) -> Vec<String> {
    let mut found = columns.as_array().into_iter().flatten().filter(|column| column.text("status") == status);
    found.next().map_or_else(Vec::new, |column| column.texts("cards", "title"))
}

async fn the_board_follows_changes(backend: Backend) {
    let app = TestApp::start(backend).await;
    app.user("Root").await;
    let ada = app.user("Ada").await;
    let project = project(&app, &ada).await;
    let empty = app.read(&ada, &address(&project, "")).await;
    assert_eq!((empty.text("source"), empty.int("as_of")), ("view", 0));
    let statuses = ["todo", "in_progress", "in_review", "done", "cancelled"];
    assert_eq!(empty.texts("columns", "status"), statuses);
    let categories = ["todo", "in_progress", "in_progress", "done", "cancelled"];
    assert_eq!(empty.texts("columns", "category"), categories);
    assert_eq!(counts(&empty["columns"]), [0; 5]);

    let fields = json!({
        "title": "one", "project_id": project["id"], "type": "bug", "priority": "high",
        "labels": ["lift", "a\"b"], "due_at": "2031-01-02T03:04:05Z", "assignee_id": ada.id,
    });
    let one = app.task(&ada, fields).await;
    let two = task(&app, &ada, &project, "two").await;
    app.task(&ada, json!({"title": "personal"})).await;
    app.drain().await;
    let shown = columns(&app, &ada, &project).await;
    assert_eq!(counts(&shown), [2, 0, 0, 0, 0]);
    assert_eq!(titles(&shown, "todo"), ["two", "one"]);
    for (name, value) in shown[0]["cards"][1].as_object().into_iter().flatten() {
        assert_eq!(value, &one[name], "{name}");
    }

    app.move_task(&ada, &one, json!({"to": "in_progress"})).await;
    let patch = json!({"title": "uno", "priority": "low", "labels": [], "due_at": null, "assignee_id": null});
    app.patch(&of_task(&one, ""), patch).as_(&ada).expect(200).await;
    let said = comment(&app, &ada, &one).await;
    comment(&app, &ada, &one).await;
    delete(&app, &ada, "comments", &said).await;
    app.move_task(&ada, &two, json!({"to": "done", "resolution": "done"})).await;
    app.drain().await;
    let shown = columns(&app, &ada, &project).await;
    assert_eq!(counts(&shown), [0, 1, 0, 1, 0]);
    let (card, now) = (&shown[1]["cards"][0], app.read(&ada, &of_task(&one, "")).await);
    assert_eq!((card.text("title"), card.int("comment_count")), ("uno", 1));
    for (name, value) in card.as_object().into_iter().flatten() {
        assert_eq!(value, &now[name], "{name}");
    }

    app.move_task(&ada, &two, json!({"to": "todo"})).await;
    delete(&app, &ada, "tasks", &one).await;
    app.drain().await;
    assert_eq!(counts(&columns(&app, &ada, &project).await), [1, 0, 0, 0, 0]);
    delete(&app, &ada, "projects", &project).await;
    app.get(&address(&project, "")).as_(&ada).refused(404).await;
    app.drain().await;
    assert_eq!(app.number("SELECT count(*) FROM board_cards WHERE NOT gone").await, 0);
    assert_eq!(app.number("SELECT count(*) FROM board_counts WHERE tasks <> 0").await, 0);
    app.finish().await;
}

async fn delete(client: &Client, user: &User, family: &str, thing: &Value) {
    let path = format!("/v1/{family}/{}", thing.text("id"));
    client.delete(&path).as_(user).expect(204).await;
}

/// Does all of it, many at once.
async fn crowd<T>(work: impl IntoIterator<Item = impl Future<Output = T>>) -> Vec<T> {
    stream::iter(work).buffered(CROWD).collect().await
}

async fn counts_are_right_after_a_crowd(backend: Backend) {
    let app = TestApp::start(backend).await;
    app.user("Root").await;
    let ada = app.user("Ada").await;
    let project = project(&app, &ada).await;
    let talked = crowd((0..10).map(|_| task(&app, &ada, &project, "talk"))).await;
    let subject = |i: usize| &talked[i % talked.len()];
    let (tasks, comments) = tokio::join!(
        crowd((0..290).map(|_| task(&app, &ada, &project, "a"))),
        crowd((0..200).map(|i| comment(&app, &ada, subject(i)))),
    );
    // Moves beside deletions, comments beside deletions of comments.
    tokio::join!(
        crowd(tasks[..100].iter().map(|task| delete(&app, &ada, "tasks", task))),
        crowd(tasks[100..200].iter().map(|task| app.move_task(&ada, task, json!({"to": "in_review"})))),
        crowd((0..100).map(|_| task(&app, &ada, &project, "b"))),
        crowd(comments[..120].iter().map(|comment| delete(&app, &ada, "comments", comment))),
        crowd((0..80).map(|i| comment(&app, &ada, subject(i)))),
    );
    app.drain().await;
    let shown = columns(&app, &ada, &project).await;
    assert_eq!(counts(&shown), [10 + 90 + 100, 0, 100, 0, 0]);
    for task in &talked {
        let now = app.read(&ada, &of_task(task, "")).await;
        let cards = shown[0].list("cards");
        let card = cards.iter().find(|card| card["id"] == task["id"]).unwrap_or(&Value::Null);
        assert_eq!((card.int("comment_count"), &card["comment_count"]), (16, &now["comment_count"]));
    }
    app.finish().await;
}

async fn one_reads_what_one_wrote(backend: Backend) {
    let app = TestApp::start(backend).await;
    app.user("Root").await;
    let ada = app.user("Ada").await;
    let project = project(&app, &ada).await;
    let mut last = String::new();
    for i in 1..=15 {
        let title = format!("task {i}");
        let body = json!({"title": title, "project_id": project["id"]});
        let made = app.post("/v1/tasks", body).as_(&ada).expect(201).await;
        let shown = board_after(&app, &ada, &project, "", made.header("event-id")).await;
        assert_eq!(titles(&shown["columns"], "todo")[0], title, "{shown}");

        let path = of_task(&made.json(), "/transitions");
        let moved = app.post(&path, json!({"to": "in_progress"})).as_(&ada).expect(200).await;
        let shown = board_after(&app, &ada, &project, "", moved.header("event-id")).await;
        assert_eq!(counts(&shown["columns"]), [0, i, 0, 0, 0], "{shown}");

        let said = app.post(&of_task(&made.json(), "/comments"), json!({"body": "a"}));
        let said = said.as_(&ada).expect(201).await;
        let shown = board_after(&app, &ada, &project, "", said.header("event-id")).await;
        assert_eq!(shown["columns"][1]["cards"][0].int("comment_count"), 1, "{shown}");
        said.header("event-id").clone_into(&mut last);
    }
    app.drain().await;
    let shown = board_after(&app, &ada, &project, "", &last).await;
    assert_eq!(shown.text("source"), "view", "it has caught up");
    assert!(shown.int("as_of") > 0);
    app.finish().await;
}

async fn a_column_goes_on_behind_its_cursor(backend: Backend) {
    let app = TestApp::start(backend).await;
    app.user("Root").await;
    let ada = app.user("Ada").await;
    let project = project(&app, &ada).await;
    for i in 0..7 {
        task(&app, &ada, &project, &format!("{i}")).await;
    }
    app.drain().await;
    // From the view and from the store in turn: one cursor goes for both.
    let (mut walked, mut cursor) = (Vec::new(), String::new());
    for turn in 0..4 {
        let query = format!("?status=todo&limit=2{cursor}");
        let board = if turn % 2 == 0 {
            app.read(&ada, &address(&project, &query)).await
        } else {
            board_after(&app, &ada, &project, &query, NOWHERE).await
        };
        let column = &board.list("columns")[0];
        assert_eq!((board.list("columns").len(), column.int("count")), (1, 7));
        walked.extend(column.texts("cards", "title"));
        cursor = column["next_cursor"].as_str().map_or_else(String::new, |next| format!("&cursor={next}"));
    }
    assert_eq!(walked, ["6", "5", "4", "3", "2", "1", "0"]);
    assert!(cursor.is_empty(), "the last page has none");
    app.finish().await;
}

async fn only_readers_see_it_and_wrong_questions_are_refused(backend: Backend) {
    let app = TestApp::start(backend).await;
    let root = app.user("Root").await;
    let (ada, eve) = (app.user("Ada").await, app.user("Eve").await);
    let project = project(&app, &ada).await;
    for i in 0..3 {
        task(&app, &ada, &project, &format!("{i}")).await;
    }
    app.get(&address(&project, "")).refused(401).await;
    app.get(&address(&project, "")).as_(&eve).refused(404).await;
    app.get(&format!("/v1/views/projects/{NOWHERE}/board")).as_(&root).refused(404).await;
    app.get("/v1/views/projects/OPS/board").as_(&ada).refused(404).await;
    app.read(&root, &address(&project, "")).await;
    for bad in ["", "x", "0198f0c000007000800000000000000", "1", "0198f0c0-0000-7000-8000-00000000000g"] {
        app.get(&address(&project, "")).as_(&ada).header("after-event", bad).refused(400).await;
    }
    let twice = app.get(&address(&project, "")).as_(&ada).header("after-event", NOWHERE);
    twice.header("after-event", NOWHERE).refused(400).await;

    app.drain().await;
    let page = app.read(&ada, &address(&project, "?status=todo&limit=1")).await;
    let cursor = page["columns"][0].text("next_cursor");
    for bad in [
        "?colour=red".to_owned(),
        "?limit=0".to_owned(),
        "?limit=201".to_owned(),
        "?status=nowhere".to_owned(),
        "?status=todo&status=done".to_owned(),
        "?status=todo&cursor=x".to_owned(),
        format!("?cursor={cursor}"),
        format!("?status=done&cursor={cursor}"),
    ] {
        app.get(&address(&project, &bad)).as_(&ada).refused(400).await;
    }
    let theirs = address(&project, &format!("?status=todo&cursor={cursor}"));
    app.read(&ada, &theirs).await;
    app.get(&theirs).as_(&root).refused(400).await;
    let open = json!({"visibility": "internal"});
    app.patch(&format!("/v1/projects/{}", project.text("id")), open).as_(&ada).expect(200).await;
    assert_eq!(counts(&app.read(&eve, &address(&project, "")).await["columns"])[0], 3);
    app.finish().await;
}

/// A server with two projects whose tasks have been through something.
async fn busy(backend: Backend) -> (Server, User, Value) {
    let server = Server::start(backend).await;
    let ada = server.user("Ada").await;
    let ours = project(&server, &ada).await;
    let other = json!({"title": "Others", "key": "OTH"});
    let other = server.post("/v1/projects", other).as_(&ada).expect(201).await.json();
    let mut made = Vec::new();
    for title in ["one", "two", "three", "gone"] {
        made.push(task(&server, &ada, &ours, title).await);
        task(&server, &ada, &other, title).await;
        server.task(&ada, json!({"title": "personal"})).await;
    }
    server.patch(&of_task(&made[0], ""), json!({"labels": ["a"]})).as_(&ada).expect(200).await;
    server.move_task(&ada, &made[1], json!({"to": "done", "resolution": "done"})).await;
    comment(&server, &ada, &made[2]).await;
    delete(&server, &ada, "tasks", &made[3]).await;
    server.drain_within(PATIENCE).await;
    (server, ada, ours)
}

async fn replay(server: &Server, more: &[&str]) -> Exit {
    let arguments = [&["events", "replay", "--projection", "board"][..], more].concat();
    server.beside().run(&arguments).await
}

/// What a replay says of the live board, by its exit code and its words.
fn verified(exit: &Exit, code: i32) -> Value {
    assert_eq!(exit.status.code(), Some(code), "{}{}", exit.stdout, exit.stderr);
    let said = serde_json::from_str(&exit.stdout);
    said.unwrap_or_else(|error| json!({"error": format!("{error}: {}", exit.stdout)}))
}

async fn a_replay_finds_no_difference(backend: Backend) {
    let (server, ada, project) = busy(backend).await;
    let before = columns(&server, &ada, &project).await;
    for build in 2..=3 {
        let said = verified(&replay(&server, &["--verify", "--json"]).await, 0);
        assert_eq!((said.text("projection"), said.int("build")), ("board", build));
        assert_eq!(said.int("unreadable"), 0);
        assert_eq!(said["differences"], json!({"cards": 0, "listed": [], "counts": []}), "{said}");
        // Eight of the tasks, a change of one, two of the second, a comment, a deletion, and no personal task.
        assert_eq!(said.int("events"), 8 + 1 + 2 + 1 + 1, "{said}");
        let builds = server.number("SELECT count(DISTINCT build) FROM board_cards").await;
        assert_eq!(builds.unwrap_or_default(), 1, "the old build is removed");
        assert_eq!(columns(&server, &ada, &project).await, before);
    }
    let plain = replay(&server, &[]).await;
    assert!(plain.status.success() && plain.stdout.contains("the board is rebuilt"), "{}", plain.stdout);
    // The group goes on with the build that is shown.
    task(&server, &ada, &project, "four").await;
    server.drain_within(PATIENCE).await;
    assert_eq!(titles(&columns(&server, &ada, &project).await, "todo"), ["four", "three", "one"]);
    for wrong in [&["events", "replay"][..], &["events", "replay", "--projection", "nothing"]] {
        let exit = server.beside().run(wrong).await;
        assert!(!exit.status.success() && exit.stderr.contains("--projection"), "{}", exit.stderr);
    }
    server.finish().await;
}

async fn a_difference_is_found_printed_and_mended(backend: Backend) {
    const PLANT: [&str; 4] = [
        "UPDATE board_cards SET title = 'planted' WHERE title = 'one'",
        "DELETE FROM board_cards WHERE title = 'two'",
        "UPDATE board_cards SET gone = FALSE WHERE gone",
        "UPDATE board_counts SET tasks = tasks + 5 WHERE status = 'done'",
    ];
    let (server, ada, project) = busy(backend).await;
    let before = columns(&server, &ada, &project).await;
    for as_json in [true, false] {
        for sql in PLANT {
            server.execute(sql).await;
        }
        assert!(server.read(&ada, &address(&project, "")).await.to_string().contains("planted"));
        if as_json {
            let exit = replay(&server, &["--verify", "--json"]).await;
            let said = verified(&exit, 1);
            // Of each of the two projects, but for the deletion, of which there is one.
            assert_eq!(said["differences"].int("cards"), 2 + 2 + 1, "{said}");
            let mut kinds = said["differences"].texts("listed", "kind");
            kinds.sort();
            assert_eq!(kinds, ["fields", "fields", "missing", "missing", "surplus"]);
            let listed = said["differences"].list("listed");
            let fields: Vec<&Value> = listed.iter().flat_map(|card| card.list("fields")).collect();
            let title = json!({"name": "title", "live": "planted", "rebuilt": "one"});
            assert_eq!(fields, [&title, &title]);
            let counts = said["differences"].list("counts");
            assert!(counts.len() == 1 && counts[0].int("live") == counts[0].int("rebuilt") + 5, "{said}");
            assert!(exit.stderr.contains("differed"), "{}", exit.stderr);
        } else {
            let exit = replay(&server, &["--verify"]).await;
            assert_eq!(exit.status.code(), Some(1), "{}{}", exit.stdout, exit.stderr);
            for says in ["REBUILT", "OPS-1", "title", "\"planted\"", "\"one\"", "missing", "done"] {
                assert!(exit.stdout.contains(says), "{says} in {}", exit.stdout);
            }
        }
        assert_eq!(columns(&server, &ada, &project).await, before, "mended");
        let again = verified(&replay(&server, &["--verify", "--json"]).await, 0);
        assert_eq!(again["differences"].int("cards"), 0, "{again}");
    }
    server.finish().await;
}

async fn a_replay_goes_on_beside_writers(backend: Backend) {
    let (server, ada, project) = busy(backend).await;
    let (stop, written) = (AtomicBool::new(false), AtomicUsize::new(0));
    let writer = || async {
        while !stop.load(Ordering::Relaxed) {
            let made = task(&server, &ada, &project, "beside").await;
            server.move_task(&ada, &made, json!({"to": "in_progress"})).await;
            comment(&server, &ada, &made).await;
            let shown = server.read(&ada, &address(&project, "?limit=1")).await;
            assert!(counts(&shown["columns"]).iter().sum::<i64>() > 0, "{shown}");
            if written.fetch_add(1, Ordering::Relaxed) % 3 == 0 {
                delete(&server, &ada, "tasks", &made).await;
            }
        }
    };
    let replays = async {
        let before = written.load(Ordering::Relaxed);
        for _ in 0..4 {
            let said = verified(&replay(&server, &["--verify", "--json"]).await, 0);
            assert_eq!(said["differences"]["cards"], json!(0), "{said}");
            assert_eq!(said["differences"]["counts"], json!([]), "{said}");
        }
        assert!(written.load(Ordering::Relaxed) > before, "nobody wrote meanwhile");
        stop.store(true, Ordering::Relaxed);
    };
    tokio::join!(join_all((0..4).map(|_| writer())), replays);
    server.drain_within(PATIENCE).await;
    // Of the last hundreds, those that the first page shows, and all counts.
    columns(&server, &ada, &project).await;
    let said = verified(&replay(&server, &["--verify", "--json"]).await, 0);
    assert_eq!(said["differences"]["cards"], json!(0), "{said}");
    server.finish().await;
}
