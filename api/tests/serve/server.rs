//! A server with a few routes, and what tests wait for on it.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::ConnectInfo,
    routing::{get, post},
};
use taskpost_api::serve::{Limits, ServeError, serve};
use tokio::{
    net::{TcpListener, TcpSocket, TcpStream},
    sync::{
        Mutex,
        mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
    },
    task::JoinHandle,
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use crate::client::Client;

/// A deadline that is under test. Who keeps it must do so on a busy machine, too.
pub const SHORT: Duration = Duration::from_millis(300);

/// A deadline that must not be reached.
pub const LONG: Duration = Duration::from_mins(2);

/// How long a test waits for what must happen.
pub const PATIENCE: Duration = Duration::from_secs(40);

/// The body of `/large`, in bytes.
pub const LARGE: usize = 64 << 20;

/// No deadline but those a test sets.
pub fn patient() -> Limits {
    Limits {
        first_byte: LONG,
        head: LONG,
        write_stall: LONG,
        keep_alive_idle: LONG,
        drain: PATIENCE,
        ..Limits::default()
    }
}

pub struct Server {
    pub address: SocketAddr,
    pub stop: CancellationToken,
    task: JoinHandle<Result<(), ServeError>>,
    arrivals: UnboundedReceiver<()>,
    /// Lets one request to `/held` go on.
    pub release: UnboundedSender<()>,
}

impl Server {
    pub async fn start(limits: Limits) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let (address, stop) = (listener.local_addr().unwrap(), CancellationToken::new());
        let ((arrive, arrivals), (release, gate)) = (unbounded_channel(), unbounded_channel());
        let task = tokio::spawn(serve(listener, router(arrive, gate), limits, stop.clone()));
        Self { address, stop, task, arrivals, release }
    }

    pub async fn connect(&self) -> Client {
        Client(TcpStream::connect(self.address).await.unwrap())
    }

    /// A client at another address of this machine: 127.0.0.`host`.
    pub async fn connect_from(&self, host: u8) -> Client {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(SocketAddr::from(([127, 0, 0, host], 0))).unwrap();
        Client(socket.connect(self.address).await.unwrap())
    }

    /// A request to `/held` reached its handler.
    pub async fn arrived(&mut self) {
        timeout(PATIENCE, self.arrivals.recv()).await.expect("the request arrives").unwrap();
    }

    /// Waits until a client that sends half a head from now on has been closed: whoever is still there had longer.
    pub async fn head_deadline(&self) {
        let mut witness = self.connect().await;
        witness.send("GET /half HTTP/1.1\r\n").await;
        witness.closed().await;
    }

    /// Tries until a new connection is served: a place is given back soon after its client has gone.
    pub async fn until_served(&self) {
        let served = async { while !self.connect().await.try_get().await.ends_with("hello") {} };
        timeout(PATIENCE, served).await.expect("a place becomes free");
    }

    /// Tries until nobody listens.
    pub async fn until_refused(&self) {
        let refused = async { while TcpStream::connect(self.address).await.is_ok() {} };
        timeout(PATIENCE, refused).await.expect("the listener is closed");
    }

    pub async fn ended(self) -> Result<(), ServeError> {
        timeout(PATIENCE, self.task).await.expect("the server ends").unwrap()
    }
}

fn router(arrive: UnboundedSender<()>, gate: UnboundedReceiver<()>) -> Router {
    let gate = Arc::new(Mutex::new(gate));
    let held = async move || {
        arrive.send(()).unwrap();
        gate.lock().await.recv().await;
        "held"
    };
    Router::new()
        .route("/", get(async || "hello"))
        .route("/held", get(held))
        .route("/echo", post(async |body: Bytes| body))
        .route("/deaf", post(async || "I did not listen"))
        .route("/large", get(async || Body::from(vec![b'x'; LARGE])))
        .route("/peer", get(async |ConnectInfo(peer): ConnectInfo<SocketAddr>| peer.to_string()))
        .route("/panic", get(panics))
        .route("/upgrade", get(crate::upgrade::upgrade))
}

#[expect(clippy::panic, reason = "that is what is tested")]
async fn panics() {
    panic!("as asked")
}
