//! Says what long work is doing, on stderr, with the time since the command began.

use std::time::Instant;

/// The clock behind the `==>` lines.
pub struct Progress {
    started: Instant,
}

impl Progress {
    /// Starts the clock.
    pub fn start() -> Self {
        Self { started: Instant::now() }
    }

    /// Announces the next step.
    pub fn step(&self, what: &str) {
        eprintln!("==> [{:6.1} s] {what}", self.seconds());
    }

    /// Seconds since the command began.
    pub fn seconds(&self) -> f64 {
        self.started.elapsed().as_secs_f64()
    }
}
