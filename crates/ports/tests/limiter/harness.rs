//! What a case gets, and how it is run.

use std::{
    cell::RefCell,
    net::{IpAddr, Ipv4Addr},
    num::NonZeroU32,
    panic::{AssertUnwindSafe, resume_unwind},
    sync::Arc,
    time::Duration,
};

use futures::FutureExt as _;
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use redis::aio::MultiplexedConnection;
use taskpost_common::{Clock, config::Limits};
use taskpost_ports::{
    Limiter, PortHealth, Spread,
    limiter::{Decision, LimitClass, LimitKey},
};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// How long a case may take.
pub const DEADLINE: Duration = Duration::from_mins(2);
/// How often a case is begun anew because the machine was too busy for the limiter's deadline of 25 ms.
const TRIES: usize = 20;

pub const ONE: NonZeroU32 = NonZeroU32::MIN;
/// Somebody.
pub const KEY: LimitKey = LimitKey::Address(IpAddr::V4(Ipv4Addr::LOCALHOST));

/// Where the limit is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    Local,
    Redis,
}

/// Makes the tests `case::local` and `case::redis` of a case.
macro_rules! both {
    ($($case:ident),+ $(,)?) => {$(
        mod $case {
            use crate::harness::{Backend, undisturbed};

            #[tokio::test]
            async fn local() {
                undisturbed(Backend::Local, super::$case).await;
            }

            #[tokio::test]
            async fn redis() {
                undisturbed(Backend::Redis, super::$case).await;
            }
        }
    )+};
}

/// Makes a test of a case that is about Redis.
macro_rules! on_redis {
    ($($case:ident),+ $(,)?) => {$(
        mod $case {
            #[tokio::test]
            async fn redis() {
                crate::harness::undisturbed(crate::harness::Backend::Redis, super::$case).await;
            }
        }
    )+};
}

/// Runs a case. One that fails is run again if the limiter had to do without Redis, for then it says nothing of Redis.
pub async fn undisturbed(backend: Backend, case: impl AsyncFn(&Bench)) {
    for _ in 0..TRIES {
        let bench = Bench::new(backend);
        let recorder = PrometheusBuilder::new().build_recorder();
        let metrics = recorder.handle();
        let _recording = metrics::set_default_local_recorder(&recorder);
        let run = AssertUnwindSafe(tokio::time::timeout(DEADLINE, case(&bench)));
        match run.catch_unwind().await {
            Ok(in_time) => return in_time.expect("the case hangs"),
            Err(failure) if fallbacks(&metrics) == 0 => resume_unwind(failure),
            Err(_) => {}
        }
    }
    panic!(
        "Redis did not answer within 25 ms in any of {TRIES} tries; the machine is too busy for this test"
    );
}

/// How many decisions were made without Redis.
pub fn fallbacks(metrics: &PrometheusHandle) -> u64 {
    let text = metrics.render();
    let lines = text.lines().filter(|line| line.starts_with("taskpost_limiter_fallback_total"));
    lines.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum()
}

/// One instance of its own, so that cases never meet.
pub struct Bench {
    pub backend: Backend,
    pub instance: String,
    tasks: RefCell<JoinSet<()>>,
}

impl Bench {
    pub fn new(backend: Backend) -> Self {
        let id: Uuid = Clock::system().id();
        Self { backend, instance: format!("test-{}", id.simple()), tasks: RefCell::default() }
    }

    /// A limiter that is ready, whose every class has this rate.
    pub async fn limiter(&self, rate: &str) -> Limiter {
        match self.backend {
            Backend::Local => Limiter::local(&limits(rate)),
            Backend::Redis => {
                let limiter = self.limiter_at(&redis_url(), rate);
                until("Redis can be used", async || limiter.health().await.problem.is_none()).await;
                limiter
            }
        }
    }

    /// Many that share one limit: processes, or callers where it is not shared between processes.
    pub async fn limiters(&self, count: usize, rate: &str) -> Vec<Arc<Limiter>> {
        let mut limiters = vec![Arc::new(self.limiter(rate).await)];
        while limiters.len() < count {
            limiters.push(match self.backend {
                Backend::Local => limiters[0].clone(),
                Backend::Redis => Arc::new(self.limiter(rate).await),
            });
        }
        limiters
    }

    /// A limiter that may not be ready.
    pub fn limiter_at(&self, url: &str, rate: &str) -> Limiter {
        let (tasks, stop) = (&mut self.tasks.borrow_mut(), CancellationToken::new());
        Limiter::redis(&url.into(), &self.instance, &limits(rate), tasks, stop).unwrap()
    }

    pub fn spread_at(&self, url: &str) -> Spread {
        let (tasks, stop) = (&mut self.tasks.borrow_mut(), CancellationToken::new());
        Spread::redis(&url.into(), &self.instance, tasks, stop).unwrap()
    }

    /// A spread that is ready.
    pub async fn spread(&self) -> Spread {
        let spread = self.spread_at(&redis_url());
        until("Redis can be used", async || spread.check().await.problem.is_none()).await;
        spread
    }

    /// Where a limit is kept in Redis.
    pub fn redis_key(&self, class: LimitClass) -> String {
        format!("{}:limit:{}:127.0.0.1", self.instance, class.as_str())
    }
}

impl Drop for Bench {
    /// Leaves nothing in Redis, where some of these keys would last for years, and users for ever.
    fn drop(&mut self) {
        if self.backend == Backend::Redis {
            let _ = self.sweep();
        }
    }
}

impl Bench {
    fn sweep(&self) -> redis::RedisResult<()> {
        let mut redis = redis::Client::open(redis_url())?.get_connection_with_timeout(DEADLINE / 2)?;
        let keys: Vec<String> = redis::cmd("KEYS").arg(format!("{}:*", self.instance)).query(&mut redis)?;
        if !keys.is_empty() {
            redis::cmd("UNLINK").arg(keys).exec(&mut redis)?;
        }
        redis::cmd("ACL").arg("DELUSER").arg(&self.instance).exec(&mut redis)
    }
}

pub fn limits(rate: &str) -> Limits {
    let rate = rate.parse().unwrap();
    Limits { auth: rate, write: rate, read: rate, trusted_proxies: "".parse().unwrap() }
}

pub async fn take(limiter: &Limiter) -> Decision {
    limiter.check(LimitClass::Write, KEY, ONE).await
}

pub async fn take_cost(limiter: &Limiter, cost: u32) -> Decision {
    limiter.check(LimitClass::Write, KEY, NonZeroU32::new(cost).unwrap()).await
}

/// How many of so many takes are allowed.
pub async fn allowed(limiter: &Limiter, class: LimitClass, takes: usize) -> usize {
    let mut allowed = 0;
    for _ in 0..takes {
        allowed += usize::from(limiter.check(class, KEY, ONE).await.allowed);
    }
    allowed
}

/// The problem that a port reports sooner or later, which must contain all these words.
pub async fn problem(health: impl AsyncFn() -> PortHealth, words: &[&str]) {
    let mut last = None;
    let told = async {
        loop {
            let told = health().await;
            assert_eq!(told.name, "redis");
            last = told.problem;
            if last.as_ref().is_some_and(|last| words.iter().all(|word| last.contains(word))) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let is_told = tokio::time::timeout(DEADLINE / 2, told).await.is_ok();
    assert!(is_told, "{words:?} is not in {last:?}");
}

/// Looks again and again until it is so.
pub async fn until(what: &str, mut so: impl AsyncFnMut() -> bool) {
    let looking = async {
        while !so().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(DEADLINE / 2, looking).await.unwrap_or_else(|_| panic!("never: {what}"));
}

pub fn redis_url() -> String {
    #[expect(clippy::disallowed_methods, reason = "the one setting of these tests")]
    std::env::var("TASKPOST_TEST_REDIS_URL")
        .expect("TASKPOST_TEST_REDIS_URL is not set; `cargo xtask test` starts Redis and sets it")
}

/// Its host and port.
pub fn redis_address() -> String {
    let url = url::Url::parse(&redis_url()).unwrap();
    format!("{}:{}", url.host_str().unwrap(), url.port().unwrap_or(6379))
}

/// The same server by another way: another address, user or database.
pub fn redis_url_with(change: impl FnOnce(&mut url::Url)) -> String {
    let mut url = url::Url::parse(&redis_url()).unwrap();
    change(&mut url);
    url.into()
}

/// A connection of the test's own.
pub async fn redis() -> MultiplexedConnection {
    redis_at(&redis_url()).await
}

pub async fn redis_at(url: &str) -> MultiplexedConnection {
    redis::Client::open(url).unwrap().get_multiplexed_async_connection().await.unwrap()
}
