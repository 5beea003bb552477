//! What every limiter does.

use std::time::{Duration, Instant};

use taskpost_common::{Clock, UserId};
use taskpost_ports::limiter::{LimitClass, LimitKey};

use crate::harness::{Bench, KEY, ONE, allowed, take, take_cost, until};

both!(
    a_burst_then_nothing,
    what_was_taken_comes_back_at_the_rate,
    a_cost_counts_as_many,
    a_cost_above_the_burst_is_the_whole_burst,
    classes_and_keys_do_not_share,
    parallel_clients_get_the_burst_together,
    rates_far_apart_are_counted_alike,
);

async fn a_burst_then_nothing(bench: &Bench) {
    let limiter = bench.limiter("1/h,5").await;
    for left in [4, 3, 2, 1, 0] {
        let decision = take(&limiter).await;
        assert!(decision.allowed && decision.retry_after.is_zero());
        assert_eq!((decision.remaining, decision.rate.to_string().as_str()), (left, "1/h,5"));
    }
    let refused = take(&limiter).await;
    assert_eq!((refused.allowed, refused.remaining), (false, 0));
    let hour = Duration::from_hours(1);
    assert!(refused.retry_after > hour / 2 && refused.retry_after <= hour, "{:?}", refused.retry_after);
}

async fn what_was_taken_comes_back_at_the_rate(bench: &Bench) {
    let limiter = bench.limiter("20/s,3").await;
    let (start, mut allowed, mut refused) = (Instant::now(), 0_u32, 0_u32);
    until("ten were allowed and ten refused", async || {
        // Without a pause in between, or on a slow machine something is back each time.
        loop {
            let decision = take(&limiter).await;
            if !decision.allowed {
                assert!(decision.retry_after <= Duration::from_millis(50), "{:?}", decision.retry_after);
                break;
            }
            allowed += 1;
        }
        refused += 1;
        allowed >= 10 && refused >= 10
    })
    .await;
    let due = 3.0 + 20.0 * start.elapsed().as_secs_f64();
    assert!(f64::from(allowed) <= due, "{allowed} were allowed where {due} were due");
}

async fn a_cost_counts_as_many(bench: &Bench) {
    let limiter = bench.limiter("1/h,10").await;
    assert_eq!(take_cost(&limiter, 7).await.remaining, 3);
    let refused = take_cost(&limiter, 7).await;
    assert!(!refused.allowed);
    let (three, four) = (Duration::from_hours(3), Duration::from_hours(4));
    assert!(refused.retry_after > three && refused.retry_after <= four, "{:?}", refused.retry_after);
    let rest = take_cost(&limiter, 3).await;
    assert!(rest.allowed, "what was refused took nothing");
    assert_eq!(rest.remaining, 0);
}

async fn a_cost_above_the_burst_is_the_whole_burst(bench: &Bench) {
    let limiter = bench.limiter("1/h,10").await;
    let all = take_cost(&limiter, 1_000).await;
    assert_eq!((all.allowed, all.remaining), (true, 0));
    assert!(!take(&limiter).await.allowed);
}

async fn classes_and_keys_do_not_share(bench: &Bench) {
    let limiter = bench.limiter("1/h,1").await;
    let clock = Clock::system();
    let (ada, bob) = (LimitKey::User(clock.id::<UserId>()), LimitKey::User(clock.id::<UserId>()));
    let far = LimitKey::Address("2001:db8:0:7::".parse().unwrap());
    for class in [LimitClass::Auth, LimitClass::Write, LimitClass::Read] {
        for key in [KEY, ada, bob, far] {
            assert!(limiter.check(class, key, ONE).await.allowed, "{class:?} {key:?}");
            assert!(!limiter.check(class, key, ONE).await.allowed, "{class:?} {key:?}");
        }
    }
}

async fn parallel_clients_get_the_burst_together(bench: &Bench) {
    let limiters = bench.limiters(8, "1/h,50").await;
    let clients = limiters.iter().map(|limiter| allowed(limiter, LimitClass::Write, 50));
    let allowed: usize = futures::future::join_all(clients).await.into_iter().sum();
    assert_eq!(allowed, 50);
}

async fn rates_far_apart_are_counted_alike(bench: &Bench) {
    // A period of one nanosecond, and a window of 33 days.
    let fast = bench.limiter("1000000000/s,100").await;
    assert_eq!(allowed(&fast, LimitClass::Read, 300).await, 300);
    let slow = bench.limiter("5/h,4000").await;
    assert_eq!(take_cost(&slow, 3_990).await.remaining, 10);
    assert_eq!(allowed(&slow, LimitClass::Write, 20).await, 10);
}
