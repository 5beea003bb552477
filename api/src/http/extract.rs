//! What handlers ask for. Each access has a type of its own, and only these hold a caller: a handler that asks for
//! none has nothing to show to the tracker.

use std::str::FromStr;

use axum::{
    body::Bytes,
    extract::{FromRequestParts, RawPathParams},
    http::{HeaderName, request::Parts},
};
use serde::de::DeserializeOwned;
use taskpost_tracker::{Caller, Error, OnceKey, RequestInfo, TaskName};

use super::{
    app::Shared,
    json,
    problem::{ApiError, Result},
    query,
};

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
pub(super) const PREFER: HeaderName = HeaderName::from_static("prefer");

/// What was learned of a request before its handler.
#[derive(Clone)]
pub(crate) struct Arrived {
    pub(crate) party: Party,
    pub(crate) body: Bytes,
}

/// Who calls.
#[derive(Clone)]
pub(crate) enum Party {
    Known(Caller),
    Unknown(RequestInfo),
}

/// Whoever calls, known or not, where the route is for anyone.
pub(crate) struct Visitor(pub(crate) RequestInfo);

/// A known caller.
pub(crate) struct Member(pub(crate) Caller);

/// A known caller with the role admin.
pub(crate) struct Admin(pub(crate) Caller);

impl FromRequestParts<Shared> for Visitor {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &Shared) -> Result<Self> {
        match &arrived(parts)?.party {
            Party::Unknown(info) => Ok(Self(info.clone())),
            Party::Known(caller) => {
                Ok(Self(RequestInfo { cause: caller.cause.clone(), ..RequestInfo::default() }))
            }
        }
    }
}

impl FromRequestParts<Shared> for Member {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &Shared) -> Result<Self> {
        match &arrived(parts)?.party {
            Party::Known(caller) => Ok(Self(caller.clone())),
            Party::Unknown(_) => Err(Error::Unauthenticated.into()),
        }
    }
}

impl FromRequestParts<Shared> for Admin {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, api: &Shared) -> Result<Self> {
        let Member(caller) = Member::from_request_parts(parts, api).await?;
        let admin = caller.identity.roles.is_admin();
        if admin { Ok(Self(caller)) } else { Err(Error::Forbidden("this needs the role admin").into()) }
    }
}

/// A JSON body.
pub(crate) struct Json<T>(pub(crate) T);

impl<T: DeserializeOwned> FromRequestParts<Shared> for Json<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &Shared) -> Result<Self> {
        json::parse(&arrived(parts)?.body).map(Self)
    }
}

/// A JSON body that may be left out.
pub(crate) struct OptionalJson<T>(pub(crate) T);

impl<T: DeserializeOwned + Default> FromRequestParts<Shared> for OptionalJson<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &Shared) -> Result<Self> {
        match &arrived(parts)?.body {
            body if body.is_empty() => Ok(Self(T::default())),
            body => json::parse(body).map(Self),
        }
    }
}

/// The keys of the query string.
pub(crate) struct Query<T>(pub(crate) T);

impl<T: DeserializeOwned> FromRequestParts<Shared> for Query<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &Shared) -> Result<Self> {
        query::parse(parts.uri.query().unwrap_or_default()).map(Self)
    }
}

/// The id in the path. What is no id names nothing, so it is 404.
pub(crate) struct Id<T>(pub(crate) T);

impl<T: FromStr> FromRequestParts<Shared> for Id<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, api: &Shared) -> Result<Self> {
        let nothing = || ApiError::not_found("there is nothing of this id");
        let params = RawPathParams::from_request_parts(parts, api).await.map_err(|_| nothing())?;
        let text = params.iter().find(|(name, _)| *name == "id").map(|(_, text)| text);
        text.and_then(id_of).map(Self).ok_or_else(nothing)
    }
}

/// Both ids in the path, in their order.
pub(crate) struct Ids<A, B>(pub(crate) A, pub(crate) B);

impl<A: FromStr, B: FromStr> FromRequestParts<Shared> for Ids<A, B> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, api: &Shared) -> Result<Self> {
        let nothing = || ApiError::not_found("there is nothing of these ids");
        let params = RawPathParams::from_request_parts(parts, api).await.map_err(|_| nothing())?;
        let mut texts = params.iter().map(|(_, text)| text);
        let ids = texts.next().and_then(id_of).zip(texts.next().and_then(id_of));
        ids.map(|(first, second)| Self(first, second)).ok_or_else(nothing)
    }
}

/// The id in the path and the name behind it.
pub(crate) struct Named<A>(pub(crate) A, pub(crate) String);

impl<A: FromStr> FromRequestParts<Shared> for Named<A> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, api: &Shared) -> Result<Self> {
        let nothing = || ApiError::not_found("there is nothing of this id and name");
        let params = RawPathParams::from_request_parts(parts, api).await.map_err(|_| nothing())?;
        let mut texts = params.iter().map(|(_, text)| text);
        let named = texts.next().and_then(id_of).zip(texts.next());
        named.map(|(id, name)| Self(id, name.to_owned())).ok_or_else(nothing)
    }
}

/// The task in the path, by its id or its key.
pub(crate) struct TaskParam(pub(crate) TaskName);

impl FromRequestParts<Shared> for TaskParam {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, api: &Shared) -> Result<Self> {
        let nothing = || ApiError::not_found("there is no task of this id or key");
        let params = RawPathParams::from_request_parts(parts, api).await.map_err(|_| nothing())?;
        let name = params.iter().next().and_then(|(_, text)| text.parse().ok());
        name.map(Self).ok_or_else(nothing)
    }
}

/// The Idempotency-Key, if there is one.
pub(crate) struct Key(pub(crate) Option<OnceKey>);

impl FromRequestParts<Shared> for Key {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, api: &Shared) -> Result<Self> {
        let mut lines = parts.headers.get_all(IDEMPOTENCY_KEY).iter();
        let Some(line) = lines.next() else { return Ok(Self(None)) };
        let key = line.to_str().ok().filter(|key| (1..=255).contains(&key.len()));
        let key = key.filter(|key| key.bytes().all(|c| c.is_ascii_graphic()) && lines.next().is_none());
        let key = key.ok_or_else(|| {
            ApiError::bad_request("Idempotency-Key must be 1 to 255 visible ASCII characters")
        })?;
        Ok(Self(Some(api.app.tracker.once_key(route(parts), key.to_owned(), &arrived(parts)?.body))))
    }
}

/// Whether the client prefers an answer before the work is done (RFC 7240). A preference that is not understood is
/// ignored, as that wants it.
pub(crate) struct RespondAsync(pub(crate) bool);

impl FromRequestParts<Shared> for RespondAsync {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &Shared) -> Result<Self> {
        let lines = parts.headers.get_all(PREFER).iter().filter_map(|line| line.to_str().ok());
        Ok(Self(lines.flat_map(preferences).any(|name| name.eq_ignore_ascii_case("respond-async"))))
    }
}

/// The names of preferences in a line, without their values and parameters. What stands in quotes is never a name.
fn preferences(line: &str) -> impl Iterator<Item = &str> {
    let mut quoted = false;
    let mut escaped = false;
    let items = line.split(move |c| {
        let was_escaped = std::mem::take(&mut escaped);
        match c {
            '"' if !was_escaped => quoted = !quoted,
            '\\' if quoted && !was_escaped => escaped = true,
            _ => {}
        }
        c == ',' && !quoted
    });
    items.filter_map(|item| {
        let (name, rest) = item.split_at(item.find([';', '=']).unwrap_or(item.len()));
        // `respond-async` has no value; an empty one is as good as none.
        let bare = rest.strip_prefix('=').is_none_or(|value| {
            let value = value.split(';').next().unwrap_or_default().trim();
            value.is_empty() || value == "\"\""
        });
        bare.then_some(name.trim())
    })
}

/// Other spellings of a UUID are refused, so that one thing has one address.
fn id_of<T: FromStr>(text: &str) -> Option<T> {
    if text.len() == 36 { text.parse().ok() } else { None }
}

/// Method and path; a path with and without the version is one route.
fn route(parts: &Parts) -> String {
    let path = parts.uri.path();
    let path = path.strip_prefix("/v1").filter(|path| path.starts_with('/')).unwrap_or(path);
    format!("{} {path}", parts.method)
}

fn arrived(parts: &Parts) -> Result<&Arrived> {
    parts.extensions.get::<Arrived>().ok_or_else(|| Error::Unauthenticated.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn preferences_are_named_whatever_stands_around_them() {
        for (line, names) in [
            ("respond-async", &["respond-async"][..]),
            (" respond-async , wait=10", &["respond-async"]),
            ("return=minimal;x=\"a, respond-async\", respond-async; y", &["respond-async"]),
            ("respond-async=\"\"; a", &["respond-async"]),
            ("respond-async=yes, handling=strict", &[]),
            ("a=\"\\\", respond-async\"", &[]),
            ("a=\"\\\", respond-async", &[]),
            ("foo, Respond-Async", &["foo", "Respond-Async"]),
            ("", &[""]),
        ] {
            assert_eq!(preferences(line).collect::<Vec<_>>(), names, "{line}");
        }
    }
}
