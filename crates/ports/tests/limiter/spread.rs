//! Ended sessions reach other processes.

use std::time::Duration;

use taskpost_common::{Clock, SessionId};
use taskpost_ports::Spread;

use crate::{
    gate::Gate,
    harness::{Backend, Bench, DEADLINE, redis, until},
};

async fn heard(ended: &mut taskpost_ports::spread::Ended) -> SessionId {
    tokio::time::timeout(DEADLINE, ended.next()).await.expect("nothing was heard")
}

fn ids(count: usize) -> Vec<SessionId> {
    (0..count).map(|_| Clock::system().id()).collect()
}

#[tokio::test]
async fn what_one_process_ends_the_other_hears() {
    let bench = Bench::new(Backend::Redis);
    let (here, there) = (bench.spread().await, bench.spread().await);
    let mut listening = there.listen();
    let ended = ids(250);
    here.publish(&ended);
    for id in ended {
        assert_eq!(heard(&mut listening).await, id);
    }
}

#[tokio::test]
async fn only_ids_are_believed() {
    let bench = Bench::new(Backend::Redis);
    let spread = bench.spread().await;
    let mut listening = spread.listen();
    let ended = ids(1);
    let channel = format!("{}:revoked", bench.instance);
    let mut redis = redis().await;
    for message in ["", "everybody", "1,2,3", &format!("{},*", ended[0]), &"x".repeat(1_000_000)] {
        redis::cmd("PUBLISH").arg(&channel).arg(message).exec_async(&mut redis).await.unwrap();
    }
    spread.publish(&ended);
    assert_eq!(heard(&mut listening).await, ended[0], "nothing came before it");
}

#[tokio::test]
async fn a_cut_connection_is_made_anew() {
    let bench = Bench::new(Backend::Redis);
    let gate = Gate::open();
    let (here, there) = (bench.spread().await, bench.spread_at(&gate.url()));
    until("Redis can be used", async || there.check().await.problem.is_none()).await;
    let mut listening = there.listen();
    gate.cut();
    until("it is heard again", async || {
        here.publish(&ids(1));
        tokio::time::timeout(Duration::from_millis(50), listening.next()).await.is_ok()
    })
    .await;
}

#[tokio::test]
async fn without_redis_nothing_is_told_and_nobody_waits() {
    let bench = Bench::new(Backend::Redis);
    let gate = Gate::shut();
    let spread = bench.spread_at(&gate.url());
    // More than may wait.
    spread.publish(&ids(5_000));
    let problem = spread.check().await.problem.unwrap();
    assert!(problem.contains("REDIS_URL"), "{problem}");

    Spread::Local.publish(&ids(1));
    assert_eq!((Spread::Local.check().await.problem, Spread::Local.name()), (None, "local"));
    let nothing = tokio::time::timeout(Duration::from_millis(20), Spread::Local.listen().next()).await;
    assert!(nothing.is_err());
}
