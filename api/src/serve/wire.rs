//! The socket as hyper sees it: counts what comes in, and fails when what goes out is not taken.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::{Sleep, sleep},
};

use super::{places::Place, watch::Activity};

/// A socket with its place, which lasts as long as the socket does, also past an upgrade.
pub(super) struct Wire {
    stream: TcpStream,
    activity: Arc<Activity>,
    write_stall: Duration,
    /// Runs while a write waits for room.
    stall: Option<Pin<Box<Sleep>>>,
    preface: Preface,
    _place: Place,
}

impl Wire {
    pub(super) fn new(
        stream: TcpStream,
        activity: Arc<Activity>,
        write_stall: Duration,
        place: Place,
    ) -> Self {
        Self { stream, activity, write_stall, stall: None, preface: Preface::Matched(0), _place: place }
    }

    fn note_read(&mut self, bytes: &[u8]) {
        self.activity.read(bytes.len());
        if let Preface::Matched(_) = self.preface {
            self.preface.read(bytes);
            if matches!(self.preface, Preface::Complete) {
                self.activity.speaks_h2();
            }
        }
    }

    /// Passes on what a write gave, or fails it when none has had room for the whole deadline.
    fn watch_write(
        &mut self,
        cx: &mut Context<'_>,
        wrote: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        if wrote.is_ready() {
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
        self.activity.write_stalled();
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

/// How much of the HTTP/2 connection preface came in (RFC 9113, section 3.4).
enum Preface {
    /// So many bytes, all of them right.
    Matched(usize),
    /// All of it.
    Complete,
    /// Something else: HTTP/1.
    Other,
}

impl Preface {
    const BYTES: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

    fn read(&mut self, bytes: &[u8]) {
        let Self::Matched(before) = *self else { return };
        let missing = &Self::BYTES[before..];
        *self = if bytes.starts_with(missing) {
            Self::Complete
        } else if missing.starts_with(bytes) {
            Self::Matched(before + bytes.len())
        } else {
            Self::Other
        };
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(cx, buf);
        if polled.is_ready() {
            self.note_read(&buf.filled()[before..]);
        }
        polled
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

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_preface_is_known_in_any_pieces() {
        for size in 1..=Preface::BYTES.len() + 1 {
            let mut preface = Preface::Matched(0);
            for piece in [Preface::BYTES, b"frames"].concat().chunks(size) {
                preface.read(piece);
            }
            assert!(matches!(preface, Preface::Complete), "{size}");
        }
        for text in ["GET / HTTP/1.1\r\n", "PRI * HTTP/1.1\r\n", "PRI * HTTP/2.0\r\n\r\nSM\r\n\rX"] {
            let mut preface = Preface::Matched(0);
            preface.read(text.as_bytes());
            assert!(matches!(preface, Preface::Other), "{text}");
        }
    }
}
