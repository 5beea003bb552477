//! `POST /tasks` up to its commit: the router, the caller's token and rate limit, the body read and checked, the task,
//! its event and the answer written.
//!
//! The committer is stopped, so that no disk is measured: a request that comes to it is answered 503 instead of 201.
//! Whole requests are measured by `cargo xtask bench`.
#![expect(clippy::unwrap_used, reason = "a bench may stop at the first surprise")]

use std::{hint::black_box, path::Path, sync::Arc};

use axum::{
    Router,
    body::Body,
    http::{Request, Response, StatusCode, header},
};
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use metrics_exporter_prometheus::PrometheusBuilder;
use taskpost_api::http::{App, router};
use taskpost_common::{Clock, config::Config};
use taskpost_ports::{Limiter, Log, Spread, Wakes};
use taskpost_store::Db;
use taskpost_tracker::{CreateTask, Parts, Register, RequestInfo, Tracker};
use tokio::{runtime::Builder, task::JoinSet};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

const TASK: &str = concat!(
    r#"{"title":"Fix the lift in house 7","#,
    r#""description":"It stops between the second and the third floor.\n\n- the doors stay shut\n- the alarm works","#,
    r#""type":"bug","priority":"high","labels":["lift","house-7"]}"#,
);

/// The product's.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn create_task(c: &mut Criterion) {
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let site = runtime.block_on(Site::start(folder.path()));

    let mut group = c.benchmark_group("create_task");
    group.throughput(Throughput::ElementsAndBytes { elements: 1, bytes: TASK.len() as u64 });
    // As the handler does it, which looks for faults only when this fails.
    group.bench_function("deserialize", |b| {
        b.iter(|| serde_json::from_slice::<CreateTask>(black_box(TASK.as_bytes())).unwrap());
    });
    group.bench_function("request", |b| {
        b.to_async(&runtime).iter_batched(
            || site.request(),
            |request| site.send(request),
            BatchSize::SmallInput,
        );
    });
    group.finish();
}

struct Site {
    router: Router,
    authorization: String,
}

impl Site {
    /// On a store of its own, in which nothing can be stored any more.
    async fn start(folder: &Path) -> Self {
        let variable = |name: &str| match name {
            "FIRST_USER_IS_ADMIN" => Some("false".to_owned()),
            "RATE_LIMIT_WRITE" => Some("1000000/s".to_owned()),
            _ => None,
        };
        let config = Config::load(variable).unwrap();
        let db = Db::sqlite(folder).await.unwrap();
        db.migrate().await.unwrap();
        let (wakes, clock) = (Wakes::default(), Clock::system());
        let limiter = Arc::new(Limiter::local(&config.limits));
        let parts = Parts {
            log: Log::local(db.clone(), wakes.clone(), clock.clone()),
            queue: None,
            limiter: Arc::clone(&limiter),
            spread: Spread::Local,
            secrets: vec!["a secret that is long enough for a bench".to_owned().into()],
            db,
            wakes,
            clock,
        };
        let metrics = PrometheusBuilder::new().install_recorder().unwrap();
        let (mut tasks, stop) = (JoinSet::new(), CancellationToken::new());
        let tracker = Tracker::start(parts, &config, &mut tasks, stop.clone()).await.unwrap();
        let authorization = format!("Bearer {}", register(&tracker).await);
        let router = router(App {
            tracker,
            limiter,
            trusted_proxies: config.limits.trusted_proxies,
            metrics,
            metrics_token: None,
            cors_origins: Vec::new(),
            https: false,
        });
        let site = Self { router, authorization };
        assert_eq!(site.send(site.request()).await.status(), StatusCode::CREATED);
        stop.cancel();
        tasks.join_all().await;
        assert_eq!(site.send(site.request()).await.status(), StatusCode::SERVICE_UNAVAILABLE);
        site
    }

    fn request(&self) -> Request<Body> {
        Request::post("/tasks")
            .header(header::HOST, "localhost:3000")
            .header(header::AUTHORIZATION, &self.authorization)
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::CONTENT_LENGTH, TASK.len())
            .body(Body::from(TASK))
            .unwrap()
    }

    async fn send(&self, request: Request<Body>) -> Response<Body> {
        self.router.clone().oneshot(request).await.unwrap()
    }
}

/// The token of a new account.
async fn register(tracker: &Tracker) -> String {
    let (email, password) = ("ada@example.org".to_owned(), "correct horse battery".to_owned());
    let input = Register { email, name: "Ada".to_owned(), password };
    tracker.register(&RequestInfo::default(), input).await.unwrap().0.access_token
}

criterion_group!(benches, create_task);
criterion_main!(benches);
