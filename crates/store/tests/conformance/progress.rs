//! A group's progress: moved in the transaction of its effects, by one at a time, and carried over when the log changes.

use std::collections::BTreeMap;

use taskpost_common::Position;
use taskpost_store::progress::{
    self, Step,
    relay::{self, Begin, Found, Head},
};
use tokio::task::JoinSet;

use crate::harness::Store;

both!(
    progress_moves_from_where_it_is,
    all_partitions_move_or_none,
    of_many_at_once_exactly_one_moves,
    switching_kafka_on_begins_where_the_group_is,
    switching_kafka_off_begins_below_what_waits,
    there_and_back_nothing_is_left_out,
    opening_fences_whoever_reads_the_other_log,
    the_relay_begins_where_it_was,
    of_two_relays_one_is_fenced,
    a_kafka_that_lost_records_gets_what_is_not_applied,
    other_partitions_wait_until_everything_is_applied,
);

async fn advance(store: &Store, partition: &str, from: i64, to: i64) -> bool {
    advance_all(store, &[step(partition, from, to)]).await
}

const fn step(partition: &str, from: i64, to: i64) -> Step<'_> {
    Step { partition, from: Position(from), to: Position(to) }
}

async fn advance_all(store: &Store, steps: &[Step<'_>]) -> bool {
    let mut tx = store.begin().await;
    let moved = progress::advance(&mut tx, "notifier", steps, store.clock.now()).await.unwrap();
    if moved {
        tx.commit().await.unwrap();
    } else {
        tx.rollback().await.unwrap();
    }
    moved
}

async fn at(store: &Store, partition: &str) -> i64 {
    progress::get(&mut store.reader().await, "notifier", partition).await.unwrap().0
}

async fn open(store: &Store, partition: &str) -> i64 {
    progress::open(&store.db, "notifier", partition, store.clock.now()).await.unwrap().0
}

async fn applied(store: &Store) -> i64 {
    progress::applied(&mut store.reader().await, "notifier").await.unwrap().0
}

async fn behind(store: &Store) -> Vec<(String, i64)> {
    let places = progress::places(&mut store.reader().await, "notifier").await.unwrap();
    places.into_iter().map(|place| (place.partition.clone(), place.lag())).collect()
}

/// Two partitions of `work`, with so many records in each.
struct Kafka {
    partitions: BTreeMap<String, i64>,
    ends: BTreeMap<String, i64>,
}

impl Kafka {
    fn new(ends: [i64; 2]) -> Self {
        let names = ["work/0", "work/1"].map(str::to_owned);
        Self {
            partitions: BTreeMap::from([("work".to_owned(), 2)]),
            ends: names.into_iter().zip(ends).collect(),
        }
    }
}

async fn begin(store: &Store, kafka: &Kafka) -> Begin {
    let found = Found { partitions: &kafka.partitions, ends: &kafka.ends, lost: false };
    relay::begin(&store.db, &["notifier"], found, store.clock.now()).await.unwrap()
}

/// Relays up to `to`; `heads` are position and offset in each partition.
async fn relayed(store: &Store, from: i64, to: i64, heads: &[(&str, i64, i64)]) -> bool {
    let heads = heads.iter().map(|(name, position, offset)| {
        ((*name).to_owned(), Head { position: Position(*position), offset: Some(*offset) })
    });
    let (from, to) = (Position(from), Position(to));
    relay::advance_to(&store.db, from, to, &heads.collect(), store.clock.now()).await.unwrap()
}

async fn progress_moves_from_where_it_is(store: Store) {
    assert_eq!(at(&store, "").await, 0, "before the first");
    assert!(!advance(&store, "", 3, 5).await, "it is not there yet");
    assert!(advance(&store, "", 0, 5).await, "the first");
    assert!(!advance(&store, "", 0, 9).await, "a second first");
    assert!(!advance(&store, "", 4, 9).await, "an old value");
    assert!(!advance(&store, "", 6, 9).await, "a value from nowhere");
    assert!(advance(&store, "", 5, 9).await);
    assert!(!advance(&store, "", 5, 9).await, "once more");
    assert_eq!((at(&store, "").await, at(&store, "work/0").await), (9, 0), "each partition its own");
    assert!(advance(&store, "work/0", 0, 1).await);
    assert_eq!((at(&store, "").await, at(&store, "work/0").await), (9, 1));

    let mut tx = store.begin().await;
    let now = store.clock.now();
    assert!(progress::advance(&mut tx, "notifier", &[step("", 9, 12)], now).await.unwrap());
    tx.rollback().await.unwrap();
    assert_eq!(at(&store, "").await, 9, "with its effects it is undone");
}

async fn all_partitions_move_or_none(store: Store) {
    let all = |steps: [(i64, i64); 3]| {
        ["work/0", "work/1", "work/2"].into_iter().zip(steps).map(|(name, (from, to))| step(name, from, to))
    };
    let moved = async |steps| advance_all(&store, &all(steps).collect::<Vec<_>>()).await;
    assert!(moved([(0, 4), (0, 5), (0, 6)]).await, "the first of each");
    assert!(moved([(4, 7), (5, 8), (6, 9)]).await);
    for wrong in [[(7, 10), (5, 11), (9, 12)], [(0, 10), (8, 11), (9, 12)], [(7, 10), (8, 11), (10, 12)]] {
        assert!(!moved(wrong).await, "one of them is elsewhere: {wrong:?}");
    }
    for (partition, expected) in [("work/0", 7), ("work/1", 8), ("work/2", 9)] {
        assert_eq!(at(&store, partition).await, expected);
    }
    assert!(advance_all(&store, &[]).await, "nothing is to be moved");
}

async fn of_many_at_once_exactly_one_moves(store: Store) {
    for (from, to) in [(0, 10), (10, 25), (25, 26)] {
        let mut crowd = JoinSet::new();
        for _ in 0..8 {
            let store = store.clone();
            crowd.spawn(async move { advance(&store, "", from, to).await });
        }
        let moved = crowd.join_all().await;
        assert_eq!(moved.iter().filter(|moved| **moved).count(), 1, "from {from}");
    }
    assert_eq!(at(&store, "").await, 26);
}

async fn switching_kafka_on_begins_where_the_group_is(store: Store) {
    assert_eq!(open(&store, "work/0").await, 0, "a fresh instance begins at the start");
    assert_eq!(at(&store, "work/0").await, 0);
    assert!(advance(&store, "", 0, 40).await);
    assert_eq!(begin(&store, &Kafka::new([0, 0])).await, Begin::First(Position(40)));
    let heads = relay::heads(&mut store.reader().await).await.unwrap();
    let before = ["work/0", "work/1"].map(|name| (name.to_owned(), Position(40)));
    assert_eq!(heads, BTreeMap::from(before), "what came before is in no partition");
    assert_eq!(relay::partitions(&mut store.reader().await, "work").await.unwrap(), Some(2));
    assert_eq!(open(&store, "work/0").await, 40);
    assert!(advance(&store, "work/0", 40, 45).await);
    assert_eq!(open(&store, "work/0").await, 45, "its own row is higher by now");
    assert_eq!(open(&store, "work/1").await, 40);
    assert_eq!(applied(&store).await, 40);
    assert!(relayed(&store, 40, 46, &[("work/0", 45, 3), ("work/1", 46, 1)]).await);
    assert_eq!(applied(&store).await, 40, "46 is yet to be applied");
    assert!(advance(&store, "work/1", 40, 46).await);
    assert_eq!(applied(&store).await, 46);
    assert_eq!(behind(&store).await, [("work/0".to_owned(), 0), ("work/1".to_owned(), 0)]);
}

async fn switching_kafka_off_begins_below_what_waits(store: Store) {
    begin(&store, &Kafka::new([0, 0])).await;
    assert!(relayed(&store, 0, 90, &[("work/0", 30, 9), ("work/1", 90, 9)]).await);
    assert_eq!(open(&store, "").await, 0, "nothing was read from Kafka");
    assert!(advance(&store, "work/0", 0, 30).await);
    assert!(advance(&store, "work/1", 0, 55).await);
    assert_eq!(open(&store, "").await, 55, "what is idle holds nobody back");
    assert_eq!(at(&store, "").await, 55);
    assert!(advance(&store, "", 55, 120).await);
    assert_eq!(open(&store, "").await, 120, "it never falls");
}

async fn there_and_back_nothing_is_left_out(store: Store) {
    assert!(advance(&store, "", 0, 10).await);
    begin(&store, &Kafka::new([0, 0])).await;
    assert!(relayed(&store, 10, 20, &[("work/0", 19, 4), ("work/1", 20, 4)]).await);
    assert_eq!((open(&store, "work/0").await, open(&store, "work/1").await), (10, 10));
    assert!(advance(&store, "work/0", 10, 13).await);
    assert_eq!(open(&store, "").await, 10, "the other partition has applied nothing since");
    assert!(advance(&store, "", 10, 30).await);
    // On again: the relay goes on from its cursor, and the group behind all that it has applied.
    assert_eq!(begin(&store, &Kafka::new([5, 5])).await, Begin::GoesOn(Position(20)));
    assert_eq!((open(&store, "work/0").await, open(&store, "work/1").await), (30, 30));
    assert!(relayed(&store, 20, 40, &[("work/0", 40, 9), ("work/1", 33, 9)]).await);
    assert_eq!(applied(&store).await, 30);
    assert!(advance(&store, "work/0", 30, 40).await);
    assert!(advance(&store, "work/1", 30, 33).await);
    assert_eq!((applied(&store).await, open(&store, "").await), (40, 40));
}

async fn opening_fences_whoever_reads_the_other_log(store: Store) {
    begin(&store, &Kafka::new([0, 0])).await;
    assert!(advance(&store, "", 0, 10).await);
    assert!(advance(&store, "work/0", 0, 4).await);
    assert_eq!(open(&store, "work/0").await, 10);
    assert!(!advance(&store, "work/0", 4, 9).await, "somebody who began before the switch");
    let mut crowd = JoinSet::new();
    for _ in 0..8 {
        let store = store.clone();
        crowd.spawn(async move { open(&store, "work/1").await });
    }
    assert_eq!(crowd.join_all().await, [10; 8], "any number may open it at once");
}

async fn the_relay_begins_where_it_was(store: Store) {
    let cursor = async || relay::cursor(&mut store.reader().await).await.unwrap().0;
    assert_eq!(cursor().await, 0);
    assert_eq!(begin(&store, &Kafka::new([0, 0])).await, Begin::First(Position(0)));
    assert!(relayed(&store, 0, 7, &[("work/0", 7, 0)]).await);
    assert!(relayed(&store, 7, 9, &[("work/0", 8, 1), ("work/1", 9, 0)]).await);
    assert_eq!(cursor().await, 9);
    for ends in [[2, 1], [5, 1], [2, 900]] {
        assert_eq!(begin(&store, &Kafka::new(ends)).await, Begin::GoesOn(Position(9)), "{ends:?}");
    }
}

async fn of_two_relays_one_is_fenced(store: Store) {
    begin(&store, &Kafka::new([0, 0])).await;
    assert!(relayed(&store, 0, 7, &[("work/0", 7, 6)]).await);
    assert!(!relayed(&store, 0, 5, &[("work/0", 5, 4)]).await, "one that was stopped for a while");
    assert!(!relayed(&store, 9, 12, &[]).await);
    assert!(relayed(&store, 7, 12, &[("work/1", 12, 0)]).await);
    assert_eq!(behind(&store).await, [("work/0".to_owned(), 7), ("work/1".to_owned(), 12)]);
}

async fn a_kafka_that_lost_records_gets_what_is_not_applied(store: Store) {
    begin(&store, &Kafka::new([0, 0])).await;
    assert!(relayed(&store, 0, 50, &[("work/0", 50, 24), ("work/1", 49, 24)]).await);
    assert!(advance(&store, "work/0", 0, 50).await);
    assert!(advance(&store, "work/1", 0, 31).await);
    // One partition was made anew.
    let lost = Kafka::new([25, 0]);
    assert_eq!(begin(&store, &lost).await, Begin::Lost(Position(31)));
    assert_eq!(begin(&store, &lost).await, Begin::GoesOn(Position(31)), "said once");
    assert!(!relayed(&store, 50, 60, &[]).await, "a relay of before is fenced");
    assert!(relayed(&store, 31, 50, &[("work/0", 50, 30), ("work/1", 49, 10)]).await);
    assert_eq!(applied(&store).await, 31);
    assert!(advance(&store, "work/1", 31, 49).await);
    assert_eq!(applied(&store).await, 50);
    // With nothing left to apply there is nothing to send again, as when another Kafka is named.
    assert_eq!(begin(&store, &Kafka::new([0, 0])).await, Begin::Lost(Position(50)));
    let (partitions, ends) = (&lost.partitions, &Kafka::new([99, 99]).ends);
    let found = Found { partitions, ends, lost: true };
    let begun = relay::begin(&store.db, &["notifier"], found, store.clock.now()).await.unwrap();
    assert_eq!(begun, Begin::Lost(Position(50)), "somebody saw it happen");
}

async fn other_partitions_wait_until_everything_is_applied(store: Store) {
    begin(&store, &Kafka::new([0, 0])).await;
    assert!(relayed(&store, 0, 50, &[("work/0", 50, 24), ("work/1", 49, 24)]).await);
    assert!(advance(&store, "work/0", 0, 50).await);
    let mut other = Kafka::new([0, 0]);
    other.partitions.insert("work".to_owned(), 3);
    let refused = Begin::Repartitioned { topic: "work".to_owned(), had: 2, has: 3 };
    assert_eq!(begin(&store, &other).await, refused);
    assert!(advance(&store, "work/1", 0, 49).await);
    assert_eq!(begin(&store, &other).await, Begin::GoesOn(Position(50)));
    assert_eq!((open(&store, "work/1").await, open(&store, "work/2").await), (50, 50));
    assert!(relayed(&store, 50, 60, &[("work/2", 60, 0)]).await);
    assert_eq!(applied(&store).await, 50);
    assert_eq!(
        begin(&store, &Kafka::new([25, 25])).await,
        Begin::Repartitioned { topic: "work".to_owned(), had: 3, has: 2 }
    );
}
