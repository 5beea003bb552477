//! A group's progress: moved in the transaction of its effects, by one at a time.

use taskpost_common::Position;
use taskpost_store::progress;
use tokio::task::JoinSet;

use crate::harness::Store;

both!(progress_moves_from_where_it_is, of_many_at_once_exactly_one_moves);

async fn advance(store: &Store, partition: &str, from: i64, to: i64) -> bool {
    let mut tx = store.begin().await;
    let now = store.clock.now();
    let moved =
        progress::advance(&mut tx, "notifier", partition, Position(from), Position(to), now).await.unwrap();
    if moved {
        tx.commit().await.unwrap();
    } else {
        tx.rollback().await.unwrap();
    }
    moved
}

async fn progress_moves_from_where_it_is(store: Store) {
    let at =
        async |partition| progress::get(&mut store.reader().await, "notifier", partition).await.unwrap().0;
    assert_eq!(at("").await, 0, "before the first");
    assert!(!advance(&store, "", 3, 5).await, "it is not there yet");
    assert!(advance(&store, "", 0, 5).await, "the first");
    assert!(!advance(&store, "", 0, 9).await, "a second first");
    assert!(!advance(&store, "", 4, 9).await, "an old value");
    assert!(!advance(&store, "", 6, 9).await, "a value from nowhere");
    assert!(advance(&store, "", 5, 9).await);
    assert!(!advance(&store, "", 5, 9).await, "once more");
    assert_eq!((at("").await, at("work-0").await), (9, 0), "each partition its own");
    assert!(advance(&store, "work-0", 0, 1).await);
    assert_eq!((at("").await, at("work-0").await), (9, 1));

    let mut tx = store.begin().await;
    let now = store.clock.now();
    assert!(progress::advance(&mut tx, "notifier", "", Position(9), Position(12), now).await.unwrap());
    tx.rollback().await.unwrap();
    assert_eq!(at("").await, 9, "with its effects it is undone");
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
    assert_eq!(progress::get(&mut store.reader().await, "notifier", "").await.unwrap(), Position(26));
}
