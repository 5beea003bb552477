//! Changes of a user, each with its events.

use chrono::{DateTime, Utc};
use taskpost_common::{
    Event, EventId, UserId,
    event::{UserData, UserEvent, UserRoleChanged, UserUpdated},
    user::{Roles, User, UserStatus},
};

use super::{UserRow, own};
use crate::{
    Change, StoreError, Tx,
    db::on,
    events::{self, NewEvent},
};

/// A user and its password hash, to be changed in this transaction: who else would change the account, or log in to it,
/// waits until it ends.
pub async fn for_update(tx: &mut Tx, id: UserId) -> Result<Option<(User, String)>, StoreError> {
    const READ: &str = "SELECT * FROM users WHERE id = $1";
    // Not `FOR UPDATE`, for which every row that refers to the user would have to wait.
    const LOCK: &str = "SELECT * FROM users WHERE id = $1 FOR NO KEY UPDATE";
    let sql = if tx.is_postgres() { LOCK } else { READ };
    let row: Option<UserRow> = on!(tx, |c| sqlx::query_as(sql).bind(id.0).fetch_optional(c).await?);
    Ok(row.map(UserRow::split))
}

/// How many active admins there are beside this user. Two transactions that ask take turns: on Postgres by an advisory
/// lock until the end of the transaction, on SQLite because there is one writer.
pub async fn other_admins(tx: &mut Tx, id: UserId) -> Result<i64, StoreError> {
    // An arbitrary number that names "the admins".
    const LOCK: &str = "SELECT pg_advisory_xact_lock(7041003)";
    const SQL: &str = "
        SELECT count(*) FROM users WHERE id <> $1 AND status = 'active' AND ',' || roles || ',' LIKE '%,admin,%'";
    if tx.is_postgres() {
        on!(tx, |c| sqlx::query(LOCK).execute(c).await.map(drop)?);
    }
    let (count,): (i64,) = on!(tx, |c| sqlx::query_as(SQL).bind(id.0).fetch_one(c).await?);
    Ok(count)
}

/// The names of the fields that [`update`] stores and that differ.
pub fn changed_fields(before: &User, after: &User) -> Vec<String> {
    let fields = [
        ("name", before.name != after.name),
        ("timezone", before.timezone != after.timezone),
        ("locale", before.locale != after.locale),
        ("status", before.status != after.status),
    ];
    fields.into_iter().filter(|(_, differs)| *differs).map(|(name, _)| name.to_owned()).collect()
}

/// Stores name, time zone, locale and status of `after` in place of `before`, and appends `user.updated`, and
/// `user.disabled` for whom that becomes true. Nothing differs: nothing is stored.
pub async fn update(
    tx: &mut Tx,
    change: Change<'_>,
    before: &User,
    after: User,
) -> Result<(User, Option<EventId>), StoreError> {
    const SQL: &str = "
        UPDATE users SET name = $1, timezone = $2, locale = $3, status = $4, version = $5, updated_at = $6
        WHERE id = $7 AND version = $8";
    let mut fields = changed_fields(before, &after);
    if fields.is_empty() {
        return Ok((after, None));
    }
    let after = next(before, after, change.clock.now());
    let rows = on!(tx, |c| sqlx::query(SQL)
        .bind(&after.name)
        .bind(&after.timezone)
        .bind(&after.locale)
        .bind(after.status.as_str())
        .bind(after.version)
        .bind(after.updated_at)
        .bind(after.id.0)
        .bind(before.version)
        .execute(c)
        .await?
        .rows_affected());
    check(rows)?;
    let mut facts = Vec::new();
    let disabled = before.status == UserStatus::Active && after.status == UserStatus::Disabled;
    if disabled {
        fields.retain(|name| name != "status");
    }
    if !fields.is_empty() {
        facts.push(Event::UserUpdated(UserUpdated { user: data(&after), fields }));
    }
    if disabled {
        facts.push(Event::UserDisabled(UserEvent { user: data(&after) }));
    }
    let event = tell(tx, change, &after, &facts).await?;
    Ok((after, event))
}

/// Gives a user these roles in place of those it had, and appends `user.role_changed`; nothing when it has them.
pub async fn set_roles(
    tx: &mut Tx,
    change: Change<'_>,
    before: &User,
    roles: Roles,
) -> Result<(User, Option<EventId>), StoreError> {
    const SQL: &str =
        "UPDATE users SET roles = $1, version = $2, updated_at = $3 WHERE id = $4 AND version = $5";
    if before.roles == roles {
        return Ok((before.clone(), None));
    }
    let after = next(before, User { roles, ..before.clone() }, change.clock.now());
    let rows = on!(tx, |c| sqlx::query(SQL)
        .bind(after.roles.to_string())
        .bind(after.version)
        .bind(after.updated_at)
        .bind(after.id.0)
        .bind(before.version)
        .execute(c)
        .await?
        .rows_affected());
    check(rows)?;
    let (from, to) = (before.roles.clone(), after.roles.clone());
    let fact = Event::UserRoleChanged(UserRoleChanged { user: data(&after), from, to });
    let event = tell(tx, change, &after, &[fact]).await?;
    Ok((after, event))
}

/// Stores another password's hash and appends `user.password_changed`.
pub async fn set_password(
    tx: &mut Tx,
    change: Change<'_>,
    before: &User,
    password_hash: &str,
) -> Result<(User, Option<EventId>), StoreError> {
    const SQL: &str =
        "UPDATE users SET password_hash = $1, version = $2, updated_at = $3 WHERE id = $4 AND version = $5";
    let after = next(before, before.clone(), change.clock.now());
    let rows = on!(tx, |c| sqlx::query(SQL)
        .bind(password_hash)
        .bind(after.version)
        .bind(after.updated_at)
        .bind(after.id.0)
        .bind(before.version)
        .execute(c)
        .await?
        .rows_affected());
    check(rows)?;
    let fact = Event::UserPasswordChanged(UserEvent { user: data(&after) });
    let event = tell(tx, change, &after, &[fact]).await?;
    Ok((after, event))
}

/// `after` as the next version of `before`.
fn next(before: &User, after: User, now: DateTime<Utc>) -> User {
    User { version: before.version + 1, updated_at: now, ..after }
}

fn check(rows: u64) -> Result<(), StoreError> {
    if rows == 0 { Err(StoreError::Stale("the user")) } else { Ok(()) }
}

/// Appends what happened to a user; gives the last event.
async fn tell(
    tx: &mut Tx,
    change: Change<'_>,
    user: &User,
    facts: &[Event],
) -> Result<Option<EventId>, StoreError> {
    let event = |fact| NewEvent::new(change, fact, user.id.0, user.version, own(user.id));
    let events = facts.iter().map(event).collect::<Result<Vec<_>, _>>()?;
    events::append(tx, &events.iter().collect::<Vec<_>>()).await?;
    Ok(events.last().map(|event| event.id))
}

fn data(user: &User) -> UserData {
    UserData { id: user.id, roles: user.roles.clone() }
}
