//! Thousands of clients that do nothing.

use taskpost_api::serve::Limits;

use crate::server::{SHORT, Server, patient};

const MANY: usize = 2_000;

/// Each is two open files of this process, which may not have that many.
fn as_many_as_may_be() -> usize {
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let files =
        limits.lines().find_map(|line| line.strip_prefix("Max open files")?.split_whitespace().next());
    files.and_then(|files| files.parse().ok()).map_or(MANY, |files: usize| MANY.min(files / 4))
}

#[tokio::test]
async fn idle_clients_are_closed_and_others_served_meanwhile() {
    let server = Server::start(Limits { keep_alive_idle: 10 * SHORT, ..patient() }).await;
    let mut idle = Vec::new();
    for number in 0..as_many_as_may_be() {
        // One address may not have that many.
        let mut client = server.connect_from(if number % 2 == 0 { 2 } else { 3 }).await;
        assert_eq!(client.get("/").await, "hello");
        idle.push(client);
    }
    assert_eq!(server.connect().await.get("/").await, "hello");
    for client in idle {
        client.closed().await;
    }
}
