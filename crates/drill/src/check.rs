//! The checkers of the invariants I1 to I9. Each compares what the clients were told with what is there once
//! everything is at rest: queries fetch that, and a function without any I/O says what is wrong with it.

mod atomic;
mod bounded;
mod durable;
mod facts;
mod fold;
mod health;
mod kafka;
mod once;
mod order;
mod queues;
mod reach;
mod received;
mod silent;
#[cfg(test)]
mod sound;

use std::fmt::Display;

use crate::{
    expect::Expect,
    history::History,
    stack::{Setup, Stack},
    watch::Seen,
};
use facts::Facts;

/// How many examples a violation names.
const EXAMPLES: usize = 3;

/// What the checkers look at.
pub struct Scene<'a> {
    /// The product, at rest.
    pub stack: &'a Stack,
    /// What the clients were told.
    pub history: &'a History,
    /// What the processes said of themselves.
    pub seen: &'a Seen,
    /// What is expected.
    pub expect: Expect,
}

/// What the checkers found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Findings {
    /// Acknowledged and not there, or there and never told.
    pub lost: usize,
    /// Effects that took place twice.
    pub doubled: usize,
    /// Lower versions after higher ones.
    pub inversions: usize,
    /// Notifications that came more than 60 s after they could.
    pub late: usize,
    /// Requests that came again under their webhook-id, which is allowed.
    pub repeats: usize,
    /// What did not hold, in words, by its invariant.
    pub violations: Vec<String>,
}

impl Findings {
    /// Adds a violation if there are examples of it; how many there are.
    fn blame<E: Display>(&mut self, what: &str, examples: impl IntoIterator<Item = E>) -> usize {
        let mut examples = examples.into_iter();
        let named: Vec<String> =
            examples.by_ref().take(EXAMPLES).map(|example| example.to_string()).collect();
        if named.is_empty() {
            return 0;
        }
        let others = examples.count();
        let count = named.len() + others;
        let more = if others > 0 { ", …" } else { "" };
        self.violations.push(format!("{what}: {count} ({}{more})", named.join(", ")));
        count
    }

    fn add(&mut self, other: Self) {
        self.lost += other.lost;
        self.doubled += other.doubled;
        self.inversions += other.inversions;
        self.late += other.late;
        self.repeats += other.repeats;
        self.violations.extend(other.violations);
    }
}

/// Runs every checker.
pub async fn all(scene: &Scene<'_>) -> Findings {
    let Scene { stack, history, seen, expect } = *scene;
    let (operations, marks) = (history.operations(), history.marks());
    let facts = Facts::read(stack, history.began()).await;
    let mut found = Findings::default();
    found.add(durable::check(&operations, &facts));
    found.add(atomic::check(&facts));
    found.add(reach::check(&operations, &marks, &facts));
    found.add(once::check(&facts, expect));
    found.add(order::in_store(&facts.events));
    found.add(received::check(&facts));
    found.add(silent::check(&facts));
    if stack.setup == Setup::Full {
        found.add(order::in_kafka(&facts.events, &kafka::read(stack).await, expect));
        found.add(silent::queues(&facts, &queues::read(stack).await, expect));
    }
    found.add(bounded::memory(&seen.memory, expect));
    found.add(bounded::gauges(&bounded::read(stack).await, stack.setup));
    found.add(health::check(&marks, &seen.sights));
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_violation_names_three_examples_and_counts_all() {
        let mut found = Findings::default();
        assert_eq!(found.blame("I1: gone", Vec::<String>::new()), 0);
        assert_eq!(found.blame("I1: gone", ["a", "b"]), 2);
        assert_eq!(found.blame("I2: odd", 1..=5), 5);
        assert_eq!(found.violations, ["I1: gone: 2 (a, b)", "I2: odd: 5 (1, 2, 3, …)"]);
        let mut all = Findings { lost: 1, repeats: 2, ..Findings::default() };
        all.add(Findings { lost: 1, doubled: 2, inversions: 3, late: 4, repeats: 5, ..found });
        assert_eq!((all.lost, all.doubled, all.inversions, all.late, all.repeats), (2, 2, 3, 4, 7));
        assert_eq!(all.violations.len(), 2);
    }
}
