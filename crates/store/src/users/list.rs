//! Lists of users.

use taskpost_common::{UserId, user::User};

use super::UserRow;
use crate::{
    Session, StoreError,
    dynamic::{Bind, Statement},
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

/// Where a page of users starts.
#[derive(Clone, Copy, Debug)]
pub enum UserStart {
    /// At the newest.
    Newest,
    /// At users older than this one.
    OlderThan(UserId),
    /// At users newer than this one, the nearest to it.
    NewerThan(UserId),
    /// After so many of the newest.
    Offset(i64),
}

/// A page of users, newest first.
pub async fn list(
    session: &mut Session,
    filter: &UserFilter,
    start: UserStart,
    limit: usize,
) -> Result<Vec<User>, StoreError> {
    let mut statement = Statement::new("SELECT * FROM users WHERE TRUE");
    filter.narrow(&mut statement);
    match start {
        UserStart::OlderThan(id) => {
            statement.push(" AND id < ").bind(Bind::Uuid(id.0)).push(" ORDER BY id DESC")
        }
        UserStart::NewerThan(id) => statement.push(" AND id > ").bind(Bind::Uuid(id.0)).push(" ORDER BY id"),
        UserStart::Newest | UserStart::Offset(_) => statement.push(" ORDER BY id DESC"),
    };
    statement.push(" LIMIT ").bind(Bind::Int(i64::try_from(limit).unwrap_or(i64::MAX)));
    if let UserStart::Offset(offset) = start {
        statement.push(" OFFSET ").bind(Bind::Int(offset));
    }
    let rows: Vec<UserRow> = statement.fetch_all(session).await?;
    let mut users: Vec<User> = rows.into_iter().map(|row| row.split().0).collect();
    if matches!(start, UserStart::NewerThan(_)) {
        users.reverse();
    }
    Ok(users)
}

/// How many users the filter matches.
pub async fn count(session: &mut Session, filter: &UserFilter) -> Result<i64, StoreError> {
    let mut statement = Statement::new("SELECT count(*) FROM users WHERE TRUE");
    filter.narrow(&mut statement);
    let rows: Vec<(i64,)> = statement.fetch_all(session).await?;
    Ok(rows.first().map_or(0, |(count,)| *count))
}

/// A pattern for LIKE that matches every text with this part in it.
fn containing(part: &str) -> String {
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
