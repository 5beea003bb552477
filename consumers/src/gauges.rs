//! What an operator watches: how far each group and the relay are, and how much waits in the outbox. Read from the store,
//! so every process that consumes shows the same.

use std::time::Duration;

use taskpost_ports::Log;
use taskpost_store::{
    Db, StoreError, events,
    progress::{self, Place},
};
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use crate::Consumers;

const EVERY: Duration = Duration::from_secs(1);
const OUTBOX_EVERY: Duration = Duration::from_secs(5);
/// An older row in the outbox means that the sequencer stands still.
const ALARM: f64 = 10.0;
/// Partitions of a group that have a gauge of their own.
const PARTITIONS: usize = 48;

/// Refreshes the gauges until `stop`. What cannot be read keeps its last value.
pub(crate) async fn run(stage: Consumers, groups: &'static [&'static str], stop: CancellationToken) {
    let mut ticks = tokio::time::interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut outbox_due = Instant::now();
    let (mut failing, mut alarmed) = (false, false);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = ticks.tick() => {}
        }
        let on_kafka = matches!(stage.log, Log::Kafka(_));
        let mut read = in_time(read_groups(&stage.db, groups, on_kafka)).await;
        if stage.db.has_outbox() && Instant::now() >= outbox_due {
            outbox_due += OUTBOX_EVERY;
            let oldest = in_time(read_outbox(&stage)).await;
            read = read.and(oldest.map(|oldest| alarm(oldest, &mut alarmed)));
        }
        match read {
            Ok(()) => failing = false,
            Err(error) if !std::mem::replace(&mut failing, true) => {
                tracing::warn!(%error, "could not read how far the groups are; their gauges stand still");
            }
            Err(_) => {}
        }
    }
}

async fn read_groups(db: &Db, groups: &[&'static str], on_kafka: bool) -> Result<(), StoreError> {
    let mut reader = db.reader().await?;
    // Progress first: events that come in between make the lag too large for a moment, never negative.
    let mut standings = Vec::with_capacity(groups.len());
    for &group in groups {
        let applied = progress::applied(&mut reader, group).await?;
        let places = if on_kafka { progress::places(&mut reader, group).await? } else { Vec::new() };
        standings.push((group, applied, places));
    }
    let relayed = if on_kafka { Some(progress::relay::cursor(&mut reader).await?) } else { None };
    let head = events::head(&mut reader).await?;
    if let Some(relayed) = relayed {
        metrics::gauge!("taskpost_relay_lag").set(as_f64(head.0 - relayed.0));
    }
    for (group, applied, places) in standings {
        metrics::gauge!("taskpost_group_position", "group" => group).set(as_f64(applied.0));
        // On Kafka a partition where nothing comes for long stays where it is: the lag is what waits in the one that is
        // furthest behind, and what is yet to be relayed.
        let waits = places.iter().map(Place::lag).max().unwrap_or_default();
        let lag = relayed.map_or(head.0 - applied.0, |relayed| head.0 - relayed.0 + waits);
        metrics::gauge!("taskpost_group_lag", "group" => group).set(as_f64(lag));
        for place in places.into_iter().take(PARTITIONS) {
            let lag = place.lag();
            let labels = [("group", group.to_owned()), ("partition", place.partition)];
            metrics::gauge!("taskpost_group_partition_lag", &labels).set(as_f64(lag));
        }
    }
    Ok(())
}

/// Gives the age of the oldest row in seconds.
async fn read_outbox(stage: &Consumers) -> Result<f64, StoreError> {
    let (rows, since) = events::outbox_backlog(&mut stage.db.reader().await?).await?;
    let age = since.map_or(0, |since| (stage.clock.now() - since).num_milliseconds().max(0));
    let oldest = as_f64(age) / 1000.0;
    metrics::gauge!("taskpost_outbox_rows").set(as_f64(rows));
    metrics::gauge!("taskpost_outbox_oldest_seconds").set(oldest);
    Ok(oldest)
}

/// Says once that the outbox stands still, and once that it moves again.
fn alarm(oldest: f64, alarmed: &mut bool) {
    let late = oldest > ALARM;
    if late && !*alarmed {
        tracing::warn!(oldest_seconds = oldest, "events wait in the outbox; is a sequencer running?");
    } else if !late && *alarmed {
        tracing::info!("the outbox moves again");
    }
    *alarmed = late;
}

async fn in_time<T>(read: impl Future<Output = Result<T, StoreError>>) -> Result<T, String> {
    match tokio::time::timeout(OUTBOX_EVERY, read).await {
        Ok(result) => result.map_err(|error| error.to_string()),
        Err(_) => Err("the store took too long".to_owned()),
    }
}

/// Metrics are floats; above 2^53 the last digits do not matter.
#[expect(clippy::cast_precision_loss, reason = "a gauge shows a magnitude")]
const fn as_f64(value: i64) -> f64 {
    value as f64
}
