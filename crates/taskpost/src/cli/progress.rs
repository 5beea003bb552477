//! How far long work is, on standard error: a bar on a terminal, elsewhere a line for each part that is done.

use std::{
    io::{IsTerminal as _, Write as _},
    time::{Duration, Instant},
};

/// How often the bar is drawn.
const EVERY: Duration = Duration::from_millis(100);
/// How wide it is, in characters.
const WIDTH: u64 = 30;

/// Shows how far each part is, one after the other.
pub(super) struct Bar {
    drawn: bool,
    last: Option<Instant>,
}

impl Bar {
    /// With nothing to show yet.
    pub(super) fn new() -> Self {
        Self { drawn: std::io::stderr().is_terminal(), last: None }
    }

    /// `done` of `all` of this part; a part ends by being told of once with as many as all.
    pub(super) fn at(&mut self, part: &str, done: u64, all: u64) {
        let ends = done >= all;
        if !self.drawn {
            if ends {
                eprintln!("{part}: {done}");
            }
            return;
        }
        if !ends && self.last.is_some_and(|last| last.elapsed() < EVERY) {
            return;
        }
        self.last = (!ends).then(Instant::now);
        let end = if ends { "\n" } else { "" };
        eprint!("\r{}\x1b[K{end}", line(part, done, all));
        // Whoever closed it does not want to see it.
        let _ = std::io::stderr().flush();
    }
}

fn line(part: &str, done: u64, all: u64) -> String {
    let full = (done.min(all) * WIDTH).checked_div(all).unwrap_or(WIDTH);
    let bar: String = (0..WIDTH).map(|place| if place < full { '#' } else { '.' }).collect();
    format!("{part:<24} [{bar}] {done}/{all}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_is_as_full_as_the_work_is_done() {
        assert_eq!(line("tasks", 0, 10).matches('#').count(), 0);
        assert_eq!(line("tasks", 5, 10).matches('#').count(), 15);
        assert_eq!(line("tasks", 10, 10).matches('.').count(), 0);
        assert!(line("nothing", 0, 0).ends_with("] 0/0"));
    }
}
