//! What a client hears that gets no further than its connection: problems (RFC 9457), as everywhere.

use std::{sync::Arc, time::Duration};

use axum::body::Body;
use http::{HeaderName, HeaderValue, Response, StatusCode, header};
use metrics::counter;
use taskpost_common::{
    Clock,
    problem::{Code, Problem},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::Semaphore,
};
use uuid::Uuid;

use super::refusal::Refusal;

/// The answer, named by `id`, to a request for `path` whose head is not taken.
pub(super) fn answer(refusal: Refusal, path: &str, id: Uuid) -> Response<Body> {
    let (code, reason, detail) = refusal.row();
    counter!("taskpost_http_heads_refused_total", "reason" => reason).increment(1);
    tracing::debug!(reason, trace_id = %id.simple(), "a request was refused");
    let mut response = Response::new(Body::from(problem(code, detail, path, id)));
    *response.status_mut() = StatusCode::from_u16(code.status()).unwrap_or(StatusCode::BAD_REQUEST);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    if let Ok(id) = HeaderValue::from_str(id.hyphenated().encode_lower(&mut Uuid::encode_buffer())) {
        headers.insert(REQUEST_ID, id);
    }
    response
}

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

fn problem(code: Code, detail: &str, path: &str, id: Uuid) -> Vec<u8> {
    let mut problem = Problem::new(code, detail, Vec::new());
    problem.instance = Some(path.to_owned());
    problem.trace_id = Some(id.simple().to_string());
    serde_json::to_vec(&problem).unwrap_or_default()
}

/// The path that the first line of a head asks for, as far as it can be read.
pub(super) fn path_of(head: &[u8]) -> String {
    const LONGEST: usize = 1_024;
    let line = head.trim_ascii_start().split(|byte| matches!(byte, b'\r' | b'\n')).next().unwrap_or_default();
    let target = line.split(|byte| *byte == b' ').nth(1).unwrap_or_default();
    let path = target.split(|byte| *byte == b'?').next().unwrap_or_default();
    let path = std::str::from_utf8(path).unwrap_or_default();
    if !path.starts_with('/') {
        return "/".to_owned();
    }
    path.chars().take_while(|c| !c.is_control()).take(LONGEST).collect()
}

/// Says goodbye to a few clients at a time that find every place taken; the others are closed without a word.
///
/// A 503 tells a client and a balancer at once what waiting in the kernel's queue would tell them by a time-out.
pub(super) struct Refuser {
    turns: Arc<Semaphore>,
}

impl Default for Refuser {
    fn default() -> Self {
        Self { turns: Arc::new(Semaphore::new(AT_ONCE)) }
    }
}

impl Refuser {
    /// The goodbye to run, unless too many are being said.
    pub(super) fn goodbye(
        &self,
        stream: TcpStream,
        ids: &Clock,
    ) -> Option<impl Future<Output = ()> + Send + 'static> {
        let turn = Arc::clone(&self.turns).try_acquire_owned().ok()?;
        let busy = busy(ids.id());
        Some(async move {
            // Whether it is heard is the client's affair.
            let _ = tokio::time::timeout(PATIENCE, say(stream, &busy)).await;
            drop(turn);
        })
    }
}

const AT_ONCE: usize = 64;
const PATIENCE: Duration = Duration::from_secs(1);

/// A client that speaks HTTP/2 from the start sees a broken connection, as it would anyhow.
fn busy(id: Uuid) -> Vec<u8> {
    let body =
        problem(Code::Unavailable, "there are too many connections; try again after a moment", "/", id);
    let head = format!(
        "HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nConnection: close\r\nCache-Control: no-store\r\nContent-Type: application/problem+json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), &body].concat()
}

/// Reads until the client closes: closing over unread bytes would reset the connection, and the answer with it
/// (RFC 9112, section 9.6).
async fn say(mut stream: TcpStream, busy: &[u8]) -> std::io::Result<()> {
    stream.write_all(busy).await?;
    stream.shutdown().await?;
    let mut unread = [0; 1024];
    while stream.read(&mut unread).await? > 0 {}
    Ok(())
}
