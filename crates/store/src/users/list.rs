//! Lists of users.

use taskpost_common::{UserId, user::User};

use super::UserRow;
use crate::{
    Session, Start, StoreError,
    dynamic::{Bind, Statement, containing},
};

/// Which users are wanted.
#[derive(Clone, Debug, Default)]
pub struct UserFilter {
    /// Part of the name or the handle, whatever its case.
    pub name: Option<String>,
}

impl UserFilter {
    fn narrow(&self, statement: &mut Statement) {
        let Some(part) = &self.name else { return };
        let (lower, upper) = (containing(&part.to_lowercase()), containing(&part.to_uppercase()));
        // A database may know the cases of ASCII only. Where name and part differ in other letters, one of the two
        // spellings leaves those as they are.
        statement.push(" AND (handle LIKE ").bind(Bind::Text(lower.clone()));
        statement.push(" ESCAPE '\\' OR LOWER(name) LIKE ").bind(Bind::Text(lower));
        statement.push(" ESCAPE '\\' OR UPPER(name) LIKE ").bind(Bind::Text(upper));
        statement.push(" ESCAPE '\\')");
    }
}

/// A page of users, newest first.
pub async fn list(
    session: &mut Session,
    filter: &UserFilter,
    start: Start<UserId>,
    limit: usize,
) -> Result<Vec<User>, StoreError> {
    let mut statement = Statement::new("SELECT * FROM users WHERE TRUE");
    filter.narrow(&mut statement);
    start.page(&mut statement, limit);
    let rows: Vec<UserRow> = statement.fetch_all(session).await?;
    Ok(start.newest_first(rows.into_iter().map(|row| row.split().0).collect()))
}

/// How many users the filter matches.
pub async fn count(session: &mut Session, filter: &UserFilter) -> Result<i64, StoreError> {
    let mut statement = Statement::new("SELECT count(*) FROM users WHERE TRUE");
    filter.narrow(&mut statement);
    let rows: Vec<(i64,)> = statement.fetch_all(session).await?;
    Ok(rows.first().map_or(0, |(count,)| *count))
}
