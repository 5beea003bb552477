//! A receiver of webhooks on this machine, which takes everything at once.

use std::{
    convert::Infallible,
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::{Request, Response, StatusCode, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time::timeout,
};

use crate::posted::{self, Arrival};

/// How long a body may take, and how long it may be.
const PATIENCE: Duration = Duration::from_secs(10);
const LONGEST: usize = 1024 * 1024;

/// Ends when it is dropped.
#[derive(Debug)]
pub struct Receiver {
    address: SocketAddr,
    _server: JoinSet<()>,
}

type Tell = dyn Fn(Arrival) + Send + Sync;

impl Receiver {
    /// Listens on a free port of 127.0.0.1, and tells of every webhook that comes.
    pub async fn start(tell: impl Fn(Arrival) + Send + Sync + 'static) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.context("no port for webhooks")?;
        let address = listener.local_addr().context("the port for webhooks")?;
        let mut server = JoinSet::new();
        server.spawn(accept(listener, Arc::new(tell)));
        Ok(Self { address, _server: server })
    }

    /// Where webhooks go.
    pub fn url(&self) -> String {
        format!("http://{}/", self.address)
    }
}

async fn accept(listener: TcpListener, tell: Arc<Tell>) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        while connections.try_join_next().is_some() {}
        connections.spawn(serve(stream, Arc::clone(&tell)));
    }
}

async fn serve(stream: TcpStream, tell: Arc<Tell>) {
    // Without it answers may wait for the acknowledgement of earlier ones.
    let _slower = stream.set_nodelay(true);
    let service = service_fn(move |request| answer(request, Arc::clone(&tell)));
    // A client may go away at any time.
    let _gone = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}

async fn answer(request: Request<Incoming>, tell: Arc<Tell>) -> Result<Response<Empty<Bytes>>, Infallible> {
    let body = timeout(PATIENCE, Limited::new(request.into_body(), LONGEST).collect()).await;
    let mut answer = Response::new(Empty::new());
    match body {
        Ok(Ok(body)) => {
            let at = Instant::now();
            tell(Arrival { number: number(&body.to_bytes()), at });
            *answer.status_mut() = StatusCode::NO_CONTENT;
        }
        Ok(Err(_)) | Err(_) => *answer.status_mut() = StatusCode::BAD_REQUEST,
    }
    Ok(answer)
}

/// The number of the task that an event is about.
fn number(body: &[u8]) -> Option<usize> {
    #[derive(Deserialize)]
    struct Event {
        data: Data,
    }
    #[derive(Deserialize)]
    struct Data {
        task: Task,
    }
    #[derive(Deserialize)]
    struct Task {
        title: String,
    }
    let event: Event = serde_json::from_slice(body).ok()?;
    posted::number(&event.data.task.title)
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use serde_json::json;

    use super::*;

    #[tokio::test]
    async fn it_tells_which_task_came() {
        let came = Arc::new(Mutex::new(Vec::new()));
        let list = Arc::clone(&came);
        let receiver =
            Receiver::start(move |arrival| list.lock().unwrap().push(arrival.number)).await.unwrap();
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let event = json!({"type": "task.created", "data": {"task": {"title": posted::title(7)}}});
        for body in [event.to_string(), "{}".to_owned()] {
            let answer = client.post(receiver.url()).body(body).send().await.unwrap();
            assert_eq!(answer.status(), 204);
        }
        assert_eq!(*came.lock().unwrap(), [Some(7), None]);
    }
}
