//! What came in on a connection, and how much of it hyper may have.

use bytes::{Buf, BytesMut};
use tokio::io::ReadBuf;

use super::{
    frames::{Flood, Frames},
    refuse,
    requests::{Requests, Stop},
    watch::Refused,
};

/// Gives hyper a head only when it is whole and good. In place of one that is not it gives [`STAND_IN`], so that the
/// refusal is answered in its turn, behind the requests before it; what comes behind is never given.
pub(super) struct Inbox {
    speaks: Speaks,
    max_fields: usize,
    /// First what may be given, then the start of a head.
    held: BytesMut,
    may_give: usize,
    closed: bool,
}

/// What the peer speaks.
enum Speaks {
    /// Too little came to tell.
    Unknown,
    Http1(Requests),
    Http2(Frames),
    /// Whatever an upgraded connection does.
    Other,
}

/// Why nothing more is given.
#[derive(Debug)]
pub(super) enum End {
    /// A head is not taken.
    Refused(Refused),
    /// A body has no clear end.
    Body,
    /// Too much of what asks for nothing.
    Flood,
}

/// How a connection of HTTP/2 begins (RFC 9113, section 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// What hyper reads in place of a head that is refused.
const STAND_IN: &[u8] = b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";

/// The same for HEAD, whose answer has no body.
const STAND_IN_FOR_HEAD: &[u8] = b"HEAD / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";

impl Inbox {
    pub(super) fn new(max_fields: usize) -> Self {
        Self { speaks: Speaks::Unknown, max_fields, held: BytesMut::new(), may_give: 0, closed: false }
    }

    /// Whether nothing waits here, so that hyper's own buffer may be read into before [`Inbox::take`] judges.
    pub(super) fn is_straight(&self) -> bool {
        self.held.is_empty() && !matches!(self.speaks, Speaks::Unknown)
    }

    /// Whether a head, or a frame, has begun and is not whole.
    pub(super) fn in_head(&self) -> bool {
        match &self.speaks {
            _ if self.closed => false,
            Speaks::Http2(frames) => frames.is_open(),
            _ => self.held.len() > self.may_give,
        }
    }

    /// Whether the peer may still be sending what nobody will read.
    pub(super) fn is_cut(&self) -> bool {
        self.closed || matches!(&self.speaks, Speaks::Http1(requests) if requests.in_body())
    }

    /// Whether nothing comes behind what may still be given.
    pub(super) fn is_closed(&self) -> bool {
        self.closed
    }

    /// The connection speaks something else from here on.
    pub(super) fn upgrade(&mut self) {
        self.speaks = Speaks::Other;
        self.may_give = self.held.len();
    }

    /// So many bytes went out.
    pub(super) fn sent(&mut self, bytes: usize) {
        if let Speaks::Http2(frames) = &mut self.speaks {
            frames.sent(bytes);
        }
    }

    /// Takes in what came. So many of these bytes may be given as they are, the others are kept or dropped.
    pub(super) fn take(&mut self, bytes: &[u8]) -> (usize, Option<End>) {
        let straight = self.is_straight();
        if !straight {
            self.held.extend_from_slice(bytes);
        }
        let came = if straight { bytes } else { &self.held[self.may_give..] };
        let (passed, end) = self.speaks.pass(came, self.max_fields);
        let as_head = came[passed..].starts_with(b"HEAD ");
        if straight && end.is_none() {
            self.held.extend_from_slice(&bytes[passed..]);
        }
        if !straight {
            self.may_give += passed;
        }
        if let Some(end) = &end {
            self.close(matches!(end, End::Refused(_)).then_some(as_head));
        }
        (if straight { passed } else { 0 }, end)
    }

    fn close(&mut self, refused_as_head: Option<bool>) {
        self.closed = true;
        self.held.truncate(self.may_give);
        if let Some(as_head) = refused_as_head {
            self.held.extend_from_slice(if as_head { STAND_IN_FOR_HEAD } else { STAND_IN });
        }
        self.may_give = self.held.len();
    }

    /// Gives what may be given. False when that is nothing.
    pub(super) fn give(&mut self, buf: &mut ReadBuf<'_>) -> bool {
        if self.may_give == 0 {
            return false;
        }
        let part = self.may_give.min(buf.remaining());
        buf.put_slice(&self.held[..part]);
        self.held.advance(part);
        self.may_give -= part;
        if self.held.is_empty() {
            // An idle connection keeps no memory.
            self.held = BytesMut::new();
        }
        true
    }
}

impl Speaks {
    fn pass(&mut self, bytes: &[u8], max_fields: usize) -> (usize, Option<End>) {
        match self {
            Self::Unknown if bytes.len() < PREFACE.len() && PREFACE.starts_with(bytes) => (0, None),
            Self::Unknown => {
                *self = if bytes.starts_with(PREFACE) {
                    Self::Http2(Frames::behind(PREFACE.len()))
                } else {
                    Self::Http1(Requests::new(max_fields))
                };
                self.pass(bytes, max_fields)
            }
            Self::Http1(requests) => {
                let (passed, stop) = requests.pass(bytes);
                let end = stop.map(|stop| match stop {
                    Stop::Body => End::Body,
                    Stop::Head(refusal) => {
                        let path = refuse::path_of(&bytes[passed..]);
                        End::Refused(Refused { after: requests.heads(), refusal, path })
                    }
                });
                (passed, end)
            }
            Self::Http2(frames) => match frames.pass(bytes) {
                Ok(()) => (bytes.len(), None),
                Err(Flood) => (0, Some(End::Flood)),
            },
            Self::Other => (bytes.len(), None),
        }
    }
}

#[cfg(test)]
mod tests;
