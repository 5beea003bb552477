//! How each database is opened.

use std::{path::Path, str::FromStr, time::Duration};

use sqlx::{
    Connection as _, PgConnection, PgPool, SqliteConnection,
    postgres::{PgConnectOptions, PgPoolOptions},
    sqlite::{
        SqliteConnectOptions, SqliteJournalMode, SqliteLockingMode, SqlitePoolOptions, SqliteSynchronous,
    },
};
use url::Url;

use super::Db;
use crate::error::StoreError;

/// How long a statement may wait for a connection.
const ACQUIRE: Duration = Duration::from_secs(1);
/// SQLite has one writer, so a wait there is a wait for other transactions.
const ACQUIRE_WRITER: Duration = Duration::from_secs(5);

/// A connection that was idle for longer is asked whether it is still there before it is used.
const DOUBTFUL: Duration = Duration::from_millis(500);

/// So many rows the thread of SQLite finds before it waits for who reads them: each wait is a switch of threads.
const ROWS_AHEAD: usize = 1_024;

/// What of the query is for us, and not for the server.
const OURS: [&str; 3] = ["schema", "pool_timeout", "connection_limit"];

/// The SQLite database in the data folder.
const FILE: &str = "taskpost.db";

impl Db {
    /// Connects to Postgres. `?schema=name` in the URL becomes the search_path; the schema is made when missing.
    /// `pool_timeout=seconds` says how long a statement may wait for a connection, `connection_limit` how many there are
    /// at most for writing and again for reading, if not `connections`.
    pub async fn postgres(url: &str, connections: u32) -> Result<Self, StoreError> {
        let target = Target::parse(url, connections)?;
        let read = match target.pool().connect_with(target.options.clone()).await {
            Err(sqlx::Error::PoolTimedOut) => return Err(why(&target.options).await),
            made => made?,
        };
        let db = Self::Postgres { write: target.writers(), read };
        if let Some(schema) = target.schema {
            db.make_schema(&schema).await?;
        }
        Ok(db)
    }

    /// As [`Db::postgres`], but connects when it is first asked for something, and makes no schema.
    pub fn postgres_lazy(url: &str, connections: u32) -> Result<Self, StoreError> {
        let target = Target::parse(url, connections)?;
        let read = target.pool().connect_lazy_with(target.options.clone());
        Ok(Self::Postgres { write: target.writers(), read })
    }

    /// Opens or makes `taskpost.db` in `folder`: WAL, synchronous=FULL, so that what was committed survives power loss.
    pub async fn sqlite(folder: &Path) -> Result<Self, StoreError> {
        let options = SqliteConnectOptions::new()
            .filename(folder.join(FILE))
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            .busy_timeout(Duration::from_secs(5))
            .statement_cache_capacity(256)
            .row_buffer_size(ROWS_AHEAD)
            .pragma("secure_delete", "ON")
            .pragma("wal_autocheckpoint", "16000")
            .pragma("cache_size", "-8000");
        let write = SqlitePoolOptions::new()
            .max_connections(1)
            .acquire_timeout(ACQUIRE_WRITER)
            .test_before_acquire(false)
            .idle_timeout(None)
            .max_lifetime(None)
            .after_release(|connection, _| Box::pin(async move { has_ended(connection).await }))
            .connect_with(options.clone())
            .await?;
        let read = SqlitePoolOptions::new()
            .max_connections(4)
            .acquire_timeout(ACQUIRE)
            .test_before_acquire(false)
            .connect_with(options.pragma("query_only", "ON"))
            .await?;
        Ok(Self::Sqlite { write, read })
    }

    /// Opens the database in `folder` to read it, with nobody else: [`StoreError::Locked`] while another process has it
    /// open, and as long as this one has it, no other can.
    pub async fn sqlite_alone(folder: &Path) -> Result<Self, StoreError> {
        let options = SqliteConnectOptions::new()
            .filename(folder.join(FILE))
            .locking_mode(SqliteLockingMode::Exclusive)
            .busy_timeout(ACQUIRE)
            .pragma("query_only", "ON");
        let only = SqlitePoolOptions::new()
            .max_connections(1)
            .test_before_acquire(false)
            .idle_timeout(None)
            .max_lifetime(None)
            .connect_with(options)
            .await
            .map_err(alone)?;
        // The lock is taken by the first look, and kept.
        let looked = sqlx::query("SELECT name FROM sqlite_master LIMIT 1").execute(&only).await;
        looked.map_err(alone)?;
        Ok(Self::Sqlite { write: only.clone(), read: only })
    }

    /// Whether there is an SQLite database in `folder`.
    pub fn is_in(folder: &Path) -> bool {
        folder.join(FILE).exists()
    }

    /// Asks first, because making one needs a right on the whole database even where it is there already.
    async fn make_schema(&self, name: &str) -> Result<(), StoreError> {
        if self.has_schema(name).await? {
            return Ok(());
        }
        let Self::Postgres { read, .. } = self else { return Ok(()) };
        let create = format!("CREATE SCHEMA IF NOT EXISTS \"{name}\"");
        match sqlx::query(sqlx::AssertSqlSafe(create)).execute(read).await {
            // Of two processes the second may fail, late, on what the first has made.
            Err(_) if self.has_schema(name).await? => Ok(()),
            made => Ok(made.map(drop)?),
        }
    }

    async fn has_schema(&self, name: &str) -> Result<bool, StoreError> {
        const SQL: &str = "SELECT EXISTS (SELECT 1 FROM pg_namespace WHERE nspname = $1)";
        let Self::Postgres { read, .. } = self else { return Ok(false) };
        let (exists,): (bool,) = sqlx::query_as(SQL).bind(name).fetch_one(read).await?;
        Ok(exists)
    }
}

/// SQLITE_BUSY and SQLITE_LOCKED mean that somebody else has the file.
fn alone(error: sqlx::Error) -> StoreError {
    let code = error.as_database_error().and_then(|error| error.code()?.parse::<i64>().ok());
    if code.is_some_and(|code| matches!(code & 0xff, 5 | 6)) {
        StoreError::Locked(error)
    } else {
        error.into()
    }
}

/// A pool says only that its patience has ended; a connection apart says why. Where it can be made, the pool was busy.
pub(super) async fn why(options: &PgConnectOptions) -> StoreError {
    match tokio::time::timeout(ACQUIRE, PgConnection::connect_with(options)).await {
        Ok(Ok(connection)) => {
            // It is gone either way.
            let _ = tokio::time::timeout(ACQUIRE, connection.close()).await;
            StoreError::Locked(sqlx::Error::PoolTimedOut)
        }
        Ok(Err(error)) => error.into(),
        Err(_) => StoreError::Unavailable(sqlx::Error::Io(std::io::ErrorKind::TimedOut.into())),
    }
}

/// SQLite ends a transaction by itself when the disk is full. The rollback that follows fails, and the driver would take
/// the connection for inside a transaction for ever, so that one is not kept.
async fn has_ended(connection: &mut SqliteConnection) -> Result<bool, sqlx::Error> {
    if connection.is_in_transaction() {
        // Waits for a rollback that is under way.
        connection.ping().await?;
    }
    Ok(!connection.is_in_transaction())
}

/// One that was used a moment ago is taken as it is: asking each time would double the round trips of short statements.
async fn still_there(connection: &mut PgConnection, idle: Duration) -> Result<bool, sqlx::Error> {
    if idle > DOUBTFUL {
        connection.ping().await?;
    }
    Ok(true)
}

async fn roll_back(connection: &mut PgConnection) -> Result<bool, sqlx::Error> {
    use sqlx::Executor as _;
    // Begun first, as Postgres writes a warning for each rollback of nothing; inside a transaction it is the BEGIN that warns.
    connection.execute("BEGIN; ROLLBACK").await?;
    Ok(true)
}

/// What `DATABASE_URL` says.
struct Target {
    /// With our time limits.
    options: PgConnectOptions,
    /// To be made when it is missing.
    schema: Option<String>,
    connections: u32,
    acquire: Duration,
}

impl Target {
    fn parse(url: &str, default: u32) -> Result<Self, StoreError> {
        let mut parsed = Url::parse(url).map_err(|_| malformed())?;
        let pairs: Vec<_> =
            parsed.query_pairs().map(|(name, value)| (name.into_owned(), value.into_owned())).collect();
        let (ours, others): (Vec<_>, Vec<_>) =
            pairs.into_iter().partition(|(name, _)| OURS.contains(&name.as_str()));
        parsed.set_query(None);
        if !others.is_empty() {
            parsed.query_pairs_mut().extend_pairs(others);
        }
        let mut options = PgConnectOptions::from_str(parsed.as_str())
            .map_err(|_| malformed())?
            .application_name("taskpost")
            .statement_cache_capacity(256)
            .options([
                ("statement_timeout", "5s"),
                ("lock_timeout", "2s"),
                ("idle_in_transaction_session_timeout", "10s"),
                ("timezone", "UTC"),
            ]);
        let said =
            |name: &str| ours.iter().rev().find(|(ours, _)| ours == name).map(|(_, value)| value.as_str());
        let schema = said("schema").map(schema_of).transpose()?;
        if let Some(schema) = &schema {
            options = options.options([("search_path", schema.as_str())]);
        }
        let connections =
            said("connection_limit").map(|text| number("connection_limit", text)).transpose()?;
        let acquire = said("pool_timeout").map(|text| number("pool_timeout", text)).transpose()?;
        let acquire = acquire.map_or(ACQUIRE, |seconds| Duration::from_secs(seconds.into()));
        Ok(Self { options, schema, connections: connections.unwrap_or(default), acquire })
    }

    /// Logging in takes a while on a busy server, so a few connections are made ahead.
    fn pool(&self) -> PgPoolOptions {
        PgPoolOptions::new()
            .min_connections(2.min(self.connections))
            .max_connections(self.connections)
            .acquire_timeout(self.acquire)
            .test_before_acquire(false)
            .before_acquire(|connection, idle| {
                Box::pin(async move { still_there(connection, idle.idle_for).await })
            })
    }

    /// A cancelled begin() leaves its transaction open on the connection; nobody may inherit it.
    fn writers(&self) -> PgPool {
        let clean =
            self.pool().after_release(|connection, _| Box::pin(async move { roll_back(connection).await }));
        clean.connect_lazy_with(self.options.clone())
    }
}

fn schema_of(name: &str) -> Result<String, StoreError> {
    if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
        return Err(StoreError::Config("DATABASE_URL: schema= takes letters, digits and _".to_owned()));
    }
    Ok(name.to_owned())
}

fn number(name: &str, text: &str) -> Result<u32, StoreError> {
    let number = text.parse().ok().filter(|number| *number > 0);
    number.ok_or_else(|| StoreError::Config(format!("DATABASE_URL: {name}= takes a whole number above 0")))
}

fn malformed() -> StoreError {
    StoreError::Config("DATABASE_URL: expected postgres://user:password@host:port/database".to_owned())
}
