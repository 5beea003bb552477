//! Tells of tasks that are due soon or overdue.

use std::time::Duration;

use taskpost_common::Cause;
use taskpost_store::{Change, tasks};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use crate::{
    Consumers,
    attempt::{Fault, in_time},
    outage::Outage,
};

const EVERY: Duration = Duration::from_secs(2);
/// Transactions in one look; what is left waits for the next.
const ROUNDS: usize = 50;

/// Looks every two seconds until `stop`, in every process: the store has each task told of by one of them.
pub(crate) async fn run(stage: Consumers, stop: CancellationToken) {
    let mut ticks = tokio::time::interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut outage = Outage::new("reminders");
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = ticks.tick() => {}
        }
        match look(&stage, &stop).await {
            Ok(()) => outage.over(),
            Err(fault) => outage.wait(&fault, &stop).await,
        }
    }
}

async fn look(stage: &Consumers, stop: &CancellationToken) -> Result<(), Fault> {
    for _ in 0..ROUNDS {
        let cause = Cause { correlation_id: stage.clock.id(), ..Cause::default() };
        let change = Change { clock: &stage.clock, cause: &cause };
        let reminded = in_time(async { tasks::remind(&stage.db, change).await.map_err(Fault::held) }).await?;
        if reminded.told > 0 {
            stage.wakes.committed(stage.db.has_outbox());
            metrics::counter!("taskpost_reminders_total").increment(reminded.told);
        }
        if !reminded.more || stop.is_cancelled() {
            break;
        }
    }
    Ok(())
}
