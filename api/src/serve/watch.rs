//! What a connection is doing, and until when it may.

use std::{
    sync::{
        OnceLock,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::time::Instant;

use super::{Limits, refusal::Refusal};

/// What happened on a connection; counted where it happens, read by its [`Watch`].
///
/// The counts order nothing: whoever changes one also wakes the connection's task, and that does.
#[derive(Default)]
pub(super) struct Activity {
    begun: AtomicBool,
    in_head: AtomicBool,
    requests: AtomicUsize,
    refused: OnceLock<Refused>,
    upgraded: AtomicBool,
    open: AtomicUsize,
    owing: AtomicUsize,
    frames: AtomicUsize,
    write_waits: AtomicBool,
    broken: OnceLock<Overdue>,
}

/// A head that is not taken. In its place hyper is given another one, which stands for it.
#[derive(Debug)]
pub(super) struct Refused {
    /// So many good ones came before it.
    pub(super) after: usize,
    pub(super) refusal: Refusal,
    pub(super) path: String,
}

impl Activity {
    /// Bytes came in, and they end in the middle of a head or not.
    pub(super) fn read(&self, in_head: bool) {
        self.begun.store(true, Relaxed);
        self.in_head.store(in_head, Relaxed);
    }

    /// The next head is not taken. Nothing comes behind it.
    pub(super) fn refuse(&self, refused: Refused) {
        let _ = self.refused.set(refused);
    }

    pub(super) fn is_refused(&self) -> bool {
        self.refused.get().is_some()
    }

    /// The connection no longer speaks HTTP.
    pub(super) fn upgrade(&self) {
        self.upgraded.store(true, Relaxed);
    }

    pub(super) fn is_upgraded(&self) -> bool {
        self.upgraded.load(Relaxed)
    }

    /// A write waits for room, or no longer does.
    pub(super) fn write_waits(&self, waits: bool) {
        self.write_waits.store(waits, Relaxed);
    }

    /// The socket was given up.
    pub(super) fn breaks(&self, why: Overdue) {
        let _ = self.broken.set(why);
    }

    /// What ended the connection from below.
    pub(super) fn overdue(&self) -> Option<Overdue> {
        self.broken.get().copied()
    }

    /// A request's head is complete. If it stands for one that was refused, this says which.
    pub(super) fn begin(&self) -> Option<&Refused> {
        let before = self.requests.load(Relaxed);
        raise(&self.requests, 1);
        self.open.fetch_add(1, Relaxed);
        self.refused.get().filter(|refused| refused.after == before)
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
    /// Far more came than requests need.
    Flood,
}

impl Overdue {
    /// Its name in the metrics.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::FirstByte => "first_byte",
            Self::Head => "head",
            Self::WriteStall => "write_stall",
            Self::Idle => "idle",
            Self::Flood => "flood",
        }
    }
}

/// The deadline of what a connection is doing. Looked at each time its task has nothing to do, so it reads the clock
/// only when something changed.
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
}

impl Watch {
    pub(super) fn new() -> Self {
        Self { phase: Phase::Silent, since: Instant::now(), seen: Seen { requests: 0, frames: 0 } }
    }

    /// Takes in what happened.
    pub(super) fn look(&mut self, activity: &Activity) {
        let seen = Seen { requests: activity.requests.load(Relaxed), frames: activity.frames.load(Relaxed) };
        let phase = self.next(&seen, activity);
        if seen != self.seen || phase != self.phase {
            self.since = Instant::now();
        }
        (self.phase, self.seen) = (phase, seen);
    }

    fn next(&self, seen: &Seen, activity: &Activity) -> Phase {
        if activity.open.load(Relaxed) > 0 {
            return Phase::Busy;
        }
        match self.phase {
            Phase::Leaving if seen.requests == self.seen.requests => Phase::Leaving,
            _ if activity.in_head.load(Relaxed) => Phase::Head,
            Phase::Silent if !activity.begun.load(Relaxed) => Phase::Silent,
            _ => Phase::Idle,
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
