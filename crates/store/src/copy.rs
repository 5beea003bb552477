//! Moving everything from an SQLite file to a Postgres, and the proof that it arrived.
//!
//! All of it is one transaction there: it holds the whole, or nothing.

mod cells;

use std::collections::BTreeMap;

use sha2::{Digest as _, Sha256};
use sqlx::{
    AssertSqlSafe, PgPool, Postgres, Row as _, Sqlite, SqlitePool, Transaction, pool::PoolConnection,
};

use crate::{Db, MAX_BATCH, StoreError, bulk::unnest, events};
use cells::{Cells, Kind, cells_of};

/// What migrations fill, and the copy fills anew.
const FILLED: [&str; 2] = ["log_head", "projections"];
/// As far as the rows of a table that should be empty are counted.
const MANY: i64 = 100_000;

/// A move that is planned.
#[derive(Debug)]
pub struct Move {
    from: SqlitePool,
    to: PgPool,
    tables: Vec<Table>,
}

/// A table that arrived, with the same checksum on both sides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Copied {
    /// Its name.
    pub table: String,
    /// How many rows it has.
    pub rows: i64,
    /// 32 hexadecimal digits, the same for the same rows in any order.
    pub checksum: String,
}

/// How far a table is.
#[derive(Clone, Copy, Debug)]
pub struct Progress<'a> {
    /// Its name.
    pub table: &'a str,
    /// How many rows are copied.
    pub done: i64,
    /// How many it has.
    pub all: i64,
}

#[derive(Debug)]
struct Table {
    name: String,
    columns: Vec<(String, Kind)>,
    rows: i64,
}

impl Move {
    /// Looks at both, which must have the schema of this program. `from` is opened by [`Db::sqlite_alone`].
    pub async fn plan(from: &Db, to: &Db) -> Result<Self, StoreError> {
        from.require_current_schema().await?;
        to.require_current_schema().await?;
        let (Db::Sqlite { read: from, .. }, Db::Postgres { write: to, .. }) = (from, to) else {
            return Err(StoreError::Config("only SQLite can be moved, and only to Postgres".to_owned()));
        };
        let mut reader = from.acquire().await?;
        let mut tables = Vec::new();
        for name in in_order(&mut reader).await? {
            let columns = columns(to, &name).await?;
            let count = format!("SELECT count(*) FROM {name}");
            let rows = sqlx::query_scalar(AssertSqlSafe(count)).fetch_one(&mut *reader).await?;
            tables.push(Table { name, columns, rows });
        }
        Ok(Self { from: from.clone(), to: to.clone(), tables })
    }

    /// The tables of the target that are not empty, with how many rows they hold, as far as these were counted.
    pub async fn in_the_way(&self) -> Result<Vec<(String, i64)>, StoreError> {
        let names = self.tables.iter().map(|table| table.name.as_str());
        let mut full = Vec::new();
        for name in names.filter(|name| !FILLED.contains(name)).chain(["outbox"]) {
            let count = format!("SELECT count(*) FROM (SELECT 1 FROM {name} LIMIT {MANY}) AS counted");
            let rows: i64 = sqlx::query_scalar(AssertSqlSafe(count)).fetch_one(&self.to).await?;
            if rows > 0 {
                full.push((name.to_owned(), rows));
            }
        }
        Ok(full)
    }

    /// Copies all and compares what arrived; an error leaves the target as it was.
    pub async fn run(&self, mut tell: impl FnMut(Progress<'_>)) -> Result<Vec<Copied>, StoreError> {
        let mut reader = self.from.acquire().await?;
        self.make_partitions(&mut reader).await?;
        let mut tx = self.to.begin().await?;
        // One statement reads a whole table, and the source may be slow for a while.
        for limit in ["statement_timeout", "idle_in_transaction_session_timeout"] {
            sqlx::query(AssertSqlSafe(format!("SET LOCAL {limit} = 0"))).execute(&mut *tx).await?;
        }
        let mut copied = Vec::with_capacity(self.tables.len());
        for table in &self.tables {
            let sent = send(&mut reader, &mut tx, table, &mut tell).await?;
            let arrived = read_back(&mut tx, table).await?;
            if sent != arrived {
                return Err(StoreError::Corrupt(format!(
                    "{}: {} rows with the checksum {} were sent, and {} with {} arrived",
                    table.name,
                    sent.rows,
                    sent.hex(),
                    arrived.rows,
                    arrived.hex(),
                )));
            }
            copied.push(Copied { table: table.name.clone(), rows: sent.rows, checksum: sent.hex() });
        }
        tx.commit().await?;
        Ok(copied)
    }

    /// Those of `events` for every position given out, and one ahead.
    async fn make_partitions(&self, reader: &mut PoolConnection<Sqlite>) -> Result<(), StoreError> {
        const SQL: &str = "SELECT position FROM log_head WHERE id = 1";
        let head: i64 = sqlx::query_scalar(SQL).fetch_one(&mut **reader).await?;
        let target = Db::Postgres { write: self.to.clone(), read: self.to.clone() };
        events::make_partitions(&target, 0..=head / events::PARTITION + 1).await
    }
}

impl Table {
    fn names(&self) -> String {
        self.columns.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(", ")
    }

    fn cells(&self) -> Vec<Cells> {
        self.columns.iter().map(|(_, kind)| Cells::new(*kind)).collect()
    }
}

/// How many rows there are, and the sum of their digests, which does not depend on their order: the two databases sort
/// texts differently.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Sum {
    rows: i64,
    digests: u128,
}

impl Sum {
    fn add(&mut self, cells: &[Cells], rows: usize) {
        for row in 0..rows {
            let mut hash = Sha256::new();
            for cells in cells {
                cells.feed(row, &mut hash);
            }
            let digest = hash.finalize();
            let mut half = [0; 16];
            half.copy_from_slice(&digest[..16]);
            self.rows += 1;
            self.digests = self.digests.wrapping_add(u128::from_be_bytes(half));
        }
    }

    fn hex(&self) -> String {
        format!("{:032x}", self.digests)
    }
}

/// Our own tables, each behind those that it refers to. What SQLite has for its searches only is left out.
async fn in_order(reader: &mut PoolConnection<Sqlite>) -> Result<Vec<String>, StoreError> {
    const TABLES: &str = "
        SELECT name FROM sqlite_master
        WHERE type = 'table' AND name <> 'task_numbers' AND substr(name, 1, 9) <> 'task_text'
            AND substr(name, 1, 7) <> 'sqlite_' AND substr(name, 1, 5) <> '_sqlx'
        ORDER BY name";
    const REFERENCES: &str = "
        SELECT t.name, r.\"table\" FROM sqlite_master AS t JOIN pragma_foreign_key_list(t.name) AS r
        WHERE t.type = 'table' AND t.name <> r.\"table\"";
    let tables: Vec<String> = sqlx::query_scalar(TABLES).fetch_all(&mut **reader).await?;
    let references: Vec<(String, String)> = sqlx::query_as(REFERENCES).fetch_all(&mut **reader).await?;
    let mut waits: BTreeMap<String, Vec<String>> =
        tables.into_iter().map(|table| (table, Vec::new())).collect();
    for (table, on) in references {
        waits.entry(table).or_default().push(on);
    }
    let mut ordered: Vec<String> = Vec::with_capacity(waits.len());
    while !waits.is_empty() {
        let is_free = |on: &[String]| on.iter().all(|on| ordered.contains(on));
        let free: Vec<String> =
            waits.iter().filter(|(_, on)| is_free(on)).map(|(table, _)| table.clone()).collect();
        if free.is_empty() {
            return Err(StoreError::Schema(format!("tables that refer to one another: {waits:?}")));
        }
        waits.retain(|table, _| !free.contains(table));
        ordered.extend(free);
    }
    Ok(ordered)
}

/// The columns of a table as the target has them.
async fn columns(to: &PgPool, table: &str) -> Result<Vec<(String, Kind)>, StoreError> {
    const SQL: &str = "
        SELECT CAST(column_name AS TEXT), CAST(data_type AS TEXT) FROM information_schema.columns
        WHERE table_schema = current_schema() AND table_name = $1 ORDER BY ordinal_position";
    let found: Vec<(String, String)> = sqlx::query_as(SQL).bind(table).fetch_all(to).await?;
    if found.is_empty() {
        return Err(StoreError::Schema(format!("the target has no table {table}")));
    }
    found.into_iter().map(|(name, kind)| Ok((name, Kind::of(&kind)?))).collect()
}

/// Copies a table in the order of its file, and sums up what it sends.
async fn send(
    reader: &mut PoolConnection<Sqlite>,
    tx: &mut Transaction<'static, Postgres>,
    table: &Table,
    tell: &mut impl FnMut(Progress<'_>),
) -> Result<Sum, StoreError> {
    let (name, all) = (table.name.as_str(), table.rows);
    if FILLED.contains(&name) {
        sqlx::query(AssertSqlSafe(format!("DELETE FROM {name}"))).execute(&mut **tx).await?;
    }
    let page = format!(
        "SELECT rowid, {} FROM {name} WHERE rowid > $1 ORDER BY rowid LIMIT {MAX_BATCH}",
        table.names()
    );
    let columns: Vec<(&str, &str)> =
        table.columns.iter().map(|(name, kind)| (name.as_str(), kind.as_str())).collect();
    let insert = unnest(name, &columns, 1, "");
    let (mut sum, mut last) = (Sum::default(), i64::MIN);
    loop {
        let rows = sqlx::query(AssertSqlSafe(page.clone())).bind(last).fetch_all(&mut **reader).await?;
        let Some(row) = rows.last() else { break };
        last = row.try_get(0)?;
        let cells = cells_of!(table.cells(), &rows, 1);
        sum.add(&cells, rows.len());
        let mut query = sqlx::query(AssertSqlSafe(insert.clone()));
        for cells in cells {
            query = cells.bind_to(query);
        }
        query.execute(&mut **tx).await.map_err(|error| at(name, error))?;
        if sum.rows < all {
            tell(Progress { table: name, done: sum.rows, all });
        }
    }
    tell(Progress { table: name, done: sum.rows, all: sum.rows });
    Ok(sum)
}

/// Sums up what arrived.
async fn read_back(tx: &mut Transaction<'static, Postgres>, table: &Table) -> Result<Sum, StoreError> {
    let (name, names) = (&table.name, table.names());
    // A name of its own for each: a statement is prepared once, for columns of the same types.
    let declare = format!("DECLARE copied_{name} NO SCROLL CURSOR FOR SELECT {names} FROM {name}");
    let fetch = format!("FETCH {MAX_BATCH} FROM copied_{name}");
    sqlx::query(AssertSqlSafe(declare)).execute(&mut **tx).await?;
    let mut sum = Sum::default();
    loop {
        let rows = sqlx::query(AssertSqlSafe(fetch.clone())).fetch_all(&mut **tx).await?;
        if rows.is_empty() {
            break;
        }
        sum.add(&cells_of!(table.cells(), &rows, 0), rows.len());
    }
    sqlx::query(AssertSqlSafe(format!("CLOSE copied_{name}"))).execute(&mut **tx).await?;
    Ok(sum)
}

/// What the target refuses is a value of a row, which the table says more about than the statement.
fn at(table: &str, error: sqlx::Error) -> StoreError {
    match StoreError::from(error) {
        StoreError::Refused(error) => StoreError::Corrupt(format!("{table}: {error}")),
        StoreError::Constraint(name) => StoreError::Constraint(format!("{table}: {name}")),
        error => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checksum_tells_rows_apart_and_not_their_order() {
        let sum = |texts: &[Option<&str>]| {
            let mut sum = Sum::default();
            let texts: Vec<_> = texts.iter().map(|text| text.map(str::to_owned)).collect();
            sum.add(&[Cells::Text(texts.clone())], texts.len());
            sum
        };
        assert_eq!(sum(&[Some("a"), Some("b")]), sum(&[Some("b"), Some("a")]));
        assert_ne!(sum(&[Some("a"), Some("b")]), sum(&[Some("a"), Some("a")]));
        assert_ne!(sum(&[Some("")]), sum(&[None]));
        assert_ne!(sum(&[Some("a")]), sum(&[Some("a"), Some("a")]));
        let two = |left: &str, right: &str| {
            let mut sum = Sum::default();
            let cell = |text: &str| Cells::Text(vec![Some(text.to_owned())]);
            sum.add(&[cell(left), cell(right)], 1);
            sum
        };
        assert_ne!(two("ab", "c"), two("a", "bc"));
    }
}
