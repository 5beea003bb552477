//! The names of a request: its own id, and its place in a trace (W3C Trace Context).

use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use taskpost_common::trace;
use tracing::{Span, field::Empty, info_span};
use uuid::Uuid;

use super::Route;

pub(crate) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// The names of one request.
#[derive(Debug)]
pub(crate) struct Trace {
    /// Always our own, so that nobody can add to what another request brought about.
    pub(crate) correlation_id: Uuid,
    /// The client's, if it is a plain word, else the correlation id.
    pub(crate) request_id: HeaderValue,
    /// What the request's events carry: its span's where there is one, else the client's or one begun here.
    pub(crate) traceparent: String,
    /// Whether the client is in a trace already.
    continued: bool,
}

impl Trace {
    pub(crate) fn new(headers: &HeaderMap, correlation_id: Uuid) -> Self {
        let given_id = headers.get(REQUEST_ID).filter(|id| is_plain(id.as_bytes()));
        let request_id = given_id.cloned().unwrap_or_else(|| own_id(correlation_id));
        let given = given(headers).and_then(trace::parse);
        let continued = given.is_some();
        let traceparent = given.unwrap_or_else(|| begin(correlation_id));
        Self { correlation_id, request_id, traceparent, continued }
    }

    /// Begins the request's span, from which all that it brings about goes on.
    pub(crate) fn enter(&mut self, row: &Route) -> Span {
        let span = info_span!(
            target: trace::TARGET,
            parent: None,
            "http request",
            otel.kind = "server",
            otel.status_code = Empty,
            http.request.method = row.method.as_str(),
            http.route = row.path,
            http.response.status_code = Empty,
        );
        trace::child_of(&span, self.continued.then_some(self.traceparent.as_str()));
        if let Some(own) = trace::traceparent_of(&span) {
            self.traceparent = own;
        }
        span
    }

    /// 32 hexadecimal digits.
    pub(crate) fn trace_id(&self) -> &str {
        trace::id(&self.traceparent)
    }
}

/// Says in its span how a request was answered.
pub(crate) fn answered(span: &Span, status: StatusCode) {
    span.record("http.response.status_code", status.as_u16());
    if status.is_server_error() {
        span.record("otel.status_code", "ERROR");
    }
}

fn own_id(id: Uuid) -> HeaderValue {
    let mut buffer = Uuid::encode_buffer();
    HeaderValue::from_str(id.hyphenated().encode_lower(&mut buffer))
        .unwrap_or(HeaderValue::from_static("unnamed"))
}

fn is_plain(id: &[u8]) -> bool {
    (1..=64).contains(&id.len()) && id.iter().all(|c| c.is_ascii_alphanumeric() || matches!(c, b'_' | b'-'))
}

/// The header, if there is just one.
fn given(headers: &HeaderMap) -> Option<&str> {
    let mut lines = headers.get_all(TRACEPARENT).iter();
    let first = lines.next()?;
    if lines.next().is_some() { None } else { first.to_str().ok() }
}

/// A trace of our own, named by the correlation id; its last 8 bytes, most of them random, are the first span.
fn begin(correlation_id: Uuid) -> String {
    let span = correlation_id.as_u64_pair().1;
    format!("00-{}-{span:016x}-00", correlation_id.simple())
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn trace(name: &'static str, value: &str) -> Trace {
        let mut headers = HeaderMap::new();
        headers.insert(name, HeaderValue::from_str(value).unwrap());
        Trace::new(&headers, Uuid::from_u128(0x0192_0000_0000_7000_8000_0000_0000_0001))
    }

    #[test]
    fn keeps_valid_traces_and_begins_others() {
        assert_eq!(trace("traceparent", GOOD).traceparent, GOOD);
        assert_eq!(trace("traceparent", GOOD).trace_id(), "4bf92f3577b34da6a3ce929d0e0e4736");
        let later = format!("cc{}-what-comes", &GOOD[2..]);
        assert_eq!(trace("traceparent", &later).traceparent, GOOD);
        let own = "00-01920000000070008000000000000001-8000000000000001-00";
        for text in [format!("{GOOD}-more"), GOOD.to_uppercase(), String::new()] {
            assert_eq!(trace("traceparent", &text).traceparent, own, "{text}");
        }
    }

    #[test]
    fn keeps_plain_request_ids() {
        assert_eq!(trace("x-request-id", "job-7_A").request_id, "job-7_A");
        for text in ["", "a b", "a\tb", "ä", &"a".repeat(65)] {
            assert_eq!(
                trace("x-request-id", text).request_id,
                "01920000-0000-7000-8000-000000000001",
                "{text}"
            );
        }
    }
}
