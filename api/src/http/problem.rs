//! Failures as answers: RFC 9457 `application/problem+json`.
//!
//! A handler's failure rides in the extensions of an empty response until the request's end, where it gets its body
//! and, once, its line in the log.

use std::{any::Any, borrow::Cow, sync::Arc, time::Duration};

use axum::{
    body::Body,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use taskpost_common::problem::{Code, FieldError, Problem};
use taskpost_ports::limiter::{Decision, LimitClass};
use taskpost_tracker::Error;

/// What handlers and extractors give back.
pub(crate) type Result<T> = std::result::Result<T, ApiError>;

/// Why a request gets no other answer.
#[derive(Debug)]
pub(crate) enum ApiError {
    /// The use case says no.
    Tracker(Error),
    /// The request does not get as far as a use case.
    Refused { code: Code, detail: Cow<'static, str>, errors: Vec<FieldError> },
    /// Over the limit.
    Limited(LimitClass, Decision),
    /// The handler took too long; what it began may still happen.
    Late,
    /// The handler panicked.
    Panicked(String),
}

/// The failure of a response.
#[derive(Clone)]
pub(crate) struct Failure(pub(crate) Arc<ApiError>);

impl ApiError {
    pub(crate) fn new(code: Code, detail: impl Into<Cow<'static, str>>) -> Self {
        Self::Refused { code, detail: detail.into(), errors: Vec::new() }
    }

    pub(crate) fn bad_request(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Code::BadRequest, detail)
    }

    pub(crate) fn not_found(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Code::NotFound, detail)
    }

    pub(crate) fn method_not_allowed() -> Self {
        Self::new(
            Code::MethodNotAllowed,
            "this address does not take that method; the Allow header names those it does",
        )
    }

    /// A value that cannot be read, and where it stands.
    pub(crate) fn at(code: Code, error: FieldError) -> Self {
        let place = if error.pointer.is_empty() { "the body" } else { error.pointer.as_str() };
        let detail = format!("{place}: {}", error.detail).into();
        Self::Refused { code, detail, errors: vec![error] }
    }

    pub(crate) fn panicked(panic: &(dyn Any + Send)) -> Self {
        let text = panic.downcast_ref::<&str>().map(ToString::to_string);
        let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
        Self::Panicked(text.unwrap_or_else(|| "not a text".to_owned()))
    }

    pub(crate) const fn code(&self) -> Code {
        match self {
            Self::Tracker(error) => error.code(),
            Self::Refused { code, .. } => *code,
            Self::Limited(..) => Code::RateLimited,
            Self::Late => Code::Unavailable,
            Self::Panicked(_) => Code::Internal,
        }
    }

    /// What the client is told.
    pub(crate) fn problem(&self) -> Problem {
        match self {
            Self::Tracker(error) => error.problem(),
            Self::Refused { code, detail, errors } => Problem::new(*code, detail.as_ref(), errors.clone()),
            Self::Limited(class, _) => {
                let detail =
                    format!("over the limit of {} requests; Retry-After says when to go on", class.as_str());
                Problem::new(Code::RateLimited, detail, Vec::new())
            }
            Self::Late => {
                let detail =
                    "it took too long and may still happen; ask again, changes with an Idempotency-Key";
                Problem::new(Code::Unavailable, detail, Vec::new())
            }
            Self::Panicked(_) => {
                let detail = "something went wrong on our side; the trace id names it in the log";
                Problem::new(Code::Internal, detail, Vec::new())
            }
        }
    }

    /// When to come back, in whole seconds.
    pub(crate) fn retry_after(&self) -> Option<u64> {
        let wait = match self {
            Self::Tracker(error) => error.retry_after()?,
            Self::Limited(_, decision) => decision.retry_after,
            Self::Late => Duration::from_secs(1),
            Self::Refused { .. } | Self::Panicked(_) => return None,
        };
        Some((wait.as_secs() + u64::from(wait.subsec_nanos() > 0)).max(1))
    }

    /// What the log is told: the cause with its sources, but nothing that a client sent.
    pub(crate) fn cause(&self) -> String {
        match self {
            Self::Tracker(error) => chain(error),
            Self::Refused { detail, .. } => detail.to_string(),
            Self::Limited(class, _) => format!("over the limit of {} requests", class.as_str()),
            Self::Late => "the handler took too long".to_owned(),
            Self::Panicked(text) => format!("the handler panicked: {text}"),
        }
    }

    /// The body, bound to its request.
    pub(crate) fn render(&self, response: &mut Response, path: &str, trace_id: &str) {
        let mut problem = self.problem();
        problem.instance = Some(path.to_owned());
        problem.trace_id = Some(trace_id.to_owned());
        let body = serde_json::to_vec(&problem).unwrap_or_default();
        *response.body_mut() = Body::from(body);
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Some(seconds) = self.retry_after() {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.code() == Code::Unauthenticated {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
    }
}

impl From<Error> for ApiError {
    fn from(error: Error) -> Self {
        Self::Tracker(error)
    }
}

impl From<serde_json::Error> for ApiError {
    fn from(error: serde_json::Error) -> Self {
        Self::Tracker(error.into())
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = Response::new(Body::empty());
        *response.status_mut() =
            StatusCode::from_u16(self.code().status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        response.extensions_mut().insert(Failure(Arc::new(self)));
        response
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let next = error.to_string();
        // Many errors repeat their source in their own text.
        if !text.contains(&next) {
            text.push_str(": ");
            text.push_str(&next);
        }
        source = error.source();
    }
    text
}
