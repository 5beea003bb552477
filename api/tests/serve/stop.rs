//! The stop.

use taskpost_api::serve::{Limits, ServeError};

use crate::server::{SHORT, Server, patient};

#[tokio::test]
async fn a_stop_lets_requests_finish_and_takes_no_more() {
    let mut server = Server::start(patient()).await;
    let (mut busy, mut idle, silent, mut half) =
        (server.connect().await, server.connect().await, server.connect().await, server.connect().await);
    assert_eq!(idle.get("/").await, "hello");
    assert_eq!(half.get("/").await, "hello");
    half.send("GET / HT").await;
    busy.send("GET /held HTTP/1.1\r\nHost: a\r\n\r\n").await;
    server.arrived().await;
    server.stop.cancel();
    for client in [idle, silent, half] {
        client.closed().await;
    }
    server.until_refused().await;
    server.release.send(()).unwrap();
    assert_eq!(busy.answer().await, "held");
    busy.closed().await;
    server.ended().await.unwrap();
}

#[tokio::test]
async fn a_stop_cuts_what_takes_too_long() {
    let mut server = Server::start(Limits { drain: SHORT, ..patient() }).await;
    let mut client = server.connect().await;
    client.send("GET /held HTTP/1.1\r\nHost: a\r\n\r\n").await;
    server.arrived().await;
    server.stop.cancel();
    client.closed().await;
    assert!(matches!(server.ended().await, Err(ServeError::Cut { connections: 1 })));
}
