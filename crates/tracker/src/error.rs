//! Failures of use cases, each with what a client is told.

use std::time::Duration;

use taskpost_common::{
    page::InvalidCursor,
    problem::{Code, FieldError, Problem},
};
use taskpost_store::StoreError;

/// Why a use case did not happen.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A key of the query is not right.
    #[error("{}: {}", .0.pointer, .0.detail)]
    Query(FieldError),
    /// No token, or not a good one. One text for all, so that it tells nothing.
    #[error("a valid access token is required: log in, or refresh the session")]
    Unauthenticated,
    /// E-mail and password do not fit. One text for both.
    #[error("e-mail or password is wrong")]
    WrongCredentials,
    /// Known, but not allowed.
    #[error("{0}")]
    Forbidden(&'static str),
    /// Not there, or not for this caller to know of.
    #[error("no such {0}")]
    NotFound(&'static str),
    /// The state does not allow it.
    #[error("{0}")]
    Conflict(String),
    /// If-Match names another version.
    #[error("the resource is at version {current}; read it again and repeat the change")]
    Stale {
        /// The version in the store.
        current: i64,
    },
    /// Values in the body are not right.
    #[error("the body has values that are not right")]
    Invalid(Vec<FieldError>),
    /// A queue is full.
    #[error("{0} is full; try again after a moment")]
    Busy(&'static str),
    /// Somebody else changes the project for longer than is waited for; nothing has happened.
    #[error("the project is being changed and nothing was stored; try again after a moment")]
    Held,
    /// The store did not take it; nothing has happened.
    #[error("the store is not available and nothing was stored; try again after a moment")]
    Away,
    /// The outcome is not known: it may have happened.
    #[error(
        "the store did not answer in time, so the outcome is unknown; repeat the request with an Idempotency-Key"
    )]
    Unknown,
    /// The change takes longer than its request may wait.
    #[error("this takes longer than a request may, and goes on; look again after a while whether it is done")]
    GoesOn,
    /// The log did not acknowledge a task: it may be on it.
    #[error(
        "the log did not acknowledge the task in time, so the outcome is unknown; look for it before you send it again"
    )]
    Unacknowledged,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Our own fault.
    #[error("internal error: {0}")]
    Internal(String),
}

impl Error {
    /// The row of the error table.
    pub const fn code(&self) -> Code {
        match self {
            Self::Query(_) => Code::BadRequest,
            Self::Unauthenticated | Self::WrongCredentials => Code::Unauthenticated,
            Self::Forbidden(_) => Code::Forbidden,
            Self::NotFound(_) => Code::NotFound,
            Self::Conflict(_) | Self::Store(StoreError::Stale(_)) => Code::Conflict,
            Self::Stale { .. } => Code::PreconditionFailed,
            Self::Invalid(_) => Code::Invalid,
            Self::Busy(_) | Self::Held | Self::Away | Self::Unknown | Self::GoesOn | Self::Unacknowledged => {
                Code::Unavailable
            }
            Self::Store(error) if error.is_transient() => Code::Unavailable,
            Self::Store(_) | Self::Internal(_) => Code::Internal,
        }
    }

    /// What the client is told. Details of the store and of our own faults stay in the log.
    pub fn problem(&self) -> Problem {
        let detail = match (self, self.code()) {
            (_, Code::Internal) => {
                "something went wrong on our side; the trace id names it in the log".to_owned()
            }
            (Self::Store(StoreError::Stale(_)), _) => {
                "others change this at the same time; try again".to_owned()
            }
            (Self::Store(StoreError::Locked(_)), _) => {
                "others change this for longer than we wait, and nothing was stored; try again after a moment"
                    .to_owned()
            }
            (Self::Store(_), _) => "the store is not available; try again after a moment".to_owned(),
            _ => self.to_string(),
        };
        let errors = match self {
            Self::Query(error) => vec![error.clone()],
            Self::Invalid(errors) => errors.clone(),
            _ => Vec::new(),
        };
        Problem::new(self.code(), detail, errors)
    }

    /// When to come back.
    pub const fn retry_after(&self) -> Option<Duration> {
        match (self, self.code()) {
            (Self::GoesOn, _) => Some(Duration::from_secs(10)),
            (_, Code::Unavailable) => Some(Duration::from_secs(1)),
            _ => None,
        }
    }

    /// One value that is not right.
    pub(crate) fn field(pointer: &str, code: &str, detail: impl Into<String>) -> Self {
        Self::Invalid(vec![FieldError::new(pointer, code, detail)])
    }
}

impl From<InvalidCursor> for Error {
    fn from(error: InvalidCursor) -> Self {
        Self::Query(FieldError::new("?cursor", "invalid_cursor", error.to_string()))
    }
}

impl From<serde_json::Error> for Error {
    fn from(error: serde_json::Error) -> Self {
        Self::Internal(format!("cannot serialise: {error}"))
    }
}
