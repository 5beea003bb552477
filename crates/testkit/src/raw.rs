//! Bytes as they are: for what no HTTP client would send.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use serde_json::Value;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
    time::timeout,
};

use crate::PATIENCE;

/// An answer on a raw connection.
#[derive(Debug)]
pub struct Raw {
    /// The HTTP status; 0 when the server closed without an answer.
    pub status: u16,
    /// The status line and the headers.
    pub head: String,
    /// The body.
    pub body: Vec<u8>,
    /// What came behind it so far.
    more: Vec<u8>,
    stream: Option<TcpStream>,
}

impl Raw {
    /// Sends bytes on a new connection from one of this machine's addresses, and reads one answer.
    pub async fn send(from: IpAddr, to: SocketAddr, bytes: &[u8]) -> Self {
        let mut stream = connect(from, to).await;
        // A server may answer and close before it has read everything.
        let _ = stream.write_all(bytes).await;
        Self::read(Vec::new(), stream).await
    }

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

    /// The next answer on the same connection; status 0 when the server closes instead.
    pub async fn next(&mut self) -> Self {
        match self.stream.take() {
            Some(stream) => Self::read(std::mem::take(&mut self.more), stream).await,
            None => Self::nothing(Vec::new()),
        }
    }

    async fn read(mut received: Vec<u8>, mut stream: TcpStream) -> Self {
        let whole = async {
            while length(&received).is_none_or(|length| received.len() < length) {
                match stream.read_buf(&mut received).await {
                    Ok(1..) => {}
                    Ok(0) | Err(_) => return false,
                }
            }
            true
        };
        let Ok(whole) = timeout(PATIENCE, whole).await else {
            panic!("no whole answer, and the connection is open: {}", String::from_utf8_lossy(&received))
        };
        let Some(head_end) = head_end(&received) else { return Self::nothing(received) };
        let more =
            if whole { received.split_off(length(&received).unwrap_or(received.len())) } else { Vec::new() };
        let body = received.split_off(head_end);
        let head = String::from_utf8_lossy(&received[..head_end - 2]).into_owned();
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
        Self { status, head, body, more, stream: whole.then_some(stream) }
    }

    fn nothing(body: Vec<u8>) -> Self {
        Self { status: 0, head: String::new(), body, more: Vec::new(), stream: None }
    }
}

/// A connection from one of this machine's addresses.
pub(crate) async fn connect(from: IpAddr, to: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.bind(SocketAddr::new(from, 0)).expect("an address of this machine");
    socket.connect(to).await.expect("a connection")
}

/// Where an answer's head ends.
fn head_end(received: &[u8]) -> Option<usize> {
    received.windows(4).position(|four| four == b"\r\n\r\n").map(|start| start + 4)
}

/// How long the first answer is, as its head announces it; one without a length ends with the connection.
fn length(received: &[u8]) -> Option<usize> {
    let end = head_end(received)?;
    let head = String::from_utf8_lossy(&received[..end]);
    if header(&head, "transfer-encoding").is_some() {
        const LAST: &[u8] = b"0\r\n\r\n";
        let last = received[end..].windows(LAST.len()).position(|part| part == LAST)?;
        return Some(end + last + LAST.len());
    }
    match header(&head, "content-length") {
        Some(length) => length.parse().ok().map(|length: usize| end + length),
        None => [" 204 ", " 304 "].iter().any(|status| head.contains(status)).then_some(end),
    }
}

fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let mut lines = head.lines().skip(1).filter_map(|line| line.split_once(':'));
    lines.find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
}

/// Sends bytes on a new connection and reads one answer.
pub(crate) async fn send(address: SocketAddr, bytes: &[u8]) -> Raw {
    Raw::send(Ipv4Addr::LOCALHOST.into(), address, bytes).await
}
