//! One connection, from its first byte to its last.

use std::{
    future::poll_fn,
    net::SocketAddr,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use metrics::counter;
use tokio::{
    net::TcpStream,
    task::unconstrained,
    time::{Instant, Sleep, sleep_until},
};

use super::{
    Limits, Server,
    answer::answer,
    places::Place,
    watch::{Activity, Overdue, Watch},
    wire::Wire,
};

/// Serves one connection until it ends or is overdue. Once `drain` is done, it ends with its open requests.
pub(super) async fn run(
    server: Arc<Server>,
    stream: TcpStream,
    peer: SocketAddr,
    place: Place,
    drain: impl Future<Output = ()>,
) {
    // Without it a small answer can wait for the acknowledgement of the one before. Fails on a dead socket only.
    let _ = stream.set_nodelay(true);
    let activity = Arc::<Activity>::default();
    let wire = Wire::new(stream, Arc::clone(&activity), &server.limits, place);
    let service = service_fn(|request| answer(&server, &activity, peer, request));
    let mut http = pin!(server.http.serve_connection_with_upgrades(TokioIo::new(wire), service));
    let mut deadline = Deadline::new(&activity, &server.limits);
    let mut timer = pin!(sleep_until(deadline.armed));
    let mut drain = pin!(drain);
    let (mut leaving, mut known) = (false, None);

    let overdue = poll_fn(|cx| {
        loop {
            if let Poll::Ready(ended) = http.as_mut().poll(cx) {
                return Poll::Ready(after(ended, &activity));
            }
            if !is_known(&mut known, cx.waker()) {
                // Both keep the waker, so polling them once is enough, and they are not cheap.
                register(drain.as_mut(), cx);
                register(timer.as_mut(), cx);
            }
            let asked = !leaving && server.draining();
            match deadline.poll(timer.as_mut(), cx) {
                Poll::Ready(Overdue::Idle) if !leaving => deadline.watch.leave(),
                Poll::Ready(overdue) => return Poll::Ready(Some(overdue)),
                Poll::Pending if asked => {}
                Poll::Pending => return Poll::Pending,
            }
            leaving = true;
            http.as_mut().graceful_shutdown();
        }
    });
    if let Some(overdue) = overdue.await {
        counter!("taskpost_http_connections_closed_total", "reason" => overdue.name()).increment(1);
    }
}

/// Whether `waker` is the one that was known before; it is from now on.
fn is_known(known: &mut Option<Waker>, waker: &Waker) -> bool {
    if known.as_ref().is_some_and(|known| known.will_wake(waker)) {
        return true;
    }
    *known = Some(waker.clone());
    false
}

/// Lets `future` wake this task. Outside tokio's budget: out of it, a poll would wake the task but register nothing.
fn register(future: Pin<&mut impl Future>, cx: &mut Context<'_>) {
    let _ = pin!(unconstrained(future)).poll(cx);
}

/// What was overdue on a connection that ended by itself.
fn after(
    ended: Result<(), Box<dyn std::error::Error + Send + Sync>>,
    activity: &Activity,
) -> Option<Overdue> {
    if let Err(error) = ended {
        tracing::debug!(error, "a connection broke");
    }
    activity.overdue()
}

/// The timer of a connection. It is rarely set: only to an earlier time, or when it rings and nothing is overdue.
struct Deadline<'a> {
    watch: Watch,
    activity: &'a Activity,
    limits: &'a Limits,
    armed: Instant,
}

impl<'a> Deadline<'a> {
    fn new(activity: &'a Activity, limits: &'a Limits) -> Self {
        Self { watch: Watch::new(), activity, limits, armed: Instant::now() + limits.first_byte }
    }

    fn poll(&mut self, mut timer: Pin<&mut Sleep>, cx: &mut Context<'_>) -> Poll<Overdue> {
        self.watch.look(self.activity);
        let due = self.watch.due(self.activity, self.limits);
        if let Some((due, _)) = due
            && due < self.armed
        {
            self.arm(due, timer.as_mut(), cx);
        }
        // A timer that was set before knows this task's waker.
        while timer.is_elapsed() {
            let now = Instant::now();
            match due {
                Some((due, overdue)) if due <= now => return Poll::Ready(overdue),
                Some((due, _)) => self.arm(due, timer.as_mut(), cx),
                None => self.arm(now + LOOK_AGAIN, timer.as_mut(), cx),
            }
        }
        Poll::Pending
    }

    fn arm(&mut self, at: Instant, mut timer: Pin<&mut Sleep>, cx: &mut Context<'_>) {
        self.armed = at;
        timer.as_mut().reset(at);
        // When it is due at once, the caller sees it elapsed.
        register(timer, cx);
    }
}

/// While nothing limits a connection.
const LOOK_AGAIN: Duration = Duration::from_secs(30);
