//! What comes back: how much of it is read, for how long, and how failures are told apart.

use std::time::Duration;

use taskpost_workers::channels::guard::{Answer, BODY_CAP, GuardedClient, SendError};
use tokio::net::TcpSocket;
use url::Url;

use crate::{
    client::{LOOPBACK, fixed, hurried, open, outbound, patient, post},
    receiver::{OK, Receiver, Script},
};

#[tokio::test]
async fn an_answer_is_read_whatever_its_status() {
    let reply = "HTTP/1.1 429 Slow\r\nRetry-After: 120\r\nContent-Length: 9\r\n\r\nslow\ndown";
    let receiver = Receiver::start(Script::Reply(reply)).await;
    let answer = post(&open(&receiver), &receiver.url("hook.example")).await.unwrap();
    let expected =
        Answer { status: 429, retry_after: Some(Duration::from_mins(2)), excerpt: "slow down".to_owned() };
    assert_eq!(answer, expected);
    let head = receiver.last_head();
    assert!(head.starts_with("POST / HTTP/1.1\r\n"), "{head}");
    assert!(head.contains("x-test: yes\r\n"), "{head}");
    assert!(head.contains("\r\nuser-agent: Taskpost/"), "{head}");
    assert!(!head.contains("accept-encoding"), "{head}");
}

#[tokio::test]
async fn connections_are_kept_for_the_next_request() {
    let receiver = Receiver::start(Script::Reply(OK)).await;
    let client = open(&receiver);
    for _ in 0..3 {
        assert_eq!(post(&client, &receiver.url("hook.example")).await.unwrap().status, 200);
    }
    assert_eq!(receiver.connections().await, 1);
}

#[tokio::test]
async fn a_huge_body_is_cut() {
    let receiver = Receiver::start(Script::Flood).await;
    let answer = post(&open(&receiver), &receiver.url("hook.example")).await.unwrap();
    assert_eq!((answer.status, answer.excerpt), (200, "x".repeat(1024)));
    let sent = receiver.until_hung_up().await;
    // What we read and what the kernels' buffers took, far from the 100 MB on offer.
    assert!((BODY_CAP..32 << 20).contains(&sent), "{sent}");
}

#[tokio::test]
async fn a_dripping_body_ends_at_the_deadline() {
    let receiver = Receiver::start(Script::Drip).await;
    assert_eq!(post(&hurried(&receiver), &receiver.url("hook.example")).await, Err(SendError::Timeout));
    receiver.until_hung_up().await;
}

#[tokio::test]
async fn silence_ends_at_the_deadline() {
    let receiver = Receiver::start(Script::Hang).await;
    assert_eq!(post(&hurried(&receiver), &receiver.url("hook.example")).await, Err(SendError::Timeout));
    receiver.until_hung_up().await;
}

#[tokio::test]
async fn broken_answers_are_told_apart() {
    let cut = "HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nhalf";
    let receiver = Receiver::start(Script::ReplyAndClose(cut)).await;
    let outcome = post(&open(&receiver), &receiver.url("hook.example")).await;
    assert!(matches!(outcome, Err(SendError::Body(_))), "{outcome:?}");
    for reply in ["", "SSH-2.0-OpenSSH_9.2\r\n\r\n"] {
        let receiver = Receiver::start(Script::ReplyAndClose(reply)).await;
        let outcome = post(&open(&receiver), &receiver.url("hook.example")).await;
        assert!(matches!(outcome, Err(SendError::Other(_))), "{reply:?}: {outcome:?}");
    }
}

#[tokio::test]
async fn failed_connections_are_told_apart() {
    let receiver = Receiver::start(Script::Reply("HTTP/1.1 400 Bad Request\r\n\r\n")).await;
    let client = open(&receiver);
    let tls: Url = format!("https://hook.example:{}/", receiver.port).parse().unwrap();
    let outcome = post(&client, &tls).await;
    assert!(matches!(outcome, Err(SendError::Tls(_))), "{outcome:?}");
    // Holds the port, and does not listen.
    let closed = TcpSocket::new_v4().unwrap();
    closed.bind((LOOPBACK, 0).into()).unwrap();
    let closed_url = format!("http://{}/", closed.local_addr().unwrap());
    let outcome = post(&client, &closed_url.parse().unwrap()).await;
    assert!(matches!(outcome, Err(SendError::Connect(_))), "{outcome:?}");
    let nameless = GuardedClient::new(outbound(&receiver, true), patient(), fixed(vec![])).unwrap();
    let outcome = post(&nameless, &receiver.url("hook.example")).await;
    assert!(matches!(outcome, Err(SendError::Connect(_))), "{outcome:?}");
}
