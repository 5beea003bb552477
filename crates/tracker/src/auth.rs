//! Accounts and sessions.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use chrono::Duration;
use rand::RngExt as _;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use taskpost_common::{
    Cause, EventId, SessionId, UserId,
    user::{Role, Roles, User, UserStatus},
};
use taskpost_store::{
    Change, Session, StoreError, Tx,
    sessions::{self, Refresh},
    users,
};
use utoipa::ToSchema;

use crate::{
    Caller, Error, Identity, RequestInfo, Tracker, passwords, tokens,
    validate::{Checks, Lines},
};

/// How long a session lasts without being used.
const SESSION: Duration = Duration::days(30);
/// The one letter beyond ASCII whose lower case is an ASCII letter.
const KELVIN: &str = "\u{212a}";
/// How many handles are tried for one name before chance decides.
const HANDLES: usize = 20;

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
    /// Who a token belongs to. Any flaw in it, and an ended session, give the same error.
    pub fn authenticate(&self, token: &str) -> Result<Identity, Error> {
        let identity = self.0.tokens.verify(token, self.0.clock.now())?;
        if self.0.revoked.contains(identity.session_id) { Err(Error::Unauthenticated) } else { Ok(identity) }
    }

    /// Makes an account and logs it in. The first on an empty instance is admin, unless that is switched off.
    pub async fn register(&self, info: &RequestInfo, input: Register) -> Result<(LoggedIn, EventId), Error> {
        let email = normal_email(&input.email);
        let name = input.name.trim().to_owned();
        check_account(&email, &name, &input.password)?;
        let hash = self.0.passwords.hash(input.password).await?;
        for _ in 0..3 {
            match self.try_register(info, &email, &name, &hash).await {
                // Somebody took the e-mail or the handle meanwhile; looking again tells which.
                Err(Error::Store(StoreError::Constraint(_))) => {}
                done => return done,
            }
        }
        Err(Error::Conflict("this name is being registered by many at once; try again".to_owned()))
    }

    async fn try_register(
        &self,
        info: &RequestInfo,
        email: &str,
        name: &str,
        hash: &str,
    ) -> Result<(LoggedIn, EventId), Error> {
        let admin_wanted = self.0.first_user_is_admin;
        let (email, name, hash) = (email.to_owned(), name.to_owned(), hash.to_owned());
        let (user, session, refresh, event) = self
            .change(&info.cause, move |tx, change| {
                Box::pin(async move {
                    if users::by_email(tx, &email).await?.is_some() {
                        return Err(Error::Conflict(
                            "an account with this e-mail exists; log in instead".to_owned(),
                        ));
                    }
                    let admin = admin_wanted && users::is_first(tx).await?;
                    let user = User {
                        id: change.clock.id(),
                        handle: free_handle(tx, &name).await?,
                        email,
                        name,
                        roles: Roles::from(if admin { vec![Role::Admin] } else { Vec::new() }),
                        status: UserStatus::Active,
                        timezone: "UTC".to_owned(),
                        locale: "en".to_owned(),
                        version: 1,
                        created_at: change.clock.now(),
                        updated_at: change.clock.now(),
                    };
                    let cause = by(change, user.id);
                    let change = Change { cause: &cause, ..change };
                    users::insert(tx, change, &user, &hash).await?;
                    let (session, refresh, event) = open_session(tx, change, &user).await?;
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
        let (user, hash) = found.map_or((None, None), |(user, hash)| (Some(user), Some(hash)));
        let fits = self.0.passwords.verify(input.password, hash).await?;
        let Some(user) = user.filter(|user| fits && user.status == UserStatus::Active) else {
            tracing::info!("login refused");
            return Err(Error::WrongCredentials);
        };
        let (user, session, refresh, event) = self
            .change(&info.cause, move |tx, change| {
                Box::pin(async move {
                    let cause = by(change, user.id);
                    let change = Change { cause: &cause, ..change };
                    let (session, refresh, event) = open_session(tx, change, &user).await?;
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
                    let (Refresh::Used(_, id) | Refresh::Reused(_, id)) = outcome else {
                        return Ok((outcome, None));
                    };
                    let Some(user) = users::get(tx, id).await? else { return Ok((Refresh::Invalid, None)) };
                    let next = match outcome {
                        Refresh::Used(session, _) if user.status == UserStatus::Active => {
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
                self.ended(session);
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
                    let user = users::get(tx, id).await?.ok_or(Error::Unauthenticated)?;
                    Ok(sessions::revoke(tx, change, &user, session).await?.map(|event| event.id))
                })
            })
            .await?;
        self.ended(session);
        Ok(event)
    }

    /// After the commit that ended a session.
    fn ended(&self, session: SessionId) {
        self.0.revoked.insert(session, self.0.clock.now());
        self.0.spread.publish(&[session]);
    }

    /// The caller's own account.
    pub async fn me(&self, caller: &Caller) -> Result<User, Error> {
        let user = users::get(&mut self.0.db.reader().await?, caller.user_id()).await?;
        user.ok_or(Error::Unauthenticated)
    }

    fn logged_in(&self, user: User, session_id: SessionId, refresh_token: String) -> Result<LoggedIn, Error> {
        let identity = Identity { user_id: user.id, session_id, roles: user.roles.clone() };
        Ok(LoggedIn {
            access_token: self.0.tokens.issue(&identity, self.0.clock.now())?,
            token_type: "Bearer",
            expires_in: tokens::LIFETIME.num_seconds(),
            refresh_token,
            user,
        })
    }
}

/// Without blanks around it, in lower case. The Kelvin sign stays as it is: its lower case is our k, so that it would
/// open the account of another address.
fn normal_email(email: &str) -> String {
    let parts: Vec<String> = email.trim().split(KELVIN).map(str::to_lowercase).collect();
    parts.join(KELVIN)
}

fn check_account(email: &str, name: &str, password: &str) -> Result<(), Error> {
    let mut checks = Checks::default();
    checks.email("/email", email);
    checks.text("/name", name, 1, 100, Lines::One);
    let length = password.chars().count();
    if !(12..=128).contains(&length) || password.len() > passwords::LONGEST {
        checks.fault("/password", "invalid_length", "must have 12 to 128 characters");
    }
    checks.finish()
}

/// Whoever registers or logs in is known only then, and is the actor of it.
fn by(change: Change<'_>, user: UserId) -> Cause {
    Cause { actor_id: Some(user), ..change.cause.clone() }
}

async fn open_session(
    tx: &mut Tx,
    change: Change<'_>,
    user: &User,
) -> Result<(SessionId, String, EventId), Error> {
    let session: SessionId = change.clock.id();
    let event = sessions::insert(tx, change, user, session, change.clock.now() + SESSION).await?;
    Ok((session, new_refresh(tx, change, session).await?, event.id))
}

/// A new refresh token of 256 random bits; only its digest is stored.
async fn new_refresh(tx: &mut Tx, change: Change<'_>, session: SessionId) -> Result<String, Error> {
    let token = URL_SAFE_NO_PAD.encode(rand::rng().random::<[u8; 32]>());
    sessions::insert_refresh(tx, change, session, &digest(&token), change.clock.now() + SESSION).await?;
    Ok(token)
}

fn digest(token: &str) -> String {
    URL_SAFE_NO_PAD.encode(Sha256::digest(token.as_bytes()))
}

/// The name in lower case with dashes, and a number when others have it.
async fn free_handle(session: &mut Session, name: &str) -> Result<String, Error> {
    let mut base: String = name
        .to_lowercase()
        .split(|c: char| !c.is_ascii_alphanumeric())
        .filter(|part| !part.is_empty())
        .collect::<Vec<_>>()
        .join("-");
    base.truncate(40);
    if base.is_empty() {
        base.push_str("user");
    }
    let candidates: Vec<String> =
        std::iter::once(base.clone()).chain((2..=HANDLES).map(|n| format!("{base}-{n}"))).collect();
    let taken = users::taken_handles(session, &candidates).await?;
    let free = candidates.into_iter().find(|candidate| !taken.contains(candidate));
    Ok(free.unwrap_or_else(|| format!("{base}-{:08x}", rand::rng().random::<u32>())))
}

/// A user id that a caller names, checked by the store when the change is made.
pub(crate) fn unknown_assignee(id: UserId) -> Error {
    Error::field("/assignee_id", "unknown_user", format!("there is no active user {id}"))
}
