//! How many may be here at once.

use taskpost_api::serve::Limits;

use crate::server::{Server, patient};

#[tokio::test]
async fn one_address_has_so_many_connections() {
    let server = Server::start(Limits { per_address: 2, ..patient() }).await;
    let mut kept = [server.connect().await, server.connect().await];
    for client in &mut kept {
        assert_eq!(client.get("/").await, "hello");
    }
    server.connect().await.closed().await;
    assert_eq!(server.connect_from(2).await.get("/").await, "hello");
    let [mut first, second] = kept;
    drop(second);
    server.until_served().await;
    assert_eq!(first.get("/").await, "hello");
}

#[tokio::test]
async fn all_addresses_have_so_many_connections() {
    let server = Server::start(Limits { connections: 1, ..patient() }).await;
    let mut client = server.connect().await;
    assert_eq!(client.get("/").await, "hello");
    let mut refused = server.connect().await;
    refused.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let answer = refused.rest().await;
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    for part in
        ["\r\nRetry-After: 1\r\n", "\r\nConnection: close\r\n", "/problem+json\r\n", "\"status\":503,"]
    {
        assert!(answer.contains(part), "{part}: {answer}");
    }
    drop(client);
    server.until_served().await;
}

#[tokio::test]
async fn handlers_know_the_peer() {
    let server = Server::start(patient()).await;
    let mut client = server.connect().await;
    let own = client.0.local_addr().unwrap().to_string();
    assert_eq!(client.get("/peer").await, own);
}

#[tokio::test]
async fn a_panic_costs_one_connection() {
    let server = Server::start(patient()).await;
    let mut client = server.connect().await;
    client.send("GET /panic HTTP/1.1\r\nHost: a\r\n\r\n").await;
    client.closed().await;
    server.until_served().await;
}
