//! Conditional requests (RFC 9110, section 13).

use axum::{
    extract::FromRequestParts,
    http::{HeaderMap, StatusCode, header, request::Parts},
    response::Response,
};
use serde::Serialize;

use super::{
    app::Shared,
    problem::{ApiError, Result},
    reply::Reply,
};

/// A version that nothing has: what a tag of somebody else's stands for.
const NEVER: i64 = -1;

/// The version that If-Match names; none if it is absent or `*`.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct IfMatch(pub(crate) Option<i64>);

impl FromRequestParts<Shared> for IfMatch {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &Shared) -> Result<Self> {
        if_match(&parts.headers)
    }
}

fn if_match(headers: &HeaderMap) -> Result<IfMatch> {
    let malformed = || ApiError::bad_request("If-Match must be one entity tag such as \"v7\", or *");
    let mut version = None;
    for line in headers.get_all(header::IF_MATCH) {
        let line = line.to_str().map_err(|_| malformed())?;
        if line.trim() == "*" {
            continue;
        }
        for tag in line.split(',') {
            let named = Some(tag_version(tag.trim()).ok_or_else(malformed)?);
            if version.is_some() && version != named {
                return Err(malformed());
            }
            version = named;
        }
    }
    Ok(IfMatch(version))
}

/// The version in a tag; a weak one never matches here.
fn tag_version(tag: &str) -> Option<i64> {
    let strong = tag.strip_prefix("W/").unwrap_or(tag);
    let opaque = strong.strip_prefix('"')?.strip_suffix('"')?;
    if !opaque.bytes().all(|c| c.is_ascii_graphic() && c != b'"') {
        return None;
    }
    let number = opaque.strip_prefix('v').and_then(|rest| rest.split('.').next()?.parse().ok());
    Some(number.filter(|_| strong == tag).unwrap_or(NEVER))
}

/// A representation with its tag, or 304 when the client has it already.
pub(crate) fn show(headers: &HeaderMap, etag: &str, value: &impl Serialize) -> Result<Response> {
    let reply = if has(headers, etag) {
        Reply::empty(StatusCode::NOT_MODIFIED)
    } else {
        Reply::json(StatusCode::OK, value)?
    };
    Ok(reply.etag(etag).done())
}

fn has(headers: &HeaderMap, etag: &str) -> bool {
    let lines = headers.get_all(header::IF_NONE_MATCH).into_iter().filter_map(|line| line.to_str().ok());
    let mut tags = lines.flat_map(|line| line.split(',')).map(str::trim);
    tags.any(|tag| tag == "*" || tag.strip_prefix("W/").unwrap_or(tag) == etag)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: header::HeaderName, value: &str) -> HeaderMap {
        HeaderMap::from_iter([(name, value.parse().unwrap())])
    }

    #[test]
    fn if_match_names_a_version() {
        assert_eq!(if_match(&HeaderMap::new()).unwrap().0, None);
        for (value, version) in [
            ("*", None),
            ("\"v7\"", Some(7)),
            ("\"v7.12\"", Some(7)),
            ("\"v7.12\", \"v7.13\"", Some(7)),
            ("W/\"v7\"", Some(NEVER)),
            ("\"abc\"", Some(NEVER)),
            ("\"\"", Some(NEVER)),
        ] {
            assert_eq!(if_match(&headers(header::IF_MATCH, value)).unwrap().0, version, "{value}");
        }
        for value in ["", "v7", "7", "\"v7", "\"v7\",", "\"a b\"", "\"v7\", \"v8\"", "\"v7\"x"] {
            assert!(if_match(&headers(header::IF_MATCH, value)).is_err(), "{value}");
        }
    }

    #[test]
    fn if_none_match_compares_weakly() {
        let tag = "\"v7.12\"";
        for value in ["*", "\"v7.12\"", "W/\"v7.12\"", "\"a\", \"v7.12\""] {
            assert!(has(&headers(header::IF_NONE_MATCH, value), tag), "{value}");
        }
        for value in ["\"v7\"", "v7.12", ""] {
            assert!(!has(&headers(header::IF_NONE_MATCH, value), tag), "{value}");
        }
    }
}
