//! Tokens for machines: whose one is, and what it may be used for. The store is asked at most once a second for each.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use chrono::{DateTime, TimeDelta, Utc};
use taskpost_common::{
    ApiTokenId, SessionId, UserId,
    secret::digest,
    token::Scope,
    user::{Role, Roles},
};
use taskpost_store::api_tokens::{self, TokenHolder};
use tokio::{sync::Semaphore, time::timeout};

use crate::{Error, Identity, Tracker, auth::random_token};

/// What every token begins with.
const PREFIX: &str = "tp_";
/// How many letters follow: 256 bits in Base64.
const LETTERS: usize = 43;
/// How long the store's word holds.
const FRESH: Duration = Duration::from_secs(1);
/// The most tokens that are remembered; what is more is asked of the store each time.
const MOST: usize = 4_096;
/// How many may ask the store at once: whoever guesses tokens must not take its connections from those who have one.
const ASKING: usize = 4;
/// How long a question may take, with the wait for its turn.
const PATIENCE: Duration = Duration::from_secs(2);
/// How many uses may be written down at once; one that finds no place is written down at a later use.
const NOTING: usize = 4;
/// How exactly the last use is known.
const EXACT: TimeDelta = TimeDelta::minutes(1);
/// How long writing one down may take.
const NOTE: Duration = Duration::from_secs(5);

/// What the store has said of tokens.
pub(crate) struct MachineTokens {
    /// By digest.
    known: Mutex<HashMap<String, Known>>,
    asking: Semaphore,
    noting: Arc<Semaphore>,
}

struct Known {
    identity: Identity,
    expires_at: Option<DateTime<Utc>>,
    asked: Instant,
}

impl Known {
    fn holds(&self, now: DateTime<Utc>) -> bool {
        self.asked.elapsed() < FRESH && self.expires_at.is_none_or(|end| now < end)
    }
}

impl Default for MachineTokens {
    fn default() -> Self {
        Self {
            known: Mutex::default(),
            asking: Semaphore::new(ASKING),
            noting: Arc::new(Semaphore::new(NOTING)),
        }
    }
}

impl MachineTokens {
    /// Forgets the token that a session id stands for.
    pub(crate) fn forget(&self, id: SessionId) {
        self.known().retain(|_, known| known.identity.session_id != id);
    }

    /// Forgets the tokens of a user, whose rights have changed.
    pub(crate) fn forget_user(&self, user: UserId) {
        self.known().retain(|_, known| known.identity.user_id != user);
    }

    /// Whether the token of this digest was good when it was last asked about.
    fn has_been_good(&self, digest: &str, now: DateTime<Utc>) -> bool {
        self.known().get(digest).is_some_and(|known| known.expires_at.is_none_or(|end| now < end))
    }

    fn recall(&self, digest: &str, now: DateTime<Utc>) -> Option<Identity> {
        self.known().get(digest).filter(|known| known.holds(now)).map(|known| known.identity.clone())
    }

    fn remember(&self, digest: String, known: Known) {
        let mut all = self.known();
        if all.len() >= MOST && !all.contains_key(&digest) {
            let oldest = all.iter().min_by_key(|(_, known)| known.asked).map(|(digest, _)| digest.clone());
            oldest.and_then(|digest| all.remove(&digest));
        }
        all.insert(digest, known);
    }

    fn known(&self) -> MutexGuard<'_, HashMap<String, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Tracker {
    /// Whether only the store can say whose a token is, and it has not called it good here before.
    pub fn is_strange(&self, token: &str) -> bool {
        let good = || self.0.machine_tokens.has_been_good(&digest(token), self.0.clock.now());
        is_well_formed(token) && !good()
    }

    /// Who a token for machines belongs to.
    pub(crate) async fn machine(&self, token: &str) -> Result<Identity, Error> {
        if !is_well_formed(token) {
            return Err(Error::Unauthenticated);
        }
        let (digest, now) = (digest(token), self.0.clock.now());
        if let Some(identity) = self.0.machine_tokens.recall(&digest, now) {
            return Ok(identity);
        }
        timeout(PATIENCE, self.ask(digest, now)).await.unwrap_or(Err(Error::Away))
    }

    async fn ask(&self, digest: String, now: DateTime<Utc>) -> Result<Identity, Error> {
        let tokens = &self.0.machine_tokens;
        let _turn = tokens.asking.acquire().await.map_err(|_| Error::Away)?;
        // Whoever came before may have asked for the same.
        if let Some(identity) = tokens.recall(&digest, now) {
            return Ok(identity);
        }
        let asked = Instant::now();
        let holder = api_tokens::by_digest(&mut self.0.db.reader().await?, &digest, now).await?;
        let Some(holder) = holder else {
            tokens.known().remove(&digest);
            return Err(Error::Unauthenticated);
        };
        self.note(&holder, now);
        let expires_at = holder.expires_at;
        let identity = identity(holder);
        tokens.remember(digest, Known { identity: identity.clone(), expires_at, asked });
        Ok(identity)
    }

    /// Writes down that a token is used, when that was not done within the last minute; nobody waits for it.
    fn note(&self, holder: &TokenHolder, now: DateTime<Utc>) {
        if holder.used_at.is_some_and(|at| now - at < EXACT) {
            return;
        }
        let Ok(place) = Arc::clone(&self.0.machine_tokens.noting).try_acquire_owned() else { return };
        let (db, id) = (self.0.db.clone(), holder.id);
        self.0.changes.spawn(async move {
            let _place = place;
            let note = async {
                let mut tx = db.begin().await?;
                api_tokens::touch(&mut tx, id, now, now - EXACT).await?;
                tx.commit().await
            };
            match timeout(NOTE, note).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::debug!(%error, "the use of a token could not be noted"),
                Err(_) => tracing::debug!("the use of a token could not be noted in time"),
            }
        });
    }
}

/// Whether a bearer token is one for machines; a JWT never begins so.
pub(crate) fn is_one(token: &str) -> bool {
    token.starts_with(PREFIX)
}

/// A new token.
pub(crate) fn new_secret() -> String {
    format!("{PREFIX}{}", random_token())
}

/// The session that a token stands for: its requests have no other, and it is revoked like one.
pub(crate) const fn session_of(id: ApiTokenId) -> SessionId {
    SessionId(id.0)
}

fn is_well_formed(token: &str) -> bool {
    let is_letter = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'_');
    token.strip_prefix(PREFIX).is_some_and(|rest| rest.len() == LETTERS && rest.bytes().all(is_letter))
}

/// Without the scope for it, a token of an admin is one of a member.
fn identity(holder: TokenHolder) -> Identity {
    let TokenHolder { id, user_id, roles, scopes, .. } = holder;
    let mut roles: Vec<Role> = roles.into();
    roles.retain(|role| *role != Role::Admin || scopes.has(Scope::Admin));
    Identity { user_id, session_id: session_of(id), roles: Roles::from(roles), scopes: Some(scopes) }
}

#[cfg(test)]
mod tests {
    use taskpost_common::{Clock, token::Scopes};

    use super::*;

    fn holder(clock: &Clock, scopes: &[Scope]) -> TokenHolder {
        TokenHolder {
            id: clock.id(),
            user_id: clock.id(),
            roles: Roles::from(vec![Role::Admin, Role::Finance]),
            scopes: Scopes::from(scopes.to_vec()),
            expires_at: None,
            used_at: None,
        }
    }

    fn known(clock: &Clock) -> Known {
        let identity = identity(holder(clock, &[Scope::Read]));
        Known { identity, expires_at: None, asked: Instant::now() }
    }

    #[test]
    fn a_secret_is_well_formed_and_little_else_is() {
        let secret = new_secret();
        assert!(is_one(&secret) && is_well_formed(&secret));
        for bad in ["tp_", "tp_short", &secret[..45], &format!("{secret}A"), &format!("{}!", &secret[..45])] {
            assert!(!is_well_formed(bad), "{bad}");
        }
        assert!(!is_one("eyJhbGciOiJIUzI1NiJ9.e30.c2ln"));
    }

    #[test]
    fn the_role_admin_needs_its_scope() {
        let clock = Clock::system();
        let roles = |scopes: &[Scope]| Vec::<Role>::from(identity(holder(&clock, scopes)).roles);
        assert_eq!(roles(&[Scope::Read, Scope::Write]), [Role::Finance]);
        assert_eq!(roles(&[Scope::Admin]), [Role::Admin, Role::Finance]);
    }

    #[test]
    fn what_is_remembered_has_an_end() {
        let (clock, tokens) = (Clock::system(), MachineTokens::default());
        let now = clock.now();
        tokens.remember("a".to_owned(), known(&clock));
        tokens.remember("b".to_owned(), known(&clock));
        let [a, b] = ["a", "b"].map(|digest| tokens.recall(digest, now).unwrap());
        tokens.forget(a.session_id);
        assert!(tokens.recall("a", now).is_none() && tokens.recall("b", now).is_some());
        tokens.forget_user(b.user_id);
        assert!(tokens.recall("b", now).is_none());
        tokens.remember("a".to_owned(), Known { expires_at: Some(now), ..known(&clock) });
        assert!(tokens.recall("a", now).is_none(), "the token has expired");
        assert!(!tokens.has_been_good("a", now) && !tokens.has_been_good("c", now));
        let asked = Instant::now().checked_sub(FRESH).unwrap();
        tokens.remember("c".to_owned(), Known { asked, ..known(&clock) });
        assert!(tokens.recall("c", now).is_none() && tokens.has_been_good("c", now), "asked about again");
        for number in 0..MOST + 10 {
            tokens.remember(number.to_string(), known(&clock));
        }
        assert!(tokens.known().len() <= MOST);
    }
}
