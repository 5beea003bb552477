//! What is under way: how far everything is acknowledged, and what has failed.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Mutex, MutexGuard, PoisonError},
};

use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use taskpost_common::Position;
use tokio::sync::Notify;

use super::{Acknowledged, Failure, Head, Sending, Start, partition_name};

/// What the producer's thread tells and the relay reads.
pub(super) struct Shared {
    state: Mutex<State>,
    pub(super) moved: Notify,
}

#[derive(Default)]
pub(super) struct State {
    pub(super) cursor: Position,
    /// The sequence number of the first in `window`.
    pub(super) first: usize,
    /// What is under way, in order, with those acknowledged that stand behind others.
    pub(super) window: VecDeque<(Position, bool)>,
    /// By partition, the last that was sent.
    pub(super) sent: BTreeMap<String, Position>,
    heads: Vec<Placed>,
    pub(super) total: u64,
    pub(super) failure: Option<Failure>,
}

struct Placed {
    topic: String,
    partition: i32,
    head: Head,
}

impl Shared {
    pub(super) fn new(start: &Start) -> Self {
        let cursor = start.cursor;
        // A head above the cursor is not the last below what is sent next.
        let sent = start.heads.iter().filter(|(_, head)| **head <= cursor);
        let sent = sent.map(|(name, head)| (name.clone(), *head)).collect();
        // From 1, because an opaque of zero is none.
        let state = State { cursor, first: 1, sent, ..State::default() };
        Self { state: Mutex::new(state), moved: Notify::new() }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The sequence number of the next record; none after a failure.
    pub(super) fn begin(&self, position: Position) -> Option<usize> {
        let mut state = self.lock();
        if state.failure.is_some() {
            return None;
        }
        state.window.push_back((position, false));
        Some(state.first + state.window.len() - 1)
    }

    /// The last one was not sent after all.
    pub(super) fn take_back(&self) {
        self.lock().window.pop_back();
    }

    pub(super) fn refuse(&self, position: Position, why: String) -> Sending {
        self.lock().fail(Failure::Refused(position, why));
        self.moved.notify_one();
        Sending::Failed
    }

    pub(super) fn fail(&self, position: Position, error: &KafkaError) {
        let mut state = self.lock();
        match error.rdkafka_error_code() {
            // What follows from another failure, or from giving up.
            Some(
                RDKafkaErrorCode::Fatal
                | RDKafkaErrorCode::GaplessGuarantee
                | RDKafkaErrorCode::PurgeQueue
                | RDKafkaErrorCode::PurgeInflight
                | RDKafkaErrorCode::OutOfOrderSequenceNumber
                | RDKafkaErrorCode::UnknownProducerId
                | RDKafkaErrorCode::InvalidProducerEpoch
                | RDKafkaErrorCode::UnknownTopic
                | RDKafkaErrorCode::UnknownPartition
                | RDKafkaErrorCode::UnknownTopicOrPartition,
            ) => state.fail(Failure::Lost(error.to_string())),
            _ => state.fail(Failure::Refused(position, error.to_string())),
        }
        drop(state);
        self.moved.notify_one();
    }

    pub(super) fn delivered(&self, sequence: usize, topic: &str, partition: i32, offset: i64) {
        self.lock().delivered(sequence, topic, partition, offset);
        self.moved.notify_one();
    }
}

impl State {
    /// The lowest refusal is the one that tells; it outweighs what followed from it. What is gone outweighs all.
    pub(super) fn fail(&mut self, failure: Failure) {
        match (&self.failure, &failure) {
            (Some(Failure::Emptied(_)), _) => return,
            (Some(Failure::Refused(known, _)), Failure::Refused(new, _)) if new < known => {}
            (None, _) | (_, Failure::Emptied(_)) | (Some(Failure::Lost(_)), Failure::Refused(..)) => {}
            _ => return,
        }
        self.failure = Some(failure);
    }

    fn delivered(&mut self, sequence: usize, topic: &str, partition: i32, offset: i64) {
        let Some(slot) = sequence.checked_sub(self.first).and_then(|index| self.window.get_mut(index)) else {
            return;
        };
        slot.1 = true;
        let head = Head { position: slot.0, offset: (offset >= 0).then_some(offset) };
        self.total += 1;
        let known =
            self.heads.iter_mut().find(|placed| placed.partition == partition && placed.topic == topic);
        if let Some(placed) = &known
            && head.offset.zip(placed.head.offset).is_some_and(|(new, last)| new <= last)
        {
            self.fail(Failure::Emptied(format!("offset {offset} came again in {topic} [{partition}]")));
            return;
        }
        match known {
            Some(placed) if placed.head.position < head.position => {
                placed.head = Head { offset: head.offset.or(placed.head.offset), ..head };
            }
            Some(_) => {}
            None => self.heads.push(Placed { topic: topic.to_owned(), partition, head }),
        }
        while let Some((position, true)) = self.window.front() {
            self.cursor = *position;
            self.first += 1;
            self.window.pop_front();
        }
    }

    pub(super) fn acknowledged(&self) -> Acknowledged {
        let heads = self.heads.iter().map(|placed| {
            // Topics are named by their prefix and family.
            let topic = placed.topic.rsplit_once('.').map_or(placed.topic.as_str(), |(_, name)| name);
            (partition_name(topic, placed.partition), placed.head)
        });
        Acknowledged {
            cursor: self.cursor,
            heads: heads.collect(),
            in_flight: self.window.len(),
            total: self.total,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(shared: &Shared) -> i64 {
        shared.lock().cursor.0
    }

    #[test]
    fn the_cursor_stands_below_the_first_that_is_not_acknowledged() {
        let shared = Shared::new(&Start { cursor: Position(10), ..Start::default() });
        // Positions may have gaps: what was dropped from the store long ago.
        let sent: Vec<usize> = [11, 12, 15, 16].iter().map(|n| shared.begin(Position(*n)).unwrap()).collect();
        shared.delivered(sent[1], "x.work", 1, 5);
        shared.delivered(sent[2], "x.work", 0, 8);
        assert_eq!(at(&shared), 10);
        shared.delivered(sent[0], "x.work", 2, 4);
        assert_eq!(at(&shared), 15);
        let state = shared.lock().acknowledged();
        assert_eq!((state.in_flight, state.total), (1, 3));
        let head = |position, offset| Head { position: Position(position), offset: Some(offset) };
        let heads = [("work/0", head(15, 8)), ("work/1", head(12, 5)), ("work/2", head(11, 4))];
        assert_eq!(state.heads, heads.map(|(name, head)| (name.to_owned(), head)).into());
        shared.delivered(sent[3], "x.work", 0, -1);
        let state = shared.lock().acknowledged();
        assert_eq!((state.cursor, state.heads["work/0"]), (Position(16), head(16, 8)));
        let last = shared.begin(Position(17)).unwrap();
        shared.delivered(last, "x.work", 0, 0);
        assert!(matches!(shared.lock().failure, Some(Failure::Emptied(_))), "the topic was made anew");
        assert_eq!(at(&shared), 16);
    }

    #[test]
    fn the_lowest_refusal_tells_whatever_follows_from_it() {
        let shared = Shared::new(&Start::default());
        for n in 1..=3 {
            assert!(shared.begin(Position(n)).is_some());
        }
        let error = |code| KafkaError::MessageProduction(code);
        shared.fail(Position(3), &error(RDKafkaErrorCode::Fatal));
        assert!(matches!(shared.lock().failure, Some(Failure::Lost(_))));
        shared.fail(Position(2), &error(RDKafkaErrorCode::MessageSizeTooLarge));
        shared.fail(Position(1), &error(RDKafkaErrorCode::MessageSizeTooLarge));
        shared.fail(Position(3), &error(RDKafkaErrorCode::InvalidRecord));
        shared.fail(Position(1), &error(RDKafkaErrorCode::PurgeQueue));
        let failure = shared.lock().failure.clone();
        assert!(matches!(failure, Some(Failure::Refused(Position(1), _))), "{failure:?}");
        assert_eq!(shared.begin(Position(4)), None, "nothing more is sent");
    }
}
