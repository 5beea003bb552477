//! The socket as hyper sees it: judges what comes in before hyper has it, and fails when what goes out is not taken.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::{Sleep, sleep},
};

use super::{
    Limits,
    inbox::{End, Inbox},
    places::Place,
    watch::{Activity, Overdue},
};

/// A socket with its place, which lasts as long as the socket does, also past an upgrade.
pub(super) struct Wire {
    stream: TcpStream,
    activity: Arc<Activity>,
    inbox: Inbox,
    write_stall: Duration,
    /// Runs while a write waits for room.
    stall: Option<Pin<Box<Sleep>>>,
    /// From our last byte on, while the peer may still be sending: how long, and how many bytes more.
    linger: Option<(Pin<Box<Sleep>>, usize)>,
    _place: Place,
}

/// How long a client that is still sending may take to read its answer and go, and how much more it may send: enough
/// for the largest body.
const LINGER: (Duration, usize) = (Duration::from_secs(1), 8 * 1024 * 1024);

/// How much is read at once of what hyper may not have yet.
const PART: usize = 4 * 1024;

impl Wire {
    pub(super) fn new(stream: TcpStream, activity: Arc<Activity>, limits: &Limits, place: Place) -> Self {
        let inbox = Inbox::new(limits.max_headers);
        let write_stall = limits.write_stall;
        Self { stream, activity, inbox, write_stall, stall: None, linger: None, _place: place }
    }

    /// Reads into hyper's buffer and takes back what it may not have.
    fn read_straight(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<usize>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
        let came = buf.filled().len() - before;
        let passed = self.take(&buf.filled()[before..]);
        buf.set_filled(before + passed);
        Poll::Ready(Ok(came))
    }

    /// Reads what hyper may not have yet.
    fn read_aside(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let mut part = [0; PART];
        let mut part = ReadBuf::new(&mut part);
        ready!(Pin::new(&mut self.stream).poll_read(cx, &mut part))?;
        self.take(part.filled());
        Poll::Ready(Ok(part.filled().len()))
    }

    /// What hyper reads behind the last that it is given: nothing, or that it is broken.
    fn after_last(&self) -> Poll<io::Result<()>> {
        if self.activity.is_refused() {
            // hyper closes by itself once the refusal is answered.
            return Poll::Pending;
        }
        Poll::Ready(Err(io::ErrorKind::InvalidData.into()))
    }

    fn take(&mut self, bytes: &[u8]) -> usize {
        let (passed, end) = self.inbox.take(bytes);
        match end {
            Some(End::Refused(refused)) => self.activity.refuse(refused),
            Some(End::Flood) => self.activity.breaks(Overdue::Flood),
            Some(End::Body) | None => {}
        }
        self.activity.read(self.inbox.in_head());
        passed
    }

    /// Passes on what a write gave, or fails it when none has had room for the whole deadline.
    fn watch_write(
        &mut self,
        cx: &mut Context<'_>,
        wrote: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        if let Poll::Ready(done) = &wrote {
            self.inbox.sent(*done.as_ref().unwrap_or(&0));
            if self.stall.take().is_some() {
                self.activity.write_waits(false);
            }
            return wrote;
        }
        self.activity.write_waits(true);
        let deadline = self.stall.get_or_insert_with(|| Box::pin(sleep(self.write_stall)));
        if deadline.as_mut().poll(cx).is_pending() {
            return Poll::Pending;
        }
        self.activity.breaks(Overdue::WriteStall);
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.activity.is_upgraded() {
            self.inbox.upgrade();
        }
        let before = buf.filled().len();
        loop {
            if self.inbox.give(buf) {
                return Poll::Ready(Ok(()));
            }
            if self.inbox.is_closed() {
                return self.after_last();
            }
            let came = if self.inbox.is_straight() {
                ready!(self.read_straight(cx, buf))?
            } else {
                ready!(self.read_aside(cx))?
            };
            if came == 0 || buf.filled().len() > before {
                return Poll::Ready(Ok(()));
            }
        }
    }
}

impl AsyncWrite for Wire {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let wrote = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.watch_write(cx, wrote)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let wrote = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.watch_write(cx, wrote)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    /// Where the peer may still be sending, we read on for a while: closing over unread bytes would reset the
    /// connection, and with it the answer on its way (RFC 9112, section 9.6).
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.linger.is_none() {
            ready!(Pin::new(&mut this.stream).poll_shutdown(cx))?;
            if !this.inbox.is_cut() {
                return Poll::Ready(Ok(()));
            }
        }
        let (time, left) = this.linger.get_or_insert_with(|| (Box::pin(sleep(LINGER.0)), LINGER.1));
        let mut unread = [0; PART];
        while *left > 0 && time.as_mut().poll(cx).is_pending() {
            let mut unread = ReadBuf::new(&mut unread);
            let read = ready!(Pin::new(&mut this.stream).poll_read(cx, &mut unread));
            if read.is_err() || unread.filled().is_empty() {
                break;
            }
            *left = left.saturating_sub(unread.filled().len());
        }
        Poll::Ready(Ok(()))
    }
}
