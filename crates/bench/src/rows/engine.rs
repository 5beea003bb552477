//! The delivery engine with a channel that sends nothing, on both queues; and what bounds it on RabbitMQ.

use std::{process::Command, time::Duration};

use anyhow::{Context as _, Result};
use serde::de::DeserializeOwned;

use super::Row;
use crate::{
    bench::{Bench, Need},
    figure::{Outcome, Unit},
    serve::{bare::Passed, engine::Drained},
    start::{
        place::Place,
        process::{Process, Ready},
        stack::in_place,
    },
    stats::float,
};

/// How many jobs: as many as the peers drain.
pub const JOBS: usize = 50_000;
/// How long it may take.
const PATIENCE: Duration = Duration::from_mins(6);
/// How many deliveries the engine has at once, and how many messages are sent to it ahead. River's own benchmark lets a
/// thousand run.
const AT_ONCE: &str = "500";

pub const ROWS: &[Row] = &[
    Row {
        name: "engine-store",
        about: "the delivery engine drains 50,000 deliveries to nowhere, from the queue in Postgres",
        needs: &[Need::Postgres],
        run: |bench| Box::pin(engine(bench, false)),
    },
    Row {
        name: "engine-rabbitmq",
        about: "the same from RabbitMQ, which was told of them before",
        needs: &[Need::Postgres, Need::Rabbitmq],
        run: |bench| Box::pin(engine(bench, true)),
    },
    Row {
        name: "bare-lapin",
        about: "as many messages through a quorum queue by lapin alone",
        needs: &[Need::Postgres, Need::Rabbitmq],
        run: |bench| Box::pin(bare(bench)),
    },
];

async fn engine(bench: &Bench, rabbitmq: bool) -> Result<Outcome> {
    let drained: Drained = in_process(bench, rabbitmq, "drain-engine").await?;
    let mut outcome =
        Outcome::default().with("per_second", float(drained.jobs) / drained.seconds, Unit::PerSecond);
    if rabbitmq {
        outcome.add("announced_per_second", float(drained.jobs) / drained.announced, Unit::PerSecond);
    }
    Ok(outcome)
}

async fn bare(bench: &Bench) -> Result<Outcome> {
    let passed: Passed = in_process(bench, true, "drain-queue").await?;
    Ok(Outcome::default().with("per_second", float(passed.jobs) / passed.consumed, Unit::PerSecond).with(
        "published_per_second",
        float(passed.jobs) / passed.published,
        Unit::PerSecond,
    ))
}

/// Runs a hidden mode to its end; its last line is what it measured.
async fn in_process<T: DeserializeOwned>(bench: &Bench, rabbitmq: bool, mode: &'static str) -> Result<T> {
    let place = Place::on_postgres(bench, rabbitmq).await?;
    let mut command: Command = in_place(bench, &place, mode);
    command.arg(JOBS.to_string()).env("DELIVERY_CONCURRENCY", AT_ONCE).env("DELIVERY_PREFETCH", AT_ONCE);
    let said = match Process::start(mode, command, place.folder(), Ready::AtOnce).await {
        Ok(process) => process.ends(PATIENCE).await,
        Err(error) => Err(error),
    };
    let removed = place.remove().await;
    let said = said?;
    removed?;
    let last = said.lines().last().unwrap_or_default();
    serde_json::from_str(last).with_context(|| format!("{mode} said {said}"))
}
