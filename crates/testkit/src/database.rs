//! Asking the database itself, where no public door shows what a test must know.

use chrono::{DateTime, Utc};
use sqlx::AssertSqlSafe;
use taskpost_store::Db;

/// The only number of a query.
pub(crate) async fn number(db: &Db, sql: &str) -> Result<i64, sqlx::Error> {
    let sql = AssertSqlSafe(sql.to_owned());
    match db {
        Db::Postgres { read, .. } => sqlx::query_scalar(sql).fetch_one(read).await,
        Db::Sqlite { read, .. } => sqlx::query_scalar(sql).fetch_one(read).await,
    }
}

/// The rows of a query that gives a text and a number.
pub(crate) async fn rows(db: &Db, sql: &str) -> Result<Vec<(String, i64)>, sqlx::Error> {
    let sql = AssertSqlSafe(sql.to_owned());
    match db {
        Db::Postgres { read, .. } => sqlx::query_as(sql).fetch_all(read).await,
        Db::Sqlite { read, .. } => sqlx::query_as(sql).fetch_all(read).await,
    }
}

/// The names and numbers of a query that takes a time.
pub(crate) async fn counts(
    db: &Db,
    sql: &'static str,
    at: DateTime<Utc>,
) -> Result<Vec<(String, i64)>, sqlx::Error> {
    match db {
        Db::Postgres { read, .. } => sqlx::query_as(sql).bind(at).fetch_all(read).await,
        Db::Sqlite { read, .. } => sqlx::query_as(sql).bind(at).fetch_all(read).await,
    }
}

/// Runs statements.
pub(crate) async fn execute(db: &Db, sql: &'static str) -> Result<(), sqlx::Error> {
    match db {
        Db::Postgres { write, .. } => sqlx::raw_sql(sql).execute(write).await.map(drop),
        Db::Sqlite { write, .. } => sqlx::raw_sql(sql).execute(write).await.map(drop),
    }
}
