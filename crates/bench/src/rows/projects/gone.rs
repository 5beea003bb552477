//! The deletion of the project with everything in it.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use taskpost_store::{Db, events};

use super::{
    fill::Project,
    reads::{board_at, counted},
};
use crate::{
    figure::{Outcome, Unit},
    start::stack::{Stack, until},
    stats::float,
};

/// How long it may take until it is gone.
const PATIENCE: Duration = Duration::from_secs(90);

/// Deletes it. The request may be answered before that is done; what counts is when the project is found no more.
pub async fn deleted(stack: &Stack<'_>, project: &Project, outcome: &mut Outcome) -> Result<()> {
    let client = &stack.client;
    let tasks = counted(&client.get(&board_at(project)).await?)?;
    let before = head(stack).await?;
    let path = format!("/v1/projects/{}", project.id);
    let began = Instant::now();
    let status = client.remove(&path).await?;
    ensure!([202, 204, 503].contains(&status), "DELETE {path}: {status}");
    let what = format!("the project of {tasks} tasks is gone, after {status}");
    until(&what, PATIENCE, async || Ok(client.look(&path).await?.0 == 404)).await?;
    let took = began.elapsed();
    let lag = stack.caught_up().await?;
    let events = usize::try_from(head(stack).await? - before)?;
    outcome.add("delete_tasks", float(tasks), Unit::Count);
    outcome.add("delete_events", float(events), Unit::Count);
    outcome.add("delete_s", took.as_secs_f64(), Unit::Seconds);
    outcome.add("delete_lag_s", lag, Unit::Seconds);
    Ok(())
}

/// The last position of the log.
async fn head(stack: &Stack<'_>) -> Result<i64> {
    let db = stack.place.store().await?;
    let head = read(&db).await;
    db.close().await;
    head
}

async fn read(db: &Db) -> Result<i64> {
    let mut reader = db.reader().await?;
    Ok(events::head(&mut reader).await?.0)
}
