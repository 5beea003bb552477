//! What the head of an HTTP/1 request must be, to the byte.
//!
//! The rules are those of RFC 9112, without its leniencies: whoever stands in front of us must not be able to read
//! another request out of the same bytes. They leave nothing for hyper to refuse, which would answer without a body.

use std::io::BufRead as _;

use http::{Uri, uri::Scheme};

use super::refusal::Refusal;

/// How the body behind a head ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Body {
    /// After so many bytes; most requests have none.
    Length(u64),
    /// With its last chunk.
    Chunked,
}

/// Judges a whole head, from its request line to its empty line. Each line must end in CR LF.
pub(super) fn check(head: &[u8], max_fields: usize) -> Result<Body, Refusal> {
    let (line, mut rest) = split_line(head);
    let line = RequestLine::read(line)?;
    let mut found = Found::default();
    let mut fields = 0;
    loop {
        let (field, behind) = split_line(rest);
        if field.is_empty() {
            break;
        }
        if fields == max_fields {
            return Err(Refusal::TooManyFields);
        }
        found.take(field)?;
        (rest, fields) = (behind, fields + 1);
    }
    line.check_host(found.host)?;
    found.body(line.is_http_10)
}

/// Where this byte first is. The system's `memchr` looks at many bytes at a time.
pub(super) fn find(text: &[u8], byte: u8) -> Option<usize> {
    let mut rest = text;
    let end = rest.skip_until(byte).ok()?.checked_sub(1)?;
    (text[end] == byte).then_some(end)
}

/// The first line without its end, and what is behind it.
fn split_line(text: &[u8]) -> (&[u8], &[u8]) {
    let (line, rest) = find(text, b'\n').map_or((text, &b""[..]), |end| (&text[..end], &text[end + 1..]));
    (line.strip_suffix(b"\r").unwrap_or(line), rest)
}

/// The first line of a head.
pub(super) struct RequestLine<'a> {
    target: &'a [u8],
    is_http_10: bool,
}

impl<'a> RequestLine<'a> {
    /// Reads a line without its end.
    pub(super) fn read(line: &'a [u8]) -> Result<Self, Refusal> {
        let (method, rest) = split(line, b' ').ok_or(Refusal::RequestLine)?;
        let (target, version) = split(rest, b' ').ok_or(Refusal::RequestLine)?;
        if !is_token(method) {
            return Err(Refusal::RequestLine);
        }
        let is_http_10 = match version {
            b"HTTP/1.1" => false,
            b"HTTP/1.0" => true,
            _ => return Err(Refusal::Version),
        };
        match method {
            b"CONNECT" => Err(Refusal::Connect),
            b"OPTIONS" if target == b"*" => Ok(()),
            _ => check_target(target),
        }?;
        Ok(Self { target, is_http_10 })
    }

    /// One valid Host in every request of HTTP/1.1 (RFC 9112, section 3.2), and the same one as the target's, if that
    /// names one.
    fn check_host(&self, host: Option<&[u8]>) -> Result<(), Refusal> {
        let Some(host) = host else {
            return if self.is_http_10 { Ok(()) } else { Err(Refusal::NoHost) };
        };
        if !is_host(host) {
            return Err(Refusal::Host);
        }
        if matches!(self.target, [b'/' | b'*', ..]) {
            return Ok(());
        }
        let uri = Uri::try_from(self.target).map_err(|_| Refusal::Target)?;
        let same = uri.authority().is_some_and(|named| named.as_str().as_bytes().eq_ignore_ascii_case(host));
        if same { Ok(()) } else { Err(Refusal::OtherHost) }
    }
}

/// A path, or a whole address of this host.
fn check_target(target: &[u8]) -> Result<(), Refusal> {
    if target.first() == Some(&b'/') {
        let readable = target.iter().all(|byte| TARGET.holds(*byte) || !byte.is_ascii());
        let text = target.is_ascii() || std::str::from_utf8(target).is_ok();
        return if readable && text { Ok(()) } else { Err(Refusal::Target) };
    }
    let uri = Uri::try_from(target).map_err(|_| Refusal::Target)?;
    let web = uri.scheme().is_some_and(|scheme| *scheme == Scheme::HTTP || *scheme == Scheme::HTTPS);
    let plain = target.iter().all(|byte| TARGET.holds(*byte));
    if web && plain { Ok(()) } else { Err(Refusal::Target) }
}

/// The fields that say whose request it is and where it ends; each may come once.
#[derive(Default)]
struct Found<'a> {
    host: Option<&'a [u8]>,
    length: Option<&'a [u8]>,
    coding: Option<&'a [u8]>,
}

impl<'a> Found<'a> {
    fn take(&mut self, line: &'a [u8]) -> Result<(), Refusal> {
        if matches!(line, [b' ' | b'\t', ..]) {
            return Err(Refusal::Folded);
        }
        let (name, value) = split(line, b':').ok_or(Refusal::Field)?;
        if !is_token(name) {
            let blank = matches!(name, [.., b' ' | b'\t']);
            return Err(if blank { Refusal::BlankBeforeColon } else { Refusal::Field });
        }
        if !is_value(value) {
            return Err(Refusal::Field);
        }
        let (place, twice) = match name.len() {
            4 if name.eq_ignore_ascii_case(b"host") => (&mut self.host, Refusal::Hosts),
            14 if name.eq_ignore_ascii_case(b"content-length") => (&mut self.length, Refusal::Lengths),
            17 if name.eq_ignore_ascii_case(b"transfer-encoding") => (&mut self.coding, Refusal::Coding),
            _ => return Ok(()),
        };
        match place.replace(value.trim_ascii()) {
            None => Ok(()),
            Some(_) => Err(twice),
        }
    }

    fn body(&self, is_http_10: bool) -> Result<Body, Refusal> {
        match (self.length, self.coding) {
            (Some(_), Some(_)) => Err(Refusal::LengthAndCoding),
            (None, Some(_)) if is_http_10 => Err(Refusal::CodingInOld),
            (None, Some(coding)) => check_coding(coding).map(|()| Body::Chunked),
            (Some(length), None) => read_length(length).map(Body::Length),
            (None, None) => Ok(Body::Length(0)),
        }
    }
}

/// `chunked`, and nothing else. A coding before it is one that we do not have; without it as the last, nobody knows
/// where the body ends (RFC 9112, sections 6.1 and 6.3).
fn check_coding(value: &[u8]) -> Result<(), Refusal> {
    if value.eq_ignore_ascii_case(b"chunked") {
        return Ok(());
    }
    let mut codings = value.rsplit(|byte| *byte == b',').map(<[u8]>::trim_ascii);
    let is_chunked = |coding: &[u8]| coding.eq_ignore_ascii_case(b"chunked");
    let framed = codings.next().is_some_and(is_chunked);
    let others = codings.all(|coding| is_token(coding) && !is_chunked(coding));
    Err(if framed && others { Refusal::UnknownCoding } else { Refusal::Coding })
}

/// Digits only: no sign, no list.
fn read_length(value: &[u8]) -> Result<u64, Refusal> {
    if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
        return Err(Refusal::Length);
    }
    let length = value.iter().try_fold(0_u64, |length, digit| {
        length.checked_mul(10)?.checked_add(u64::from(digit - b'0')).filter(|length| *length <= LONGEST)
    });
    length.ok_or(Refusal::LengthTooLarge)
}

/// Far beyond every limit of a body, and within what hyper counts to.
const LONGEST: u64 = u64::MAX / 2;

/// A name or an address, with or without a port (RFC 3986, section 3.2.2).
fn is_host(host: &[u8]) -> bool {
    let (name, port) = match host.strip_prefix(b"[") {
        Some(rest) => {
            let Some((address, port)) = split(rest, b']') else { return false };
            let literal = address.iter().all(|byte| byte.is_ascii_hexdigit() || matches!(byte, b':' | b'.'));
            if address.is_empty() || !literal {
                return false;
            }
            (&b""[..], port)
        }
        None => host.split_at(host.iter().position(|byte| *byte == b':').unwrap_or(host.len())),
    };
    let port = match port {
        [] => true,
        [b':', digits @ ..] => digits.len() <= 5 && digits.iter().all(u8::is_ascii_digit),
        _ => false,
    };
    port && name.iter().all(|byte| HOST.holds(*byte))
}

/// Parts a text at the first such byte.
fn split(text: &[u8], at: u8) -> Option<(&[u8], &[u8])> {
    let place = text.iter().position(|byte| *byte == at)?;
    Some((&text[..place], &text[place + 1..]))
}

/// Whether a value may hold this: visible letters, blanks and tabs, and whatever is beyond ASCII (RFC 9110, section 5.5).
pub(super) const fn is_text(byte: u8) -> bool {
    (byte >= b' ' && byte != 0x7f) || byte == b'\t'
}

/// Does not stop at the first bad one, so that the compiler looks at many bytes at a time.
fn is_value(value: &[u8]) -> bool {
    value.iter().fold(0, |bad, byte| bad | u8::from(!is_text(*byte))) == 0
}

fn is_token(text: &[u8]) -> bool {
    !text.is_empty() && text.iter().all(|byte| TOKEN.holds(*byte))
}

/// Whether a byte may begin a request.
pub(super) fn may_begin(byte: u8) -> bool {
    TOKEN.holds(byte)
}

/// A set of bytes.
struct Set([bool; 256]);

impl Set {
    /// The letters and digits, and these.
    const fn with(others: &[u8]) -> Self {
        let mut set = [false; 256];
        let mut byte = 0;
        while byte < 128_u8 {
            set[byte as usize] = byte.is_ascii_alphanumeric();
            byte += 1;
        }
        let mut place = 0;
        while place < others.len() {
            set[others[place] as usize] = true;
            place += 1;
        }
        Self(set)
    }

    fn holds(&self, byte: u8) -> bool {
        self.0[usize::from(byte)]
    }
}

/// RFC 9110, section 5.6.2.
static TOKEN: Set = Set::with(b"!#$%&'*+-.^_`|~");

/// What a path and a query are made of (RFC 3986), and what clients send unencoded and the `http` crate reads.
static TARGET: Set = Set::with(b"-._~!$&'()*+,;=:@/?%[]\\^{|}");

/// RFC 3986, section 3.2.2.
static HOST: Set = Set::with(b"-._~!$&'()*+,;=%");

#[cfg(test)]
mod tests;
