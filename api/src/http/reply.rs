//! Answers and the headers they share.

use axum::{
    body::Body,
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header},
    response::Response,
};
use serde::Serialize;
use taskpost_common::{EventId, task::Task};
use taskpost_store::idempotency::StoredAnswer;
use taskpost_tracker::Answered;

use super::problem::Result;

const EVENT_ID: HeaderName = HeaderName::from_static("event-id");
const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");
const JSON: HeaderValue = HeaderValue::from_static("application/json");
const NOSNIFF: HeaderValue = HeaderValue::from_static("nosniff");
const NO_REFERRER: HeaderValue = HeaderValue::from_static("no-referrer");
const NOTHING: HeaderValue = HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'");
const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");
const TWO_YEARS: HeaderValue = HeaderValue::from_static("max-age=63072000; includeSubDomains");

/// What every answer says to a browser. What a handler said itself stays.
pub(crate) fn harden(headers: &mut HeaderMap, https: bool) {
    headers.reserve(10);
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, NOSNIFF);
    headers.insert(header::REFERRER_POLICY, NO_REFERRER);
    headers.entry(header::CONTENT_SECURITY_POLICY).or_insert(NOTHING);
    headers.entry(header::CACHE_CONTROL).or_insert(NO_STORE);
    if https {
        headers.insert(header::STRICT_TRANSPORT_SECURITY, TWO_YEARS);
    }
}

/// An answer in the making.
pub(crate) struct Reply(Response);

impl Reply {
    /// No body.
    pub(crate) fn empty(status: StatusCode) -> Self {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = status;
        Self(response)
    }

    /// A body of JSON text.
    pub(crate) fn text(status: StatusCode, body: impl Into<Body>) -> Self {
        let mut response = Response::new(body.into());
        *response.status_mut() = status;
        response.headers_mut().insert(header::CONTENT_TYPE, JSON);
        Self(response)
    }

    /// A value as JSON.
    pub(crate) fn json(status: StatusCode, value: &impl Serialize) -> Result<Self> {
        Ok(Self::text(status, serde_json::to_vec(value)?))
    }

    /// An answer that the tracker made, or keeps.
    pub(crate) fn answered(Answered { answer, replayed }: Answered) -> Self {
        let StoredAnswer { status, location, etag, event_id, body } = answer;
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::OK);
        let mut reply = Self::text(status, body).event(event_id);
        if let Some(location) = location {
            reply = reply.location(&location);
        }
        if let Some(etag) = etag {
            reply = reply.etag(&etag);
        }
        if replayed { reply.with(REPLAYED, "true") } else { reply }
    }

    /// The last event of the change.
    pub(crate) fn event(self, id: Option<EventId>) -> Self {
        match id {
            Some(id) => self.with(EVENT_ID, id.0.hyphenated().encode_lower(&mut uuid::Uuid::encode_buffer())),
            None => self,
        }
    }

    pub(crate) fn location(self, path: &str) -> Self {
        self.with(header::LOCATION, path)
    }

    pub(crate) fn etag(self, etag: &str) -> Self {
        // A cache may keep it, but asks before it uses it.
        self.with(header::ETAG, etag).with(header::CACHE_CONTROL, "private, no-cache")
    }

    pub(crate) fn with(mut self, name: HeaderName, value: &str) -> Self {
        if let Ok(value) = HeaderValue::from_str(value) {
            self.0.headers_mut().insert(name, value);
        }
        self
    }

    pub(crate) fn done(self) -> Response {
        self.0
    }
}

/// `"v7"`.
pub(crate) fn version_tag(version: i64) -> String {
    format!("\"v{version}\"")
}

/// `"v7.12"`: a comment changes what is shown, but not the version.
pub(crate) fn task_tag(task: &Task) -> String {
    format!("\"v{}.{}\"", task.version, task.comment_count)
}

/// An answer for the tracker to keep.
pub(crate) fn stored(
    status: StatusCode,
    value: &impl Serialize,
    event_id: Option<EventId>,
) -> std::result::Result<StoredAnswer, serde_json::Error> {
    Ok(StoredAnswer {
        status: status.as_u16(),
        location: None,
        etag: None,
        event_id,
        body: serde_json::to_string(value)?,
    })
}
