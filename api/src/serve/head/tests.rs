use super::*;

fn check_text(head: &str) -> Result<Body, Refusal> {
    check(head.as_bytes(), 4)
}

#[test]
fn good_heads_say_where_their_body_ends() {
    for (head, body) in [
        ("GET / HTTP/1.1\r\nHost: a\r\n\r\n", Body::Length(0)),
        ("GET / HTTP/1.0\r\n\r\n", Body::Length(0)),
        ("GET / HTTP/1.0\r\nhost: a\r\n\r\n", Body::Length(0)),
        ("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", Body::Length(0)),
        ("QUERY-ME /a?b=c&d=%20;e[]=/?:@!$'()*+,~|^{}\\ HTTP/1.1\r\nHost: a\r\n\r\n", Body::Length(0)),
        ("GET /gr\u{fc}n?gr\u{fc}n HTTP/1.1\r\nHost: a\r\n\r\n", Body::Length(0)),
        ("GET http://A:80/b HTTP/1.1\r\nHost: a:80\r\n\r\n", Body::Length(0)),
        ("GET https://a HTTP/1.1\r\nHost: a\r\n\r\n", Body::Length(0)),
        ("GET HTTP://a?b HTTP/1.0\r\n\r\n", Body::Length(0)),
        ("GET //a/b HTTP/1.1\r\nHost:\r\n\r\n", Body::Length(0)),
        ("GET / HTTP/1.1\r\nhOST:\t a-b.example_1.:8080 \t\r\n\r\n", Body::Length(0)),
        ("GET / HTTP/1.1\r\nHost: [2001:db8::1]:443\r\n\r\n", Body::Length(0)),
        ("GET / HTTP/1.1\r\nHost: [::ffff:1.2.3.4]\r\n\r\n", Body::Length(0)),
        ("GET / HTTP/1.1\r\nHost: a%20b!$&'()*+,;=~\r\n\r\n", Body::Length(0)),
        (
            "GET / HTTP/1.1\r\nHost: a\r\n!#$%&'*+-.^_`|~09azAZ:\r\nB: gr\u{fc}n\t\"x:y\"\r\n\r\n",
            Body::Length(0),
        ),
        (
            "GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encodin: a\r\nContent_Length: b\r\nTE: c\r\n\r\n",
            Body::Length(0),
        ),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n", Body::Length(0)),
        ("POST / HTTP/1.1\r\ncontent-length:007 \r\nHost: a\r\n\r\n", Body::Length(7)),
        ("POST / HTTP/1.0\r\nContent-Length: 9223372036854775807\r\n\r\n", Body::Length(LONGEST)),
        ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: ChunKed\r\n\r\n", Body::Chunked),
        ("POST / HTTP/1.1\r\nHost: a\r\nTRANSFER-ENCODING:\tchunked \r\n\r\n", Body::Chunked),
    ] {
        assert_eq!(check_text(head), Ok(body), "{head:?}");
    }
}

#[test]
fn request_lines_are_exact() {
    use Refusal::{Connect, RequestLine, Target, Version};
    for (line, refusal) in [
        ("", RequestLine),
        ("GET", RequestLine),
        ("GET /", RequestLine),
        ("GET  / HTTP/1.1", Version),
        (" GET / HTTP/1.1", RequestLine),
        ("GET\t/\tHTTP/1.1", RequestLine),
        ("G:T / HTTP/1.1", RequestLine),
        ("G\u{e4}T / HTTP/1.1", RequestLine),
        ("GET /\0 HTTP/1.1", Target),
        ("GET / HTTP/1.1 ", Version),
        ("GET /  HTTP/1.1", Version),
        ("GET / HTTP/1.2", Version),
        ("GET / HTTP/2.0", Version),
        ("GET / HTTP/0.9", Version),
        ("GET / HTTP/1.10", Version),
        ("GET / http/1.1", Version),
        ("GET / HTTPS/1.1", Version),
        ("GET /a b HTTP/1.1", Version),
        ("GET /a\tb HTTP/1.1", Target),
        ("GET /a\rb HTTP/1.1", Target),
        ("GET /a#b HTTP/1.1", Target),
        ("GET /a\"b HTTP/1.1", Target),
        ("GET /<a> HTTP/1.1", Target),
        ("GET /a`b HTTP/1.1", Target),
        ("GET /a\u{7f} HTTP/1.1", Target),
        ("GET * HTTP/1.1", Target),
        ("OPTIONS *a HTTP/1.1", Target),
        ("GET a HTTP/1.1", Target),
        ("GET a:80 HTTP/1.1", Target),
        ("GET ?a HTTP/1.1", Target),
        ("GET \\a HTTP/1.1", Target),
        ("GET http:// HTTP/1.1", Target),
        ("GET http:///a HTTP/1.1", Target),
        ("GET http:a HTTP/1.1", Target),
        ("GET ftp://a/ HTTP/1.1", Target),
        ("GET file:///etc/passwd HTTP/1.1", Target),
        ("GET http://a:b:c/ HTTP/1.1", Target),
        ("GET http://a/#b HTTP/1.1", Target),
        ("CONNECT a:443 HTTP/1.1", Connect),
        ("CONNECT / HTTP/1.1", Connect),
    ] {
        assert_eq!(check_text(&format!("{line}\r\nHost: a\r\n\r\n")), Err(refusal), "{line:?}");
    }
    let latin: Vec<u8> = [&b"GET /gr\xfcn HTTP/1.1\r\nHost: a\r\n\r\n"[..]].concat();
    assert_eq!(check(&latin, 4), Err(Target));
}

#[test]
fn fields_are_exact() {
    use Refusal::{BlankBeforeColon, Field, Folded, TooManyFields};
    for (field, refusal) in [
        (" a: b", Folded),
        ("\ta: b", Folded),
        ("a: b\r\n c", Folded),
        ("a : b", BlankBeforeColon),
        ("a\t: b", BlankBeforeColon),
        ("Transfer-Encoding : chunked", BlankBeforeColon),
        ("a", Field),
        (": b", Field),
        ("a b: c", Field),
        ("a\0: b", Field),
        ("a\u{e4}: b", Field),
        ("(a): b", Field),
        ("a: b\0", Field),
        ("a: b\rc: d", Field),
        ("a: b\r", Field),
        ("a: \u{1b}", Field),
        ("a: \u{7f}", Field),
        ("a: 1\r\nb: 2\r\nc: 3\r\nd: 4", TooManyFields),
    ] {
        assert_eq!(
            check_text(&format!("GET / HTTP/1.1\r\nHost: a\r\n{field}\r\n\r\n")),
            Err(refusal),
            "{field:?}"
        );
    }
}

#[test]
fn there_is_one_host() {
    use Refusal::{Host, Hosts, NoHost, OtherHost};
    for (target, hosts, refusal) in [
        ("/", "", NoHost),
        ("http://a/", "", NoHost),
        ("/", "Host: a\r\nHost: a\r\n", Hosts),
        ("/", "Host: a\r\nhost:\r\n", Hosts),
        ("/", "Host: a b\r\n", Host),
        ("/", "Host: a,b\u{e4}\r\n", Host),
        ("/", "Host: a/b\r\n", Host),
        ("/", "Host: u@a\r\n", Host),
        ("/", "Host: a:b\r\n", Host),
        ("/", "Host: a:1:2\r\n", Host),
        ("/", "Host: a:123456\r\n", Host),
        ("/", "Host: [::1\r\n", Host),
        ("/", "Host: []\r\n", Host),
        ("/", "Host: [::1]a\r\n", Host),
        ("/", "Host: [fe80::1%25lo]\r\n", Host),
        ("/", "Host: \"a\"\r\n", Host),
        ("/", "Host: http://a\r\n", Host),
        ("http://b/", "Host: a\r\n", OtherHost),
        ("http://a:80/", "Host: a\r\n", OtherHost),
        ("http://u@a/", "Host: a\r\n", OtherHost),
        ("https://a.b/", "Host: a\r\n", OtherHost),
    ] {
        let head = format!("GET {target} HTTP/1.1\r\n{hosts}\r\n");
        assert_eq!(check_text(&head), Err(refusal), "{head:?}");
    }
    assert_eq!(check_text("GET / HTTP/1.0\r\nHost: a\r\nHost: a\r\n\r\n"), Err(Hosts));
}

#[test]
fn there_is_one_way_to_the_end_of_a_body() {
    use Refusal::{Coding, Length, LengthAndCoding, LengthTooLarge, Lengths, UnknownCoding};
    for (fields, refusal) in [
        ("Content-Length: 1\r\nContent-Length: 1", Lengths),
        ("Content-Length: 1\r\ncontent-length: 2", Lengths),
        ("Content-Length: 1, 1", Length),
        ("Content-Length: +1", Length),
        ("Content-Length: -1", Length),
        ("Content-Length: 1.0", Length),
        ("Content-Length: 0x1", Length),
        ("Content-Length: 1 1", Length),
        ("Content-Length:", Length),
        ("Content-Length: \u{661}", Length),
        ("Content-Length: 9223372036854775808", LengthTooLarge),
        ("Content-Length: 18446744073709551616", LengthTooLarge),
        ("Content-Length: 5\r\nTransfer-Encoding: chunked", LengthAndCoding),
        ("Transfer-Encoding: chunked\r\nContent-Length: 5", LengthAndCoding),
        ("Transfer-Encoding: identity\r\nContent-Length: 5", LengthAndCoding),
        ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", Coding),
        ("Transfer-Encoding: identity\r\nTransfer-Encoding: chunked", Coding),
        ("Transfer-Encoding: xchunked", Coding),
        ("Transfer-Encoding: chunkedx", Coding),
        ("Transfer-Encoding: chunked;q=1", Coding),
        ("Transfer-Encoding: \"chunked\"", Coding),
        ("Transfer-Encoding: chunked, gzip", Coding),
        ("Transfer-Encoding: chunked, chunked", Coding),
        ("Transfer-Encoding: chunked,", Coding),
        ("Transfer-Encoding: ,chunked", Coding),
        ("Transfer-Encoding: identity", Coding),
        ("Transfer-Encoding: gzip", Coding),
        ("Transfer-Encoding:", Coding),
        ("Transfer-Encoding: gzip, chunked", UnknownCoding),
        ("Transfer-Encoding: identity,Chunked", UnknownCoding),
    ] {
        let head = format!("POST / HTTP/1.1\r\nHost: a\r\n{fields}\r\n\r\n");
        assert_eq!(check_text(&head), Err(refusal), "{fields:?}");
    }
    let old = "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n";
    assert_eq!(check_text(old), Err(Refusal::CodingInOld));
}
