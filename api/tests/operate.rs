//! What the roles without the interface answer, and what the asking costs.
#![expect(clippy::unwrap_used, reason = "a test may stop at the first surprise")]

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use axum::{
    Router,
    body::Body,
    extract::ConnectInfo,
    http::{Request, Response},
};
use futures::future::{FutureExt as _, join_all};
use http_body_util::BodyExt as _;
use metrics_exporter_prometheus::PrometheusBuilder;
use serde_json::Value;
use taskpost_api::http::{Operate, operate};
use taskpost_common::Clock;
use taskpost_ports::PortHealth;
use taskpost_store::Db;
use taskpost_tracker::Checkup;
use tempfile::TempDir;
use tokio::sync::watch;
use tower::ServiceExt as _;

/// A role on a fresh store, with a part of its own.
struct Role {
    router: Router,
    db: Db,
    /// What is wrong with the part.
    problem: watch::Sender<Option<String>>,
    /// How often the part was asked.
    asked: Arc<AtomicUsize>,
    _folder: TempDir,
}

impl Role {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let db = Db::sqlite(folder.path()).await.unwrap();
        let (problem, asked) = (watch::Sender::new(None), Arc::new(AtomicUsize::new(0)));
        let (of, count) = (problem.subscribe(), Arc::clone(&asked));
        let checkup = Checkup::new(db.clone(), Clock::system()).part("queue", move || {
            count.fetch_add(1, Ordering::SeqCst);
            let problem = of.borrow().clone();
            async move {
                tokio::task::yield_now().await;
                PortHealth { name: "rabbitmq", problem }
            }
        });
        let router = operate(Operate {
            checkup,
            clock: Clock::system(),
            trusted_proxies: "".parse().unwrap(),
            metrics: PrometheusBuilder::new().build_recorder().handle(),
            metrics_token: Some("a token of the monitor".to_owned().into()),
        });
        Self { router, db, problem, asked, _folder: folder }
    }

    async fn send(&self, request: Request<Body>) -> Response<Body> {
        self.router.clone().oneshot(request).await.unwrap()
    }

    async fn get(&self, path: &str) -> Response<Body> {
        self.send(Request::get(path).body(Body::empty()).unwrap()).await
    }

    /// The status and the body of /health, once no older answer stands any more.
    async fn health(&self) -> (u16, Value) {
        let before = self.asked.load(Ordering::SeqCst);
        loop {
            let answer = self.get("/health").await;
            if self.asked.load(Ordering::SeqCst) > before {
                return (answer.status().as_u16(), json(answer).await);
            }
            tokio::task::yield_now().await;
        }
    }
}

async fn json(answer: Response<Body>) -> Value {
    serde_json::from_slice(&answer.into_body().collect().await.unwrap().to_bytes()).unwrap()
}

#[tokio::test]
async fn health_is_the_worst_of_the_parts() {
    let role = Role::new().await;
    let (status, health) = role.health().await;
    assert_eq!((status, &health["status"]), (503, &Value::from("down")), "{health}");
    let detail = health["checks"]["store"]["detail"].as_str().unwrap();
    assert!(detail.contains("`taskpost migrate up`"), "{detail}");

    role.db.migrate().await.unwrap();
    let (status, health) = role.health().await;
    assert_eq!((status, &health["status"]), (200, &Value::from("ok")), "{health}");
    assert_eq!(health["checks"]["queue"]["detail"], "rabbitmq");

    role.problem.send_replace(Some("RABBITMQ_URL: it is away; start it".to_owned()));
    let (status, health) = role.health().await;
    assert_eq!((status, &health["status"]), (200, &Value::from("degraded")), "{health}");
    assert_eq!(health["checks"]["queue"]["status"], "degraded");
    assert_eq!(health["checks"]["queue"]["detail"], "rabbitmq: RABBITMQ_URL: it is away; start it");
    assert_eq!(role.get("/health/ready").await.status(), 200, "the store keeps what is for the broker");

    role.db.close().await;
    let (status, health) = role.health().await;
    assert_eq!((status, &health["checks"]["store"]["status"]), (503, &Value::from("down")), "{health}");
    assert_eq!(role.get("/health/ready").await.status(), 503);
    let alive = role.get("/health/live").await;
    assert_eq!((alive.status().as_u16(), json(alive).await), (200, serde_json::json!({"status": "ok"})));
}

#[tokio::test]
async fn a_flood_of_questions_asks_the_parts_once() {
    let role = Role::new().await;
    role.db.migrate().await.unwrap();
    let flood = join_all((0..200).map(|_| role.get("/health/ready"))).await;
    assert!(flood.iter().all(|answer| answer.status() == 200));
    assert_eq!(role.asked.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn whoever_leaves_early_takes_the_answer_from_nobody() {
    let role = Role::new().await;
    role.db.migrate().await.unwrap();
    // Asked once and given up, before anything else has had a turn.
    let answer = role.get("/health").now_or_never();
    assert!(answer.is_none(), "an answer takes a moment");
    assert_eq!(role.get("/health").await.status(), 200);
    assert_eq!(role.asked.load(Ordering::SeqCst), 1, "the second joined the first one's round");
}

#[tokio::test]
async fn metrics_are_for_this_machine_or_the_token() {
    let role = Role::new().await;
    let ask = |peer: &str, token: &str| {
        let mut request = Request::get("/metrics").header("authorization", format!("Bearer {token}"));
        let peer: SocketAddr = peer.parse().unwrap();
        request.extensions_mut().unwrap().insert(ConnectInfo(peer));
        role.send(request.body(Body::empty()).unwrap())
    };
    assert_eq!(ask("127.0.0.1:9", "").await.status(), 200);
    assert_eq!(ask("192.0.2.1:9", "").await.status(), 401);
    let answer = ask("192.0.2.1:9", "a token of the monitor").await;
    assert_eq!(answer.status(), 200);
    assert!(answer.headers()["content-type"].to_str().unwrap().starts_with("text/plain"));
}

#[tokio::test]
async fn everything_else_is_a_problem_and_every_answer_is_hardened() {
    let role = Role::new().await;
    for (method, path, status) in [
        ("GET", "/tasks", 404),
        ("GET", "/v1/me", 404),
        ("GET", "/", 404),
        ("POST", "/health", 405),
        ("GET", "/health?verbose=1", 400),
        ("GET", &format!("/{}", "x".repeat(9_000)), 414),
        ("GET", "/health/live", 200),
    ] {
        let request = Request::builder().method(method).uri(path).header("x-request-id", "build-7");
        let answer = role.send(request.body(Body::empty()).unwrap()).await;
        assert_eq!(answer.status(), status, "{method} {path}");
        assert_eq!(answer.headers()["x-request-id"], "build-7");
        assert_eq!(answer.headers()["x-content-type-options"], "nosniff");
        if status != 200 {
            assert_eq!(answer.headers()["content-type"], "application/problem+json");
            assert_eq!(json(answer).await["status"], status);
        }
    }
}
