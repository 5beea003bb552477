//! A collector of traces: takes OTLP over HTTP and reads as much of its protobuf as a test asks about.

use std::{collections::BTreeMap, net::SocketAddr};

use tokio::{
    io::{self, AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinSet,
    time::timeout,
};

use crate::PATIENCE;

/// A span as it came.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CollectedSpan {
    /// Its trace: 32 hexadecimal digits.
    pub trace_id: String,
    /// Its id: 16 hexadecimal digits.
    pub span_id: String,
    /// Its parent's id; empty for the first of a trace.
    pub parent_id: String,
    /// What it is.
    pub name: String,
    /// What else is said of it.
    pub attributes: BTreeMap<String, String>,
    /// The traces and spans that it also goes back to.
    pub links: Vec<(String, String)>,
    /// What is said of the process that it comes from.
    pub resource: BTreeMap<String, String>,
}

/// A collector on a free port of this machine. Ends when it is dropped.
#[derive(Debug)]
pub struct Collector {
    address: SocketAddr,
    spans: watch::Sender<Vec<CollectedSpan>>,
    _server: JoinSet<()>,
}

impl Collector {
    /// Starts one.
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let spans = watch::Sender::new(Vec::new());
        let mut server = JoinSet::new();
        server.spawn(accept(listener, spans.clone()));
        Self { address, spans, _server: server }
    }

    /// What `OTEL_EXPORTER_OTLP_ENDPOINT` has to be.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// What came so far.
    pub fn spans(&self) -> Vec<CollectedSpan> {
        self.spans.borrow().clone()
    }

    /// Waits until there is a span that `is_it`.
    pub async fn wait_for(&self, what: &str, is_it: impl Fn(&CollectedSpan) -> bool) -> CollectedSpan {
        let mut watched = self.spans.subscribe();
        let came = timeout(PATIENCE, watched.wait_for(|spans| spans.iter().any(&is_it))).await.is_ok();
        assert!(came, "no span: {what}, among {:#?}", self.spans());
        self.spans().into_iter().find(is_it).expect("it has come")
    }
}

async fn accept(listener: TcpListener, spans: watch::Sender<Vec<CollectedSpan>>) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let spans = spans.clone();
        connections.spawn(async move {
            // A client may go away at any time.
            let _ = serve(stream, &spans).await;
        });
    }
}

/// One connection, request after request.
async fn serve(stream: TcpStream, spans: &watch::Sender<Vec<CollectedSpan>>) -> io::Result<()> {
    let mut stream = BufReader::new(stream);
    while let Some((path, body)) = read(&mut stream).await? {
        let found = (path == "/v1/traces").then(|| decode(&body)).flatten();
        let status = if found.is_some() { "200 OK" } else { "400 Bad Request" };
        spans.send_modify(|all| all.extend(found.unwrap_or_default()));
        let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n");
        stream.write_all(answer.as_bytes()).await?;
    }
    Ok(())
}

/// The path and the body of the next request; `None` when the client has gone.
async fn read(stream: &mut BufReader<TcpStream>) -> io::Result<Option<(String, Vec<u8>)>> {
    let mut line = String::new();
    if stream.read_line(&mut line).await? == 0 {
        return Ok(None);
    }
    let path = line.split(' ').nth(1).unwrap_or_default().to_owned();
    let mut length = 0;
    loop {
        line.clear();
        stream.read_line(&mut line).await?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        if name.eq_ignore_ascii_case("content-length") {
            length = value.trim().parse().map_err(io::Error::other)?;
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await?;
    Ok(Some((path, body)))
}

/// The spans of an ExportTraceServiceRequest; `None` when it is not protobuf.
fn decode(request: &[u8]) -> Option<Vec<CollectedSpan>> {
    let mut spans = Vec::new();
    for resource_spans in messages(request, 1)? {
        let resource = messages(resource_spans, 1)?.first().map(|resource| attributes(resource, 1));
        let resource = resource.unwrap_or_else(|| Some(BTreeMap::new()))?;
        for scope_spans in messages(resource_spans, 2)? {
            for span in messages(scope_spans, 2)? {
                spans.push(self::span(span, resource.clone())?);
            }
        }
    }
    Some(spans)
}

fn span(bytes: &[u8], resource: BTreeMap<String, String>) -> Option<CollectedSpan> {
    let id = |number| Some(hexadecimal(messages(bytes, number)?.first().copied().unwrap_or_default()));
    let mut links = Vec::new();
    for link in messages(bytes, 13)? {
        let id = |number| Some(hexadecimal(messages(link, number)?.first().copied()?));
        links.push((id(1)?, id(2)?));
    }
    Some(CollectedSpan {
        trace_id: id(1)?,
        span_id: id(2)?,
        parent_id: id(4)?,
        name: text(messages(bytes, 5)?.first().copied().unwrap_or_default()),
        attributes: attributes(bytes, 9)?,
        links,
        resource,
    })
}

/// Pairs of key and AnyValue, of which texts, booleans and whole numbers are read.
fn attributes(bytes: &[u8], number: u64) -> Option<BTreeMap<String, String>> {
    let mut found = BTreeMap::new();
    for pair in messages(bytes, number)? {
        let key = text(messages(pair, 1)?.first().copied()?);
        let value = fields(messages(pair, 2)?.first().copied()?)?.into_iter().next()?;
        let value = match value {
            (1, Field::Bytes(value)) => text(value),
            (_, Field::Number(value)) => value.to_string(),
            _ => continue,
        };
        found.insert(key, value);
    }
    Some(found)
}

enum Field<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

/// The contents of each field of this number that has a length.
fn messages(bytes: &[u8], number: u64) -> Option<Vec<&[u8]>> {
    let of = |(known, field)| match field {
        Field::Bytes(content) if known == number => Some(content),
        _ => None,
    };
    Some(fields(bytes)?.into_iter().filter_map(of).collect())
}

/// The fields of a message, in their order.
fn fields(mut bytes: &[u8]) -> Option<Vec<(u64, Field<'_>)>> {
    let mut found = Vec::new();
    while !bytes.is_empty() {
        let tag = varint(&mut bytes)?;
        let length = match tag & 7 {
            0 => {
                found.push((tag >> 3, Field::Number(varint(&mut bytes)?)));
                continue;
            }
            1 => 8,
            2 => usize::try_from(varint(&mut bytes)?).ok()?,
            5 => 4,
            _ => return None,
        };
        let (content, rest) = bytes.split_at_checked(length)?;
        bytes = rest;
        found.push((tag >> 3, Field::Bytes(content)));
    }
    Some(found)
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (first, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(first & 0x7f) << shift;
        if first & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |text, byte| format!("{text}{byte:02x}"))
}
