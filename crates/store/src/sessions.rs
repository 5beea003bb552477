//! Sessions and their refresh tokens.

use chrono::{DateTime, Utc};
use sqlx::FromRow;
use taskpost_common::{
    Event, EventId, RefreshTokenId, SessionId, UserId,
    event::{SessionEvent, UserData},
    user::User,
};
use uuid::Uuid;

use crate::{
    Change, MAX_BATCH, Session, StoreError, Tx,
    db::on,
    dynamic::{Bind, Statement},
    events::{self, NewEvent},
    users::own,
};

/// A session that has not ended.
#[derive(Clone, Debug, FromRow)]
pub struct LiveSession {
    /// Its id.
    #[sqlx(try_from = "Uuid")]
    pub id: SessionId,
    /// What logged in, as it named itself.
    pub user_agent: String,
    /// When it logged in.
    pub created_at: DateTime<Utc>,
    /// The last login or refresh; absent when that was before it came to be noted.
    pub used_at: Option<DateTime<Utc>>,
    /// When it ends without being used.
    pub expires_at: DateTime<Utc>,
}

/// Opens a session and appends `user.logged_in`.
pub async fn insert(
    tx: &mut Tx,
    change: Change<'_>,
    user: &User,
    id: SessionId,
    expires_at: DateTime<Utc>,
    user_agent: &str,
) -> Result<NewEvent, StoreError> {
    const SQL: &str = "
        INSERT INTO sessions (id, user_id, created_at, expires_at, used_at, user_agent)
        VALUES ($1, $2, $3, $4, $3, $5)";
    on!(tx, |c| sqlx::query(SQL)
        .bind(id.0)
        .bind(user.id.0)
        .bind(change.clock.now())
        .bind(expires_at)
        .bind(user_agent)
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

/// Ends all live sessions of a user but one, and appends `user.logged_out` for each; gives which ended, and the last
/// event.
pub async fn revoke_all(
    tx: &mut Tx,
    change: Change<'_>,
    user: &User,
    but: Option<SessionId>,
) -> Result<(Vec<SessionId>, Option<EventId>), StoreError> {
    const SQL: &str = "
        UPDATE sessions SET revoked_at = $1
        WHERE user_id = $2 AND revoked_at IS NULL AND expires_at > $1 AND id <> $3 RETURNING id";
    // No session has the nil id.
    let but = but.map_or(Uuid::nil(), |id| id.0);
    let ended: Vec<(Uuid,)> = on!(tx, |c| sqlx::query_as(SQL)
        .bind(change.clock.now())
        .bind(user.id.0)
        .bind(but)
        .fetch_all(c)
        .await?);
    let mut ended: Vec<SessionId> = ended.into_iter().map(|(id,)| SessionId(id)).collect();
    ended.sort_unstable();
    let mut last = None;
    for ids in ended.chunks(MAX_BATCH) {
        let event = |id: &SessionId| {
            let event = Event::UserLoggedOut(session_event(user, *id));
            NewEvent::new(change, &event, user.id.0, user.version, own(user.id))
        };
        let events = ids.iter().map(event).collect::<Result<Vec<_>, _>>()?;
        events::append(tx, &events.iter().collect::<Vec<_>>()).await?;
        last = events.last().map(|event| event.id);
    }
    Ok((ended, last))
}

/// A user's live sessions, newest first, older than `before`.
pub async fn live(
    session: &mut Session,
    user: UserId,
    before: Option<SessionId>,
    limit: usize,
    now: DateTime<Utc>,
) -> Result<Vec<LiveSession>, StoreError> {
    let mut statement = Statement::new(
        "SELECT id, user_agent, created_at, used_at, expires_at FROM sessions
         WHERE revoked_at IS NULL AND user_id = ",
    );
    statement.bind(Bind::Uuid(user.0)).push(" AND expires_at > ").bind(Bind::Time(now));
    if let Some(before) = before {
        statement.push(" AND id < ").bind(Bind::Uuid(before.0));
    }
    statement.push(" ORDER BY id DESC LIMIT ").bind(Bind::Int(i64::try_from(limit).unwrap_or(i64::MAX)));
    statement.fetch_all(session).await
}

/// A live session of a user.
pub async fn live_one(
    session: &mut Session,
    user: UserId,
    id: SessionId,
    now: DateTime<Utc>,
) -> Result<Option<LiveSession>, StoreError> {
    const SQL: &str = "
        SELECT id, user_agent, created_at, used_at, expires_at FROM sessions
        WHERE id = $1 AND user_id = $2 AND revoked_at IS NULL AND expires_at > $3";
    Ok(on!(session, |c| sqlx::query_as(SQL).bind(id.0).bind(user.0).bind(now).fetch_optional(c).await?))
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

/// Stores the digest of a new refresh token. Its session was used now, and lasts as long as it does.
pub async fn insert_refresh(
    tx: &mut Tx,
    change: Change<'_>,
    session: SessionId,
    digest: &str,
    expires_at: DateTime<Utc>,
) -> Result<(), StoreError> {
    const SQL: &str = "INSERT INTO refresh_tokens (id, session_id, digest, created_at, expires_at) VALUES ($1, $2, $3, $4, $5)";
    const LAST: &str = "UPDATE sessions SET expires_at = $1, used_at = $2 WHERE id = $3";
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
    on!(tx, |c| sqlx::query(LAST)
        .bind(expires_at)
        .bind(change.clock.now())
        .bind(session.0)
        .execute(c)
        .await
        .map(drop)?);
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
