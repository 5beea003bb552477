//! The accept loop: what `axum::serve` does, with a deadline and a limit on everything a client can hold.
//!
//! A client can hold a connection, a half-sent head, an unread answer or a stream. Each has its limit in [`Limits`];
//! how long a body and a handler may take is for the router's layers, which can still answer.

mod answer;
mod chunks;
mod connection;
mod frames;
mod head;
mod inbox;
mod places;
mod refusal;
mod refuse;
mod requests;
mod watch;
mod wire;

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{
            AtomicBool,
            Ordering::{Acquire, Release},
        },
    },
    time::{Duration, Instant},
};

use axum::Router;
use hyper_util::{
    rt::{TokioExecutor, TokioTimer},
    server::conn::auto,
};
use taskpost_common::{Clock, net::TrustedProxies};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Notify,
    task::{JoinError, JoinSet},
};
use tokio_util::sync::CancellationToken;

use self::{
    places::{Places, Refusal},
    refuse::Refuser,
};

/// What one client, and all of them together, may hold.
#[derive(Clone, Debug)]
pub struct Limits {
    /// From accepting a connection to its first byte.
    pub first_byte: Duration,
    /// From the first byte of a request's head to its last; also how long a peer may take to leave when asked to.
    pub head: Duration,
    /// How long a client may leave an answer unread that is ready for it, without taking a single byte.
    pub write_stall: Duration,
    /// From an answer to the first byte of the next request; on HTTP/2, how long no stream is open.
    pub keep_alive_idle: Duration,
    /// Open connections. One more is answered 503 and closed.
    pub connections: usize,
    /// Open connections of one address, or of one IPv6 network of 64 bits. One more is closed.
    pub per_address: usize,
    /// The proxies in front, which `per_address` does not count.
    pub proxies: TrustedProxies,
    /// Open streams of one HTTP/2 connection.
    pub h2_streams: u32,
    /// How often an HTTP/2 peer is pinged.
    pub h2_ping_interval: Duration,
    /// How long it may take to answer a ping.
    pub h2_ping_timeout: Duration,
    /// Header fields of one HTTP/1 request; one more is answered 431. Other values than 100 cost an allocation each.
    pub max_headers: usize,
    /// How long open requests may take to finish after the stop.
    pub drain: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Self {
            first_byte: seconds(5),
            head: seconds(5),
            write_stall: seconds(30),
            keep_alive_idle: seconds(75),
            connections: 10_000,
            per_address: 1_024,
            proxies: TrustedProxies::default(),
            h2_streams: 256,
            h2_ping_interval: seconds(20),
            h2_ping_timeout: seconds(20),
            max_headers: HYPER_MAX_HEADERS,
            drain: seconds(10),
        }
    }
}

/// How the server ended.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The drain time ran out; the requests still open were cut. Everything else was served.
    #[error("{connections} connections were still open after the drain time and were cut")]
    Cut {
        /// How many.
        connections: usize,
    },
}

/// Serves `router` over HTTP/1 and HTTP/2 without TLS until `stop`, then lets open requests finish.
///
/// Handlers find the peer's address as [`ConnectInfo<SocketAddr>`](axum::extract::ConnectInfo). A connection that was
/// upgraded (WebSocket) keeps its place and its write deadline, but belongs to the handler: end it by a token of its own.
/// Out of file descriptors, the loop waits and goes on.
///
/// # Errors
/// [`ServeError::Cut`] when requests were still open after [`Limits::drain`].
pub async fn serve(
    listener: TcpListener,
    router: Router,
    limits: Limits,
    stop: CancellationToken,
) -> Result<(), ServeError> {
    let server = Arc::new(Server::new(router, limits));
    let mut tasks = JoinSet::new();
    tokio::select! {
        () = stop.cancelled() => {}
        () = accept(&listener, &server, &mut tasks) => {}
    }
    // A connection that the kernel accepted after this is reset, and the client tries elsewhere.
    drop(listener);
    drain(&server, tasks).await
}

/// What all connections share.
struct Server {
    router: Router,
    limits: Limits,
    http: auto::Builder<TokioExecutor>,
    places: Arc<Places>,
    refuser: Refuser,
    /// Names what gets no further than its connection.
    ids: Clock,
    /// Set and woken once, when connections are to finish.
    draining: AtomicBool,
    drain: Arc<Notify>,
}

impl Server {
    fn new(router: Router, limits: Limits) -> Self {
        let places = Arc::new(Places::new(&limits));
        let http = protocols(&limits);
        Self {
            router,
            limits,
            http,
            places,
            refuser: Refuser::default(),
            ids: Clock::system(),
            draining: AtomicBool::new(false),
            drain: Arc::default(),
        }
    }

    fn begin_drain(&self) {
        self.draining.store(true, Release);
        self.drain.notify_waiters();
    }

    fn draining(&self) -> bool {
        self.draining.load(Acquire)
    }
}

/// The most header fields hyper reads without an allocation.
const HYPER_MAX_HEADERS: usize = 100;

/// The largest head, and the most that is buffered of one HTTP/1 connection in each direction.
const MAX_HEAD: usize = 64 * 1024;

/// Streams that a client opened and reset before we looked at them (rapid reset, CVE-2023-44487).
const MAX_PENDING_RESETS: usize = 20;

/// Streams that we reset because the client broke the protocol (CVE-2025-8671).
const MAX_ERROR_RESETS: usize = 256;

fn protocols(limits: &Limits) -> auto::Builder<TokioExecutor> {
    let mut http = auto::Builder::new(TokioExecutor::new());
    // Without a timer of hyper's own: it would count an idle connection as a slow head, and cost each request a timer.
    http.http1().header_read_timeout(None).max_buf_size(MAX_HEAD);
    if limits.max_headers != HYPER_MAX_HEADERS {
        http.http1().max_headers(limits.max_headers);
    }
    http.http2()
        .timer(TokioTimer::new())
        .enable_connect_protocol()
        .max_concurrent_streams(limits.h2_streams)
        .keep_alive_interval(limits.h2_ping_interval)
        .keep_alive_timeout(limits.h2_ping_timeout)
        .max_pending_accept_reset_streams(MAX_PENDING_RESETS)
        .max_local_error_reset_streams(MAX_ERROR_RESETS)
        .max_header_list_size(u32::try_from(MAX_HEAD).unwrap_or(u32::MAX))
        .max_send_buf_size(MAX_HEAD);
    http
}

async fn accept(listener: &TcpListener, server: &Arc<Server>, tasks: &mut JoinSet<()>) {
    let mut failures = Failures::default();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => admit(server, stream, peer, tasks),
                Err(error) => failures.wait(&error).await,
            },
            Some(ended) = tasks.join_next() => report(ended),
        }
    }
}

fn admit(server: &Arc<Server>, stream: TcpStream, peer: SocketAddr, tasks: &mut JoinSet<()>) {
    match server.places.take(peer.ip()) {
        Ok(place) => {
            // Made here, so that it also hears of a drain that begins before the task does.
            let drain = Arc::clone(&server.drain).notified_owned();
            tasks.spawn(connection::run(Arc::clone(server), stream, peer, place, drain));
        }
        Err(Refusal::Full) => {
            if let Some(goodbye) = server.refuser.goodbye(stream, &server.ids) {
                tasks.spawn(goodbye);
            }
        }
        Err(Refusal::Address) => drop(stream),
    }
}

async fn drain(server: &Server, mut tasks: JoinSet<()>) -> Result<(), ServeError> {
    server.begin_drain();
    let finished = async {
        while let Some(ended) = tasks.join_next().await {
            report(ended);
        }
    };
    if tokio::time::timeout(server.limits.drain, finished).await.is_ok() {
        return Ok(());
    }
    let connections = tasks.len();
    tasks.shutdown().await;
    Err(ServeError::Cut { connections })
}

fn report(ended: Result<(), JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        tracing::error!(%error, "a connection panicked");
    }
}

/// Waits after failed accepts, and what is said of them.
#[derive(Default)]
struct Failures {
    said: Option<Instant>,
}

impl Failures {
    const PAUSE: Duration = Duration::from_millis(100);
    const SAY_EVERY: Duration = Duration::from_secs(1);

    async fn wait(&mut self, error: &io::Error) {
        // That one client left early is no reason to wait.
        if matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset) {
            return;
        }
        if self.said.is_none_or(|said| said.elapsed() >= Self::SAY_EVERY) {
            self.said = Some(Instant::now());
            tracing::error!(%error, "could not accept a connection");
        }
        tokio::time::sleep(Self::PAUSE).await;
    }
}
