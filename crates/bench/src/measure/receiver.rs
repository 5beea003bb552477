//! A fast receiver of webhooks on this machine, which knows when each numbered task came.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use anyhow::Result;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
    time::sleep,
};

/// What the titles of the tasks begin with whose coming is noted.
const TITLE: &str = "numbered ";
/// How often it is looked whether all have come.
const LOOK: Duration = Duration::from_millis(5);

/// The title of the task with this number.
pub fn title(number: u64) -> String {
    format!("{TITLE}{number}")
}

/// A running receiver. Ends when it is dropped.
#[derive(Debug)]
pub struct Receiver {
    /// Where it listens.
    pub address: SocketAddr,
    came: Arc<Mutex<Came>>,
    accepting: JoinHandle<()>,
}

/// When each came first, by its number, and how many did.
#[derive(Debug, Default)]
struct Came {
    at: Vec<Option<Instant>>,
    count: usize,
}

impl Came {
    fn note(&mut self, number: usize, now: Instant) {
        if number >= self.at.len() {
            self.at.resize(number + 1, None);
        }
        if let Some(at @ None) = self.at.get_mut(number) {
            *at = Some(now);
            self.count += 1;
        }
    }
}

impl Receiver {
    /// On any free port.
    pub async fn start() -> Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let (address, came) = (listener.local_addr()?, Arc::<Mutex<Came>>::default());
        let seen = Arc::clone(&came);
        let accepting = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let seen = Arc::clone(&seen);
                tokio::spawn(async move { serve(stream, &seen).await });
            }
        });
        Ok(Self { address, came, accepting })
    }

    /// How many different tasks came.
    pub fn count(&self) -> usize {
        self.came.lock().unwrap_or_else(PoisonError::into_inner).count
    }

    /// Waits until so many came, at most so long; whether they did.
    pub async fn wait_for(&self, count: usize, patience: Duration) -> bool {
        let end = Instant::now() + patience;
        while self.count() < count && Instant::now() < end {
            sleep(LOOK).await;
        }
        self.count() >= count
    }

    /// When each came, by its number.
    pub fn came(&self) -> Vec<Option<Instant>> {
        self.came.lock().unwrap_or_else(PoisonError::into_inner).at.clone()
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn serve(mut stream: TcpStream, seen: &Mutex<Came>) {
    const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
    // A receiver that is slow to acknowledge is not fast.
    let _ = stream.set_nodelay(true);
    let mut buffer = Vec::with_capacity(8192);
    // Idle connections end with whoever made them.
    while let Ok(1..) = stream.read_buf(&mut buffer).await {
        while let Some(length) = whole(&buffer) {
            if let Some(number) = number(&buffer[..length]) {
                seen.lock().unwrap_or_else(PoisonError::into_inner).note(number, Instant::now());
            }
            buffer.drain(..length);
            if stream.write_all(ANSWER).await.is_err() {
                return;
            }
        }
    }
}

/// The length of the first request, once all of it is there.
fn whole(bytes: &[u8]) -> Option<usize> {
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
    let head = std::str::from_utf8(&bytes[..end]).ok()?;
    let mut fields = head.lines().filter_map(|line| line.split_once(':'));
    let length = fields.find(|(name, _)| name.eq_ignore_ascii_case("content-length"));
    let length: usize = length.map_or(Some(0), |(_, value)| value.trim().parse().ok())?;
    (bytes.len() >= end + length).then_some(end + length)
}

/// The number in the title of the task that the request tells of.
fn number(request: &[u8]) -> Option<usize> {
    let text = std::str::from_utf8(request).ok()?;
    let rest = &text[text.find(TITLE)? + TITLE.len()..];
    rest.split(|character: char| !character.is_ascii_digit()).next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::connection::{self, Connection};

    #[test]
    fn a_request_is_read_once_it_is_whole() {
        let request = b"POST /hook HTTP/1.1\r\ncontent-length: 25\r\n\r\n{\"title\":\"numbered 4711\"}";
        assert_eq!(whole(&request[..50]), None);
        let length = whole(request).unwrap();
        assert_eq!((length, number(&request[..length])), (request.len(), Some(4_711)));
        assert_eq!(number(b"GET / HTTP/1.1\r\n\r\n"), None);
    }

    #[tokio::test]
    async fn what_comes_twice_counts_once() {
        let receiver = Receiver::start().await.unwrap();
        let mut connection = Connection::open(receiver.address, std::net::Ipv4Addr::LOCALHOST).await.unwrap();
        for number in [0, 2, 2] {
            let body = format!("{{\"title\":\"{}\"}}", title(number));
            let request = connection::post(receiver.address, "/hook", "abc", &body);
            assert_eq!(connection.ask(&request).await.unwrap().status, 200);
        }
        assert!(receiver.wait_for(2, Duration::from_secs(30)).await);
        let came = receiver.came();
        assert_eq!((came.len(), came[1], receiver.count()), (3, None, 2));
    }
}
