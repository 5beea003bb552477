//! The log in the store: the `events` table, read by position.

use std::time::Duration;

use taskpost_common::{Clock, Position};
use taskpost_store::{Db, StoreError, events, progress};

use super::Batch;
use crate::{
    lease::Lease,
    wake::{Listener, Wakes},
};

/// The one partition of the local log.
const PARTITION: &str = "";
/// What a missed ring costs at most.
const POLL: Duration = Duration::from_millis(500);
/// How often one that stands by looks; the lease itself asks the store less often.
const STAND_BY: Duration = Duration::from_millis(250);
/// How long giving the lease back may take.
const GIVE_BACK: Duration = Duration::from_secs(1);

/// A group's reading of the `events` table. Of several processes one reads, and the others stand by: they would only read
/// the same and be fenced.
#[derive(Debug)]
pub struct LocalSubscription {
    db: Db,
    clock: Clock,
    group: &'static str,
    lease: Lease,
    listener: Listener,
    /// Behind which event to read; unknown until the progress was read.
    cursor: Option<Position>,
}

impl LocalSubscription {
    pub(super) fn new(db: Db, wakes: &Wakes, clock: &Clock, group: &'static str) -> Self {
        let lease = Lease::new(db.clone(), clock.clone(), format!("group.{group}"));
        Self { db, clock: clock.clone(), group, lease, listener: wakes.log.listen(), cursor: None }
    }

    pub(super) async fn next(&mut self, limit: usize) -> Result<Batch, StoreError> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        loop {
            if !self.lease.held().await? {
                // Whoever has it moves the progress.
                self.cursor = None;
                tokio::time::sleep(STAND_BY).await;
                continue;
            }
            let from = match self.cursor {
                Some(cursor) => cursor,
                None => progress::open(&self.db, self.group, PARTITION, self.clock.now()).await?,
            };
            let mut reader = self.db.reader().await?;
            let events = events::after(&mut reader, from, limit).await?;
            drop(reader);
            self.cursor = Some(events.last().map_or(from, |event| event.position));
            if !events.is_empty() {
                return Ok(Batch { partition: PARTITION.to_owned(), from, events });
            }
            self.listener.wait(POLL).await;
        }
    }

    pub(super) fn rewind(&mut self) {
        self.cursor = None;
    }

    /// Gives the lease back, so that the next one need not wait for its end.
    pub(super) async fn close(mut self) {
        let given = tokio::time::timeout(GIVE_BACK, self.lease.give_back()).await;
        if !matches!(given, Ok(Ok(()))) {
            tracing::debug!(group = self.group, "the lease was not given back; it ends by itself");
        }
    }
}
