//! Many rows in one statement: arrays by UNNEST on Postgres, a multi-row VALUES on SQLite.

/// `INSERT … SELECT UNNEST(…), …`, whose text is the same for any number of rows. Its parameters begin at `first`. In the list
/// of what is selected the arrays are gone through together; `FROM UNNEST(…)` would first copy each of them.
pub(crate) fn unnest(table: &str, columns: &[(&str, &str)], first: usize, suffix: &str) -> String {
    let names: Vec<&str> = columns.iter().map(|(name, _)| *name).collect();
    let arrays =
        columns.iter().zip(first..).map(|((_, kind), number)| format!("UNNEST(${number}::{kind}[])"));
    let arrays: Vec<String> = arrays.collect();
    format!("INSERT INTO {table} ({}) SELECT {} {suffix}", names.join(", "), arrays.join(", "))
}

/// `INSERT … VALUES (?,…),(?,…)…`.
pub(crate) fn values(table: &str, columns: &[(&str, &str)], rows: usize, suffix: &str) -> String {
    let names: Vec<&str> = columns.iter().map(|(name, _)| *name).collect();
    let row = format!("({})", vec!["?"; columns.len()].join(","));
    let mut sql = format!("INSERT INTO {table} ({}) VALUES ", names.join(", "));
    sql.reserve((row.len() + 1) * rows + suffix.len());
    for i in 0..rows {
        if i > 0 {
            sql.push(',');
        }
        sql.push_str(&row);
    }
    sql.push(' ');
    sql.push_str(suffix);
    sql
}

/// The most rows that go into one statement whatever their number; more are cut.
const WHOLE: usize = 64;

/// Cuts rows into chunks of 256, 128 or at most 64, so that few statement texts exist and each stays prepared, and yet
/// an ordinary group is one statement: each costs a switch to SQLite's thread and back.
pub(crate) fn chunks<T>(mut rows: &[T]) -> impl Iterator<Item = &[T]> {
    std::iter::from_fn(move || {
        if rows.is_empty() {
            return None;
        }
        let size = match rows.len() {
            few @ ..=WHOLE => few,
            many => (1_usize << many.ilog2()).min(256),
        };
        let (chunk, rest) = rows.split_at(size);
        rows = rest;
        Some(chunk)
    })
}

/// Inserts every row, each column by an expression; gives the number of rows that went in.
///
/// `insert_many!(tx, "table", rows, "ON CONFLICT DO NOTHING", |row| { column: pg_type = expression, … })`
macro_rules! insert_many {
    ($tx:expr, $table:literal, $rows:expr, $suffix:literal, |$row:ident| { $($columns:tt)+ }) => {{
        let mut inserted: u64 = 0;
        $crate::bulk::each_statement!($tx, $table, $rows, $suffix, |$row| { $($columns)+ }, |query, connection| {
            inserted += query.execute(connection).await?.rows_affected();
        });
        inserted
    }};
}
pub(crate) use insert_many;

/// As [`insert_many!`], with a suffix that ends in `RETURNING id`; gives the ids of the rows that went in.
macro_rules! insert_many_returning {
    ($tx:expr, $table:literal, $rows:expr, $suffix:literal, |$row:ident| { $($columns:tt)+ }) => {{
        let mut inserted: Vec<uuid::Uuid> = Vec::new();
        $crate::bulk::each_statement!($tx, $table, $rows, $suffix, |$row| { $($columns)+ }, |query, connection| {
            for row in query.fetch_all(connection).await? {
                inserted.push(sqlx::Row::try_get(&row, 0)?);
            }
        });
        inserted
    }};
}
pub(crate) use insert_many_returning;

/// Binds each column of the rows as an array to a statement of [`unnest`].
macro_rules! bind_arrays {
    (
        $query:expr, $table:literal, $rows:expr, $suffix:literal,
        |$row:ident| { $($column:ident : $kind:ident = $value:expr),+ $(,)? }
    ) => {{
        let query = $query;
        $(let query = query.bind($rows.iter().map(|$row| { let _ = $row; $value }).collect::<Vec<_>>());)+
        query
    }};
}
pub(crate) use bind_arrays;

/// The text of [`unnest`] for these columns, with its parameters from `$first` on, and the number of the next one.
macro_rules! unnest_text {
    (
        $first:expr, $table:literal, $rows:expr, $suffix:literal,
        |$row:ident| { $($column:ident : $kind:ident = $value:expr),+ $(,)? }
    ) => {{
        const COLUMNS: &[(&str, &str)] = &[$((stringify!($column), stringify!($kind))),+];
        let first: usize = $first;
        ($crate::bulk::unnest($table, COLUMNS, first, $suffix), first + COLUMNS.len())
    }};
}
pub(crate) use unnest_text;

/// Runs `$run` with each statement that is needed, and the connection to run it on.
macro_rules! each_statement {
    (
        $tx:expr, $table:literal, $rows:expr, $suffix:literal,
        |$row:ident| { $($column:ident : $kind:ident = $value:expr),+ $(,)? },
        |$query:ident, $connection:ident| $run:block
    ) => {{
        const COLUMNS: &[(&str, &str)] = &[$((stringify!($column), stringify!($kind))),+];
        let rows = $rows;
        match $tx.0.raw() {
            $crate::db::Raw::Pg($connection) => {
                static SQL: std::sync::LazyLock<String> =
                    std::sync::LazyLock::new(|| $crate::bulk::unnest($table, COLUMNS, 1, $suffix));
                if !rows.is_empty() {
                    let $query = sqlx::query::<sqlx::Postgres>(sqlx::AssertSqlSafe(SQL.as_str()));
                    let $query = $crate::bulk::bind_arrays!($query, $table, rows, $suffix, |$row| { $($column: $kind = $value),+ });
                    $run
                }
            }
            $crate::db::Raw::Lite(writer) => {
                for chunk in $crate::bulk::chunks(rows) {
                    let sql = $crate::bulk::values($table, COLUMNS, chunk.len(), $suffix);
                    let mut $query = sqlx::query::<sqlx::Sqlite>(sqlx::AssertSqlSafe(sql));
                    for $row in chunk {
                        $($query = $query.bind($value);)+
                    }
                    let $connection = &mut *writer;
                    $run
                }
            }
        }
    }};
}
pub(crate) use each_statement;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_cover_all_rows_in_order_with_few_sizes() {
        for n in [0, 1, 2, 3, 63, 64, 65, 127, 255, 256, 257, 500] {
            let rows: Vec<usize> = (0..n).collect();
            let pieces: Vec<&[usize]> = chunks(&rows).collect();
            assert_eq!(pieces.concat(), rows);
            assert!(pieces.iter().all(|piece| piece.len() <= 64 || matches!(piece.len(), 128 | 256)));
        }
    }

    #[test]
    fn both_texts_name_the_same_columns() {
        let columns = [("id", "uuid"), ("title", "text")];
        assert_eq!(
            unnest("t", &columns, 3, "X"),
            "INSERT INTO t (id, title) SELECT UNNEST($3::uuid[]), UNNEST($4::text[]) X"
        );
        assert_eq!(values("t", &columns, 2, "X"), "INSERT INTO t (id, title) VALUES (?,?),(?,?) X");
    }
}
