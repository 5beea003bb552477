//! Pages: opaque cursors that carry their own proof.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use chrono::{DateTime, Duration, Utc};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::secret::mac;

/// The longest cursor that is looked at.
const LONGEST: usize = 1_024;
/// How long a cursor may be kept.
const LIFETIME: Duration = Duration::days(7);
const MAC_BYTES: usize = 16;

/// Signs cursors. A cursor holds for the one user, filter and order it was made for, named by its scope.
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
        let tag = mac(&self.0, &[scope.as_bytes(), &bytes]);
        bytes.extend_from_slice(&tag[..MAC_BYTES]);
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
        let bytes = URL_SAFE_NO_PAD.decode(cursor).map_err(|_| InvalidCursor::Forged)?;
        let split = bytes.len().checked_sub(MAC_BYTES).ok_or(InvalidCursor::Forged)?;
        let (body, tag) = bytes.split_at(split);
        if !constant_time_eq(&mac(&self.0, &[scope.as_bytes(), body])[..MAC_BYTES], tag) {
            return Err(InvalidCursor::Forged);
        }
        let sealed: Sealed<K> = serde_json::from_slice(body).map_err(|_| InvalidCursor::Forged)?;
        if sealed.until < now.timestamp() {
            return Err(InvalidCursor::Expired);
        }
        Ok(sealed.key)
    }
}

fn constant_time_eq(a: &[u8], b: &[u8]) -> bool {
    subtle::ConstantTimeEq::ct_eq(a, b).into()
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
