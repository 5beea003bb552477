//! What probes and monitors ask.

use std::net::{IpAddr, SocketAddr};

use axum::{
    extract::{ConnectInfo, Request, State},
    http::{StatusCode, header},
    response::Response,
};
use secrecy::ExposeSecret as _;
use serde::Serialize;
use subtle::ConstantTimeEq as _;
use taskpost_tracker::{Error, Health};
use utoipa::ToSchema;

use super::{
    app::{Api, Shared},
    middleware::bearer,
    problem::{ApiError, Result},
    reply::Reply,
};
use crate::rate_limit::client_ip;

/// Show how every part is
#[utoipa::path(
    get, path = "/health", tag = "operate",
    responses(
        (status = 200, description = "It works; `degraded` names what needs looking after.", body = Health),
        (status = 503, description = "It does not work, and why.", body = Health)
    )
)]
pub(crate) async fn health(State(api): State<Shared>) -> Result<Response> {
    let health = api.app.tracker.health().await;
    Ok(Reply::json(ready_status(&health), &health)?.done())
}

/// A word.
#[derive(Serialize, ToSchema)]
pub(crate) struct Alive {
    /// `ok`.
    status: &'static str,
}

/// Ask whether the process answers
#[utoipa::path(get, path = "/health/live", tag = "operate", responses((status = 200, description = "It does.", body = Alive)))]
pub(crate) async fn live() -> Result<Response> {
    Ok(Reply::json(StatusCode::OK, &Alive { status: "ok" })?.done())
}

/// Ask whether requests may be sent here
#[utoipa::path(
    get, path = "/health/ready", tag = "operate",
    responses(
        (status = 200, description = "They may.", body = Health),
        (status = 503, description = "Not now, and why.", body = Health)
    )
)]
pub(crate) async fn ready(State(api): State<Shared>) -> Result<Response> {
    let health = api.app.tracker.health().await;
    Ok(Reply::json(ready_status(&health), &health)?.done())
}

fn ready_status(health: &Health) -> StatusCode {
    if health.is_ready() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }
}

/// Read the metrics
///
/// In the text format of Prometheus. For this machine, or with METRICS_TOKEN as a bearer token.
#[utoipa::path(
    get, path = "/metrics", tag = "operate",
    responses((status = 200, description = "The metrics.", body = String, content_type = "text/plain"))
)]
pub(crate) async fn metrics(State(api): State<Shared>, request: Request) -> Result<Response> {
    if !is_local(&api, &request) {
        check_token(&api, &request)?;
    }
    let text = api.app.metrics.render();
    Ok(Reply::text(StatusCode::OK, text)
        .with(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")
        .done())
}

/// Whether the request was sent on this machine. What a proxy passes on was not, if the proxy is not known.
fn is_local(api: &Api, request: &Request) -> bool {
    let proxies = &api.app.trusted_proxies;
    let (headers, extensions) = (request.headers(), request.extensions());
    let peer = extensions.get::<ConnectInfo<SocketAddr>>().map(|ConnectInfo(peer)| peer.ip());
    let forwarded =
        ["x-forwarded-for", "forwarded", "x-real-ip"].iter().any(|name| headers.contains_key(*name));
    let local = |ip: IpAddr| ip.to_canonical().is_loopback();
    match peer {
        Some(peer) if forwarded && !proxies.contains(peer) => false,
        Some(_) => local(client_ip(proxies, headers, extensions)),
        None => false,
    }
}

fn check_token(api: &Api, request: &Request) -> Result<()> {
    let Some(token) = &api.app.metrics_token else {
        return Err(ApiError::not_found("metrics are for this machine; METRICS_TOKEN opens them to others"));
    };
    let given = bearer(request.headers()).unwrap_or_default();
    let good: bool = token.expose_secret().as_bytes().ct_eq(given.as_bytes()).into();
    if good { Ok(()) } else { Err(Error::Unauthenticated.into()) }
}
