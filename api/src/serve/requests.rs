//! Follows the requests of an HTTP/1 connection, so that each head is judged before hyper sees it, and only heads are.
//!
//! Only this and hyper's own reading say where a request ends, so both must agree: heads of which there could be two
//! readings are refused by [`head::check`], and in a body only its length or its chunks count.

use std::ops::Range;

use super::{
    MAX_HEAD,
    chunks::{BadChunk, Chunks},
    head::{self, Body, RequestLine},
    refusal::Refusal,
};

/// Where a connection stands.
pub(super) struct Requests {
    place: Place,
    max_fields: usize,
    heads: usize,
}

enum Place {
    Head(Search),
    /// So many bytes of a body are to come.
    Body(u64),
    Chunks(Chunks),
}

/// Why nothing behind may pass.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Stop {
    /// Such a head.
    Head(Refusal),
    /// Chunks without a clear end.
    Body,
}

impl Requests {
    pub(super) fn new(max_fields: usize) -> Self {
        Self { place: Place::Head(Search::default()), max_fields, heads: 0 }
    }

    /// How many heads have passed.
    pub(super) fn heads(&self) -> usize {
        self.heads
    }

    /// Whether a body is to go on.
    pub(super) fn in_body(&self) -> bool {
        !matches!(self.place, Place::Head(_))
    }

    /// How many of these bytes may pass, and why the next one may not. Without a reason it begins a head that is not
    /// whole: it is to be shown again, with what comes behind it.
    pub(super) fn pass(&mut self, bytes: &[u8]) -> (usize, Option<Stop>) {
        let mut passed = 0;
        while passed < bytes.len() {
            let rest = &bytes[passed..];
            match self.step(rest) {
                Ok(0) => break,
                Ok(more) => passed += more,
                Err((more, stop)) => return (passed + more, Some(stop)),
            }
        }
        (passed, None)
    }

    fn step(&mut self, bytes: &[u8]) -> Result<usize, (usize, Stop)> {
        match &mut self.place {
            Place::Head(search) => {
                let refused = |refusal| (0, Stop::Head(refusal));
                let Some(head) = search.find(bytes).map_err(refused)? else { return Ok(0) };
                let end = head.end;
                self.place = match head::check(&bytes[head], self.max_fields).map_err(refused)? {
                    Body::Length(0) => Place::Head(Search::default()),
                    Body::Length(length) => Place::Body(length),
                    Body::Chunked => Place::Chunks(Chunks::default()),
                };
                self.heads = self.heads.wrapping_add(1);
                Ok(end)
            }
            Place::Body(left) => {
                let step = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len());
                *left -= step as u64;
                if *left == 0 {
                    self.place = Place::Head(Search::default());
                }
                Ok(step)
            }
            Place::Chunks(chunks) => {
                let (step, done) = chunks.pass(bytes).map_err(|BadChunk(step)| (step, Stop::Body))?;
                if done {
                    self.place = Place::Head(Search::default());
                }
                Ok(step)
            }
        }
    }
}

/// Looks for the end of a head, at each of its bytes once.
#[derive(Default)]
struct Search {
    looked: usize,
    /// Where the line begins that has no end yet.
    line: usize,
    /// Where the request line begins: empty lines before it do not count (RFC 9112, section 2.2).
    start: Option<usize>,
    line_is_good: bool,
}

impl Search {
    /// The head, once it is whole. What can be told before is refused at once.
    fn find(&mut self, bytes: &[u8]) -> Result<Option<Range<usize>>, Refusal> {
        while let Some(step) = head::find(&bytes[self.looked..], b'\n') {
            let end = self.looked + step;
            if end == 0 || bytes[end - 1] != b'\r' {
                return Err(Refusal::BareLineFeed);
            }
            let line = self.line..end - 1;
            (self.looked, self.line) = (end + 1, end + 1);
            if end >= MAX_HEAD {
                return Err(self.too_large());
            }
            match self.start {
                Some(start) if line.is_empty() => return Ok(Some(start..end + 1)),
                None if !line.is_empty() => self.start = Some(line.start),
                _ => {}
            }
        }
        self.looked = bytes.len();
        self.judge_part(bytes)?;
        Ok(None)
    }

    fn too_large(&self) -> Refusal {
        if self.start.is_some() { Refusal::HeadTooLarge } else { Refusal::LineTooLong }
    }

    /// Nobody waits for the rest of what is no head anyhow, nor of one that is too large.
    fn judge_part(&mut self, bytes: &[u8]) -> Result<(), Refusal> {
        match self.start {
            _ if bytes.len() >= MAX_HEAD => Err(self.too_large()),
            None => match bytes.get(self.line) {
                Some(byte) if !head::may_begin(*byte) && *byte != b'\r' => Err(Refusal::RequestLine),
                _ => Ok(()),
            },
            Some(start) if !self.line_is_good => {
                let line = bytes[start..].split(|byte| *byte == b'\r').next().unwrap_or_default();
                self.line_is_good = true;
                RequestLine::read(line).map(drop)
            }
            Some(_) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests;
