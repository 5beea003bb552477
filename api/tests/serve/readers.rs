//! Answers that are not taken.

use taskpost_api::serve::Limits;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::server::{LARGE, SHORT, Server, patient};

#[tokio::test]
async fn who_does_not_read_is_cut() {
    let server = Server::start(Limits { write_stall: SHORT, connections: 1, ..patient() }).await;
    let mut client = server.connect().await;
    client.send("GET /large HTTP/1.1\r\nHost: a\r\n\r\n").await;
    // Its place is free once it is cut.
    server.until_served().await;
    let mut read = Vec::new();
    let _ = client.0.read_to_end(&mut read).await;
    assert!((1..LARGE).contains(&read.len()), "{}", read.len());
}

#[tokio::test]
async fn who_reads_a_little_now_and_then_is_served() {
    // Each pause is far below the limit on a stalled write, all together are above it.
    const PARTS: usize = 16;
    let limits = Limits { write_stall: 8 * SHORT, keep_alive_idle: SHORT, head: SHORT, ..patient() };
    let server = Server::start(limits).await;
    let mut client = server.connect().await;
    client.send("GET /large HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await;
    let (mut read, mut part) = (0, vec![0; LARGE / PARTS]);
    while let Ok(bytes @ 1..) = client.0.read_exact(&mut part).await {
        read += bytes;
        server.head_deadline().await;
    }
    assert!(read >= LARGE / PARTS * PARTS, "{read}");
}

/// A client that writes all before it reads must not lose the answer to a reset.
#[tokio::test]
async fn an_answer_before_the_body_reaches_who_is_still_sending() {
    let server = Server::start(patient()).await;
    let mut client = server.connect().await;
    let body = vec![b'x'; 5 << 20];
    client.send(&format!("POST /deaf HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", body.len())).await;
    let wrote = client.0.write_all(&body).await;
    let answer = client.rest().await;
    assert!(answer.ends_with("I did not listen"), "{wrote:?}: {answer:?}");
}
