//! What can go wrong in the store, sorted by what a caller can do about it.

use sqlx::error::{DatabaseError, ErrorKind};

/// A failure of the store.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database is away, full, or too busy. Nothing is known to be wrong with the request; try later.
    #[error("the store is unavailable: {0}")]
    Unavailable(#[source] sqlx::Error),
    /// Another transaction holds a lock for longer than we wait.
    #[error("the store is busy: {0}")]
    Locked(#[source] sqlx::Error),
    /// A unique or check constraint, by its name (on SQLite: by what it covers).
    #[error("constraint {0}")]
    Constraint(String),
    /// The row was changed by somebody else since it was read.
    #[error("{0} was changed meanwhile")]
    Stale(&'static str),
    /// A stored value cannot be read.
    #[error("a stored value cannot be read: {0}")]
    Corrupt(String),
    /// The database refuses this statement or its values.
    #[error("the store refused a statement: {0}")]
    Refused(#[source] sqlx::Error),
    /// The server takes no writes.
    #[error("the server is read-only")]
    ReadOnly,
    /// A migration could not be run.
    #[error("migration failed: {0}")]
    Migrate(#[from] sqlx::migrate::MigrateError),
    /// The schema is not the one this version needs; says which it is and what to do.
    #[error("{0}")]
    Schema(String),
    /// The configuration cannot be used.
    #[error("{0}")]
    Config(String),
}

impl StoreError {
    /// Whether waiting may help: the fault is the infrastructure's, not the message's.
    pub const fn is_transient(&self) -> bool {
        matches!(self, Self::Unavailable(_) | Self::Locked(_) | Self::Stale(_) | Self::ReadOnly)
    }
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        match &error {
            sqlx::Error::Database(db) => match db.kind() {
                ErrorKind::UniqueViolation | ErrorKind::CheckViolation | ErrorKind::NotNullViolation => {
                    Self::Constraint(db.constraint().unwrap_or_else(|| db.message()).to_owned())
                }
                _ if db.code().as_deref() == Some("55P03") => Self::Locked(error),
                _ if passes(db.as_ref()) => Self::Unavailable(error),
                _ => Self::Refused(error),
            },
            sqlx::Error::Io(_)
            | sqlx::Error::Tls(_)
            | sqlx::Error::Protocol(_)
            | sqlx::Error::PoolTimedOut
            | sqlx::Error::PoolClosed
            | sqlx::Error::BeginFailed
            | sqlx::Error::WorkerCrashed => Self::Unavailable(error),
            sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_) => Self::Corrupt(error.to_string()),
            _ => Self::Refused(error),
        }
    }
}

impl From<serde_json::Error> for StoreError {
    fn from(error: serde_json::Error) -> Self {
        Self::Corrupt(error.to_string())
    }
}

impl From<tokio::task::JoinError> for StoreError {
    fn from(_: tokio::task::JoinError) -> Self {
        Self::Unavailable(sqlx::Error::WorkerCrashed)
    }
}

/// Whether the database says "later" rather than "no": by SQLSTATE class on Postgres, by primary code on SQLite.
fn passes(error: &dyn DatabaseError) -> bool {
    let Some(code) = error.code() else { return false };
    if error.try_downcast_ref::<sqlx::postgres::PgDatabaseError>().is_some() {
        // 08 connection, 40 rollback (serialisation, deadlock), 53 resources, 57 operator, 58 system, 25006 read-only.
        return ["08", "40", "53", "57", "58", "25006"].iter().any(|class| code.starts_with(class));
    }
    // BUSY, LOCKED, NOMEM, READONLY, INTERRUPT, IOERR, FULL, CANTOPEN; extended codes keep the primary in the low byte.
    code.parse::<i64>().is_ok_and(|code| matches!(code & 0xff, 5 | 6 | 7 | 8 | 9 | 10 | 13 | 14))
}
