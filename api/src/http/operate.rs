//! What the roles without the interface answer: how they are, and their metrics. Their rows are those of the table.

use std::sync::Arc;

use axum::{
    Router,
    body::Body,
    extract::{MatchedPath, Request, State},
    middleware::{Next, from_fn_with_state},
    response::{IntoResponse as _, Response},
    routing::get,
};
use metrics_exporter_prometheus::PrometheusHandle;
use secrecy::SecretString;
use taskpost_common::{Clock, net::TrustedProxies};
use taskpost_tracker::Checkup;

use super::{
    Route, TABLE,
    app::{UNKNOWN_PATH, unknown_method},
    body,
    health::{Meters, live, tell},
    meter,
    middleware::{check_query, check_size, guard},
    problem::{ApiError, Result},
    visit::{Front, Visit},
};

/// What these answers are made from.
#[derive(Clone)]
pub struct Operate {
    /// Asks the parts that the role stands on.
    pub checkup: Checkup,
    /// Time and ids.
    pub clock: Clock,
    /// Whose X-Forwarded-For is believed.
    pub trusted_proxies: TrustedProxies,
    /// The recorder's output. Install the recorder before [`operate`] is called.
    pub metrics: PrometheusHandle,
    /// Lets others than loopback read /metrics.
    pub metrics_token: Option<SecretString>,
}

struct Desk {
    operate: Operate,
    rows: Vec<&'static Route>,
    front: Front,
}

/// The router of /health, /health/live, /health/ready and /metrics alone.
pub fn operate(operate: Operate) -> Router {
    meter::describe();
    let paths = ["/health", "/health/live", "/health/ready", "/metrics"];
    let rows = TABLE.iter().filter(|row| paths.contains(&row.path)).chain([&UNKNOWN_PATH]);
    let rows: Vec<&'static Route> = rows.collect();
    let front = Front::new(rows.iter().copied(), operate.clock.clone(), false);
    let desk = Arc::new(Desk { operate, rows, front });
    Router::new()
        .route("/health", get(health))
        .route("/health/live", get(live))
        .route("/health/ready", get(health))
        .route("/metrics", get(metrics))
        .fallback(unknown_path)
        .method_not_allowed_fallback(unknown_method)
        .layer(from_fn_with_state(Arc::clone(&desk), visit))
        .with_state(desk)
}

async fn health(State(desk): State<Arc<Desk>>) -> Result<Response> {
    tell(&desk.operate.checkup.health().await)
}

async fn metrics(State(desk): State<Arc<Desk>>, request: Request) -> Result<Response> {
    let Operate { metrics, metrics_token, trusted_proxies, .. } = &desk.operate;
    Meters { metrics, metrics_token: metrics_token.as_ref(), trusted_proxies }.read(&request)
}

async fn unknown_path() -> Result<Response> {
    Err(ApiError::not_found("this role answers /health, /health/live, /health/ready and /metrics"))
}

/// What happens to every request before and after its handler.
async fn visit(State(desk): State<Arc<Desk>>, request: Request, next: Next) -> Response {
    let (index, row) = desk.row(&request);
    let visit = Visit::begin(&desk.front, row, index, &request);
    let response = match admit(row, request).await {
        Ok(request) => guard(next.run(request)).await,
        Err(error) => error.into_response(),
    };
    visit.finish(&desk.front, response)
}

async fn admit(row: &Route, request: Request) -> Result<Request> {
    check_size(&request)?;
    check_query(row, &request)?;
    let (parts, body) = request.into_parts();
    body::read(&parts.headers, body, row.input).await?;
    Ok(Request::from_parts(parts, Body::empty()))
}

impl Desk {
    fn row(&self, request: &Request) -> (usize, &'static Route) {
        let path = request.extensions().get::<MatchedPath>().map(MatchedPath::as_str);
        let known = self.rows.iter().position(|row| Some(row.path) == path);
        let index = known.unwrap_or(self.rows.len().saturating_sub(1));
        (index, self.rows.get(index).copied().unwrap_or(&UNKNOWN_PATH))
    }
}
