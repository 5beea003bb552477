//! Step 3 of 7, on Postgres only: committed events get their positions.
//! Before: `crates/tracker/src/committer.rs`, which left them in the outbox. Next: `consumers/src/relay.rs` where the log
//! is Kafka, else `consumers/src/runner.rs`.

use std::time::{Duration, Instant};

use taskpost_common::Clock;
use taskpost_ports::{Lease, Wakes};
use taskpost_store::{Db, StoreError, events};
use tokio_util::sync::CancellationToken;

use crate::outage::Outage;

/// How many rows one statement moves while there are few, and at most while there are many.
const FEW: i64 = 500;
const MANY: i64 = 5_000;
/// From so many rows on they come in a stream, and so long is waited between two moves of it: a move costs the same for
/// ten rows and for a hundred.
const STREAM: u64 = 16;
const PACE: Duration = Duration::from_millis(25);
/// After so many moved rows the room they had is given back.
const SWEEP_EACH: u64 = 20_000;
/// What a missed ring costs at most; writers of other processes cannot ring here.
const POLL: Duration = Duration::from_millis(100);
/// Above the store's own limits: for a server that neither answers nor hangs up.
const LONGEST: Duration = Duration::from_secs(10);
/// Partitions are looked after this often, or once so many positions were given out.
const PARTITIONS_EVERY: Duration = Duration::from_mins(1);
const PARTITIONS_EACH: u64 = 100_000;
/// How long after a failure partitions are tried again; the one ahead leaves room for hours.
const PARTITIONS_AGAIN: Duration = Duration::from_secs(5);

/// How often one that stands by looks; the lease itself asks the store less often.
const STAND_BY: Duration = Duration::from_millis(250);
/// How long giving the lease back may take.
const GIVE_BACK: Duration = Duration::from_secs(1);

/// Moves what is committed from the outbox to `events` until `stop`. Any number may run at once: one works, under a
/// lease, and others stand by. The store's statement is the fence; one that is late finds nothing.
pub async fn run(db: Db, wakes: Wakes, clock: Clock, stop: CancellationToken) {
    let mut lease = Lease::new(db.clone(), clock, "sequencer");
    sequence(&db.lane(), &wakes, &mut lease, &stop).await;
    if !matches!(tokio::time::timeout(GIVE_BACK, lease.give_back()).await, Ok(Ok(()))) {
        tracing::debug!("the sequencer's lease was not given back; it ends by itself");
    }
}

async fn sequence(db: &Db, wakes: &Wakes, lease: &mut Lease, stop: &CancellationToken) {
    let mut bell = wakes.outbox.listen();
    let mut outage = Outage::new("sequencer");
    let mut partitions = Partitions::default();
    let mut limit = FEW;
    let mut unswept = 0;
    while !stop.is_cancelled() {
        let turn = async {
            if !in_time(lease.held()).await? {
                return Ok(None);
            }
            partitions.look_after(db).await;
            in_time(events::sequence(db, limit)).await.map(Some)
        };
        let moved = match turn.await {
            Ok(Some(moved)) => moved,
            Ok(None) => {
                outage.over();
                tokio::select! {
                    () = stop.cancelled() => {}
                    () = tokio::time::sleep(STAND_BY) => {}
                }
                continue;
            }
            Err::<_, Failure>(error) => {
                outage.wait(&error, stop).await;
                continue;
            }
        };
        outage.over();
        if moved > 0 {
            wakes.log.ring();
            metrics::counter!("taskpost_sequencer_moved_total").increment(moved);
            partitions.given_out += moved;
        }
        let full = moved == limit.unsigned_abs();
        limit = if full { (limit * 2).min(MANY) } else { FEW };
        unswept += moved;
        if unswept >= SWEEP_EACH {
            unswept = 0;
            if let Err(error) = in_time(events::sweep_outbox(db)).await {
                tracing::debug!(%error, "the outbox was not swept; autovacuum will");
            }
        }
        if full {
            continue;
        }
        let next = async {
            if moved >= STREAM {
                tokio::time::sleep(PACE).await;
            }
            bell.wait(POLL).await;
        };
        tokio::select! {
            () = stop.cancelled() => {}
            () = next => {}
        }
    }
}

/// When the partitions of `events` were last seen to.
#[derive(Debug, Default)]
struct Partitions {
    due: Option<Instant>,
    given_out: u64,
    failing: bool,
}

impl Partitions {
    /// Makes what is missing, when it is time. A failure does not stop the sequencer: there is room ahead.
    async fn look_after(&mut self, db: &Db) {
        let now = Instant::now();
        if self.given_out < PARTITIONS_EACH && self.due.is_some_and(|due| now < due) {
            return;
        }
        let made = in_time(events::ensure_partitions(db)).await;
        self.given_out = 0;
        self.due = Some(now + if made.is_ok() { PARTITIONS_EVERY } else { PARTITIONS_AGAIN });
        match made {
            Ok(()) => self.failing = false,
            Err(error) if !std::mem::replace(&mut self.failing, true) => {
                tracing::warn!(%error, "could not make the next partition of events; will try again");
            }
            Err(_) => {}
        }
    }
}

#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("the store took longer than {} s", LONGEST.as_secs())]
    TimedOut(#[from] tokio::time::error::Elapsed),
}

async fn in_time<T>(call: impl Future<Output = Result<T, StoreError>>) -> Result<T, Failure> {
    Ok(tokio::time::timeout(LONGEST, call).await??)
}
