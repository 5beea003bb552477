//! A receiver of webhooks that counts who calls.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::{
        Mutex,
        mpsc::{UnboundedReceiver, unbounded_channel},
    },
};
use url::Url;

use crate::client::LOOPBACK;

pub const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

#[derive(Clone, Copy)]
pub enum Script {
    /// Answers each request.
    Reply(&'static str),
    /// Answers once and closes.
    ReplyAndClose(&'static str),
    /// A body of 100 MB.
    Flood,
    /// A body of one byte in each tenth of a second.
    Drip,
    /// No answer.
    Hang,
}

pub struct Receiver {
    pub port: u16,
    /// Who called since [`Receiver::connections`] was last asked.
    callers: Mutex<UnboundedReceiver<SocketAddr>>,
    head: Arc<std::sync::Mutex<String>>,
    /// For each connection that ended, how many bytes of body went out.
    ended: Mutex<UnboundedReceiver<usize>>,
}

impl Receiver {
    pub async fn start(script: Script) -> Self {
        let listener = TcpListener::bind((LOOPBACK, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let head = Arc::<std::sync::Mutex<String>>::default();
        let ((call, callers), (end, ended)) = (unbounded_channel(), unbounded_channel());
        let last = Arc::clone(&head);
        tokio::spawn(async move {
            while let Ok((stream, caller)) = listener.accept().await {
                let _ = call.send(caller);
                let (seen, end) = (Arc::clone(&last), end.clone());
                tokio::spawn(async move {
                    let _ = end.send(act(script, stream, &seen).await);
                });
            }
        });
        Self { port, callers: callers.into(), head, ended: ended.into() }
    }

    pub fn url(&self, host: &str) -> Url {
        format!("http://{host}:{}/", self.port).parse().unwrap()
    }

    /// How many called so far. Connections are accepted in order, so all of them are known once our own is.
    pub async fn connections(&self) -> usize {
        let own = TcpStream::connect((LOOPBACK, self.port)).await.unwrap().local_addr().unwrap();
        let mut callers = self.callers.lock().await;
        let mut count = 0;
        while callers.recv().await.unwrap() != own {
            count += 1;
        }
        count
    }

    pub fn last_head(&self) -> String {
        self.head.lock().unwrap().clone()
    }

    pub async fn until_hung_up(&self) -> usize {
        let ended = async { self.ended.lock().await.recv().await };
        tokio::time::timeout(Duration::from_secs(40), ended).await.expect("the client hangs up").unwrap()
    }
}

async fn act(script: Script, mut stream: TcpStream, seen: &std::sync::Mutex<String>) -> usize {
    let mut sent = 0;
    while let Some(head) = read_request(&mut stream).await {
        *seen.lock().unwrap() = head;
        match script {
            Script::Reply(reply) => stream.write_all(reply.as_bytes()).await.unwrap(),
            Script::ReplyAndClose(reply) => {
                stream.write_all(reply.as_bytes()).await.unwrap();
                break;
            }
            Script::Flood => sent = body(&mut stream, 1 << 16, Duration::ZERO).await,
            Script::Drip => sent = body(&mut stream, 1, Duration::from_millis(100)).await,
            Script::Hang => {}
        }
    }
    sent
}

/// Sends a body of 100 MB in chunks until the client is gone; gives the bytes that went out.
async fn body(stream: &mut TcpStream, chunk: usize, pause: Duration) -> usize {
    const SIZE: usize = 100 << 20;
    let mut sent = 0;
    let _ = stream.write_all(format!("HTTP/1.1 200 OK\r\nContent-Length: {SIZE}\r\n\r\n").as_bytes()).await;
    while sent < SIZE && stream.write_all(&vec![b'x'; chunk]).await.is_ok() {
        sent += chunk;
        tokio::time::sleep(pause).await;
    }
    sent
}

/// The head of a request, once its body is there too; nothing when the client is gone or does not speak HTTP.
async fn read_request(stream: &mut TcpStream) -> Option<String> {
    const TLS_HANDSHAKE: u8 = 0x16;
    let mut bytes = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if bytes.first() == Some(&TLS_HANDSHAKE) {
            return Some(text);
        }
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.split("\r\ncontent-length: ").nth(1)?.lines().next()?;
            if body.len() >= length.parse().ok()? {
                return Some(text);
            }
        }
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    }
}
