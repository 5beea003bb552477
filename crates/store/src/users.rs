//! Users.

mod change;
mod list;

pub use change::{changed_fields, for_update, other_admins, set_password, set_roles, update};
pub use list::{UserFilter, count, list};

use chrono::{DateTime, Utc};
use sqlx::FromRow;
use taskpost_common::{
    Event, UserId,
    event::{UserData, UserEvent},
    user::{Roles, User, UserStatus},
};
use uuid::Uuid;

use crate::{
    Change, MAX_BATCH, Session, StoreError, Tx,
    db::on,
    dynamic::{Bind, Statement},
    events::{self, NewEvent, SeenBy},
};

/// Stores a new user with its event. A taken e-mail or handle is [`StoreError::Constraint`].
pub async fn insert(
    tx: &mut Tx,
    change: Change<'_>,
    user: &User,
    password_hash: &str,
) -> Result<NewEvent, StoreError> {
    const SQL: &str = "
        INSERT INTO users (id, handle, email, name, password_hash, roles, status, timezone, locale, version, created_at, updated_at)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)";
    on!(tx, |c| sqlx::query(SQL)
        .bind(user.id.0)
        .bind(&user.handle)
        .bind(&user.email)
        .bind(&user.name)
        .bind(password_hash)
        .bind(user.roles.to_string())
        .bind(user.status.as_str())
        .bind(&user.timezone)
        .bind(&user.locale)
        .bind(user.version)
        .bind(user.created_at)
        .bind(user.updated_at)
        .execute(c)
        .await
        .map(drop)?);
    let event =
        Event::UserRegistered(UserEvent { user: UserData { id: user.id, roles: user.roles.clone() } });
    let event = NewEvent::new(change, &event, user.id.0, user.version, own(user.id))?;
    events::append(tx, &[&event]).await?;
    Ok(event)
}

/// Events about an account are for its holder.
pub(crate) fn own(user: UserId) -> SeenBy {
    SeenBy { owner_id: Some(user), ..SeenBy::default() }
}

/// A user by id.
pub async fn get(session: &mut Session, id: UserId) -> Result<Option<User>, StoreError> {
    Ok(credentials(session, id).await?.map(|(user, _)| user))
}

/// A user and its password hash by id.
pub async fn credentials(session: &mut Session, id: UserId) -> Result<Option<(User, String)>, StoreError> {
    const SQL: &str = "SELECT * FROM users WHERE id = $1";
    let row: Option<UserRow> = on!(session, |c| sqlx::query_as(SQL).bind(id.0).fetch_optional(c).await?);
    Ok(row.map(UserRow::split))
}

/// A user and its password hash by e-mail, which is stored trimmed and in lower case.
pub async fn by_email(session: &mut Session, email: &str) -> Result<Option<(User, String)>, StoreError> {
    const SQL: &str = "SELECT * FROM users WHERE email = $1";
    let row: Option<UserRow> = on!(session, |c| sqlx::query_as(SQL).bind(email).fetch_optional(c).await?);
    Ok(row.map(UserRow::split))
}

/// Users by their ids, in no order; those that do not exist are left out.
pub async fn by_ids(session: &mut Session, ids: &[UserId]) -> Result<Vec<User>, StoreError> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let mut statement = Statement::new("SELECT * FROM users WHERE id IN ");
    statement.list(ids.iter().map(|id| Bind::Uuid(id.0)));
    let rows: Vec<UserRow> = statement.fetch_all(session).await?;
    Ok(rows.into_iter().map(|row| row.split().0).collect())
}

/// The active users of these handles, in no order; the others are left out.
pub async fn by_handles(
    session: &mut Session,
    handles: &[String],
) -> Result<Vec<(String, UserId)>, StoreError> {
    let mut found = Vec::with_capacity(handles.len());
    for handles in handles.chunks(MAX_BATCH) {
        let mut statement =
            Statement::new("SELECT handle, id FROM users WHERE status = 'active' AND handle IN ");
        statement.list(handles.iter().cloned().map(Bind::Text));
        let rows: Vec<(String, Uuid)> = statement.fetch_all(session).await?;
        found.extend(rows.into_iter().map(|(handle, id)| (handle, UserId(id))));
    }
    Ok(found)
}

/// Which of these handles are taken.
pub async fn taken_handles(session: &mut Session, handles: &[String]) -> Result<Vec<String>, StoreError> {
    let mut statement = Statement::new("SELECT handle FROM users WHERE handle IN ");
    statement.list(handles.iter().cloned().map(Bind::Text));
    let rows: Vec<(String,)> = statement.fetch_all(session).await?;
    Ok(rows.into_iter().map(|(handle,)| handle).collect())
}

/// Whether nobody has registered yet. Inside a transaction it also keeps a second one from finding the same: on
/// Postgres by an advisory lock until the end of the transaction, on SQLite because there is one writer.
pub async fn is_first(tx: &mut Tx) -> Result<bool, StoreError> {
    // An arbitrary number that names "the first user".
    const LOCK: &str = "SELECT pg_advisory_xact_lock(7041001)";
    const SQL: &str = "SELECT NOT EXISTS (SELECT 1 FROM users)";
    if tx.is_postgres() {
        on!(tx, |c| sqlx::query(LOCK).execute(c).await.map(drop)?);
    }
    let (first,): (bool,) = on!(tx, |c| sqlx::query_as(SQL).fetch_one(c).await?);
    Ok(first)
}

#[derive(FromRow)]
struct UserRow {
    #[sqlx(try_from = "Uuid")]
    id: UserId,
    handle: String,
    email: String,
    name: String,
    password_hash: String,
    #[sqlx(try_from = "String")]
    roles: Roles,
    #[sqlx(try_from = "String")]
    status: UserStatus,
    timezone: String,
    locale: String,
    version: i64,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
}

impl UserRow {
    /// The user and, apart from it, the hash.
    fn split(self) -> (User, String) {
        let user = User {
            id: self.id,
            handle: self.handle,
            email: self.email,
            name: self.name,
            roles: self.roles,
            status: self.status,
            timezone: self.timezone,
            locale: self.locale,
            version: self.version,
            created_at: self.created_at,
            updated_at: self.updated_at,
        };
        (user, self.password_hash)
    }
}
