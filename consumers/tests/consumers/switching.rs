//! Kafka is switched on and off again: nothing is left out, and what was applied before a switch is not applied again.

use std::sync::{Arc, atomic::Ordering};

use taskpost_common::UserId;
use taskpost_consumers::groups::Notifier;

use crate::{
    echo::Echo,
    support::{Stage, brokers, until},
};

async fn tasks(stage: &Stage, reporter: UserId, all: &mut Vec<String>) {
    for _ in 0..15 {
        all.push(format!("task {}", all.len()));
        stage.task(&all[all.len() - 1], reporter, None).await;
    }
}

async fn answered(stage: &Stage) -> Vec<String> {
    let mut answered = Echo::answered(stage).await;
    answered.sort_unstable_by_key(|title| title.strip_prefix("task ").unwrap().parse::<u32>().unwrap());
    answered
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_that_has_caught_up_applies_everything_once() {
    let mut stage = Stage::sqlite().await;
    let ann = stage.member("ann").await;
    let echo = Arc::new(Echo::new(&stage));
    let mut all = Vec::new();
    for on_kafka in [false, true, false, true, true, false] {
        if on_kafka {
            stage.switch_to(&brokers());
        } else {
            stage.switch_back();
        }
        tasks(&stage, ann, &mut all).await;
        stage.drain(&echo).await;
        assert_eq!(answered(&stage).await, all, "on Kafka: {on_kafka}");
    }
    assert!(stage.letters("echo").await.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_that_lags_leaves_nothing_out() {
    let mut stage = Stage::sqlite().await;
    let ann = stage.member("ann").await;
    let echo = Arc::new(Echo::new(&stage));
    let mut all = Vec::new();
    // What waits in the store's own log is applied from Kafka.
    tasks(&stage, ann, &mut all).await;
    stage.drain(&echo).await;
    tasks(&stage, ann, &mut all).await;
    stage.switch_to(&brokers());
    stage.drain(&echo).await;
    assert_eq!(answered(&stage).await, all);
    // What waits in Kafka, while the group cannot apply anything, is applied from the store's own log.
    echo.broken.store(true, Ordering::SeqCst);
    let running = stage.start(&echo, 1);
    tasks(&stage, ann, &mut all).await;
    until("the group is held", || async { (echo.held.load(Ordering::SeqCst) > 2).then_some(()) }).await;
    running.end().await;
    echo.broken.store(false, Ordering::SeqCst);
    tasks(&stage, ann, &mut all).await;
    stage.switch_back();
    stage.drain(&echo).await;
    // Some partitions were further than the one that was furthest behind, and Echo has no unique key.
    let mut once = answered(&stage).await;
    once.dedup();
    assert_eq!(once, all);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_group_has_done_before_a_switch_is_not_done_again() {
    let mut stage = Stage::sqlite().await;
    let (ann, bob) = (stage.member("ann").await, stage.member("bob").await);
    let notifier = Arc::new(Notifier::new(stage.clock().clone()));
    let mut given = 1;
    for on_kafka in [true, false, true, false] {
        for lags in [false, true] {
            for _ in 0..12 {
                given += 1;
                stage.task("Fix the lift", ann, Some(bob)).await;
            }
            if on_kafka {
                stage.switch_to(&brokers());
            } else {
                stage.switch_back();
            }
            if !lags {
                stage.drain(&notifier).await;
                assert_eq!(stage.inbox(bob).await.len(), given, "on Kafka: {on_kafka}");
            } else if on_kafka {
                // These are in Kafka already when it is switched off.
                let running = stage.start(&notifier, 0);
                stage.until_relayed().await;
                running.end().await;
            }
        }
    }
    stage.drain(&notifier).await;
    assert_eq!(stage.inbox(bob).await.len(), given);
}
