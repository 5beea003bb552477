//! How far everything is, whichever log is read.

use taskpost_common::Position;
use taskpost_store::{Db, StoreError, events, progress};

use crate::GROUPS;

/// Where the log ends and how far each group is. Read from the store alone, so it holds for every process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// How many events have no position yet.
    pub outbox: i64,
    /// The last position given out.
    pub head: Position,
    /// By group, up to where it has applied everything.
    pub groups: Vec<(&'static str, Position)>,
}

impl Standing {
    /// As of now.
    pub async fn read(db: &Db) -> Result<Self, StoreError> {
        let mut reader = db.reader().await?;
        // In the order against the flow: what moves meanwhile is seen too late, and never missed.
        let mut groups = Vec::with_capacity(GROUPS.len());
        for &group in GROUPS {
            groups.push((group, progress::applied(&mut reader, group).await?));
        }
        let (outbox, _) = events::outbox_backlog(&mut reader).await?;
        let head = events::head(&mut reader).await?;
        Ok(Self { outbox, head, groups })
    }

    /// Whether every group has applied every event.
    pub fn is_still(&self) -> bool {
        self.outbox == 0 && self.groups.iter().all(|(_, applied)| *applied == self.head)
    }
}
