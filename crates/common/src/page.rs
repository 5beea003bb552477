//! Pages: opaque cursors that carry their own proof, and show nobody where in a list they stand: that may be at
//! something that they must not see.

use aws_lc_rs::{
    aead::{AES_256_GCM_SIV, Aad, LessSafeKey, Nonce, UnboundKey},
    error::Unspecified,
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use chrono::{DateTime, Duration, Utc};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::secret::mac;

/// The longest cursor that is looked at.
const LONGEST: usize = 1_024;
/// How long a cursor may be kept.
const LIFETIME: Duration = Duration::days(7);
/// The same for every cursor, as RFC 8452 allows: equal cursors are equal, and nothing else is to be seen of them.
const NONCE: [u8; 12] = [0; 12];

/// Seals cursors. A cursor holds for the one user, filter and order it was made for, named by its scope.
#[derive(Clone)]
pub struct CursorKey([u8; 32]);

/// Why a cursor is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidCursor {
    /// It is not one of ours, or was made for another user, filter or order.
    #[error("the cursor is not valid here; start again without one")]
    Forged,
    /// It is older than seven days.
    #[error("the cursor has expired; start again without one")]
    Expired,
}

/// Which way to walk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Direction {
    /// Away from the first page.
    Next,
    /// Back to it.
    Previous,
}

#[derive(Serialize, Deserialize)]
struct Sealed<K> {
    key: K,
    until: i64,
}

impl CursorKey {
    /// The key, derived from the instance's secret, so that tokens and cursors share none.
    pub fn derive(secret: &[u8]) -> Self {
        Self(mac(secret, &[b"taskpost cursor"]))
    }

    /// Makes a cursor that holds `key` for `scope`.
    pub fn seal<K: Serialize>(
        &self,
        scope: &str,
        key: K,
        now: DateTime<Utc>,
    ) -> Result<String, serde_json::Error> {
        let mut bytes = serde_json::to_vec(&Sealed { key, until: (now + LIFETIME).timestamp() })?;
        let sealed = self.key().and_then(|key| {
            let nonce = Nonce::assume_unique_for_key(NONCE);
            key.seal_in_place_append_tag(nonce, Aad::from(scope.as_bytes()), &mut bytes)
        });
        sealed.map_err(|_| <serde_json::Error as serde::ser::Error>::custom("a cursor cannot be sealed"))?;
        Ok(URL_SAFE_NO_PAD.encode(bytes))
    }

    /// Gives back what was sealed for the same scope.
    pub fn open<K: DeserializeOwned>(
        &self,
        scope: &str,
        cursor: &str,
        now: DateTime<Utc>,
    ) -> Result<K, InvalidCursor> {
        if cursor.len() > LONGEST {
            return Err(InvalidCursor::Forged);
        }
        let mut bytes = URL_SAFE_NO_PAD.decode(cursor).map_err(|_| InvalidCursor::Forged)?;
        let key = self.key().map_err(|_| InvalidCursor::Forged)?;
        let nonce = Nonce::assume_unique_for_key(NONCE);
        let body = key.open_in_place(nonce, Aad::from(scope.as_bytes()), &mut bytes);
        let body = body.map_err(|_| InvalidCursor::Forged)?;
        let sealed: Sealed<K> = serde_json::from_slice(body).map_err(|_| InvalidCursor::Forged)?;
        if sealed.until < now.timestamp() {
            return Err(InvalidCursor::Expired);
        }
        Ok(sealed.key)
    }

    fn key(&self) -> Result<LessSafeKey, Unspecified> {
        UnboundKey::new(&AES_256_GCM_SIV, &self.0).map(LessSafeKey::new)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn now() -> DateTime<Utc> {
        DateTime::from_timestamp(1_800_000_000, 0).unwrap()
    }

    #[test]
    fn a_cursor_opens_for_its_own_scope_and_time_only() {
        let key = CursorKey::derive(b"secret");
        let cursor = key.seal("user 1, open", 42_i64, now()).unwrap();
        assert_eq!(key.open::<i64>("user 1, open", &cursor, now()), Ok(42));
        assert_eq!(key.open::<i64>("user 2, open", &cursor, now()), Err(InvalidCursor::Forged));
        assert_eq!(
            CursorKey::derive(b"other").open::<i64>("user 1, open", &cursor, now()),
            Err(InvalidCursor::Forged)
        );
        let later = now() + LIFETIME + Duration::seconds(1);
        assert_eq!(key.open::<i64>("user 1, open", &cursor, later), Err(InvalidCursor::Expired));
    }

    #[test]
    fn a_cursor_shows_nothing() {
        let cursor = CursorKey::derive(b"secret").seal("scope", "a hidden task", now()).unwrap();
        let bytes = URL_SAFE_NO_PAD.decode(cursor).unwrap();
        assert!(!String::from_utf8_lossy(&bytes).contains("hidden"));
    }

    proptest! {
        #[test]
        fn a_flipped_bit_is_refused(place in 0_usize..400, bit in 0_u8..8) {
            let key = CursorKey::derive(b"secret");
            let mut bytes = URL_SAFE_NO_PAD.decode(key.seal("scope", "value", now()).unwrap()).unwrap();
            let place = place % bytes.len();
            bytes[place] ^= 1 << bit;
            let cursor = URL_SAFE_NO_PAD.encode(bytes);
            prop_assert_eq!(key.open::<String>("scope", &cursor, now()), Err(InvalidCursor::Forged));
        }

        #[test]
        fn no_text_panics(cursor in ".*") {
            prop_assert!(CursorKey::derive(b"secret").open::<String>("scope", &cursor, now()).is_err());
        }
    }
}
