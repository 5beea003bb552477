//! What holds of every answer, through the whole router on a real store.
#![expect(clippy::unwrap_used, reason = "a test may stop at the first surprise")]

use std::{net::SocketAddr, sync::Arc};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::ConnectInfo,
    http::{HeaderMap, Method, Request, StatusCode},
};
use http_body_util::BodyExt as _;
use metrics_exporter_prometheus::PrometheusBuilder;
use serde_json::{Value, json};
use taskpost_api::http::{Access, App, Input, Limit, TABLE, router};
use taskpost_common::{Clock, config::Config};
use taskpost_ports::{Limiter, Log, Queue, Wakes};
use taskpost_store::Db;
use taskpost_tracker::{Parts, Tracker};
use tempfile::TempDir;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

const ID: &str = "01920000-0000-7000-8000-000000000001";

struct Site {
    router: Router,
    _folder: TempDir,
    _tasks: JoinSet<()>,
}

struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// A problem of this status that is whole and tells nothing of our inside.
    fn problem(&self, status: u16) -> Value {
        assert_eq!(self.status.as_u16(), status, "{}", String::from_utf8_lossy(&self.body));
        assert_eq!(self.header("content-type"), "application/problem+json");
        let problem = self.json();
        assert_eq!(problem["status"], status);
        assert!(
            problem["instance"].is_string() && problem["trace_id"].as_str().unwrap().len() == 32,
            "{problem}"
        );
        for secret in ["SELECT", ".rs", "panicked", "sqlx"] {
            assert!(!problem.to_string().contains(secret), "{problem}");
        }
        problem
    }
}

impl Site {
    async fn new(variables: &[(&str, &str)]) -> Self {
        let config =
            |name: &str| variables.iter().find(|(n, _)| *n == name).map(|(_, value)| (*value).to_owned());
        let config = Config::load(config).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let db = Db::sqlite(folder.path()).await.unwrap();
        db.migrate().await.unwrap();
        let (wakes, clock, limiter) =
            (Wakes::default(), Clock::system(), Arc::new(Limiter::local(&config.limits)));
        let parts = Parts {
            log: Log::local(db.clone(), wakes.clone(), clock.clone()),
            queue: Some(Queue::local(db.clone(), clock.clone())),
            limiter: limiter.clone(),
            spread: taskpost_ports::Spread::Local,
            secrets: vec!["a secret that is long enough for a test".to_owned().into()],
            db,
            wakes,
            clock,
        };
        let mut tasks = JoinSet::new();
        let tracker = Tracker::start(parts, &config, &mut tasks, CancellationToken::new()).await.unwrap();
        let app = App {
            tracker,
            limiter,
            trusted_proxies: config.limits.trusted_proxies,
            metrics: PrometheusBuilder::new().build_recorder().handle(),
            metrics_token: config.metrics_token,
            cors_origins: config.cors_origins,
            https: config.public_url.is_some_and(|url| url.scheme() == "https"),
        };
        Self { router: router(app), _folder: folder, _tasks: tasks }
    }

    async fn send(&self, request: Request<Body>) -> Answer {
        let (parts, body) = self.router.clone().oneshot(request).await.unwrap().into_parts();
        Answer {
            status: parts.status,
            headers: parts.headers,
            body: body.collect().await.unwrap().to_bytes(),
        }
    }

    async fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)], body: impl Into<Body>) -> Answer {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.send(request.body(body.into()).unwrap()).await
    }

    /// An account's Authorization header.
    async fn register(&self, email: &str) -> String {
        let body = json!({"email": email, "name": "Ada", "password": "correct horse battery"});
        let answer = self.ask("POST", "/auth/register", &[JSON], body.to_string()).await;
        assert_eq!(answer.status, 201, "{}", answer.json());
        format!("Bearer {}", answer.json()["access_token"].as_str().unwrap())
    }
}

const JSON: (&str, &str) = ("content-type", "application/json");

#[tokio::test]
async fn every_answer_has_its_headers() {
    let site = Site::new(&[]).await;
    for (method, path, status) in [
        ("GET", "/health/live", 200),
        ("GET", "/nothing", 404),
        ("GET", "/tasks", 401),
        ("DELETE", "/v1/tasks", 405),
        ("GET", "/docs/", 200),
    ] {
        let answer = site.ask(method, path, &[], "").await;
        assert_eq!(answer.status, status, "{path}");
        assert_eq!(answer.header("x-content-type-options"), "nosniff");
        assert_eq!(answer.header("referrer-policy"), "no-referrer");
        assert!(answer.header("content-security-policy").contains("frame-ancestors 'none'"));
        assert_eq!(answer.header("x-request-id").len(), 36);
        assert_eq!(answer.header("strict-transport-security"), "");
        if status >= 400 {
            answer.problem(status);
        }
    }
    assert_eq!(site.ask("DELETE", "/v1/tasks", &[], "").await.header("allow"), "POST,GET,HEAD");
    assert_eq!(site.ask("GET", "/tasks", &[], "").await.header("www-authenticate"), "Bearer");
    let named = site.ask("GET", "/health/live", &[("x-request-id", "job-7")], "").await;
    assert_eq!(named.header("x-request-id"), "job-7");
    let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let problem = site.ask("GET", "/v1/nothing", &[("traceparent", trace)], "").await.problem(404);
    assert_eq!(
        (&problem["instance"], &problem["trace_id"]),
        (&json!("/v1/nothing"), &json!("4bf92f3577b34da6a3ce929d0e0e4736"))
    );
    let https = Site::new(&[("PUBLIC_URL", "https://tasks.example.org")]).await;
    assert!(
        https
            .ask("GET", "/nothing", &[], "")
            .await
            .header("strict-transport-security")
            .starts_with("max-age=")
    );
}

#[tokio::test]
async fn every_route_is_denied_without_its_access() {
    let site = Site::new(&[
        ("FIRST_USER_IS_ADMIN", "false"),
        ("RATE_LIMIT_AUTH", "9999/s"),
        ("RATE_LIMIT_READ", "9999/s"),
        ("RATE_LIMIT_WRITE", "9999/s"),
    ])
    .await;
    let member = site.register("ada@example.org").await;
    for row in TABLE {
        for path in row.mounts() {
            let path = path.replace("{id}", ID);
            let method = row.method.as_str();
            let json = if row.input.is_json() { vec![JSON] } else { Vec::new() };
            let anonymous = site.ask(method, &path, &json, "").await;
            match row.access {
                Access::Anyone => {
                    assert!(![401, 403].contains(&anonymous.status.as_u16()), "{method} {path}");
                }
                _ => drop(anonymous.problem(401)),
            }
            for token in ["Bearer nonsense", "Bearer ", "bearer", "Basic YTpi", &format!("{member}x")] {
                let forged = site.ask(method, &path, &[("authorization", token)], "").await;
                assert!(row.access == Access::Anyone || forged.status == 401, "{method} {path} {token}");
            }
            if row.access == Access::Admin {
                site.ask(method, &path, &[("authorization", &member)], "").await.problem(403);
            }
        }
    }
}

#[tokio::test]
async fn limits_come_before_bodies_and_say_when_to_return() {
    let site = Site::new(&[("RATE_LIMIT_WRITE", "1/h,5"), ("RATE_LIMIT_READ", "1/h,2")]).await;
    let token = site.register("ada@example.org").await;
    let headers = [JSON, ("authorization", token.as_str())];
    let first = site.ask("POST", "/tasks", &headers, r#"{"title":"a"}"#).await;
    assert_eq!(
        (first.header("ratelimit-policy"), first.header("ratelimit")),
        ("\"write\";q=5;w=18000", "\"write\";r=4;t=3600")
    );
    let batch = json!({"tasks": vec![json!({"title": "a"}); 21]}).to_string();
    let batch = site.ask("POST", "/tasks/batch", &headers, batch).await;
    assert_eq!((batch.status.as_u16(), batch.header("ratelimit")), (207, "\"write\";r=0;t=18000"));
    let refused = site.ask("POST", "/tasks", &headers, "not even JSON").await;
    refused.problem(429);
    let wait: u64 = refused.header("retry-after").parse().unwrap();
    assert!((3_500..=3_600).contains(&wait), "{wait}");
    assert_eq!(refused.header("ratelimit"), "\"write\";r=0;t=18000");
    // A bad token is counted by its address, which is not the user's.
    let statuses = [
        site.ask("GET", "/me", &[], "").await,
        site.ask("GET", "/me", &[], "").await,
        site.ask("GET", "/me", &[], "").await,
    ];
    assert_eq!(statuses.map(|answer| answer.status.as_u16()), [401, 401, 429]);
    assert_eq!(site.ask("GET", "/me", &headers, "").await.status, 200);
}

#[tokio::test]
async fn what_is_too_large_or_unreadable_is_refused() {
    let site = Site::new(&[]).await;
    let token = site.register("ada@example.org").await;
    let auth = ("authorization", token.as_str());
    let long = format!("/v1/tasks?cursor={}", "a".repeat(9_000));
    site.ask("GET", &long, &[auth], "").await.problem(414);
    let many: Vec<_> = (0..101).map(|_| ("x-many", "1")).collect();
    site.ask("GET", "/v1/tasks", &many, "").await.problem(431);
    site.ask("POST", "/tasks", &[auth, JSON], vec![b' '; 256 * 1024 + 1]).await.problem(413);
    site.ask("POST", "/tasks/batch", &[auth, JSON], vec![b' '; 256 * 1024 + 1]).await.problem(400);
    site.ask("POST", "/notifications/read-all", &[auth], vec![b' '; 256 * 1024 + 1]).await.problem(413);
    site.ask("POST", "/tasks", &[auth, ("content-type", "text/plain")], "{}").await.problem(415);
    site.ask("POST", "/tasks", &[auth, JSON, ("content-encoding", "gzip")], "{}").await.problem(415);
    site.ask("POST", "/tasks", &[auth, JSON], "").await.problem(400);
    site.ask("POST", "/tasks", &[auth, JSON, ("idempotency-key", "a b")], r#"{"title":"a"}"#)
        .await
        .problem(400);
    let problem = site.ask("GET", "/me?colour=red", &[auth], "").await.problem(400);
    assert_eq!(problem["errors"][0]["pointer"], "?colour");
    let problem = site.ask("GET", "/tasks?sort=password", &[auth], "").await.problem(400);
    assert_eq!(problem["errors"][0]["pointer"], "?sort");
    let problem = site.ask("POST", "/tasks", &[auth, JSON], r#"{"titel":"a"}"#).await.problem(422);
    assert_eq!(problem["errors"][0]["pointer"], "/titel");
    for id in ["1", "0192000000007000800000000000000a", "%ff", "..%2f"] {
        site.ask("GET", &format!("/tasks/{id}"), &[auth], "").await.problem(404);
    }
}

#[tokio::test]
async fn a_batch_fails_item_by_item() {
    let site = Site::new(&[]).await;
    let token = site.register("ada@example.org").await;
    let headers = [JSON, ("authorization", token.as_str())];
    let body = r#"{"tasks":[{"title":"a"},{"title":5},{"title":""},7,{"title":"\ud800"},{"title":"b"}]}"#;
    let answer = site.ask("POST", "/v1/tasks/batch", &headers, body).await;
    let results = answer.json()["results"].clone();
    let seen: Vec<_> =
        results.as_array().unwrap().iter().map(|item| item["status"].as_u64().unwrap()).collect();
    assert_eq!((answer.status.as_u16(), seen), (207, vec![201, 422, 422, 422, 400, 201]));
    assert_eq!(results[1]["problem"]["errors"][0]["pointer"], "/tasks/1/title");
    assert_eq!(results[2]["problem"]["errors"][0]["pointer"], "/tasks/2/title");
    assert_eq!(results[3]["problem"]["errors"][0]["pointer"], "/tasks/3");
    assert_eq!(
        (results[0]["task"]["title"].as_str(), results[5]["task"]["title"].as_str()),
        (Some("a"), Some("b"))
    );
    let many = json!({"tasks": vec![json!(1); 501]}).to_string();
    let problem = site.ask("POST", "/tasks/batch", &headers, many).await.problem(422);
    assert_eq!(problem["errors"][0]["pointer"], "/tasks");
    site.ask("POST", "/tasks/batch", &headers, r#"{"tasks":[]}"#).await.problem(422);
}

#[tokio::test]
async fn a_task_has_tags_and_conditions() {
    let site = Site::new(&[]).await;
    let token = site.register("ada@example.org").await;
    let auth = ("authorization", token.as_str());
    let key = ("idempotency-key", "k-1");
    let made = site.ask("POST", "/tasks", &[auth, JSON, key], r#"{"title":"a"}"#).await;
    let path = made.header("location").to_owned();
    assert_eq!((made.status.as_u16(), made.header("etag")), (201, "\"v1.0\""));
    assert!(path.starts_with("/v1/tasks/") && made.header("event-id").len() == 36);
    let again = site.ask("POST", "/v1/tasks", &[auth, JSON, key], r#"{"title":"a"}"#).await;
    assert_eq!((again.header("idempotency-replayed"), again.header("location")), ("true", path.as_str()));
    assert_eq!(again.body, made.body);
    site.ask("POST", "/tasks", &[auth, JSON, key], r#"{"title":"b"}"#).await.problem(422);
    let same = site.ask("GET", &path, &[auth, ("if-none-match", "\"v1.0\"")], "").await;
    assert_eq!((same.status.as_u16(), same.body.len(), same.header("etag")), (304, 0, "\"v1.0\""));
    let merge = ("content-type", "application/merge-patch+json");
    site.ask("PATCH", &path, &[auth, merge, ("if-match", "\"v9\"")], r#"{"title":"b"}"#).await.problem(412);
    site.ask("PATCH", &path, &[auth, merge, ("if-match", "v1")], r#"{"title":"b"}"#).await.problem(400);
    let changed =
        site.ask("PATCH", &path, &[auth, merge, ("if-match", "\"v1.99\"")], r#"{"title":"b"}"#).await;
    assert_eq!((changed.status.as_u16(), changed.header("etag")), (200, "\"v2.0\""));
    let moved = format!("{path}/transitions");
    let moved = site.ask("POST", &moved, &[auth, JSON], r#"{"to":"done","resolution":"done"}"#).await;
    assert_eq!((moved.status.as_u16(), moved.header("etag")), (200, "\"v3.0\""));
    assert_eq!(site.ask("DELETE", &path, &[auth], "").await.status, 204);
    site.ask("GET", &path, &[auth], "").await.problem(404);
}

#[tokio::test]
async fn lists_have_pages_and_links() {
    let site = Site::new(&[]).await;
    let token = site.register("ada@example.org").await;
    let auth = ("authorization", token.as_str());
    for title in ["a", "b", "c"] {
        site.ask("POST", "/tasks", &[auth, JSON], json!({"title": title}).to_string()).await;
    }
    let first = site.ask("GET", "/v1/tasks?limit=2&reporter_id=me", &[auth], "").await;
    let next = first.json()["page"]["next_cursor"].as_str().unwrap().to_owned();
    assert_eq!(
        first.header("link"),
        format!("</v1/tasks?limit=2&reporter_id=me&cursor={next}>; rel=\"next\"")
    );
    let second =
        site.ask("GET", &format!("/v1/tasks?limit=2&reporter_id=me&cursor={next}"), &[auth], "").await;
    assert_eq!(second.json()["data"][0]["title"], "a");
    site.ask("GET", &format!("/v1/tasks?limit=2&cursor={next}"), &[auth], "").await.problem(400);
    let events = site.ask("GET", "/events?after=0&type=task.*&limit=2", &[auth], "").await.json();
    assert_eq!(
        (events["data"].as_array().unwrap().len(), events["page"]["next_cursor"].is_string()),
        (2, true)
    );
    let inbox = site.ask("GET", "/notifications?page=1&per_page=10", &[auth], "").await.json();
    assert_eq!((&inbox["total"], &inbox["total_pages"]), (&json!(0), &json!(0)));
    assert_eq!(
        site.ask("GET", "/notifications/unread-count", &[auth], "").await.json(),
        json!({"unread": 0})
    );
    assert_eq!(site.ask("POST", "/notifications/read-all", &[auth], "").await.json(), json!({"read": 0}));
}

#[tokio::test]
async fn metrics_are_for_this_machine_or_the_token() {
    let ask = |token: Option<&str>, peer: [u8; 4], forwarded: bool| {
        let mut request = Request::get("/metrics");
        if let Some(token) = token {
            request = request.header("authorization", token);
        }
        if forwarded {
            request = request.header("x-forwarded-for", "127.0.0.1");
        }
        let mut request = request.body(Body::empty()).unwrap();
        request.extensions_mut().insert(ConnectInfo(SocketAddr::from((peer, 4_000))));
        request
    };
    let (closed, open) = (Site::new(&[]).await, Site::new(&[("METRICS_TOKEN", "let-me-see")]).await);
    let (local, far) = ([127, 0, 0, 1], [203, 0, 113, 9]);
    assert_eq!(closed.send(ask(None, local, false)).await.status, 200);
    closed.send(ask(None, local, true)).await.problem(404);
    closed.send(ask(None, far, true)).await.problem(404);
    open.send(ask(None, far, false)).await.problem(401);
    open.send(ask(Some("Bearer let-me-se"), far, false)).await.problem(401);
    assert_eq!(open.send(ask(Some("Bearer let-me-see"), far, false)).await.status, 200);
}

#[tokio::test]
async fn browsers_may_call_from_named_origins_only() {
    let site = Site::new(&[("CORS_ORIGINS", "https://app.example.org")]).await;
    let preflight = |origin| {
        let headers = [("origin", origin), ("access-control-request-method", "POST")];
        (headers, "/v1/tasks")
    };
    let (headers, path) = preflight("https://app.example.org");
    let allowed = site.ask("OPTIONS", path, &headers, "").await;
    assert_eq!(allowed.header("access-control-allow-origin"), "https://app.example.org");
    assert_eq!(allowed.header("x-content-type-options"), "nosniff");
    let (headers, path) = preflight("https://evil.example.org");
    assert_eq!(site.ask("OPTIONS", path, &headers, "").await.header("access-control-allow-origin"), "");
    let off = Site::new(&[]).await;
    off.ask("OPTIONS", path, &headers, "").await.problem(405);
}

#[tokio::test]
async fn the_document_and_its_page_are_served() {
    let site = Site::new(&[]).await;
    let document = site.ask("GET", "/openapi.json", &[], "").await;
    assert_eq!(document.json()["info"]["title"], "Taskpost");
    assert_eq!(site.ask("GET", "/", &[], "").await.header("location"), "/docs/");
    let page = site.ask("GET", "/docs/", &[], "").await;
    assert!(page.header("content-type").starts_with("text/html"));
    let text = String::from_utf8_lossy(&page.body).into_owned();
    for part in text.split(['"', '\'']).filter(|part| [".js", ".css"].iter().any(|end| part.ends_with(end))) {
        let name = part.trim_start_matches("./");
        assert_eq!(site.ask("GET", &format!("/docs/{name}"), &[], "").await.status, 200, "{name}");
    }
    site.ask("GET", "/docs/nothing.js", &[], "").await.problem(404);
    assert_eq!(site.ask("HEAD", "/openapi.json", &[], "").await.status, 200);
}

#[test]
fn only_reads_have_queries_and_only_probes_no_limit() {
    for row in TABLE {
        assert!(row.input != Input::Query || row.method == Method::GET, "{}", row.path);
        assert!(
            row.limit != Limit::None || row.path.starts_with("/health") || row.path == "/metrics",
            "{}",
            row.path
        );
        assert!(row.access != Access::Anyone || row.limit != Limit::Write, "{}", row.path);
    }
}
