//! From a request to its answer's last byte: tells the connection what is open.

use std::{
    convert::Infallible,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use axum::{
    body::{Body, Bytes, HttpBody},
    extract::ConnectInfo,
};
use http::{Request, Response, StatusCode, Version};
use hyper::body::{Frame, Incoming, SizeHint};
use tower::Service as _;

use super::{Server, refuse, watch::Activity};

/// Hands a request to the router, with its peer's address, unless it only stands for one that was refused.
pub(super) fn answer(
    server: &Server,
    activity: &Arc<Activity>,
    peer: SocketAddr,
    mut request: Request<Incoming>,
) -> impl Future<Output = Result<Response<Answer>, Infallible>> + Send + use<> {
    let refused = activity.begin();
    let open = Open { activity: Arc::clone(activity), h2: request.version() == Version::HTTP_2, owes: false };
    let answering = if let Some(refused) = refused {
        Err(refuse::answer(refused.refusal, &refused.path, server.ids.id()))
    } else {
        request.extensions_mut().insert(ConnectInfo(peer));
        // The router is always ready, and a clone is a count.
        Ok(server.router.clone().call(request))
    };
    async move {
        let response = match answering {
            Ok(answering) => answering.await?,
            Err(refused) => refused,
        };
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            open.activity.upgrade();
        }
        Ok(response.map(|body| Answer { body, rest: Bytes::new(), open }))
    }
}

/// An answer's body, whose end is the request's.
pub(super) struct Answer {
    body: Body,
    /// What is left of a frame that was too large to give at once.
    rest: Bytes,
    open: Open,
}

/// The most given at once to an HTTP/2 stream, in bytes. hyper takes a frame of any size off our hands and keeps it
/// until the client has room, which we could not see.
const PART: usize = 16 * 1024;

impl Answer {
    fn part(&mut self) -> Frame<Bytes> {
        Frame::data(self.rest.split_to(self.rest.len().min(PART)))
    }
}

impl HttpBody for Answer {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        let polled = if self.rest.is_empty() {
            Pin::new(&mut self.body).poll_frame(cx)
        } else {
            Poll::Ready(Some(Ok(self.part())))
        };
        if !self.open.h2 {
            return polled;
        }
        self.open.owes(polled.is_ready());
        match polled {
            Poll::Ready(Some(Ok(frame))) if frame.data_ref().is_some_and(|data| data.len() > PART) => {
                self.rest = frame.into_data().unwrap_or_default();
                Poll::Ready(Some(Ok(self.part())))
            }
            other => other,
        }
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let (rest, body) = (self.rest.len() as u64, self.body.size_hint());
        let mut hint = SizeHint::new();
        hint.set_lower(body.lower() + rest);
        if let Some(upper) = body.upper() {
            hint.set_upper(upper + rest);
        }
        hint
    }
}

/// A request that is not done.
struct Open {
    activity: Arc<Activity>,
    h2: bool,
    owes: bool,
}

impl Open {
    /// Whether the peer's window is what the body waits for: hyper asks it for more only when there is room, so from
    /// giving a frame until it is asked again, the rest is owed. HTTP/2 only: on HTTP/1 the socket tells.
    fn owes(&mut self, owes: bool) {
        if owes {
            self.activity.progress();
        }
        if owes != self.owes {
            self.owes = owes;
            self.activity.owes(owes);
        }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        if self.owes {
            self.activity.owes(false);
        }
        self.activity.end();
    }
}
