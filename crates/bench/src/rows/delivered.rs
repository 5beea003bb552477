//! From a POST to its webhook's arrival, at 100 tasks a second.

use std::{sync::Arc, time::Duration};

use anyhow::{Result, ensure};

use super::{Row, TASKS};
use crate::{
    bench::{Bench, EMBEDDED, FULL},
    figure::{Outcome, Unit},
    measure::{
        arrivals::{self, Arrivals, Make},
        connection,
        receiver::{Receiver, title},
    },
    start::{
        place::Shape,
        stack::{self, Plan, Role},
    },
    stats::{float, percentile},
};

/// Tasks a second.
const RATE: f64 = 100.0;
/// How long the first tasks are not counted, as connections are made then.
const WARM_UP: u64 = 1;
const CONNECTIONS: usize = 16;
/// How long the last webhook may take to come.
const PATIENCE: Duration = Duration::from_secs(30);

pub const ROWS: &[Row] = &[
    Row {
        name: "delivered-embedded",
        about: "from a POST to its webhook at 100/s, embedded",
        needs: EMBEDDED,
        run: |bench| Box::pin(delivered(bench, Shape::Embedded, &[Role::All])),
    },
    Row {
        name: "delivered-full",
        about: "from a POST to its webhook at 100/s, full",
        needs: FULL,
        run: |bench| Box::pin(delivered(bench, Shape::Full, &[Role::Api, Role::Consumers, Role::Workers])),
    },
];

async fn delivered(bench: &Bench, shape: Shape, roles: &[Role]) -> Result<Outcome> {
    stack::with(bench, Plan { shape, roles, variables: &[] }, async |stack| {
        let receiver = Receiver::start().await?;
        stack.client.hook(receiver.address).await?;
        stack.caught_up().await?;
        let (address, token) = (stack.client.address, stack.client.token.clone());
        let make: Make = Arc::new(move |number| {
            connection::post(address, TASKS, &token, &format!("{{\"title\":\"{}\"}}", title(number)))
        });
        let time = Duration::from_secs(WARM_UP + bench.seconds());
        let heard =
            arrivals::run(&Arrivals { address, rate: RATE, time, connections: CONNECTIONS, make }).await?;
        let statuses = heard.statuses();
        ensure!(
            heard.unsent + heard.broken == 0 && statuses.keys().all(|status| *status == 201),
            "{} were not sent, {} broke, and the answers were {statuses:?}",
            heard.unsent,
            heard.broken
        );
        let all = receiver.wait_for(heard.answers.len(), PATIENCE).await;
        ensure!(all, "{} of {} webhooks came", receiver.count(), heard.answers.len());
        // They were due at even distances, in the order of their numbers.
        let mut due: Vec<_> = heard.answers.iter().map(|(due, ..)| *due).collect();
        due.sort_unstable();
        let arrived = due.into_iter().zip(receiver.came());
        let took = arrived.filter_map(|(due, came)| Some(came?.saturating_duration_since(due)));
        let warm = usize::try_from(crate::stats::whole(RATE) * WARM_UP)?;
        let mut took: Vec<Duration> = took.skip(warm).collect();
        ensure!(!took.is_empty(), "nothing was measured");
        let mut outcome = Outcome::default().with("p50_ms", percentile(&mut took, 50), Unit::Millis).with(
            "p99_ms",
            percentile(&mut took, 99),
            Unit::Millis,
        );
        outcome.note(format!("{:.0} deliveries", float(took.len())));
        Ok(outcome)
    })
    .await
}
