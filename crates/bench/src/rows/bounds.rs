//! What bounds the product from below and above: inserts with nothing around them, and answers with nothing behind them.

use std::process::Command;

use anyhow::{Context as _, Result};

use super::{Row, TASK, TASKS};
use crate::{
    bench::{Bench, Need},
    figure::Outcome,
    measure::{
        pgbench,
        wrk::{self, Ask},
    },
    start::{
        place::{Place, Shape},
        process::{Process, Ready},
        stack::address,
    },
};

pub const ROWS: &[Row] = &[
    Row {
        name: "floor",
        about: "pgbench, 64 clients, one prepared insert into a table like the tasks' at a time",
        needs: &[Need::Postgres, Need::Pgbench],
        run: |bench| Box::pin(floor(bench)),
    },
    Row {
        name: "ceiling",
        about: "axum that reads nothing and answers 201",
        needs: &[Need::Wrk],
        run: |bench| Box::pin(ceiling(bench)),
    },
];

async fn floor(bench: &Bench) -> Result<Outcome> {
    let place = Place::on_postgres(bench, false).await?;
    let database = place.database.clone().context("the place has a database")?;
    let result = pgbench::floor(bench, place.folder(), &database).await;
    let removed = place.remove().await;
    let outcome = result?;
    removed.map(|()| outcome)
}

async fn ceiling(bench: &Bench) -> Result<Outcome> {
    let place = Place::new(bench, Shape::Embedded).await?;
    let mut command = Command::new(&bench.own);
    command.arg("serve-nothing");
    let process = Process::start("nothing", command, place.folder(), Ready::Listens).await?;
    let ask = Ask::post(TASKS, "as long as a token", TASK);
    let result = wrk::load(bench, place.folder(), address(&process)?, &ask).await;
    process.stop().await?;
    place.remove().await?;
    Ok(result?.0.outcome())
}
