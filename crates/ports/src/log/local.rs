//! The log in the store: the `events` table, read by position.

use std::time::Duration;

use taskpost_common::Position;
use taskpost_store::{Db, StoreError, events, progress};

use super::Batch;
use crate::wake::{Listener, Wakes};

/// The one partition of the local log.
const PARTITION: &str = "";
/// What a missed ring costs at most.
const POLL: Duration = Duration::from_millis(500);

/// A group's reading of the `events` table.
#[derive(Debug)]
pub struct LocalSubscription {
    db: Db,
    group: &'static str,
    listener: Listener,
    /// Behind which event to read; unknown until the progress was read.
    cursor: Option<Position>,
}

impl LocalSubscription {
    pub(super) fn new(db: Db, wakes: &Wakes, group: &'static str) -> Self {
        Self { db, group, listener: wakes.log.listen(), cursor: None }
    }

    pub(super) async fn next(&mut self, limit: usize) -> Result<Batch, StoreError> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        loop {
            let mut reader = self.db.reader().await?;
            let from = match self.cursor {
                Some(cursor) => cursor,
                None => *self.cursor.insert(progress::get(&mut reader, self.group, PARTITION).await?),
            };
            let events = events::after(&mut reader, from, limit).await?;
            drop(reader);
            if !events.is_empty() {
                return Ok(Batch { partition: PARTITION.to_owned(), from, events });
            }
            self.listener.wait(POLL).await;
        }
    }

    pub(super) fn done(&mut self, _partition: &str, position: Position) {
        self.cursor = Some(position);
    }

    pub(super) fn rewind(&mut self) {
        self.cursor = None;
    }
}
