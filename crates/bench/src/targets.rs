//! What is to be reached, most of it as ratios of two rows of the same round: a busy or slow machine changes both alike.

use std::collections::BTreeMap;

use crate::stats::median;

/// The figures of one round, by `row.figure`.
pub type Figures = BTreeMap<String, f64>;

/// Something that follows from the figures of a round.
#[derive(Clone, Copy, Debug)]
pub enum Value {
    /// A figure itself.
    Of(&'static str),
    /// A figure divided by another.
    Ratio(&'static str, &'static str),
    /// The highest of the figures with this name in any row.
    Highest(&'static str),
}

/// What a value must be.
#[derive(Clone, Copy, Debug)]
pub enum Goal {
    /// This or more.
    AtLeast(f64),
    /// This or less.
    AtMost(f64),
}

/// A line of the table of what is to be reached.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// What it is about.
    pub what: &'static str,
    /// What is measured.
    pub value: Value,
    /// What is wanted.
    pub goal: Goal,
    /// What is as good.
    pub or: Option<(Value, Goal)>,
}

/// How a target was met.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Reached {
    /// The median of the rounds.
    pub value: f64,
    /// Of what is as good, the same.
    pub other: Option<f64>,
    /// Whether it suffices.
    pub met: bool,
}

impl Value {
    /// In one round; none when a row is missing.
    pub fn of(self, round: &Figures) -> Option<f64> {
        match self {
            Self::Of(figure) => round.get(figure).copied(),
            Self::Ratio(figure, to) => {
                let to = round.get(to).copied().filter(|to| *to > 0.0)?;
                Some(round.get(figure)? / to)
            }
            Self::Highest(name) => {
                let named = round.iter().filter(|(key, _)| key.split('.').nth(1) == Some(name));
                named.map(|(_, value)| *value).reduce(f64::max)
            }
        }
    }

    fn over(self, rounds: &[Figures]) -> Option<f64> {
        let values: Vec<f64> = rounds.iter().filter_map(|round| self.of(round)).collect();
        median(&values)
    }

    /// As it is shown.
    pub fn show(self, value: f64) -> String {
        match self {
            Self::Ratio(..) => format!("{value:.2} ×"),
            _ if value >= 1_000.0 => format!("{value:.0}"),
            _ => format!("{value:.1}"),
        }
    }
}

impl Goal {
    fn is_met(self, value: f64) -> bool {
        match self {
            Self::AtLeast(least) => value >= least,
            Self::AtMost(most) => value <= most,
        }
    }

    /// As it is shown.
    pub fn show(self) -> String {
        match self {
            Self::AtLeast(least) => format!("≥ {least}"),
            Self::AtMost(most) => format!("≤ {most}"),
        }
    }
}

impl Target {
    /// How it was met over the rounds; none when no round has what it is about.
    pub fn reached(&self, rounds: &[Figures]) -> Option<Reached> {
        let value = self.value.over(rounds)?;
        let other = self.or.and_then(|(or, goal)| Some((or.over(rounds)?, goal)));
        let met = self.goal.is_met(value) || other.is_some_and(|(other, goal)| goal.is_met(other));
        Some(Reached { value, other: other.map(|(other, _)| other), met })
    }

    /// The figures of single rows that it is about.
    #[cfg(test)]
    pub fn figures(&self) -> Vec<&'static str> {
        let of = |value| match value {
            Value::Of(figure) => vec![figure],
            Value::Ratio(figure, to) => vec![figure, to],
            Value::Highest(_) => Vec::new(),
        };
        [of(self.value), self.or.map(|(or, _)| of(or)).unwrap_or_default()].concat()
    }
}

const fn least(what: &'static str, value: Value, least: f64) -> Target {
    Target { what, value, goal: Goal::AtLeast(least), or: None }
}

const fn most(what: &'static str, value: Value, most: f64) -> Target {
    Target { what, value, goal: Goal::AtMost(most), or: None }
}

use Value::{Highest, Of, Ratio};

/// All of them, in the order they are shown.
pub const TARGETS: &[Target] = &[
    least("full, POST /tasks, of pgbench", Ratio("full-movers.per_second", "floor.per_second"), 0.6),
    least(
        "full, POST /tasks, of the Express peer's API",
        Ratio("full-movers.per_second", "express-api.per_second"),
        6.0,
    ),
    most("full, POST /tasks, p99 in ms", Of("full-movers.p99_ms"), 20.0),
    most("full, POST /tasks, until Kafka has all, in s", Of("full-movers.lag_s"), 5.0),
    least("full, keeping up, of pgbench", Ratio("full-post.per_second", "floor.per_second"), 0.35),
    least(
        "full, keeping up, of the whole Express peer",
        Ratio("full-post.per_second", "express-whole.per_second"),
        5.0,
    ),
    most("full, keeping up, lag at the end in s", Of("full-post.lag_s"), 5.0),
    Target {
        what: "full, POST /tasks/batch of 100, tasks/s, or of single POSTs",
        value: Of("batch.tasks_per_second"),
        goal: Goal::AtLeast(60_000.0),
        or: Some((Ratio("batch.tasks_per_second", "full-movers.per_second"), Goal::AtLeast(2.0))),
    },
    least(
        "respond-async, of the committed path",
        Ratio("async-drain.per_second", "full-movers.per_second"),
        1.0,
    ),
    least("drained by ingestion, tasks/s", Of("async-drain.drained_per_second"), 30_000.0),
    least("embedded, the API alone, of pgbench", Ratio("embedded-api.per_second", "floor.per_second"), 0.75),
    most("embedded, the API alone, p99 in ms", Of("embedded-api.p99_ms"), 20.0),
    least("embedded, keeping up, of pgbench", Ratio("embedded-post.per_second", "floor.per_second"), 0.45),
    most("embedded, keeping up, p99 in ms", Of("embedded-post.p99_ms"), 20.0),
    most("embedded, keeping up, lag at the end in s", Of("embedded-post.lag_s"), 5.0),
    least(
        "GET /tasks/{id}, embedded, of the ceiling",
        Ratio("get-embedded.per_second", "ceiling.per_second"),
        0.4,
    ),
    least("GET /tasks/{id}, full, of the ceiling", Ratio("get-full.per_second", "ceiling.per_second"), 0.25),
    least("webhooks/s, embedded", Of("webhooks-embedded.per_second"), 3_000.0),
    least("webhooks/s, through RabbitMQ", Of("webhooks-full.per_second"), 3_000.0),
    least(
        "the engine on the store's queue, of River's drain",
        Ratio("engine-store.per_second", "river.drained_per_second"),
        0.5,
    ),
    least(
        "the engine on RabbitMQ, of bare lapin",
        Ratio("engine-rabbitmq.per_second", "bare-lapin.per_second"),
        0.4,
    ),
    most("POST to delivered, embedded, p50 in ms", Of("delivered-embedded.p50_ms"), 5.0),
    most("POST to delivered, embedded, p99 in ms", Of("delivered-embedded.p99_ms"), 20.0),
    most("POST to delivered, full, p50 in ms", Of("delivered-full.p50_ms"), 15.0),
    most("POST to delivered, full, p99 in ms", Of("delivered-full.p99_ms"), 60.0),
    most("api, most memory in MiB", Highest("api_peak_mib"), 80.0),
    most("consumers, most memory in MiB", Highest("consumers_peak_mib"), 80.0),
    most("workers, most memory in MiB", Highest("workers_peak_mib"), 80.0),
    most("embedded at rest, memory in MiB", Of("memory-embedded.embedded_rest_mib"), 40.0),
    most("overload, embedded, p99 of the admitted in ms", Of("overload-embedded.admitted_p99_ms"), 100.0),
    most("overload, embedded, refused without Retry-After", Of("overload-embedded.refused_mute"), 0.0),
    most("overload, embedded, failed", Of("overload-embedded.failed"), 0.0),
    most(
        "overload, embedded, memory 10 s later, of before",
        Ratio("overload-embedded.after_mib", "overload-embedded.before_mib"),
        1.25,
    ),
    most("overload, embedded, p99 10 s later in ms", Of("overload-embedded.after_p99_ms"), 20.0),
    most("overload, full, p99 of the admitted in ms", Of("overload-full.admitted_p99_ms"), 100.0),
    most("overload, full, refused without Retry-After", Of("overload-full.refused_mute"), 0.0),
    most("overload, full, failed", Of("overload-full.failed"), 0.0),
    most(
        "overload, full, memory 10 s later, of before",
        Ratio("overload-full.after_mib", "overload-full.before_mib"),
        1.25,
    ),
    most("overload, full, p99 10 s later in ms", Of("overload-full.after_p99_ms"), 20.0),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn round(figures: &[(&str, f64)]) -> Figures {
        figures.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect()
    }

    #[test]
    fn a_ratio_is_taken_within_each_round() {
        let target = least("a of b", Ratio("a.x", "b.x"), 0.6);
        // The machine was half as fast in the second round; the ratio of the medians would be another.
        let rounds = [
            round(&[("a.x", 60.0), ("b.x", 100.0)]),
            round(&[("a.x", 40.0), ("b.x", 50.0)]),
            round(&[("a.x", 65.0), ("b.x", 100.0)]),
        ];
        assert_eq!(target.reached(&rounds), Some(Reached { value: 0.65, other: None, met: true }));
        assert_eq!(target.reached(&rounds[..1]), Some(Reached { value: 0.6, other: None, met: true }));
    }

    #[test]
    fn a_round_without_a_row_does_not_count() {
        let target = least("a of b", Ratio("a.x", "b.x"), 2.0);
        let rounds = [
            round(&[("a.x", 60.0)]),
            round(&[("a.x", 60.0), ("b.x", 0.0)]),
            round(&[("a.x", 1.0), ("b.x", 1.0)]),
        ];
        assert_eq!(target.reached(&rounds), Some(Reached { value: 1.0, other: None, met: false }));
        assert_eq!(target.reached(&rounds[..2]), None);
    }

    #[test]
    fn what_is_as_good_suffices() {
        let or = Some((Ratio("a.x", "b.x"), Goal::AtLeast(2.0)));
        let target = Target { what: "a", value: Of("a.x"), goal: Goal::AtLeast(1_000.0), or };
        let reached = target.reached(&[round(&[("a.x", 40.0), ("b.x", 10.0)])]).unwrap();
        assert_eq!(reached, Reached { value: 40.0, other: Some(4.0), met: true });
    }

    #[test]
    fn the_highest_is_taken_over_all_rows() {
        let target = most("memory", Highest("api_peak_mib"), 80.0);
        let figures =
            round(&[("a.api_peak_mib", 70.0), ("b.api_peak_mib", 90.0), ("b.workers_peak_mib", 99.0)]);
        assert_eq!(target.reached(&[figures]), Some(Reached { value: 90.0, other: None, met: false }));
    }
}
