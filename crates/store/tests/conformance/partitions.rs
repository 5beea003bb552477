//! The partitions of the event store, which Postgres has and SQLite has not.

use taskpost_common::Position;
use taskpost_store::events;
use tokio::task::JoinSet;

use crate::harness::Store;

both!(
    making_partitions_again_changes_nothing,
    making_partitions_at_once_is_fine,
    events_cross_into_the_next_partition
);

const PARTITIONS: &str = "SELECT count(*) FROM pg_inherits WHERE inhparent = 'events'::regclass";

/// How many partitions there are; on SQLite what a caller expects.
async fn partitions(store: &Store, expected: i64) -> i64 {
    if store.db.has_outbox() { store.number(PARTITIONS).await } else { expected }
}

async fn making_partitions_again_changes_nothing(store: Store) {
    for _ in 0..3 {
        events::ensure_partitions(&store.db).await.unwrap();
        assert_eq!(partitions(&store, 2).await, 2);
    }
    store.execute("UPDATE log_head SET position = 8000000").await.unwrap();
    for _ in 0..2 {
        events::ensure_partitions(&store.db).await.unwrap();
        assert_eq!(partitions(&store, 4).await, 4, "that of the head and the next");
    }
}

async fn making_partitions_at_once_is_fine(store: Store) {
    for at in [1_i64, 4_000_000, 8_000_000] {
        match at {
            1 => {}
            4_000_000 => drop(store.execute("UPDATE log_head SET position = 4000000").await.unwrap()),
            _ => drop(store.execute("UPDATE log_head SET position = 8000000").await.unwrap()),
        }
        let mut processes = JoinSet::new();
        for _ in 0..6 {
            let store = store.clone();
            processes.spawn(async move { events::ensure_partitions(&store.db).await });
        }
        for made in processes.join_all().await {
            made.unwrap();
        }
    }
    assert_eq!(partitions(&store, 4).await, 4);
}

async fn events_cross_into_the_next_partition(store: Store) {
    store.execute("UPDATE log_head SET position = 3999997").await.unwrap();
    events::ensure_partitions(&store.db).await.unwrap();
    let rows: Vec<_> = (0..6).map(|_| store.task(store.id(), None)).collect();
    store.store(&rows).await;
    while events::sequence(&store.db, 4).await.unwrap() > 0 {}
    let page = events::after(&mut store.reader().await, Position(3_999_997), 100).await.unwrap();
    let placed: Vec<_> = page.iter().map(|event| (event.position.0, event.aggregate_id)).collect();
    let wanted: Vec<_> = (3_999_998..).zip(rows.iter().map(|task| task.id.0)).collect();
    assert_eq!(placed, wanted);
    for event in &page {
        let found = events::visible(&mut store.reader().await, store.admin(), event.id).await.unwrap();
        assert_eq!(found.as_ref(), Some(event));
    }
    if store.db.has_outbox() {
        assert_eq!(store.number("SELECT count(*) FROM ONLY events_p1").await, 4, "4,000,000 begins the next");
    }
}
