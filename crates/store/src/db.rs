//! The two databases behind one handle.

use std::{
    ops::{Deref, DerefMut},
    path::{Path, PathBuf},
    str::FromStr,
    time::Duration,
};

use sqlx::{
    PgPool, Postgres, Sqlite, SqlitePool, Transaction,
    migrate::Migrator,
    pool::PoolConnection,
    postgres::{PgConnectOptions, PgPoolOptions},
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};
use url::Url;

use crate::error::StoreError;

static POSTGRES: Migrator = sqlx::migrate!("../../prisma-free-migrations/postgres");
static SQLITE: Migrator = sqlx::migrate!("../../prisma-free-migrations/sqlite");

/// How long a statement may wait for a connection.
const ACQUIRE: Duration = Duration::from_secs(1);
/// SQLite has one writer, so a wait there is a wait for other transactions.
const ACQUIRE_WRITER: Duration = Duration::from_secs(5);
/// How long one statement of a migration may take, and wait for others, on Postgres.
const MIGRATE: &str = "10min";

/// The store: Postgres by `DATABASE_URL`, or an SQLite file in the data folder.
#[derive(Clone, Debug)]
pub enum Db {
    /// A server.
    Postgres {
        /// For transactions; a connection that comes back is rolled back.
        write: PgPool,
        /// For single statements.
        read: PgPool,
    },
    /// A file: one connection writes, others read.
    Sqlite {
        /// The one writer.
        write: SqlitePool,
        /// Readers, which WAL lets go on beside the writer.
        read: SqlitePool,
    },
}

impl Db {
    /// Connects to Postgres. `?schema=name` in the URL becomes the search_path; the schema is made when missing.
    pub async fn postgres(url: &str, connections: u32) -> Result<Self, StoreError> {
        let (options, schema) = postgres_options(url)?;
        // Logging in takes a while on a busy server, so a few connections are made ahead.
        let pool =
            || PgPoolOptions::new().min_connections(2).max_connections(connections).acquire_timeout(ACQUIRE);
        let read = pool().connect_with(options.clone()).await?;
        // A cancelled begin() leaves its transaction open on the connection; nobody may inherit it.
        let clean =
            pool().after_release(|connection, _| Box::pin(async move { roll_back(connection).await }));
        let write = clean.connect_lazy_with(options);
        if let Some(schema) = schema {
            let create = format!("CREATE SCHEMA IF NOT EXISTS \"{schema}\"");
            sqlx::query(sqlx::AssertSqlSafe(create)).execute(&read).await?;
        }
        Ok(Self::Postgres { write, read })
    }

    /// Opens or makes `taskpost.db` in `folder`: WAL, synchronous=FULL, so that what was committed survives power loss.
    pub async fn sqlite(folder: &Path) -> Result<Self, StoreError> {
        let file: PathBuf = folder.join("taskpost.db");
        let options = SqliteConnectOptions::new()
            .filename(file)
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

    /// Brings the schema up to this version.
    pub async fn migrate(&self) -> Result<(), StoreError> {
        match self {
            Self::Postgres { write, .. } => {
                // A connection of its own, because sqlx holds a lock of the session meanwhile; and limits of its own,
                // because another process may be migrating and a large table takes its time.
                let options = write.connect_options().as_ref().clone();
                let options = options.options([("statement_timeout", MIGRATE), ("lock_timeout", MIGRATE)]);
                let alone = PgPoolOptions::new()
                    .max_connections(1)
                    .acquire_timeout(ACQUIRE)
                    .connect_with(options)
                    .await?;
                POSTGRES.run(&alone).await?;
                alone.close().await;
            }
            Self::Sqlite { write, .. } => SQLITE.run(write).await?,
        }
        Ok(())
    }

    /// A transaction that will write. Beginning runs in a task of its own: dropping a caller half-way must not
    /// return a connection to the pool inside an open transaction.
    pub async fn begin(&self) -> Result<Tx, StoreError> {
        let conn = match self {
            Self::Postgres { write, .. } => {
                let pool = write.clone();
                Conn::PgTx(tokio::spawn(async move { pool.begin().await }).await??)
            }
            Self::Sqlite { write, .. } => {
                let pool = write.clone();
                // IMMEDIATE, because upgrading a read lock later fails at once when another writes.
                Conn::LiteTx(tokio::spawn(async move { pool.begin_with("BEGIN IMMEDIATE").await }).await??)
            }
        };
        Ok(Tx(Session(conn)))
    }

    /// A connection to read with; on SQLite it does not wait for writers.
    pub async fn reader(&self) -> Result<Session, StoreError> {
        let conn = match self {
            Self::Postgres { read, .. } => Conn::Pg(read.acquire().await?),
            Self::Sqlite { read, .. } => Conn::Lite(read.acquire().await?),
        };
        Ok(Session(conn))
    }

    /// Whether this is Postgres, where events pass the outbox.
    pub const fn has_outbox(&self) -> bool {
        matches!(self, Self::Postgres { .. })
    }

    /// `postgres` or `sqlite`.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Postgres { .. } => "postgres",
            Self::Sqlite { .. } => "sqlite",
        }
    }

    /// Answers when the store can be written: takes the write lock and gives it back.
    pub async fn check_writable(&self) -> Result<(), StoreError> {
        match self {
            Self::Postgres { write, .. } => {
                let (read_only,): (String,) =
                    sqlx::query_as("SHOW transaction_read_only").fetch_one(write).await?;
                if read_only == "on" {
                    return Err(StoreError::Unavailable(sqlx::Error::Protocol(
                        "the server is read-only".into(),
                    )));
                }
                Ok(())
            }
            Self::Sqlite { .. } => self.begin().await?.commit().await,
        }
    }

    /// Closes every connection.
    pub async fn close(&self) {
        match self {
            Self::Postgres { write, read } => {
                read.close().await;
                write.close().await;
            }
            Self::Sqlite { write, read } => {
                read.close().await;
                write.close().await;
            }
        }
    }
}

/// A connection to read with, or the inside of a [`Tx`].
#[derive(Debug)]
pub struct Session(pub(crate) Conn);

#[derive(Debug)]
pub(crate) enum Conn {
    Pg(PoolConnection<Postgres>),
    Lite(PoolConnection<Sqlite>),
    PgTx(Transaction<'static, Postgres>),
    LiteTx(Transaction<'static, Sqlite>),
}

impl Session {
    /// Whether this is Postgres.
    pub(crate) const fn is_postgres(&self) -> bool {
        matches!(self.0, Conn::Pg(_) | Conn::PgTx(_))
    }
}

/// A transaction that writes. Dropped without [`Tx::commit`], it rolls back.
#[derive(Debug)]
pub struct Tx(Session);

impl Tx {
    /// Makes everything durable. An error here means unknown: it may have been committed.
    pub async fn commit(self) -> Result<(), StoreError> {
        match self.0.0 {
            Conn::PgTx(tx) => tx.commit().await?,
            Conn::LiteTx(tx) => tx.commit().await?,
            Conn::Pg(_) | Conn::Lite(_) => {}
        }
        Ok(())
    }

    /// Undoes everything, and waits for it.
    pub async fn rollback(self) -> Result<(), StoreError> {
        match self.0.0 {
            Conn::PgTx(tx) => tx.rollback().await?,
            Conn::LiteTx(tx) => tx.rollback().await?,
            Conn::Pg(_) | Conn::Lite(_) => {}
        }
        Ok(())
    }
}

impl Deref for Tx {
    type Target = Session;
    fn deref(&self) -> &Session {
        &self.0
    }
}

impl DerefMut for Tx {
    fn deref_mut(&mut self) -> &mut Session {
        &mut self.0
    }
}

/// Runs the same body on either driver's connection; the SQL text exists once.
macro_rules! on {
    ($session:expr, |$c:ident| $body:expr) => {
        match &mut $session.0 {
            $crate::db::Conn::Pg(connection) => {
                let $c = &mut **connection;
                $body
            }
            $crate::db::Conn::PgTx(tx) => {
                let $c = &mut **tx;
                $body
            }
            $crate::db::Conn::Lite(connection) => {
                let $c = &mut **connection;
                $body
            }
            $crate::db::Conn::LiteTx(tx) => {
                let $c = &mut **tx;
                $body
            }
        }
    };
}
pub(crate) use on;

async fn roll_back(connection: &mut sqlx::PgConnection) -> Result<bool, sqlx::Error> {
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
