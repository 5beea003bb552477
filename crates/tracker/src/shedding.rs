//! When to refuse new work before the queue is full: once what is taken from it has waited too long, again and again. A
//! queue that is only long for a moment empties by itself; one that stays long adds its length to every answer
//! (Nichols and Jacobson, "Controlling Queue Delay", ACM Queue 2012).

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

/// How long the wait must be too long.
const INTERVAL: Duration = Duration::from_millis(100);

/// Watches how long work waits in a queue.
#[derive(Debug)]
pub(crate) struct Shedding {
    patience: Duration,
    on: AtomicBool,
}

/// Since when the wait is too long.
#[derive(Debug, Default)]
pub(crate) struct Since(Option<Instant>);

impl Shedding {
    /// Sheds when the wait stays above `patience`.
    pub(crate) const fn new(patience: Duration) -> Self {
        Self { patience, on: AtomicBool::new(false) }
    }

    /// Whether new work is to be refused.
    pub(crate) fn is_on(&self) -> bool {
        self.on.load(Ordering::Relaxed)
    }

    /// Notes how long the oldest of what was just taken had waited; nothing when the queue is empty.
    pub(crate) fn note(&self, since: &mut Since, waited: Duration, now: Instant) {
        let late = waited > self.patience;
        let since = match (late, since.0) {
            (false, _) => since.0.take(),
            (true, known) => since.0.replace(known.unwrap_or(now)),
        };
        self.on.store(late && since.is_some_and(|since| now - since >= INTERVAL), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_wait_that_stays_too_long_sheds() {
        let shedding = Shedding::new(Duration::from_millis(50));
        let (mut since, began) = (Since::default(), Instant::now());
        let mut at = |millis: u64, waited: u64| {
            let now = began + Duration::from_millis(millis);
            shedding.note(&mut since, Duration::from_millis(waited), now);
            shedding.is_on()
        };
        assert!(!at(0, 50), "just in time");
        assert!(!at(10, 900), "once");
        assert!(!at(90, 51), "not for long enough");
        assert!(at(110, 51));
        assert!(at(200, 900));
        assert!(!at(210, 50), "it is over");
        assert!(!at(220, 51), "and begins anew");
        assert!(at(320, 51));
        assert!(!at(321, 0), "the queue is empty");
    }
}
