//! One request from its first line to its last: its names, its headers, its metrics and its line in the log.

use std::time::{Duration, Instant};

use axum::{
    extract::Request,
    http::{HeaderValue, StatusCode, Uri},
    response::Response,
};
use taskpost_common::{Clock, UserId};
use taskpost_ports::limiter::{Decision, LimitClass};
use tracing::{debug, info, warn};

use super::{
    Route,
    meter::Meter,
    problem::{ApiError, Failure},
    reply,
    trace::{REQUEST_ID, Trace},
};
use crate::rate_limit::Policies;

/// From here on a request is worth a line that is seen.
const SLOW: Duration = Duration::from_secs(1);

/// What every visit needs of the router it comes to.
pub(crate) struct Front {
    clock: Clock,
    https: bool,
    policies: Policies,
    /// One for each row.
    meters: Vec<Meter>,
}

impl Front {
    pub(crate) fn new(rows: impl Iterator<Item = &'static Route>, clock: Clock, https: bool) -> Self {
        Self { clock, https, policies: Policies::default(), meters: rows.map(Meter::new).collect() }
    }
}

/// What is known of a request besides itself.
pub(crate) struct Visit {
    started: Instant,
    row: &'static Route,
    index: usize,
    uri: Uri,
    pub(crate) trace: Trace,
    /// Who calls, once that is known.
    pub(crate) user_id: Option<UserId>,
    /// What the limiter said last.
    pub(crate) limited: Option<(LimitClass, Decision)>,
}

/// What a handler was told that took more from the limit.
#[derive(Clone, Copy)]
pub(crate) struct Charged(pub(crate) LimitClass, pub(crate) Decision);

impl Visit {
    pub(crate) fn begin(front: &Front, row: &'static Route, index: usize, request: &Request) -> Self {
        Self {
            started: Instant::now(),
            row,
            index,
            uri: request.uri().clone(),
            trace: Trace::new(request.headers(), front.clock.id()),
            user_id: None,
            limited: None,
        }
    }

    /// Completes the response and tells of it, once.
    pub(crate) fn finish(mut self, front: &Front, mut response: Response) -> Response {
        let failure = response.extensions_mut().remove::<Failure>();
        if let Some(Failure(error)) = &failure {
            error.render(&mut response, self.uri.path(), self.trace.trace_id());
            if let ApiError::Limited(class, decision) = **error {
                self.limited = Some((class, decision));
            }
        }
        if let Some(Charged(class, decision)) = response.extensions_mut().remove() {
            self.limited = Some((class, decision));
        }
        let headers = response.headers_mut();
        reply::harden(headers, front.https);
        if let Some((class, decision)) = &self.limited {
            front.policies.tell(headers, *class, decision);
        }
        let request_id = std::mem::replace(&mut self.trace.request_id, HeaderValue::from_static(""));
        headers.insert(REQUEST_ID, request_id.clone());
        let (status, took) = (response.status(), self.started.elapsed());
        if let Some(meter) = front.meters.get(self.index) {
            meter.record(status, took);
        }
        self.log(status, took, &request_id, failure);
        response
    }

    fn log(&self, status: StatusCode, took: Duration, request_id: &HeaderValue, failure: Option<Failure>) {
        // A macro, because the level of an event is part of its static description.
        macro_rules! line {
            ($level:ident, $($field:tt)*) => {
                $level!(
                    request_id = request_id.to_str().unwrap_or_default(),
                    trace_id = self.trace.trace_id(),
                    method = %self.row.method,
                    route = self.row.path,
                    status = status.as_u16(),
                    ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
                    user_id = self.user_id.map(tracing::field::display),
                    $($field)*
                )
            };
        }
        match failure {
            Some(Failure(error)) if status.is_server_error() => {
                line!(warn, error = error.cause(), "request failed");
            }
            _ if status.is_server_error() || took > SLOW => line!(info, "request"),
            _ => line!(debug, "request"),
        }
    }
}
