//! One's own account: its fields, its password, its sessions.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::json;
use taskpost_common::{EventId, SessionId, user::User};
use taskpost_store::{
    Change, Tx,
    audit::{self, NewAudit},
    password_resets,
    sessions::{self, LiveSession},
    users,
};
use utoipa::ToSchema;

use crate::{
    Caller, Error, Tracker,
    new_account::check_password,
    pages::{Cursors, Page, PageRequest},
    passwords,
    tasks::present,
    users::PatchUser,
    validate::Checks,
};

/// A merge patch of one's own account: what is absent stays, null goes back to what a new account has.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PatchMe {
    /// How others see the user; 1 to 100 characters.
    #[serde(default, deserialize_with = "present")]
    #[schema(nullable = false, min_length = 1, max_length = 100)]
    pub name: Option<Option<String>>,
    /// A name of the IANA time zone database.
    #[serde(default, deserialize_with = "present")]
    #[schema(example = "Europe/Berlin", min_length = 1, max_length = 64)]
    pub timezone: Option<Option<String>>,
    /// A well-formed BCP 47 language tag of at most 35 characters.
    #[serde(default, deserialize_with = "present")]
    #[schema(example = "de-AT", min_length = 2, max_length = 35)]
    pub locale: Option<Option<String>>,
}

/// Another password.
#[derive(Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ChangePassword {
    /// The present one.
    pub current_password: String,
    /// 12 to 128 characters.
    #[schema(example = "correct horse battery", min_length = 12, max_length = 128)]
    pub new_password: String,
}

/// A login that has not ended.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct UserSession {
    /// Its id.
    pub id: SessionId,
    /// Whether this request belongs to it.
    pub current: bool,
    /// What logged in, as it named itself.
    pub user_agent: String,
    /// When it logged in.
    pub created_at: DateTime<Utc>,
    /// The last login or refresh.
    pub used_at: Option<DateTime<Utc>>,
    /// When it ends without being used.
    pub expires_at: DateTime<Utc>,
}

impl Tracker {
    /// The caller's own account.
    pub async fn me(&self, caller: &Caller) -> Result<User, Error> {
        let user = users::get(&mut self.0.db.reader().await?, caller.user_id()).await?;
        user.ok_or(Error::Unauthenticated)
    }

    /// Changes the caller's own account.
    pub async fn update_me(
        &self,
        caller: &Caller,
        patch: PatchMe,
        if_match: Option<i64>,
    ) -> Result<(User, Option<EventId>), Error> {
        let PatchMe { name, timezone, locale } = patch;
        let patch = PatchUser { name, timezone, locale, status: None };
        self.edit_user(caller, caller.user_id(), patch, if_match).await
    }

    /// Sets another password and ends the caller's other sessions.
    pub async fn change_password(
        &self,
        caller: &Caller,
        input: ChangePassword,
    ) -> Result<Option<EventId>, Error> {
        let mut checks = Checks::default();
        if input.current_password.len() > passwords::LONGEST {
            let detail = format!("must have at most {} bytes", passwords::LONGEST);
            checks.fault("/current_password", "too_long", detail);
        }
        check_password(&mut checks, "/new_password", &input.new_password);
        checks.finish()?;
        let (id, session) = (caller.user_id(), caller.identity.session_id);
        let found = users::credentials(&mut self.0.db.reader().await?, id).await?;
        let (_, current) = found.ok_or(Error::Unauthenticated)?;
        if !self.0.passwords.verify(input.current_password, Some(current.clone())).await? {
            return Err(Error::field("/current_password", "wrong_password", "is not the account's password"));
        }
        let hash = self.0.passwords.hash(input.new_password).await?;
        let (event, ended) = self
            .change(&caller.cause, move |tx, change| {
                Box::pin(async move {
                    let (user, now) = users::for_update(tx, id).await?.ok_or(Error::Unauthenticated)?;
                    if now != current {
                        let detail = "the password was changed meanwhile; log in again";
                        return Err(Error::Conflict(detail.to_owned()));
                    }
                    set_password(tx, change, &user, &hash, Some(session)).await
                })
            })
            .await?;
        self.ended(&ended);
        Ok(event)
    }

    /// A page of the caller's live sessions, newest first.
    pub async fn sessions(&self, caller: &Caller, page: PageRequest) -> Result<Page<UserSession>, Error> {
        let (user, now) = (caller.user_id(), self.0.clock.now());
        let cursors = Cursors { key: &self.0.cursors, scope: format!("sessions {user}"), now };
        let before = cursors.open::<SessionId>(page.cursor.as_deref())?.map(|(_, id)| id);
        let mut reader = self.0.db.reader().await?;
        let rows = sessions::live(&mut reader, user, before, page.limit + 1, now).await?;
        let page = cursors.page(rows, page.limit, None, |session| session.id)?;
        Ok(page.map(|session| shown(session, caller)))
    }

    /// One of the caller's live sessions.
    pub async fn session(&self, caller: &Caller, id: SessionId) -> Result<UserSession, Error> {
        let (mut reader, now) = (self.0.db.reader().await?, self.0.clock.now());
        let session = sessions::live_one(&mut reader, caller.user_id(), id, now).await?;
        session.map(|session| shown(session, caller)).ok_or(Error::NotFound("session"))
    }

    /// Ends one of the caller's sessions.
    pub async fn end_session(&self, caller: &Caller, id: SessionId) -> Result<EventId, Error> {
        let holder = caller.user_id();
        let event = self
            .change(&caller.cause, move |tx, change| {
                Box::pin(async move {
                    let (user, _) = users::for_update(tx, holder).await?.ok_or(Error::Unauthenticated)?;
                    let live = sessions::live_one(tx, holder, id, change.clock.now()).await?;
                    live.ok_or(Error::NotFound("session"))?;
                    let event = sessions::revoke(tx, change, &user, id).await?;
                    let event = event.ok_or(Error::NotFound("session"))?;
                    let row = NewAudit {
                        action: "session.ended",
                        subject_type: "session",
                        subject_id: id.0,
                        project_id: None,
                        detail: json!({"user_id": holder}),
                    };
                    audit::record(tx, change, row).await?;
                    Ok(event.id)
                })
            })
            .await?;
        self.ended(&[id]);
        Ok(event)
    }

    /// Ends all of the caller's sessions but the one that asks.
    pub async fn end_other_sessions(&self, caller: &Caller) -> Result<Option<EventId>, Error> {
        let (holder, session) = (caller.user_id(), caller.identity.session_id);
        let (ended, event) = self
            .change(&caller.cause, move |tx, change| {
                Box::pin(async move {
                    let (user, _) = users::for_update(tx, holder).await?.ok_or(Error::Unauthenticated)?;
                    let (ended, event) = sessions::revoke_all(tx, change, &user, Some(session)).await?;
                    for id in &ended {
                        let row = NewAudit {
                            action: "session.ended",
                            subject_type: "session",
                            subject_id: id.0,
                            project_id: None,
                            detail: json!({"user_id": holder}),
                        };
                        audit::record(tx, change, row).await?;
                    }
                    Ok((ended, event))
                })
            })
            .await?;
        self.ended(&ended);
        Ok(event)
    }
}

/// Sets a password, ends the sessions but the one to keep, and uses up what would set another; gives the last event
/// and the sessions that ended.
pub(crate) async fn set_password(
    tx: &mut Tx,
    change: Change<'_>,
    before: &User,
    password_hash: &str,
    keep: Option<SessionId>,
) -> Result<(Option<EventId>, Vec<SessionId>), Error> {
    let (user, changed) = users::set_password(tx, change, before, password_hash).await?;
    let (ended, last) = sessions::revoke_all(tx, change, &user, keep).await?;
    password_resets::close(tx, user.id, change.clock.now()).await?;
    let way = if keep.is_some() { "password" } else { "mail" };
    let row = NewAudit {
        action: "user.password_changed",
        subject_type: "user",
        subject_id: user.id.0,
        project_id: None,
        detail: json!({"by": way, "sessions_ended": ended.len()}),
    };
    audit::record(tx, change, row).await?;
    Ok((last.or(changed), ended))
}

fn shown(session: LiveSession, caller: &Caller) -> UserSession {
    let LiveSession { id, user_agent, created_at, used_at, expires_at } = session;
    let current = id == caller.identity.session_id;
    UserSession { id, current, user_agent, created_at, used_at, expires_at }
}
