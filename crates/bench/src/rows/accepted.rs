//! `Prefer: respond-async`: answered once the log has it, and stored by ingestion later.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use tokio::time::sleep;

use super::{Row, TASK, TASKS};
use crate::{
    bench::{Bench, FULL},
    figure::{Outcome, Unit},
    measure::wrk::{self, Ask},
    start::{
        place::Shape,
        stack::{self, Plan, Role, Stack},
    },
    stats::per_second,
};

/// How long storing everything may take.
const PATIENCE: Duration = Duration::from_mins(3);
/// How often it is looked.
const LOOK: Duration = Duration::from_millis(50);

pub const ROWS: &[Row] = &[Row {
    name: "async-drain",
    about: "POST /tasks with Prefer: respond-async, the API alone; then consumers store what was accepted",
    needs: FULL,
    run: |bench| Box::pin(accepted(bench)),
}];

async fn accepted(bench: &Bench) -> Result<Outcome> {
    let roles = &[Role::Api, Role::Movers];
    stack::with(bench, Plan { shape: Shape::Full, roles, variables: &[] }, async |stack| {
        // The relay makes the topics; it is idle while nothing is stored.
        stack.moved().await?;
        let mut ask = Ask::post(TASKS, &stack.client.token, TASK);
        ask.headers.push(("Prefer".to_owned(), "respond-async".to_owned()));
        let status = stack.client.probe(TASKS, &ask.headers, TASK).await?;
        ensure!(status == 202, "the answer was {status} instead of 202");
        let (measured, posted) = wrk::load(bench, stack.place.folder(), stack.client.address, &ask).await?;
        let posted = usize::try_from(posted)?;
        let drained = drain(stack, posted).await?;
        Ok(measured.outcome().with("drained_per_second", drained, Unit::PerSecond))
    })
    .await
}

/// Starts consumers and looks until so many tasks are stored; gives how many were in a second from when the first was
/// seen. Requests that were cut when the load ended may have been accepted too: there may be a few more.
async fn drain(stack: &mut Stack<'_>, expected: usize) -> Result<f64> {
    const COUNT: &str = "SELECT count(*) FROM tasks";
    // Each task that is stored takes a number here. Counting the tasks themselves would cost as much as storing some.
    const NUMBER: &str = "SELECT last_value FROM outbox_seq_seq";
    let database = stack.place.database.clone().context("the full shape has a database")?;
    let mut asker = database.asker().await?;
    ensure!(asker.number(COUNT).await? == 0, "tasks are stored with no consumers running");
    let before = asker.number(NUMBER).await?;
    stack.stop_one(Role::Movers).await?;
    stack.add(Role::Consumers).await?;
    let (began, mut first) = (Instant::now(), None);
    loop {
        ensure!(began.elapsed() < PATIENCE, "not everything that was accepted is stored");
        let stored = usize::try_from(asker.number(NUMBER).await? - before)?;
        let now = Instant::now();
        if stored >= expected && usize::try_from(asker.number(COUNT).await?)? >= expected {
            // All of it before the first look would be a rate that nobody has measured.
            let (seen, since) = first.unwrap_or((0, began));
            return Ok(per_second(stored - seen, now - since));
        }
        if stored > 0 {
            first = first.or(Some((stored, now)));
        }
        sleep(LOOK).await;
    }
}
