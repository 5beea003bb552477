//! Error codes: the one table from what went wrong to the status a client sees (RFC 9457).

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What kind of failure this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    /// The request cannot be read: syntax, an unknown query key, a bad cursor.
    BadRequest,
    /// No token, or not a good one.
    Unauthenticated,
    /// Known, but not allowed.
    Forbidden,
    /// Not there, or not for this caller to know of.
    NotFound,
    /// The path takes other methods.
    MethodNotAllowed,
    /// It took too long to send the body.
    RequestTimeout,
    /// The state does not allow it.
    Conflict,
    /// If-Match names another version.
    PreconditionFailed,
    /// The body is too large.
    TooLarge,
    /// The address is too long.
    UriTooLong,
    /// The body is not JSON, or is compressed.
    UnsupportedMediaType,
    /// The body was read, but a value in it is not right.
    Invalid,
    /// Too many header fields.
    HeadersTooLarge,
    /// Over the limit.
    RateLimited,
    /// Our own fault; the detail is in the log only.
    Internal,
    /// A method or a coding that nothing here has.
    NotImplemented,
    /// A part this needs is away or full; come back later.
    Unavailable,
}

impl Code {
    /// (HTTP status, last part of the problem's type, title).
    pub const fn row(self) -> (u16, &'static str, &'static str) {
        match self {
            Self::BadRequest => (400, "bad-request", "Bad request"),
            Self::Unauthenticated => (401, "unauthenticated", "Authentication required"),
            Self::Forbidden => (403, "forbidden", "Forbidden"),
            Self::NotFound => (404, "not-found", "Not found"),
            Self::MethodNotAllowed => (405, "method-not-allowed", "Method not allowed"),
            Self::RequestTimeout => (408, "request-timeout", "Request timeout"),
            Self::Conflict => (409, "conflict", "Conflict"),
            Self::PreconditionFailed => (412, "precondition-failed", "Precondition failed"),
            Self::TooLarge => (413, "too-large", "Content too large"),
            Self::UriTooLong => (414, "uri-too-long", "URI too long"),
            Self::UnsupportedMediaType => (415, "unsupported-media-type", "Unsupported media type"),
            Self::Invalid => (422, "invalid", "Invalid content"),
            Self::RateLimited => (429, "rate-limited", "Too many requests"),
            Self::HeadersTooLarge => (431, "headers-too-large", "Request header fields too large"),
            Self::Internal => (500, "internal", "Internal error"),
            Self::NotImplemented => (501, "not-implemented", "Not implemented"),
            Self::Unavailable => (503, "unavailable", "Service unavailable"),
        }
    }

    /// The HTTP status.
    pub const fn status(self) -> u16 {
        self.row().0
    }
}

/// One value that is not right, and where it stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FieldError {
    /// JSON pointer (RFC 6901) into the body, or `?name` for a query key.
    pub pointer: String,
    /// A word for programs.
    pub code: String,
    /// A sentence for people.
    pub detail: String,
}

impl FieldError {
    /// A field error from its three parts.
    pub fn new(pointer: impl Into<String>, code: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { pointer: pointer.into(), code: code.into(), detail: detail.into() }
    }
}

/// The body of every error answer (RFC 9457), and a failed item of a batch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Problem {
    /// `/problems/` and the code.
    #[serde(rename = "type")]
    pub kind: String,
    /// The code in words.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// What happened and what to do.
    pub detail: String,
    /// The path that was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instance: Option<String>,
    /// Names the request in the logs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trace_id: Option<String>,
    /// Which values are not right.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<FieldError>,
}

impl Problem {
    /// A problem of `code`, not yet bound to a request.
    pub fn new(code: Code, detail: impl Into<String>, errors: Vec<FieldError>) -> Self {
        let (status, slug, title) = code.row();
        Self {
            kind: format!("/problems/{slug}"),
            title: title.to_owned(),
            status,
            detail: detail.into(),
            instance: None,
            trace_id: None,
            errors,
        }
    }
}
