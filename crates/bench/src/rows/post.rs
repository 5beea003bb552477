//! `POST /tasks`, one by one and by the hundred.

use anyhow::Result;
use serde_json::json;

use super::{Row, TASK, TASKS};
use crate::{
    bench::{Bench, EMBEDDED, FULL},
    figure::{Outcome, Unit},
    measure::wrk::{self, Ask, Loop},
    start::{
        place::Shape,
        stack::{self, Plan, Role},
    },
};

/// How far behind the groups may be when the load ends, in seconds: above, the row was not keeping up.
const LAG: f64 = 5.0;
/// How many tasks a batch has, and how many batches are under way at once: one of them is as much as 100 requests.
const BATCH: u32 = 100;
const BATCHES: u32 = 16;

pub const ROWS: &[Row] = &[
    Row {
        name: "embedded-api",
        about: "POST /tasks on SQLite, the API alone",
        needs: EMBEDDED,
        run: |bench| Box::pin(alone(bench)),
    },
    Row {
        name: "embedded-post",
        about: "POST /tasks, embedded, everything running and keeping up",
        needs: EMBEDDED,
        run: |bench| Box::pin(keeping_up(bench, Shape::Embedded, &[Role::All])),
    },
    Row {
        name: "full-movers",
        about: "POST /tasks, full, API, sequencer and relay",
        needs: FULL,
        run: |bench| Box::pin(moving(bench)),
    },
    Row {
        name: "full-post",
        about: "POST /tasks, full, API, consumers and workers, keeping up",
        needs: FULL,
        run: |bench| Box::pin(keeping_up(bench, Shape::Full, &[Role::Api, Role::Consumers, Role::Workers])),
    },
    Row {
        name: "batch",
        about: "POST /tasks/batch of 100 over 16 connections, full, API, sequencer and relay",
        needs: FULL,
        run: |bench| Box::pin(batch(bench)),
    },
];

async fn alone(bench: &Bench) -> Result<Outcome> {
    let plan = Plan { shape: Shape::Embedded, roles: &[Role::ApiAlone], variables: &[] };
    stack::with(bench, plan, async |stack| {
        let ask = Ask::post(TASKS, &stack.client.token, TASK);
        let (measured, _) = wrk::load(bench, stack.place.folder(), stack.client.address, &ask).await?;
        Ok(measured.outcome())
    })
    .await
}

/// With nobody reading what is moved; how long that takes to get to Kafka after the load is said.
async fn moving(bench: &Bench) -> Result<Outcome> {
    let plan = Plan { shape: Shape::Full, roles: &[Role::Api, Role::Movers], variables: &[] };
    stack::with(bench, plan, async |stack| {
        stack.moved().await?;
        let ask = Ask::post(TASKS, &stack.client.token, TASK);
        let (measured, _) = wrk::load(bench, stack.place.folder(), stack.client.address, &ask).await?;
        Ok(measured.outcome().with("lag_s", stack.moved().await?, Unit::Seconds))
    })
    .await
}

/// With every group reading; how long they take to catch up after the load is part of it.
async fn keeping_up(bench: &Bench, shape: Shape, roles: &[Role]) -> Result<Outcome> {
    stack::with(bench, Plan { shape, roles, variables: &[] }, async |stack| {
        // The groups have joined then.
        stack.caught_up().await?;
        let ask = Ask::post(TASKS, &stack.client.token, TASK);
        let (measured, _) = wrk::load(bench, stack.place.folder(), stack.client.address, &ask).await?;
        let lag = stack.caught_up().await?;
        let mut outcome = measured.outcome().with("lag_s", lag, Unit::Seconds);
        if lag > LAG {
            outcome.note("it was not keeping up");
        }
        Ok(outcome)
    })
    .await
}

async fn batch(bench: &Bench) -> Result<Outcome> {
    let roles = &[Role::Api, Role::Movers];
    stack::with(bench, Plan { shape: Shape::Full, roles, variables: &[] }, async |stack| {
        stack.moved().await?;
        let task: serde_json::Value = serde_json::from_str(TASK)?;
        let tasks: Vec<_> = (0..BATCH).map(|_| task.clone()).collect();
        let path = format!("{TASKS}/batch");
        let ask = Ask::post(&path, &stack.client.token, json!({"tasks": tasks}).to_string());
        let load = Loop { connections: BATCHES, ..Loop::lasting(bench.seconds()) };
        let (measured, _) =
            wrk::warmed(bench, stack.place.folder(), stack.client.address, &ask, load).await?;
        let tasks = measured.per_second * f64::from(BATCH);
        Ok(Outcome::default()
            .with("tasks_per_second", tasks, Unit::PerSecond)
            .with("p50_ms", measured.p50, Unit::Millis)
            .with("p99_ms", measured.p99, Unit::Millis))
    })
    .await
}
