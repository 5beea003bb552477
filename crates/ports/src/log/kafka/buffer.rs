//! What a group has received and not recorded yet, by partition. Kept until it is recorded, so that reading can start
//! again at the recorded progress without asking the broker.
//!
//! A record tells up to where every event of its partition comes before it. Where the group has not seen those, Kafka has
//! lost them or dropped them by age, and they are taken from the store first.

use std::collections::{BTreeMap, VecDeque};

use taskpost_common::{Envelope, Position};

use super::super::{Batch, Broken, Read};

/// Above this nothing more is taken from the broker, but for the batch that crosses it.
const MOST_RECORDS: usize = 4_000;
const MOST_BYTES: usize = 3 * 1024 * 1024;
/// The most bytes of data in one batch, but for its last event.
const BATCH_BYTES: usize = 2 * 1024 * 1024;

/// A partition by topic, as this program names it, and number.
pub(super) type Key = (&'static str, i32);

/// The partitions that a group has now.
#[derive(Debug, Default)]
pub(super) struct Buffer {
    lanes: BTreeMap<Key, Lane>,
    /// Which partition was read last: the next one is served first.
    last: Option<Key>,
    /// Told apart from the one before, so that what was read of a partition that went and came is not taken for its own.
    assignments: u64,
    records: usize,
    bytes: usize,
    /// Up to where reading need not start again.
    offsets: BTreeMap<Key, i64>,
}

#[derive(Debug, Default)]
struct Lane {
    assignment: u64,
    /// The group's place: all up to here was handed out or recorded before. Unknown until the progress was read.
    place: Option<Position>,
    /// Up to here the store was searched for what Kafka did not bring; there is nothing between the place and this.
    searched: Position,
    /// The place of which that is true, and of every higher one.
    searched_at: Position,
    /// Up to here the store is to be searched, though no record says so.
    wanted: Position,
    entries: VecDeque<Entry>,
    /// How many of the entries were handed out.
    handed: usize,
}

#[derive(Debug)]
struct Entry {
    offset: i64,
    record: Record,
    /// Needs nothing more: recorded, buried, or a repetition.
    done: bool,
}

/// What was received.
#[derive(Debug)]
pub(super) enum Record {
    /// An event, and up to where every event of its partition comes before it.
    Event(Box<Envelope>, Option<Position>),
    Broken(Box<Broken>),
}

/// What is to be done next.
#[derive(Debug)]
pub(super) enum Next {
    /// Hand this out.
    Read(Read),
    /// Read the group's progress of this partition first.
    Open(Key, u64),
    /// Search the store first.
    Search(Gap),
    /// There is nothing.
    Nothing,
}

/// What Kafka did not bring of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Gap {
    pub(super) key: Key,
    pub(super) assignment: u64,
    /// The group's place.
    pub(super) place: Position,
    /// Behind this.
    pub(super) after: Position,
    /// Up to this.
    pub(super) to: Position,
}

/// Who has a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Holding {
    /// Another member, or nobody.
    NotOurs,
    /// We, and there is nothing of it.
    Empty,
    /// We, and there is something of it.
    Some,
}

impl Buffer {
    /// A partition is ours from now on. Its progress is read anew: somebody else may have had it.
    pub(super) fn assign(&mut self, key: Key) {
        self.revoke(key);
        self.assignments += 1;
        let lane = Lane { assignment: self.assignments, ..Lane::default() };
        self.lanes.insert(key, lane);
    }

    /// A partition is no longer ours.
    pub(super) fn revoke(&mut self, key: Key) {
        if let Some(lane) = self.lanes.remove(&key) {
            lane.entries.iter().for_each(|entry| {
                self.records -= 1;
                self.bytes -= entry.size();
            });
        }
        self.offsets.remove(&key);
    }

    pub(super) fn clear(&mut self) {
        *self = Self { assignments: self.assignments, ..Self::default() };
    }

    /// Keeps a record of a partition that is ours.
    pub(super) fn push(&mut self, key: Key, offset: i64, record: Record) {
        let Some(lane) = self.lanes.get_mut(&key) else { return };
        let entry = Entry { offset, record, done: false };
        self.records += 1;
        self.bytes += entry.size();
        lane.entries.push_back(entry);
    }

    pub(super) fn is_full(&self) -> bool {
        self.records >= MOST_RECORDS || self.bytes >= MOST_BYTES
    }

    /// Sets the progress that was read for an assignment.
    pub(super) fn opened(&mut self, key: Key, assignment: u64, progress: Position) {
        if let Some(lane) = self.lanes.get_mut(&key)
            && lane.assignment == assignment
        {
            lane.place = Some(progress);
            if progress < lane.searched_at {
                lane.searched = Position(0);
            }
        }
    }

    /// Tells the present assignment from others.
    pub(super) fn assignment(&self) -> u64 {
        self.assignments
    }

    /// The next batch of at most `limit` events, each partition in its turn.
    pub(super) fn next(&mut self, limit: usize) -> Next {
        let (before, after): (Vec<Key>, Vec<Key>) =
            self.lanes.keys().copied().partition(|key| Some(*key) <= self.last);
        for key in after.into_iter().chain(before) {
            let Some(lane) = self.lanes.get_mut(&key) else { continue };
            if lane.handed == lane.entries.len() && lane.wanted == Position(0) {
                continue;
            }
            let Some(place) = lane.place else { return Next::Open(key, lane.assignment) };
            let next = lane.next(key, place, limit);
            self.settle(key);
            if !matches!(next, Next::Nothing) {
                self.last = Some(key);
                return next;
            }
        }
        Next::Nothing
    }

    /// The group's progress is recorded up to `position`.
    pub(super) fn done(&mut self, key: Key, position: Position) {
        let Some(lane) = self.lanes.get_mut(&key) else { return };
        for entry in lane.entries.iter_mut().take(lane.handed) {
            if let Record::Event(event, _) = &entry.record {
                entry.done |= event.position <= position;
            }
        }
        self.settle(key);
    }

    /// A record that is no event is kept as a dead letter.
    pub(super) fn buried(&mut self, key: Key, offset: i64) {
        let Some(lane) = self.lanes.get_mut(&key) else { return };
        for entry in lane.entries.iter_mut().take(lane.handed) {
            entry.done |= entry.offset == offset && matches!(entry.record, Record::Broken(_));
        }
        self.settle(key);
    }

    /// Everything that is not recorded is handed out again, from the recorded progress.
    pub(super) fn rewind(&mut self) {
        for lane in self.lanes.values_mut() {
            lane.place = None;
            lane.handed = 0;
        }
    }

    /// The store was searched for a gap up to there, and the events found up to `last` are handed out.
    pub(super) fn searched(&mut self, gap: Gap, to: Position, last: Option<Position>) {
        let Some(lane) = self.lanes.get_mut(&gap.key) else { return };
        if lane.assignment == gap.assignment && lane.place == Some(gap.place) {
            lane.searched_at = last.unwrap_or(gap.place);
            lane.place = Some(lane.searched_at);
            lane.searched = to;
            if lane.wanted <= to {
                lane.wanted = Position(0);
            }
        }
    }

    /// Has the store searched for a partition's events up to there, though nothing comes of it.
    pub(super) fn want(&mut self, key: Key, to: Position) {
        if let Some(lane) = self.lanes.get_mut(&key) {
            lane.wanted = to;
        }
    }

    pub(super) fn holding(&self, key: Key) -> Holding {
        match self.lanes.get(&key) {
            None => Holding::NotOurs,
            Some(lane) if lane.entries.is_empty() => Holding::Empty,
            Some(_) => Holding::Some,
        }
    }

    /// The offsets to be stored, once.
    pub(super) fn take_offsets(&mut self) -> BTreeMap<Key, i64> {
        std::mem::take(&mut self.offsets)
    }

    /// Forgets what needs nothing more, from the front on.
    fn settle(&mut self, key: Key) {
        let Some(lane) = self.lanes.get_mut(&key) else { return };
        while let Some(entry) = lane.entries.pop_front_if(|entry| entry.done) {
            lane.handed = lane.handed.saturating_sub(1);
            self.records -= 1;
            self.bytes -= entry.size();
            self.offsets.insert(key, entry.offset + 1);
        }
    }
}

impl Lane {
    fn next(&mut self, key: Key, from: Position, limit: usize) -> Next {
        let (mut events, mut place, mut bytes) = (Vec::new(), from, 0);
        let gap = |after: Position, to: Position, assignment: u64| {
            Next::Search(Gap { key, assignment, place: from, after, to })
        };
        let known = from.max(self.searched);
        if self.wanted > known {
            return gap(known, self.wanted, self.assignment);
        }
        self.wanted = Position(0);
        while let Some(entry) = self.entries.get_mut(self.handed) {
            match &entry.record {
                Record::Event(event, _) if event.position <= place => entry.done = true,
                Record::Event(event, previous) => {
                    let known = place.max(self.searched);
                    match previous {
                        Some(previous) if *previous > known && events.is_empty() => {
                            return gap(known, *previous, self.assignment);
                        }
                        Some(previous) if *previous > known => break,
                        _ => {}
                    }
                    if events.len() >= limit || bytes >= BATCH_BYTES {
                        break;
                    }
                    place = event.position;
                    bytes += event.data.len();
                    events.push((**event).clone());
                }
                Record::Broken(_) if entry.done => {}
                Record::Broken(broken) => {
                    if !events.is_empty() {
                        break;
                    }
                    self.handed += 1;
                    return Next::Read(Read::Broken((**broken).clone()));
                }
            }
            self.handed += 1;
        }
        self.place = Some(place);
        if events.is_empty() {
            return Next::Nothing;
        }
        let partition = super::partition_name(key.0, key.1);
        Next::Read(Read::Events(Batch { partition, from, events }))
    }
}

impl Entry {
    fn size(&self) -> usize {
        match &self.record {
            Record::Event(event, _) => event.data.len() + size_of::<Envelope>(),
            Record::Broken(broken) => broken.payload.len() + size_of::<Broken>(),
        }
    }
}

#[cfg(test)]
mod tests;
