//! Positions are dense and in order, whoever writes and whoever moves.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use taskpost_common::{Envelope, Position, TaskId};
use taskpost_store::{
    StoreError, events,
    tasks::{self, NewTask},
};
use tokio::task::JoinSet;

use crate::harness::{Store, patiently, run};

both!(a_reader_sees_every_event_once_and_in_order, a_move_takes_no_more_than_its_limit);

const WRITERS: usize = 8;
const ROUNDS: usize = 18;
const AGGREGATES: usize = 4;

/// A reader with a cursor, beside writers: on Postgres a sequencer gives out positions meanwhile.
async fn a_reader_sees_every_event_once_and_in_order(store: Store) {
    let shared = shared_tasks(&store).await;
    let writing = write(&store, &shared);
    let ended = Arc::new(AtomicBool::new(false));
    let mover = tokio::spawn(move_until(store.clone(), 16, Arc::clone(&ended), Arc::default()));
    let reader = store.clone();
    let reading = tokio::spawn(async move {
        let (mut cursor, mut seen) = (Position(0), Vec::new());
        loop {
            let last = mover.is_finished();
            let page = events::after(&mut reader.reader().await, cursor, 7).await.unwrap();
            if page.is_empty() && last {
                return seen;
            }
            cursor = page.last().map_or(cursor, |event| event.position);
            seen.extend(page);
        }
    });
    let committed = writing.join_all().await.into_iter().sum::<usize>() + AGGREGATES;
    ended.store(true, Ordering::SeqCst);
    check(&reading.await.unwrap(), committed);
}

async fn a_move_takes_no_more_than_its_limit(store: Store) {
    let rows: Vec<_> = (0..7).map(|_| store.task(store.id(), None)).collect();
    store.store(&rows).await;
    let mut moved = Vec::new();
    for _ in 0..4 {
        moved.push(events::sequence(&store.db, 3).await.unwrap());
    }
    assert_eq!(moved, if store.db.has_outbox() { [3, 3, 1, 0] } else { [0; 4] });
    assert_eq!(events::head(&mut store.reader().await).await.unwrap(), Position(7));
    let page = events::after(&mut store.reader().await, Position(2), 3).await.unwrap();
    assert_eq!(page.iter().map(|event| event.position.0).collect::<Vec<_>>(), [3, 4, 5]);
    let wanted: Vec<_> = rows[2..5].iter().map(|task| task.id.0).collect();
    assert_eq!(page.iter().map(|event| event.aggregate_id).collect::<Vec<_>>(), wanted);
}

/// The lock on `log_head` is the fence: two sequencers at once give out no position twice and leave none out.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_sequencers_at_once_keep_positions_dense() {
    run(Store::postgres().await, async |store: Store| {
        let shared = shared_tasks(&store).await;
        let writing = write(&store, &shared);
        let ended = Arc::new(AtomicBool::new(false));
        let mut movers = JoinSet::new();
        let moved: [Arc<AtomicU64>; 2] = Default::default();
        for (limit, moved) in [5, 64].into_iter().zip(&moved) {
            movers.spawn(move_until(store.clone(), limit, Arc::clone(&ended), Arc::clone(moved)));
        }
        let mut committed = writing.join_all().await.into_iter().sum::<usize>() + AGGREGATES;
        // Whose turn it is, is for the machine to say: there is work until both have taken part.
        while moved.iter().any(|moved| moved.load(Ordering::SeqCst) == 0) {
            committed += group(&store, true).await;
        }
        ended.store(true, Ordering::SeqCst);
        movers.join_all().await;
        let moved = moved.iter().map(|moved| moved.load(Ordering::SeqCst)).sum::<u64>();
        assert_eq!(moved, u64::try_from(committed).unwrap());
        check(&store.log().await, committed);
        assert_eq!(store.number("SELECT count(*) FROM outbox").await, 0);
    })
    .await;
}

/// Dense positions from 1, no event twice, and the versions of every aggregate ascending by one.
fn check(log: &[Envelope], committed: usize) {
    assert_eq!(log.len(), committed, "every committed event and none that was rolled back");
    for (event, position) in log.iter().zip(1..) {
        assert_eq!(event.position.0, position);
    }
    let ids: BTreeSet<_> = log.iter().map(|event| event.id).collect();
    assert_eq!(ids.len(), log.len());
    let mut versions = BTreeMap::new();
    for event in log {
        let last = versions.insert(event.aggregate_id, event.aggregate_version).unwrap_or(0);
        assert_eq!(event.aggregate_version, last + 1, "at position {}", event.position);
    }
}

/// Tasks that all writers change.
async fn shared_tasks(store: &Store) -> Vec<TaskId> {
    let rows: Vec<_> = (0..AGGREGATES).map(|_| store.task(store.id(), None)).collect();
    store.store(&rows).await;
    rows.iter().map(|task| task.id).collect()
}

/// Writers that insert groups, roll some back, and change two shared tasks at a time; each gives how many events it committed.
fn write(store: &Store, shared: &[TaskId]) -> JoinSet<usize> {
    let mut writers = JoinSet::new();
    for writer in 0..WRITERS {
        let (store, shared) = (store.clone(), shared.to_vec());
        writers.spawn(async move {
            let mut committed = 0;
            for round in writer..writer + ROUNDS {
                committed += match round % 3 {
                    0 => group(&store, true).await,
                    1 => group(&store, false).await,
                    _ => pair(&store, [shared[writer % AGGREGATES], shared[round % AGGREGATES]]).await,
                };
            }
            committed
        });
    }
    writers
}

async fn group(store: &Store, commit: bool) -> usize {
    let rows: Vec<NewTask> =
        (0..5).map(|_| NewTask::new(store.change(), store.task(store.id(), None)).unwrap()).collect();
    let mut tx = store.begin().await;
    tasks::insert(&mut tx, &rows.iter().collect::<Vec<_>>()).await.unwrap();
    if commit {
        tx.commit().await.unwrap();
        return rows.len();
    }
    tx.rollback().await.unwrap();
    0
}

/// Changes both in one transaction, in sorted order, again and again until nobody was faster.
async fn pair(store: &Store, tasks: [TaskId; 2]) -> usize {
    let tasks = BTreeSet::from(tasks);
    loop {
        let mut tx = store.begin().await;
        let mut changed = Ok(());
        for id in &tasks {
            let before = tasks::visible(&mut tx, store.admin(), *id).await.unwrap().unwrap();
            let mut after = before.clone();
            after.title = format!("version {}", before.version + 1);
            changed = tasks::update(&mut tx, store.change(), &before, after).await.map(drop);
            if changed.is_err() {
                break;
            }
        }
        match changed {
            Ok(()) => {
                tx.commit().await.unwrap();
                return tasks.len();
            }
            Err(StoreError::Stale(_) | StoreError::Locked(_)) => tx.rollback().await.unwrap(),
            Err(error) => panic!("{error:?}"),
        }
    }
}

/// A sequencer; ends when nothing comes any more and nothing is left. Counts how many it has moved.
async fn move_until(store: Store, limit: i64, ended: Arc<AtomicBool>, sum: Arc<AtomicU64>) {
    loop {
        let last = ended.load(Ordering::SeqCst);
        let Some(moved) = patiently(events::sequence(&store.db, limit).await) else { continue };
        sum.fetch_add(moved, Ordering::SeqCst);
        if last && moved == 0 {
            return;
        }
        tokio::task::yield_now().await;
    }
}
