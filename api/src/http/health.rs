//! What probes and monitors ask.

use std::net::{IpAddr, SocketAddr};

use axum::{
    extract::{ConnectInfo, Request, State},
    http::{StatusCode, header},
    response::Response,
};
use metrics_exporter_prometheus::PrometheusHandle;
use secrecy::{ExposeSecret as _, SecretString};
use serde::Serialize;
use subtle::ConstantTimeEq as _;
use taskpost_common::net::TrustedProxies;
use taskpost_tracker::{Error, Health};
use utoipa::ToSchema;

use super::{
    app::{App, Shared},
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
    tell(&api.app.tracker.health().await)
}

/// The whole of it, with the status that probes go by.
pub(super) fn tell(health: &Health) -> Result<Response> {
    let status = if health.is_ready() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    Ok(Reply::json(status, health)?.done())
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
    tell(&api.app.tracker.health().await)
}

/// Read the metrics
///
/// In the text format of Prometheus. For this machine, or with METRICS_TOKEN as a bearer token.
#[utoipa::path(
    get, path = "/metrics", tag = "operate",
    responses((status = 200, description = "The metrics.", body = String, content_type = "text/plain"))
)]
pub(crate) async fn metrics(State(api): State<Shared>, request: Request) -> Result<Response> {
    let App { metrics, metrics_token, trusted_proxies, .. } = &api.app;
    Meters { metrics, metrics_token: metrics_token.as_ref(), trusted_proxies }.read(&request)
}

/// What decides who may read the metrics, and what they are.
pub(super) struct Meters<'a> {
    pub(super) metrics: &'a PrometheusHandle,
    pub(super) metrics_token: Option<&'a SecretString>,
    pub(super) trusted_proxies: &'a TrustedProxies,
}

impl Meters<'_> {
    pub(super) fn read(&self, request: &Request) -> Result<Response> {
        if !self.is_local(request) {
            self.check_token(request)?;
        }
        Ok(Reply::text(StatusCode::OK, self.metrics.render())
            .with(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")
            .done())
    }

    /// Whether the request was sent on this machine. What a proxy passes on was not, if the proxy is not known.
    fn is_local(&self, request: &Request) -> bool {
        let proxies = self.trusted_proxies;
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

    fn check_token(&self, request: &Request) -> Result<()> {
        let Some(token) = self.metrics_token else {
            return Err(ApiError::not_found(
                "metrics are for this machine; METRICS_TOKEN opens them to others",
            ));
        };
        let given = bearer(request.headers()).unwrap_or_default();
        let good: bool = token.expose_secret().as_bytes().ct_eq(given.as_bytes()).into();
        if good { Ok(()) } else { Err(Error::Unauthenticated.into()) }
    }
}
