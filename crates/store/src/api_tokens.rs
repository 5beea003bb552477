//! Tokens for machines, by digest.

use chrono::{DateTime, Utc};
use sqlx::FromRow;
use taskpost_common::{
    ApiTokenId, UserId,
    token::{ApiToken, Scopes},
    user::Roles,
};
use uuid::Uuid;

use crate::{
    Session, StoreError, Tx,
    db::on,
    dynamic::{Bind, Statement},
};

/// Whose a token is, and what it may be used for.
#[derive(Clone, Debug, FromRow)]
pub struct TokenHolder {
    /// The token.
    #[sqlx(try_from = "Uuid")]
    pub id: ApiTokenId,
    /// The user.
    #[sqlx(try_from = "Uuid")]
    pub user_id: UserId,
    /// The user's roles now.
    #[sqlx(try_from = "String")]
    pub roles: Roles,
    /// The token's scopes.
    #[sqlx(try_from = "String")]
    pub scopes: Scopes,
    /// When the token ends.
    pub expires_at: Option<DateTime<Utc>>,
    /// When it was last used, as far as it is noted.
    pub used_at: Option<DateTime<Utc>>,
}

/// Stores a new token.
pub async fn insert(tx: &mut Tx, user: UserId, token: &ApiToken, digest: &str) -> Result<(), StoreError> {
    const SQL: &str = "
        INSERT INTO api_tokens (id, user_id, name, digest, scopes, created_at, expires_at)
        VALUES ($1, $2, $3, $4, $5, $6, $7)";
    on!(tx, |c| sqlx::query(SQL)
        .bind(token.id.0)
        .bind(user.0)
        .bind(&token.name)
        .bind(digest)
        .bind(token.scopes.to_string())
        .bind(token.created_at)
        .bind(token.expires_at)
        .execute(c)
        .await
        .map(drop)?);
    Ok(())
}

/// How many tokens a user has that are not revoked.
pub async fn count(session: &mut Session, user: UserId) -> Result<i64, StoreError> {
    const SQL: &str = "SELECT count(*) FROM api_tokens WHERE user_id = $1 AND revoked_at IS NULL";
    let (count,): (i64,) = on!(session, |c| sqlx::query_as(SQL).bind(user.0).fetch_one(c).await?);
    Ok(count)
}

/// A user's tokens that are not revoked, newest first, older than `before`.
pub async fn list(
    session: &mut Session,
    user: UserId,
    before: Option<ApiTokenId>,
    limit: usize,
) -> Result<Vec<ApiToken>, StoreError> {
    let mut statement = Statement::new(
        "SELECT id, name, scopes, created_at, expires_at, used_at FROM api_tokens
         WHERE revoked_at IS NULL AND user_id = ",
    );
    statement.bind(Bind::Uuid(user.0));
    if let Some(before) = before {
        statement.push(" AND id < ").bind(Bind::Uuid(before.0));
    }
    statement.push(" ORDER BY id DESC LIMIT ").bind(Bind::Int(i64::try_from(limit).unwrap_or(i64::MAX)));
    let rows: Vec<Row> = statement.fetch_all(session).await?;
    Ok(rows.into_iter().map(ApiToken::from).collect())
}

/// A token of a user that is not revoked.
pub async fn get(
    session: &mut Session,
    user: UserId,
    id: ApiTokenId,
) -> Result<Option<ApiToken>, StoreError> {
    const SQL: &str = "
        SELECT id, name, scopes, created_at, expires_at, used_at FROM api_tokens
        WHERE id = $1 AND user_id = $2 AND revoked_at IS NULL";
    let row: Option<Row> =
        on!(session, |c| sqlx::query_as(SQL).bind(id.0).bind(user.0).fetch_optional(c).await?);
    Ok(row.map(ApiToken::from))
}

/// Gives a token another name; none comes back when the user has no such token.
pub async fn rename(
    tx: &mut Tx,
    user: UserId,
    id: ApiTokenId,
    name: &str,
) -> Result<Option<ApiToken>, StoreError> {
    const SQL: &str = "
        UPDATE api_tokens SET name = $1 WHERE id = $2 AND user_id = $3 AND revoked_at IS NULL
        RETURNING id, name, scopes, created_at, expires_at, used_at";
    let row: Option<Row> =
        on!(tx, |c| sqlx::query_as(SQL).bind(name).bind(id.0).bind(user.0).fetch_optional(c).await?);
    Ok(row.map(ApiToken::from))
}

/// Ends a token; whether the user had it.
pub async fn revoke(
    tx: &mut Tx,
    user: UserId,
    id: ApiTokenId,
    now: DateTime<Utc>,
) -> Result<bool, StoreError> {
    const SQL: &str =
        "UPDATE api_tokens SET revoked_at = $1 WHERE id = $2 AND user_id = $3 AND revoked_at IS NULL";
    let rows =
        on!(tx, |c| sqlx::query(SQL).bind(now).bind(id.0).bind(user.0).execute(c).await?.rows_affected());
    Ok(rows > 0)
}

/// Whose the token of this digest is, if it is good and its owner may log in.
pub async fn by_digest(
    session: &mut Session,
    digest: &str,
    now: DateTime<Utc>,
) -> Result<Option<TokenHolder>, StoreError> {
    const SQL: &str = "
        SELECT api_tokens.id, user_id, roles, scopes, expires_at, used_at
        FROM api_tokens JOIN users ON users.id = api_tokens.user_id
        WHERE digest = $1 AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > $2) AND status = 'active'";
    Ok(on!(session, |c| sqlx::query_as(SQL).bind(digest).bind(now).fetch_optional(c).await?))
}

/// Notes that a token is used, unless that was noted after `before`.
pub async fn touch(
    tx: &mut Tx,
    id: ApiTokenId,
    now: DateTime<Utc>,
    before: DateTime<Utc>,
) -> Result<(), StoreError> {
    const SQL: &str =
        "UPDATE api_tokens SET used_at = $1 WHERE id = $2 AND (used_at IS NULL OR used_at <= $3)";
    on!(tx, |c| sqlx::query(SQL).bind(now).bind(id.0).bind(before).execute(c).await.map(drop)?);
    Ok(())
}

#[derive(FromRow)]
struct Row {
    #[sqlx(try_from = "Uuid")]
    id: ApiTokenId,
    name: String,
    #[sqlx(try_from = "String")]
    scopes: Scopes,
    created_at: DateTime<Utc>,
    expires_at: Option<DateTime<Utc>>,
    used_at: Option<DateTime<Utc>>,
}

impl From<Row> for ApiToken {
    fn from(row: Row) -> Self {
        Self {
            id: row.id,
            name: row.name,
            scopes: row.scopes,
            created_at: row.created_at,
            expires_at: row.expires_at,
            used_at: row.used_at,
        }
    }
}
