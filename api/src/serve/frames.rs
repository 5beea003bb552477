//! Follows the frames of an HTTP/2 connection: whether the peer is in the middle of something, and whether it floods us.
//!
//! The h2 crate limits headers, streams and resets that wait. What it answers at once (PING, SETTINGS) or merely reads it
//! takes without end.

use std::time::{Duration, Instant};

/// The peer sends far more control frames than its requests need.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Flood;

/// Where a connection stands among its frames (RFC 9113, section 4.1).
pub(super) struct Frames {
    head: [u8; HEAD],
    /// So many bytes of the head are there.
    known: usize,
    /// So many bytes of the payload are to come.
    left: usize,
    /// A field block goes on in the next frame.
    block: bool,
    /// Control frames that came, and bytes that we sent, since then.
    control: usize,
    sent: usize,
    since: Instant,
}

/// Length, type, flags and stream.
const HEAD: usize = 9;

/// The types of frames that matter here (RFC 9113, section 6).
mod kind {
    pub(super) const DATA: u8 = 0;
    pub(super) const HEADERS: u8 = 1;
    pub(super) const GOAWAY: u8 = 7;
    pub(super) const WINDOW_UPDATE: u8 = 8;
    pub(super) const CONTINUATION: u8 = 9;
}

const END_HEADERS: u8 = 4;

/// So many control frames may come in this time: PING, SETTINGS, RST_STREAM, PRIORITY and unknown ones.
const MOST_CONTROL: usize = 1_000;
const WINDOW: Duration = Duration::from_secs(10);

/// One more for so many bytes that we send: clients of gRPC measure the line by a PING for each answer or part of one.
/// The answer to a PING has 17.
const SENT_FOR_ONE: usize = 64;

impl Frames {
    /// Frames come behind so many bytes.
    pub(super) fn behind(bytes: usize) -> Self {
        Self {
            head: [0; HEAD],
            known: 0,
            left: bytes,
            block: false,
            control: 0,
            sent: 0,
            since: Instant::now(),
        }
    }

    /// Whether a frame, or the header of a request, is not whole.
    pub(super) fn is_open(&self) -> bool {
        self.block || self.known > 0 || self.left > 0
    }

    /// So many bytes went out.
    pub(super) fn sent(&mut self, bytes: usize) {
        self.sent = self.sent.saturating_add(bytes);
    }

    /// Takes in what came.
    pub(super) fn pass(&mut self, mut bytes: &[u8]) -> Result<(), Flood> {
        while !bytes.is_empty() {
            if self.left > 0 {
                let step = self.left.min(bytes.len());
                self.left -= step;
                bytes = &bytes[step..];
                continue;
            }
            let step = (HEAD - self.known).min(bytes.len());
            self.head[self.known..self.known + step].copy_from_slice(&bytes[..step]);
            self.known += step;
            bytes = &bytes[step..];
            if self.known == HEAD {
                self.known = 0;
                self.begin()?;
            }
        }
        Ok(())
    }

    /// A frame's head is whole.
    fn begin(&mut self) -> Result<(), Flood> {
        let [high, middle, low, kind, flags, ..] = self.head;
        self.left = usize::from(high) << 16 | usize::from(middle) << 8 | usize::from(low);
        match kind {
            kind::HEADERS | kind::CONTINUATION => self.block = flags & END_HEADERS == 0,
            kind::DATA | kind::GOAWAY | kind::WINDOW_UPDATE => {}
            _ => return self.count(),
        }
        Ok(())
    }

    /// Looks at the time only when there were many.
    fn count(&mut self) -> Result<(), Flood> {
        self.control += 1;
        if self.control < MOST_CONTROL + self.sent / SENT_FOR_ONE {
            return Ok(());
        }
        if self.since.elapsed() < WINDOW {
            return Err(Flood);
        }
        (self.control, self.sent, self.since) = (0, 0, Instant::now());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PING: u8 = 6;

    fn frame(kind: u8, flags: u8, payload: usize) -> Vec<u8> {
        let length = u32::try_from(payload).unwrap().to_be_bytes();
        [&length[1..], &[kind, flags, 0, 0, 0, 1], &vec![0; payload]].concat()
    }

    #[test]
    fn frames_are_followed_in_any_pieces() {
        let whole = [
            frame(kind::HEADERS, 0, 300),
            frame(kind::CONTINUATION, END_HEADERS, 70_000),
            frame(kind::DATA, 0, 0),
            frame(PING, 0, 8),
        ]
        .concat();
        for size in [1, 2, 8, 9, 10, 309, 1_000, whole.len()] {
            let mut frames = Frames::behind(0);
            let mut open_until = 0;
            for (place, piece) in whole.chunks(size).enumerate() {
                frames.pass(piece).unwrap();
                if frames.is_open() {
                    open_until = place;
                }
            }
            assert!(!frames.is_open() && frames.control == 1, "{size}");
            assert!(size == whole.len() || open_until > 0, "{size}");
        }
        let mut frames = Frames::behind(0);
        frames.pass(&frame(kind::HEADERS, 0, 10)).unwrap();
        assert!(frames.is_open(), "a block that goes on is open between its frames");
    }

    #[test]
    fn what_asks_for_nothing_may_come_only_so_often() {
        for (kind, counts) in
            [(PING, true), (4, true), (3, true), (2, true), (200, true), (0, false), (8, false)]
        {
            let mut frames = Frames::behind(0);
            let flood = frame(kind, 0, 8).repeat(MOST_CONTROL);
            assert_eq!(frames.pass(&flood), if counts { Err(Flood) } else { Ok(()) }, "{kind}");
        }
    }

    #[test]
    fn who_measures_the_line_of_an_answer_is_no_flood() {
        let ping = frame(PING, 0, 8);
        let pings = |answer: usize| {
            let mut frames = Frames::behind(0);
            (0..20 * MOST_CONTROL).try_for_each(|_| {
                frames.sent(answer + ping.len());
                frames.pass(&ping)
            })
        };
        assert_eq!(pings(60), Ok(()));
        assert_eq!(pings(0), Err(Flood), "the answers to the pings do not count for much");
    }

    #[test]
    fn many_of_them_in_a_long_time_are_no_flood() {
        let mut frames = Frames::behind(0);
        let some = frame(PING, 0, 8).repeat(MOST_CONTROL - 1);
        frames.pass(&some).unwrap();
        frames.since = frames.since.checked_sub(WINDOW).unwrap();
        frames.pass(&some).unwrap();
        assert_eq!(frames.pass(&some), Err(Flood));
    }
}
