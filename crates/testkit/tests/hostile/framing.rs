//! Framing: whatever could be read as two different requests is refused, the connection ends with it, and nothing that
//! is hidden behind it or in a body is ever served.

use taskpost_testkit::{Backend, Raw, TestApp, both};

use crate::{case::Case, row::Row};

both!(row);

async fn row(backend: Backend) {
    let mut row = Row::start("Framing", TestApp::start(backend)).await;
    let wire = Wire { token: row.app.user("Ada").await.token };
    for (name, status, fields) in LENGTHS {
        wire.refused(&mut row, name, *status, &format!("{POST}{fields}\r\n\r\n0\r\n\r\n{{hidden}}")).await;
    }
    for (name, status, head) in [LINES, HOSTS, PROTOCOLS].concat() {
        wire.refused(&mut row, name, status, head).await;
    }
    for (name, body) in CHUNKS {
        wire.cut(&mut row, name, body.as_bytes()).await;
    }
    wire.cut(&mut row, "a long extension", format!("1;{}\r\na\r\n0\r\n\r\n", "x".repeat(20_000)).as_bytes())
        .await;
    wire.cut(&mut row, "long trailers", format!("0\r\n{}\r\n", "x: y\r\n".repeat(5_000)).as_bytes()).await;
    for (name, statuses, good) in SERVED {
        wire.served(&mut row, name, statuses, good).await;
    }
    row.end(330).await;
}

/// What is refused before any handler: a name, the status, and the bytes. `{auth}` stands for the fields of a request that
/// would make a task, `{hidden}` for a whole one.
type Bad = (&'static str, u16, &'static str);

/// A request that makes a task; served, it would change the store.
const HIDDEN: &str =
    "POST /v1/tasks HTTP/1.1\r\nhost: a\r\n{auth}content-length: 20\r\n\r\n{\"title\":\"smuggled\"}";

const POST: &str = "POST /v1/tasks HTTP/1.1\r\nhost: a\r\n{auth}";

/// Fields that say where a body ends.
const LENGTHS: &[Bad] = &[
    ("a length, then a coding", 400, "content-length: 5\r\ntransfer-encoding: chunked"),
    ("a coding, then a length", 400, "transfer-encoding: chunked\r\ncontent-length: 5"),
    ("length 0 and a coding", 400, "content-length: 0\r\ntransfer-encoding: chunked"),
    ("a coding behind a tab and a length", 400, "transfer-encoding:\tchunked\r\ncontent-length: 5"),
    ("a coding in odd letters and a length", 400, "tRaNsFeR-eNcOdInG: ChUnKeD\r\ncontent-length: 5"),
    ("the coding identity and a length", 400, "transfer-encoding: identity\r\ncontent-length: 5"),
    ("an unknown coding and a length", 400, "content-length: 5\r\ntransfer-encoding: xchunked"),
    ("an empty coding and a length", 400, "content-length: 5\r\ntransfer-encoding:"),
    (
        "a length and a coding with a blank before its colon",
        400,
        "content-length: 5\r\ntransfer-encoding : chunked",
    ),
    ("a length and a folded coding", 400, "content-length: 5\r\nx: y\r\n transfer-encoding: chunked"),
    ("a length and a coding behind a CR", 400, "content-length: 5\r\nx: y\rtransfer-encoding: chunked"),
    ("a length and a coding behind an LF", 400, "content-length: 5\r\nx: y\ntransfer-encoding: chunked"),
    ("two equal lengths", 400, "content-length: 5\r\ncontent-length: 5"),
    ("two lengths", 400, "content-length: 5\r\ncontent-length: 0"),
    ("two lengths, 0 first", 400, "content-length: 0\r\nContent-Length: 5"),
    ("equal lengths in one field", 400, "content-length: 5, 5"),
    ("lengths in one field", 400, "content-length: 5, 0"),
    ("a positive length", 400, "content-length: +5"),
    ("a negative length", 400, "content-length: -5"),
    ("a hexadecimal length", 400, "content-length: 0x5"),
    ("a length with a point", 400, "content-length: 5.0"),
    ("a length with a power", 400, "content-length: 5e0"),
    ("a length with a blank in it", 400, "content-length: 5 5"),
    ("a length in quotes", 400, "content-length: \"5\""),
    ("an empty length", 400, "content-length:"),
    ("a length in wide digits", 400, "content-length: \u{ff15}"),
    ("a length with an underscore", 400, "content-length: 1_0"),
    ("a length of 2^63", 413, "content-length: 9223372036854775808"),
    ("a length of 2^64", 413, "content-length: 18446744073709551616"),
    ("a length of 40 digits", 413, "content-length: 1111111111111111111111111111111111111111"),
    ("xchunked", 400, "transfer-encoding: xchunked"),
    ("chunkedx", 400, "transfer-encoding: chunkedx"),
    ("chunked with a parameter", 400, "transfer-encoding: chunked;q=1"),
    ("chunked in quotes", 400, "transfer-encoding: \"chunked\""),
    ("chunked with a vertical tab", 400, "transfer-encoding: \u{b}chunked"),
    ("chunked with a NUL", 400, "transfer-encoding: chunked\0"),
    ("chunked twice", 400, "transfer-encoding: chunked\r\ntransfer-encoding: chunked"),
    ("chunked twice in one field", 400, "transfer-encoding: chunked, chunked"),
    ("chunked not last", 400, "transfer-encoding: chunked, identity"),
    ("chunked first, gzip in a second field", 400, "transfer-encoding: chunked\r\ntransfer-encoding: gzip"),
    ("an empty coding behind chunked", 400, "transfer-encoding: chunked,"),
    ("the coding identity", 400, "transfer-encoding: identity"),
    ("the coding gzip", 400, "transfer-encoding: gzip"),
    ("an empty coding", 400, "transfer-encoding:"),
    ("gzip, then chunked", 501, "transfer-encoding: gzip, chunked"),
    ("an unknown coding, then chunked", 501, "transfer-encoding: x,chunked"),
];

/// Lines of the head.
const LINES: &[Bad] = &[
    ("LF for every line", 400, "GET /v1/tasks HTTP/1.1\nhost: a\n\n{hidden}"),
    ("LF behind the first line", 400, "GET /v1/tasks HTTP/1.1\nhost: a\r\n\r\n{hidden}"),
    ("LF behind a field", 400, "GET /v1/tasks HTTP/1.1\r\nhost: a\nx: y\r\n\r\n{hidden}"),
    ("LF for the last line", 400, "GET /v1/tasks HTTP/1.1\r\nhost: a\r\n\n{hidden}"),
    ("LF before the first line", 400, "\nGET /v1/tasks HTTP/1.1\r\nhost: a\r\n\r\n{hidden}"),
    ("LF in a value", 400, "GET /v1/tasks HTTP/1.1\r\nhost: a\r\nx: y\nz\r\n\r\n{hidden}"),
    ("LF LF in the head", 400, "GET /v1/tasks HTTP/1.1\r\nhost: a\r\nx: y\n\n{hidden}\r\n\r\n"),
    ("CR for the line ends", 400, "GET /v1/tasks HTTP/1.1\rhost: a\r\r\n\r\n{hidden}"),
    ("CR CR LF", 400, "GET /v1/tasks HTTP/1.1\r\r\nhost: a\r\n\r\n{hidden}"),
    ("CR in a value", 400, "GET /v1/tasks HTTP/1.1\r\nhost: a\r\nx: y\rz: a\r\n\r\n{hidden}"),
    ("a folded field", 400, "GET /v1/tasks HTTP/1.1\r\nhost: a\r\nx: y\r\n z\r\n\r\n{hidden}"),
    ("a field folded by a tab", 400, "GET /v1/tasks HTTP/1.1\r\nhost: a\r\nx: y\r\n\tz\r\n\r\n{hidden}"),
    ("a blank before the first field", 400, "GET /v1/tasks HTTP/1.1\r\n host: a\r\n\r\n{hidden}"),
    ("a line of blanks", 400, "GET /v1/tasks HTTP/1.1\r\nhost: a\r\n \r\n\r\n{hidden}"),
    ("a blank before a colon", 400, "GET /v1/tasks HTTP/1.1\r\nhost : a\r\n\r\n{hidden}"),
    ("a tab before a colon", 400, "GET /v1/tasks HTTP/1.1\r\nhost: a\r\nx\t: y\r\n\r\n{hidden}"),
    ("a field without a colon", 400, "GET /v1/tasks HTTP/1.1\r\nhost: a\r\nx\r\n\r\n{hidden}"),
    ("a field without a name", 400, "GET /v1/tasks HTTP/1.1\r\nhost: a\r\n: y\r\n\r\n{hidden}"),
    ("a blank in a name", 400, "GET /v1/tasks HTTP/1.1\r\nhost: a\r\nx z: y\r\n\r\n{hidden}"),
    ("a NUL in a name", 400, "GET /v1/tasks HTTP/1.1\r\nhost: a\r\nx\0: y\r\n\r\n{hidden}"),
    ("a NUL in a value", 400, "GET /v1/tasks HTTP/1.1\r\nhost: a\r\nx: \0\r\n\r\n{hidden}"),
    ("a NUL in the method", 400, "GE\0T /v1/tasks HTTP/1.1\r\nhost: a\r\n\r\n{hidden}"),
    ("a NUL in the version", 400, "GET / HTTP/1.1\0\r\nhost: a\r\n\r\n{hidden}"),
    ("DEL in a value", 400, "GET /v1/tasks HTTP/1.1\r\nhost: a\r\nx: \u{7f}\r\n\r\n{hidden}"),
    ("ESC in a value", 400, "GET /v1/tasks HTTP/1.1\r\nhost: a\r\nx: \u{1b}[2J\r\n\r\n{hidden}"),
    ("brackets in a name", 400, "GET /v1/tasks HTTP/1.1\r\nhost: a\r\nx[0]: y\r\n\r\n{hidden}"),
    ("UTF-8 in a name", 400, "GET /v1/tasks HTTP/1.1\r\nhost: a\r\n\u{fc}: y\r\n\r\n{hidden}"),
];

/// Hosts and targets.
const HOSTS: &[Bad] = &[
    ("no host", 400, "GET /v1/tasks HTTP/1.1\r\n\r\n{hidden}"),
    ("no host, but a forwarded one", 400, "GET /v1/tasks HTTP/1.1\r\nx-forwarded-host: a\r\n\r\n{hidden}"),
    ("two hosts", 400, "GET /v1/tasks HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n{hidden}"),
    ("one host twice", 400, "GET /v1/tasks HTTP/1.1\r\nhost: a\r\nHost: a\r\n\r\n{hidden}"),
    ("two hosts on HTTP/1.0", 400, "GET /v1/tasks HTTP/1.0\r\nhost: a\r\nhost: b\r\n\r\n{hidden}"),
    ("two hosts in one field", 400, "GET /v1/tasks HTTP/1.1\r\nhost: a, b:1\r\n\r\n{hidden}"),
    ("a host with a path", 400, "GET /v1/tasks HTTP/1.1\r\nhost: a/b\r\n\r\n{hidden}"),
    ("a host with a user", 400, "GET /v1/tasks HTTP/1.1\r\nhost: u@a\r\n\r\n{hidden}"),
    ("a host with a scheme", 400, "GET /v1/tasks HTTP/1.1\r\nhost: http://a\r\n\r\n{hidden}"),
    ("a host with a blank", 400, "GET /v1/tasks HTTP/1.1\r\nhost: a b\r\n\r\n{hidden}"),
    ("a host with letters for a port", 400, "GET /v1/tasks HTTP/1.1\r\nhost: a:b\r\n\r\n{hidden}"),
    ("a host with a port of 6 digits", 400, "GET /v1/tasks HTTP/1.1\r\nhost: a:100000\r\n\r\n{hidden}"),
    ("a host with two ports", 400, "GET /v1/tasks HTTP/1.1\r\nhost: a:1:2\r\n\r\n{hidden}"),
    ("a host with half a bracket", 400, "GET /v1/tasks HTTP/1.1\r\nhost: [::1\r\n\r\n{hidden}"),
    ("a host with a zone", 400, "GET /v1/tasks HTTP/1.1\r\nhost: [fe80::1%25lo]\r\n\r\n{hidden}"),
    ("a host with markup", 400, "GET /v1/tasks HTTP/1.1\r\nhost: a\"><script>\r\n\r\n{hidden}"),
    ("an address of another host", 400, "GET http://b/v1/tasks HTTP/1.1\r\nhost: a\r\n\r\n{hidden}"),
    ("an address of another port", 400, "GET http://a:81/v1/tasks HTTP/1.1\r\nhost: a:80\r\n\r\n{hidden}"),
    ("an address with a user", 400, "GET http://u@a/v1/tasks HTTP/1.1\r\nhost: a\r\n\r\n{hidden}"),
    ("an address and no host", 400, "GET http://a/v1/tasks HTTP/1.1\r\n\r\n{hidden}"),
    ("an address of another scheme", 400, "GET ftp://a/v1/tasks HTTP/1.1\r\nhost: a\r\n\r\n{hidden}"),
    ("an address without a host", 400, "GET http:///v1/tasks HTTP/1.1\r\nhost: a\r\n\r\n{hidden}"),
    ("a file", 400, "GET file:///etc/passwd HTTP/1.1\r\nhost: a\r\n\r\n{hidden}"),
    ("a host for a target", 400, "GET a:80 HTTP/1.1\r\nhost: a:80\r\n\r\n{hidden}"),
    ("a star for a target", 400, "GET * HTTP/1.1\r\nhost: a\r\n\r\n{hidden}"),
    ("a target without a slash", 400, "GET v1/tasks HTTP/1.1\r\nhost: a\r\n\r\n{hidden}"),
    ("a target with a fragment", 400, "GET /v1/tasks#a HTTP/1.1\r\nhost: a\r\n\r\n{hidden}"),
    ("a target with a tab", 400, "GET /v1/tasks\ta HTTP/1.1\r\nhost: a\r\n\r\n{hidden}"),
    ("a target with angles", 400, "GET /v1/<tasks> HTTP/1.1\r\nhost: a\r\n\r\n{hidden}"),
    ("a target with a control character", 400, "GET /v1/tasks\u{1} HTTP/1.1\r\nhost: a\r\n\r\n{hidden}"),
    ("CONNECT", 501, "CONNECT a:443 HTTP/1.1\r\nhost: a:443\r\n\r\n{hidden}"),
    ("CONNECT to a path", 501, "CONNECT /v1/tasks HTTP/1.1\r\nhost: a\r\n\r\n{hidden}"),
    ("CONNECT to loopback", 501, "CONNECT 127.0.0.1:5432 HTTP/1.1\r\nhost: 127.0.0.1:5432\r\n\r\n{hidden}"),
    ("CONNECT on HTTP/1.0", 501, "CONNECT a:443 HTTP/1.0\r\n\r\n{hidden}"),
];

/// First lines.
const PROTOCOLS: &[Bad] = &[
    ("HTTP/0.9", 400, "GET /v1/tasks\r\n{hidden}"),
    ("HTTP/0.9 with a host", 400, "GET /v1/tasks\r\nhost: a\r\n\r\n{hidden}"),
    ("HTTP/0.9 by name", 400, "GET /v1/tasks HTTP/0.9\r\nhost: a\r\n\r\n{hidden}"),
    ("HTTP/1.2", 400, "GET /v1/tasks HTTP/1.2\r\nhost: a\r\n\r\n{hidden}"),
    ("HTTP/2.0 in text", 400, "GET /v1/tasks HTTP/2.0\r\nhost: a\r\n\r\n{hidden}"),
    ("HTTP/3", 400, "GET /v1/tasks HTTP/3\r\nhost: a\r\n\r\n{hidden}"),
    ("HTTP/1", 400, "GET /v1/tasks HTTP/1\r\nhost: a\r\n\r\n{hidden}"),
    ("HTTP/01.1", 400, "GET /v1/tasks HTTP/01.1\r\nhost: a\r\n\r\n{hidden}"),
    ("http/1.1", 400, "GET /v1/tasks http/1.1\r\nhost: a\r\n\r\n{hidden}"),
    ("HTTP/1.1 and more", 400, "GET /v1/tasks HTTP/1.1 x\r\nhost: a\r\n\r\n{hidden}"),
    ("a blank behind the version", 400, "GET /v1/tasks HTTP/1.1 \r\nhost: a\r\n\r\n{hidden}"),
    ("two blanks", 400, "GET  /v1/tasks HTTP/1.1\r\nhost: a\r\n\r\n{hidden}"),
    ("a blank in front", 400, " GET /v1/tasks HTTP/1.1\r\nhost: a\r\n\r\n{hidden}"),
    ("tabs for blanks", 400, "GET\t/v1/tasks\tHTTP/1.1\r\nhost: a\r\n\r\n{hidden}"),
    ("no method", 400, "/v1/tasks HTTP/1.1\r\nhost: a\r\n\r\n{hidden}"),
    ("a method in brackets", 400, "(GET) /v1/tasks HTTP/1.1\r\nhost: a\r\n\r\n{hidden}"),
    (
        "a coding on HTTP/1.0",
        400,
        "POST /v1/tasks HTTP/1.0\r\n{auth}transfer-encoding: chunked\r\n\r\n0\r\n\r\n{hidden}",
    ),
    ("the start of TLS", 400, "\u{16}\u{3}\u{1}\u{2}\0\u{1}\0\u{1}{hidden}"),
    ("the start of SSH", 400, "SSH-2.0-OpenSSH_9.2\r\n{hidden}"),
    ("the start of SMTP", 400, "EHLO a\r\n{hidden}"),
    ("the start of Redis", 400, "*1\r\n$4\r\nPING\r\n{hidden}"),
    ("the PROXY protocol", 400, "PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\n{hidden}"),
    ("nearly HTTP/2", 400, "PRI * HTTP/2.0\r\n\r\nSM\r\n\rx{hidden}"),
    ("JSON", 400, "{\"title\":\"a\"}\r\n\r\n{hidden}"),
    ("an answer", 400, "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n{hidden}"),
];

/// Bodies in chunks without a clear end.
const CHUNKS: &[(&str, &str)] = &[
    ("a size that begins with 0x", "0x10\r\n0123456789abcdef\r\n0\r\n\r\n"),
    ("a negative size", "-1\r\na\r\n0\r\n\r\n"),
    ("a positive size", "+1\r\na\r\n0\r\n\r\n"),
    ("a blank before a size", " 1\r\na\r\n0\r\n\r\n"),
    ("a blank behind a size", "1 \r\na\r\n0\r\n\r\n"),
    ("a tab behind a size", "1\t\r\na\r\n0\r\n\r\n"),
    ("a size that is none", "g\r\na\r\n0\r\n\r\n"),
    ("a size with an underscore", "1_0\r\na\r\n0\r\n\r\n"),
    ("a size with a comma", "1,1\r\na\r\n0\r\n\r\n"),
    ("no size", "\r\na\r\n0\r\n\r\n"),
    ("a size of 2^63", "8000000000000000\r\na\r\n0\r\n\r\n"),
    ("a size of 2^64", "10000000000000000\r\na\r\n0\r\n\r\n"),
    ("a size of 16 fs", "ffffffffffffffff\r\na\r\n0\r\n\r\n"),
    ("a size of 30 digits", "111111111111111111111111111111\r\na\r\n0\r\n\r\n"),
    ("LF behind a size", "1\na\r\n0\r\n\r\n"),
    ("CR behind a size", "1\ra\r\n0\r\n\r\n"),
    ("LF behind the data", "1\r\na\n0\r\n\r\n"),
    ("more data than the size", "1\r\nab\r\n0\r\n\r\n"),
    ("less data than the size", "3\r\na\r\n0\r\n\r\n"),
    ("LF in an extension", "1;a\nb\r\na\r\n0\r\n\r\n"),
    ("CR in an extension", "1;a\rb\r\na\r\n0\r\n\r\n"),
    ("NUL in an extension", "1;\0\r\na\r\n0\r\n\r\n"),
    ("LF behind an extension", "1;a\na\r\n0\r\n\r\n"),
    ("LF for the last line", "1\r\na\r\n0\r\n\n"),
    ("LF behind a trailer", "0\r\nx: y\n\r\n"),
    ("CR in a trailer", "0\r\nx: y\rz\r\n\r\n"),
    ("NUL in a trailer", "0\r\nx: \0\r\n\r\n"),
    ("a folded trailer", "0\r\nx: y\r\n z\r\n\r\n"),
    ("a blank before a trailer", "0\r\n x: y\r\n\r\n"),
];

/// What is odd but clear: the statuses of what is answered. A last request, which closes, comes behind each.
const SERVED: &[(&str, &[u16], &str)] = &[
    ("HTTP/1.0", &[200], "GET /health/live HTTP/1.0\r\n\r\n{hidden}"),
    ("HTTP/1.0 kept alive", &[200, 200], "GET /health/live HTTP/1.0\r\nconnection: keep-alive\r\n\r\n"),
    ("empty lines before a request", &[200, 200], "\r\n\r\nGET /health/live HTTP/1.1\r\nhost: a\r\n\r\n"),
    ("an address of this host", &[200, 200], "GET http://A:80/health/live HTTP/1.1\r\nhost: a:80\r\n\r\n"),
    ("an IPv6 host", &[200, 200], "GET /health/live HTTP/1.1\r\nhost: [::1]:80\r\n\r\n"),
    ("an empty host", &[200, 200], "GET /health/live HTTP/1.1\r\nhost:\r\n\r\n"),
    ("blanks around values", &[200, 200], "GET /health/live HTTP/1.1\r\nhost: \t a \t\r\nx:\ty\t\r\n\r\n"),
    ("bytes above 127 in a value", &[200, 200], "GET /health/live HTTP/1.1\r\nhost: a\r\nx: \u{fc}\r\n\r\n"),
    (
        "odd letters in a name",
        &[200, 200],
        "GET /health/live HTTP/1.1\r\nhost: a\r\n!#$%&'*+-.^_`|~: y\r\n\r\n",
    ),
    ("a method that nobody knows", &[405, 200], "BREW /v1/tasks HTTP/1.1\r\nhost: a\r\n\r\n"),
    ("a method in small letters", &[405, 200], "get /v1/tasks HTTP/1.1\r\nhost: a\r\n\r\n"),
    ("OPTIONS *", &[404, 200], "OPTIONS * HTTP/1.1\r\nhost: a\r\n\r\n"),
    ("length 0", &[200, 200], "GET /health/live HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n"),
    (
        "a length with zeros",
        &[200, 200],
        "GET /health/live HTTP/1.1\r\nhost: a\r\ncontent-length: 0003\r\n\r\nabc",
    ),
    (
        "no chunks",
        &[200, 200],
        "GET /health/live HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    ),
    (
        "extensions and trailers",
        &[200, 200],
        "GET /health/live HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n03;a;b=c;d=\"e f\"\r\nabc\r\n000;g\r\nx: y\r\ncontent-length: 5\r\ntransfer-encoding: gzip\r\n\r\n",
    ),
    (
        "a request in a body",
        &[200, 200],
        "GET /health/live HTTP/1.1\r\nhost: a\r\ncontent-length: {length}\r\n\r\n{hidden}",
    ),
    (
        "a request in a chunk",
        &[200, 200],
        "GET /health/live HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n{hex}\r\n{hidden}\r\n0\r\n\r\n",
    ),
    (
        "a request in an extension",
        &[200, 200],
        "GET /health/live HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n0;GET /v1/tasks HTTP/1.1\r\n\r\n",
    ),
    (
        "a request in a trailer",
        &[200, 200],
        "GET /health/live HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n0\r\nGET-: /v1/tasks HTTP/1.1\r\n\r\n",
    ),
    (
        "a request behind the last",
        &[200],
        "GET /health/live HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n{hidden}",
    ),
    (
        "a request behind the last of many words",
        &[200],
        "GET /health/live HTTP/1.1\r\nhost: a\r\nconnection: keep-alive, CLOSE\r\n\r\n{hidden}",
    ),
    (
        "a request behind one that expects something",
        &[200, 200],
        "GET /health/live HTTP/1.1\r\nhost: a\r\nexpect: 200-maybe\r\n\r\n",
    ),
];

const LAST: &str = "GET /health/live HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
const FIRST: &str = "GET /health/live HTTP/1.1\r\nhost: a\r\n\r\n";

/// Writes the requests.
struct Wire {
    token: String,
}

impl Wire {
    fn fill(&self, text: &str) -> Vec<u8> {
        let auth = format!("authorization: Bearer {}\r\ncontent-type: application/json\r\n", self.token);
        let hidden = HIDDEN.replace("{auth}", &auth);
        let text = text
            .replace("{length}", &hidden.len().to_string())
            .replace("{hex}", &format!("{:x}", hidden.len()));
        text.replace("{hidden}", &hidden).replace("{auth}", &auth).into_bytes()
    }

    /// Alone and behind a good request: the refusal, and no more.
    async fn refused(&self, row: &mut Row, name: &str, status: u16, bad: &str) {
        let case = Case::raw(name, self.fill(bad)).expect(&[status]);
        let answer = row.ask(&case).await;
        last(row, name, answer).await;
        let name = format!("{name}, behind another request");
        let case = Case::raw(&name, self.fill(&format!("{FIRST}{bad}"))).expect(&[200]).unchanged();
        let mut first = row.ask(&case).await;
        let second = first.next().await;
        row.judge(&Case::raw(&name, "").expect(&[status]), &second);
        last(row, &name, second).await;
    }

    /// A body without an end is refused by whoever reads it, or not read at all; and no more.
    async fn cut(&self, row: &mut Row, name: &str, body: &[u8]) {
        let coded = "transfer-encoding: chunked\r\n\r\n";
        for (who, head, status) in [
            ("read", format!("{POST}{coded}"), 400),
            ("by a stranger", format!("POST /v1/tasks HTTP/1.1\r\nhost: a\r\n{coded}"), 401),
            ("for nobody", format!("GET /v1/nothing HTTP/1.1\r\nhost: a\r\n{coded}"), 404),
        ] {
            let bytes = [&self.fill(&head), body, &self.fill("{hidden}")].concat();
            let name = format!("{name}, {who}");
            let answer = row.ask(&Case::raw(&name, bytes).expect(&[400, status])).await;
            last(row, &name, answer).await;
        }
    }

    async fn served(&self, row: &mut Row, name: &str, statuses: &[u16], good: &str) {
        let case = Case::raw(name, self.fill(&format!("{good}{LAST}"))).expect(&statuses[..1]).unchanged();
        let mut answer = row.ask(&case).await;
        for status in &statuses[1..] {
            answer = answer.next().await;
            row.judge(&Case::raw(name, "").expect(&[*status]), &answer);
        }
        last(row, name, answer).await;
    }
}

/// The server closes behind this answer.
async fn last(row: &mut Row, name: &str, mut answer: Raw) {
    let next = answer.next().await;
    row.claim(&format!("{name}: the end"), next.status == 0 && next.body.is_empty(), || {
        format!("{} {}{}", next.status, next.head, next.text())
    });
}
