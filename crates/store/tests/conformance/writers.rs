//! Writers and readers beside each other.

use taskpost_store::{StoreError, users};
use tokio::sync::oneshot;

use crate::harness::{Store, run};

both!(
    a_reader_does_not_wait_for_a_writer,
    writers_queue_and_all_succeed,
    what_is_dropped_or_rolled_back_is_gone,
    the_store_says_that_it_can_be_written,
);

async fn a_reader_does_not_wait_for_a_writer(store: Store) {
    let user = store.somebody("ada");
    let mut tx = store.begin().await;
    users::insert(&mut tx, store.change(), &user, "hash").await.unwrap();
    for _ in 0..20 {
        assert!(users::get(&mut store.reader().await, user.id).await.unwrap().is_none(), "not committed yet");
    }
    assert!(users::get(&mut tx, user.id).await.unwrap().is_some(), "its own change");
    tx.commit().await.unwrap();
    assert!(users::get(&mut store.reader().await, user.id).await.unwrap().is_some());
}

async fn writers_queue_and_all_succeed(store: Store) {
    let mut first = store.begin().await;
    users::insert(&mut first, store.change(), &store.somebody("first"), "hash").await.unwrap();
    let (started, starts) = oneshot::channel();
    let other = store.clone();
    let second = tokio::spawn(async move {
        started.send(()).unwrap();
        let mut tx = other.begin().await;
        // Reads first: an upgrade from a read lock is what fails where writers do not queue.
        assert!(users::by_email(&mut tx, "second@example.org").await.unwrap().is_none());
        users::insert(&mut tx, other.change(), &other.somebody("second"), "hash").await.unwrap();
        tx.commit().await.unwrap();
    });
    starts.await.unwrap();
    users::insert(&mut first, store.change(), &store.somebody("third"), "hash").await.unwrap();
    first.commit().await.unwrap();
    second.await.unwrap();
    assert_eq!(store.number("SELECT count(*) FROM users").await, 3);
}

async fn what_is_dropped_or_rolled_back_is_gone(store: Store) {
    for (i, wait) in [true, false, true, false].into_iter().enumerate() {
        let mut tx = store.begin().await;
        users::insert(&mut tx, store.change(), &store.somebody(&format!("u{i}")), "hash").await.unwrap();
        if wait { tx.rollback().await.unwrap() } else { drop(tx) }
    }
    let kept = store.user("kept").await;
    assert_eq!(store.number("SELECT count(*) FROM users").await, 1);
    let log = store.log().await;
    assert_eq!(log.iter().map(|event| event.aggregate_id).collect::<Vec<_>>(), [kept.id.0]);
    assert_eq!(log[0].position.0, 1, "what was rolled back takes no position");
}

async fn the_store_says_that_it_can_be_written(store: Store) {
    store.db.check_writable().await.unwrap();
    assert_eq!(store.db.name(), if store.db.has_outbox() { "postgres" } else { "sqlite" });
}

/// The drill's "disk full: data folder" (seed 7): SQLite ended the transaction by itself, the rollback failed, and the one
/// connection that writes was refused every transaction from then on.
#[tokio::test]
async fn a_full_disk_costs_no_more_than_its_transaction() {
    run(Store::sqlite().await, async |store: Store| {
        // No more pages than there are, for the connection that this goes to: the one that writes.
        store.execute("PRAGMA max_page_count = 1").await.unwrap();
        let mut tx = store.begin().await;
        let mut refused = None;
        for number in 0..1_000 {
            let user = store.somebody(&format!("ada{number}"));
            if let Err(error) = users::insert(&mut tx, store.change(), &user, "hash").await {
                refused = Some(error);
                break;
            }
        }
        assert!(matches!(refused, Some(StoreError::Unavailable(_))), "{refused:?}");
        drop(tx);

        let user = store.somebody("bob");
        let mut tx = store.begin().await;
        users::insert(&mut tx, store.change(), &user, "hash").await.unwrap();
        tx.commit().await.unwrap();
        assert!(users::get(&mut store.reader().await, user.id).await.unwrap().is_some());
        assert_eq!(store.number("SELECT count(*) FROM users").await, 1);
    })
    .await;
}
