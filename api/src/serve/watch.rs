//! What a connection is doing, and until when it may.

use std::{
    sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    time::Duration,
};

use tokio::time::Instant;

use super::Limits;

/// What happened on a connection; counted where it happens, read by its [`Watch`].
///
/// The counts order nothing: whoever changes one also wakes the connection's task, and that does.
#[derive(Default)]
pub(super) struct Activity {
    read: AtomicUsize,
    requests: AtomicUsize,
    open: AtomicUsize,
    owing: AtomicUsize,
    frames: AtomicUsize,
    h2: AtomicBool,
    write_waits: AtomicBool,
    write_stalled: AtomicBool,
}

impl Activity {
    /// Bytes came in.
    pub(super) fn read(&self, bytes: usize) {
        raise(&self.read, bytes);
    }

    /// The connection preface of HTTP/2 came in.
    pub(super) fn speaks_h2(&self) {
        self.h2.store(true, Relaxed);
    }

    /// A write waits for room, or no longer does.
    pub(super) fn write_waits(&self, waits: bool) {
        self.write_waits.store(waits, Relaxed);
    }

    /// A write was given up.
    pub(super) fn write_stalled(&self) {
        self.write_stalled.store(true, Relaxed);
    }

    /// What ended the connection from below.
    pub(super) fn overdue(&self) -> Option<Overdue> {
        self.write_stalled.load(Relaxed).then_some(Overdue::WriteStall)
    }

    /// A request's head is complete.
    pub(super) fn begin(&self) {
        raise(&self.requests, 1);
        self.open.fetch_add(1, Relaxed);
    }

    /// A request's answer was handed over, or nobody waits for it.
    pub(super) fn end(&self) {
        self.open.fetch_sub(1, Relaxed);
    }

    /// An answer waits for its stream's window, or no longer does.
    pub(super) fn owes(&self, owes: bool) {
        if owes {
            self.owing.fetch_add(1, Relaxed);
        } else {
            self.owing.fetch_sub(1, Relaxed);
        }
    }

    /// A stream took a part of its answer.
    pub(super) fn progress(&self) {
        self.frames.fetch_add(1, Relaxed);
    }
}

/// Adds to a count that only the connection's own task changes, which saves a locked instruction.
fn raise(count: &AtomicUsize, by: usize) {
    count.store(count.load(Relaxed).wrapping_add(by), Relaxed);
}

/// Why a connection is closed before its client wants it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Overdue {
    /// Nothing came in.
    FirstByte,
    /// A head was not completed.
    Head,
    /// An answer was not taken.
    WriteStall,
    /// No request came.
    Idle,
}

impl Overdue {
    /// Its name in the metrics.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::FirstByte => "first_byte",
            Self::Head => "head",
            Self::WriteStall => "write_stall",
            Self::Idle => "idle",
        }
    }
}

/// The deadline of what a connection is doing. Looked at each time its task has nothing to do, so it reads the clock
/// only when something changed.
///
/// A head that began in the same packets as the request before it counts as idle until its next byte comes: where one
/// request ends in hyper's buffer is not told.
pub(super) struct Watch {
    phase: Phase,
    since: Instant,
    seen: Seen,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Silent,
    Head,
    Busy,
    Idle,
    Leaving,
}

/// The counts that start a deadline anew when they change.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Seen {
    requests: usize,
    frames: usize,
    read: usize,
}

impl Watch {
    pub(super) fn new() -> Self {
        Self { phase: Phase::Silent, since: Instant::now(), seen: Seen { requests: 0, frames: 0, read: 0 } }
    }

    /// Takes in what happened.
    pub(super) fn look(&mut self, activity: &Activity) {
        let seen = Seen {
            requests: activity.requests.load(Relaxed),
            frames: activity.frames.load(Relaxed),
            read: activity.read.load(Relaxed),
        };
        let phase = self.next(&seen, activity);
        let answered = (seen.requests, seen.frames) != (self.seen.requests, self.seen.frames);
        if answered || phase != self.phase {
            self.since = Instant::now();
        }
        (self.phase, self.seen) = (phase, seen);
    }

    fn next(&self, seen: &Seen, activity: &Activity) -> Phase {
        if activity.open.load(Relaxed) > 0 {
            return Phase::Busy;
        }
        let head_came = seen.requests != self.seen.requests;
        match self.phase {
            _ if head_came => Phase::Idle,
            Phase::Busy => Phase::Idle,
            Phase::Silent | Phase::Head if activity.h2.load(Relaxed) => Phase::Idle,
            Phase::Silent | Phase::Idle if seen.read != self.seen.read && !activity.h2.load(Relaxed) => {
                Phase::Head
            }
            phase => phase,
        }
    }

    /// The client was asked to leave and has [`Limits::head`] to do so.
    pub(super) fn leave(&mut self) {
        (self.phase, self.since) = (Phase::Leaving, Instant::now());
    }

    /// When something will be overdue as things stand, and what.
    pub(super) fn due(&self, activity: &Activity, limits: &Limits) -> Option<(Instant, Overdue)> {
        self.limit(activity, limits).map(|(limit, overdue)| (self.since + limit, overdue))
    }

    fn limit(&self, activity: &Activity, limits: &Limits) -> Option<(Duration, Overdue)> {
        match self.phase {
            Phase::Silent => Some((limits.first_byte, Overdue::FirstByte)),
            Phase::Head => Some((limits.head, Overdue::Head)),
            // The socket has a deadline of its own for these.
            Phase::Idle if activity.write_waits.load(Relaxed) => None,
            Phase::Idle => Some((limits.keep_alive_idle, Overdue::Idle)),
            Phase::Leaving => Some((limits.head, Overdue::Idle)),
            Phase::Busy if activity.owing.load(Relaxed) > 0 => {
                Some((limits.write_stall, Overdue::WriteStall))
            }
            Phase::Busy => None,
        }
    }
}
