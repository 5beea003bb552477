//! How often one may call: who is counted, and what the headers say (draft-ietf-httpapi-ratelimit-headers).

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::OnceLock,
};

use axum::{
    extract::ConnectInfo,
    http::{Extensions, HeaderMap, HeaderName, HeaderValue},
};
use taskpost_common::{
    net::{TrustedProxies, rate_key},
    rate::Rate,
};
use taskpost_ports::limiter::{Decision, LimitClass, LimitKey};

const POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
const STATE: HeaderName = HeaderName::from_static("ratelimit");
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// The address that sent a request: the peer's, or what a trusted proxy says of it.
pub(crate) fn client_ip(proxies: &TrustedProxies, headers: &HeaderMap, extensions: &Extensions) -> IpAddr {
    let peer = extensions.get::<ConnectInfo<SocketAddr>>().map(|ConnectInfo(peer)| peer.ip());
    let lines = headers.get_all(FORWARDED_FOR).into_iter();
    proxies.client_ip(peer.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED)), lines)
}

/// What a caller counts as that is known by its address only.
pub(crate) fn address_key(ip: IpAddr) -> LimitKey {
    LimitKey::Address(rate_key(ip))
}

/// The policy of each class as a header, written when it is first needed. A stricter one holds while the limiter's
/// backend is away.
#[derive(Default)]
pub(crate) struct Policies {
    auth: OnceLock<(Rate, HeaderValue)>,
    write: OnceLock<(Rate, HeaderValue)>,
    read: OnceLock<(Rate, HeaderValue)>,
}

impl Policies {
    /// Says in the headers what was decided.
    pub(crate) fn tell(&self, headers: &mut HeaderMap, class: LimitClass, decision: &Decision) {
        let policy = match class {
            LimitClass::Auth => &self.auth,
            LimitClass::Write => &self.write,
            LimitClass::Read => &self.read,
        };
        let written = || header(&policy_text(class, decision));
        let (rate, usual) = policy.get_or_init(|| (decision.rate, written()));
        headers.insert(POLICY, if *rate == decision.rate { usual.clone() } else { written() });
        headers.insert(STATE, header(&state_text(class, decision)));
    }
}

/// Quota, and the seconds in which an emptied one fills.
fn policy_text(class: LimitClass, decision: &Decision) -> String {
    format!("\"{}\";q={};w={}", class.as_str(), decision.rate.burst, decision.rate.window_seconds())
}

/// What remains, and the seconds until the quota is whole again.
fn state_text(class: LimitClass, decision: &Decision) -> String {
    let used = decision.rate.burst.get().saturating_sub(decision.remaining);
    let nanos = decision.rate.period().as_nanos() * u128::from(used);
    format!("\"{}\";r={};t={}", class.as_str(), decision.remaining, nanos.div_ceil(1_000_000_000))
}

fn header(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).unwrap_or(HeaderValue::from_static(""))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn says_quota_rest_and_time() {
        let decision = Decision {
            allowed: true,
            rate: "200/s,400".parse().unwrap(),
            remaining: 399,
            retry_after: Duration::ZERO,
        };
        let mut headers = HeaderMap::new();
        Policies::default().tell(&mut headers, LimitClass::Write, &decision);
        assert_eq!(headers[POLICY], "\"write\";q=400;w=2");
        assert_eq!(headers[STATE], "\"write\";r=399;t=1");
    }

    #[test]
    fn the_policy_is_the_one_that_holds() {
        let policies = Policies::default();
        let said = |rate: &str| {
            let (rate, retry_after) = (rate.parse().unwrap(), Duration::ZERO);
            let decision = Decision { allowed: true, rate, remaining: 1, retry_after };
            let mut headers = HeaderMap::new();
            policies.tell(&mut headers, LimitClass::Auth, &decision);
            headers[POLICY].to_str().unwrap().to_owned()
        };
        let (usual, stricter) = ("\"auth\";q=30;w=30", "\"auth\";q=7;w=28");
        assert_eq!(["60/m,30", "15/m,7", "60/m,30"].map(said), [usual, stricter, usual]);
    }

    #[test]
    fn only_trusted_proxies_are_believed() {
        let mut headers = HeaderMap::new();
        headers.insert(FORWARDED_FOR, HeaderValue::from_static("203.0.113.9"));
        let mut extensions = Extensions::new();
        extensions.insert(ConnectInfo(SocketAddr::from(([10, 0, 0, 1], 4000))));
        let ip = |proxies: &str| client_ip(&proxies.parse().unwrap(), &headers, &extensions).to_string();
        assert_eq!((ip("").as_str(), ip("10.0.0.0/8").as_str()), ("10.0.0.1", "203.0.113.9"));
    }
}
