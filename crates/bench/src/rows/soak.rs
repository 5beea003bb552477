//! A constant load below the peak for minutes: what holds memory or falls behind a little with each request shows then.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use taskpost_consumers::Standing;
use taskpost_store::Db;
use tokio::time::sleep;

use super::{Row, TASK, TASKS};
use crate::{
    bench::{Bench, EMBEDDED, FULL},
    figure::{Outcome, Unit},
    measure::{
        arrivals::{self, Arrivals, Make},
        connection,
        wrk::{self, Ask},
    },
    start::{
        place::Shape,
        stack::{self, Plan, Role, Stack},
    },
    stats::{float, percentile, slope},
};

/// How much of the peak is asked for.
const SHARE: f64 = 0.7;
const CONNECTIONS: usize = 256;
/// How long one token is used, and how much of the answers is kept at once.
const PART: Duration = Duration::from_secs(30);
/// How often memory and lag are looked at.
const SAMPLE: Duration = Duration::from_secs(5);
/// What comes before is growth that every process has at its start.
const SETTLED: f64 = 1.0;

pub const ROWS: &[Row] = &[
    Row {
        name: "soak-embedded",
        about: "70 % of the peak for minutes, embedded",
        needs: EMBEDDED,
        run: |bench| Box::pin(soak(bench, Shape::Embedded, &[Role::All])),
    },
    Row {
        name: "soak-full",
        about: "70 % of the peak for minutes, full",
        needs: FULL,
        run: |bench| Box::pin(soak(bench, Shape::Full, &[Role::Api, Role::Consumers, Role::Workers])),
    },
];

/// What was seen at one time.
#[derive(Clone, Debug)]
struct Sample {
    /// Minutes since the beginning.
    at: f64,
    /// Of each process, in MiB.
    memory: Vec<(&'static str, f64)>,
    /// How many events the last group is behind.
    lag: f64,
}

async fn soak(bench: &Bench, shape: Shape, roles: &[Role]) -> Result<Outcome> {
    let time = Duration::from_mins(bench.options.soak.unwrap_or(1));
    stack::with(bench, Plan { shape, roles, variables: &[] }, async |stack| {
        stack.caught_up().await?;
        let ask = Ask::post(TASKS, &stack.client.token, TASK);
        let (peak, _) = wrk::load(bench, stack.place.folder(), stack.client.address, &ask).await?;
        stack.caught_up().await?;
        let rate = peak.per_second * SHARE;
        let db = stack.place.store().await?;
        let (began, mut samples, mut took, mut unsent) = (Instant::now(), Vec::new(), Vec::new(), 0);
        while began.elapsed() < time {
            stack.renew().await?;
            let load = load(stack, rate);
            let (heard, seen) = tokio::join!(arrivals::run(&load), watch(stack, &db, began));
            let heard = heard?;
            ensure!(
                heard.broken == 0 && heard.statuses().keys().all(|status| *status == 201),
                "{} requests broke, and the answers were {:?}",
                heard.broken,
                heard.statuses()
            );
            unsent += heard.unsent;
            took.push(heard.admitted_within(99));
            samples.extend(seen?);
            eprintln!(
                "    {:.0} s: p99 {:.1} ms",
                began.elapsed().as_secs_f64(),
                took.last().unwrap_or(&0.0)
            );
        }
        db.close().await;
        let lag = stack.caught_up().await?;
        let worst = took.iter().copied().fold(0.0, f64::max);
        Ok(told(&samples)
            .with("per_second", rate, Unit::PerSecond)
            .with("worst_p99_ms", worst, Unit::Millis)
            .with("unsent", float(unsent), Unit::Count)
            .with("lag_s", lag, Unit::Seconds))
    })
    .await
}

fn load(stack: &Stack<'_>, rate: f64) -> Arrivals {
    let request = connection::post(stack.client.address, TASKS, &stack.client.token, TASK);
    let make: Make = Arc::new(move |_| request.clone());
    Arrivals { address: stack.client.address, rate, time: PART, connections: CONNECTIONS, make }
}

/// Looks for as long as one part lasts.
async fn watch(stack: &Stack<'_>, db: &Db, began: Instant) -> Result<Vec<Sample>> {
    let (part, mut samples) = (Instant::now(), Vec::new());
    while part.elapsed() + SAMPLE < PART {
        sleep(SAMPLE).await;
        let standing = Standing::read(db).await?;
        let behind = standing.groups.iter().map(|(_, applied)| standing.head.0 - applied.0).max();
        let lag = standing.outbox + behind.unwrap_or_default();
        let processes = stack.processes.iter();
        let memory =
            processes.filter_map(|(process, _)| Some((process.name, process.memory()?.now))).collect();
        let lag = float(usize::try_from(lag).unwrap_or_default());
        samples.push(Sample { at: began.elapsed().as_secs_f64() / 60.0, memory, lag });
    }
    Ok(samples)
}

/// How much each process grows in a minute once it has settled, and how far behind the groups were.
fn told(samples: &[Sample]) -> Outcome {
    let mut outcome = Outcome::default();
    let settled: Vec<&Sample> = samples.iter().filter(|sample| sample.at >= SETTLED).collect();
    let names =
        samples.first().map(|sample| sample.memory.iter().map(|(name, _)| *name)).into_iter().flatten();
    for name in names {
        let of = |sample: &&Sample| {
            let memory = sample.memory.iter().find(|(known, _)| *known == name);
            memory.map(|(_, memory)| (sample.at, *memory))
        };
        let points: Vec<(f64, f64)> = settled.iter().filter_map(of).collect();
        outcome.add(format!("{name}_mib_a_minute"), slope(&points), Unit::Mib);
    }
    let mut lags: Vec<Duration> =
        samples.iter().map(|sample| Duration::from_secs_f64(sample.lag / 1_000.0)).collect();
    outcome.add("lag_median_events", percentile(&mut lags, 50), Unit::Count);
    outcome.add("lag_most_events", percentile(&mut lags, 100), Unit::Count);
    let points: Vec<(f64, f64)> = settled.iter().map(|sample| (sample.at, sample.lag)).collect();
    outcome.add("lag_events_a_minute", slope(&points), Unit::Count);
    outcome
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn growth_counts_once_it_has_settled() {
        let sample = |at: f64, memory: f64, lag: f64| Sample { at, memory: vec![("api", memory)], lag };
        let samples =
            [sample(0.1, 10.0, 0.0), sample(1.0, 40.0, 5.0), sample(2.0, 42.0, 5.0), sample(3.0, 44.0, 5.0)];
        let outcome = told(&samples);
        let value = |name: &str| {
            let found = outcome.figures.iter().find(|figure| figure.name == name);
            found.map(|figure| figure.value.round())
        };
        assert_eq!(value("api_mib_a_minute"), Some(2.0));
        assert_eq!(value("lag_most_events"), Some(5.0));
        assert_eq!(value("lag_events_a_minute"), Some(0.0));
    }
}
