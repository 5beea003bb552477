//! When to refuse new work before the queue is full: once what waits would take too long, as a queue that stays long adds
//! its length to every answer.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use taskpost_store::MAX_BATCH;

/// How many tasks may wait: what is stored within the patience, at the pace of the last groups (Little's law). Never fewer
/// than one group takes: they need not wait for another.
#[derive(Debug)]
pub(crate) struct Shedding {
    patience: Duration,
    most: AtomicUsize,
}

/// What a group was like lately, as moving averages.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    tasks: f64,
    seconds: f64,
}

impl Shedding {
    /// Sheds what would wait for longer than `patience`.
    pub(crate) const fn new(patience: Duration) -> Self {
        Self { patience, most: AtomicUsize::new(usize::MAX) }
    }

    /// Whether one more may wait behind so many tasks.
    pub(crate) fn admits(&self, waiting: usize) -> bool {
        waiting < self.most.load(Ordering::Relaxed)
    }

    /// Notes how long a group of so many tasks took.
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "an estimate, of counts far below 2^52; a share of nothing saturates"
    )]
    pub(crate) fn note(&self, pace: &mut Pace, tasks: usize, took: Duration) {
        pace.tasks = pace.tasks.mul_add(7.0, tasks as f64) / 8.0;
        pace.seconds = pace.seconds.mul_add(7.0, took.as_secs_f64()) / 8.0;
        let most = self.patience.as_secs_f64() * pace.tasks / pace.seconds;
        self.most.store((most as usize).max(MAX_BATCH), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_wait_as_are_stored_in_time() {
        let shedding = Shedding::new(Duration::from_millis(75));
        let mut pace = Pace::default();
        assert!(shedding.admits(1_000_000), "nothing is known yet");
        let mut notes = |tasks, millis, times| {
            for _ in 0..times {
                shedding.note(&mut pace, tasks, Duration::from_millis(millis));
            }
        };
        notes(400, 20, 100);
        assert!(shedding.admits(1_498) && !shedding.admits(1_501), "20,000 a second");
        notes(400, 200, 100);
        assert!(
            shedding.admits(MAX_BATCH - 1) && !shedding.admits(MAX_BATCH),
            "the next group takes them all"
        );
        notes(400, 20, 30);
        assert!(shedding.admits(1_200), "it is over");
        notes(0, 0, 1);
        assert!(shedding.admits(1_200), "a group of nothing in no time");
    }
}
