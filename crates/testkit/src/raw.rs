//! Bytes as they are: for what no HTTP client would send.

use std::{net::SocketAddr, time::Duration};

use serde_json::Value;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

use crate::PATIENCE;

/// The first answer on a raw connection.
#[derive(Debug)]
pub struct Raw {
    /// The HTTP status; 0 when the server closed without an answer.
    pub status: u16,
    /// The status line and the headers.
    pub head: String,
    /// The body.
    pub body: Vec<u8>,
    stream: TcpStream,
}

impl Raw {
    /// The first header of this name.
    pub fn header(&self, name: &str) -> Option<&str> {
        header(&self.head, name)
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error}: {}{}", self.head, self.text()))
    }

    /// Whether the server closes the connection within this time, without sending more.
    pub async fn closes_within(&mut self, time: Duration) -> bool {
        let mut more = [0; 1024];
        matches!(timeout(time, self.stream.read(&mut more)).await, Ok(Ok(0) | Err(_)))
    }
}

/// Sends bytes on a new connection and reads one answer.
pub(crate) async fn send(address: SocketAddr, bytes: &[u8]) -> Raw {
    let mut stream = TcpStream::connect(address).await.expect("a connection");
    // A server may answer and close before it has read everything.
    let _ = stream.write_all(bytes).await;
    let mut received = Vec::new();
    let whole = timeout(PATIENCE, async {
        while !is_whole(&received) {
            let mut more = vec![0; 16 * 1024];
            match stream.read(&mut more).await {
                Ok(count) if count > 0 => received.extend_from_slice(&more[..count]),
                Ok(_) | Err(_) => break,
            }
        }
    });
    let in_time = whole.await.is_ok();
    assert!(in_time, "no whole answer, and the connection is open: {}", String::from_utf8_lossy(&received));
    let (head, body) = split(&received).unwrap_or_default();
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
    Raw { status, head, body, stream }
}

fn split(received: &[u8]) -> Option<(String, Vec<u8>)> {
    let end = received.windows(4).position(|four| four == b"\r\n\r\n")?;
    let head = String::from_utf8_lossy(&received[..end + 2]).into_owned();
    Some((head, received[end + 4..].to_vec()))
}

/// Whether the answer has all the bytes its head announces; one without a length ends with the connection.
fn is_whole(received: &[u8]) -> bool {
    let Some((head, body)) = split(received) else { return false };
    if header(&head, "transfer-encoding").is_some() {
        return body.ends_with(b"0\r\n\r\n");
    }
    match header(&head, "content-length").map(str::parse::<usize>) {
        Some(length) => length.is_ok_and(|length| body.len() >= length),
        None => [" 204 ", " 304 "].iter().any(|status| head.contains(status)),
    }
}

fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let mut lines = head.lines().skip(1).filter_map(|line| line.split_once(':'));
    lines.find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
}
