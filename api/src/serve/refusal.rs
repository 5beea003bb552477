//! Why the head of a request is not taken, and what the client is told of it.

use taskpost_common::problem::Code;

/// Why a head is not taken. The connection ends with it: where the next request begins is not certain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    RequestLine,
    Version,
    Target,
    Connect,
    BareLineFeed,
    Folded,
    BlankBeforeColon,
    Field,
    NoHost,
    Hosts,
    Host,
    OtherHost,
    Lengths,
    Length,
    LengthTooLarge,
    LengthAndCoding,
    Coding,
    UnknownCoding,
    CodingInOld,
    LineTooLong,
    HeadTooLarge,
    TooManyFields,
}

impl Refusal {
    /// (code, its name in the metrics, what the client is told).
    pub(super) const fn row(self) -> (Code, &'static str, &'static str) {
        use Code::{BadRequest, HeadersTooLarge, NotImplemented, TooLarge, UriTooLong};
        match self {
            Self::RequestLine => (
                BadRequest,
                "request_line",
                "a request begins with a method, a target and HTTP/1.1, parted by single spaces",
            ),
            Self::Version => (BadRequest, "version", "the version must be HTTP/1.1 or HTTP/1.0"),
            Self::Target => (
                BadRequest,
                "target",
                "the target must be a path that begins with /; percent-encode what is not allowed in it",
            ),
            Self::Connect => (NotImplemented, "connect", "this is no proxy; CONNECT is not available"),
            Self::BareLineFeed => (BadRequest, "bare_line_feed", "each line of the head must end in CR LF"),
            Self::Folded => (BadRequest, "folded", "a header field must stand on one line"),
            Self::BlankBeforeColon => (
                BadRequest,
                "blank_before_colon",
                "there must be no blank between a field's name and its colon",
            ),
            Self::Field => (
                BadRequest,
                "field",
                "a header field must be a name, a colon and a value without control characters",
            ),
            Self::NoHost => (BadRequest, "no_host", "a request of HTTP/1.1 needs a Host"),
            Self::Hosts => (BadRequest, "hosts", "Host must come once"),
            Self::Host => (BadRequest, "host", "Host must be a name or an address, with or without a port"),
            Self::OtherHost => (BadRequest, "other_host", "the target names another host than Host does"),
            Self::Lengths => (BadRequest, "lengths", "Content-Length must come once"),
            Self::Length => (BadRequest, "length", "Content-Length must be a decimal number"),
            Self::LengthTooLarge => {
                (TooLarge, "length_too_large", "Content-Length names more than any body may have")
            }
            Self::LengthAndCoding => (
                BadRequest,
                "length_and_coding",
                "Content-Length and Transfer-Encoding must not come together",
            ),
            Self::Coding => (BadRequest, "coding", "Transfer-Encoding must be chunked"),
            Self::UnknownCoding => {
                (NotImplemented, "unknown_coding", "the only Transfer-Encoding here is chunked")
            }
            Self::CodingInOld => (BadRequest, "coding_in_old", "HTTP/1.0 has no Transfer-Encoding"),
            Self::LineTooLong => (UriTooLong, "line_too_long", "the address may have at most 8192 bytes"),
            Self::HeadTooLarge => {
                (HeadersTooLarge, "head_too_large", "the head may have at most 65536 bytes")
            }
            Self::TooManyFields => {
                (HeadersTooLarge, "too_many_fields", "the request has too many header fields")
            }
        }
    }
}
