//! The sequencer on Postgres: dense positions, nothing lost, nothing twice, every aggregate in order.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use taskpost_common::{Cause, Clock, Task, UserId};
use taskpost_consumers::sequencer;
use taskpost_ports::Wakes;
use taskpost_store::{
    Change, Db, events,
    tasks::{self, NewTask},
};
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::support::{Running, Stage, new_schema, task, until};

const WRITERS: usize = 8;
const AGGREGATES: usize = 4;
const ROUNDS: i64 = 40;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_sequencers_give_dense_positions_under_concurrent_writers() {
    let stage = Stage::postgres().await;
    let ann = stage.member("ann").await;
    let clock = stage.clock().clone();
    let mut running = Running::default();
    for _ in 0..2 {
        running.tasks.spawn(sequencer::run(stage.db().clone(), stage.consumers.wakes.clone(), running.stop.clone()));
    }
    let mut writers = JoinSet::new();
    for number in 0..WRITERS {
        let (db, wakes) = (stage.db().clone(), stage.consumers.wakes.clone());
        writers.spawn(write(db, wakes, clock.clone(), ann, number));
    }
    let mut written = 1;
    while let Some(done) = writers.join_next().await {
        written += done.unwrap();
    }
    assert!(written > 1_000, "{written} events are too few to tell anything");
    until("the outbox is empty", || async {
        let (waiting, _) = events::outbox_backlog(&mut stage.reader().await).await.unwrap();
        (waiting == 0).then_some(())
    })
    .await;
    running.end().await;
    check(&stage, written).await;
}
