//! A connection that leaves HTTP behind.

use axum::{
    extract::Request,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::server::{Server, patient};

/// Says back what it hears.
pub async fn upgrade(request: Request) -> Response {
    tokio::spawn(async move {
        let mut stream = TokioIo::new(hyper::upgrade::on(request).await.unwrap());
        let mut heard = [0; 8];
        while let Ok(count @ 1..) = stream.read(&mut heard).await {
            stream.write_all(&heard[..count]).await.unwrap();
        }
    });
    (StatusCode::SWITCHING_PROTOCOLS, [(header::CONNECTION, "upgrade"), (header::UPGRADE, "echo")])
        .into_response()
}

#[tokio::test]
async fn nothing_is_judged_behind_an_upgrade() {
    let server = Server::start(patient()).await;
    let mut client = server.connect().await;
    client.send("GET /upgrade HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n").await;
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        head.push(char::from(client.exactly(1).await.expect("a head")[0]));
    }
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    for said in [&b"\n\0no head\n\n"[..], b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"GET / HTTP/1.1\n\n"] {
        client.send_bytes(said).await;
        assert_eq!(client.exactly(said.len()).await.as_deref(), Some(said));
    }
}
