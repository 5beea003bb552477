//! Heads that are not taken, and heads that only look odd. What each rule refuses is in the table of `head.rs`.

use tokio::io::AsyncWriteExt;

use crate::server::{Server, patient};

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

/// A bad head of each kind that hyper would take or answer without a body, and what is answered.
const BAD: &[(u16, &str)] = &[
    (400, "GET / HTTP/1.1\nHost: a\n\n"),
    (400, "GET / HTTP/1.1\r\nHost: a\n\r\n"),
    (400, "GET / HTTP/1.1\r\n\r\n"),
    (400, "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"),
    (400, "GET / HTTP/1.1\r\nHost : a\r\n\r\n"),
    (400, "GET / HTTP/1.1\r\nHost: a\r\nX: a\r\n b\r\n\r\n"),
    (400, "GET / HTTP/1.1\r\nHost: a\r\nX: a\0b\r\n\r\n"),
    (400, "GET / HTTP/1.1\r\nHost: a\r\nX: a\rb\r\n\r\n"),
    (400, "GET http://b/ HTTP/1.1\r\nHost: a\r\n\r\n"),
    (400, "GET /\r\n"),
    (400, "\u{16}\u{3}\u{1}"),
    (501, "CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n"),
    (400, "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\nabc"),
    (
        400,
        "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ),
    (400, "POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n"),
    (501, "POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"),
    (413, "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 18446744073709551615\r\n\r\n"),
];

/// The statuses of all answers on a connection.
fn statuses(answers: &str) -> Vec<u16> {
    let starts = answers.split("HTTP/1.1 ").skip(1);
    starts.filter_map(|answer| answer.get(..3)?.parse().ok()).collect()
}

fn is_problem(answer: &str, status: u16) -> bool {
    let Some((head, body)) = answer.rsplit_once("\r\n\r\n") else { return false };
    head.contains("\r\nconnection: close")
        && head.contains("\r\ncontent-type: application/problem+json\r\n")
        && body.contains(&format!("\"status\":{status},"))
        && body.contains("\"trace_id\":\"")
}

#[tokio::test]
async fn a_bad_head_is_answered_in_its_turn_and_nothing_behind_it() {
    let server = Server::start(patient()).await;
    for (status, bad) in BAD {
        for before in [0, 1, 3] {
            let mut client = server.connect().await;
            client.send(&[&GET.repeat(before), *bad, GET].concat()).await;
            let answers = client.rest().await;
            let mut expected = vec![200; before];
            expected.push(*status);
            assert_eq!(statuses(&answers), expected, "{bad:?}: {answers}");
            assert!(is_problem(&answers, *status), "{bad:?}: {answers}");
        }
    }
}

#[tokio::test]
async fn a_bad_head_is_known_in_any_pieces() {
    let server = Server::start(patient()).await;
    for (status, bad) in BAD {
        let mut client = server.connect().await;
        for byte in format!("{GET}{bad}{GET}").into_bytes() {
            // It may have said no by now.
            let _ = client.0.write_all(&[byte]).await;
        }
        let answers = client.rest().await;
        assert_eq!(statuses(&answers), [200, *status], "{bad:?}: {answers}");
    }
}

/// Requests in the middle of a body stay there, whatever the body's form and its pieces are.
#[tokio::test]
async fn a_body_is_never_read_as_a_request() {
    let server = Server::start(patient()).await;
    let inner = "GET /peer HTTP/1.1\r\nHost: a\nContent-Length: 3\r\n\r\n\r\n";
    let length = inner.len();
    for (framing, body) in [
        (format!("Content-Length: {length}"), inner.to_owned()),
        (
            "Transfer-Encoding: chunked".to_owned(),
            format!("{length:x};a=\"{GET:.3}\"\r\n{inner}\r\n0\r\nA: b\r\n\r\n"),
        ),
    ] {
        for path in ["/echo", "/deaf"] {
            let all = format!("POST {path} HTTP/1.1\r\nHost: a\r\n{framing}\r\n\r\n{body}{GET}");
            for size in [1, 7, all.len()] {
                let mut client = server.connect().await;
                for piece in all.as_bytes().chunks(size) {
                    let _ = client.0.write_all(piece).await;
                }
                client.finish().await;
                let answers = client.rest().await;
                let answered = statuses(&answers);
                // Who does not want the rest of a body may close instead of reading it.
                assert!(
                    answered == [200, 200] || (path == "/deaf" && answered == [200]),
                    "{all:?}: {answers}"
                );
                assert!(!answers.contains("127.0.0.1"), "the inner request was served: {answers}");
            }
        }
    }
}

#[tokio::test]
async fn a_body_without_a_clear_end_ends_the_connection() {
    let server = Server::start(patient()).await;
    for body in [
        "0x3\r\nabc",
        "3\nabc",
        "3 \r\nabc",
        "-3\r\nabc",
        "3;\n\r\nabc",
        "10000000000000000\r\nabc",
        "3\r\nabcd\r\n",
    ] {
        let mut client = server.connect().await;
        let head = "POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
        client.send(&format!("{head}{body}\r\n0\r\n\r\n{GET}{GET}")).await;
        let answers = client.rest().await;
        assert_eq!(statuses(&answers), [400], "{body:?}: {answers}");
    }
}

#[tokio::test]
async fn the_answer_to_head_has_no_body() {
    let server = Server::start(patient()).await;
    let mut client = server.connect().await;
    client.send("HEAD / HTTP/1.1\r\n\r\n").await;
    let answer = client.rest().await;
    assert!(answer.starts_with("HTTP/1.1 400 ") && answer.ends_with("\r\n\r\n"), "{answer}");
}

#[tokio::test]
async fn requests_may_be_pipelined_and_kept_alive() {
    let server = Server::start(patient()).await;
    let mut client = server.connect().await;
    client.send(&GET.repeat(3)).await;
    for _ in 0..3 {
        assert_eq!(client.answer().await, "hello");
    }
    for _ in 0..3 {
        assert_eq!(client.get("/").await, "hello");
    }
    client.send("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await;
    assert_eq!(client.answer().await, "hello");
    client.closed().await;
}

#[tokio::test]
async fn large_heads_are_refused() {
    const MOST: usize = 64 * 1024;
    let server = Server::start(patient()).await;
    let of = |bytes: usize| {
        let start = "\r\nGET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nX: ";
        format!("{start}{}\r\n\r\n", "x".repeat(bytes - start.len() - 4))
    };
    for (head, status) in [
        (of(MOST), 200),
        (of(MOST + 1), 431),
        (of(2 * MOST), 431),
        (format!("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{}\r\n", "a: b\r\n".repeat(98)), 200),
        (format!("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{}\r\n", "a: b\r\n".repeat(99)), 431),
        (format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "x".repeat(70_000)), 414),
    ] {
        let mut client = server.connect().await;
        let _ = client.0.write_all(head.as_bytes()).await;
        let answer = client.rest().await;
        assert_eq!(statuses(&answer), [status], "{} bytes: {answer}", head.len());
        assert!(status == 200 || is_problem(&answer, status), "{answer}");
    }
}

/// Whatever one changes in a good head: hyper is never left to refuse it, which it does without a body.
#[tokio::test]
async fn no_refusal_is_without_a_body() {
    const HEADS: &[&str] = &[
        "GET /a/b?c=d&e=%20 HTTP/1.1\r\nHost: a.example:80\r\nAccept: */*\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "PUT http://a:80/b HTTP/1.1\r\nhost: a:80\r\nContent-Length: 0\r\nUser-Agent: x (y; z)\r\n\r\n",
        "OPTIONS * HTTP/1.0\r\nConnection: keep-alive\r\nX:\r\n\r\n",
    ];
    let interesting = b" \t\r\n\0:/?#%@[]\\\"<>,;=*`{}|^~!0aZ\x7f\x80\xc3\xff";
    let server = Server::start(patient()).await;
    let mut random = Random(0x5eed);
    for turn in 0..3_000 {
        let mut head = HEADS[turn % HEADS.len()].as_bytes().to_vec();
        for _ in 0..=random.below(3) {
            let place = random.below(head.len());
            let byte = interesting[random.below(interesting.len())];
            match random.below(3) {
                0 => head[place] = byte,
                1 => head.insert(place, byte),
                _ => drop(head.remove(place)),
            }
        }
        let mut client = server.connect().await;
        let _ = client.0.write_all(&head).await;
        let _ = client.0.shutdown().await;
        let answers = client.rest().await;
        for status in statuses(&answers) {
            let ours = matches!(status, 400 | 413 | 414 | 431 | 501);
            assert!(!ours || is_problem(&answers, status), "{:?}: {answers}", String::from_utf8_lossy(&head));
        }
    }
}

/// Numbers from a seed (xorshift), so that a failure comes again.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % u64::try_from(end).unwrap()).unwrap()
    }
}
