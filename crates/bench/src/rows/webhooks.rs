//! Deliveries of a backlog to a fast local receiver.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use super::Row;
use crate::{
    bench::{Bench, EMBEDDED, FULL},
    figure::{Outcome, Unit},
    measure::receiver::{Receiver, title},
    start::{
        place::Shape,
        stack::{self, Plan, Role, Stack},
    },
    stats::per_second,
};

/// How many deliveries there are for each second that a row is loaded.
const EACH_SECOND: u64 = 3_000;
/// How much longer than that they may take.
const PATIENCE: Duration = Duration::from_mins(3);
/// One endpoint gets all that a process sends at once; an operator would say so for a receiver of his own.
pub const VARIABLES: &[(&str, &str)] =
    &[("DELIVERY_CONCURRENCY", "64"), ("WEBHOOK_CONCURRENCY", "64"), ("DELIVERY_PREFETCH", "256")];

pub const ROWS: &[Row] = &[
    Row {
        name: "webhooks-embedded",
        about: "a backlog of webhooks to a receiver on this machine, 64 at once, embedded",
        needs: EMBEDDED,
        run: |bench| Box::pin(embedded(bench)),
    },
    Row {
        name: "webhooks-full",
        about: "the same through RabbitMQ, full, with API and consumers beside it",
        needs: FULL,
        run: |bench| Box::pin(full(bench)),
    },
];

async fn embedded(bench: &Bench) -> Result<Outcome> {
    let plan = Plan { shape: Shape::Embedded, roles: &[Role::Intake], variables: VARIABLES };
    stack::with(bench, plan, async |stack| {
        let (receiver, count) = backlog(bench, stack).await?;
        // On SQLite one process does everything: the same again, with what delivers.
        stack.stop().await?;
        stack.add(Role::All).await?;
        drained(&receiver, count).await
    })
    .await
}

async fn full(bench: &Bench) -> Result<Outcome> {
    let plan = Plan { shape: Shape::Full, roles: &[Role::Api, Role::Consumers], variables: VARIABLES };
    stack::with(bench, plan, async |stack| {
        let (receiver, count) = backlog(bench, stack).await?;
        stack.add(Role::Workers).await?;
        drained(&receiver, count).await
    })
    .await
}

/// Tasks whose deliveries are all made, and none sent.
pub async fn backlog(bench: &Bench, stack: &Stack<'_>) -> Result<(Receiver, usize)> {
    let receiver = Receiver::start().await?;
    stack.client.hook(receiver.address).await?;
    let titles: Vec<String> = (0..EACH_SECOND * bench.seconds()).map(title).collect();
    stack.client.tasks(&titles).await?;
    stack.caught_up().await?;
    ensure!(receiver.count() == 0, "something was delivered with no workers running");
    Ok((receiver, titles.len()))
}

/// Waits until all have come; the rate counts from the first to the last.
pub async fn drained(receiver: &Receiver, count: usize) -> Result<Outcome> {
    let all = receiver.wait_for(count, PATIENCE).await;
    ensure!(all, "{} of {count} webhooks came", receiver.count());
    let mut times: Vec<Instant> = receiver.came().into_iter().flatten().collect();
    times.sort_unstable();
    let (first, last) = times.first().zip(times.last()).context("nothing was delivered")?;
    Ok(Outcome::default().with("per_second", per_second(count - 1, *last - *first), Unit::PerSecond))
}
