//! The metrics of one route, registered once, so that a request looks nothing up.

use std::{sync::OnceLock, time::Duration};

use axum::http::StatusCode;
use metrics::{Counter, Histogram, Unit, counter, describe_counter, describe_histogram, histogram};

use super::Route;

/// The statuses that are counted by name; the rest are `other`.
const STATUSES: [u16; 24] = [
    200, 201, 202, 204, 207, 304, 307, 400, 401, 403, 404, 405, 408, 409, 412, 413, 414, 415, 422, 429, 431,
    500, 501, 503,
];

pub(crate) struct Meter {
    method: &'static str,
    route: &'static str,
    seconds: Histogram,
    /// One for each of [`STATUSES`], then the one of `other`.
    requests: [OnceLock<Counter>; STATUSES.len() + 1],
}

/// Says what the metrics are.
pub(crate) fn describe() {
    describe_counter!("taskpost_http_requests_total", "Requests answered, by route and status.");
    describe_histogram!(
        "taskpost_http_request_seconds",
        Unit::Seconds,
        "Time from a request's head to its answer's."
    );
}

impl Meter {
    pub(crate) fn new(row: &'static Route) -> Self {
        let (method, route) = (row.method.as_str(), row.path);
        Self {
            method,
            route,
            seconds: histogram!("taskpost_http_request_seconds", "method" => method, "route" => route),
            requests: [const { OnceLock::new() }; STATUSES.len() + 1],
        }
    }

    pub(crate) fn record(&self, status: StatusCode, took: Duration) {
        self.seconds.record(took.as_secs_f64());
        let place = STATUSES.iter().position(|known| *known == status.as_u16()).unwrap_or(STATUSES.len());
        if let Some(slot) = self.requests.get(place) {
            slot.get_or_init(|| self.counter(place)).increment(1);
        }
    }

    fn counter(&self, place: usize) -> Counter {
        let status = STATUSES.get(place).map_or_else(|| "other".to_owned(), u16::to_string);
        counter!("taskpost_http_requests_total", "method" => self.method, "route" => self.route, "status" => status)
    }
}
