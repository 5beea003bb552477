//! Removes what is kept for a while only.

use std::time::Duration;

use taskpost_store::housekeeping::sweep;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use crate::{
    Consumers,
    attempt::{Fault, in_time},
    outage::Outage,
};

const EVERY: Duration = Duration::from_mins(1);
/// Rows of each kind in one transaction: few, because writers wait for it on SQLite.
const ROWS: i64 = 500;
/// Transactions in one round; what is left waits a minute.
const ROUNDS: usize = 100;

/// Sweeps each minute until `stop`.
pub(crate) async fn run(stage: Consumers, stop: CancellationToken) {
    let mut ticks = tokio::time::interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut outage = Outage::new("housekeeping");
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = ticks.tick() => {}
        }
        match round(&stage, &stop).await {
            Ok(()) => outage.over(),
            Err(fault) => outage.wait(&fault, &stop).await,
        }
    }
}

async fn round(stage: &Consumers, stop: &CancellationToken) -> Result<(), Fault> {
    for _ in 0..ROUNDS {
        let swept =
            in_time(async { sweep(&stage.db, stage.clock.now(), ROWS).await.map_err(Fault::held) }).await?;
        metrics::counter!("taskpost_housekeeping_deleted_total").increment(swept);
        if swept < ROWS.unsigned_abs() || stop.is_cancelled() {
            break;
        }
    }
    Ok(())
}
