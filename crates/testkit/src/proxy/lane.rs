//! What has come in one direction and has not gone on, and when it may. Only decisions: no socket, no clock.

use std::{collections::VecDeque, time::Duration};

use tokio::time::Instant;

use super::Toxic;

/// How many bytes may wait; then the sender does.
const ROOM: usize = 1024 * 1024;

/// A limited bandwidth is given out in turns of this length.
const TURN: Duration = Duration::from_millis(10);

/// What came at one time.
#[derive(Debug)]
pub(super) enum Piece {
    Bytes(Vec<u8>),
    /// The sender has closed.
    End,
    /// The sender has reset.
    Reset,
}

/// What may be done now.
#[derive(Debug)]
pub(super) enum Step<'lane> {
    /// Write these; tell by [`Lane::passed`] how many went.
    Pass(&'lane [u8]),
    End,
    Reset,
    /// Nothing before this time.
    Wait(Instant),
    /// Nothing before something comes or the toxic changes.
    Rest,
}

#[derive(Debug)]
pub(super) struct Lane {
    /// Each with the time it came.
    queue: VecDeque<(Piece, Instant)>,
    /// How many bytes of the first piece have passed.
    passed: usize,
    /// The toxic has done something to the first piece.
    hit: bool,
    /// How many bytes wait.
    held: usize,
    ended: bool,
    toxic: Toxic,
    /// From when on the bandwidth allows more.
    allowed: Instant,
}

impl Lane {
    pub(super) fn new(now: Instant) -> Self {
        let (queue, toxic) = (VecDeque::new(), Toxic::default());
        Self { queue, passed: 0, hit: false, held: 0, ended: false, toxic, allowed: now }
    }

    /// Counts by this toxic from now on.
    pub(super) fn begin(&mut self, toxic: Toxic, now: Instant) {
        self.toxic = toxic;
        self.allowed = now;
        self.hit = false;
    }

    /// How many bytes may come; none after the end.
    pub(super) fn room(&self) -> usize {
        if self.ended { 0 } else { ROOM.saturating_sub(self.held) }
    }

    pub(super) fn come(&mut self, piece: Piece, now: Instant) {
        match &piece {
            Piece::Bytes(bytes) => self.held += bytes.len(),
            Piece::End | Piece::Reset => self.ended = true,
        }
        self.queue.push_back((piece, now));
    }

    /// Whether as much has passed as may before the connection is cut.
    pub(super) fn is_spent(&self) -> bool {
        self.toxic.cut_after == Some(0)
    }

    /// What may be done, and whether the toxic does something to a piece to which it has done nothing yet.
    pub(super) fn step(&mut self, now: Instant) -> (Step<'_>, bool) {
        if self.is_spent() {
            return (Step::Rest, false);
        }
        let Some((piece, came)) = self.queue.front() else { return (Step::Rest, false) };
        let mut due = *came + self.toxic.latency;
        let mut slice = self.toxic.slice.map_or(usize::MAX, usize::from);
        if let Some(limit) = self.toxic.bytes_per_second {
            due = due.max(self.allowed);
            let turn = (u128::from(limit.get()) * TURN.as_millis() / 1000).max(1);
            slice = slice.min(usize::try_from(turn).unwrap_or(usize::MAX));
        }
        let bytes = match piece {
            Piece::Bytes(bytes) => &bytes[self.passed..],
            Piece::End | Piece::Reset => &[],
        };
        let touched = self.toxic.hole || !self.toxic.latency.is_zero() || due > now || bytes.len() > slice;
        let hit = touched && !self.hit;
        self.hit |= touched;
        let step = match piece {
            _ if self.toxic.hole => Step::Rest,
            _ if due > now => Step::Wait(due),
            Piece::Bytes(_) => {
                let left = usize::try_from(self.toxic.cut_after.unwrap_or(u64::MAX)).unwrap_or(usize::MAX);
                Step::Pass(&bytes[..bytes.len().min(slice).min(left)])
            }
            Piece::End => Step::End,
            Piece::Reset => Step::Reset,
        };
        (step, hit)
    }

    /// So many bytes went.
    pub(super) fn passed(&mut self, count: usize, now: Instant) {
        self.passed += count;
        self.held -= count;
        if matches!(self.queue.front(), Some((Piece::Bytes(bytes), _)) if bytes.len() == self.passed) {
            self.queue.pop_front();
            (self.passed, self.hit) = (0, false);
        }
        let counted = u64::try_from(count).unwrap_or(u64::MAX);
        if let Some(left) = &mut self.toxic.cut_after {
            *left -= counted;
        }
        if let Some(limit) = self.toxic.bytes_per_second {
            // A timer that comes late costs no bandwidth, unless it is later than a turn.
            let earliest = now.checked_sub(TURN).unwrap_or(now);
            let cost = Duration::from_nanos(counted * 1_000_000_000 / limit);
            self.allowed = self.allowed.max(earliest) + cost;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MILLISECOND: Duration = Duration::from_millis(1);

    /// How long so many bytes take when each timer lags so much.
    fn drained(lane: &mut Lane, total: usize, begun: Instant, lag: Duration) -> Duration {
        let (mut now, mut left) = (begun, total);
        while left > 0 {
            match lane.step(now).0 {
                Step::Pass(bytes) => {
                    let count = bytes.len();
                    lane.passed(count, now);
                    left -= count;
                }
                Step::Wait(due) => now = due + lag,
                step => panic!("{left} bytes are left at {step:?}"),
            }
        }
        now - begun
    }

    #[test]
    fn latency_is_not_paid_for_each_piece() {
        let begun = Instant::now();
        let mut lane = Lane::new(begun);
        lane.begin(Toxic::latency(100 * MILLISECOND), begun);
        for after in 0..50 {
            lane.come(Piece::Bytes(vec![0; 10]), begun + after * MILLISECOND);
        }
        assert_eq!(drained(&mut lane, 500, begun, Duration::ZERO), 149 * MILLISECOND);
    }

    #[test]
    fn bandwidth_is_neither_lost_to_late_timers_nor_exceeded() {
        for (rate, total, lag) in
            [(1_000_000, 500_000, 0), (1_000_000, 500_000, 5), (10, 5, 9), (3000, 1500, 1)]
        {
            let begun = Instant::now();
            let mut lane = Lane::new(begun);
            lane.begin(Toxic::bandwidth(rate), begun);
            lane.come(Piece::Bytes(vec![0; total]), begun);
            let took = drained(&mut lane, total, begun, lag * MILLISECOND);
            let turn = Duration::from_nanos(1_000_000_000 / rate).max(TURN);
            let half = 500 * MILLISECOND;
            assert!(
                took + turn + TURN >= half && took <= half + TURN,
                "{total} bytes at {rate}/s took {took:?}"
            );
        }
    }

    #[test]
    fn a_slice_and_a_cut_end_where_they_should() {
        let now = Instant::now();
        let mut lane = Lane::new(now);
        lane.begin(Toxic::slice(3).and(Toxic::cut_after(8)), now);
        lane.come(Piece::Bytes(vec![0; 5]), now);
        lane.come(Piece::Bytes(vec![0; 5]), now);
        for slice in [3, 2, 3] {
            assert!(matches!(lane.step(now).0, Step::Pass(bytes) if bytes.len() == slice));
            lane.passed(slice, now);
        }
        assert!(lane.is_spent());
        lane.begin(Toxic::slice(3), now);
        assert!(matches!(lane.step(now).0, Step::Pass([0, 0])), "what is left");
    }

    #[test]
    fn what_waits_has_a_limit() {
        let now = Instant::now();
        let mut lane = Lane::new(now);
        lane.begin(Toxic::hole(), now);
        lane.come(Piece::Bytes(vec![0; ROOM - 1]), now);
        assert_eq!(lane.room(), 1);
        lane.come(Piece::Bytes(vec![0]), now);
        assert_eq!(lane.room(), 0);
        lane.begin(Toxic::default(), now);
        assert_eq!(drained(&mut lane, ROOM, now, Duration::ZERO), Duration::ZERO);
        assert_eq!(lane.room(), ROOM);
        lane.come(Piece::End, now);
        assert_eq!(lane.room(), 0, "nothing comes after the end");
    }
}
