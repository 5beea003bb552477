//! Silent and slow clients are closed; slow handlers and bodies are not theirs to judge.

use taskpost_api::serve::Limits;
use tokio::{io::AsyncWriteExt, time::timeout};

use crate::server::{LONG, PATIENCE, SHORT, Server, patient};

#[test]
fn the_limits_are_those_of_the_design() {
    let limits = Limits::default();
    let seconds = [limits.first_byte, limits.head, limits.write_stall].map(|limit| limit.as_secs());
    assert_eq!(seconds, [5, 5, 30]);
}

#[tokio::test]
async fn a_silent_client_is_closed() {
    let server = Server::start(Limits { first_byte: SHORT, ..patient() }).await;
    server.connect().await.closed().await;
}

#[tokio::test]
async fn half_a_head_is_closed() {
    let server = Server::start(Limits { head: SHORT, ..patient() }).await;
    for half in [
        "G",
        "GET / HTTP/1.1",
        "GET / HTTP/1.1\r\nHost: a\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\n\r",
        "PRI * HTTP/2.0\r\n",
        "\r\n",
    ] {
        let mut client = server.connect().await;
        client.send(half).await;
        client.closed().await;
    }
}

#[tokio::test]
async fn half_a_head_behind_a_request_is_closed() {
    let server = Server::start(Limits { head: SHORT, ..patient() }).await;
    for half in ["G", "GET / HTTP/1.1\r\nHost: a\r\n", "\r\n"] {
        let mut client = server.connect().await;
        client.send(&format!("GET / HTTP/1.1\r\nHost: a\r\n\r\n{half}")).await;
        assert_eq!(client.answer().await, "hello");
        client.closed().await;
    }
}

#[tokio::test]
async fn a_dripping_head_is_closed() {
    let server = Server::start(Limits { head: SHORT, ..patient() }).await;
    for start in ["", "GET / HTTP/1.1\r\nX: "] {
        let mut client = server.connect().await;
        client.send(start).await;
        let mut drip = tokio::time::interval(SHORT / 10);
        let dripping = async {
            while client.0.write_all(b"x").await.is_ok() {
                drip.tick().await;
            }
        };
        timeout(PATIENCE, dripping).await.expect("the server closes");
    }
}

#[tokio::test]
async fn an_idle_connection_may_stay_longer_than_a_slow_head() {
    let server = Server::start(Limits { keep_alive_idle: 10 * SHORT, head: SHORT, ..patient() }).await;
    let mut client = server.connect().await;
    for _ in 0..3 {
        assert_eq!(client.get("/").await, "hello");
        server.head_deadline().await;
    }
    assert_eq!(client.get("/").await, "hello");
    client.closed().await;
}

#[tokio::test]
async fn a_slow_handler_is_not_idle() {
    let limits =
        Limits { keep_alive_idle: SHORT, head: SHORT, first_byte: SHORT, write_stall: SHORT, ..patient() };
    let mut server = Server::start(limits).await;
    let mut client = server.connect().await;
    client.send("GET /held HTTP/1.1\r\nHost: a\r\n\r\n").await;
    server.arrived().await;
    server.head_deadline().await;
    server.head_deadline().await;
    server.release.send(()).unwrap();
    assert_eq!(client.answer().await, "held");
}

#[tokio::test]
async fn a_slow_body_is_not_a_slow_head() {
    let server = Server::start(Limits { head: SHORT, keep_alive_idle: SHORT, ..patient() }).await;
    for (framing, parts) in [
        ("Content-Length: 3", ["a", "b", "c"]),
        ("Transfer-Encoding: chunked", ["1\r\na\r\n1", "\r\nb\r\n1\r\nc\r", "\n0\r\n\r\n"]),
    ] {
        let mut client = server.connect().await;
        client.send(&format!("POST /echo HTTP/1.1\r\nHost: a\r\n{framing}\r\n\r\n")).await;
        for part in parts {
            server.head_deadline().await;
            client.send(part).await;
        }
        assert_eq!(client.answer().await, "abc");
    }
}

#[tokio::test]
async fn others_are_served_while_many_are_slow() {
    let limits = Limits { head: LONG, first_byte: LONG, ..patient() };
    let server = Server::start(limits).await;
    let mut slow = Vec::new();
    for half in [
        "",
        "GET / HT",
        "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nhalf",
        "PRI * HTTP/2.0\r\n\r\n",
    ] {
        for _ in 0..50 {
            let mut client = server.connect().await;
            client.send(half).await;
            slow.push(client);
        }
    }
    for _ in 0..20 {
        assert_eq!(server.connect().await.get("/").await, "hello");
    }
}
