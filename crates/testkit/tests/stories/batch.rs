//! Many tasks in one request, each of which fails alone.

use serde_json::{Value, json};
use taskpost_testkit::{Backend, Fields as _, Response, TestApp, both};

both!(
    order_is_kept_and_a_bad_one_fails_alone,
    all_may_be_bad,
    a_batch_has_its_bounds,
    a_batch_costs_a_tenth_for_each_task,
    a_large_batch_is_whole,
);

fn remaining(answer: &Response) -> &str {
    let state = answer.header("ratelimit");
    state.split(";r=").nth(1).and_then(|rest| rest.split(';').next()).unwrap_or(state)
}

async fn order_is_kept_and_a_bad_one_fails_alone(backend: Backend) {
    let app = TestApp::start(backend).await;
    let (ada, bob) = (app.user("Ada").await, app.user("Bob").await);
    let nobody = "0198f0c0-0000-7000-8000-000000000000";
    let tasks = json!([
        {"title": "a"},
        {"title": ""},
        {"title": "b", "assignee_id": bob.id},
        {"title": "c", "assignee_id": nobody},
        {"titel": "d"},
        "e",
        {"title": "f", "labels": ["x", 5]},
        {"title": "g", "priority": "urgent"},
        {"title": "h", "assignee_id": nobody},
    ]);
    for door in ["/tasks/batch", "/v1/tasks/batch"] {
        let answer = app.post(door, json!({"tasks": tasks})).as_(&ada).expect(207).await;
        let results = answer.json().list("results").to_vec();
        let statuses: Vec<i64> = results.iter().map(|result| result.int("status")).collect();
        assert_eq!(statuses, [201, 422, 201, 422, 422, 422, 422, 201, 422]);
        let titles: Vec<Option<&str>> =
            results.iter().map(|result| result["task"]["title"].as_str()).collect();
        assert_eq!(titles, [Some("a"), None, Some("b"), None, None, None, None, Some("g"), None]);
        for (place, pointer) in [
            (1, "/tasks/1/title"),
            (3, "/tasks/3/assignee_id"),
            (4, "/tasks/4/titel"),
            (5, "/tasks/5"),
            (6, "/tasks/6/labels/1"),
            (8, "/tasks/8/assignee_id"),
        ] {
            let problem = &results[place]["problem"];
            assert_eq!(
                (problem.int("status"), problem.texts("errors", "pointer")),
                (422, vec![pointer.to_owned()])
            );
        }
        app.drain().await;
        // The last of what happened, not of what was asked for.
        let event = app.read(&ada, &format!("/v1/events/{}", answer.header("event-id"))).await;
        assert_eq!(event["data"]["task"], results[7]["task"]);
        for result in results.iter().filter(|result| result.int("status") == 201) {
            let task = &result["task"];
            assert_eq!(app.read(&ada, &format!("/v1/tasks/{}", task.text("id"))).await, *task);
        }
    }
    assert_eq!(app.list(&ada, "/v1/tasks").await.len(), 6);
    let made = app.events(&ada).await.iter().filter(|event| event.text("type") == "task.created").count();
    assert_eq!(made, 6);
    app.finish().await;
}

async fn all_may_be_bad(backend: Backend) {
    let app = TestApp::start(backend).await;
    let ada = app.user("Ada").await;
    let tasks = json!({"tasks": [{"title": ""}, {"title": "a", "assignee_id": "0198f0c0-0000-7000-8000-000000000000"}]});
    let answer = app.post("/v1/tasks/batch", tasks).as_(&ada).expect(207).await;
    let statuses: Vec<i64> =
        answer.json().list("results").iter().map(|result| result.int("status")).collect();
    assert_eq!(statuses, [422, 422]);
    assert_eq!(answer.find("event-id"), None, "nothing happened");
    assert!(app.list(&ada, "/v1/tasks").await.is_empty());
    app.finish().await;
}

async fn a_batch_has_its_bounds(backend: Backend) {
    let app = TestApp::start(backend).await;
    let ada = app.user("Ada").await;
    for bad in [
        json!({"tasks": []}),
        json!({"tasks": vec![json!({"title": "a"}); 501]}),
        json!({"tasks": {"title": "a"}}),
        json!({}),
        json!({"tasks": [{"title": "a"}], "more": 1}),
        json!([{"title": "a"}]),
    ] {
        app.post("/v1/tasks/batch", bad).as_(&ada).refused(422).await;
    }
    app.post("/v1/tasks/batch", json!({"tasks": [{"title": "a"}]})).refused(401).await;
    assert!(app.list(&ada, "/v1/tasks").await.is_empty());
    app.finish().await;
}

async fn a_batch_costs_a_tenth_for_each_task(backend: Backend) {
    // Counted in this process, as a Redis that is slow for once forgives once.
    let app = TestApp::start(backend).without("REDIS_URL").with("RATE_LIMIT_WRITE", "1/h,20").await;
    let ada = app.user("Ada").await;
    let batch = |count: usize| {
        app.post("/v1/tasks/batch", json!({"tasks": vec![json!({"title": "a"}); count]})).as_(&ada)
    };

    let one = app.post("/v1/tasks", json!({"title": "a"})).as_(&ada).expect(201).await;
    assert_eq!(remaining(&one), "19");
    assert_eq!(remaining(&batch(1).expect(207).await), "17");
    assert_eq!(remaining(&batch(25).expect(207).await), "13");
    let refused = batch(130).expect(429).await;
    assert!(refused.header("retry-after").parse::<u32>().is_ok_and(|seconds| seconds > 0));
    assert_eq!(refused.problem().int("status"), 429);
    assert_eq!(app.all_pages(&ada, "/v1/tasks?limit=200").await.len(), 27, "nothing of it was stored");
    app.finish().await;
}

async fn a_large_batch_is_whole(backend: Backend) {
    let app = TestApp::start(backend).await;
    let (ada, bob) = (app.user("Ada").await, app.user("Bob").await);
    let description = "x".repeat(8_000);
    let tasks: Vec<Value> = (0..500)
        .map(|i| json!({"title": format!("{i}"), "description": description, "assignee_id": bob.id, "labels": ["x"]}))
        .collect();
    let answer = app.post("/v1/tasks/batch", json!({"tasks": tasks})).as_(&ada).expect(207).await.json();
    let titles: Vec<_> =
        answer.list("results").iter().map(|result| result["task"].text("title").to_owned()).collect();
    assert_eq!(titles, (0..500).map(|i| i.to_string()).collect::<Vec<_>>());
    app.drain().await;
    let walked = app.all_pages(&bob, "/v1/tasks?limit=200&sort=created_at").await;
    assert_eq!(walked.iter().map(|task| task.text("title").to_owned()).collect::<Vec<_>>(), titles);
    assert_eq!(app.read(&bob, "/v1/notifications/unread-count").await.int("unread"), 501);
    app.finish().await;
}
