//! The HTTP client for addresses that users name: it dials the public internet only, and gives back little.
//!
//! What is judged is the address that is dialled, so a name that changes its mind (DNS rebinding) gains nothing: reqwest
//! takes its addresses from our resolver, and literals, which it never resolves, are judged before each request. A kept
//! connection leads to the address that was judged when it was dialled, and is found again only under its own name.

use std::{
    error::Error as StdError,
    fmt, io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use chrono::{DateTime, NaiveDateTime, Utc};
use http::{
    HeaderMap,
    header::{HeaderValue, RETRY_AFTER},
};
use reqwest::{
    dns::{Addrs, Name, Resolve, Resolving},
    redirect, retry,
};
use taskpost_common::net::{Outbound, TargetRefused};
use url::Url;

/// How much of an answer's body is read, in bytes; then the connection is dropped.
pub const BODY_CAP: usize = 16 * 1024;

/// How much of an answer's body is kept, in bytes.
pub const EXCERPT_CAP: usize = 1024;

/// How many addresses of a name are dialled, so that nobody's name server has us knock at a thousand doors.
pub const ADDRESS_CAP: usize = 8;

/// The longest Retry-After believed.
pub const RETRY_AFTER_CAP: Duration = Duration::from_hours(24);

/// A client that sends one POST and follows nothing: no redirect, no proxy from the environment, no compressed body,
/// no second try.
#[derive(Clone, Debug)]
pub struct GuardedClient {
    http: reqwest::Client,
    outbound: Outbound,
    total: Duration,
}

/// The deadlines of one request.
#[derive(Clone, Copy, Debug)]
pub struct Timeouts {
    /// For the address of a name.
    pub resolve: Duration,
    /// For TCP and TLS.
    pub connect: Duration,
    /// From the call to the last byte read of the answer's body.
    pub total: Duration,
    /// How long an idle connection is kept for the next request.
    pub idle: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Self { resolve: seconds(5), connect: seconds(5), total: seconds(15), idle: seconds(30) }
    }
}

/// Where the addresses of a name come from.
#[derive(Clone)]
pub enum Resolver {
    /// The operating system.
    System,
    /// A function from name to addresses, for tests.
    Fixed(Arc<AddressBook>),
}

/// From a name to its addresses; none when there is no such name.
pub type AddressBook = dyn Fn(&str) -> Vec<IpAddr> + Send + Sync;

/// What the receiver said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// How long it asked to be left alone, at most [`RETRY_AFTER_CAP`]; zero for a date gone by.
    pub retry_after: Option<Duration>,
    /// The start of the body, at most [`EXCERPT_CAP`] bytes, on one line of printable text.
    pub excerpt: String,
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// The target is one we do not dial; no packet was sent to it.
    #[error(transparent)]
    Blocked(#[from] TargetRefused),
    /// A deadline of [`Timeouts`] passed; the receiver may have taken the request all the same.
    #[error("no complete answer in time")]
    Timeout,
    /// No address, or nobody took the connection.
    #[error("could not connect: {0}")]
    Connect(String),
    /// The certificate or the handshake is not right.
    #[error("TLS failed: {0}")]
    Tls(String),
    /// The answer began, and its body broke off.
    #[error("the answer broke off: {0}")]
    Body(String),
    /// The connection ended before an answer, or what came was not HTTP.
    #[error("no answer: {0}")]
    Other(String),
}

impl GuardedClient {
    /// A client that judges by `outbound`.
    ///
    /// # Errors
    /// [`reqwest::Error`] when TLS cannot be set up, as on a system without CA certificates.
    pub fn new(outbound: Outbound, timeouts: Timeouts, resolver: Resolver) -> Result<Self, reqwest::Error> {
        let lookup = Lookup { resolver, outbound: outbound.clone(), timeout: timeouts.resolve };
        let http = reqwest::Client::builder()
            .tls_backend_rustls()
            .dns_resolver(lookup)
            .redirect(redirect::Policy::none())
            .retry(retry::never())
            .no_proxy()
            .no_gzip()
            .no_brotli()
            .no_deflate()
            .no_zstd()
            .referer(false)
            .user_agent(concat!("Taskpost/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(timeouts.connect)
            .pool_idle_timeout(timeouts.idle)
            .pool_max_idle_per_host(2)
            .build()?;
        Ok(Self { http, outbound, total: timeouts.total })
    }

    /// Sends `body` to `url` and reads the answer, whatever its status, within the total deadline.
    ///
    /// `now` is what a Retry-After date is compared with.
    ///
    /// # Errors
    /// [`SendError`] when there is no complete answer. All but `Blocked` may pass; after any but `Blocked`, `Connect` and
    /// `Tls` the receiver may have taken the request.
    pub async fn post(
        &self,
        url: &Url,
        headers: HeaderMap,
        body: impl Into<reqwest::Body>,
        now: DateTime<Utc>,
    ) -> Result<Answer, SendError> {
        self.outbound.check_target(url)?;
        let request = self.http.post(url.clone()).headers(headers).body(body);
        tokio::time::timeout(self.total, answer(request, now)).await.map_err(|_| SendError::Timeout)?
    }
}

impl fmt::Debug for Resolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::System => "System",
            Self::Fixed(_) => "Fixed",
        })
    }
}

async fn answer(request: reqwest::RequestBuilder, now: DateTime<Utc>) -> Result<Answer, SendError> {
    let mut response = request.send().await.map_err(|error| classify(&error))?;
    let status = response.status().as_u16();
    let retry_after = response.headers().get(RETRY_AFTER).and_then(|value| retry_after(value, now));
    let body = read_capped(&mut response).await?;
    Ok(Answer { status, retry_after, excerpt: excerpt(&body) })
}

/// The start of the body. Reading to the end of a short one lets the connection be used again.
async fn read_capped(response: &mut reqwest::Response) -> Result<Vec<u8>, SendError> {
    let mut body = Vec::new();
    while body.len() < BODY_CAP {
        let chunk = response.chunk().await.map_err(|error| match classify(&error) {
            SendError::Timeout => SendError::Timeout,
            _ => SendError::Body(root(&error).to_string()),
        })?;
        let Some(chunk) = chunk else { break };
        body.extend_from_slice(&chunk[..chunk.len().min(BODY_CAP - body.len())]);
    }
    Ok(body)
}

/// A body as one line of text: what is not UTF-8 or not printable becomes U+FFFD, breaks and tabs become spaces.
fn excerpt(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(&body[..body.len().min(EXCERPT_CAP)]);
    let mut line = String::new();
    for c in text.chars() {
        let c = match c {
            '\t' | '\n' | '\r' => ' ',
            c if c.is_control() => char::REPLACEMENT_CHARACTER,
            c => c,
        };
        if line.len() + c.len_utf8() > EXCERPT_CAP {
            break;
        }
        line.push(c);
    }
    line
}

/// Retry-After (RFC 9110, section 10.2.3): seconds, or a date in one of the three forms of section 5.6.7.
fn retry_after(value: &HeaderValue, now: DateTime<Utc>) -> Option<Duration> {
    let text = value.to_str().ok()?.trim();
    let wait = if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        // Too long for u64 is still a long time.
        Duration::from_secs(text.parse().unwrap_or(u64::MAX))
    } else {
        (http_date(text)? - now).to_std().unwrap_or(Duration::ZERO)
    };
    Some(wait.min(RETRY_AFTER_CAP))
}

fn http_date(text: &str) -> Option<DateTime<Utc>> {
    const FORMS: [&str; 3] =
        ["%a, %d %b %Y %H:%M:%S GMT", "%A, %d-%b-%y %H:%M:%S GMT", "%a %b %e %H:%M:%S %Y"];
    FORMS.iter().find_map(|form| NaiveDateTime::parse_from_str(text, form).ok()).map(|date| date.and_utc())
}

type Cause<'a> = &'a (dyn StdError + 'static);

/// What went wrong, told by the types in the error's chain and never by its text.
fn classify(error: &reqwest::Error) -> SendError {
    if let Some(refused) = causes(error).find_map(|cause| cause.downcast_ref::<TargetRefused>()) {
        return SendError::Blocked(refused.clone());
    }
    let text = root(error).to_string();
    if error.is_timeout() {
        SendError::Timeout
    } else if causes(error).filter_map(|cause| cause.downcast_ref()).any(is_tls) {
        SendError::Tls(text)
    } else if error.is_connect() {
        SendError::Connect(text)
    } else {
        SendError::Other(text)
    }
}

/// rustls reports what it refuses as invalid data, which a socket never does.
fn is_tls(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::InvalidData && error.get_ref().is_some()
}

/// An error and what caused it. An `io::Error` gives its inner error's cause, so the inner one is put in.
fn causes(error: Cause<'_>) -> impl Iterator<Item = Cause<'_>> {
    std::iter::successors(Some(error), |&cause| {
        match cause.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
            Some(inner) => Some(inner),
            None => cause.source(),
        }
    })
}

/// The innermost cause, which says the most and names no URL.
fn root(error: Cause<'_>) -> Cause<'_> {
    causes(error).last().unwrap_or(error)
}

/// Gives reqwest the addresses it may dial.
struct Lookup {
    resolver: Resolver,
    outbound: Outbound,
    timeout: Duration,
}

impl Resolve for Lookup {
    fn resolve(&self, name: Name) -> Resolving {
        let (resolver, outbound, timeout) = (self.resolver.clone(), self.outbound.clone(), self.timeout);
        Box::pin(async move {
            let host = name.as_str();
            let found =
                tokio::time::timeout(timeout, resolver.addresses(host)).await.map_err(io::Error::from)??;
            let allowed = allowed(&outbound, host, found)?;
            // Port 0 stands for the URL's own.
            let targets: Addrs = Box::new(allowed.into_iter().map(|ip| SocketAddr::new(ip, 0)));
            Ok(targets)
        })
    }
}

impl Resolver {
    async fn addresses(&self, host: &str) -> io::Result<Vec<IpAddr>> {
        match self {
            Self::System => {
                Ok(tokio::net::lookup_host((host, 0)).await?.map(|address| address.ip()).collect())
            }
            Self::Fixed(look_up) => Ok(look_up(host)),
        }
    }
}

/// Those of the addresses that may be dialled, at most [`ADDRESS_CAP`].
fn allowed(
    outbound: &Outbound,
    host: &str,
    found: Vec<IpAddr>,
) -> Result<Vec<IpAddr>, Box<dyn StdError + Send + Sync>> {
    let Some(&first) = found.first() else {
        return Err(io::Error::new(io::ErrorKind::NotFound, "the name has no address").into());
    };
    let allowed: Vec<IpAddr> =
        found.into_iter().filter(|ip| outbound.check_ip(*ip).is_ok()).take(ADDRESS_CAP).collect();
    if allowed.is_empty() {
        return Err(TargetRefused::Resolved { host: host.to_owned(), ip: first }.into());
    }
    Ok(allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_read() {
        let now: DateTime<Utc> = "2026-11-21T10:00:00Z".parse().unwrap();
        let day = RETRY_AFTER_CAP.as_secs();
        for (text, seconds) in [
            ("0", Some(0)),
            ("120", Some(120)),
            (" 7 ", Some(7)),
            ("86401", Some(day)),
            ("99999999999999999999999", Some(day)),
            ("Sat, 21 Nov 2026 10:01:30 GMT", Some(90)),
            ("Saturday, 21-Nov-26 10:01:30 GMT", Some(90)),
            ("Sat Nov 21 10:01:30 2026", Some(90)),
            ("Sun, 06 Nov 1994 08:49:37 GMT", Some(0)),
            ("Sun Nov  6 08:49:37 1994", Some(0)),
            ("Fri, 31 Dec 9999 23:59:59 GMT", Some(day)),
            ("", None),
            ("-1", None),
            ("+1", None),
            ("1.5", None),
            ("1e3", None),
            ("soon", None),
            ("Mon, 21 Nov 2026 10:01:30 GMT", None),
            ("Sat, 21 Nov 2026 10:01:30 CET", None),
            ("Sat, 41 Nov 2026 10:01:30 GMT", None),
            ("2026-11-21T10:01:30Z", None),
        ] {
            let read = retry_after(&HeaderValue::from_static(text), now);
            assert_eq!(read, seconds.map(Duration::from_secs), "{text:?}");
        }
        assert_eq!(retry_after(&HeaderValue::from_bytes(b"\xff").unwrap(), now), None);
    }

    #[test]
    fn excerpts_are_one_short_printable_line() {
        assert_eq!(excerpt(b"ok"), "ok");
        assert_eq!(excerpt(b"a\r\nb\tc\x00\x1b[31m\x7f"), "a  b c\u{fffd}\u{fffd}[31m\u{fffd}");
        assert_eq!(excerpt("gr\u{fc}n\u{85}".as_bytes()), "gr\u{fc}n\u{fffd}");
        for body in [vec![b'x'; 5_000], vec![0xff; 5_000], "\u{e4}".repeat(900).into_bytes(), vec![0; 5_000]]
        {
            let line = excerpt(&body);
            assert!((EXCERPT_CAP - 3..=EXCERPT_CAP).contains(&line.len()), "{}", line.len());
        }
    }

    #[test]
    fn only_allowed_addresses_are_left() {
        let outbound = Outbound { allow_private: false, ports: vec![80] };
        let ips = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect::<Vec<IpAddr>>();
        let mixed =
            allowed(&outbound, "a", ips(&["127.0.0.1", "1.1.1.1", "::1", "2606:4700::1111"])).unwrap();
        assert_eq!(mixed, ips(&["1.1.1.1", "2606:4700::1111"]));
        let refused = allowed(&outbound, "a", ips(&["::ffff:10.0.0.1", "127.0.0.1"])).unwrap_err();
        assert!(matches!(refused.downcast_ref(), Some(TargetRefused::Resolved { host, .. }) if host == "a"));
        assert!(allowed(&outbound, "a", vec![]).unwrap_err().is::<io::Error>());
        let many = [ips(&["10.0.0.1"]), ips(&["1.1.1.1"]).repeat(1_000)].concat();
        assert_eq!(allowed(&outbound, "a", many).unwrap(), ips(&["1.1.1.1"]).repeat(ADDRESS_CAP));
    }
}
