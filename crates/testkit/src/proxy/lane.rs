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
struct Waiting {
    piece: Piece,
    since: Instant,
    /// How many of its bytes have passed.
    passed: usize,
    /// A toxic has done something to it.
    hit: bool,
}

#[derive(Debug)]
pub(super) struct Lane {
    queue: VecDeque<Waiting>,
    /// How many bytes wait.
    held: usize,
    ended: bool,
    toxic: Toxic,
    /// From when on the bandwidth allows more.
    allowed: Instant,
}

impl Lane {
    pub(super) fn new(now: Instant) -> Self {
        Self { queue: VecDeque::new(), held: 0, ended: false, toxic: Toxic::default(), allowed: now }
    }

    /// Counts by this toxic from now on.
    pub(super) fn begin(&mut self, toxic: Toxic, now: Instant) {
        self.toxic = toxic;
        self.allowed = now;
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
        self.queue.push_back(Waiting { piece, since: now, passed: 0, hit: false });
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
        let Some(first) = self.queue.front_mut() else { return (Step::Rest, false) };
        let mut due = first.since + self.toxic.latency;
        let mut slice = self.toxic.slice.map_or(usize::MAX, usize::from);
        if let Some(limit) = self.toxic.bytes_per_second {
            due = due.max(self.allowed);
            let turn = (u128::from(limit.get()) * TURN.as_millis() / 1000).max(1);
            slice = slice.min(usize::try_from(turn).unwrap_or(usize::MAX));
        }
        let rest = match &first.piece {
            Piece::Bytes(bytes) => &bytes[first.passed..],
            Piece::End | Piece::Reset => &[],
        };
        let touched = self.toxic.hole || !self.toxic.latency.is_zero() || due > now || rest.len() > slice;
        let hit = touched && !first.hit;
        first.hit |= touched;
        if self.toxic.hole {
            return (Step::Rest, hit);
        }
        if due > now {
            return (Step::Wait(due), hit);
        }
        let step = match first.piece {
            Piece::Bytes(_) => {
                let left = self
                    .toxic
                    .cut_after
                    .map_or(usize::MAX, |left| usize::try_from(left).unwrap_or(usize::MAX));
                Step::Pass(&rest[..rest.len().min(slice).min(left)])
            }
            Piece::End => Step::End,
            Piece::Reset => Step::Reset,
        };
        (step, hit)
    }

    /// So many bytes went.
    pub(super) fn passed(&mut self, count: usize, now: Instant) {
        let Some(first) = self.queue.front_mut() else { return };
        first.passed += count;
        self.held -= count;
        if matches!(&first.piece, Piece::Bytes(bytes) if bytes.len() == first.passed) {
            self.queue.pop_front();
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

    /// Passes `total` bytes, each look so much later than it was asked for; how long it took.
    fn drained(lane: &mut Lane, total: usize, begun: Instant, late: Duration) -> Duration {
        let (mut now, mut left) = (begun, total);
        while left > 0 {
            match lane.step(now).0 {
                Step::Pass(bytes) => {
                    let count = bytes.len();
                    lane.passed(count, now);
                    left -= count;
                }
                Step::Wait(due) => now = due + late,
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
        for (rate, total, late) in
            [(1_000_000, 500_000, 0), (1_000_000, 500_000, 5), (10, 5, 9), (3000, 1500, 1)]
        {
            let begun = Instant::now();
            let mut lane = Lane::new(begun);
            lane.begin(Toxic::bandwidth(rate), begun);
            lane.come(Piece::Bytes(vec![0; total]), begun);
            let took = drained(&mut lane, total, begun, late * MILLISECOND);
            let turn = Duration::from_nanos(1_000_000_000 / rate).max(TURN);
            let (least, most) = (500 * MILLISECOND - turn - TURN, 510 * MILLISECOND);
            assert!((least..=most).contains(&took), "{total} bytes at {rate}/s took {took:?}");
        }
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
