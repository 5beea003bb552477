//! The two databases behind one handle.

mod check;
mod checkpoint;
mod open;
mod schema;

use std::ops::{Deref, DerefMut};

use sqlx::{
    Database, PgConnection, PgPool, Pool, Postgres, Sqlite, SqliteConnection, SqlitePool, Transaction,
    pool::PoolConnection,
};

use crate::error::StoreError;

pub use check::Server;
pub use schema::{Migration, MigrationState, Schema};

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

    /// The same database with one connection of its own for single statements, for what runs again and again: the pools
    /// take the connection that rested longest, and each has plans and pages of its own to warm. Transactions are begun
    /// where all are, as what is left of them must be rolled back before another has the connection.
    #[must_use]
    pub fn lane(&self) -> Self {
        match self {
            Self::Postgres { write, read } => Self::Postgres { write: write.clone(), read: alone(read) },
            Self::Sqlite { write, read } => Self::Sqlite { write: write.clone(), read: alone(read) },
        }
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

/// A pool of one, which connects when it is first asked for something.
fn alone<D: Database>(pool: &Pool<D>) -> Pool<D> {
    let options = pool.options().clone().min_connections(0).max_connections(1);
    options.connect_lazy_with((*pool.connect_options()).clone())
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

/// The driver's own connection.
pub(crate) enum Raw<'a> {
    Pg(&'a mut PgConnection),
    Lite(&'a mut SqliteConnection),
}

impl Conn {
    pub(crate) fn raw(&mut self) -> Raw<'_> {
        match self {
            Self::Pg(connection) => Raw::Pg(connection),
            Self::PgTx(tx) => Raw::Pg(tx),
            Self::Lite(connection) => Raw::Lite(connection),
            Self::LiteTx(tx) => Raw::Lite(tx),
        }
    }
}

/// Runs the same body on either driver's connection; the SQL text exists once.
macro_rules! on {
    ($session:expr, |$c:ident| $body:expr) => {
        match $session.0.raw() {
            $crate::db::Raw::Pg($c) => $body,
            $crate::db::Raw::Lite($c) => $body,
        }
    };
}
pub(crate) use on;
