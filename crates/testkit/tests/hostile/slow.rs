//! Slow: silence, halves, drips and floods end by the limits as they are in force, and others are served meanwhile.
//! How slow readers end, and idle connections, is shown with shorter limits in `api/tests/serve`.

use std::{fs, net::SocketAddr, pin::pin, time::Duration};

use futures::future::join_all;
use serde_json::json;
use taskpost_testkit::{Backend, PATIENCE, TestApp, User, both};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
    time::{interval, timeout},
};

use crate::{
    frames::{
        CONTINUATION, DATA, END_HEADERS, END_STREAM, HEADERS, PING, PREFACE, PRIORITY, RST_STREAM, SETTINGS,
        UNKNOWN, fields, frame, start,
    },
    row::Row,
};

both!(row);

const IDLE: usize = 2_000;
const READERS: usize = 20;
/// Between the bytes of a drip.
const DRIP: Duration = Duration::from_secs(1);

async fn row(backend: Backend) {
    let mut row = Row::start("Slow", TestApp::start(backend)).await;
    let ada = row.app.user("Ada").await;
    let (mut idle, mut readers) = (Vec::new(), Vec::new());
    let many = as_many_as_may_be();
    for number in 0..many {
        // One address may not have that many.
        idle.push(keep_alive(&row.app, if number % 2 == 0 { 2 } else { 3 }).await);
    }
    for _ in 0..READERS {
        readers.push(stop_reading(&row.app).await);
    }
    let address = row.app.address();
    let (slow, floods) = (slow(&ada.token), floods());
    let slow = join_all(slow.iter().map(|client| client.run(address)));
    let floods = join_all(floods.iter().map(|flood| flood.run(address)));
    let ends = async { <[_; 2]>::from(tokio::join!(slow, floods)).concat() };
    let (ends, served, failed) = meanwhile(&row.app, &ada, ends).await;
    for (name, ended) in ends {
        row.claim(&name, ended.is_ok(), || format!("{ended:?}"));
    }
    row.claim("others meanwhile", served > 10 && failed.is_empty(), || {
        format!("{served} were served; {failed:?}")
    });
    println!("Slow on {backend:?}: {served} others were served meanwhile");
    let mut left = 0;
    for client in &mut idle {
        left += usize::from(live(client).await.is_ok());
    }
    row.claim("the idle are still there", left == many, || format!("{left} of {many}"));
    drop((idle, readers));
    row.end(40).await;
}

/// How many may be idle: each is two open files of this process, which runs other tests too.
fn as_many_as_may_be() -> usize {
    let limits = fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let files =
        limits.lines().find_map(|line| line.strip_prefix("Max open files")?.split_whitespace().next());
    files.and_then(|files| files.parse().ok()).map_or(IDLE, |files: usize| IDLE.min(files / 8))
}

/// Goes on as others do until `work` is done; says how many were served, and who was not.
async fn meanwhile<T>(app: &TestApp, user: &User, work: impl Future<Output = T>) -> (T, usize, Vec<String>) {
    let mut work = pin!(work);
    let (mut served, mut failed) = (0, Vec::new());
    loop {
        tokio::select! {
            biased;
            done = &mut work => return (done, served, failed),
            other = ordinary(app, user) => match other {
                Ok(()) => served += 1,
                Err(fault) => failed.push(fault),
            },
        }
    }
}

/// A task is made and read.
async fn ordinary(app: &TestApp, user: &User) -> Result<(), String> {
    let made = app.post("/v1/tasks", json!({"title": "a"})).as_(user).try_send().await;
    let listed = app.get("/v1/tasks?limit=1").as_(user).try_send().await;
    match (made, listed) {
        (Ok(made), Ok(listed)) if (made.status, listed.status) == (201, 200) => Ok(()),
        (made, listed) => Err(format!("{made:?} {listed:?}")),
    }
}

async fn connect(app: &TestApp, host: u8, receive: Option<u32>) -> TcpStream {
    let socket = TcpSocket::new_v4().expect("a socket");
    if let Some(receive) = receive {
        socket.set_recv_buffer_size(receive).expect("a size");
    }
    socket.bind(SocketAddr::from(([127, 0, 0, host], 0))).expect("an address of this machine");
    socket.connect(app.address()).await.expect("a connection")
}

/// A client that is served and stays.
async fn keep_alive(app: &TestApp, host: u8) -> TcpStream {
    let mut client = connect(app, host, None).await;
    live(&mut client).await.expect("an answer");
    client
}

async fn live(client: &mut TcpStream) -> Result<(), String> {
    let said = "GET /health/live HTTP/1.1\r\nhost: a\r\n\r\n";
    client.write_all(said.as_bytes()).await.map_err(|error| error.to_string())?;
    let mut heard = Vec::new();
    while !heard.ends_with(b"{\"status\":\"ok\"}") {
        let read = timeout(PATIENCE, client.read_buf(&mut heard)).await.map_err(|error| error.to_string())?;
        if read.map_err(|error| error.to_string())? == 0 {
            return Err("closed".to_owned());
        }
    }
    Ok(())
}

/// A client that asks for much and takes nothing of it.
async fn stop_reading(app: &TestApp) -> TcpStream {
    let mut client = connect(app, 4, Some(4_096)).await;
    let asked = "GET /docs/swagger-ui-bundle.js HTTP/1.1\r\nhost: a\r\n\r\n".repeat(20);
    client.write_all(asked.as_bytes()).await.expect("it may ask");
    client
}

/// A client that takes its time.
struct Slow {
    name: &'static str,
    said: Vec<u8>,
    /// What it goes on to say, byte by byte.
    drip: &'static [u8],
    hears: Hears,
}

/// What a client hears before the end.
#[derive(Clone, Copy)]
enum Hears {
    Nothing,
    /// Our side of HTTP/2, and no answer.
    Frames,
    /// A problem of this status.
    Problem(u16),
}

impl Slow {
    async fn run(&self, address: SocketAddr) -> (String, Result<(), String>) {
        let heard = timeout(PATIENCE, self.hear(address)).await;
        let fault = match heard {
            Err(_) => Some("the connection is still open".to_owned()),
            Ok(heard) => fault(self.hears, &heard),
        };
        (self.name.to_owned(), fault.map_or(Ok(()), Err))
    }

    /// All that comes until the server closes.
    async fn hear(&self, address: SocketAddr) -> Vec<u8> {
        let mut client = TcpStream::connect(address).await.expect("a connection");
        client.write_all(&self.said).await.expect("it may speak");
        let (mut reader, mut writer) = client.into_split();
        let mut heard = Vec::new();
        let mut drip = interval(DRIP);
        let mut drops = self.drip.iter().cycle();
        loop {
            tokio::select! {
                read = reader.read_buf(&mut heard) => if !matches!(read, Ok(1..)) { return heard },
                _ = drip.tick() => if let Some(byte) = drops.next() {
                    // The end is heard by reading.
                    let _ = writer.write_all(&[*byte]).await;
                },
            }
        }
    }
}

fn fault(expected: Hears, heard: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(heard).into_owned();
    let good = match expected {
        Hears::Nothing => heard.is_empty(),
        Hears::Frames => !text.contains("HTTP/1.1"),
        Hears::Problem(status) => {
            text.starts_with(&format!("HTTP/1.1 {status} "))
                && text.contains("application/problem+json")
                && text.matches("HTTP/1.1 ").count() == 1
        }
    };
    (!good).then_some(text)
}

/// Five seconds for a head, ten for a body.
fn slow(token: &str) -> Vec<Slow> {
    use Hears::{Frames, Nothing, Problem};
    let slow = |name, hears, said: &str, drip: &'static str| Slow {
        name,
        said: said.as_bytes().to_vec(),
        drip: drip.as_bytes(),
        hears,
    };
    let auth = format!("authorization: Bearer {token}\r\ncontent-type: application/json\r\n");
    let post = format!("POST /v1/tasks HTTP/1.1\r\nhost: a\r\n{auth}");
    let login = "POST /v1/auth/login HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\n";
    let (length, chunked) = ("content-length: 100\r\n\r\n", "transfer-encoding: chunked\r\n\r\n");
    let mut clients = vec![
        slow("silent", Nothing, "", ""),
        slow("one byte", Nothing, "G", ""),
        slow("half a request line", Nothing, "GET /v1/tas", ""),
        slow("a request line", Nothing, "GET /v1/tasks HTTP/1.1\r\n", ""),
        slow("half a head", Nothing, "GET /v1/tasks HTTP/1.1\r\nhost: a\r\nauthori", ""),
        slow("a head without its last line", Nothing, "GET /v1/tasks HTTP/1.1\r\nhost: a\r\n", ""),
        slow("a head without its last byte", Nothing, "GET /v1/tasks HTTP/1.1\r\nhost: a\r\n\r", ""),
        slow("an empty line", Nothing, "\r\n", ""),
        slow("half a preface of HTTP/2", Nothing, "PRI * HTTP/2.0\r\n\r\nSM", ""),
        slow("a dripping method", Nothing, "", "A"),
        slow("a dripping target", Nothing, "GET /", "a"),
        slow("a dripping name", Nothing, "GET / HTTP/1.1\r\n", "a"),
        slow("a dripping value", Nothing, "GET / HTTP/1.1\r\nhost: a\r\nx: ", "a"),
        slow("dripping fields", Nothing, "GET / HTTP/1.1\r\nhost: a\r\n", "a:b\r\n"),
        slow("dripping empty lines", Nothing, "", "\r\n"),
        slow("a dripping preface", Nothing, "PRI * HTTP/2.", "0"),
        slow("no body", Problem(408), &format!("{post}{length}"), ""),
        slow("half a body", Problem(408), &format!("{post}{length}{{\"title\":"), ""),
        slow("a dripping body", Problem(408), &format!("{post}{length}"), " "),
        slow("no chunk", Problem(408), &format!("{post}{chunked}"), ""),
        slow("half a size", Problem(408), &format!("{post}{chunked}1"), ""),
        slow("half a chunk", Problem(408), &format!("{post}{chunked}5\r\nab"), ""),
        slow("a chunk without its end", Problem(408), &format!("{post}{chunked}1\r\n{{\r\n"), ""),
        slow("dripping chunks", Problem(408), &format!("{post}{chunked}"), "1\r\n \r\n"),
        slow("a dripping extension", Problem(408), &format!("{post}{chunked}1;"), "a"),
        slow("dripping trailers", Problem(408), &format!("{post}{chunked}2\r\n{{}}\r\n0\r\n"), "a:b\r\n"),
        slow("a dripping login", Problem(408), &format!("{login}{length}"), " "),
        slow(
            "a dripping body for nobody",
            Problem(408),
            "GET /v1/nothing HTTP/1.1\r\nhost: a\r\ncontent-length: 100\r\n\r\n",
            "a",
        ),
        slow(
            "a dripping batch",
            Problem(408),
            &format!("{}{length}", post.replace("tasks", "tasks/batch")),
            " ",
        ),
    ];
    let half = frame(HEADERS, END_STREAM, 1, &fields(false, "/v1/tasks"));
    for (name, said) in [
        ("half a frame of HTTP/2", half[..5].to_vec()),
        ("half a field block of HTTP/2", half[..15].to_vec()),
        ("a field block of HTTP/2 without its end", half.clone()),
    ] {
        clients.push(Slow { name, said: [start(), said].concat(), drip: b"", hears: Frames });
    }
    clients
}

/// A client that says the same again and again, as fast as it is read.
struct Flood {
    name: &'static str,
    first: Vec<u8>,
    again: fn(u32) -> Vec<u8>,
}

impl Flood {
    /// Ends when the server closes.
    async fn run(&self, address: SocketAddr) -> (String, Result<(), String>) {
        let client = TcpStream::connect(address).await.expect("a connection");
        let (mut reader, mut writer) = client.into_split();
        let flooding = async {
            let mut number = 0;
            let mut said = [PREFACE, &self.first].concat();
            while writer.write_all(&said).await.is_ok() {
                said = (number..number + 100).flat_map(self.again).collect();
                number += 100;
            }
        };
        let mut nowhere = tokio::io::sink();
        let both = async { tokio::join!(flooding, tokio::io::copy(&mut reader, &mut nowhere)) };
        let ended = timeout(PATIENCE, both).await.map(drop);
        (self.name.to_owned(), ended.map_err(|_| "the connection is still open".to_owned()))
    }
}

fn floods() -> Vec<Flood> {
    let settings = || frame(SETTINGS, 0, 0, &[]);
    let post = || frame(HEADERS, END_HEADERS, 1, &fields(true, "/v1/tasks"));
    let block = || frame(HEADERS, END_STREAM, 1, &fields(false, "/v1/tasks"));
    let flood = |name, first: Vec<Vec<u8>>, again| Flood { name, first: first.concat(), again };
    vec![
        flood("rapid reset", vec![settings()], |number| {
            let stream = number * 2 + 1;
            let get = frame(HEADERS, END_STREAM | END_HEADERS, stream, &fields(false, "/v1/nothing"));
            [get, frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes())].concat()
        }),
        flood("rapid mistakes", vec![settings()], |number| {
            let stream = number * 2 + 1;
            let get = frame(HEADERS, END_HEADERS, stream, &fields(false, "/v1/nothing"));
            // A window that grows by nothing is a mistake, for which we reset.
            [get, frame(8, 0, stream, &0_u32.to_be_bytes())].concat()
        }),
        flood("CONTINUATION", vec![settings(), block()], |_| frame(CONTINUATION, 0, 1, b"\x00\x01a\x01b")),
        flood("empty CONTINUATION", vec![settings(), block()], |_| frame(CONTINUATION, 0, 1, b"")),
        flood("PING", vec![settings()], |_| frame(PING, 0, 0, &[0; 8])),
        flood("answers to PING", vec![settings()], |_| frame(PING, 1, 0, &[0; 8])),
        flood("SETTINGS", vec![settings()], |_| frame(SETTINGS, 0, 0, &[])),
        flood("full SETTINGS", vec![settings()], |_| {
            frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 255, 255].repeat(100))
        }),
        flood("PRIORITY", vec![settings()], |_| frame(PRIORITY, 0, 1, &[0; 5])),
        flood("unknown frames", vec![settings()], |_| frame(UNKNOWN, 0, 0, &[])),
        flood("empty DATA", vec![settings(), post()], |_| frame(DATA, 0, 1, &[])),
    ]
}
