//! The event log: what consumer groups read.

mod local;

use taskpost_common::{Envelope, Position};
use taskpost_store::{Db, StoreError};

use crate::wake::Wakes;
use local::LocalSubscription;

/// The log. Contract, whatever the backend:
///
/// - every committed event reaches every group at least once, and within a partition in the order of positions;
/// - a group's place is what its transaction recorded, not what was read: after a restart, a failure or a rebalance,
///   reading starts there again, so that events may come twice and are never skipped.
#[derive(Clone, Debug)]
pub enum Log {
    /// The store's own `events` table; one partition, named ''.
    Local {
        /// The store.
        db: Db,
        /// Rung when there is more to read.
        wakes: Wakes,
    },
}

impl Log {
    /// Begins to read for a group, from its recorded progress.
    pub fn subscribe(&self, group: &'static str) -> Subscription {
        match self {
            Self::Local { db, wakes } => {
                Subscription::Local(LocalSubscription::new(db.clone(), wakes, group))
            }
        }
    }

    /// `local`.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Local { .. } => "local",
        }
    }
}

/// A group's reading of the log.
#[derive(Debug)]
pub enum Subscription {
    /// Of the store's own table.
    Local(LocalSubscription),
}

/// Events of one partition, in order.
#[derive(Clone, Debug)]
pub struct Batch {
    /// The partition.
    pub partition: String,
    /// The group's progress before this batch: the fence.
    pub from: Position,
    /// Its events; never empty.
    pub events: Vec<Envelope>,
}

impl Batch {
    /// The group's progress after this batch.
    pub fn to(&self) -> Position {
        self.events.last().map_or(self.from, |event| event.position)
    }
}

impl Subscription {
    /// Waits for the next events, at most `limit` of them.
    pub async fn next(&mut self, limit: usize) -> Result<Batch, StoreError> {
        match self {
            Self::Local(subscription) => subscription.next(limit).await,
        }
    }

    /// Says that progress up to `position` is committed; reading goes on behind it.
    pub fn done(&mut self, partition: &str, position: Position) {
        match self {
            Self::Local(subscription) => subscription.done(partition, position),
        }
    }

    /// Forgets what was read: the next read starts at the recorded progress again. After a failure or a fence.
    pub fn rewind(&mut self) {
        match self {
            Self::Local(subscription) => subscription.rewind(),
        }
    }
}
