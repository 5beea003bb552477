//! A failure of the store in the words of whoever runs it: what is wrong, what to do, and whether waiting may do it.

use std::io;

use sqlx::{error::DatabaseError, migrate::MigrateError, postgres::PgDatabaseError};

use crate::StoreError;

/// What is wrong. It names no user, host or password, so that /health may show it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// What is wrong.
    pub what: &'static str,
    /// What to do, with the variable it takes.
    pub mend: &'static str,
    /// Whether it may pass while somebody else does that: a server that is not up yet, but not a wrong password.
    pub passes: bool,
}

const fn passes(what: &'static str, mend: &'static str) -> Trouble {
    Trouble { what, mend, passes: true }
}

const fn stays(what: &'static str, mend: &'static str) -> Trouble {
    Trouble { what, mend, passes: false }
}

const READ_ONLY: Trouble =
    passes("the server is read-only", "let DATABASE_URL name the primary, or end its read-only mode");
const BUSY: Trouble = passes(
    "it is there, but so busy that no connection was free in time",
    "give it less to do or more to do it with",
);
const GONE: Trouble =
    passes("the connection broke", "see that the server of DATABASE_URL is up and stays up");

impl StoreError {
    /// What the database or the system says of it, which may name a user or a database.
    pub fn cause(&self) -> String {
        match self {
            Self::Unavailable(error) | Self::Locked(error) | Self::Refused(error) => match error {
                sqlx::Error::Database(error) => error.message().to_owned(),
                sqlx::Error::Io(error) => error.to_string(),
                error => error.to_string(),
            },
            error => error.to_string(),
        }
    }

    /// What is wrong and what to do.
    pub fn trouble(&self) -> Trouble {
        match self {
            Self::Unavailable(error) | Self::Locked(error) | Self::Refused(error) => of_driver(error),
            Self::ReadOnly => READ_ONLY,
            Self::Migrate(error) => of_migration(error),
            Self::Schema(_) => stays(
                "the schema is not the one this program needs",
                "see `taskpost migrate status`; an older schema is brought up by `taskpost migrate up`",
            ),
            Self::Config(_) => stays("a setting cannot be used", "mend it in DATABASE_URL or DATA_DIR"),
            Self::Constraint(_) | Self::Stale(_) | Self::Corrupt(_) => {
                stays("it answers with what is not expected of it", "see the log")
            }
        }
    }
}

fn of_migration(error: &MigrateError) -> Trouble {
    let cause = match error {
        MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => Some(of_driver(error)),
        _ => None,
    };
    let failed = stays("a migration failed", "mend what it says, then run `taskpost migrate up`");
    cause.filter(|cause| cause.passes).unwrap_or(failed)
}

fn of_driver(error: &sqlx::Error) -> Trouble {
    match error {
        sqlx::Error::Database(error) => match error.try_downcast_ref::<PgDatabaseError>() {
            Some(error) => of_postgres(error.code()),
            None => of_sqlite(error.as_ref()),
        },
        sqlx::Error::Io(error) => of_network(error.kind()),
        sqlx::Error::Tls(_) => stays(
            "TLS with the server cannot be set up",
            "set sslmode and sslrootcert in DATABASE_URL as the server needs them",
        ),
        sqlx::Error::Configuration(_) => {
            stays("DATABASE_URL cannot be used", "write it as postgres://user:password@host:port/database")
        }
        sqlx::Error::PoolTimedOut => BUSY,
        _ => GONE,
    }
}

fn of_network(kind: io::ErrorKind) -> Trouble {
    match kind {
        io::ErrorKind::ConnectionRefused => {
            passes("the server refuses connections", "start it, or correct host and port in DATABASE_URL")
        }
        io::ErrorKind::TimedOut => passes(
            "the server does not answer",
            "see that it is up and that nothing between here and the host of DATABASE_URL holds packets back",
        ),
        io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe | io::ErrorKind::UnexpectedEof => GONE,
        _ => passes("the server cannot be reached", "see that the host of DATABASE_URL is right and is up"),
    }
}

/// By SQLSTATE.
fn of_postgres(code: &str) -> Trouble {
    match code {
        "28P01" => stays("the password is wrong", "correct user and password in DATABASE_URL"),
        "28000" => stays(
            "the user may not log in",
            "correct the user in DATABASE_URL, or let it in by the server's pg_hba.conf",
        ),
        "3D000" => stays(
            "the database does not exist",
            "make it by `createdb`, or correct its name at the end of DATABASE_URL",
        ),
        "42501" => stays(
            "the user lacks a right",
            "make the user of DATABASE_URL the owner of its database or schema",
        ),
        "42P01" | "42703" | "3F000" => stays(
            "a table or column is missing",
            "see `taskpost migrate status`, then run `taskpost migrate up`",
        ),
        "53100" => {
            passes("the disk of the server is full", "make room on the disk of the server of DATABASE_URL")
        }
        "53200" => {
            passes("the server is out of memory", "give the server of DATABASE_URL more memory or less to do")
        }
        "53300" => passes(
            "the server has no connection left",
            "raise its max_connections, or run fewer processes on it",
        ),
        "57P03" => passes("the server is starting up or shutting down", "wait, or see its log"),
        "25006" => READ_ONLY,
        "55P03" => {
            passes("another transaction holds a lock", "end what holds it, such as a forgotten session")
        }
        "57014" => passes("a statement took too long", "see what else the server of DATABASE_URL is doing"),
        code if code.starts_with("57P") => GONE,
        _ => stays(
            "the server refuses a statement",
            "see the log; DATABASE_URL must name Postgres 13 or later",
        ),
    }
}

/// By primary code; extended ones keep it in the low byte.
fn of_sqlite(error: &dyn DatabaseError) -> Trouble {
    let code = error.code().and_then(|code| code.parse::<i64>().ok()).map(|code| code & 0xff);
    match code {
        Some(5 | 6) => passes("another process holds the database", "run one process on each DATA_DIR"),
        Some(7) => passes("there is no memory left", "give this machine more memory or less to do"),
        Some(8) => passes("the database file cannot be written", "let this user write to DATA_DIR"),
        Some(10) => passes("the disk fails", "see the system's log for the disk of DATA_DIR"),
        Some(11 | 26) => stays("the database file is damaged", "restore DATA_DIR from a backup"),
        Some(13) => passes("the disk is full", "make room on the disk of DATA_DIR"),
        Some(14) => {
            passes("the database file cannot be opened", "see that DATA_DIR exists and this user owns it")
        }
        _ => stays("the database refuses a statement", "see the log"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_word_in_the_url_stays_and_a_server_that_is_not_up_passes() {
        for code in ["28P01", "28000", "3D000", "42501"] {
            assert!(!of_postgres(code).passes, "{code}");
        }
        for code in ["57P03", "57P01", "53300", "53100", "25006"] {
            assert!(of_postgres(code).passes, "{code}");
        }
        let refused = StoreError::from(sqlx::Error::Io(io::ErrorKind::ConnectionRefused.into())).trouble();
        assert!(refused.passes && refused.mend.contains("DATABASE_URL"), "{refused:?}");
    }
}
