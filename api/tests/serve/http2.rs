//! HTTP/2: the same deadlines, and floods of frames.

use taskpost_api::serve::Limits;
use tokio::{io::AsyncWriteExt, time::timeout};

use crate::{
    client::Client,
    frames::{
        CONTINUATION, DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, PING, PREFACE, RST_STREAM, SETTINGS,
        fields, frame, get, request,
    },
    server::{PATIENCE, SHORT, Server, patient},
};

/// Status and body of one request with prior knowledge.
async fn answer(server: &Server, path: &str) -> (u16, String) {
    /// `:status: 200` in HPACK's static table (RFC 7541, appendix A).
    const STATUS_200: u8 = 0x88;
    let mut client = server.connect().await;
    client.send_bytes(&request(path, 65_535)).await;
    let (mut status, mut body) = (0, Vec::new());
    loop {
        let (kind, flags, payload) = client.frame().await.expect("a frame");
        match kind {
            HEADERS => status = if payload[0] == STATUS_200 { 200 } else { 1 },
            DATA => body.extend(payload),
            _ => continue,
        }
        if flags & END_STREAM != 0 {
            return (status, String::from_utf8(body).unwrap());
        }
    }
}

#[tokio::test]
async fn it_is_spoken_from_the_start() {
    let server = Server::start(patient()).await;
    assert_eq!(answer(&server, "/").await, (200, "hello".to_owned()));
    assert_eq!(answer(&server, "/peer").await.0, 200);
}

#[tokio::test]
async fn it_is_known_in_any_pieces() {
    let server = Server::start(patient()).await;
    let mut client = server.connect().await;
    for byte in request("/", 65_535) {
        client.send_bytes(&[byte]).await;
    }
    while client.frame().await.expect("a frame").0 != DATA {}
}

#[tokio::test]
async fn an_idle_connection_is_asked_to_leave() {
    let server = Server::start(Limits { keep_alive_idle: SHORT, head: SHORT, ..patient() }).await;
    let mut client = server.connect().await;
    client.send_bytes(&request("/", 65_535)).await;
    assert!(client.kinds().await.contains(&GOAWAY));
}

#[tokio::test]
async fn a_stream_without_a_window_is_cut() {
    let server = Server::start(Limits { write_stall: SHORT, ..patient() }).await;
    let mut client = server.connect().await;
    client.send_bytes(&request("/large", 10)).await;
    let mut data = 0;
    while let Some((kind, _, payload)) = client.frame().await {
        data += if kind == DATA { payload.len() } else { 0 };
    }
    assert_eq!(data, 10);
}

/// Half a field block has the time of half a head.
#[tokio::test]
async fn half_a_request_is_closed() {
    let server = Server::start(Limits { head: SHORT, ..patient() }).await;
    let block = frame(HEADERS, END_STREAM, 1, &fields("/"));
    let settings = frame(SETTINGS, 0, 0, &[]);
    for half in [&PREFACE[..1], &PREFACE[..23], &[0, 0], &block[..9], &block[..12], &block] {
        let mut client = server.connect().await;
        if half[0] != b'P' {
            client.send_bytes(&[PREFACE, &settings].concat()).await;
        }
        client.send_bytes(half).await;
        client.kinds().await;
    }
}

/// Sends the start and then the same frames without end, reading all the while, until the server closes.
async fn flood(server: &Server, start: &[u8], again: impl Fn(u32) -> Vec<u8>) {
    let mut client = server.connect().await;
    client.send_bytes(PREFACE).await;
    client.send_bytes(&frame(SETTINGS, 0, 0, &[])).await;
    client.send_bytes(start).await;
    let (mut answers, mut requests) = client.0.into_split();
    let flooding = async {
        let mut number = 0;
        while requests.write_all(&again(number)).await.is_ok() {
            number += 1;
        }
    };
    let mut nowhere = tokio::io::sink();
    let both = async { tokio::join!(flooding, tokio::io::copy(&mut answers, &mut nowhere)) };
    let _ = timeout(PATIENCE, both).await.expect("the server closes");
}

/// A part of the flood: many frames in one write.
fn many(one: impl Fn(u32) -> Vec<u8>, number: u32) -> Vec<u8> {
    (0..100).flat_map(|place| one(number * 100 + place)).collect()
}

#[tokio::test]
async fn floods_are_cut() {
    let server = Server::start(patient()).await;
    let ping = |_| frame(PING, 0, 0, &[0; 8]);
    let settings = |_| frame(SETTINGS, 0, 0, &[]);
    let priority = |_| frame(2, 0, 1, &[0; 5]);
    let unknown = |_| frame(200, 0, 0, &[]);
    let empty = |_| frame(DATA, 0, 1, &[]);
    let continuation = |_| frame(CONTINUATION, 0, 1, b"\x00\x01a\x01b");
    let reset = |number: u32| {
        let stream = number * 2 + 1;
        [get("/held", stream), frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes())].concat()
    };
    let post = frame(HEADERS, END_HEADERS, 1, &[&[0x83, 0x86, 0x04, 5][..], b"/echo\x01\x01a"].concat());
    let block = frame(HEADERS, END_STREAM, 1, &fields("/"));
    flood(&server, &[], |number| many(ping, number)).await;
    flood(&server, &[], |number| many(settings, number)).await;
    flood(&server, &[], |number| many(priority, number)).await;
    flood(&server, &[], |number| many(unknown, number)).await;
    flood(&server, &[], |number| many(reset, number)).await;
    flood(&server, &post, |number| many(empty, number)).await;
    flood(&server, &block, |number| many(continuation, number)).await;
    server.until_served().await;
}

#[tokio::test]
async fn a_flood_that_reads_no_answers_is_cut() {
    let server = Server::start(Limits { write_stall: SHORT, ..patient() }).await;
    let mut client = server.connect().await;
    client.send_bytes(&request("/", 65_535)).await;
    let ping = frame(PING, 0, 0, &[0; 8]).repeat(100);
    let flooding = async { while client.0.write_all(&ping).await.is_ok() {} };
    timeout(PATIENCE, flooding).await.expect("the server closes");
}

#[tokio::test]
async fn who_pings_now_and_then_is_served() {
    let server = Server::start(patient()).await;
    let mut client: Client = server.connect().await;
    client.send_bytes(&request("/", 65_535)).await;
    client.send_bytes(&frame(PING, 0, 0, b"are you?").repeat(500)).await;
    let mut pongs = 0;
    while pongs < 500 {
        pongs += usize::from(client.frame().await.expect("a frame").0 == PING);
    }
    client.send_bytes(&get("/", 3)).await;
    while client.frame().await.expect("a frame").0 != DATA {}
}
