//! Commands that may come more than once: what makes a task is the first, and after a deletion none.

use taskpost_common::task::Task;
use taskpost_store::{
    MAX_BATCH, StoreError,
    tasks::{self, NewTask},
};

use crate::harness::Store;

both!(
    of_a_command_that_comes_twice_the_first_counts,
    of_a_command_in_two_transactions_one_counts,
    a_deleted_task_does_not_come_back,
    a_deletion_that_is_under_way_counts,
    the_largest_batch_goes_in_once,
    a_command_that_the_store_refuses_stores_nothing,
);

/// Stores what is missing in a transaction of its own, and tells which were new.
async fn store_missing(store: &Store, rows: &[Task]) -> Vec<bool> {
    let mut tx = store.begin().await;
    let new = tasks::insert_missing(&mut tx, &fresh(store, rows).iter().collect::<Vec<_>>()).await.unwrap();
    tx.commit().await.unwrap();
    rows.iter().map(|task| new.contains(&task.id)).collect()
}

/// Each time with events of their own, as somebody makes them who does not know that the task is there.
fn fresh(store: &Store, rows: &[Task]) -> Vec<NewTask> {
    rows.iter().map(|task| NewTask::new(store.change(), task.clone()).unwrap()).collect()
}

async fn of_a_command_that_comes_twice_the_first_counts(store: Store) {
    let (free, given) = (store.task(store.id(), None), store.task(store.id(), Some(store.id())));
    let late = store.task(store.id(), None);
    let twin = Task { title: "Drown the plants".to_owned(), ..given.clone() };
    assert_eq!(store_missing(&store, &[free.clone(), given.clone(), twin.clone()]).await, [true; 3]);
    assert_eq!(store_missing(&store, &[twin, late.clone(), free.clone()]).await, [false, true, false]);
    assert_eq!(store.stored(given.id).await.unwrap(), given, "the first stays as it is");
    let log = store.log().await;
    let told: Vec<_> = log.iter().map(|event| (event.aggregate_id, event.type_name.as_str())).collect();
    assert_eq!(
        told,
        [
            (free.id.0, "task.created"),
            (given.id.0, "task.created"),
            (given.id.0, "task.assigned"),
            (late.id.0, "task.created"),
        ]
    );
}

async fn of_a_command_in_two_transactions_one_counts(store: Store) {
    let row = [store.task(store.id(), None)];
    let mut first = store.begin().await;
    let new = tasks::insert_missing(&mut first, &[&fresh(&store, &row)[0]]).await.unwrap();
    assert!(new.contains(&row[0].id));
    let second = tokio::spawn({
        let (store, row) = (store.clone(), row.clone());
        async move { store_missing(&store, &row).await }
    });
    first.commit().await.unwrap();
    assert_eq!(second.await.unwrap(), [false]);
    assert_eq!(store.told_of(row[0].id.0).await, ["task.created"]);
}

async fn a_deleted_task_does_not_come_back(store: Store) {
    let (gone, other) = (store.task(store.id(), None), store.task(store.id(), None));
    let both = [gone.clone(), other.clone()];
    assert_eq!(store_missing(&store, &both).await, [true; 2]);
    for sequenced in [false, true] {
        if !sequenced {
            let mut tx = store.begin().await;
            tasks::delete(&mut tx, store.change(), &gone).await.unwrap();
            tx.commit().await.unwrap();
        }
        assert_eq!(store_missing(&store, &both).await, [false; 2], "sequenced: {sequenced}");
        assert!(store.stored(gone.id).await.is_none());
        let deleted = tasks::deleted(&mut store.reader().await, &[gone.id, other.id]).await.unwrap();
        assert_eq!(deleted, [gone.id]);
        assert_eq!(store.told_of(gone.id.0).await, ["task.created", "task.deleted"]);
    }
}

/// The insert waits for the deletion, and must then look for it.
async fn a_deletion_that_is_under_way_counts(store: Store) {
    let row = [store.task(store.id(), None)];
    assert_eq!(store_missing(&store, &row).await, [true]);
    let mut deletion = store.begin().await;
    tasks::delete(&mut deletion, store.change(), &row[0]).await.unwrap();
    let again = tokio::spawn({
        let (store, row) = (store.clone(), row.clone());
        async move { store_missing(&store, &row).await }
    });
    deletion.commit().await.unwrap();
    assert_eq!(again.await.unwrap(), [false]);
    assert!(store.stored(row[0].id).await.is_none());
}

async fn the_largest_batch_goes_in_once(store: Store) {
    let rows: Vec<_> = (0..MAX_BATCH).map(|_| store.task(store.id(), None)).collect();
    let half = &rows[..MAX_BATCH / 2];
    assert!(store_missing(&store, half).await.iter().all(|new| *new));
    let new = store_missing(&store, &rows).await;
    assert_eq!(new.iter().filter(|new| **new).count(), MAX_BATCH - half.len());
    assert_eq!(store.number("SELECT count(*) FROM tasks").await, i64::try_from(MAX_BATCH).unwrap());
    assert_eq!(store.log().await.len(), MAX_BATCH);
    assert!(store_missing(&store, &[]).await.is_empty());
}

async fn a_command_that_the_store_refuses_stores_nothing(store: Store) {
    let good = store.task(store.id(), None);
    let untitled = Task { title: String::new(), ..store.task(store.id(), None) };
    let mut tx = store.begin().await;
    let rows = fresh(&store, &[good.clone(), untitled]);
    let error = tasks::insert_missing(&mut tx, &rows.iter().collect::<Vec<_>>()).await.unwrap_err();
    assert!(matches!(&error, StoreError::Constraint(name) if name.contains("tasks_")), "{error:?}");
    tx.rollback().await.unwrap();
    assert!(store.stored(good.id).await.is_none() && store.log().await.is_empty());
}
