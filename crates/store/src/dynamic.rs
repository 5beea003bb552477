//! Statements whose WHERE depends on what was asked. Text comes from this crate only; values are always bound.

use chrono::{DateTime, Utc};
use sqlx::AssertSqlSafe;
use uuid::Uuid;

use crate::{Plan, Session, StoreError, db::on};

/// A value to bind.
#[derive(Clone, Debug)]
pub(crate) enum Bind {
    Uuid(Uuid),
    MaybeUuid(Option<Uuid>),
    Text(String),
    Int(i64),
    Time(DateTime<Utc>),
}

macro_rules! bound {
    ($query:expr, $binds:expr) => {{
        let mut query = $query;
        for bind in $binds {
            query = match bind {
                Bind::Uuid(value) => query.bind(value),
                Bind::MaybeUuid(value) => query.bind(value),
                Bind::Text(value) => query.bind(value),
                Bind::Int(value) => query.bind(value),
                Bind::Time(value) => query.bind(value),
            };
        }
        query
    }};
}

/// A statement under construction: text and the values of its `$1`, `$2`, ….
#[derive(Clone, Debug, Default)]
pub(crate) struct Statement {
    sql: String,
    binds: Vec<Bind>,
}

impl Statement {
    pub(crate) fn new(sql: &'static str) -> Self {
        Self { sql: sql.to_owned(), binds: Vec::new() }
    }

    /// Text of our own that names its `$1`, `$2`, … already, with their values.
    pub(crate) fn of(sql: &'static str, binds: Vec<Bind>) -> Self {
        Self { sql: sql.to_owned(), binds }
    }

    /// Adds text of our own.
    pub(crate) fn push(&mut self, sql: &'static str) -> &mut Self {
        self.sql.push_str(sql);
        self
    }

    /// Where its text ends by now.
    pub(crate) const fn mark(&self) -> usize {
        self.sql.len()
    }

    /// The text since a mark, which may come [`again`](Statement::again).
    pub(crate) fn since(&self, mark: usize) -> String {
        self.sql.get(mark..).unwrap_or_default().to_owned()
    }

    /// Adds text that it has already, with the same values.
    pub(crate) fn again(&mut self, text: &str) -> &mut Self {
        self.sql.push_str(text);
        self
    }

    /// Adds a value; may be called again for the same place of several values.
    pub(crate) fn bind(&mut self, value: Bind) -> &mut Self {
        self.binds.push(value);
        self.sql.push('$');
        self.sql.push_str(&self.binds.len().to_string());
        self
    }

    /// Adds `(v1, v2, …)`; an empty list matches nothing on either database.
    pub(crate) fn list(&mut self, values: impl IntoIterator<Item = Bind>) -> &mut Self {
        self.push("(");
        let mut empty = true;
        for value in values {
            if !empty {
                self.push(", ");
            }
            empty = false;
            self.bind(value);
        }
        if empty {
            self.push("NULL");
        }
        self.push(")")
    }

    /// Runs it and reads all rows.
    pub(crate) async fn fetch_all<T>(self, session: &mut Session) -> Result<Vec<T>, StoreError>
    where
        T: for<'r> sqlx::FromRow<'r, sqlx::postgres::PgRow>
            + for<'r> sqlx::FromRow<'r, sqlx::sqlite::SqliteRow>
            + Send
            + Unpin,
    {
        Ok(on!(session, |c| bound!(sqlx::query_as(AssertSqlSafe(self.sql)), self.binds).fetch_all(c).await?))
    }

    /// Runs it and gives the number of rows it changed.
    pub(crate) async fn execute(self, session: &mut Session) -> Result<u64, StoreError> {
        Ok(on!(session, |c| {
            bound!(sqlx::query(AssertSqlSafe(self.sql)), self.binds).execute(c).await?.rows_affected()
        }))
    }

    /// How the database goes about it. Postgres runs it, to say what each step took.
    pub(crate) async fn explain(self, session: &mut Session) -> Result<Plan, StoreError> {
        let Self { sql, binds } = self;
        let steps = if session.is_postgres() {
            let asked = Self { sql: format!("EXPLAIN (ANALYZE, BUFFERS) {sql}"), binds };
            let rows: Vec<(String,)> = asked.fetch_all(session).await?;
            rows.into_iter().map(|(step,)| step).collect()
        } else {
            let asked = format!("EXPLAIN QUERY PLAN {sql}");
            // A plan that was asked for before is kept, whatever became of the indexes.
            let rows: Vec<(i64, i64, i64, String)> =
                on!(session, |c| bound!(sqlx::query_as(AssertSqlSafe(asked)), binds)
                    .persistent(false)
                    .fetch_all(c)
                    .await?);
            rows.into_iter().map(|(_, _, _, step)| step).collect()
        };
        Ok(Plan { sql, steps })
    }
}

/// A pattern for LIKE that matches every text with this part in it, with `\` for ESCAPE.
pub(crate) fn containing(part: &str) -> String {
    let mut pattern = String::with_capacity(part.len() + 2);
    pattern.push('%');
    for letter in part.chars() {
        if matches!(letter, '%' | '_' | '\\') {
            pattern.push('\\');
        }
        pattern.push(letter);
    }
    pattern.push('%');
    pattern
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_means_its_letters() {
        assert_eq!(containing("100%_a\\"), "%100\\%\\_a\\\\%");
    }
}
