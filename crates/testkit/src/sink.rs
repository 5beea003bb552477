//! A receiver of webhooks: a real server that records what comes and answers as a script says.

use std::{
    collections::VecDeque,
    iter,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use serde_json::Value;
use standardwebhooks::Webhook;
use tokio::{
    io::{self, AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinSet,
    time::{sleep, timeout},
};

use crate::PATIENCE;

/// A body that nobody waits for at a byte a second.
const LONG: usize = 4 * 1024;
/// How long the beginning of an answer may take to arrive, before a reset that would overtake it.
const ARRIVAL: Duration = Duration::from_millis(50);

/// How a receiver answers one request.
#[derive(Clone, Debug)]
pub struct Answer {
    status: u16,
    headers: Vec<(String, String)>,
    body: String,
    after: Duration,
    way: Way,
}

#[derive(Clone, Copy, Debug)]
enum Way {
    Whole,
    /// A body of so many bytes.
    Huge(usize),
    /// The connection is reset instead.
    Reset,
    /// Nothing comes, and the connection stays open.
    Hang,
    /// A body of [`LONG`] bytes, one a second.
    Drip,
    /// Half of a body of [`LONG`] bytes, and then a reset.
    Break,
}

impl Answer {
    /// This status and nothing else.
    pub fn status(status: u16) -> Self {
        Self { status, headers: Vec::new(), body: String::new(), after: Duration::ZERO, way: Way::Whole }
    }

    /// A redirect to another address.
    pub fn redirect(to: &str) -> Self {
        Self::status(307).header("location", to)
    }

    /// A reset of the connection.
    pub fn reset() -> Self {
        Self { way: Way::Reset, ..Self::status(0) }
    }

    /// Nothing, until the client gives up.
    pub fn hang() -> Self {
        Self { way: Way::Hang, ..Self::status(0) }
    }

    /// 200 with a body of so many bytes.
    pub fn huge(bytes: usize) -> Self {
        Self { way: Way::Huge(bytes), ..Self::status(200) }
    }

    /// 200 with a body that comes at one byte a second.
    pub fn drip() -> Self {
        Self { way: Way::Drip, ..Self::status(200) }
    }

    /// 200 with a body that breaks off in a reset.
    pub fn broken() -> Self {
        Self { way: Way::Break, ..Self::status(200) }
    }

    /// With one more header.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// With this body.
    #[must_use]
    pub fn body(self, body: &str) -> Self {
        Self { body: body.to_owned(), ..self }
    }

    /// Only after so long.
    #[must_use]
    pub fn after(self, after: Duration) -> Self {
        Self { after, ..self }
    }
}

/// A request as it came.
#[derive(Clone, Debug)]
pub struct Received {
    /// The method.
    pub method: String,
    /// The path and the query.
    pub path: String,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: String,
    /// When it was there.
    pub at: Instant,
}

impl Received {
    /// The header of this name.
    pub fn header(&self, name: &str) -> &str {
        let value = self.headers.get(name).unwrap_or_else(|| panic!("no {name} in {:?}", self.headers));
        value.to_str().expect("a header in ASCII")
    }

    /// What a receiver removes doubles by.
    pub fn webhook_id(&self) -> &str {
        self.header("webhook-id")
    }

    /// The body as JSON.
    pub fn event(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }

    /// Whether the signature fits this secret, by the reference implementation of Standard Webhooks.
    pub fn is_signed_by(&self, secret: &str) -> bool {
        Webhook::new(secret).is_ok_and(|webhook| webhook.verify(self.body.as_bytes(), &self.headers).is_ok())
    }
}

/// A receiver of webhooks on a free port of this machine. Ends when it is dropped.
#[derive(Debug)]
pub struct WebhookSink {
    address: SocketAddr,
    shared: Arc<Shared>,
    _server: JoinSet<()>,
}

#[derive(Debug)]
struct Shared {
    received: watch::Sender<Vec<Received>>,
    script: Mutex<Script>,
}

#[derive(Debug)]
struct Script {
    next: VecDeque<Answer>,
    otherwise: Answer,
}

impl WebhookSink {
    /// Starts one that takes everything with 204.
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let script = Mutex::new(Script { next: VecDeque::new(), otherwise: Answer::status(204) });
        let shared = Arc::new(Shared { received: watch::Sender::new(Vec::new()), script });
        let mut server = JoinSet::new();
        server.spawn(accept(listener, Arc::clone(&shared)));
        Self { address, shared, _server: server }
    }

    /// The address of a path, `/hook` say.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// The port it listens on.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// The next requests are answered like this, one after the other.
    pub fn script(&self, answers: impl IntoIterator<Item = Answer>) {
        self.lock().next.extend(answers);
    }

    /// From now on every request beyond the script is answered like this.
    pub fn always(&self, answer: Answer) {
        self.lock().otherwise = answer;
    }

    /// What came so far.
    pub fn received(&self) -> Vec<Received> {
        self.shared.received.borrow().clone()
    }

    /// Waits until so many requests have come, and gives all there are.
    pub async fn wait_for(&self, count: usize) -> Vec<Received> {
        let mut watched = self.shared.received.subscribe();
        let came = timeout(PATIENCE, watched.wait_for(|received| received.len() >= count)).await.is_ok();
        assert!(came, "{count} requests were expected, {} came", self.received().len());
        self.received()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Script> {
        self.shared.script.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let shared = Arc::clone(&shared);
        connections.spawn(async move {
            // A client may go away at any time.
            let _ = serve(stream, &shared).await;
        });
    }
}

/// One connection, request after request.
async fn serve(stream: TcpStream, shared: &Shared) -> io::Result<()> {
    let mut stream = BufReader::new(stream);
    while let Some(received) = read(&mut stream).await? {
        let answer = {
            let mut script = shared.script.lock().unwrap_or_else(PoisonError::into_inner);
            script.next.pop_front().unwrap_or_else(|| script.otherwise.clone())
        };
        shared.received.send_modify(|all| all.push(received));
        sleep(answer.after).await;
        match answer.way {
            Way::Reset => return stream.get_ref().set_zero_linger(),
            Way::Hang => return stream.read_u8().await.map(drop),
            Way::Whole | Way::Huge(_) | Way::Drip | Way::Break => write(stream.get_mut(), &answer).await?,
        }
    }
    Ok(())
}

/// The next request; `None` when the client has gone.
async fn read(stream: &mut BufReader<TcpStream>) -> io::Result<Option<Received>> {
    let mut line = String::new();
    if stream.read_line(&mut line).await? == 0 {
        return Ok(None);
    }
    let mut first = line.split_whitespace().map(str::to_owned);
    let (method, path) = (first.next().unwrap_or_default(), first.next().unwrap_or_default());
    let mut headers = HeaderMap::new();
    loop {
        line.clear();
        stream.read_line(&mut line).await?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        let name: HeaderName = name.parse().map_err(io::Error::other)?;
        headers.append(name, HeaderValue::from_str(value.trim()).map_err(io::Error::other)?);
    }
    let length = headers.get("content-length").and_then(|value| value.to_str().ok()?.parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    stream.read_exact(&mut body).await?;
    let body = String::from_utf8_lossy(&body).into_owned();
    Ok(Some(Received { method, path, headers, body, at: Instant::now() }))
}

async fn write(stream: &mut TcpStream, answer: &Answer) -> io::Result<()> {
    let length = match answer.way {
        Way::Huge(length) => length,
        Way::Drip | Way::Break => LONG,
        Way::Whole | Way::Reset | Way::Hang => answer.body.len(),
    };
    // 204 has no body, and so no length.
    let length = (answer.status != 204).then(|| ("content-length".to_owned(), length.to_string()));
    let headers = answer.headers.iter().chain(&length).map(|(name, value)| format!("{name}: {value}\r\n"));
    let head: String = iter::once(format!("HTTP/1.1 {} Answer\r\n", answer.status)).chain(headers).collect();
    stream.write_all(format!("{head}\r\n{}", answer.body).as_bytes()).await?;
    match answer.way {
        Way::Huge(mut left) => {
            let chunk = vec![b'x'; 64 * 1024];
            while left > 0 {
                let count = left.min(chunk.len());
                stream.write_all(&chunk[..count]).await?;
                left -= count;
            }
        }
        Way::Drip => {
            for _ in 0..LONG {
                stream.write_all(b"x").await?;
                sleep(Duration::from_secs(1)).await;
            }
        }
        Way::Break => {
            stream.write_all(&[b'x'; LONG / 2]).await?;
            sleep(ARRIVAL).await;
            stream.set_zero_linger()?;
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        Way::Whole | Way::Reset | Way::Hang => {}
    }
    stream.flush().await
}
