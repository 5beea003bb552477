//! One HTTP/1.1 connection that is kept, for loads whose every request has a time of its own.

use std::{
    io::ErrorKind,
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
    time::timeout,
};

/// How long a connection may take to be made, and an answer to come.
const DIAL: Duration = Duration::from_secs(5);
const ANSWER: Duration = Duration::from_secs(15);
/// An answer with a longer head is none of ours.
const HEAD: usize = 16 * 1024;

/// What of an answer is of interest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Its status.
    pub status: u16,
    /// Whether it says when to come again.
    pub retry_after: bool,
}

/// An open connection.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Connection {
    /// Makes one, from an address of this machine.
    pub async fn open(address: SocketAddr, from: Ipv4Addr) -> Result<Self> {
        let socket = TcpSocket::new_v4()?;
        socket.bind((from, 0).into())?;
        let stream = timeout(DIAL, socket.connect(address)).await.context("connecting took too long")??;
        stream.set_nodelay(true)?;
        Ok(Self { stream, buffer: Vec::with_capacity(4096) })
    }

    /// Whether the other side still has it open, as far as is known: it may close one that is idle.
    pub fn is_open(&self) -> bool {
        let read = self.stream.try_read(&mut [0]);
        read.is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
    }

    /// Sends a request and reads its answer whole.
    pub async fn ask(&mut self, request: &[u8]) -> Result<Answer> {
        let asked = async {
            self.stream.write_all(request).await?;
            self.read().await
        };
        timeout(ANSWER, asked).await.context("the answer took too long")?
    }

    async fn read(&mut self) -> Result<Answer> {
        loop {
            if let Some((answer, length)) = parse(&self.buffer)? {
                while self.buffer.len() < length {
                    self.more().await?;
                }
                self.buffer.drain(..length);
                return Ok(answer);
            }
            ensure!(self.buffer.len() < HEAD, "the head of an answer is too long");
            self.more().await?;
        }
    }

    async fn more(&mut self) -> Result<()> {
        ensure!(self.stream.read_buf(&mut self.buffer).await? > 0, "the connection was closed");
        Ok(())
    }
}

/// The answer and the length of all of it, once its head is there.
fn parse(bytes: &[u8]) -> Result<Option<(Answer, usize)>> {
    let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else { return Ok(None) };
    let head = std::str::from_utf8(&bytes[..end]).context("the head of an answer is no text")?;
    let mut lines = head.lines();
    let status =
        lines.next().and_then(|line| line.split(' ').nth(1)).context("an answer without a status")?;
    let status = status.parse().context("an answer without a status")?;
    let (mut length, mut retry_after) = (0, false);
    for (name, value) in lines.filter_map(|line| line.split_once(':')) {
        if name.eq_ignore_ascii_case("content-length") {
            length = value.trim().parse().context("an answer without a length")?;
        }
        ensure!(!name.eq_ignore_ascii_case("transfer-encoding"), "an answer in chunks");
        retry_after |= name.eq_ignore_ascii_case("retry-after");
    }
    Ok(Some((Answer { status, retry_after }, end + 4 + length)))
}

/// The bytes of a POST of JSON by whoever has this token.
pub fn post(address: SocketAddr, path: &str, token: &str, body: &str) -> Vec<u8> {
    format!(
        "POST {path} HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {token}\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_as_long_as_it_says() {
        let bytes = b"HTTP/1.1 503 Busy\r\nRetry-After: 1\r\nContent-Length: 2\r\n\r\n{}HTTP/1.1 201";
        let (answer, length) = parse(bytes).unwrap().unwrap();
        assert_eq!(answer, Answer { status: 503, retry_after: true });
        assert!(bytes[length..].starts_with(b"HTTP/1.1 201"));
        assert_eq!(parse(b"HTTP/1.1 201 Created\r\nContent").unwrap(), None);
        assert!(parse(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").is_err());
        assert!(parse(b"nonsense\r\n\r\n").is_err());
    }

    #[test]
    fn a_request_says_how_long_it_is() {
        let request = post("127.0.0.1:80".parse().unwrap(), "/v1/tasks", "abc", "{\"title\":\"x\"}");
        let text = String::from_utf8(request).unwrap();
        assert!(text.contains("\r\nContent-Length: 13\r\n\r\n{\"title\""), "{text}");
    }
}
