//! A gate before Redis that can be shut: bytes are taken and held, as with a stopped process or a broken network.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
    sync::watch,
    task::{AbortHandle, JoinSet},
};

use crate::harness::{redis_address, redis_url_with};

pub struct Gate {
    pub address: SocketAddr,
    open: watch::Sender<bool>,
    seen: Arc<Mutex<Vec<u8>>>,
    connections: Arc<Mutex<Vec<AbortHandle>>>,
    _tasks: JoinSet<()>,
}

impl Gate {
    pub fn open() -> Self {
        Self::on(deserted().0, true)
    }

    pub fn shut() -> Self {
        Self::on(deserted().0, false)
    }

    pub fn on(socket: TcpSocket, is_open: bool) -> Self {
        let listener = socket.listen(64).unwrap();
        let address = listener.local_addr().unwrap();
        let open = watch::Sender::new(is_open);
        let seen: Arc<Mutex<Vec<u8>>> = Arc::default();
        let connections: Arc<Mutex<Vec<AbortHandle>>> = Arc::default();
        let mut tasks = JoinSet::new();
        let (gate, bytes, list) = (open.clone(), seen.clone(), connections.clone());
        tasks.spawn(async move {
            let mut passing = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                let passed = pass(client, gate.subscribe(), bytes.clone());
                list.lock().unwrap().push(passing.spawn(passed));
            }
        });
        Self { address, open, seen, connections, _tasks: tasks }
    }

    /// The URL of Redis behind this gate.
    pub fn url(&self) -> String {
        url_at(self.address)
    }

    pub fn set_open(&self, is_open: bool) {
        self.open.send_replace(is_open);
    }

    /// Ends the connections that there are.
    pub fn cut(&self) {
        self.connections.lock().unwrap().drain(..).for_each(|connection| connection.abort());
    }

    /// How often a text came from clients.
    pub fn count(&self, text: &str) -> usize {
        let seen = self.seen.lock().unwrap();
        seen.windows(text.len()).filter(|bytes| *bytes == text.as_bytes()).count()
    }
}

pub fn url_at(address: SocketAddr) -> String {
    redis_url_with(|url| {
        url.set_ip_host(address.ip()).unwrap();
        url.set_port(Some(address.port())).unwrap();
    })
}

/// An address where nobody listens: the socket holds it, so that nobody else gets it meanwhile.
pub fn deserted() -> (TcpSocket, SocketAddr) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = socket.local_addr().unwrap();
    (socket, address)
}

async fn pass(client: TcpStream, open: watch::Receiver<bool>, seen: Arc<Mutex<Vec<u8>>>) {
    let server = TcpStream::connect(redis_address()).await.unwrap();
    let ((from, back), (answers, to)) = (client.into_split(), server.into_split());
    let there = copy(from, to, open.clone(), |bytes| seen.lock().unwrap().extend_from_slice(bytes));
    let here = copy(answers, back, open, |_| {});
    tokio::join!(there, here);
}

async fn copy(
    mut from: impl AsyncReadExt + Unpin,
    mut to: impl AsyncWriteExt + Unpin,
    mut open: watch::Receiver<bool>,
    see: impl Fn(&[u8]),
) {
    let (mut buffer, mut held) = (vec![0; 64 * 1024], Vec::new());
    loop {
        if *open.borrow_and_update() {
            if to.write_all(&held).await.is_err() {
                break;
            }
            held.clear();
        }
        tokio::select! {
            read = from.read(&mut buffer) => match read {
                Ok(length @ 1..) => {
                    see(&buffer[..length]);
                    held.extend_from_slice(&buffer[..length]);
                }
                _ => break,
            },
            changed = open.changed() => if changed.is_err() { break },
        }
    }
    let _ = to.shutdown().await;
}
