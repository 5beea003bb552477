//! What stands between the queue and its broker: a relay that can cut, fall silent, and say that the broker is blocked.

use std::{net::SocketAddr, sync::Arc};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpSocket, TcpStream},
    sync::{broadcast, watch},
    task::JoinSet,
};

/// Method `blocked` and `unblocked` of AMQP's class `connection`.
const BLOCKED: u16 = 60;
const UNBLOCKED: u16 = 61;
const FRAME_END: u8 = 0xCE;

/// A relay on a port of its own.
pub struct Proxy {
    pub port: u16,
    /// Holds the port while nobody listens on it, or another program could be given it.
    _held: TcpSocket,
    target: (String, u16),
    says: Arc<broadcast::Sender<Vec<u8>>>,
    /// Whether what clients write is passed on.
    open: Arc<watch::Sender<bool>>,
    relay: JoinSet<()>,
}

impl Proxy {
    /// Listens, and relays to `target`.
    pub fn start(target: (String, u16)) -> Self {
        let mut proxy = Self::closed(target);
        proxy.resume();
        proxy
    }

    /// Has a port on which nobody listens yet.
    pub fn closed(target: (String, u16)) -> Self {
        let held = bound(0);
        Self {
            port: held.local_addr().unwrap().port(),
            _held: held,
            target,
            says: Arc::new(broadcast::Sender::new(4)),
            open: Arc::new(watch::Sender::new(true)),
            relay: JoinSet::new(),
        }
    }

    /// Relays connections from now on.
    pub fn resume(&mut self) {
        let listener = self.listener();
        let (target, says, open) = (self.target.clone(), Arc::clone(&self.says), Arc::clone(&self.open));
        self.relay.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (client, _) = listener.accept().await.unwrap();
                let server = TcpStream::connect(target.clone()).await.unwrap();
                connections.spawn(relay(client, server, Arc::clone(&says), open.subscribe()));
            }
        });
    }

    fn listener(&self) -> TcpListener {
        bound(self.port).listen(64).unwrap()
    }

    /// Cuts every connection, and takes no more.
    pub async fn cut(&mut self) {
        self.relay.shutdown().await;
    }

    /// Takes connections and says nothing on them.
    pub async fn fall_silent(&mut self) {
        self.cut().await;
        let listener = self.listener();
        self.relay.spawn(async move {
            let mut connections = Vec::new();
            loop {
                connections.push(listener.accept().await.unwrap());
            }
        });
    }

    /// Says to whoever publishes that the broker takes no more, and takes no more.
    pub fn block(&self) {
        self.open.send_replace(false);
        let reason = b"low on disk";
        let mut words = vec![u8::try_from(reason.len()).unwrap()];
        words.extend(reason);
        let _ = self.says.send(method(BLOCKED, &words));
    }

    /// Takes it back.
    pub fn unblock(&self) {
        let _ = self.says.send(method(UNBLOCKED, &[]));
        self.open.send_replace(true);
    }
}

/// A socket on a port, beside any other one that does not listen.
fn bound(port: u16) -> TcpSocket {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_reuseaddr(true).unwrap();
    socket.bind(SocketAddr::from(([127, 0, 0, 1], port))).unwrap();
    socket
}

/// A frame with a method of class `connection`.
fn method(id: u16, arguments: &[u8]) -> Vec<u8> {
    let mut payload = 10_u16.to_be_bytes().to_vec();
    payload.extend(id.to_be_bytes());
    payload.extend(arguments);
    let mut frame = vec![1, 0, 0];
    frame.extend(u32::try_from(payload.len()).unwrap().to_be_bytes());
    frame.extend(payload);
    frame.push(FRAME_END);
    frame
}

async fn relay(
    client: TcpStream,
    server: TcpStream,
    says: Arc<broadcast::Sender<Vec<u8>>>,
    open: watch::Receiver<bool>,
) {
    let publishes = watch::Sender::new(false);
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let said = says.subscribe();
    tokio::select! {
        _ = upward(from_client, to_server, &publishes, open) => {}
        _ = downward(from_server, to_client, publishes.subscribe(), said) => {}
    }
}

/// Bytes from the client; the name that it gives its connection tells whether it publishes.
async fn upward(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    publishes: &watch::Sender<bool>,
    mut open: watch::Receiver<bool>,
) -> std::io::Result<()> {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let count = from.read(&mut buffer).await?;
        if count == 0 {
            return Ok(());
        }
        let bytes = &buffer[..count];
        if bytes.windows(9).any(|word| word == b" publish ") {
            publishes.send_replace(true);
        }
        if *publishes.borrow() {
            let _ = open.wait_for(|open| *open).await;
        }
        to.write_all(bytes).await?;
    }
}

/// Frames from the server, and between them what the test says in its name.
async fn downward(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    publishes: watch::Receiver<bool>,
    mut said: broadcast::Receiver<Vec<u8>>,
) -> std::io::Result<()> {
    let mut head = [0; 7];
    let mut read = 0;
    loop {
        // Reading part by part, so that nothing is lost when somebody speaks meanwhile.
        tokio::select! {
            count = from.read(&mut head[read..]) => match count? {
                0 => return Ok(()),
                count => read += count,
            },
            Ok(frame) = said.recv(), if read == 0 => if *publishes.borrow() {
                to.write_all(&frame).await?;
            },
        }
        if read == head.len() {
            let size = u32::from_be_bytes([head[3], head[4], head[5], head[6]]) as usize;
            let mut frame = head.to_vec();
            frame.resize(head.len() + size + 1, 0);
            from.read_exact(&mut frame[head.len()..]).await?;
            to.write_all(&frame).await?;
            read = 0;
        }
    }
}
