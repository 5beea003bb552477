//! SQLite's write-ahead log.

use taskpost_common::crash::{self, CrashPoint};

use super::Db;
use crate::error::StoreError;

impl Db {
    /// Writes back to the database file what SQLite's log holds, as far as nobody reads it. Waits for nobody, and nobody
    /// waits for it. On Postgres, which does so itself, it does nothing.
    pub async fn checkpoint(&self) -> Result<(), StoreError> {
        const SQL: &str = "PRAGMA wal_checkpoint(PASSIVE)";
        let Self::Sqlite { read, .. } = self else { return Ok(()) };
        let written = sqlx::query(SQL).execute(read);
        crash::within(CrashPoint::EmbeddedCheckpoint, written).await?;
        Ok(())
    }
}
