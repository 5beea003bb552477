//! What an operator, a probe, a monitor and a browser meet.

use serde_json::{Value, json};
use taskpost_testkit::{Backend, Client, Fields as _, Server, TestApp, WebhookSink, both, until};

both!(
    health_names_every_part,
    a_broker_that_is_away_degrades_and_stops_nothing,
    metrics_are_for_this_machine,
    the_document_lists_the_interface,
    the_events_have_a_document,
    the_page_of_the_document_needs_no_other_host,
    what_is_not_there_is_a_problem,
    a_request_has_its_names,
    what_one_has_is_not_sent_again,
    every_answer_is_hardened,
    other_origins_are_let_in_by_name_only,
    nothing_is_lost_by_a_restart,
);

/// What is told at a path once the whole is as it should be; a busy machine may take a moment to be well.
async fn told(client: &Client, path: &str, status: &str) -> Value {
    until(|| async {
        match client.get(path).send().await {
            answer if answer.status == 200 && answer.json().text("status") == status => Ok(answer.json()),
            answer => Err(format!("{path} answers {} {}", answer.status, answer.text())),
        }
    })
    .await
}

async fn health_names_every_part(backend: Backend) {
    let app = TestApp::start(backend).await;
    for path in ["/health", "/health/ready"] {
        let health = told(&app, path, "ok").await;
        assert!(!health.text("version").is_empty());
        for part in ["store", "committer", "log", "queue", "limiter"] {
            assert_eq!(health["checks"][part].text("status"), "ok", "{part}");
            assert!(health["checks"][part].int("latency_ms") >= 0);
        }
        let store = if backend == Backend::Sqlite { "sqlite" } else { "postgres" };
        assert_eq!(health["checks"]["store"].text("detail"), store);
    }
    assert_eq!(app.get("/health/live").expect(200).await.json().text("status"), "ok");
    app.finish().await;
}

/// Whatever runs on the store is well, and readiness does not hang on a broker: what is for it waits in the store.
async fn a_broker_that_is_away_degrades_and_stops_nothing(backend: Backend) {
    for (part, variable, nowhere) in [
        ("log", "KAFKA_BROKERS", "127.0.0.1:1"),
        ("queue", "RABBITMQ_URL", "amqp://ada:hunter2@127.0.0.1:1/%2f"),
        ("limiter", "REDIS_URL", "redis://:hunter2@127.0.0.1:1/0"),
    ] {
        let app = TestApp::start(backend).with(variable, nowhere).await;
        let ada = app.user("Ada").await;
        app.task(&ada, json!({"title": "a"})).await;
        let health = told(&app, "/health", "degraded").await;
        assert_eq!(health["checks"][part].text("status"), "degraded", "{health}");
        assert!(health["checks"][part].text("detail").contains(variable), "{health}");
        assert_eq!(health["checks"]["store"].text("status"), "ok", "{health}");
        assert!(!health.to_string().contains("hunter2"), "{health}");
        told(&app, "/health/ready", "degraded").await;
        // It cannot be drained.
        drop(app.stop().await);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_other_roles_tell_how_they_are() {
    let api = Server::start(Backend::Postgres).migrated().role("api").await;
    for (role, part) in [("consumers", "log"), ("workers", "queue")] {
        let server = api.beside().role(role).await;
        for path in ["/health", "/health/ready"] {
            let health = told(&server, path, "ok").await;
            for part in ["store", "outbox", part] {
                assert_eq!(health["checks"][part].text("status"), "ok", "{health}");
            }
        }
        server.get("/health/live").expect(200).await;
        let metrics = server.get("/metrics").expect(200).await;
        assert!(metrics.text().contains("taskpost_http_requests_total"), "{}", metrics.text());
        server.get("/metrics").header("x-forwarded-for", "127.0.0.1").refused(404).await;
        server.get("/v1/tasks").refused(404).await;
        server.finish().await;
    }
    api.finish().await;
}

async fn metrics_are_for_this_machine(backend: Backend) {
    let app = TestApp::start(backend).with("METRICS_TOKEN", "a token of the monitor").await;
    let ada = app.user("Ada").await;
    app.task(&ada, json!({"title": "Fix the lift"})).await;
    let metrics = app.get("/metrics").expect(200).await;
    assert!(metrics.header("content-type").starts_with("text/plain"));
    for name in [
        "taskpost_http_requests_total",
        "taskpost_http_request_seconds_bucket",
        "taskpost_commit_seconds_bucket",
    ] {
        assert!(metrics.text().contains(name), "{name} in {}", metrics.text());
    }
    assert!(metrics.text().contains("route=\"/auth/register\""), "routes, not addresses");
    // What a proxy passes on does not come from this machine.
    let passed_on = || app.get("/metrics").header("x-forwarded-for", "127.0.0.1");
    passed_on().refused(401).await;
    passed_on().token("a wrong token").refused(401).await;
    passed_on().token("a token of the monitor").expect(200).await;
    app.finish().await;
}

async fn the_document_lists_the_interface(backend: Backend) {
    let app = TestApp::start(backend).await;
    let document = app.get("/openapi.json").expect(200).await.json();
    assert!(document.text("openapi").starts_with("3."));
    let paths = document["paths"].as_object().cloned().unwrap_or_default();
    for path in [
        "/v1/auth/register",
        "/v1/tasks",
        "/v1/tasks/{id}/transitions",
        "/v1/events",
        "/v1/webhooks",
        "/health",
    ] {
        assert!(paths.contains_key(path), "{path}");
    }
    let ada = app.user("Ada").await;
    // Every GET without a parameter in its path answers a caller as its document says.
    for (path, methods) in paths.iter().filter(|(path, _)| !path.contains('{')) {
        let Some(documented) = methods["get"]["responses"].as_object() else { continue };
        let answer = app.get(path).as_(&ada).send().await;
        assert!(documented.contains_key(&answer.status.to_string()), "{path} answers {}", answer.status);
    }
    app.finish().await;
}

async fn the_events_have_a_document(backend: Backend) {
    let app = TestApp::start(backend).await;
    let ada = app.user("Ada").await;
    let document = app.get("/asyncapi.json").expect(200).await.json();
    assert!(document.text("asyncapi").starts_with("3."));
    let channels = document["channels"].as_object().cloned().unwrap_or_default();
    let types = app.list(&ada, "/v1/event-types").await;
    assert!(types.len() > 30 && channels.len() == 4);
    for name in types.iter().map(|kind| kind.text("type")) {
        assert!(document["components"]["messages"].get(name).is_some(), "{name}");
        assert!(channels.values().any(|channel| channel["messages"].get(name).is_some()), "{name}");
    }
    app.finish().await;
}

/// The values of `src` and `href` in HTML.
fn links(html: &str) -> Vec<String> {
    let quoted = |name: &str| {
        let parts: Vec<String> = html.split(&format!("{name}=\"")).skip(1).map(str::to_owned).collect();
        parts.into_iter().filter_map(|part| part.split('"').next().map(str::to_owned))
    };
    quoted("src").chain(quoted("href")).collect()
}

async fn the_page_of_the_document_needs_no_other_host(backend: Backend) {
    let app = TestApp::start(backend).await;
    for path in ["/", "/docs"] {
        assert_eq!(app.get(path).expect(307).await.header("location"), "/docs/");
    }
    let page = app.get("/docs/").expect(200).await;
    assert!(page.header("content-type").starts_with("text/html"));
    let policy = page.header("content-security-policy");
    assert!(policy.contains("default-src 'none'") && policy.contains("script-src 'self'"), "{policy}");
    assert!(!policy.contains("http"), "{policy}");
    let html = page.text();
    assert!(!html.contains("http://") && !html.contains("https://") && !html.contains("<script>"), "{html}");
    let links = links(&html);
    assert!(links.len() >= 4, "{links:?}");
    for link in links {
        let file = app.get(&format!("/docs/{}", link.trim_start_matches("./"))).expect(200).await;
        assert!(!file.body.is_empty(), "{link}");
    }
    let script = app.get("/docs/swagger-initializer.js").expect(200).await.text();
    assert!(script.contains("/openapi.json") && !script.contains("https://"), "{script}");
    app.get("/docs/nothing.js").refused(404).await;
    app.get("/docs/..%2f..%2fCargo.toml").refused(404).await;
    app.finish().await;
}

async fn what_is_not_there_is_a_problem(backend: Backend) {
    let app = TestApp::start(backend).await;
    let ada = app.user("Ada").await;
    for path in [
        "/nothing",
        "/v1",
        "/v1/",
        "/v2/tasks",
        "/v1/tasks/",
        "//tasks",
        "/v1/health",
        "/tasks/1/2/3",
        "/%00",
        "/..%2f",
    ] {
        for request in [app.get(path), app.get(path).as_(&ada), app.post(path, json!({}))] {
            let problem = request.refused(404).await;
            assert_eq!(problem.text("instance"), path);
        }
    }
    for (path, allowed) in
        [("/v1/tasks", ["GET", "POST"]), ("/me", ["GET", "HEAD"]), ("/health", ["GET", "HEAD"])]
    {
        let answer = app.delete(path).as_(&ada).expect(405).await;
        assert!(
            allowed.iter().all(|method| answer.header("allow").contains(method)),
            "{}",
            answer.header("allow")
        );
        answer.problem();
    }
    let head = app.request("HEAD", "/v1/me").as_(&ada).expect(200).await;
    assert_eq!((head.body.len(), head.header("etag")), (0, "\"v1\""));
    for method in ["TRACE", "BREW", "OPTIONS"] {
        app.request(method, "/v1/tasks").as_(&ada).refused(405).await;
    }
    app.get("/v1/me?verbose=1").as_(&ada).refused(400).await;
    app.finish().await;
}

async fn a_request_has_its_names(backend: Backend) {
    let app = TestApp::start(backend).await;
    let ada = app.user("Ada").await;
    let own = app.get("/v1/me").as_(&ada).expect(200).await.header("x-request-id").to_owned();
    assert_eq!(own.len(), 36);
    let given = app.get("/nothing").header("x-request-id", "build-7_a").expect(404).await;
    assert_eq!(given.header("x-request-id"), "build-7_a");
    for bad in ["a b", "<script>", &"x".repeat(65), "a\u{e9}"] {
        let answer = app.get("/health/live").header("x-request-id", bad).expect(200).await;
        assert_eq!(answer.header("x-request-id").len(), 36, "{bad}");
    }
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    let parent = format!("00-{trace}-00f067aa0ba902b7-01");
    let problem = app.get("/nothing").header("traceparent", &parent).refused(404).await;
    assert_eq!(problem.text("trace_id"), trace);
    // The trace goes on in what the request brings about.
    let made = app
        .post("/v1/tasks", json!({"title": "a"}))
        .as_(&ada)
        .header("traceparent", &parent)
        .expect(201)
        .await;
    app.drain().await;
    let event = app.read(&ada, &format!("/v1/events/{}", made.header("event-id"))).await;
    assert_eq!(event.text("traceparent"), parent);
    app.finish().await;
}

async fn what_one_has_is_not_sent_again(backend: Backend) {
    let app = TestApp::start(backend).await;
    let ada = app.user("Ada").await;
    let sink = WebhookSink::start().await;
    let hook = app.hook(&ada, &sink, &["task.created"]).await;
    let task = app.task(&ada, json!({"title": "a"})).await;
    let (hook, task) =
        (format!("/v1/webhooks/{}", hook.text("id")), format!("/v1/tasks/{}", task.text("id")));
    for path in ["/v1/me", &hook, &task] {
        let tag = app.get(path).as_(&ada).expect(200).await.header("etag").to_owned();
        let again = app.get(path).as_(&ada).header("if-none-match", &tag).expect(304).await;
        assert_eq!((again.header("etag"), again.body.len()), (tag.as_str(), 0), "{path}");
        app.get(path).as_(&ada).header("if-none-match", "\"v0\"").expect(200).await;
    }
    app.finish().await;
}

async fn every_answer_is_hardened(backend: Backend) {
    for (url, https) in [("http://tasks.example.org", false), ("https://tasks.example.org", true)] {
        let app = TestApp::start(backend).with("PUBLIC_URL", url).await;
        for path in ["/health/live", "/nothing", "/v1/me", "/docs/", "/openapi.json", "/metrics", "/"] {
            let answer = app.get(path).send().await;
            assert_eq!(answer.header("x-content-type-options"), "nosniff", "{path}");
            assert_eq!(answer.header("referrer-policy"), "no-referrer", "{path}");
            assert!(answer.header("content-security-policy").contains("frame-ancestors 'none'"), "{path}");
            assert_eq!(answer.find("strict-transport-security").is_some(), https, "{path}");
            assert!(answer.find("server").is_none() && answer.find("x-powered-by").is_none());
        }
        app.finish().await;
    }
}

async fn other_origins_are_let_in_by_name_only(backend: Backend) {
    let origin = "https://app.example.org";
    let app = TestApp::start(backend).await;
    let answer = app.get("/health").header("origin", origin).expect(200).await;
    assert_eq!(answer.find("access-control-allow-origin"), None);
    app.finish().await;
    let app = TestApp::start(backend).with("CORS_ORIGINS", origin).await;
    let answer = app.get("/health").header("origin", origin).expect(200).await;
    assert_eq!(answer.header("access-control-allow-origin"), origin);
    assert_eq!(answer.find("access-control-allow-credentials"), None);
    for stranger in ["https://evil.example.org", "null"] {
        let answer = app.get("/health").header("origin", stranger).expect(200).await;
        assert_eq!(answer.find("access-control-allow-origin"), None, "{stranger}");
    }
    let preflight = app.request("OPTIONS", "/v1/tasks").header("origin", origin);
    let preflight = preflight.header("access-control-request-method", "PATCH").expect(200).await;
    assert!(preflight.header("access-control-allow-methods").contains("PATCH"));
    assert_eq!(preflight.header("x-content-type-options"), "nosniff");
    app.finish().await;
}

async fn nothing_is_lost_by_a_restart(backend: Backend) {
    let old = "an old secret of at least 32 characters";
    let app = TestApp::start(backend).with("JWT_SECRET", old).await;
    let (ada, bob) = (app.user("Ada").await, app.user("Bob").await);
    let elsewhere = app.login(&ada).await;
    app.post("/v1/auth/logout", None).as_(&elsewhere).expect(204).await;
    let task = app.task(&ada, json!({"title": "a", "assignee_id": bob.id})).await;
    let once = |app: &TestApp| app.post("/v1/tasks", json!({"title": "b"})).as_(&ada).key("k").expect(201);
    let first = once(&app).await;

    let both = format!("a new secret of at least 32 characters,{old}");
    let app = app.stop().await.with("JWT_SECRET", both).await;
    assert_eq!(app.read(&bob, &format!("/v1/tasks/{}", task.text("id"))).await, task);
    app.get("/v1/me").as_(&elsewhere).refused(401).await;
    let again = once(&app).await;
    assert_eq!((again.find("idempotency-replayed"), again.json()), (Some("true"), first.json()));
    app.drain().await;
    let inbox = app.list(&bob, "/v1/notifications").await;
    let mut types: Vec<&str> = inbox.iter().map(|item| item.text("type")).collect();
    // One is about Bob and one about the task, so either may be first.
    types.sort_unstable();
    assert_eq!(types, ["task_assigned", "welcome"]);
    let fresh = app.login(&ada).await;

    let app = app.stop().await.with("JWT_SECRET", "a new secret of at least 32 characters").await;
    app.get("/v1/me").as_(&ada).refused(401).await;
    assert_eq!(app.read(&fresh, "/v1/me").await["roles"], json!(["admin"]));
    let events: Vec<Value> = app.events(&fresh).await;
    assert_eq!(events.len(), 2 + 2 + 2 + 2 + 1 + 1);
    app.finish().await;
}
