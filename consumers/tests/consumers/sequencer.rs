//! The sequencer on Postgres: dense positions, nothing lost, nothing twice, every aggregate in order.

use std::collections::{HashMap, HashSet};

use taskpost_common::{Cause, Clock, UserId, task::Task};
use taskpost_ports::Wakes;
use taskpost_store::{
    Change, Db, events,
    tasks::{self, NewTask},
};
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::support::{Running, Schema, Stage, begin, connect, task, until};

const WRITERS: usize = 8;
const AGGREGATES: usize = 4;
const ROUNDS: i64 = 40;
/// Each such round of a writer is rolled back, so that the outbox' numbers have gaps.
const ROLLED_BACK: i64 = 7;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sequencers_that_follow_one_another_give_dense_positions_under_concurrent_writers() {
    let schema = Schema::new();
    let stage = Stage::new(connect(&schema.url, 10).await);
    stage.db().migrate().await.unwrap();
    let ann = stage.member("ann").await;
    // Each like a process of its own: one works, two stand by.
    let mut sequencers = Vec::new();
    for _ in 0..3 {
        let mut running = Running::default();
        running.tasks.spawn(stage.sequencer(connect(&schema.url, 2).await, running.stop.clone()));
        sequencers.push(running);
    }
    let mut writers = JoinSet::new();
    for _ in 0..WRITERS {
        let writer = Writer {
            db: stage.db().clone(),
            wakes: stage.consumers.wakes.clone(),
            clock: stage.clock().clone(),
        };
        writers.spawn(async move { writer.run(ann).await });
    }
    // The user's own event is the first.
    let mut versions = HashMap::from([(ann.0, 1)]);
    // Two are stopped under load, and each time another takes over at once.
    for count in [100, 400] {
        until("some have their positions", || async { (stage.events().await.len() > count).then_some(()) })
            .await;
        sequencers.pop().unwrap().end().await;
    }
    while let Some(done) = writers.join_next().await {
        versions.extend(done.unwrap());
    }
    until("the outbox is empty", || async {
        let (waiting, _) = events::outbox_backlog(&mut stage.reader().await).await.unwrap();
        (waiting == 0).then_some(())
    })
    .await;
    sequencers.pop().unwrap().end().await;
    check(&stage, &versions).await;
}

struct Writer {
    db: Db,
    wakes: Wakes,
    clock: Clock,
}

impl Writer {
    /// Makes tasks and changes all of them in each round; gives the last version of each.
    async fn run(self, reporter: UserId) -> HashMap<Uuid, i64> {
        let cause = Cause { actor_id: Some(reporter), ..Cause::default() };
        let change = Change { clock: &self.clock, cause: &cause };
        let new = |i| NewTask::new(change, task(&self.clock, &format!("task {i}"), reporter, None)).unwrap();
        let new: Vec<NewTask> = (0..AGGREGATES).map(new).collect();
        let mut tx = begin(&self.db).await;
        tasks::insert(&mut tx, &Vec::from_iter(&new)).await.unwrap();
        tx.commit().await.unwrap();
        let mut current: Vec<Task> = new.iter().map(|task| task.task().clone()).collect();
        for round in 0..ROUNDS {
            let mut tx = begin(&self.db).await;
            let mut next = Vec::new();
            for before in &current {
                let after = Task { title: format!("round {round}"), ..before.clone() };
                next.push(tasks::update(&mut tx, change, before, after).await.unwrap().0);
            }
            if round % ROLLED_BACK == 0 {
                tx.rollback().await.unwrap();
                continue;
            }
            tx.commit().await.unwrap();
            self.wakes.committed(true);
            current = next;
        }
        current.iter().map(|task| (task.id.0, task.version)).collect()
    }
}

async fn check(stage: &Stage, versions: &HashMap<Uuid, i64>) {
    let events = stage.events().await;
    let expected: i64 = versions.values().sum();
    assert!(expected > 1_000, "{expected} events are too few to tell anything");
    let positions: Vec<i64> = events.iter().map(|event| event.position.0).collect();
    assert_eq!(positions, (1..=expected).collect::<Vec<_>>(), "dense, and none lost");
    let ids: HashSet<_> = events.iter().map(|event| event.id).collect();
    assert_eq!(ids.len(), events.len(), "none twice");
    let mut seen: HashMap<Uuid, i64> = HashMap::new();
    for event in &events {
        let last = seen.insert(event.aggregate_id, event.aggregate_version);
        assert_eq!(event.aggregate_version, last.unwrap_or(0) + 1, "in the order of versions");
    }
    assert_eq!(&seen, versions);
}
