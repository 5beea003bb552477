//! Signatures as Standard Webhooks has them: HMAC-SHA256 over `id.timestamp.body`.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

/// What a secret begins with; the rest is Base64.
const PREFIX: &str = "whsec_";

/// A secret that cannot sign. Says nothing of what it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the endpoint's secret cannot be read; rotate it")]
pub struct BadSecret;

/// The value of `webhook-signature` for one secret: `v1,<Base64>`.
///
/// # Errors
/// [`BadSecret`] when it is not `whsec_` and Base64, or empty.
pub fn sign(secret: &str, id: &str, timestamp: i64, body: &[u8]) -> Result<String, BadSecret> {
    let key = STANDARD.decode(secret.strip_prefix(PREFIX).ok_or(BadSecret)?).map_err(|_| BadSecret)?;
    if key.is_empty() {
        return Err(BadSecret);
    }
    let mut mac = Hmac::<Sha256>::new_from_slice(&key).map_err(|_| BadSecret)?;
    mac.update(format!("{id}.{timestamp}.").as_bytes());
    mac.update(body);
    Ok(format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes())))
}

#[cfg(test)]
mod tests {
    use standardwebhooks::Webhook;

    use super::*;

    const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

    #[test]
    fn known_vectors() {
        let body = br#"{"test": 2432232314}"#;
        let made = sign(SECRET, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, body);
        assert_eq!(made.as_deref(), Ok("v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="));
    }

    #[test]
    fn others_get_the_same() {
        let theirs = Webhook::new(SECRET).unwrap();
        let long = "ä".repeat(70_000);
        for (id, timestamp, body) in [
            ("0198f0c0-0000-7000-8000-000000000000", 1_795_255_200, r#"{"a":1}"#),
            ("a.b", 0, ""),
            ("", -1, "\u{0}\r\n"),
            ("x", i64::MAX, long.as_str()),
        ] {
            let ours = sign(SECRET, id, timestamp, body.as_bytes()).unwrap();
            assert_eq!(ours, theirs.sign(id, timestamp, body.as_bytes()).unwrap(), "{id}");
        }
    }

    #[test]
    fn a_change_anywhere_changes_it() {
        let made = sign(SECRET, "a", 1, b"b");
        for other in [
            sign(SECRET, "b", 1, b"b"),
            sign(SECRET, "a", 2, b"b"),
            sign(SECRET, "a", 1, b"c"),
            sign("whsec_AAAA", "a", 1, b"b"),
        ] {
            assert_ne!(made, other);
        }
    }

    #[test]
    fn bad_secrets_are_refused() {
        for secret in ["", "whsec_", "AAAA", "whsec_*", "whsec_AAA"] {
            assert_eq!(sign(secret, "a", 1, b""), Err(BadSecret), "{secret:?}");
        }
    }
}
