//! A proxy before Postgres that keeps answers back from the moment a BEGIN passes, so that a cancelled call is caught
//! exactly while the backend is slow, without any clock.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicBool, Ordering},
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
    task::JoinSet,
};
use url::Url;

use crate::harness::postgres_url;

pub struct Proxy {
    /// Reaches Postgres through the proxy.
    pub url: String,
    state: Arc<State>,
    _accepts: JoinSet<()>,
}

struct State {
    armed: AtomicBool,
    held: watch::Sender<bool>,
    ports: Mutex<Vec<i32>>,
}

impl Proxy {
    pub async fn start() -> Self {
        let mut url = Url::parse(&postgres_url()).unwrap();
        let server = (url.host_str().unwrap().to_owned(), url.port().unwrap_or(5432));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        url.set_host(Some("127.0.0.1")).unwrap();
        url.set_port(Some(listener.local_addr().unwrap().port())).unwrap();
        // Or the BEGIN could not be seen.
        url.query_pairs_mut().append_pair("sslmode", "disable");
        let state = Arc::new(State {
            armed: AtomicBool::new(false),
            held: watch::Sender::new(false),
            ports: Mutex::default(),
        });
        let mut accepts = JoinSet::new();
        accepts.spawn(accept(listener, server, Arc::clone(&state)));
        Self { url: url.into(), state, _accepts: accepts }
    }

    /// Answers are kept back from the next BEGIN on.
    pub fn arm(&self) {
        self.state.armed.store(true, Ordering::SeqCst);
    }

    /// Returns once a BEGIN has passed after [`Proxy::arm`].
    pub async fn holds(&self) {
        self.state.held.subscribe().wait_for(|held| *held).await.unwrap();
    }

    /// Lets the answers go.
    pub fn release(&self) {
        self.state.armed.store(false, Ordering::SeqCst);
        self.state.held.send_replace(false);
    }

    /// The ports by which Postgres knows our connections.
    pub fn ports(&self) -> Vec<i32> {
        self.state.ports.lock().unwrap().clone()
    }
}

async fn accept(listener: TcpListener, server: (String, u16), state: Arc<State>) {
    let mut pumps = JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        let upstream = TcpStream::connect((server.0.as_str(), server.1)).await.unwrap();
        for stream in [&client, &upstream] {
            stream.set_nodelay(true).unwrap();
        }
        state.ports.lock().unwrap().push(upstream.local_addr().unwrap().port().into());
        let (from_client, to_client) = client.into_split();
        let (from_server, to_server) = upstream.into_split();
        pumps.spawn(requests(from_client, to_server, Arc::clone(&state)));
        pumps.spawn(answers(from_server, to_client, Arc::clone(&state)));
    }
}

async fn requests(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, state: Arc<State>) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(n @ 1..) = from.read(&mut buffer).await {
        let begins = buffer[..n].windows(5).any(|bytes| bytes == b"BEGIN");
        if begins && state.armed.swap(false, Ordering::SeqCst) {
            state.held.send_replace(true);
        }
        if to.write_all(&buffer[..n]).await.is_err() {
            break;
        }
    }
}

async fn answers(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, state: Arc<State>) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(n @ 1..) = from.read(&mut buffer).await {
        let free = state.held.subscribe().wait_for(|held| !*held).await.is_ok();
        if !free || to.write_all(&buffer[..n]).await.is_err() {
            break;
        }
    }
}
