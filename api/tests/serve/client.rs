//! A client that says what it is told, to the byte.

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use crate::server::PATIENCE;

pub struct Client(pub TcpStream);

impl Client {
    pub async fn send(&mut self, text: &str) {
        self.send_bytes(text.as_bytes()).await;
    }

    pub async fn send_bytes(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).await.unwrap();
    }

    /// Says nothing more.
    pub async fn finish(&mut self) {
        self.0.shutdown().await.unwrap();
    }

    pub async fn get(&mut self, path: &str) -> String {
        self.send(&format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n")).await;
        self.answer().await
    }

    /// What is answered to a GET, if there is anybody to answer.
    pub async fn try_get(mut self) -> String {
        let _ = self.0.write_all(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await;
        self.rest().await
    }

    /// The body of one answer with a Content-Length.
    pub async fn answer(&mut self) -> String {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            head.push(char::from(self.exactly(1).await.expect("a head")[0]));
        }
        assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
        let length = head.split("content-length: ").nth(1).and_then(|rest| rest.lines().next()).unwrap();
        String::from_utf8(self.exactly(length.parse().unwrap()).await.expect("a body")).unwrap()
    }

    /// All that comes until the server closes.
    pub async fn rest(&mut self) -> String {
        let mut rest = Vec::new();
        let read = timeout(PATIENCE, self.0.read_to_end(&mut rest)).await;
        let _ = read.expect("the server closes");
        String::from_utf8(rest).unwrap()
    }

    /// The server closes, and has nothing more to say.
    pub async fn closed(mut self) {
        assert_eq!(self.rest().await, "");
    }

    pub async fn exactly(&mut self, count: usize) -> Option<Vec<u8>> {
        let mut bytes = vec![0; count];
        let read = timeout(PATIENCE, self.0.read_exact(&mut bytes)).await.expect("bytes");
        read.ok().map(|_| bytes)
    }
}
