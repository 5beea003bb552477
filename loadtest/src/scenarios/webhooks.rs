//! A backlog of webhooks: tasks are posted by the hundred, faster than they can be delivered, and the receiver counts
//! until all have come.

use std::{sync::Arc, time::Duration};

use anyhow::{Result, bail};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use serde_json::json;

use super::Scenario;
use crate::{
    posted::{Posted, title},
    receiver::Receiver,
    record::Recorder,
    row::{Loop, Row},
    run::Context,
    target::{Account, task},
};

/// How many tasks a batch has, and how many batches are posted at once.
const SIZE: usize = 100;
const AT_ONCE: usize = 4;
/// How many batches for each second of the run: 3,000 deliveries a second are to be beaten.
const BATCHES: usize = 30;
/// How long nothing may come before the rest is given up.
const SILENCE: Duration = Duration::from_secs(20);

/// Runs it.
pub async fn run(context: &Context) -> Result<Vec<Row>> {
    let (target, name) = (&context.target, Scenario::Webhooks.name());
    let recorder = Recorder::new()?;
    let batches = usize::try_from(context.options.seconds)? * BATCHES;
    let posted = Posted::new(batches * SIZE, Arc::clone(&recorder));
    let owner = target.one(name).await?;
    let came = Arc::clone(&posted);
    let receiver = Receiver::start(move |arrival| came.arrived(arrival)).await?;
    let webhook = target.webhook(&owner, &receiver.url()).await?;
    context.progress.watch(&recorder);

    let posts = (0..batches).map(|batch| post(context, &owner, &posted, batch));
    stream::iter(posts).buffer_unordered(AT_ONCE).try_collect::<()>().await?;
    posted.wait_for(u64::try_from(batches * SIZE)?, SILENCE).await;
    target.remove(&owner, &webhook).await?;
    let row = recorder.row(name, Loop::Closed).note("times include the wait in the backlog");
    Ok(vec![posted.note(row)])
}

async fn post(context: &Context, owner: &Account, posted: &Posted, batch: usize) -> Result<()> {
    let numbers = batch * SIZE..(batch + 1) * SIZE;
    let tasks: Vec<_> = numbers.clone().map(|number| task(&title(number))).collect();
    let request = context.target.post(owner, "/v1/tasks/batch").json(&json!({"tasks": tasks}));
    numbers.for_each(|number| posted.sent(number));
    let status = request.send().await?.status();
    if status == 429 {
        bail!("the limit for writes stands in the way; run the instance with RATE_LIMIT_WRITE=1000000/s");
    }
    if status != 207 {
        bail!("a batch was answered {status}");
    }
    Ok(())
}
