//! What came of a measurement: a row of the table.

use std::{collections::BTreeMap, time::Duration};

use serde::{Serialize, Serializer};

/// Which loop made the load.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Loop {
    /// Whoever asks waits for the answer before asking again, so a slow server is asked less.
    Closed,
    /// Requests are due at a constant rate, whatever the server does.
    Open,
}

/// What came of a measurement.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// What was measured.
    pub name: String,
    /// Which loop made the load.
    #[serde(rename = "loop")]
    pub kind: Loop,
    /// Requests that were sent.
    pub requests: u64,
    /// Answers that were as they should be.
    pub good: u64,
    /// From the first request to the last answer.
    #[serde(rename = "seconds", serialize_with = "seconds")]
    pub elapsed: Duration,
    /// Good answers in a second.
    pub per_second: u64,
    /// The times of good answers; none without any.
    pub latency: Option<Latency>,
    /// Quantiles and their times in microseconds, for the plot.
    pub curve: Vec<(f64, u64)>,
    /// Good answers in each second.
    pub over_time: Vec<u64>,
    /// How often each status came.
    pub statuses: BTreeMap<u16, u64>,
    /// What must not be, in words, and how often: no answer, a wrong status, a wrong answer.
    pub problems: BTreeMap<String, u64>,
    /// What else is to be told.
    pub notes: Vec<String>,
}

/// Times in microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Latency {
    /// Half of the answers took no longer.
    pub p50: u64,
    /// 90 %.
    pub p90: u64,
    /// 99 %.
    pub p99: u64,
    /// 99.9 %.
    #[serde(rename = "p99.9")]
    pub p999: u64,
    /// All.
    pub max: u64,
}

impl Row {
    /// A row without a measurement, because of this.
    pub fn failed(name: &str, kind: Loop, why: &str) -> Self {
        Self {
            name: name.to_owned(),
            kind,
            requests: 0,
            good: 0,
            elapsed: Duration::ZERO,
            per_second: 0,
            latency: None,
            curve: Vec::new(),
            over_time: Vec::new(),
            statuses: BTreeMap::new(),
            problems: BTreeMap::from([(why.to_owned(), 1)]),
            notes: Vec::new(),
        }
    }

    /// Nothing happened that must not be, and something was measured.
    pub fn is_fine(&self) -> bool {
        self.problems.is_empty() && self.good > 0
    }

    /// How often something happened that must not be.
    pub fn problem_count(&self) -> u64 {
        self.problems.values().sum()
    }

    /// With one more thing to be told.
    #[must_use]
    pub fn note(mut self, note: impl Into<String>) -> Self {
        self.notes.push(note.into());
        self
    }
}

/// How many of these happened in a second, rounded down; 0 for no time at all.
pub fn per_second(count: u64, elapsed: Duration) -> u64 {
    let rate = (u128::from(count) * 1_000_000_000).checked_div(elapsed.as_nanos());
    rate.and_then(|rate| u64::try_from(rate).ok()).unwrap_or(0)
}

fn seconds<S: Serializer>(elapsed: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(elapsed.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_counted_over_the_time_it_took() {
        assert_eq!(per_second(500, Duration::from_millis(250)), 2_000);
        assert_eq!(per_second(5, Duration::ZERO), 0);
    }

    #[test]
    fn a_row_without_answers_or_with_a_problem_is_not_fine() {
        let row = Row::failed("burst", Loop::Closed, "no account");
        assert!(!row.is_fine());
        assert!(!Row { problems: BTreeMap::new(), ..row.clone() }.is_fine());
        assert!(!Row { good: 1, ..row.clone() }.is_fine());
        assert!(Row { good: 1, problems: BTreeMap::new(), ..row }.is_fine());
    }
}
