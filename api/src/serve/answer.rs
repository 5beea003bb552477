//! From a request to its answer's last byte: tells the connection what is open.

use std::{
    convert::Infallible,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use axum::{
    Router,
    body::{Body, Bytes, HttpBody},
    extract::ConnectInfo,
};
use http::{Request, Response, Version};
use hyper::body::{Frame, Incoming, SizeHint};
use tower::Service as _;

use super::watch::Activity;

/// Hands a request to the router, with its peer's address.
pub(super) fn answer(
    router: &Router,
    activity: &Arc<Activity>,
    peer: SocketAddr,
    mut request: Request<Incoming>,
) -> impl Future<Output = Result<Response<Answer>, Infallible>> + Send + use<> {
    let open = Open::new(activity, request.version());
    request.extensions_mut().insert(ConnectInfo(peer));
    // The router is always ready, and a clone is a count.
    let answering = router.clone().call(request);
    async move { Ok(answering.await?.map(|body| Answer { body, open })) }
}

/// An answer's body, whose end is the request's.
pub(super) struct Answer {
    body: Body,
    open: Open,
}

impl HttpBody for Answer {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        self.open.owes(polled.is_ready());
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A request that is not done.
struct Open {
    activity: Arc<Activity>,
    h2: bool,
    owes: bool,
}

impl Open {
    fn new(activity: &Arc<Activity>, version: Version) -> Self {
        activity.begin();
        Self { activity: Arc::clone(activity), h2: version == Version::HTTP_2, owes: false }
    }

    /// Whether the peer's window is what the body waits for: hyper asks it for more only when there is room, so from
    /// giving a frame until it is asked again, the rest is owed. On HTTP/1 the socket tells.
    fn owes(&mut self, owes: bool) {
        if !self.h2 {
            return;
        }
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
