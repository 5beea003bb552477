//! Redis hangs, is gone, comes back. Nobody waits for it, nobody is let through without limit, nobody sees an error.

use taskpost_ports::limiter::LimitClass;

use crate::{
    gate::{Gate, deserted, url_at},
    harness::{Backend, Bench, KEY, ONE, allowed, problem, take, take_cost, until},
};

async fn ready(limiter: &taskpost_ports::Limiter) {
    until("Redis can be used", async || limiter.health().await.problem.is_none()).await;
}

#[tokio::test]
async fn a_redis_that_hangs_is_asked_once_and_left_alone() {
    let (bench, gate) = (Bench::new(Backend::Redis), Gate::open());
    let limiter = bench.limiter_at(&gate.url(), "1/h,40");
    ready(&limiter).await;
    take(&limiter).await;
    let asked = gate.count(":limit:write:");

    gate.set_open(false);
    assert_eq!(allowed(&limiter, LimitClass::Write, 500).await, 39, "the full limit, less what was used");
    assert_eq!(allowed(&limiter, LimitClass::Auth, 500).await, 10, "a quarter for logging in");
    assert!(gate.count(":limit:write:") <= asked + 1, "only the first call is sent");
    assert_eq!(gate.count(":limit:auth:"), 0);
    problem(async || limiter.health().await, &["REDIS_URL", "in time"]).await;
}

#[tokio::test]
async fn of_many_callers_in_flight_each_gets_an_answer() {
    let (bench, gate) = (Bench::new(Backend::Redis), Gate::open());
    let limiter = bench.limiter_at(&gate.url(), "1/h,40");
    ready(&limiter).await;
    gate.set_open(false);
    let calls = (0..200).map(|_| limiter.check(LimitClass::Write, KEY, ONE));
    let decisions = tokio::time::timeout(crate::harness::DEADLINE, futures::future::join_all(calls)).await;
    let allowed = decisions.unwrap().into_iter().filter(|decision| decision.allowed).count();
    assert_eq!(allowed, 40);
}

#[tokio::test]
async fn when_redis_goes_on_its_word_counts_again() {
    let (bench, gate) = (Bench::new(Backend::Redis), Gate::open());
    let (limiter, other) = (bench.limiter_at(&gate.url(), "1/h,1000000"), bench.limiter("1/h,1000000").await);
    ready(&limiter).await;
    gate.set_open(false);
    until("it is noticed", async || {
        take(&limiter).await;
        limiter.health().await.problem.is_some()
    })
    .await;
    gate.set_open(true);
    until("both count together", async || {
        // Again and again, as one that Redis is late for is not counted there; a second one finds too little left.
        take_cost(&other, 900_000).await;
        take(&limiter).await.remaining < 100_000
    })
    .await;
    ready(&limiter).await;
}

#[tokio::test]
async fn a_redis_that_never_answered_is_named() {
    let (bench, gate) = (Bench::new(Backend::Redis), Gate::shut());
    let limiter = bench.limiter_at(&gate.url(), "1/h,8");
    assert_eq!(allowed(&limiter, LimitClass::Write, 20).await, 8, "from the first moment");
    assert_eq!(allowed(&limiter, LimitClass::Auth, 20).await, 2);
    assert_eq!(limiter.keys(), 2);
    problem(async || limiter.health().await, &["REDIS_URL", "does not let us connect in time"]).await;
}

#[tokio::test]
async fn a_redis_that_comes_later_is_used() {
    let bench = Bench::new(Backend::Redis);
    let (socket, address) = deserted();
    let limiter = bench.limiter_at(&url_at(address), "1/h,1000000");
    problem(async || limiter.health().await, &["REDIS_URL", "cannot reach", "refused"]).await;
    assert!(take(&limiter).await.allowed);

    let other = bench.limiter("1/h,1000000").await;
    let _gate = Gate::on(socket, true);
    until("both count together", async || {
        take_cost(&other, 900_000).await;
        take(&limiter).await.remaining < 100_000
    })
    .await;
}

#[tokio::test]
async fn a_cut_connection_is_made_anew() {
    let (bench, gate) = (Bench::new(Backend::Redis), Gate::open());
    let (limiter, other) = (bench.limiter_at(&gate.url(), "1/h,1000000"), bench.limiter("1/h,1000000").await);
    for round in 1..=3 {
        ready(&limiter).await;
        gate.cut();
        let most = 1_000_000 - round * 100_000;
        until("both count together", async || {
            take_cost(&other, 100_000).await;
            take(&limiter).await.remaining < most
        })
        .await;
    }
}

#[tokio::test]
async fn idle_keys_are_forgotten() {
    let bench = Bench::new(Backend::Redis);
    let (_socket, address) = deserted();
    let limiter = bench.limiter_at(&url_at(address), "1000000/s,10");
    take(&limiter).await;
    until("it is forgotten", async || {
        limiter.forget_idle();
        limiter.keys() == 0
    })
    .await;
}

#[tokio::test]
async fn a_wrong_url_is_refused_at_once() {
    let limits = crate::harness::limits("1/h");
    let (mut tasks, stop) = (tokio::task::JoinSet::new(), tokio_util::sync::CancellationToken::new());
    for url in ["http://localhost:6379", "redis://localhost/zero", "localhost"] {
        let refused = taskpost_ports::Limiter::redis(&url.into(), "test", &limits, &mut tasks, stop.clone());
        let error = refused.unwrap_err().to_string();
        assert!(error.starts_with("REDIS_URL: expected redis://user:password@host:port/0"), "{error}");
    }
}
