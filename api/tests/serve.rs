//! The accept loop against real sockets: what a client may hold, and for how long.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test may stop at the first surprise")]

use std::{
    net::{Ipv4Addr, SocketAddr},
    time::{Duration, Instant},
};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::ConnectInfo,
    routing::{get, post},
};
use taskpost_api::serve::{Limits, ServeError, serve};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;

/// A deadline that is under test.
const SHORT: Duration = Duration::from_millis(300);

/// A deadline that must not be reached.
const LONG: Duration = Duration::from_mins(1);

/// How long a test waits for what must happen.
const PATIENCE: Duration = Duration::from_secs(10);

/// No deadline but those a test sets.
fn patient() -> Limits {
    Limits {
        first_byte: LONG,
        head: LONG,
        write_stall: LONG,
        keep_alive_idle: LONG,
        drain: PATIENCE,
        ..Limits::default()
    }
}

#[tokio::test]
async fn a_silent_client_is_closed() {
    let server = Server::start(Limits { first_byte: SHORT, ..patient() }).await;
    server.connect().await.closed_after(SHORT).await;
}

#[tokio::test]
async fn half_a_head_is_closed() {
    let server = Server::start(Limits { head: SHORT, ..patient() }).await;
    for half in ["G", "GET / HTTP/1.1\r\nHost: a\r\n", "PRI * HTTP/2.0\r\n", "\r\n"] {
        let mut client = server.connect().await;
        client.send(half).await;
        client.closed_after(SHORT).await;
    }
}

#[tokio::test]
async fn a_dripping_head_is_closed() {
    let server = Server::start(Limits { head: SHORT, first_byte: SHORT, ..patient() }).await;
    let mut client = server.connect().await;
    let start = Instant::now();
    client.send("GET / HTTP/1.1\r\nX: ").await;
    while client.0.write_all(b"x").await.is_ok() {
        assert!(start.elapsed() < PATIENCE);
        tokio::time::sleep(SHORT / 10).await;
    }
    assert!(start.elapsed() >= SHORT);
}

#[tokio::test]
async fn an_idle_connection_is_closed_later_than_a_slow_head() {
    let server = Server::start(Limits { keep_alive_idle: 3 * SHORT, head: SHORT, ..patient() }).await;
    let mut client = server.connect().await;
    assert_eq!(client.get("/").await, "hello");
    client.closed_after(3 * SHORT).await;

    let mut client = server.connect().await;
    assert_eq!(client.get("/").await, "hello");
    tokio::time::sleep(3 * SHORT / 2).await;
    assert_eq!(client.get("/").await, "hello");
    client.send("GET / HT").await;
    client.closed_after(SHORT).await;
}

#[tokio::test]
async fn a_slow_handler_is_not_idle() {
    let limits =
        Limits { keep_alive_idle: SHORT, head: SHORT, first_byte: SHORT, write_stall: SHORT, ..patient() };
    let mut server = Server::start(limits).await;
    let mut client = server.connect().await;
    client.send("GET /held HTTP/1.1\r\nHost: a\r\n\r\n").await;
    server.arrived().await;
    tokio::time::sleep(3 * SHORT).await;
    server.release.send(()).unwrap();
    assert_eq!(client.answer().await, "held");
}

#[tokio::test]
async fn a_slow_body_is_not_a_slow_head() {
    let server = Server::start(Limits { head: SHORT, keep_alive_idle: SHORT, ..patient() }).await;
    let mut client = server.connect().await;
    client.send("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n").await;
    for byte in ["a", "b", "c"] {
        tokio::time::sleep(SHORT).await;
        client.send(byte).await;
    }
    assert_eq!(client.answer().await, "abc");
}

#[tokio::test]
async fn requests_may_be_pipelined_and_kept_alive() {
    let server = Server::start(patient()).await;
    let mut client = server.connect().await;
    client.send(&"GET / HTTP/1.1\r\nHost: a\r\n\r\n".repeat(3)).await;
    for _ in 0..3 {
        assert_eq!(client.answer().await, "hello");
    }
    for _ in 0..3 {
        assert_eq!(client.get("/").await, "hello");
    }
    client.send("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await;
    assert_eq!(client.answer().await, "hello");
    client.closed().await;
}

#[tokio::test]
async fn a_slow_reader_is_cut() {
    let server = Server::start(Limits { write_stall: SHORT, ..patient() }).await;
    let mut client = server.connect().await;
    client.send("GET /large HTTP/1.1\r\nHost: a\r\n\r\n").await;
    tokio::time::sleep(2 * SHORT).await;
    let mut read = Vec::new();
    let _ =
        tokio::time::timeout(PATIENCE, client.0.read_to_end(&mut read)).await.expect("the server hangs up");
    assert!((1..LARGE).contains(&read.len()), "{}", read.len());
}

#[tokio::test]
async fn a_reader_that_takes_a_little_now_and_then_is_served() {
    let server = Server::start(Limits { write_stall: 2 * SHORT, keep_alive_idle: SHORT, ..patient() }).await;
    let mut client = server.connect().await;
    client.send("GET /large HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await;
    let (mut read, mut part) = (0, vec![0; LARGE / 8]);
    while let Ok(bytes @ 1..) = client.0.read_exact(&mut part).await {
        read += bytes;
        tokio::time::sleep(SHORT / 2).await;
    }
    assert!(read >= LARGE / 8 * 8, "{read}");
}

#[tokio::test]
async fn one_address_has_so_many_connections() {
    let server = Server::start(Limits { per_address: 2, ..patient() }).await;
    let mut kept = [server.connect().await, server.connect().await];
    for client in &mut kept {
        assert_eq!(client.get("/").await, "hello");
    }
    server.connect().await.closed().await;
    let [mut first, second] = kept;
    drop(second);
    server.until_served().await;
    assert_eq!(first.get("/").await, "hello");
}

#[tokio::test]
async fn all_addresses_have_so_many_connections() {
    let server = Server::start(Limits { connections: 1, ..patient() }).await;
    let mut client = server.connect().await;
    assert_eq!(client.get("/").await, "hello");
    let mut refused = server.connect().await;
    refused.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let answer = refused.rest().await;
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    assert!(
        answer.contains("\r\nRetry-After: 1\r\n") && answer.contains("\r\nConnection: close\r\n"),
        "{answer}"
    );
    drop(client);
    server.until_served().await;
}

#[tokio::test]
async fn a_stop_lets_requests_finish_and_takes_no_more() {
    let mut server = Server::start(patient()).await;
    let (mut busy, mut idle, silent) =
        (server.connect().await, server.connect().await, server.connect().await);
    assert_eq!(idle.get("/").await, "hello");
    busy.send("GET /held HTTP/1.1\r\nHost: a\r\n\r\n").await;
    server.arrived().await;
    server.stop.cancel();
    idle.closed().await;
    silent.closed().await;
    server.until_refused().await;
    server.release.send(()).unwrap();
    assert_eq!(busy.answer().await, "held");
    busy.closed().await;
    server.ended().await.unwrap();
}

#[tokio::test]
async fn a_stop_cuts_what_takes_too_long() {
    let mut server = Server::start(Limits { drain: SHORT, ..patient() }).await;
    let mut client = server.connect().await;
    client.send("GET /held HTTP/1.1\r\nHost: a\r\n\r\n").await;
    server.arrived().await;
    server.stop.cancel();
    client.closed_after(SHORT).await;
    assert!(matches!(server.ended().await, Err(ServeError::Cut { connections: 1 })));
}

#[tokio::test]
async fn handlers_know_the_peer() {
    let server = Server::start(patient()).await;
    let mut client = server.connect().await;
    let own = client.0.local_addr().unwrap().to_string();
    assert_eq!(client.get("/peer").await, own);
    assert_eq!(h2(&server, "/peer").await.0, 200);
}

#[tokio::test]
async fn a_panic_costs_one_connection() {
    let server = Server::start(patient()).await;
    let mut client = server.connect().await;
    client.send("GET /panic HTTP/1.1\r\nHost: a\r\n\r\n").await;
    client.closed().await;
    server.until_served().await;
}

#[tokio::test]
async fn http2_is_spoken_from_the_start() {
    let server = Server::start(patient()).await;
    assert_eq!(h2(&server, "/").await, (200, "hello".to_owned()));
}

#[tokio::test]
async fn an_idle_http2_connection_is_asked_to_leave() {
    let server = Server::start(Limits { keep_alive_idle: SHORT, head: SHORT, ..patient() }).await;
    let mut client = server.connect().await;
    client.send_bytes(&h2_request("/", 65_535)).await;
    let mut goaway = false;
    while let Some((kind, ..)) = client.frame().await {
        goaway |= kind == h2::GOAWAY;
    }
    assert!(goaway);
}

#[tokio::test]
async fn an_http2_stream_without_a_window_is_cut() {
    let server = Server::start(Limits { write_stall: SHORT, ..patient() }).await;
    let mut client = server.connect().await;
    client.send_bytes(&h2_request("/large", 10)).await;
    let mut data = 0;
    while let Some((kind, _, payload)) = client.frame().await {
        data += if kind == h2::DATA { payload.len() } else { 0 };
    }
    assert_eq!(data, 10);
}

#[tokio::test]
async fn ambiguous_framing_is_refused() {
    let server = Server::start(patient()).await;
    for (what, head) in REFUSED_FRAMING {
        let mut client = server.connect().await;
        client.send(head).await;
        let answer = client.rest().await;
        assert!(answer.starts_with("HTTP/1.1 400 "), "{what}: {answer:?}");
        assert_eq!(answer.matches("HTTP/1.1").count(), 1, "{what}: {answer:?}");
    }
}

const REFUSED_FRAMING: &[(&str, &str)] = &[
    ("two lengths", "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd"),
    ("two lengths in one", "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 3, 4\r\n\r\nabcd"),
    ("signed length", "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: +3\r\n\r\nabc"),
    ("unknown coding", "POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n"),
    (
        "chunked not last",
        "POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n",
    ),
    ("coding on 1.0", "POST /echo HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    ("folded line", "GET / HTTP/1.1\r\nHost: a\r\nX: a\r\n b\r\n\r\n"),
    ("space before colon", "GET / HTTP/1.1\r\nHost : a\r\n\r\n"),
    ("NUL in a value", "GET / HTTP/1.1\r\nHost: a\r\nX: a\0b\r\n\r\n"),
    ("CR in a value", "GET / HTTP/1.1\r\nHost: a\r\nX: a\rb\r\n\r\n"),
];

/// hyper goes by the coding, hides the length from us, and closes, as RFC 9112, section 6.1 asks; so what stands behind
/// is never served.
#[tokio::test]
async fn a_length_beside_a_coding_ends_the_connection() {
    let server = Server::start(patient()).await;
    for both in [
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
    ] {
        let mut client = server.connect().await;
        let behind = "GET /peer HTTP/1.1\r\nHost: a\r\n\r\n";
        client.send(&format!("POST /echo HTTP/1.1\r\nHost: a\r\n{both}\r\n0\r\n\r\n{behind}")).await;
        let answer = client.rest().await;
        assert_eq!(answer.matches("HTTP/1.1").count(), 1, "{answer:?}");
        assert!(answer.contains("\r\nconnection: close\r\n"), "{answer:?}");
    }
}

#[tokio::test]
async fn large_heads_are_refused() {
    let server = Server::start(patient()).await;
    for (what, head, status) in [
        ("fields", format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(101)), "431"),
        ("bytes", format!("GET / HTTP/1.1\r\nX: {}\r\n\r\n", "x".repeat(70_000)), "431"),
    ] {
        let mut client = server.connect().await;
        client.send(&head).await;
        let answer = client.rest().await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{what}: {answer:?}");
    }
}

const LARGE: usize = 64 << 20;

struct Server {
    address: SocketAddr,
    stop: CancellationToken,
    task: JoinHandle<Result<(), ServeError>>,
    arrivals: UnboundedReceiver<()>,
    /// Lets one request to `/held` go on.
    release: UnboundedSender<()>,
}

impl Server {
    async fn start(limits: Limits) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let (address, stop) = (listener.local_addr().unwrap(), CancellationToken::new());
        let ((arrive, arrivals), (release, gate)) = (unbounded_channel(), unbounded_channel());
        let task = tokio::spawn(serve(listener, router(arrive, gate), limits, stop.clone()));
        Self { address, stop, task, arrivals, release }
    }

    async fn connect(&self) -> Client {
        Client(TcpStream::connect(self.address).await.unwrap())
    }

    /// A request to `/held` reached its handler.
    async fn arrived(&mut self) {
        tokio::time::timeout(PATIENCE, self.arrivals.recv()).await.expect("the request arrives").unwrap();
    }

    /// Tries until a new connection is served: a place is given back soon after its client has gone.
    async fn until_served(&self) {
        let served = async {
            loop {
                let mut client = self.connect().await;
                let _ = client.0.write_all(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await;
                if client.rest().await.ends_with("hello") {
                    break;
                }
            }
        };
        tokio::time::timeout(PATIENCE, served).await.expect("a place becomes free");
    }

    /// Tries until nobody listens.
    async fn until_refused(&self) {
        let refused = async { while TcpStream::connect(self.address).await.is_ok() {} };
        tokio::time::timeout(PATIENCE, refused).await.expect("the listener is closed");
    }

    async fn ended(self) -> Result<(), ServeError> {
        tokio::time::timeout(PATIENCE, self.task).await.expect("the server ends").unwrap()
    }
}

fn router(arrive: UnboundedSender<()>, gate: UnboundedReceiver<()>) -> Router {
    let gate = std::sync::Arc::new(tokio::sync::Mutex::new(gate));
    let held = async move || {
        arrive.send(()).unwrap();
        gate.lock().await.recv().await;
        "held"
    };
    Router::new()
        .route("/", get(async || "hello"))
        .route("/held", get(held))
        .route("/echo", post(async |body: Bytes| body))
        .route("/large", get(async || Body::from(vec![b'x'; LARGE])))
        .route("/peer", get(async |ConnectInfo(peer): ConnectInfo<SocketAddr>| peer.to_string()))
        .route("/panic", get(panics))
}

#[expect(clippy::panic, reason = "that is what is tested")]
async fn panics() {
    panic!("as asked")
}

struct Client(TcpStream);

impl Client {
    async fn send(&mut self, text: &str) {
        self.send_bytes(text.as_bytes()).await;
    }

    async fn send_bytes(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).await.unwrap();
    }

    async fn get(&mut self, path: &str) -> String {
        self.send(&format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n")).await;
        self.answer().await
    }

    /// The body of one answer with a Content-Length.
    async fn answer(&mut self) -> String {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            head.push(char::from(self.exactly(1).await.expect("a head")[0]));
        }
        assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
        let length = head.split("content-length: ").nth(1).and_then(|rest| rest.lines().next()).unwrap();
        String::from_utf8(self.exactly(length.parse().unwrap()).await.expect("a body")).unwrap()
    }

    /// All that comes until the server closes.
    async fn rest(&mut self) -> String {
        let mut rest = Vec::new();
        let read = tokio::time::timeout(PATIENCE, self.0.read_to_end(&mut rest)).await;
        let _ = read.expect("the server closes");
        String::from_utf8(rest).unwrap()
    }

    /// The server closes, and has nothing more to say.
    async fn closed(mut self) {
        assert_eq!(self.rest().await, "");
    }

    /// The server closes, not before `wait` has passed.
    async fn closed_after(self, wait: Duration) {
        let start = Instant::now();
        self.closed().await;
        // The server's clock started before ours.
        assert!(start.elapsed() >= wait * 4 / 5, "{:?}", start.elapsed());
    }

    async fn exactly(&mut self, count: usize) -> Option<Vec<u8>> {
        let mut bytes = vec![0; count];
        let read = tokio::time::timeout(PATIENCE, self.0.read_exact(&mut bytes)).await.expect("bytes");
        read.ok().map(|_| bytes)
    }

    /// The next HTTP/2 frame: its type, flags and payload (RFC 9113, section 4.1). None when the server closes.
    async fn frame(&mut self) -> Option<(u8, u8, Vec<u8>)> {
        let head = self.exactly(9).await?;
        let length = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
        Some((head[3], head[4], self.exactly(length).await?))
    }
}

/// The frame types of HTTP/2 that are looked at (RFC 9113, section 6).
mod h2 {
    pub const DATA: u8 = 0;
    pub const HEADERS: u8 = 1;
    pub const SETTINGS: u8 = 4;
    pub const GOAWAY: u8 = 7;
}

/// Status and body of one request over HTTP/2 with prior knowledge.
async fn h2(server: &Server, path: &str) -> (u16, String) {
    const END_STREAM: u8 = 1;
    /// `:status: 200` in HPACK's static table (RFC 7541, appendix A).
    const STATUS_200: u8 = 0x88;
    let mut client = server.connect().await;
    client.send_bytes(&h2_request(path, 65_535)).await;
    let (mut status, mut body) = (0, Vec::new());
    loop {
        let (kind, flags, payload) = client.frame().await.expect("a frame");
        match kind {
            h2::HEADERS => status = if payload[0] == STATUS_200 { 200 } else { 1 },
            h2::DATA => body.extend(payload),
            _ => continue,
        }
        if flags & END_STREAM != 0 {
            return (status, String::from_utf8(body).unwrap());
        }
    }
}

/// Preface, settings with the stream window, and one GET.
fn h2_request(path: &str, window: u32) -> Vec<u8> {
    const INITIAL_WINDOW_SIZE: u16 = 4;
    const END_STREAM_AND_HEADERS: u8 = 5;
    let settings = [&INITIAL_WINDOW_SIZE.to_be_bytes()[..], &window.to_be_bytes()].concat();
    // From HPACK's static table: GET, http; then the names :path and :authority with literal values.
    let headers = [&[0x82, 0x86][..], &literal(0x04, path), &literal(0x01, "a")].concat();
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    bytes.extend(frame(h2::SETTINGS, 0, 0, &settings));
    bytes.extend(frame(h2::HEADERS, END_STREAM_AND_HEADERS, 1, &headers));
    bytes
}

fn literal(name: u8, value: &str) -> Vec<u8> {
    [&[name, u8::try_from(value.len()).unwrap()][..], value.as_bytes()].concat()
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}
