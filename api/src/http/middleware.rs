//! What happens to every request before and after its handler. The row's order: who is it, how often may they, what
//! do they want.

use std::{future::Future, num::NonZeroU32, panic::AssertUnwindSafe, pin::Pin, sync::Arc, time::Duration};

use axum::{
    extract::Request,
    handler::Handler,
    http::{HeaderMap, Method, header},
    response::{IntoResponse, Response},
};
use futures::FutureExt as _;
use taskpost_common::{
    Cause,
    problem::{Code, FieldError},
    token::{Scope, Scopes},
};
use taskpost_ports::limiter::{LimitClass, LimitKey};
use taskpost_tracker::{Caller, Error, Identity, RequestInfo};
use tracing::Instrument as _;

use super::{
    Access, Input, Route,
    app::{Api, Shared},
    body,
    extract::{Arrived, PREFER, Party},
    problem::{ApiError, Result},
    trace::answered,
    visit::Visit,
};
use crate::rate_limit::{address_key, client_ip};

/// The longest path and query.
const MAX_URI: usize = 8 * 1024;
/// The most header fields.
const MAX_HEADERS: usize = 100;
/// The longest name of what calls, in characters.
const MAX_USER_AGENT: usize = 200;
/// How long a handler may take once the body is there.
const TIME: Duration = Duration::from_secs(10);

/// A handler behind its row of the table.
#[derive(Clone)]
pub(crate) struct Endpoint<H> {
    pub(crate) row: &'static Route,
    /// The row's place in the table.
    pub(crate) index: usize,
    pub(crate) handler: H,
}

impl<H, T> Handler<T, Shared> for Endpoint<H>
where
    H: Handler<T, Shared> + Sync,
    T: Send + 'static,
{
    type Future = Pin<Box<dyn Future<Output = Response> + Send>>;

    fn call(self, request: Request, api: Shared) -> Self::Future {
        Box::pin(async move {
            let mut visit = Visit::begin(&api.front, self.row, self.index, &request);
            let span = visit.trace.enter(self.row);
            let handled = async {
                match admit(&api, self.row, request, &mut visit).await {
                    Ok(request) => guard(self.handler.call(request, Arc::clone(&api))).await,
                    Err(error) => error.into_response(),
                }
            };
            let response = handled.instrument(span.clone()).await;
            let response = span.in_scope(|| visit.finish(&api.front, response));
            answered(&span, response.status());
            response
        })
    }
}

/// Runs a handler, within its time and with its panics caught.
pub(super) async fn guard(work: impl Future<Output = Response>) -> Response {
    match tokio::time::timeout(TIME, AssertUnwindSafe(work).catch_unwind()).await {
        Ok(Ok(response)) => response,
        Ok(Err(panic)) => ApiError::panicked(panic.as_ref()).into_response(),
        Err(_) => ApiError::Late.into_response(),
    }
}

/// Lets the request pass to its handler, with its caller known and its body read.
async fn admit(api: &Api, row: &Route, request: Request, visit: &mut Visit) -> Result<Request> {
    check_size(&request)?;
    // Not where the client may prefer another way.
    if row.makes_tasks() && !request.headers().contains_key(PREFER) {
        api.app.tracker.check_room()?;
    }
    let strange = is_strange(api, row, request.headers());
    if let Some(class) = row.limit.class().filter(|_| strange) {
        let key = address(api, &request);
        take(api, class, key, visit).await?;
    }
    let caller = identify(api, row, request.headers()).await;
    if let Ok(Some(identity)) = &caller {
        visit.user_id = Some(identity.user_id);
    }
    // A strange token that is not good has been counted.
    if let Some(class) = row.limit.class().filter(|_| caller.is_ok() || !strange) {
        let key = limit_key(api, &request, &caller);
        take(api, class, key, visit).await?;
    }
    let caller = let_in(row, caller?)?;
    check_query(row, &request)?;
    let (mut parts, body) = request.into_parts();
    let body = body::read(&parts.headers, body, row.input).await?;
    parts.extensions.insert(Arrived { party: party(caller, visit, &parts.headers), body });
    Ok(Request::from_parts(parts, axum::body::Body::empty()))
}

pub(super) fn check_size(request: &Request) -> Result<()> {
    let length = request.uri().path_and_query().map_or(0, |path| path.as_str().len());
    if length > MAX_URI {
        return Err(ApiError::new(Code::UriTooLong, "the address may have at most 8192 bytes"));
    }
    if request.headers().len() > MAX_HEADERS {
        return Err(ApiError::new(Code::HeadersTooLarge, "a request may have at most 100 header fields"));
    }
    Ok(())
}

/// Whether the store must be asked about a token that nothing speaks for. Its address pays for that beforehand, so that
/// nobody can keep the store busy with guesses.
fn is_strange(api: &Api, row: &Route, headers: &HeaderMap) -> bool {
    row.access != Access::Anyone && bearer(headers).is_some_and(|token| api.app.tracker.is_strange(token))
}

/// Who calls.
async fn identify(api: &Api, row: &Route, headers: &HeaderMap) -> Result<Option<Identity>> {
    if row.access == Access::Anyone {
        return Ok(None);
    }
    let token = bearer(headers).ok_or(Error::Unauthenticated)?;
    Ok(Some(api.app.tracker.authenticate(token).await?))
}

/// Who is counted. A bad token counts against its address, so that nobody can guess without limit.
fn limit_key(api: &Api, request: &Request, caller: &Result<Option<Identity>>) -> LimitKey {
    match caller {
        Ok(Some(identity)) => LimitKey::User(identity.user_id),
        _ => address(api, request),
    }
}

fn address(api: &Api, request: &Request) -> LimitKey {
    address_key(client_ip(&api.app.trusted_proxies, request.headers(), request.extensions()))
}

/// What the row asks of a caller before a handler looks closer.
fn let_in(row: &Route, caller: Option<Identity>) -> Result<Option<Identity>> {
    let Some(identity) = &caller else { return Ok(None) };
    if identity.scopes.as_ref().is_some_and(|scopes| !row.is_within(scopes)) {
        return Err(ApiError::new(Code::Forbidden, lack(row)));
    }
    if row.access == Access::Admin && !identity.roles.is_admin() {
        return Err(Error::Forbidden("this needs the role admin").into());
    }
    Ok(caller)
}

/// What a token for machines lacks that may not be used for a row.
fn lack(row: &Route) -> &'static str {
    match row.access {
        Access::Person => "tokens for machines do not reach the account itself; log in for this",
        Access::Admin => "this needs a token with the scope admin",
        _ if row.method == Method::GET => "this needs a token with the scope read",
        _ if row.is_within(&Scopes::from(vec![Scope::TasksCreate])) => {
            "this needs a token with the scope tasks:create or write"
        }
        _ => "this needs a token with the scope write",
    }
}

/// The token of the one Authorization header.
pub(crate) fn bearer(headers: &HeaderMap) -> Option<&str> {
    let mut lines = headers.get_all(header::AUTHORIZATION).iter();
    let line = lines.next()?.to_str().ok()?;
    let (scheme, token) = line.split_once(' ')?;
    (lines.next().is_none() && scheme.eq_ignore_ascii_case("bearer")).then(|| token.trim())
}

async fn take(api: &Api, class: LimitClass, key: LimitKey, visit: &mut Visit) -> Result<()> {
    let decision = api.app.limiter.check(class, key, NonZeroU32::MIN).await;
    visit.limited = Some((class, decision));
    if decision.allowed { Ok(()) } else { Err(ApiError::Limited(class, decision)) }
}

/// A route that reads no query takes none.
pub(super) fn check_query(row: &Route, request: &Request) -> Result<()> {
    let query = request.uri().query().unwrap_or_default();
    if row.input == Input::Query || query.is_empty() {
        return Ok(());
    }
    let key = url::form_urlencoded::parse(query.as_bytes()).next().map(|(key, _)| key.into_owned());
    let pointer = format!("?{}", super::fault::short(&key.unwrap_or_default()));
    Err(ApiError::at(
        Code::BadRequest,
        FieldError::new(pointer, "unknown_key", "is not known here; this takes no query"),
    ))
}

fn party(caller: Option<Identity>, visit: &Visit, headers: &HeaderMap) -> Party {
    let (correlation_id, traceparent) = (visit.trace.correlation_id, Some(visit.trace.traceparent.clone()));
    match caller {
        Some(identity) => Party::Known(Caller::new(identity, correlation_id, traceparent)),
        None => Party::Unknown(RequestInfo {
            cause: Cause { actor_id: None, correlation_id, causation_id: None, traceparent },
            user_agent: user_agent(headers),
        }),
    }
}

/// What calls, as it names itself, in one line.
fn user_agent(headers: &HeaderMap) -> String {
    let Some(value) = headers.get(header::USER_AGENT) else { return String::new() };
    let text = String::from_utf8_lossy(value.as_bytes());
    text.chars().filter(|c| !c.is_control()).take(MAX_USER_AGENT).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn handlers_that_panic_or_hang_are_answered() {
        assert_eq!(guard(async { panic!("a test") }).await.status(), 500);
        assert_eq!(guard(std::future::pending()).await.status(), 503);
        assert_eq!(guard(async { Response::default() }).await.status(), 200);
    }

    #[test]
    fn a_user_agent_is_one_short_line() {
        let named = |value: &[u8]| {
            let value = header::HeaderValue::from_bytes(value).unwrap();
            user_agent(&HeaderMap::from_iter([(header::USER_AGENT, value)]))
        };
        assert_eq!(named(b"curl/8.5.0"), "curl/8.5.0");
        assert_eq!(named("a\tü\u{85}b".as_bytes()), "aüb");
        assert_eq!(named(b"\xff"), "\u{fffd}");
        assert_eq!(named("ü".repeat(300).as_bytes()), "ü".repeat(MAX_USER_AGENT));
        assert_eq!(user_agent(&HeaderMap::new()), "");
    }

    #[test]
    fn one_bearer_token_is_read() {
        let headers = |lines: &[&'static str]| {
            lines.iter().map(|line| (header::AUTHORIZATION, header::HeaderValue::from_static(line))).collect()
        };
        assert_eq!(bearer(&headers(&["bEaReR abc"])), Some("abc"));
        for lines in [&[][..], &["abc"], &["Basic abc"], &["Bearer a", "Bearer b"], &["Bearerabc"]] {
            assert_eq!(bearer(&headers(lines)), None, "{lines:?}");
        }
    }
}
