//! What every queue must do.

use std::{collections::BTreeSet, time::Duration};

use taskpost_common::notification::Class;
use taskpost_ports::queue::Fate;
use taskpost_store::deliveries::{self, NewDelivery, Settlement};
use tokio::task::JoinSet;

use crate::harness::{CHANNEL, LADDER, LEASE, Stage, classes, ids, until};

everywhere!(
    what_is_due_is_claimed_once_under_a_lease,
    what_is_claimed_and_never_settled_falls_due_again,
    classes_share_and_low_does_not_starve,
    what_is_announced_twice_is_claimed_once,
    a_retry_comes_again_after_its_step,
    every_other_wait_is_kept_by_the_row,
    a_dead_letter_and_what_is_cancelled_never_come_again,
    many_processes_claim_each_delivery_once,
    a_queue_that_ends_gives_everything_to_the_next,
);

async fn what_is_due_is_claimed_once_under_a_lease(stage: Stage) {
    let due = stage.insert(Class::Normal, 3).await;
    let later = NewDelivery {
        due_at: stage.clock.now() + chrono::Duration::hours(1),
        ..stage.new_delivery(Class::High)
    };
    stage.insert_all(std::slice::from_ref(&later)).await;
    let claimed = stage.claim_all(3).await;
    assert_eq!(ids(&claimed), due);
    assert!(
        claimed.iter().all(|delivery| delivery.lease == 1 && delivery.due_at == stage.clock.now() + LEASE)
    );
    assert_eq!(
        stage.dispatch().await,
        Some(claimed[0].due_at),
        "the next to fall due is the first lease's end"
    );
    assert!(stage.claim(9).await.is_empty(), "leased, and the other one is early");
    stage.deliver(&claimed).await;
    stage.clock.advance(Duration::from_hours(1));
    let last = stage.claim_all(1).await;
    assert_eq!(ids(&last), [later.id], "the others are finished");
    stage.deliver(&last).await;
    stage.broker_holds(&[]).await;
    assert!(stage.finished().await);
}

async fn what_is_claimed_and_never_settled_falls_due_again(stage: Stage) {
    stage.insert(Class::Normal, 2).await;
    let lost = stage.claim_all(2).await;
    stage.clock.advance(LEASE.to_std().unwrap());
    let again = stage.claim_all(2).await;
    assert_eq!(ids(&again), ids(&lost));
    assert!(again.iter().all(|delivery| delivery.lease == 2));
    let settled = stage.settle(&lost[0], Settlement::Delivered(stage.attempt()), None).await;
    assert!(!settled, "its lease has passed to another");
    stage.deliver(&again).await;
    stage.broker_holds(&[]).await;
}

async fn classes_share_and_low_does_not_starve(stage: Stage) {
    for class in [Class::Low, Class::Normal, Class::High] {
        stage.insert(class, 60).await;
    }
    let mut left = Vec::new();
    if stage.has_broker() {
        // Which of three queues the broker serves first is its own affair.
        until("everything is announced", async || {
            stage.dispatch().await;
            (stage.queued().await == 180).then_some(())
        })
        .await;
        stage.received(&["high", "normal", "low"]).await;
        left.push(("notify.dlq", 3));
    }
    let mut order = Vec::new();
    while order.len() < 180 {
        let claimed = stage.claim_all(10.min(180 - order.len())).await;
        stage.deliver(&claimed).await;
        order.extend(claimed);
    }
    let [high, normal, low] = classes(&order[..90]);
    assert!(high > normal && normal > low && low > 0, "{high} : {normal} : {low}");
    assert!(high >= 45, "{high} high ones in the first half");
    assert_eq!(classes(&order), [60, 60, 60]);
    stage.broker_holds(&left).await;
}

async fn what_is_announced_twice_is_claimed_once(stage: Stage) {
    let due = stage.insert(Class::Normal, 30).await;
    until("everything is announced", async || {
        stage.dispatch().await;
        (stage.queued().await == 30 || !stage.has_broker()).then_some(())
    })
    .await;
    deliveries::unqueue(&stage.db, &due).await.unwrap();
    stage.dispatch().await;
    let claimed = stage.claim_all(30).await;
    assert_eq!(ids(&claimed), due);
    stage.deliver(&claimed).await;
    until("the doubles are acknowledged", async || {
        assert!(stage.claim(50).await.is_empty());
        (!stage.has_broker() || stage.broker().counts(&stage.instance, &LADDER).await.is_empty())
            .then_some(())
    })
    .await;
}

async fn a_retry_comes_again_after_its_step(stage: Stage) {
    let id = stage.insert(Class::Low, 1).await;
    for (attempt, wait) in (0..).zip([LADDER[1], LADDER[0], LADDER[1]]) {
        let claimed = stage.claim_all(1).await;
        assert_eq!((ids(&claimed), claimed[0].attempt), (id.clone(), attempt));
        stage.retry(&claimed[0], wait).await;
        assert!(stage.claim(1).await.is_empty(), "not due yet");
        stage.clock.advance(wait);
    }
    let last = stage.claim_all(1).await;
    assert_eq!(last[0].attempt, 3);
    stage.deliver(&last).await;
    stage.broker_holds(&[]).await;
}

async fn every_other_wait_is_kept_by_the_row(stage: Stage) {
    let id = stage.insert(Class::Normal, 1).await;
    let claimed = stage.claim_all(1).await;
    let soon = stage.clock.now() + chrono::Duration::seconds(7);
    assert!(stage.settle(&claimed[0], Settlement::Snooze(soon), None).await);
    assert_eq!(stage.dispatch().await, Some(soon));
    stage.clock.advance(Duration::from_secs(7));
    let claimed = stage.claim_all(1).await;
    assert_eq!((ids(&claimed), claimed[0].attempt), (id.clone(), 0), "a snooze costs no try");
    stage.retry(&claimed[0], Duration::from_secs(11)).await;
    stage.clock.advance(Duration::from_secs(11));
    let claimed = stage.claim_all(1).await;
    assert_eq!((ids(&claimed), claimed[0].attempt), (id, 1));
    stage.deliver(&claimed).await;
    stage.broker_holds(&[]).await;
}

async fn a_dead_letter_and_what_is_cancelled_never_come_again(stage: Stage) {
    stage.insert(Class::High, 2).await;
    let claimed = stage.claim_all(2).await;
    let bury = Settlement::Bury(stage.attempt(), "no use".to_owned());
    assert!(stage.settle(&claimed[0], bury, None).await);
    assert!(stage.settle(&claimed[1], Settlement::Cancel("gone".to_owned()), None).await);
    stage.clock.advance(Duration::from_hours(1));
    assert_eq!(stage.dispatch().await, None);
    assert!(stage.claim(9).await.is_empty());
    assert!(stage.finished().await);
    stage.broker_holds(&[("notify.dlq", 1)]).await;
    if stage.has_broker() {
        let set_aside = stage.broker().get(&stage.name("notify.dlq")).await.unwrap();
        assert_eq!(set_aside.delivery.data, claimed[0].id.to_string().as_bytes());
    }
}

async fn many_processes_claim_each_delivery_once(stage: Stage) {
    let mut queues = vec![stage.queue().await];
    for _ in 0..2 {
        let url = stage.has_broker().then(|| stage.broker().url.clone());
        queues.push(stage.start_queue(url.as_deref()).await);
    }
    let mut due = stage.insert(Class::Normal, 300).await;
    due.extend(stage.insert(Class::Low, 100).await);
    let mut workers = JoinSet::new();
    for queue in queues {
        let stage = stage.clone();
        workers.spawn(async move {
            let mut mine = Vec::new();
            while !stage.finished().await {
                queue.publish_due(CHANNEL).await.unwrap();
                let claimed = queue.claim(CHANNEL, 40, LEASE).await.unwrap();
                for delivery in &claimed {
                    let delivered = Settlement::Delivered(stage.attempt());
                    assert!(stage.settle(delivery, delivered, None).await);
                }
                queue.settled(claimed.iter().map(|delivery| (delivery, Fate::Settled)));
                mine.extend(ids(&claimed));
            }
            mine
        });
    }
    let claimed = workers.join_all().await.concat();
    let distinct: BTreeSet<_> = claimed.iter().copied().collect();
    assert_eq!((claimed.len(), distinct.len()), (due.len(), due.len()));
}

async fn a_queue_that_ends_gives_everything_to_the_next(stage: Stage) {
    let due = stage.insert(Class::Normal, 10).await;
    let begun = stage.claim_all(4).await;
    for delivery in &begun {
        assert!(stage.settle(delivery, Settlement::Snooze(stage.clock.now()), None).await);
    }
    stage.stop().await;
    let url = stage.has_broker().then(|| stage.broker().url.clone());
    stage.start_queue(url.as_deref()).await;
    let claimed = stage.claim_all(10).await;
    assert_eq!(ids(&claimed), due);
    assert!(claimed.iter().all(|delivery| delivery.attempt == 0));
    stage.deliver(&claimed).await;
    stage.broker_holds(&[]).await;
}
