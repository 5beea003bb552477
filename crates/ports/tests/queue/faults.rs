//! What happens when the broker fails: nothing is lost, nothing is flooded, and everything heals by itself.

use std::time::Duration;

use taskpost_common::notification::Class;
use taskpost_ports::Queue;

use crate::{
    broker::{exchanges, queues},
    harness::{CHANNEL, LADDER, LEASE, Stage, ids, unconnected, until},
    proxy::Proxy,
};

on_rabbitmq!(
    an_emptied_broker_gets_everything_again,
    a_long_backlog_is_not_doubled,
    what_is_deleted_is_declared_again,
    a_message_that_no_queue_takes_is_not_taken_for_published,
    without_the_broker_the_store_takes_over,
);

/// Beyond the time after which a message may be lost.
const OVERDUE: Duration = Duration::from_secs(61);

async fn announced(stage: &Stage, count: usize) {
    until("it is announced", async || {
        stage.dispatch().await;
        (stage.queued().await == count).then_some(())
    })
    .await;
}

async fn an_emptied_broker_gets_everything_again(stage: Stage) {
    let mut due = stage.insert(Class::High, 10).await;
    due.extend(stage.insert(Class::Low, 60).await);
    announced(&stage, 70).await;
    assert_eq!(stage.broker().purge(&stage.name("notify.email.high")).await, 10);
    assert_eq!(stage.broker().purge(&stage.name("notify.email.low")).await, 60);
    stage.dispatch().await;
    stage.broker_holds(&[]).await;
    stage.clock.advance(OVERDUE);
    let claimed = stage.claim_all(70).await;
    assert_eq!(ids(&claimed), due);
    stage.deliver(&claimed).await;
}

async fn a_long_backlog_is_not_doubled(stage: Stage) {
    stage.insert(Class::Normal, 50).await;
    announced(&stage, 50).await;
    let lost = stage.broker().get(&stage.name("notify.email.normal")).await.unwrap();
    stage.broker_holds(&[("notify.email.normal", 49)]).await;
    stage.clock.advance(OVERDUE);
    until("the lost one is back", async || {
        stage.dispatch().await;
        (stage.broker().ready(&stage.name("notify.email.normal")).await == Some(50)).then_some(())
    })
    .await;
    for _ in 0..3 {
        // Each comes a second after the last, when the next sweep is due.
        stage.queue().await.announced(taskpost_common::notification::Channel::Webhook).await;
        stage.dispatch().await;
    }
    stage.broker_holds(&[("notify.email.normal", 50)]).await;
    let claimed = stage.claim_all(50).await;
    assert!(claimed.iter().any(|delivery| delivery.id.to_string().as_bytes() == lost.delivery.data));
    stage.deliver(&claimed).await;
}

async fn what_is_deleted_is_declared_again(stage: Stage) {
    stage.insert(Class::Normal, 20).await;
    let claimed = stage.claim_all(10).await;
    for name in queues(&stage.instance, &LADDER) {
        stage.broker().delete_queue(&name).await;
    }
    for name in exchanges(&stage.instance, &LADDER) {
        stage.broker().delete_exchange(&name).await;
    }
    stage.deliver(&claimed).await;
    stage.insert(Class::High, 5).await;
    let high = stage.claim_all(5).await;
    stage.deliver(&high).await;
    stage.clock.advance(OVERDUE);
    let rest = stage.claim_all(10).await;
    stage.deliver(&rest).await;
    assert!(stage.finished().await);
    for name in queues(&stage.instance, &LADDER) {
        until(&format!("{name} is back"), async || stage.broker().ready(&name).await).await;
    }
    stage.is_well().await;
}

async fn a_message_that_no_queue_takes_is_not_taken_for_published(stage: Stage) {
    stage.insert(Class::High, 1).await;
    announced(&stage, 1).await;
    stage.broker().delete_queue(&stage.name("notify.email.normal")).await;
    stage.insert(Class::Normal, 30).await;
    stage.insert(Class::Low, 30).await;
    stage.dispatch().await;
    let published = stage.queued().await;
    assert!(published <= 31, "{published}: none of those without a queue");
    announced(&stage, 61).await;
    until("they have a queue again", async || {
        (stage.broker().ready(&stage.name("notify.email.normal")).await == Some(30)).then_some(())
    })
    .await;
    let claimed = stage.claim_all(61).await;
    stage.deliver(&claimed).await;
    assert!(stage.finished().await);
}

async fn without_the_broker_the_store_takes_over(stage: Stage) {
    let due = stage.insert(Class::Normal, 3).await;
    let retried = stage.claim_all(1).await;
    announced(&stage, 2).await;
    stage.retry(&retried[0], LADDER[2]).await;
    until("its step has it", async || (stage.queued().await == 3).then_some(())).await;
    stage.stop().await;
    stage.start_queue(None).await;
    let claimed = stage.claim_all(2).await;
    stage.deliver(&claimed).await;
    stage.clock.advance(LADDER[2]);
    let last = stage.claim_all(1).await;
    assert_eq!(ids(&last), ids(&retried));
    stage.deliver(&last).await;
    assert!(stage.finished().await && due.len() == 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_is_cut_in_flight_loses_nothing() {
    unconnected(async |stage: Stage| {
        let mut proxy = Proxy::start(stage.broker().address());
        stage.start_queue(Some(&stage.broker().url_at(proxy.port))).await;
        stage.insert(Class::Normal, 40).await;
        let in_flight = stage.claim_all(10).await;
        for _ in 0..3 {
            proxy.cut().await;
            stage.insert(Class::High, 5).await;
            until("the cut is noticed", async || {
                stage.queue().await.check().await.problem.is_some().then_some(())
            })
            .await;
            proxy.resume();
            let claimed = stage.claim_all(5).await;
            stage.deliver(&claimed).await;
        }
        // Their acknowledgements are worth nothing any more: the messages have come again meanwhile.
        stage.deliver(&in_flight).await;
        let rest = stage.claim_all(30).await;
        stage.deliver(&rest).await;
        until("what came again is acknowledged", async || {
            assert!(stage.claim(50).await.is_empty());
            stage.broker().counts(&stage.instance, &LADDER).await.is_empty().then_some(())
        })
        .await;
        assert!(stage.finished().await);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_blocking_broker_holds_publishing_and_nothing_else() {
    unconnected(async |stage: Stage| {
        let proxy = Proxy::start(stage.broker().address());
        let queue = stage.start_queue(Some(&stage.broker().url_at(proxy.port))).await;
        stage.insert(Class::Normal, 20).await;
        announced(&stage, 20).await;
        proxy.block();
        until("it is known", async || {
            queue.check().await.problem.filter(|problem| problem.contains("low on disk"))
        })
        .await;
        assert!(!queue.is_ready());

        stage.insert(Class::High, 5).await;
        stage.dispatch().await;
        assert_eq!(stage.queued().await, 20, "nothing is given to a broker that takes nothing");
        let claimed = claim_without_dispatch(&stage, &queue, 20).await;
        stage.deliver(&claimed).await;
        stage.broker_holds(&[]).await;

        proxy.unblock();
        let high = stage.claim_all(5).await;
        stage.deliver(&high).await;
        stage.is_well().await;
        stage.broker_holds(&[]).await;
    })
    .await;
}

async fn claim_without_dispatch(
    stage: &Stage,
    queue: &Queue,
    count: usize,
) -> Vec<taskpost_store::deliveries::Delivery> {
    let mut claimed = Vec::new();
    while claimed.len() < count {
        queue.announced(CHANNEL).await;
        claimed.extend(queue.claim(CHANNEL, count, LEASE).await.unwrap());
    }
    assert_eq!(stage.queued().await, 0);
    claimed
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_comes_late_or_falls_silent_is_waited_for() {
    unconnected(async |stage: Stage| {
        let mut proxy = Proxy::closed(stage.broker().address());
        let queue = stage.start_queue(Some(&stage.broker().url_at(proxy.port))).await;
        let due = stage.insert(Class::Normal, 5).await;
        until("it is known", async || {
            let problem = queue.check().await.problem?;
            (problem.contains("RABBITMQ_URL") && problem.contains("cannot be reached")).then_some(())
        })
        .await;
        assert_eq!(stage.dispatch().await, None);
        assert!(stage.claim(9).await.is_empty());

        proxy.fall_silent().await;
        until("it is told apart", async || {
            queue
                .check()
                .await
                .problem
                .filter(|problem| problem.contains("does not answer in time (logging in)"))
        })
        .await;

        proxy.cut().await;
        proxy.resume();
        let claimed = stage.claim_all(5).await;
        assert_eq!(ids(&claimed), due);
        stage.deliver(&claimed).await;
        stage.broker_holds(&[]).await;
        stage.is_well().await;
    })
    .await;
}
