//! Access tokens: JWT (RFC 7519) signed by HS256, of one exact form.

use chrono::{DateTime, Duration, Utc};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, crypto, dangerous::insecure_decode_claims};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use taskpost_common::{SessionId, UserId, user::Roles};

use crate::{Error, Identity};

/// How long an access token is good.
pub(crate) const LIFETIME: Duration = Duration::minutes(15);
/// By how much clocks may differ.
const LEEWAY: i64 = 30;
/// Ours have a few hundred bytes.
const LONGEST: usize = 4_096;

pub(crate) struct Tokens {
    sign: EncodingKey,
    verify: Vec<DecodingKey>,
    header: Header,
    issuer: String,
    /// The encoded header with its dot. Every token of ours begins with it, so no other algorithm, key id, or key
    /// location is ever looked at.
    prefix: String,
}

#[derive(Serialize, Deserialize)]
struct Claims {
    sub: UserId,
    sid: SessionId,
    roles: Roles,
    iss: String,
    aud: String,
    iat: i64,
    nbf: i64,
    exp: i64,
}

const AUDIENCE: &str = "taskpost";

/// The secret that signs.
pub(crate) fn first(secrets: &[SecretString]) -> Result<&[u8], Error> {
    let first = secrets.first().ok_or_else(|| Error::Internal("JWT_SECRET: no secret is set".to_owned()))?;
    Ok(first.expose_secret().as_bytes())
}

impl Tokens {
    pub(crate) fn new(secrets: &[SecretString], issuer: &str) -> Result<Self, Error> {
        let header = Header { typ: Some("at+jwt".to_owned()), ..Header::new(Algorithm::HS256) };
        let mut tokens = Self {
            sign: EncodingKey::from_secret(first(secrets)?),
            verify: secrets
                .iter()
                .map(|secret| DecodingKey::from_secret(secret.expose_secret().as_bytes()))
                .collect(),
            header,
            issuer: issuer.to_owned(),
            prefix: String::new(),
        };
        let sample = tokens.encode(&serde_json::json!({}))?;
        let dot = sample.find('.').ok_or_else(|| Error::Internal("a token without a header".to_owned()))?;
        sample[..=dot].clone_into(&mut tokens.prefix);
        Ok(tokens)
    }

    /// A token for a session.
    pub(crate) fn issue(&self, identity: &Identity, now: DateTime<Utc>) -> Result<String, Error> {
        self.encode(&Claims {
            sub: identity.user_id,
            sid: identity.session_id,
            roles: identity.roles.clone(),
            iss: self.issuer.clone(),
            aud: AUDIENCE.to_owned(),
            iat: now.timestamp(),
            nbf: now.timestamp(),
            exp: (now + LIFETIME).timestamp(),
        })
    }

    /// Who a token belongs to. Every flaw gives the same error.
    pub(crate) fn verify(&self, token: &str, now: DateTime<Utc>) -> Result<Identity, Error> {
        let claims = self.claims(token).ok_or(Error::Unauthenticated)?;
        let now = now.timestamp();
        let begun = claims.nbf.max(claims.iat).saturating_sub(LEEWAY);
        if claims.iss != self.issuer
            || claims.aud != AUDIENCE
            || claims.exp.saturating_add(LEEWAY) < now
            || begun > now
        {
            return Err(Error::Unauthenticated);
        }
        Ok(Identity { user_id: claims.sub, session_id: claims.sid, roles: claims.roles, scopes: None })
    }

    /// What a token says that one of the secrets signed. The header is ours to the letter, and each claim is read once: this
    /// is part of every request.
    fn claims(&self, token: &str) -> Option<Claims> {
        if token.len() > LONGEST || !token.starts_with(&self.prefix) {
            return None;
        }
        let (message, signature) = token.rsplit_once('.')?;
        let verified = |key| crypto::verify(signature, message.as_bytes(), key, Algorithm::HS256);
        if !self.verify.iter().any(|key| matches!(verified(key), Ok(true))) {
            return None;
        }
        // It checks no signature, as that is done.
        insecure_decode_claims(token).ok()
    }

    fn encode(&self, claims: &impl Serialize) -> Result<String, Error> {
        jsonwebtoken::encode(&self.header, claims, &self.sign)
            .map_err(|error| Error::Internal(error.to_string()))
    }
}
