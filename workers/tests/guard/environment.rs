//! The environment of the process. It belongs to all of it, so the requests are made by a child of its own.

use std::process::Command;

use taskpost_common::net::Outbound;
use taskpost_workers::channels::guard::{GuardedClient, SendError};
use tokio::task::spawn_blocking;
use url::Url;

use crate::{
    client::{LOOPBACK, fixed, patient, post},
    receiver::{OK, Receiver, Script},
};

const NAMES: [&str; 8] = [
    "HTTP_PROXY",
    "http_proxy",
    "HTTPS_PROXY",
    "https_proxy",
    "ALL_PROXY",
    "all_proxy",
    "REQUEST_PROXY",
    "CGI_HTTP_PROXY",
];

#[tokio::test]
async fn a_proxy_in_the_environment_is_ignored() {
    for scheme in ["http", "https", "socks5", "socks5h"] {
        let (receiver, proxy) =
            (Receiver::start(Script::Reply(OK)).await, Receiver::start(Script::Reply(OK)).await);
        let mut child = Command::new(std::env::current_exe().unwrap());
        child
            .args(["--exact", "environment::child_posts_past_the_proxy", "--ignored"])
            .env("GUARD_TEST_PORT", receiver.port.to_string());
        for name in NAMES {
            child.env(name, format!("{scheme}://127.0.0.1:{}", proxy.port));
        }
        let output = spawn_blocking(move || child.output()).await.unwrap().unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success() && said.contains("1 passed"), "{scheme}: {said}");
        assert_eq!((receiver.connections().await, proxy.connections().await), (2, 0), "{scheme}");
    }
}

#[tokio::test]
#[ignore = "the child of a_proxy_in_the_environment_is_ignored"]
#[expect(clippy::disallowed_methods, reason = "the parent passes its port this way")]
async fn child_posts_past_the_proxy() {
    let port = std::env::var("GUARD_TEST_PORT").unwrap();
    let open = Outbound { allow_private: true, ports: vec![] };
    let client = GuardedClient::new(open, patient(), fixed(vec![LOOPBACK])).unwrap();
    let url = |scheme: &str| -> Url { format!("{scheme}://hook.example:{port}/").parse().unwrap() };
    assert_eq!(post(&client, &url("http")).await.unwrap().status, 200);
    // The receiver speaks no TLS, which only who reached it can tell.
    let outcome = post(&client, &url("https")).await;
    assert!(matches!(outcome, Err(SendError::Tls(_))), "{outcome:?}");
}
