//! Ways back in for who forgot a password: tokens that are good once, by digest.

use chrono::{DateTime, Utc};
use taskpost_common::UserId;
use uuid::Uuid;

use crate::{Change, Session, StoreError, Tx, db::on};

/// Stores the digest of a new token.
pub async fn insert(
    tx: &mut Tx,
    change: Change<'_>,
    user: UserId,
    digest: &str,
    expires_at: DateTime<Utc>,
) -> Result<(), StoreError> {
    const SQL: &str =
        "INSERT INTO password_resets (digest, user_id, created_at, expires_at) VALUES ($1, $2, $3, $4)";
    on!(tx, |c| sqlx::query(SQL)
        .bind(digest)
        .bind(user.0)
        .bind(change.clock.now())
        .bind(expires_at)
        .execute(c)
        .await
        .map(drop)?);
    Ok(())
}

/// How many good tokens a user has.
pub async fn count(session: &mut Session, user: UserId, now: DateTime<Utc>) -> Result<i64, StoreError> {
    const SQL: &str =
        "SELECT count(*) FROM password_resets WHERE user_id = $1 AND used_at IS NULL AND expires_at > $2";
    let (count,): (i64,) = on!(session, |c| sqlx::query_as(SQL).bind(user.0).bind(now).fetch_one(c).await?);
    Ok(count)
}

/// Whose a token is, if it is good.
pub async fn holder(
    session: &mut Session,
    digest: &str,
    now: DateTime<Utc>,
) -> Result<Option<UserId>, StoreError> {
    const SQL: &str =
        "SELECT user_id FROM password_resets WHERE digest = $1 AND used_at IS NULL AND expires_at > $2";
    let row: Option<(Uuid,)> =
        on!(session, |c| sqlx::query_as(SQL).bind(digest).bind(now).fetch_optional(c).await?);
    Ok(row.map(|(id,)| UserId(id)))
}

/// Uses up a token; whether it was good. Of two parallel uses exactly one is.
pub async fn take(tx: &mut Tx, digest: &str, now: DateTime<Utc>) -> Result<bool, StoreError> {
    const SQL: &str = "
        UPDATE password_resets SET used_at = $1
        WHERE digest = $2 AND used_at IS NULL AND expires_at > $1 RETURNING user_id";
    let row: Option<(Uuid,)> =
        on!(tx, |c| sqlx::query_as(SQL).bind(now).bind(digest).fetch_optional(c).await?);
    Ok(row.is_some())
}

/// Uses up whatever tokens a user has.
pub async fn close(tx: &mut Tx, user: UserId, now: DateTime<Utc>) -> Result<(), StoreError> {
    const SQL: &str = "UPDATE password_resets SET used_at = $1 WHERE user_id = $2 AND used_at IS NULL";
    on!(tx, |c| sqlx::query(SQL).bind(now).bind(user.0).execute(c).await.map(drop)?);
    Ok(())
}
