//! What Redis adds: many processes, and keys of its own.

use std::net::IpAddr;

use redis::AsyncCommands as _;
use taskpost_ports::limiter::{LimitClass, LimitKey};

use crate::harness::{Bench, KEY, ONE, allowed, redis, redis_at, redis_url_with, take, take_cost, until};

on_redis!(
    two_processes_share_a_limit,
    what_is_asked_together_is_decided_one_by_one,
    a_forgotten_script_is_sent_again,
    lost_data_start_anew,
    keys_vanish,
    a_clock_set_back_locks_nobody_out,
    what_is_used_is_used_when_redis_goes,
);

async fn two_processes_share_a_limit(bench: &Bench) {
    let limiters = bench.limiters(2, "1/h,10").await;
    assert_eq!(take_cost(&limiters[0], 7).await.remaining, 3);
    assert_eq!(take(&limiters[1]).await.remaining, 2);
    assert_eq!(allowed(&limiters[0], LimitClass::Write, 5).await, 2);
    assert!(!take(&limiters[1]).await.allowed);
}

async fn what_is_asked_together_is_decided_one_by_one(bench: &Bench) {
    let limiter = bench.limiter("1/h,10").await;
    let others = (1..=4).map(|last| LimitKey::Address(IpAddr::from([192, 0, 2, last])));
    let keys: Vec<LimitKey> = others.chain([KEY]).collect();
    let asked = (0..300).map(|at| limiter.check(LimitClass::Write, keys[at % keys.len()], ONE));
    let decided = futures::future::join_all(asked).await;
    for place in 0..keys.len() {
        let of_key = decided.iter().skip(place).step_by(keys.len());
        let left: Vec<u32> = of_key.filter(|one| one.allowed).map(|one| one.remaining).collect();
        assert_eq!(left, (0..10).rev().collect::<Vec<_>>(), "{}", keys[place]);
    }
}

async fn a_forgotten_script_is_sent_again(bench: &Bench) {
    let limiter = bench.limiter("1/h,3").await;
    let mut redis = redis().await;
    for left in [2, 1, 0] {
        redis::cmd("SCRIPT").arg("FLUSH").exec_async(&mut redis).await.unwrap();
        assert_eq!(take(&limiter).await.remaining, left);
    }
    redis::cmd("SCRIPT").arg("FLUSH").exec_async(&mut redis).await.unwrap();
    assert!(!take(&limiter).await.allowed);
}

async fn lost_data_start_anew(bench: &Bench) {
    // In a database of its own, as others are at work in the first.
    let url = redis_url_with(|url| url.set_path("/13"));
    let limiter = bench.limiter_at(&url, "1/h,3");
    until("Redis can be used", async || limiter.health().await.problem.is_none()).await;
    assert_eq!(allowed(&limiter, LimitClass::Write, 9).await, 3);
    let mut redis = redis_at(&url).await;
    redis::cmd("FLUSHDB").exec_async(&mut redis).await.unwrap();
    assert_eq!(allowed(&limiter, LimitClass::Write, 9).await, 3);
    redis::cmd("FLUSHDB").exec_async(&mut redis).await.unwrap();
}

async fn keys_vanish(bench: &Bench) {
    let slow = bench.limiter("1/h,2").await;
    let mut redis = redis().await;
    take(&slow).await;
    let key = bench.redis_key(LimitClass::Write);
    let left: i64 = redis.pttl(&key).await.unwrap();
    assert!((1..=3_600_000).contains(&left), "{left}");
    let arrival: String = redis.get(&key).await.unwrap();
    assert!(arrival.chars().all(|c| c.is_ascii_digit() || c == '.'), "{arrival}");

    let fast = bench.limiter("1/s,2").await;
    assert!(fast.check(LimitClass::Read, KEY, ONE).await.allowed);
    let key = bench.redis_key(LimitClass::Read);
    until("the key is gone", async || !redis.exists::<_, bool>(&key).await.unwrap()).await;
}

async fn a_clock_set_back_locks_nobody_out(bench: &Bench) {
    let limiter = bench.limiter("50/s,2").await;
    let mut redis = redis().await;
    redis.set::<_, _, ()>(bench.redis_key(LimitClass::Write), "99999999999.5").await.unwrap();
    let refused = take(&limiter).await;
    assert!(!refused.allowed && refused.retry_after.as_millis() <= 20, "{:?}", refused.retry_after);
    until("it is over", async || take(&limiter).await.allowed).await;
}

async fn what_is_used_is_used_when_redis_goes(bench: &Bench) {
    let gate = crate::gate::Gate::open();
    let limiter = bench.limiter_at(&gate.url(), "1/h,10");
    until("Redis can be used", async || limiter.health().await.problem.is_none()).await;
    assert_eq!(take_cost(&limiter, 7).await.remaining, 3);
    drop(gate);
    assert_eq!(allowed(&limiter, LimitClass::Write, 9).await, 3);
}
