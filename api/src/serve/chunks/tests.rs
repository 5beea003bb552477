use std::{convert::Infallible, pin::Pin, sync::Mutex, time::Duration};

use axum::body::HttpBody;
use http::{Request, Response};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, duplex},
    time::timeout,
};

use super::*;

/// How many bytes pass, in pieces of this size, and whether the body ended with them.
fn pass(bytes: &[u8], size: usize) -> Result<(usize, bool), BadChunk> {
    let mut chunks = Chunks::default();
    let mut passed = 0;
    for piece in bytes.chunks(size) {
        let (step, done) = chunks.pass(piece).map_err(|BadChunk(step)| BadChunk(passed + step))?;
        passed += step;
        if done {
            return Ok((passed, true));
        }
    }
    Ok((passed, false))
}

#[test]
fn a_body_ends_with_its_last_chunk() {
    let zeros = format!("{}5\r\nhello\r\n0\r\n\r\n", "0".repeat(300));
    for body in [
        "0\r\n\r\n",
        "000\r\n\r\n",
        "5\r\nhello\r\n0\r\n\r\n",
        "5\r\nhe\r\nl\r\nA\r\n0123456789\r\n9\r\n0\r\n\r\n0\r\n\r\r\n0\r\n\r\n",
        "1;a\r\nx\r\n1;a=b;c=\"d e\"\r\ny\r\n0;last\r\n\r\n",
        "1\r\nx\r\n0\r\nA: b\r\nC: d\r\n\r\n",
        zeros.as_str(),
    ] {
        let whole = format!("{body}GET / HTTP/1.1\r\n");
        for size in 1..whole.len() {
            assert_eq!(pass(whole.as_bytes(), size), Ok((body.len(), true)), "{body:?} by {size}");
        }
        assert_eq!(pass(&body.as_bytes()[..body.len() - 1], 3), Ok((body.len() - 1, false)), "{body:?}");
    }
}

#[test]
fn what_could_be_read_in_two_ways_does_not_pass() {
    let long = format!("1;{}\r\nx\r\n0\r\n\r\n", "a".repeat(MAX_EXTRA + 1));
    let trailers = format!("0\r\n{}\r\n", format!("a: {}\r\n", "b".repeat(100)).repeat(50));
    for (body, good) in [
        ("\r\n", 0),
        (" 5\r\n", 0),
        ("-1\r\n", 0),
        ("+1\r\n", 0),
        ("0x10\r\n", 1),
        ("g\r\n", 0),
        ("5 \r\nhello", 1),
        ("5\nhello", 1),
        ("5\rhello", 2),
        ("5;a\nhello", 3),
        ("5;a\rb\nhello", 4),
        ("5;a\0\r\nhello", 3),
        ("5,5\r\nhello", 1),
        ("8000000000000000\r\nx", 15),
        ("fffffffffffffffff\r\nx", 15),
        ("5\r\nhello0\r\n\r\n", 8),
        ("5\r\nhello\n0\r\n\r\n", 8),
        ("5\r\nhello\rx", 9),
        ("4\r\nhello\r\n", 7),
        ("0\r\n\n", 3),
        ("0\r\n\rx", 4),
        ("0\r\n a: b\r\n\r\n", 3),
        ("0\r\na: b\n\r\n", 7),
        ("0\r\na: b\r\n c\r\n\r\n", 9),
        ("0\r\na: \0\r\n\r\n", 6),
        (long.as_str(), 2 + MAX_EXTRA),
        (trailers.as_str(), 4_177),
    ] {
        for size in [1, 2, 3, 7, body.len()] {
            assert_eq!(pass(body.as_bytes(), size), Err(BadChunk(good)), "{body:.40?} by {size}");
        }
    }
}

/// Where hyper sees the end of a body: each request that it reads out of these bytes, and whether its body was whole.
async fn read_by_hyper(bytes: &[u8]) -> Vec<(String, bool)> {
    let seen = Mutex::new(Vec::new());
    let service = service_fn(async |request: Request<Incoming>| {
        let path = request.uri().path().to_owned();
        let mut body = request.into_body();
        let whole = loop {
            match std::future::poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
                Some(Ok(_)) => {}
                Some(Err(_)) => break false,
                None => break true,
            }
        };
        seen.lock().unwrap().push((path, whole));
        Ok::<_, Infallible>(Response::new(String::new()))
    });
    let (mut client, server) = duplex(1 << 20);
    client.write_all(bytes).await.unwrap();
    let serving = http1::Builder::new().serve_connection(TokioIo::new(server), service);
    let mut answers = Vec::new();
    let both = async { tokio::join!(serving, client.read_to_end(&mut answers)) };
    // Who sees no end waits for one.
    let _ = timeout(Duration::from_secs(5), both).await;
    seen.into_inner().unwrap()
}

/// Whatever one changes in a body: where we see its end hyper sees it too, so that no head escapes us.
#[tokio::test]
async fn hyper_sees_the_same_end() {
    const HEAD: &[u8] = b"POST /first HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n";
    const NEXT: &[u8] = b"GET /next HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
    const BODIES: [&[u8]; 4] = [
        b"5\r\nhello\r\n0\r\n\r\n",
        b"1;a=b\r\nx\r\nB;c=\"d\"\r\n0\r\n\r\n0\r\n\r\nx\r\n00\r\n\r\n",
        b"3\r\nabc\r\n0;e\r\nF: g\r\nH: i\r\n\r\n",
        b"0\r\n\r\n",
    ];
    let interesting = b"\r\n \t;:=0123aFgx\"\0\x7f\xff";
    let mut state = 0x5eed_u64;
    let mut below = |end: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(state >> 33).unwrap() % end
    };
    let mut ended = 0;
    for turn in 0..4_000 {
        let mut body = BODIES[turn % BODIES.len()].to_vec();
        for _ in 0..below(3) {
            let (place, byte) = (below(body.len()), interesting[below(interesting.len())]);
            match below(3) {
                0 => body[place] = byte,
                1 => body.insert(place, byte),
                _ => drop(body.remove(place)),
            }
        }
        let bytes = [HEAD, &body, NEXT].concat();
        let Ok((length, true)) = pass(&bytes[HEAD.len()..], 1 << 20) else { continue };
        let whole = [HEAD, &bytes[HEAD.len()..HEAD.len() + length], NEXT].concat();
        let seen = read_by_hyper(&whole).await;
        let same = seen == [("/first".to_owned(), true), ("/next".to_owned(), true)];
        // It reads trailers more closely, and then nothing behind them.
        let refused = seen == [("/first".to_owned(), false)];
        assert!(same || refused, "{}: {seen:?}", body.escape_ascii());
        ended += usize::from(same);
    }
    assert!(ended > 1_000, "only {ended} bodies had an end");
}
