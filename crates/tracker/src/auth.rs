//! Accounts and sessions.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use chrono::Duration;
use rand::RngExt as _;
use serde::{Deserialize, Serialize};
use taskpost_common::{
    Cause, EventId, SessionId, UserId,
    secret::digest,
    user::{Role, Roles, User, UserStatus},
};
use taskpost_store::{
    Change, StoreError, Tx,
    sessions::{self, Refresh},
    users,
};
use utoipa::ToSchema;

use crate::{
    Caller, Error, Identity, RequestInfo, Tracker, machine_tokens,
    new_account::{NewAccount, normal_email},
    passwords, tokens,
};

/// How long a session lasts without being used.
const SESSION: Duration = Duration::days(30);

/// A new account.
#[derive(Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Register {
    /// Unique; compared without case.
    #[schema(example = "ada@example.org")]
    pub email: String,
    /// How others see the user.
    #[schema(example = "Ada Lovelace", min_length = 1, max_length = 100)]
    pub name: String,
    /// 12 to 128 characters.
    #[schema(example = "correct horse battery", min_length = 12, max_length = 128)]
    pub password: String,
}

/// Credentials.
#[derive(Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Login {
    /// As registered; compared without case.
    #[schema(example = "ada@example.org")]
    pub email: String,
    /// The password.
    #[schema(example = "correct horse battery")]
    pub password: String,
}

/// A refresh token to be exchanged.
#[derive(Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RefreshInput {
    /// From the last login or refresh; good once.
    pub refresh_token: String,
}

/// The tokens of a session.
#[derive(Clone, Serialize, ToSchema)]
pub struct LoggedIn {
    /// A JWT for the Authorization header.
    pub access_token: String,
    /// Always `Bearer`.
    pub token_type: &'static str,
    /// Seconds until the access token ends.
    pub expires_in: i64,
    /// Good once, for new tokens.
    pub refresh_token: String,
    /// Whose they are.
    pub user: User,
}

impl Tracker {
    /// Who a token belongs to. Any flaw in it, an ended session, and a token for machines that is revoked or whose
    /// owner may not log in, give the same error. Only of a token for machines the store may be asked.
    pub async fn authenticate(&self, token: &str) -> Result<Identity, Error> {
        let identity = if machine_tokens::is_one(token) {
            // Boxed, so that the common way does not carry the weight of a question to the store.
            Box::pin(self.machine(token)).await?
        } else {
            self.0.tokens.verify(token, self.0.clock.now())?
        };
        if self.0.revoked.contains(identity.session_id) { Err(Error::Unauthenticated) } else { Ok(identity) }
    }

    /// Makes an account and logs it in. The first on an empty instance is admin, unless that is switched off.
    pub async fn register(&self, info: &RequestInfo, input: Register) -> Result<(LoggedIn, EventId), Error> {
        let account = self.new_account(&input.email, &input.name, input.password).await?;
        for _ in 0..3 {
            match self.try_register(info, account.clone()).await {
                // Somebody took the e-mail or the handle meanwhile; looking again tells which.
                Err(Error::Store(StoreError::Constraint(_))) => {}
                done => return done,
            }
        }
        Err(taken_by_many())
    }

    async fn try_register(
        &self,
        info: &RequestInfo,
        account: NewAccount,
    ) -> Result<(LoggedIn, EventId), Error> {
        let admin_wanted = self.0.first_user_is_admin;
        let user_agent = info.user_agent.clone();
        let (user, session, refresh, event) = self
            .change(&info.cause, move |tx, change| {
                Box::pin(async move {
                    let admin = admin_wanted && users::is_first(tx).await?;
                    let roles = Roles::from(if admin { vec![Role::Admin] } else { Vec::new() });
                    let user = account.user(tx, change, roles).await?;
                    let cause = by(change, user.id);
                    let change = Change { cause: &cause, ..change };
                    account.store(tx, change, &user).await?;
                    let (session, refresh, event) = open_session(tx, change, &user, &user_agent).await?;
                    Ok((user, session, refresh, event))
                })
            })
            .await?;
        Ok((self.logged_in(user, session, refresh)?, event))
    }

    /// Opens a session. An unknown e-mail and a wrong password are answered alike, in like time.
    pub async fn login(&self, info: &RequestInfo, input: Login) -> Result<(LoggedIn, EventId), Error> {
        if input.password.len() > passwords::LONGEST {
            return Err(Error::field(
                "/password",
                "too_long",
                format!("must have at most {} bytes", passwords::LONGEST),
            ));
        }
        let email = normal_email(&input.email);
        if email.contains('\0') {
            return Err(Error::field("/email", "control_character", "must not contain control characters"));
        }
        let found = users::by_email(&mut self.0.db.reader().await?, &email).await?;
        let hash = found.as_ref().map(|(_, hash)| hash.clone());
        let fits = self.0.passwords.verify(input.password, hash).await?;
        let Some((user, hash)) = found.filter(|(user, _)| fits && user.status == UserStatus::Active) else {
            tracing::info!("login refused");
            return Err(Error::WrongCredentials);
        };
        let (id, user_agent) = (user.id, info.user_agent.clone());
        let (user, session, refresh, event) = self
            .change(&info.cause, move |tx, change| {
                Box::pin(async move {
                    // While the password was checked, it or the account may have changed.
                    let (user, current) = users::for_update(tx, id).await?.ok_or(Error::WrongCredentials)?;
                    if user.status != UserStatus::Active || current != hash {
                        return Err(Error::WrongCredentials);
                    }
                    let cause = by(change, user.id);
                    let change = Change { cause: &cause, ..change };
                    let (session, refresh, event) = open_session(tx, change, &user, &user_agent).await?;
                    Ok((user, session, refresh, event))
                })
            })
            .await?;
        Ok((self.logged_in(user, session, refresh)?, event))
    }

    /// Exchanges a refresh token. One that was used before ends its session: somebody else has it too.
    pub async fn refresh(&self, info: &RequestInfo, input: RefreshInput) -> Result<LoggedIn, Error> {
        let digest = digest(&input.refresh_token);
        let (outcome, next) = self
            .change(&info.cause, move |tx, change| {
                Box::pin(async move {
                    let outcome = sessions::use_refresh(tx, &digest, change.clock.now()).await?;
                    let (Refresh::Used(session, id) | Refresh::Reused(session, id)) = outcome else {
                        return Ok((outcome, None));
                    };
                    let Some((user, _)) = users::for_update(tx, id).await? else {
                        return Ok((Refresh::Invalid, None));
                    };
                    // While this waited for the user's row, the session may have been ended.
                    let live = sessions::live_one(tx, id, session, change.clock.now()).await?.is_some();
                    let next = match outcome {
                        Refresh::Used(session, _) if live && user.status == UserStatus::Active => {
                            Some((new_refresh(tx, change, session).await?, user))
                        }
                        Refresh::Reused(session, _) => {
                            sessions::revoke(tx, change, &user, session).await?;
                            None
                        }
                        _ => None,
                    };
                    Ok((outcome, next))
                })
            })
            .await?;
        match (outcome, next) {
            (Refresh::Used(session, _), Some((refresh, user))) => self.logged_in(user, session, refresh),
            (Refresh::Reused(session, user), _) => {
                self.ended(&[session]);
                tracing::warn!(user.id = %user, session.id = %session, "a used refresh token came back; its session is ended");
                Err(Error::Unauthenticated)
            }
            _ => Err(Error::Unauthenticated),
        }
    }

    /// Ends the caller's session; from now on its tokens are refused here, and within a second everywhere.
    pub async fn logout(&self, caller: &Caller) -> Result<Option<EventId>, Error> {
        let session = caller.identity.session_id;
        let id = caller.user_id();
        let event = self
            .change(&caller.cause, move |tx, change| {
                Box::pin(async move {
                    let (user, _) = users::for_update(tx, id).await?.ok_or(Error::Unauthenticated)?;
                    Ok(sessions::revoke(tx, change, &user, session).await?.map(|event| event.id))
                })
            })
            .await?;
        self.ended(&[session]);
        Ok(event)
    }

    /// After the commit that ended these sessions.
    pub(crate) fn ended(&self, sessions: &[SessionId]) {
        let now = self.0.clock.now();
        for session in sessions {
            self.0.revoked.insert(*session, now);
        }
        self.0.spread.publish(sessions);
    }

    fn logged_in(&self, user: User, session_id: SessionId, refresh_token: String) -> Result<LoggedIn, Error> {
        let identity = Identity { user_id: user.id, session_id, roles: user.roles.clone(), scopes: None };
        Ok(LoggedIn {
            access_token: self.0.tokens.issue(&identity, self.0.clock.now())?,
            token_type: "Bearer",
            expires_in: tokens::LIFETIME.num_seconds(),
            refresh_token,
            user,
        })
    }
}

/// Whoever registers or logs in is known only then, and is the actor of it.
pub(crate) fn by(change: Change<'_>, user: UserId) -> Cause {
    Cause { actor_id: Some(user), ..change.cause.clone() }
}

async fn open_session(
    tx: &mut Tx,
    change: Change<'_>,
    user: &User,
    user_agent: &str,
) -> Result<(SessionId, String, EventId), Error> {
    let session: SessionId = change.clock.id();
    let until = change.clock.now() + SESSION;
    let event = sessions::insert(tx, change, user, session, until, user_agent).await?;
    Ok((session, new_refresh(tx, change, session).await?, event.id))
}

/// A new refresh token; only its digest is stored.
async fn new_refresh(tx: &mut Tx, change: Change<'_>, session: SessionId) -> Result<String, Error> {
    let token = random_token();
    sessions::insert_refresh(tx, change, session, &digest(&token), change.clock.now() + SESSION).await?;
    Ok(token)
}

/// 256 random bits as 43 characters.
pub(crate) fn random_token() -> String {
    URL_SAFE_NO_PAD.encode(rand::rng().random::<[u8; 32]>())
}

/// The e-mail or the handle was taken again and again while the account was made.
pub(crate) fn taken_by_many() -> Error {
    Error::Conflict("this name is being registered by many at once; try again".to_owned())
}

/// A user id that a caller names, checked by the store when the change is made.
pub(crate) fn unknown_assignee(id: UserId) -> Error {
    Error::field("/assignee_id", "unknown_user", format!("there is no active user {id}"))
}
