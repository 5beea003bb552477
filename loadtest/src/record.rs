//! Takes down every answer, from many tasks at once.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use hdrhistogram::Histogram;

use crate::row::{Latency, Loop, Row, per_second};

/// The longest time that is told from longer ones, in microseconds.
const LONGEST: u64 = 300_000_000;
/// Three digits of each time are kept.
const DIGITS: u8 = 3;
/// What the plot of percentiles shows.
const QUANTILES: [f64; 9] = [0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 0.995, 0.999, 0.9999];
/// How many kinds of problems are told apart.
const KINDS: usize = 20;

/// The answers of one measurement.
#[derive(Debug)]
pub struct Recorder {
    taken: Mutex<Taken>,
}

#[derive(Debug)]
struct Taken {
    times: Histogram<u64>,
    span: Option<(Instant, Instant)>,
    requests: u64,
    over_time: Vec<u64>,
    statuses: BTreeMap<u16, u64>,
    problems: BTreeMap<String, u64>,
}

impl Recorder {
    /// An empty one.
    pub fn new() -> Result<Arc<Self>> {
        let times = Histogram::new_with_bounds(1, LONGEST, DIGITS).context("the histogram")?;
        let taken = Taken {
            times,
            span: None,
            requests: 0,
            over_time: Vec::new(),
            statuses: BTreeMap::new(),
            problems: BTreeMap::new(),
        };
        Ok(Arc::new(Self { taken: Mutex::new(taken) }))
    }

    /// A good answer to what began then.
    pub fn good(&self, status: u16, began: Instant) {
        self.good_at(status, began, Instant::now());
    }

    /// A good answer that came then.
    pub fn good_at(&self, status: u16, began: Instant, at: Instant) {
        let mut taken = self.lock();
        taken.count(began, at);
        *taken.statuses.entry(status).or_default() += 1;
        let took = u64::try_from(at.saturating_duration_since(began).as_micros()).unwrap_or(LONGEST);
        taken.times.saturating_record(took);
        let second = taken.span.map_or(0, |(first, _)| at.saturating_duration_since(first).as_secs());
        let second = usize::try_from(second).unwrap_or(0);
        if taken.over_time.len() <= second {
            taken.over_time.resize(second + 1, 0);
        }
        if let Some(count) = taken.over_time.get_mut(second) {
            *count += 1;
        }
    }

    /// The server asked to come again later, which is its right: counted by its status only.
    pub fn refused(&self, status: u16) {
        let now = Instant::now();
        let mut taken = self.lock();
        taken.count(now, now);
        *taken.statuses.entry(status).or_default() += 1;
    }

    /// An answer with a status that must not be.
    pub fn unexpected(&self, status: u16) {
        self.refused(status);
        self.wrong(&format!("status {status}"));
    }

    /// No answer.
    pub fn failed(&self, why: &str) {
        let now = Instant::now();
        self.lock().count(now, now);
        self.wrong(why);
    }

    /// An answer, or the lack of one, that must not be.
    pub fn wrong(&self, what: &str) {
        self.lock().problem(what, 1);
    }

    /// So many times the same.
    pub fn wrong_times(&self, what: &str, times: u64) {
        if times > 0 {
            self.lock().problem(what, times);
        }
    }

    /// Requests and problems so far.
    pub fn so_far(&self) -> (u64, u64) {
        let taken = self.lock();
        (taken.requests, taken.problems.values().sum())
    }

    /// What came of it.
    pub fn row(&self, name: &str, kind: Loop) -> Row {
        let taken = self.lock();
        let good = taken.times.len();
        let elapsed =
            taken.span.map_or(Duration::ZERO, |(first, last)| last.saturating_duration_since(first));
        Row {
            name: name.to_owned(),
            kind,
            requests: taken.requests,
            good,
            elapsed,
            per_second: per_second(good, elapsed),
            latency: (good > 0).then(|| latency(&taken.times)),
            curve: curve(&taken.times),
            over_time: taken.over_time.clone(),
            statuses: taken.statuses.clone(),
            problems: taken.problems.clone(),
            notes: Vec::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Taken {
    fn count(&mut self, began: Instant, ended: Instant) {
        let (first, last) = self.span.unwrap_or((began, ended));
        self.span = Some((first.min(began), last.max(ended)));
        self.requests += 1;
    }

    fn problem(&mut self, what: &str, times: u64) {
        let known = self.problems.contains_key(what) || self.problems.len() < KINDS;
        let kind = if known { what } else { "other problems" };
        *self.problems.entry(kind.to_owned()).or_default() += times;
    }
}

fn latency(times: &Histogram<u64>) -> Latency {
    let at = |quantile| times.value_at_quantile(quantile);
    Latency { p50: at(0.5), p90: at(0.9), p99: at(0.99), p999: at(0.999), max: times.max() }
}

/// A quantile that has fewer than one answer beyond it would only show the slowest once more.
fn curve(times: &Histogram<u64>) -> Vec<(f64, u64)> {
    let count = f64::from(u32::try_from(times.len()).unwrap_or(u32::MAX));
    let known = QUANTILES.into_iter().filter(|quantile| (1.0 - quantile) * count >= 1.0);
    known.map(|quantile| (quantile, times.value_at_quantile(quantile))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_row_has_percentiles_rates_and_a_count_for_each_second() {
        let (recorder, start) = (Recorder::new().unwrap(), Instant::now());
        // One answer each 2 ms, number n after n ms.
        for number in 1..=1_000u64 {
            let at = start + Duration::from_millis(2 * number);
            recorder.good_at(201, at.checked_sub(Duration::from_millis(number)).unwrap(), at);
        }
        let row = recorder.row("burst", Loop::Closed);
        assert_eq!((row.requests, row.good), (1_000, 1_000));
        assert_eq!(row.statuses, BTreeMap::from([(201, 1_000)]));
        let near = |value: u64, ms: u64| (ms * 999..=ms * 1_001 + 1_000).contains(&value);
        let latency = row.latency.unwrap();
        assert!(near(latency.p50, 500) && near(latency.p90, 900), "{latency:?}");
        assert!(near(latency.p99, 990) && near(latency.p999, 999) && near(latency.max, 1_000), "{latency:?}");
        assert!((499..=501).contains(&row.per_second), "{}", row.per_second);
        assert_eq!(row.over_time.iter().sum::<u64>(), 1_000);
        assert!((2..=3).contains(&row.over_time.len()), "{:?}", row.over_time);
        // Beyond 99.9 % is one answer, beyond 99.99 % none.
        assert_eq!(row.curve.last().unwrap().0.to_bits(), 0.999f64.to_bits());
        assert!(row.is_fine());
    }

    #[test]
    fn a_refusal_is_a_status_and_no_problem() {
        let recorder = Recorder::new().unwrap();
        recorder.good(201, Instant::now());
        recorder.refused(429);
        let row = recorder.row("burst", Loop::Closed);
        assert_eq!((row.requests, row.good), (2, 1));
        assert_eq!(row.statuses, BTreeMap::from([(201, 1), (429, 1)]));
        assert!(row.is_fine());
    }

    #[test]
    fn whatever_must_not_be_is_a_problem() {
        let spoil: [fn(&Recorder); 3] =
            [|it| it.unexpected(500), |it| it.failed("connection refused"), |it| it.wrong("another task")];
        for spoil in spoil {
            let recorder = Recorder::new().unwrap();
            recorder.good(201, Instant::now());
            spoil(&recorder);
            assert!(!recorder.row("burst", Loop::Closed).is_fine());
        }
        assert!(!Recorder::new().unwrap().row("burst", Loop::Closed).is_fine());
    }

    #[test]
    fn problems_of_many_kinds_do_not_pile_up() {
        let recorder = Recorder::new().unwrap();
        for number in 0..1_000 {
            recorder.failed(&format!("error {number}"));
        }
        let row = recorder.row("burst", Loop::Closed);
        assert_eq!(row.problem_count(), 1_000);
        assert_eq!(row.problems.len(), KINDS + 1);
    }
}
