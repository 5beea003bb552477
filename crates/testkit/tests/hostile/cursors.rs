//! Cursors: they hold for the one user, list, filter and order they were made for, and not for ever.

use std::time::Duration;

use base64::{Engine as _, engine::general_purpose::STANDARD, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::json;
use taskpost_common::Clock;
use taskpost_testkit::{Answer, Backend, Fields as _, TestApp, User, WebhookSink, both};

use crate::{
    case::{Case, encoded},
    row::Row,
};

both!(row);

/// Cursors are good for seven days.
const LONG: Duration = Duration::from_secs(7 * 24 * 3_600 + 1);

/// A list, asked in one way, and the cursor to its second page.
struct List {
    /// With a query.
    target: String,
    /// The same list, with another filter or order.
    others: Vec<String>,
    cursor: String,
}

async fn row(backend: Backend) {
    let clock = Clock::manual(Clock::system().now());
    let mut row = Row::start("Cursors", TestApp::start(backend).clock(clock.clone())).await;
    row.app.expect_dead_letters();
    let (ada, bob) = (row.app.user("Ada").await, row.app.user("Bob").await);
    let hook = furnish(&row.app, [&ada, &bob]).await;
    let (mine, theirs) = (lists(&row.app, &ada, &hook).await, lists_of_tasks(&row.app, &bob).await);
    for list in &mine {
        row.run(forged(list, &ada.token)).await;
        row.run(elsewhere(list, &mine, &theirs, &ada.token)).await;
    }
    for list in mine.iter().take(3) {
        row.run([ask(list, &list.target, "of another user", &list.cursor, &bob.token)]).await;
    }
    row.run(
        mine.iter().map(|list| ask(list, &list.target, "its own", &list.cursor, &ada.token).expect(&[200])),
    )
    .await;
    clock.advance(LONG);
    let ada = row.app.login(&ada).await;
    row.run(mine.iter().map(|list| {
        ask(list, &list.target, "of last week", &list.cursor, &ada.token).check(|answer| {
            let detail = answer.json()["detail"].to_string();
            if detail.contains("expired") {
                Ok(())
            } else {
                Err(format!("does not say that it has expired: {detail}"))
            }
        })
    }))
    .await;
    row.end(150).await;
}

fn ask(list: &List, target: &str, name: &str, cursor: &str, token: &str) -> Case {
    let name = format!("{name}, at {} for {}", target, list.target);
    Case::new("GET", &format!("{target}&cursor={}", encoded(cursor)), name).token(token)
}

/// Three of everything that has a list, for each of them; gives the admin's webhook that has been tried.
async fn furnish(app: &TestApp, users: [&User; 2]) -> String {
    let sink = WebhookSink::start().await;
    sink.always(Answer::status(400));
    let hook = json!({"url": sink.url("/"), "event_types": ["task.created"]});
    let tried = app.post("/v1/webhooks", hook).as_(users[0]).expect(201).await.json();
    for user in users {
        for number in 0..3 {
            let task = json!({"title": format!("Task {number}"), "assignee_id": user.id});
            app.post("/v1/tasks", task).as_(user).expect(201).await;
            let hook = json!({"url": "http://127.0.0.1:9/", "event_types": ["task.deleted"]});
            app.post("/v1/webhooks", hook).as_(user).expect(201).await;
        }
    }
    // A task given by somebody else is what one is told of.
    for _ in 0..3 {
        let task = json!({"title": "For you", "assignee_id": users[0].id});
        app.post("/v1/tasks", task).as_(users[1]).expect(201).await;
    }
    app.drain().await;
    format!("/v1/webhooks/{}/attempts", tried.text("id"))
}

async fn list(app: &TestApp, user: &User, target: &str, others: &[&str]) -> List {
    let page = app.get(target).as_(user).expect(200).await.json();
    let cursor = page["page"].text("next_cursor").to_owned();
    List {
        target: target.to_owned(),
        others: others.iter().map(|other| (*other).to_owned()).collect(),
        cursor,
    }
}

/// Every list there is, for an admin. Those that others have too come first.
async fn lists(app: &TestApp, user: &User, attempts: &str) -> Vec<List> {
    let mut lists = lists_of_tasks(app, user).await;
    let inbox = [
        "/v1/notifications?limit=1&unread=true",
        "/v1/notifications?limit=1&type=welcome",
        "/v1/notifications?limit=1&reason=author",
    ];
    lists.push(list(app, user, "/v1/notifications?limit=1", &inbox).await);
    lists.push(list(app, user, "/v1/webhooks?limit=1", &[]).await);
    let letters =
        ["/v1/admin/dead-letters?limit=1&source=log", "/v1/admin/dead-letters?limit=1&state=discarded"];
    lists.push(list(app, user, "/v1/admin/dead-letters?limit=1", &letters).await);
    lists.push(list(app, user, &format!("{attempts}?limit=1"), &[]).await);
    lists
}

async fn lists_of_tasks(app: &TestApp, user: &User) -> Vec<List> {
    let others = [
        "/v1/tasks?limit=1&state=open",
        "/v1/tasks?limit=1&status=todo",
        "/v1/tasks?limit=1&assignee_id=me",
        "/v1/tasks?limit=1&created_at%5Bgte%5D=2001-01-01T00:00:00Z",
        "/v1/tasks?limit=1&sort=created_at",
        "/v1/tasks?limit=1&sort=updated_at",
        "/v1/tasks?limit=1&sort=-updated_at",
    ];
    vec![list(app, user, "/v1/tasks?limit=1", &others).await]
}

/// What nobody was given.
fn forged(list: &List, token: &str) -> Vec<Case> {
    let sealed = URL_SAFE_NO_PAD.decode(&list.cursor).expect("a cursor in Base64");
    let edited = |edit: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = sealed.clone();
        edit(&mut bytes);
        URL_SAFE_NO_PAD.encode(bytes)
    };
    let unsigned = |text: &str| URL_SAFE_NO_PAD.encode(text);
    let mut cursors: Vec<(String, String)> = Vec::new();
    for at in [0, sealed.len() / 2, sealed.len() - 17, sealed.len() - 16, sealed.len() - 1] {
        cursors.push((format!("bit of byte {at} flipped"), edited(&|bytes| bytes[at] ^= 1)));
    }
    cursors.extend(
        [
            ("a byte more", edited(&|bytes| bytes.push(0))),
            ("a byte less", edited(&|bytes| bytes.truncate(bytes.len() - 1))),
            ("no seal", edited(&|bytes| bytes.truncate(bytes.len() - 16))),
            ("a seal of zeros", edited(&|bytes| bytes.iter_mut().rev().take(16).for_each(|byte| *byte = 0))),
            ("the seal alone", edited(&|bytes| *bytes = bytes.split_off(bytes.len() - 16))),
            ("twice", list.cursor.repeat(2)),
            ("padded", format!("{}=", list.cursor)),
            ("a blank behind it", format!("{} ", list.cursor)),
            ("in small letters", list.cursor.to_lowercase()),
            ("huge", "A".repeat(8_000)),
            ("of 1,025 letters", "A".repeat(1_025)),
            ("negative", "-1".to_owned()),
            ("a number", "18446744073709551616".to_owned()),
            ("empty", String::new()),
            ("SQL", "' OR 1=1; DROP TABLE tasks;--".to_owned()),
            ("SQL in Base64", unsigned("' OR 1=1; DROP TABLE tasks;--")),
            ("NUL", "\0".to_owned()),
            ("markup", "<script>".to_owned()),
            ("another script", "\u{416}\u{1f600}".to_owned()),
            ("garbage in Base64", URL_SAFE_NO_PAD.encode([0xff; 64])),
            ("JSON in Base64", unsigned(r#"{"key":["Next",1],"until":99999999999}"#)),
            ("JSON", r#"{"key":["Next",1],"until":99999999999}"#.to_owned()),
            ("standard Base64", STANDARD.encode([0xfb; 30])),
            ("null", "null".to_owned()),
        ]
        .map(|(name, cursor)| (name.to_owned(), cursor)),
    );
    cursors.iter().map(|(name, cursor)| ask(list, &list.target, name, cursor, token)).collect()
}

/// What was given, but for something else.
fn elsewhere(list: &List, mine: &[List], theirs: &[List], token: &str) -> Vec<Case> {
    let others =
        list.others.iter().map(|other| ask(list, other, "of another filter or order", &list.cursor, token));
    let foreign = mine.iter().filter(|other| other.target != list.target);
    let foreign =
        foreign.map(|other| ask(list, &list.target, &format!("of {}", other.target), &other.cursor, token));
    let stolen =
        theirs.iter().map(|other| ask(list, &list.target, "of another user's tasks", &other.cursor, token));
    others.chain(foreign).chain(stolen).collect()
}
