//! What the instance's secrets are good for beside tokens: keys of their own for each purpose, so that none can stand in
//! for another.

use std::fmt;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use hmac::{Hmac, KeyInit, Mac};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use crate::ids::UserId;

/// What keys are for.
#[derive(Clone, Copy, Debug)]
pub enum Purpose {
    /// Tokens that leave by mail.
    MailedToken,
    /// Digests of what requests said.
    RequestBody,
}

/// The keys of one purpose, one by each secret: the first makes, all verify.
#[derive(Clone)]
pub struct Keys(Vec<[u8; 32]>);

/// A token that a mail gets when it is sent. Rows, queues and dead letters hold this, which is of no use without the
/// instance's secret, and for nobody but the one user.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SealedToken {
    /// What the token is made of, with the user's id.
    pub seed: Uuid,
    /// The token's [`digest`].
    pub digest: String,
}

impl Purpose {
    const fn word(self) -> &'static [u8] {
        match self {
            Self::MailedToken => b"taskpost mailed token",
            Self::RequestBody => b"taskpost request body",
        }
    }
}

impl Keys {
    /// Derives them.
    pub fn derive(secrets: &[SecretString], purpose: Purpose) -> Self {
        let key = |secret: &SecretString| mac(secret.expose_secret().as_bytes(), &[purpose.word()]);
        Self(secrets.iter().map(key).collect())
    }

    /// What each key makes of these parts, as 43 characters; the one that counts comes first.
    pub fn words(&self, parts: &[&[u8]]) -> impl Iterator<Item = String> {
        self.0.iter().map(move |key| URL_SAFE_NO_PAD.encode(mac(key, parts)))
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Keys")
    }
}

impl SealedToken {
    /// A new token for a user; none without a secret. No two seeds may be the same.
    pub fn new(keys: &Keys, seed: Uuid, user: UserId) -> Option<Self> {
        let token = keys.words(&[seed.as_bytes(), user.0.as_bytes()]).next()?;
        Some(Self { seed, digest: digest(&token) })
    }

    /// The token itself; none when it is not this user's, or was made by a secret that is not among these.
    pub fn open(&self, keys: &Keys, user: UserId) -> Option<String> {
        keys.words(&[self.seed.as_bytes(), user.0.as_bytes()]).find(|token| digest(token) == self.digest)
    }
}

/// What is stored of a token, as 43 characters.
pub fn digest(token: &str) -> String {
    URL_SAFE_NO_PAD.encode(Sha256::digest(token.as_bytes()))
}

/// HMAC-SHA-256 over the parts, each preceded by its length so that no two lists of parts collide.
pub(crate) fn mac(key: &[u8], parts: &[&[u8]]) -> [u8; 32] {
    // HMAC takes keys of any length, so the error cannot happen; an all-zero tag would verify nothing.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(key) else { return [0; 32] };
    for part in parts {
        mac.update(&u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
        mac.update(part);
    }
    mac.finalize().into_bytes().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(secrets: &[&str]) -> Keys {
        let secrets: Vec<SecretString> = secrets.iter().map(|secret| (*secret).into()).collect();
        Keys::derive(&secrets, Purpose::MailedToken)
    }

    #[test]
    fn a_token_opens_for_its_user_by_the_secret_it_was_made_with() {
        let (ada, eve) = (UserId(Uuid::from_u128(1)), UserId(Uuid::from_u128(2)));
        let sealed = SealedToken::new(&keys(&["old"]), Uuid::from_u128(3), ada).unwrap();
        let token = sealed.open(&keys(&["old"]), ada).unwrap();
        assert_eq!((token.len(), digest(&token)), (43, sealed.digest.clone()));
        assert_eq!(sealed.open(&keys(&["new", "old"]), ada), Some(token));
        assert_eq!(sealed.open(&keys(&["new"]), ada), None);
        assert_eq!(sealed.open(&keys(&["old"]), eve), None);
        let other = SealedToken { seed: Uuid::from_u128(4), ..sealed };
        assert_eq!(other.open(&keys(&["old"]), ada), None);
        assert_eq!(SealedToken::new(&keys(&[]), Uuid::from_u128(3), ada), None);
    }

    #[test]
    fn purposes_share_no_key() {
        let secrets: [SecretString; 1] = ["a secret".into()];
        let [mailed, body] = [Purpose::MailedToken, Purpose::RequestBody]
            .map(|purpose| Keys::derive(&secrets, purpose).words(&[b"a"]).collect::<Vec<_>>());
        assert_ne!(mailed, body);
        assert_eq!(mailed.len(), 1);
    }
}
