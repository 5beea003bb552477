//! Group commit as clients see it: a bad one fails alone, a full queue says so, what is acknowledged is there.

use std::collections::HashSet;

use futures::future::join_all;
use serde_json::{Value, json};
use taskpost_testkit::{Backend, Fields as _, TestApp, both, until};

both!(a_bad_one_among_many_fails_alone, a_full_queue_says_so, whoever_hangs_up_stops_nobody);

async fn a_bad_one_among_many_fails_alone(backend: Backend) {
    let app = TestApp::start(backend).await;
    let (ada, bob) = (app.user("Ada").await, app.user("Bob").await);
    let nobody = "0198f0c0-0000-7000-8000-000000000000";
    let create = |i: usize| {
        let assignee = if i % 50 == 7 { nobody } else { bob.id.as_str() };
        let tasks =
            json!({"tasks": [{"title": format!("{i}"), "assignee_id": assignee}, {"title": format!("{i}")}]});
        match i % 10 {
            3 => app.post("/v1/tasks/batch", tasks).as_(&ada).send(),
            _ => app
                .post("/v1/tasks", json!({"title": format!("{i}"), "assignee_id": assignee}))
                .as_(&ada)
                .send(),
        }
    };
    let answers = join_all((0..200).map(create)).await;
    for (i, answer) in answers.iter().enumerate() {
        let expected = if i % 10 == 3 { 207 } else { 201 };
        let expected = if i % 50 == 7 { 422 } else { expected };
        assert_eq!(answer.status, expected, "{i}: {}", answer.text());
    }
    let stored = app.all_pages(&ada, "/v1/tasks?limit=200").await;
    assert_eq!(stored.len(), 200 - 4 + 20);
    app.drain().await;
    assert_eq!(app.number("SELECT count(*) FROM events WHERE type = 'task.created'").await, 216);
    app.finish().await;
}

async fn a_full_queue_says_so(backend: Backend) {
    // A queue always holds one whole batch.
    let app = TestApp::start(backend).with("COMMIT_QUEUE", "1").await;
    let ada = app.user("Ada").await;
    let tasks: Vec<Value> = (0..200).map(|i| json!({"title": format!("{i}")})).collect();
    let (tasks, mut acknowledged, mut refused) = (json!({"tasks": tasks}), HashSet::new(), 0);
    for _ in 0..10 {
        let answers =
            join_all((0..16).map(|_| app.post("/v1/tasks/batch", tasks.clone()).as_(&ada).send())).await;
        for answer in answers {
            if answer.status == 503 {
                assert!(answer.header("retry-after").parse::<u32>().is_ok_and(|seconds| seconds > 0));
                assert!(answer.problem().text("detail").contains("full"));
                refused += 1;
                continue;
            }
            assert_eq!(answer.status, 207, "{}", answer.text());
            let ids = answer
                .json()
                .list("results")
                .iter()
                .map(|result| result["task"].text("id").to_owned())
                .collect::<Vec<_>>();
            acknowledged.extend(ids);
        }
        if refused > 0 && !acknowledged.is_empty() {
            break;
        }
    }
    assert!(refused > 0, "the queue never was full");
    let stored = app.all_pages(&ada, "/v1/tasks?limit=200").await;
    let stored: HashSet<String> = stored.iter().map(|task| task.text("id").to_owned()).collect();
    assert_eq!(stored, acknowledged, "exactly what was acknowledged is there");
    app.post("/v1/tasks", json!({"title": "after"})).as_(&ada).expect(201).await;
    app.finish().await;
}

async fn whoever_hangs_up_stops_nobody(backend: Backend) {
    let app = TestApp::start(backend).await;
    let ada = app.user("Ada").await;
    let create = |i: usize| app.post("/v1/tasks", json!({"title": format!("{i}")})).as_(&ada).send();
    let requests = (0..100).map(|i| async move {
        if i % 2 == 0 {
            return Some(create(i).await);
        }
        // Dropped at some point of its way, at another one in every request.
        let patience = std::time::Duration::from_micros(u64::try_from(i).unwrap_or(0) * 100);
        tokio::time::timeout(patience, create(i)).await.ok()
    });
    let answers = join_all(requests).await;
    for answer in answers.iter().flatten() {
        assert_eq!(answer.status, 201, "{}", answer.text());
    }
    app.drain().await;
    // Whatever was cut off is there with its event, or not at all. The last of it may come between two looks.
    let tasks = until(|| async {
        let tasks = app.number("SELECT count(*) FROM tasks").await;
        match app.number("SELECT count(*) FROM events WHERE type = 'task.created'").await {
            events if events == tasks => Ok(tasks),
            events => Err(format!("{events} events of {tasks} tasks")),
        }
    })
    .await;
    assert!(tasks >= 50);
    app.task(&ada, json!({"title": "after"})).await;
    app.finish().await;
}
