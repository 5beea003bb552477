//! The names of a request: its own id, and its place in a trace (W3C Trace Context).

use axum::http::{HeaderMap, HeaderName, HeaderValue};
use uuid::Uuid;

pub(crate) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// The names of one request.
#[derive(Debug)]
pub(crate) struct Trace {
    /// Always our own, so that nobody can add to what another request brought about.
    pub(crate) correlation_id: Uuid,
    /// The client's, if it is a plain word, else the correlation id.
    pub(crate) request_id: HeaderValue,
    /// The client's, if it is valid, else begun here.
    pub(crate) traceparent: String,
}

impl Trace {
    pub(crate) fn new(headers: &HeaderMap, correlation_id: Uuid) -> Self {
        let given_id = headers.get(REQUEST_ID).filter(|id| is_plain(id.as_bytes()));
        let request_id = given_id.cloned().unwrap_or_else(|| own_id(correlation_id));
        let given = given(headers).and_then(parse);
        Self { correlation_id, request_id, traceparent: given.unwrap_or_else(|| begin(correlation_id)) }
    }

    /// 32 hexadecimal digits.
    pub(crate) fn trace_id(&self) -> &str {
        self.traceparent.get(3..35).unwrap_or_default()
    }
}

fn own_id(id: Uuid) -> HeaderValue {
    let mut buffer = Uuid::encode_buffer();
    HeaderValue::from_str(id.hyphenated().encode_lower(&mut buffer))
        .unwrap_or(HeaderValue::from_static("unnamed"))
}

fn is_plain(id: &[u8]) -> bool {
    (1..=64).contains(&id.len()) && id.iter().all(|c| c.is_ascii_alphanumeric() || matches!(c, b'_' | b'-'))
}

/// The header, if there is just one.
fn given(headers: &HeaderMap) -> Option<&str> {
    let mut lines = headers.get_all(TRACEPARENT).iter();
    let first = lines.next()?;
    if lines.next().is_some() { None } else { first.to_str().ok() }
}

/// Reads version 00 and, of later ones, the part that they must share with it; writes version 00.
fn parse(text: &str) -> Option<String> {
    let (head, rest) = text.split_at_checked(55)?;
    let mut parts = head.split('-');
    let (version, trace, parent, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let hex = |part: &str, length: usize| {
        part.len() == length && part.bytes().all(|c| c.is_ascii_digit() || matches!(c, b'a'..=b'f'))
    };
    let zero = |part: &str| part.bytes().all(|c| c == b'0');
    let good = hex(version, 2)
        && version != "ff"
        && (rest.is_empty() || (version != "00" && rest.starts_with('-')))
        && hex(trace, 32)
        && !zero(trace)
        && hex(parent, 16)
        && !zero(parent)
        && hex(flags, 2)
        && parts.next().is_none();
    good.then(|| format!("00-{trace}-{parent}-{flags}"))
}

/// A trace of our own, named by the correlation id; its last 8 bytes, most of them random, are the first span.
fn begin(correlation_id: Uuid) -> String {
    let span = correlation_id.as_u64_pair().1;
    format!("00-{}-{span:016x}-00", correlation_id.simple())
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn trace(name: &'static str, value: &str) -> Trace {
        let mut headers = HeaderMap::new();
        headers.insert(name, HeaderValue::from_str(value).unwrap());
        Trace::new(&headers, Uuid::from_u128(0x0192_0000_0000_7000_8000_0000_0000_0001))
    }

    #[test]
    fn keeps_valid_traces_and_begins_others() {
        assert_eq!(trace("traceparent", GOOD).traceparent, GOOD);
        assert_eq!(trace("traceparent", GOOD).trace_id(), "4bf92f3577b34da6a3ce929d0e0e4736");
        let later = format!("cc{}-what-comes", &GOOD[2..]);
        assert_eq!(trace("traceparent", &later).traceparent, GOOD);
        let own = "00-01920000000070008000000000000001-8000000000000001-00";
        let bad = [
            format!("{GOOD}-more"),
            format!("ff{}", &GOOD[2..]),
            GOOD.to_uppercase(),
            GOOD.replace("4bf92f3577b34da6a3ce929d0e0e4736", &"0".repeat(32)),
            GOOD.replace("00f067aa0ba902b7", &"0".repeat(16)),
            GOOD.replacen('-', "_", 1),
            GOOD[..54].to_owned(),
            String::new(),
        ];
        for text in bad {
            assert_eq!(trace("traceparent", &text).traceparent, own, "{text}");
        }
        assert_eq!(parse(&"é".repeat(40)), None);
    }

    #[test]
    fn keeps_plain_request_ids() {
        assert_eq!(trace("x-request-id", "job-7_A").request_id, "job-7_A");
        for text in ["", "a b", "a\tb", "ä", &"a".repeat(65)] {
            assert_eq!(
                trace("x-request-id", text).request_id,
                "01920000-0000-7000-8000-000000000001",
                "{text}"
            );
        }
    }
}
