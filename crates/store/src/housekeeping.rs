//! What is kept for a while only.

use chrono::{DateTime, Duration, Utc};

use crate::{Db, StoreError, db::on};

/// Deletes up to `limit` rows of each kind that are past their time; gives how many went.
///
/// Answers under an Idempotency-Key are kept 24 hours, tries 30 days, refresh tokens and password resets 7 days past
/// their end, the audit log 400 days.
pub async fn sweep(db: &Db, now: DateTime<Utc>, limit: i64) -> Result<u64, StoreError> {
    const KEYS: &str = "
        DELETE FROM idempotency_keys WHERE (user_id, route, key) IN (
            SELECT user_id, route, key FROM idempotency_keys WHERE created_at < $1 ORDER BY created_at LIMIT $2)";
    // UUIDv7 grow with time; the oldest rows are the lowest ids.
    const ATTEMPTS: &str = "
        DELETE FROM attempts WHERE id IN (SELECT id FROM attempts ORDER BY id LIMIT $2) AND started_at < $1";
    const TOKENS: &str = "
        DELETE FROM refresh_tokens WHERE id IN (SELECT id FROM refresh_tokens ORDER BY id LIMIT $2) AND expires_at < $1";
    const RESETS: &str = "
        DELETE FROM password_resets WHERE digest IN (SELECT digest FROM password_resets WHERE expires_at < $1 LIMIT $2)";
    const AUDIT: &str = "
        DELETE FROM audit_log WHERE id IN (SELECT id FROM audit_log ORDER BY id LIMIT $2) AND at < $1";
    let mut gone = 0;
    for (sql, age) in [
        (KEYS, Duration::hours(24)),
        (ATTEMPTS, Duration::days(30)),
        (TOKENS, Duration::days(7)),
        (RESETS, Duration::days(7)),
        (AUDIT, Duration::days(400)),
    ] {
        let mut tx = db.begin().await?;
        gone += on!(tx, |c| sqlx::query(sql).bind(now - age).bind(limit).execute(c).await?.rows_affected());
        tx.commit().await?;
    }
    Ok(gone)
}
