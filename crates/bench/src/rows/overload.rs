//! Three times as many requests as it can take: what is taken is answered in time, the rest is refused at once, and when it
//! is over everything is as before.

use std::{sync::Arc, time::Duration};

use anyhow::{Result, ensure};
use tokio::time::sleep;

use super::{Row, TASK, TASKS};
use crate::{
    bench::{Bench, EMBEDDED, FULL},
    figure::{Outcome, Unit},
    measure::{
        arrivals::{self, Arrivals, Heard, Make},
        connection,
        wrk::{self, Ask, Loop},
    },
    start::{
        place::Shape,
        stack::{self, Plan, Role},
    },
    stats::{float, per_second, percentile},
};

/// How long it is found out what can be sustained.
const STEADY: u64 = 4;
/// How many times that is asked for, and for how long.
const TIMES: f64 = 3.0;
const BURST: Duration = Duration::from_secs(10);
/// How long it may take until everything is as before; then so much of what can be sustained is asked for, so long.
const REST: Duration = Duration::from_secs(10);
const SHARE: f64 = 0.25;
const AFTER: Duration = Duration::from_secs(3);
/// Enough for what waits and what is just being refused.
const CONNECTIONS: usize = 1_600;
/// What keeps the product from taking too much, as it is by default.
const VARIABLES: &[(&str, &str)] = &[("COMMIT_QUEUE", "4096"), ("COMMIT_WAIT", "50ms")];

pub const ROWS: &[Row] = &[
    Row {
        name: "overload-embedded",
        about: "3 times what can be sustained for 10 s over 1,600 connections, embedded",
        needs: EMBEDDED,
        run: |bench| Box::pin(overload(bench, Shape::Embedded, &[Role::All])),
    },
    Row {
        name: "overload-full",
        about: "the same, full, API, consumers and workers",
        needs: FULL,
        run: |bench| Box::pin(overload(bench, Shape::Full, &[Role::Api, Role::Consumers, Role::Workers])),
    },
];

async fn overload(bench: &Bench, shape: Shape, roles: &[Role]) -> Result<Outcome> {
    stack::with(bench, Plan { shape, roles, variables: VARIABLES }, async |stack| {
        let (address, token) = (stack.client.address, stack.client.token.clone());
        let ask = Ask::post(TASKS, &token, TASK);
        stack.caught_up().await?;
        let steady = wrk::once(bench, stack.place.folder(), address, &ask, Loop::lasting(STEADY)).await?;
        stack.caught_up().await?;
        let request = connection::post(address, TASKS, &token, TASK);
        let make: Make = Arc::new(move |_| request.clone());
        let before = stack.memory();
        let rate = steady.per_second * TIMES;
        let burst = Arrivals { address, rate, time: BURST, connections: CONNECTIONS, make };
        let heard = arrivals::run(&burst).await?;
        let mut outcome = told(&heard).with("sustained_per_second", steady.per_second, Unit::PerSecond);
        outcome.add("before_mib", before, Unit::Mib);
        outcome.add("burst_mib", stack.memory(), Unit::Mib);
        sleep(REST).await;
        let gentle = Arrivals { rate: steady.per_second * SHARE, time: AFTER, ..burst };
        let after = arrivals::run(&gentle).await?;
        let refused = after.answers.len() - after.admitted().len();
        ensure!(refused + after.broken == 0, "10 s later the answers are {:?}", after.statuses());
        outcome.add("after_p99_ms", after.admitted_within(99), Unit::Millis);
        outcome.add("after_mib", stack.memory(), Unit::Mib);
        Ok(outcome)
    })
    .await
}

/// What became of the burst.
fn told(heard: &Heard) -> Outcome {
    let admitted = heard.admitted();
    let refused: Vec<_> =
        heard.answers.iter().filter(|(_, _, answer)| matches!(answer.status, 429 | 503)).collect();
    let mute = refused.iter().filter(|(_, _, answer)| !answer.retry_after).count();
    let other = heard.answers.len() - admitted.len() - refused.len();
    let mut times: Vec<Duration> = refused.iter().map(|(_, took, _)| *took).collect();
    let mut outcome = Outcome::default()
        .with("admitted_per_second", per_second(admitted.len(), BURST), Unit::PerSecond)
        .with("admitted_p99_ms", heard.admitted_within(99), Unit::Millis)
        .with("refused_p99_ms", percentile(&mut times, 99), Unit::Millis)
        .with("refused_mute", float(mute), Unit::Count)
        .with("failed", float(other + heard.broken), Unit::Count)
        .with("unsent", float(heard.unsent), Unit::Count);
    outcome.note(format!("answers {:?}", heard.statuses()));
    outcome
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::measure::connection::Answer;

    #[test]
    fn a_refusal_without_a_time_is_counted() {
        let answer =
            |status, retry_after| (Instant::now(), Duration::from_millis(2), Answer { status, retry_after });
        let answers = vec![answer(201, false), answer(503, true), answer(429, false), answer(500, false)];
        let outcome = told(&Heard { answers, unsent: 7, broken: 1 });
        let value = |name: &str| outcome.figures.iter().find(|figure| figure.name == name).map(|it| it.value);
        assert_eq!(value("refused_mute"), Some(1.0));
        assert_eq!(value("failed"), Some(2.0));
        assert_eq!(value("unsent"), Some(7.0));
    }
}
