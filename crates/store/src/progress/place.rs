//! What the rows of a group and of the relay say together. No SQL but the one that reads them.

use std::collections::BTreeMap;

use taskpost_common::Position;

use super::{Place, relay::RELAY};
use crate::{Session, StoreError, db::on};

/// The partition of the log in the store.
const LOCAL: &str = "";

/// The rows of a group and of the relay, read at one moment.
#[derive(Debug, Default)]
pub(super) struct Rows {
    group: BTreeMap<String, Position>,
    relay: BTreeMap<String, Position>,
}

impl Rows {
    pub(super) async fn read(session: &mut Session, group: &str) -> Result<Self, StoreError> {
        const SQL: &str = "
            SELECT group_name, partition, position FROM group_progress WHERE group_name IN ($1, $2)";
        let found: Vec<(String, String, i64)> =
            on!(session, |c| sqlx::query_as(SQL).bind(group).bind(RELAY).fetch_all(c).await?);
        let mut rows = Self::default();
        for (name, partition, position) in found {
            let rows = if name == RELAY { &mut rows.relay } else { &mut rows.group };
            rows.insert(partition, Position(position));
        }
        Ok(rows)
    }

    /// A partition's own row; zero without one.
    pub(super) fn row(&self, partition: &str) -> Position {
        self.group.get(partition).copied().unwrap_or_default()
    }

    /// Where the group begins to read a partition.
    pub(super) fn start(&self, partition: &str) -> Position {
        if partition == LOCAL { self.applied() } else { self.place(partition) }
    }

    /// Up to where the group has applied every event.
    pub(super) fn applied(&self) -> Position {
        let local = self.row(LOCAL);
        let Some(cursor) = self.relay.get(LOCAL) else { return local };
        let waiting = self.heads().map(|(partition, head)| (self.place(partition), head));
        let lowest = waiting.filter(|(place, head)| place < head).map(|(place, _)| place).min();
        local.max(lowest.map_or(*cursor, |lowest| lowest.min(*cursor)))
    }

    /// Where the group is in each partition of Kafka.
    pub(super) fn places(&self) -> Vec<Place> {
        let place = |(partition, head): (&str, Position)| Place {
            partition: partition.to_owned(),
            applied: self.place(partition),
            head,
        };
        self.heads().map(place).collect()
    }

    /// Up to where the group has applied every event of a partition.
    fn place(&self, partition: &str) -> Position {
        self.row(partition).max(self.row(LOCAL))
    }

    fn heads(&self) -> impl Iterator<Item = (&str, Position)> {
        self.relay.iter().filter(|(name, _)| *name != LOCAL).map(|(name, head)| (name.as_str(), *head))
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    fn rows(group: &[(&str, i64)], relay: &[(&str, i64)]) -> Rows {
        let map = |rows: &[(&str, i64)]| {
            rows.iter().map(|(name, at)| ((*name).to_owned(), Position(*at))).collect()
        };
        Rows { group: map(group), relay: map(relay) }
    }

    #[test]
    fn only_what_waits_in_kafka_holds_a_group_back() {
        for (group, relay, applied) in [
            (&[][..], &[][..], 0),
            (&[("", 7)], &[], 7),
            // Nothing was read of what the relay has put there.
            (&[], &[("", 9), ("work/0", 9)], 0),
            (&[("", 4)], &[("", 9), ("work/0", 9)], 4),
            // An idle partition holds nobody back; one that waits does.
            (&[("work/0", 9), ("work/1", 2)], &[("", 9), ("work/0", 9), ("work/1", 2)], 9),
            (&[("work/0", 9), ("work/1", 2)], &[("", 9), ("work/0", 9), ("work/1", 8)], 2),
            (&[("work/0", 9)], &[("", 9), ("work/0", 9), ("work/1", 8)], 0),
            // What came before Kafka was switched on counts for every partition.
            (&[("", 8), ("work/0", 9)], &[("", 9), ("work/0", 9), ("work/1", 8)], 9),
            // Rows may be ahead of what the relay has recorded; its cursor is the bound.
            (&[("work/0", 12), ("work/1", 11)], &[("", 9), ("work/0", 9), ("work/1", 8)], 9),
            // The heads may be ahead of the cursor.
            (&[("work/0", 12)], &[("", 9), ("work/0", 14)], 9),
            // Back on the store's own log, and far beyond.
            (&[("", 30), ("work/0", 12)], &[("", 9), ("work/0", 14)], 30),
        ] {
            assert_eq!(rows(group, relay).applied().0, applied, "{group:?} {relay:?}");
        }
    }

    #[test]
    fn a_partition_begins_behind_what_either_log_has_given() {
        let rows = rows(&[("", 5), ("work/0", 3), ("work/1", 8)], &[("", 8), ("work/0", 7), ("work/1", 8)]);
        let starts = ["work/0", "work/1", "work/2", ""].map(|name| rows.start(name).0);
        assert_eq!(starts, [5, 8, 5, 5]);
        let behind: Vec<i64> = rows.places().iter().map(Place::lag).collect();
        assert_eq!(behind, [2, 0]);
    }

    proptest! {
        /// Events are put into partitions in order, and each partition is applied in order up to some point: nothing
        /// that is not applied lies at or below `applied`.
        #[test]
        fn nothing_below_it_is_left(
            partition_of in vec(0_usize..4, 0..60),
            before in 0_usize..60,
            acknowledged in 0_usize..60,
            recorded in 0_usize..60,
            reached in vec(0_usize..60, 4),
        ) {
            let total = partition_of.len();
            let (before, acknowledged) = (before.min(total), acknowledged.min(total));
            let names = ["work/0", "work/1", "work/2", "work/3"];
            let at = |n: usize| Position(i64::try_from(n).unwrap());
            let mut group: BTreeMap<String, Position> = BTreeMap::new();
            let mut applied = vec![false; total + 1];
            applied[..=before].fill(true);
            group.insert(String::new(), at(before));
            let mut relay = BTreeMap::from([(String::new(), at(acknowledged.min(recorded)))]);
            for (index, partition) in partition_of.iter().enumerate() {
                let position = index + 1;
                if position <= acknowledged {
                    relay.insert(names[*partition].to_owned(), at(position));
                }
                // The group may have read what the relay has yet to record.
                if position <= reached[*partition] && position <= acknowledged + 3 {
                    applied[position] = true;
                    group.insert(names[*partition].to_owned(), at(position));
                }
            }
            let found = usize::try_from(Rows { group, relay }.applied().0).unwrap();
            prop_assert!(applied[..=found].iter().all(|done| *done), "{found} of {applied:?}");
        }
    }
}
