//! The limiter in this process, by `governor`.

use std::{num::NonZeroU32, time::Duration};

use governor::{
    DefaultKeyedRateLimiter, Quota,
    clock::{Clock as _, DefaultClock},
    middleware::StateInformationMiddleware,
};
use taskpost_common::{config::Limits, rate::Rate};

use super::{Decision, LimitClass, LimitKey};

/// The limiter in this process.
#[derive(Debug)]
pub struct LocalLimiter {
    auth: Bucket,
    write: Bucket,
    read: Bucket,
}

impl LocalLimiter {
    pub(super) fn new(limits: &Limits) -> Self {
        Self {
            auth: Bucket::new(limits.auth),
            write: Bucket::new(limits.write),
            read: Bucket::new(limits.read),
        }
    }

    pub(super) fn take(&self, class: LimitClass, key: LimitKey, cost: NonZeroU32) -> Decision {
        match class {
            LimitClass::Auth => self.auth.take(key, cost),
            LimitClass::Write => self.write.take(key, cost),
            LimitClass::Read => self.read.take(key, cost),
        }
    }

    pub(super) fn forget_idle(&self) {
        [&self.auth, &self.write, &self.read].into_iter().for_each(Bucket::forget_idle);
    }

    pub(super) fn keys(&self) -> usize {
        self.auth.limiter.len() + self.write.limiter.len() + self.read.limiter.len()
    }
}

#[derive(Debug)]
struct Bucket {
    rate: Rate,
    limiter: DefaultKeyedRateLimiter<LimitKey, StateInformationMiddleware>,
    clock: DefaultClock,
}

impl Bucket {
    fn new(rate: Rate) -> Self {
        let quota = Quota::with_period(rate.period()).unwrap_or_else(|| Quota::per_second(rate.count));
        let limiter = DefaultKeyedRateLimiter::keyed(quota.allow_burst(rate.burst)).with_middleware();
        Self { rate, limiter, clock: DefaultClock::default() }
    }

    fn take(&self, key: LimitKey, cost: NonZeroU32) -> Decision {
        let cost = cost.min(self.rate.burst);
        match self.limiter.check_key_n(&key, cost) {
            Ok(Ok(state)) => Decision {
                allowed: true,
                rate: self.rate,
                remaining: state.remaining_burst_capacity(),
                retry_after: Duration::ZERO,
            },
            Ok(Err(not_until)) => Decision {
                allowed: false,
                rate: self.rate,
                remaining: 0,
                retry_after: not_until.wait_time_from(self.clock.now()),
            },
            // Not reachable, as the cost is at most the burst; refusing is the safe answer.
            Err(_) => {
                Decision { allowed: false, rate: self.rate, remaining: 0, retry_after: self.rate.period() }
            }
        }
    }

    fn forget_idle(&self) {
        self.limiter.retain_recent();
        self.limiter.shrink_to_fit();
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use super::*;

    const KEY: LimitKey = LimitKey::Address(IpAddr::V4(Ipv4Addr::LOCALHOST));

    #[test]
    fn many_threads_get_no_more_than_the_burst() {
        let rate: Rate = "1/h,50".parse().unwrap();
        let trusted_proxies = "".parse().unwrap();
        let limiter = LocalLimiter::new(&Limits { auth: rate, write: rate, read: rate, trusted_proxies });
        let take = || limiter.take(LimitClass::Write, KEY, NonZeroU32::MIN);
        let allowed: usize = std::thread::scope(|scope| {
            let threads: Vec<_> =
                (0..8).map(|_| scope.spawn(|| (0..50).filter(|_| take().allowed).count())).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert_eq!(allowed, 50);
        let refused = take();
        assert!(!refused.allowed && refused.retry_after > Duration::from_mins(50));
    }
}
