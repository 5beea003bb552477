//! How much one process gets over loopback; run it by name, with --ignored --nocapture.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use taskpost_common::{Clock, UserId};
use taskpost_ports::limiter::{LimitClass, LimitKey};
use tokio::task::JoinSet;

use crate::harness::{Backend, Bench, ONE};

const CALLERS: usize = 64;
const CALLS: usize = 2_000;

#[tokio::test(flavor = "multi_thread")]
#[ignore = "measures"]
async fn checks_a_second() {
    for backend in [Backend::Local, Backend::Redis] {
        let bench = Bench::new(backend);
        let limiter = Arc::new(bench.limiter("1000000/s").await);
        let start = Instant::now();
        let mut callers = JoinSet::new();
        for _ in 0..CALLERS {
            let (limiter, key) = (Arc::clone(&limiter), LimitKey::User(Clock::system().id::<UserId>()));
            callers.spawn(async move {
                let mut waits = Vec::with_capacity(CALLS);
                for _ in 0..CALLS {
                    let asked = Instant::now();
                    assert!(limiter.check(LimitClass::Read, key, ONE).await.allowed);
                    waits.push(asked.elapsed());
                }
                waits
            });
        }
        let mut waits: Vec<Duration> = callers.join_all().await.into_iter().flatten().collect();
        let seconds = start.elapsed().as_secs_f64();
        waits.sort_unstable();
        let (middle, late) = (waits[waits.len() / 2], waits[waits.len() * 99 / 100]);
        #[expect(clippy::cast_precision_loss, reason = "a count to be read by people")]
        let rate = waits.len() as f64 / seconds;
        println!("{backend:?}: {rate:.0} checks/s, p50 {middle:?}, p99 {late:?}");
    }
}
