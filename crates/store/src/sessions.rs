//! Sessions and their refresh tokens.

use chrono::{DateTime, Utc};
use taskpost_common::{
    Event, RefreshTokenId, SessionId, UserId,
    event::{SessionEvent, UserData},
    user::User,
};
use uuid::Uuid;

use crate::{
    Change, Session, StoreError, Tx,
    db::on,
    events::{self, NewEvent},
    users::own,
};

/// Opens a session and appends `user.logged_in`.
pub async fn insert(
    tx: &mut Tx,
    change: Change<'_>,
    user: &User,
    id: SessionId,
    expires_at: DateTime<Utc>,
) -> Result<NewEvent, StoreError> {
    const SQL: &str = "INSERT INTO sessions (id, user_id, created_at, expires_at) VALUES ($1, $2, $3, $4)";
    on!(tx, |c| sqlx::query(SQL)
        .bind(id.0)
        .bind(user.id.0)
        .bind(change.clock.now())
        .bind(expires_at)
        .execute(c)
        .await
        .map(drop)?);
    let event = Event::UserLoggedIn(session_event(user, id));
    let event = NewEvent::new(change, &event, user.id.0, user.version, own(user.id))?;
    events::append(tx, &[&event]).await?;
    Ok(event)
}

/// Ends a session and appends `user.logged_out`; nothing when it had ended already.
pub async fn revoke(
    tx: &mut Tx,
    change: Change<'_>,
    user: &User,
    id: SessionId,
) -> Result<Option<NewEvent>, StoreError> {
    const SQL: &str = "UPDATE sessions SET revoked_at = $1 WHERE id = $2 AND user_id = $3 AND revoked_at IS NULL RETURNING id";
    let ended: Option<(Uuid,)> = on!(tx, |c| sqlx::query_as(SQL)
        .bind(change.clock.now())
        .bind(id.0)
        .bind(user.id.0)
        .fetch_optional(c)
        .await?);
    if ended.is_none() {
        return Ok(None);
    }
    let event = Event::UserLoggedOut(session_event(user, id));
    let event = NewEvent::new(change, &event, user.id.0, user.version, own(user.id))?;
    events::append(tx, &[&event]).await?;
    Ok(Some(event))
}

/// The sessions revoked at or after a moment: what an API process keeps in memory.
pub async fn revoked_since(
    session: &mut Session,
    since: DateTime<Utc>,
) -> Result<Vec<SessionId>, StoreError> {
    const SQL: &str = "SELECT id FROM sessions WHERE revoked_at >= $1";
    let rows: Vec<(Uuid,)> = on!(session, |c| sqlx::query_as(SQL).bind(since).fetch_all(c).await?);
    Ok(rows.into_iter().map(|(id,)| SessionId(id)).collect())
}

/// Stores the digest of a new refresh token. Its session lasts as long as it does.
pub async fn insert_refresh(
    tx: &mut Tx,
    change: Change<'_>,
    session: SessionId,
    digest: &str,
    expires_at: DateTime<Utc>,
) -> Result<(), StoreError> {
    const SQL: &str = "INSERT INTO refresh_tokens (id, session_id, digest, created_at, expires_at) VALUES ($1, $2, $3, $4, $5)";
    const LAST: &str = "UPDATE sessions SET expires_at = $1 WHERE id = $2";
    let id: RefreshTokenId = change.clock.id();
    on!(tx, |c| sqlx::query(SQL)
        .bind(id.0)
        .bind(session.0)
        .bind(digest)
        .bind(change.clock.now())
        .bind(expires_at)
        .execute(c)
        .await
        .map(drop)?);
    on!(tx, |c| sqlx::query(LAST).bind(expires_at).bind(session.0).execute(c).await.map(drop)?);
    Ok(())
}

/// What became of a refresh token that was shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refresh {
    /// It was good and is used up now.
    Used(SessionId, UserId),
    /// It had been used before: somebody else has it too, so its session must end.
    Reused(SessionId, UserId),
    /// Unknown, expired, or of an ended session.
    Invalid,
}

/// Uses up a refresh token. Of two parallel uses exactly one is [`Refresh::Used`].
pub async fn use_refresh(tx: &mut Tx, digest: &str, now: DateTime<Utc>) -> Result<Refresh, StoreError> {
    const USE: &str = "
        UPDATE refresh_tokens SET used_at = $1 WHERE digest = $2 AND used_at IS NULL AND expires_at > $1 RETURNING session_id";
    const FIND: &str = "SELECT session_id FROM refresh_tokens WHERE digest = $1 AND used_at IS NOT NULL";
    const SESSION: &str =
        "SELECT user_id FROM sessions WHERE id = $1 AND revoked_at IS NULL AND expires_at > $2";
    let taken: Option<(Uuid,)> =
        on!(tx, |c| sqlx::query_as(USE).bind(now).bind(digest).fetch_optional(c).await?);
    let first = taken.is_some();
    let found = match taken {
        Some(found) => Some(found),
        None => on!(tx, |c| sqlx::query_as(FIND).bind(digest).fetch_optional(c).await?),
    };
    let Some((session,)) = found else { return Ok(Refresh::Invalid) };
    let holder: Option<(Uuid,)> =
        on!(tx, |c| sqlx::query_as(SESSION).bind(session).bind(now).fetch_optional(c).await?);
    Ok(match holder {
        None => Refresh::Invalid,
        Some((id,)) if first => Refresh::Used(SessionId(session), UserId(id)),
        Some((id,)) => Refresh::Reused(SessionId(session), UserId(id)),
    })
}

fn session_event(user: &User, session_id: SessionId) -> SessionEvent {
    SessionEvent { user: UserData { id: user.id, roles: user.roles.clone() }, session_id }
}
