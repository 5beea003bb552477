//! How each database is opened.

use std::{path::Path, str::FromStr, time::Duration};

use sqlx::{
    Connection as _, PgConnection, PgPool,
    postgres::{PgConnectOptions, PgPoolOptions},
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};
use url::Url;

use super::Db;
use crate::error::StoreError;

/// How long a statement may wait for a connection.
pub(super) const ACQUIRE: Duration = Duration::from_secs(1);
/// SQLite has one writer, so a wait there is a wait for other transactions.
const ACQUIRE_WRITER: Duration = Duration::from_secs(5);

/// The SQLite database in the data folder.
const FILE: &str = "taskpost.db";

impl Db {
    /// Connects to Postgres. `?schema=name` in the URL becomes the search_path; the schema is made when missing.
    pub async fn postgres(url: &str, connections: u32) -> Result<Self, StoreError> {
        let (options, schema) = postgres_options(url)?;
        let read = match pool(connections).connect_with(options.clone()).await {
            Err(sqlx::Error::PoolTimedOut) => return Err(why(&options).await),
            made => made?,
        };
        let db = Self::Postgres { write: writers(connections, options), read };
        if let Some(schema) = schema {
            db.make_schema(&schema).await?;
        }
        Ok(db)
    }

    /// As [`Db::postgres`], but connects when it is first asked for something, and makes no schema.
    pub fn postgres_lazy(url: &str, connections: u32) -> Result<Self, StoreError> {
        let (options, _) = postgres_options(url)?;
        let read = pool(connections).connect_lazy_with(options.clone());
        Ok(Self::Postgres { write: writers(connections, options), read })
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
            .pragma("secure_delete", "ON")
            .pragma("wal_autocheckpoint", "16000")
            .pragma("cache_size", "-8000");
        let write = SqlitePoolOptions::new()
            .max_connections(1)
            .acquire_timeout(ACQUIRE_WRITER)
            .idle_timeout(None)
            .max_lifetime(None)
            .connect_with(options.clone())
            .await?;
        let read = SqlitePoolOptions::new()
            .max_connections(4)
            .acquire_timeout(ACQUIRE)
            .connect_with(options.pragma("query_only", "ON"))
            .await?;
        Ok(Self::Sqlite { write, read })
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

/// Logging in takes a while on a busy server, so a few connections are made ahead.
fn pool(connections: u32) -> PgPoolOptions {
    PgPoolOptions::new()
        .min_connections(2.min(connections))
        .max_connections(connections)
        .acquire_timeout(ACQUIRE)
}

/// A cancelled begin() leaves its transaction open on the connection; nobody may inherit it.
fn writers(connections: u32, options: PgConnectOptions) -> PgPool {
    let clean =
        pool(connections).after_release(|connection, _| Box::pin(async move { roll_back(connection).await }));
    clean.connect_lazy_with(options)
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

async fn roll_back(connection: &mut PgConnection) -> Result<bool, sqlx::Error> {
    use sqlx::Executor as _;
    // Begun first, as Postgres writes a warning for each rollback of nothing; inside a transaction it is the BEGIN that warns.
    connection.execute("BEGIN; ROLLBACK").await?;
    Ok(true)
}

/// Options with our time limits, and the schema to make.
fn postgres_options(url: &str) -> Result<(PgConnectOptions, Option<String>), StoreError> {
    let bad = || {
        StoreError::Config("DATABASE_URL: expected postgres://user:password@host:port/database".to_owned())
    };
    let mut parsed = Url::parse(url).map_err(|_| bad())?;
    let (schema, others): (Vec<_>, Vec<_>) = parsed
        .query_pairs()
        .map(|(name, value)| (name.into_owned(), value.into_owned()))
        .partition(|(name, _)| name == "schema");
    parsed.set_query(None);
    if !others.is_empty() {
        parsed.query_pairs_mut().extend_pairs(others);
    }
    let schema = schema.into_iter().next_back().map(|(_, name)| name);
    if schema
        .as_deref()
        .is_some_and(|name| name.is_empty() || !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_'))
    {
        return Err(StoreError::Config("DATABASE_URL: schema= takes letters, digits and _".to_owned()));
    }
    let mut options = PgConnectOptions::from_str(parsed.as_str())
        .map_err(|_| bad())?
        .application_name("taskpost")
        .statement_cache_capacity(256)
        .options([
            ("statement_timeout", "5s"),
            ("lock_timeout", "2s"),
            ("idle_in_transaction_session_timeout", "10s"),
            ("timezone", "UTC"),
        ]);
    if let Some(schema) = &schema {
        options = options.options([("search_path", schema.as_str())]);
    }
    Ok((options, schema))
}
