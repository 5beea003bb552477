//! How the database is: for health, and for `taskpost doctor`.

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::{Db, Session, on, open};
use crate::error::StoreError;

/// What a database says of itself.
#[derive(Clone, Debug)]
pub struct Server {
    /// Its version, in its own words.
    pub version: String,
    /// Its major version.
    pub major: i64,
    /// What its clock says; none where it has no other than this machine's.
    pub now: Option<DateTime<Utc>>,
    /// Settings that make a commit less than durable, as `name = value`.
    pub unsafe_settings: Vec<String>,
    /// How many connections it takes in all.
    pub max_connections: Option<i64>,
}

impl Db {
    /// Answers when the store can be written; on SQLite it takes the write lock and gives it back. Within 2 seconds on
    /// Postgres. [`StoreError::Locked`] means that it is there and busy.
    pub async fn check_writable(&self) -> Result<(), StoreError> {
        const SQL: &str = "SHOW transaction_read_only";
        let Self::Postgres { write, .. } = self else {
            return self.begin().await?.commit().await;
        };
        let (read_only,): (String,) = match sqlx::query_as(SQL).fetch_one(write).await {
            Err(sqlx::Error::PoolTimedOut) => return Err(open::why(&write.connect_options()).await),
            answer => answer?,
        };
        if read_only == "on" {
            return Err(StoreError::ReadOnly);
        }
        Ok(())
    }

    /// About how many events wait in the outbox, at no cost, and since when the oldest does.
    pub async fn backlog(&self) -> Result<(i64, Option<DateTime<Utc>>), StoreError> {
        const SQL: &str = "SELECT COALESCE(max(seq) - min(seq) + 1, 0), (SELECT at FROM outbox ORDER BY seq LIMIT 1) FROM outbox";
        match self {
            Self::Postgres { read, .. } => Ok(sqlx::query_as(SQL).fetch_one(read).await?),
            Self::Sqlite { .. } => Ok((0, None)),
        }
    }

    /// Writes a row, and on Postgres enough more to need room on its disk, and undoes it: the rights are there, and the room is.
    pub async fn try_write(&self) -> Result<(), StoreError> {
        const ROW: &str = "INSERT INTO leases (name, holder, until) VALUES ('try-write', $1, $2)";
        const ROOM: &str = "CREATE TEMPORARY TABLE taskpost_room ON COMMIT DROP AS SELECT number, now() AS at FROM generate_series(1, 50000) AS number";
        let mut tx = self.begin().await?;
        let session: &mut Session = &mut tx;
        on!(session, |c| sqlx::query(ROW)
            .bind(Uuid::nil())
            .bind(DateTime::UNIX_EPOCH)
            .execute(c)
            .await
            .map(drop)?);
        if session.is_postgres() {
            on!(session, |c| sqlx::query(ROOM).execute(c).await.map(drop)?);
        }
        tx.rollback().await
    }

    /// What the database says of itself.
    pub async fn server(&self) -> Result<Server, StoreError> {
        const POSTGRES: &str = "
            SELECT current_setting('server_version'), CAST(current_setting('server_version_num') AS BIGINT) / 10000,
                   clock_timestamp(), CAST(current_setting('max_connections') AS BIGINT)";
        const SETTINGS: &str = "
            SELECT name || ' = ' || setting FROM pg_settings
            WHERE name IN ('fsync', 'full_page_writes', 'synchronous_commit') AND setting = 'off' ORDER BY name";
        const SQLITE: &str = "SELECT sqlite_version()";
        match self {
            Self::Postgres { read, .. } => {
                let (version, major, now, connections): (String, i64, DateTime<Utc>, i64) =
                    sqlx::query_as(POSTGRES).fetch_one(read).await?;
                let unsafe_settings = sqlx::query_scalar(SETTINGS).fetch_all(read).await?;
                let (now, max_connections) = (Some(now), Some(connections));
                Ok(Server { version, major, now, unsafe_settings, max_connections })
            }
            Self::Sqlite { read, .. } => {
                let (version,): (String,) = sqlx::query_as(SQLITE).fetch_one(read).await?;
                let major = version.split('.').next().and_then(|major| major.parse().ok()).unwrap_or(0);
                Ok(Server { version, major, now: None, unsafe_settings: Vec::new(), max_connections: None })
            }
        }
    }
}
