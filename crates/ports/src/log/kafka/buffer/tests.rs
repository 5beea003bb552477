//! What is handed out, again and when.

use chrono::DateTime;
use taskpost_common::{DeadLetterId, EventId};
use uuid::Uuid;

use super::*;

const ONE: Key = ("work", 0);
const TWO: Key = ("work", 1);

fn event(position: i64) -> Record {
    behind(None, position)
}

fn behind(previous: Option<i64>, position: i64) -> Record {
    let nil = Uuid::nil();
    let event = Box::new(Envelope {
        position: Position(position),
        id: EventId(nil),
        type_name: "task.created".to_owned(),
        aggregate_id: nil,
        aggregate_version: 1,
        actor_id: None,
        project_id: None,
        owner_id: None,
        assignee_id: None,
        correlation_id: nil,
        causation_id: None,
        traceparent: None,
        at: DateTime::UNIX_EPOCH,
        data: "{}".to_owned(),
    });
    Record::Event(event, previous.map(Position))
}

fn broken(offset: i64) -> Record {
    Record::Broken(Box::new(Broken {
        id: DeadLetterId(Uuid::nil()),
        partition: "work/0".to_owned(),
        offset,
        key: None,
        payload: vec![0xff],
        reason: "no event".to_owned(),
    }))
}

fn buffer(records: impl IntoIterator<Item = (Key, Record)>) -> Buffer {
    let mut buffer = Buffer::default();
    buffer.assign(ONE);
    buffer.assign(TWO);
    for (offset, (key, record)) in (0..).zip(records) {
        buffer.push(key, offset, record);
    }
    buffer
}

/// The next batch in short; partitions are opened at `progress`.
fn next(buffer: &mut Buffer, progress: i64, limit: usize) -> String {
    loop {
        match buffer.next(limit) {
            Next::Open(key, assignment) => buffer.opened(key, assignment, Position(progress)),
            Next::Nothing => return String::new(),
            Next::Search(gap) => return format!("search from {} to {}", gap.after, gap.to),
            Next::Read(Read::Broken(broken)) => return format!("broken {}", broken.offset),
            Next::Read(Read::Events(batch)) => {
                let positions: Vec<i64> = batch.events.iter().map(|event| event.position.0).collect();
                return format!("{} from {} {positions:?}", batch.partition, batch.from);
            }
        }
    }
}

#[test]
fn each_partition_in_its_turn_and_in_order() {
    let records = [(ONE, 1), (TWO, 2), (ONE, 3), (ONE, 4), (TWO, 5)];
    let mut buffer = buffer(records.map(|(key, n)| (key, event(n))));
    assert_eq!(next(&mut buffer, 0, 2), "work/0 from 0 [1, 3]");
    assert_eq!(next(&mut buffer, 0, 2), "work/1 from 0 [2, 5]");
    assert_eq!(next(&mut buffer, 0, 2), "work/0 from 3 [4]");
    assert_eq!(next(&mut buffer, 0, 2), "");
}

#[test]
fn what_was_applied_or_comes_twice_is_skipped_and_its_offset_moves_on() {
    let mut buffer = buffer([3, 5, 3, 4, 5, 7].map(|n| (ONE, event(n))));
    assert_eq!(next(&mut buffer, 3, 10), "work/0 from 3 [5, 7]");
    assert_eq!(buffer.take_offsets(), BTreeMap::from([(ONE, 1)]));
    buffer.done(ONE, Position(7));
    assert_eq!(buffer.take_offsets(), BTreeMap::from([(ONE, 6)]));
    assert_eq!((buffer.records, buffer.bytes), (0, 0));
}

#[test]
fn what_is_not_recorded_is_handed_out_again() {
    let mut buffer = buffer([1, 2, 3].map(|n| (ONE, event(n))));
    assert_eq!(next(&mut buffer, 0, 2), "work/0 from 0 [1, 2]");
    buffer.done(ONE, Position(1));
    buffer.rewind();
    assert_eq!(next(&mut buffer, 1, 10), "work/0 from 1 [2, 3]");
    buffer.rewind();
    assert_eq!(next(&mut buffer, 3, 10), "", "somebody else recorded them");
    assert_eq!(buffer.take_offsets(), BTreeMap::from([(ONE, 3)]));
}

#[test]
fn what_is_no_event_comes_alone_and_stays_until_it_is_buried() {
    let mut buffer = buffer([(ONE, event(1)), (ONE, broken(1)), (ONE, event(2))]);
    assert_eq!(next(&mut buffer, 0, 10), "work/0 from 0 [1]");
    assert_eq!(next(&mut buffer, 0, 10), "broken 1");
    assert_eq!(next(&mut buffer, 0, 10), "work/0 from 1 [2]");
    buffer.done(ONE, Position(2));
    assert_eq!(buffer.take_offsets(), BTreeMap::from([(ONE, 1)]), "not past what is not buried");
    buffer.rewind();
    assert_eq!(next(&mut buffer, 2, 10), "broken 1");
    buffer.buried(ONE, 1);
    assert_eq!(next(&mut buffer, 2, 10), "");
    assert_eq!(buffer.take_offsets(), BTreeMap::from([(ONE, 3)]));
}

#[test]
fn what_kafka_did_not_bring_is_searched_for_first() {
    let gap = |buffer: &mut Buffer| match buffer.next(10) {
        Next::Search(gap) => gap,
        other => panic!("{other:?}"),
    };
    let records = [behind(Some(2), 3), behind(Some(3), 5), behind(Some(8), 9), behind(Some(9), 10)];
    let mut buffer = buffer(records.map(|record| (ONE, record)));
    assert_eq!(next(&mut buffer, 2, 10), "work/0 from 2 [3, 5]", "nothing is missing yet");
    assert_eq!(next(&mut buffer, 2, 10), "search from 5 to 8");
    // Nothing is found at first; then one event.
    let found = gap(&mut buffer);
    buffer.searched(found, Position(6), None);
    assert_eq!(next(&mut buffer, 2, 10), "search from 6 to 8");
    let found = gap(&mut buffer);
    assert_eq!(found.place, Position(5), "the fence is what was handed out");
    buffer.searched(found, Position(8), Some(Position(7)));
    assert_eq!(next(&mut buffer, 2, 10), "work/0 from 7 [9, 10]");
    // What was found was recorded: nothing is searched twice. It was not: it is.
    buffer.rewind();
    assert_eq!(next(&mut buffer, 7, 10), "work/0 from 7 [9, 10]");
    buffer.rewind();
    assert_eq!(next(&mut buffer, 5, 10), "search from 5 to 8");
    let old = gap(&mut buffer);
    buffer.assign(ONE);
    buffer.searched(old, Position(8), Some(Position(7)));
    assert_eq!(next(&mut buffer, 0, 10), "", "it was asked for an assignment of before");
}

#[test]
fn what_does_not_come_at_all_is_searched_for_when_it_is_wanted() {
    let mut buffer = buffer([]);
    assert_eq!((buffer.holding(ONE), buffer.holding(("work", 7))), (Holding::Empty, Holding::NotOurs));
    buffer.want(ONE, Position(20));
    assert_eq!(next(&mut buffer, 12, 10), "search from 12 to 20");
    let Next::Search(gap) = buffer.next(10) else { panic!("it was found already") };
    buffer.searched(gap, Position(20), Some(Position(18)));
    assert_eq!(next(&mut buffer, 12, 10), "");
    buffer.push(ONE, 0, behind(Some(20), 21));
    assert_eq!(buffer.holding(ONE), Holding::Some);
    assert_eq!(next(&mut buffer, 12, 10), "work/0 from 18 [21]");
}

#[test]
fn a_partition_that_went_and_came_begins_anew() {
    let mut buffer = buffer([(ONE, event(1)), (ONE, event(2))]);
    let Next::Open(key, old) = buffer.next(10) else { panic!("its progress is not known") };
    buffer.assign(ONE);
    buffer.opened(key, old, Position(7));
    assert_eq!(next(&mut buffer, 0, 10), "", "nothing was received since");
    buffer.push(ONE, 1, event(2));
    assert_eq!(next(&mut buffer, 1, 10), "work/0 from 1 [2]");
    buffer.revoke(ONE);
    buffer.done(ONE, Position(2));
    buffer.push(ONE, 2, event(3));
    assert_eq!((next(&mut buffer, 0, 10), buffer.records, buffer.bytes), (String::new(), 0, 0));
    assert!(buffer.take_offsets().is_empty(), "another member keeps its offset");
}

#[test]
fn it_is_full_by_number_and_by_size() {
    let mut many = buffer((1..=4_000).map(|n| (ONE, event(n))));
    assert!(many.is_full());
    assert!(next(&mut many, 0, 10).starts_with("work/0"));
    many.done(ONE, Position(10));
    assert!(!many.is_full());
    let mut large = buffer([]);
    for offset in 0..3 {
        let broken = Broken {
            payload: vec![0; 1024 * 1024],
            ..match broken(offset) {
                Record::Broken(broken) => *broken,
                Record::Event(..) => unreachable!(),
            }
        };
        assert!(!large.is_full());
        large.push(ONE, offset, Record::Broken(Box::new(broken)));
    }
    assert!(large.is_full());
}
