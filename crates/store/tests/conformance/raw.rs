//! Statements of the cases' own, for what the store has no function for.

use sqlx::{PgPool, SqlitePool};
use taskpost_store::Db;

use crate::harness::Store;

impl Store {
    /// Runs a statement outside the store's functions; gives how many rows it touched.
    pub async fn execute(&self, sql: &'static str) -> Result<u64, sqlx::Error> {
        Ok(match &self.db {
            Db::Postgres { write, .. } => sqlx::query(sql).execute(write).await?.rows_affected(),
            Db::Sqlite { write, .. } => sqlx::query(sql).execute(write).await?.rows_affected(),
        })
    }

    /// One whole number, read apart from the writers.
    pub async fn number(&self, sql: &'static str) -> i64 {
        match &self.db {
            Db::Postgres { read, .. } => sqlx::query_scalar(sql).fetch_one(read).await.unwrap(),
            Db::Sqlite { read, .. } => sqlx::query_scalar(sql).fetch_one(read).await.unwrap(),
        }
    }

    /// The writing pool of a Postgres store.
    pub fn pg(&self) -> &PgPool {
        let Db::Postgres { write, .. } = &self.db else { panic!("a case for Postgres") };
        write
    }

    /// The writing and the reading pool of an SQLite store.
    pub fn lite(&self) -> (&SqlitePool, &SqlitePool) {
        let Db::Sqlite { write, read } = &self.db else { panic!("a case for SQLite") };
        (write, read)
    }
}
