//! The rate limiter: GCRA by key and class.

use std::{net::IpAddr, num::NonZeroU32, time::Duration};

use governor::{
    DefaultKeyedRateLimiter, Quota,
    clock::{Clock as _, DefaultClock},
    middleware::StateInformationMiddleware,
};
use taskpost_common::{UserId, config::Limits, rate::Rate};

/// Who is limited.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LimitKey {
    /// A known user.
    User(UserId),
    /// An address, for whoever is not known.
    Address(IpAddr),
}

/// Which limit holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LimitClass {
    /// Logging in and registering.
    Auth,
    /// Changes.
    Write,
    /// Everything else.
    Read,
}

impl LimitClass {
    /// Its name in headers and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Auth => "auth",
            Self::Write => "write",
            Self::Read => "read",
        }
    }
}

/// The limiter. Contract: of any number of callers at once, at most the burst and then the rate is allowed. An answer
/// never waits. Memory is given back by [`Limiter::forget_idle`].
#[derive(Debug)]
pub enum Limiter {
    /// In this process, by `governor`.
    Local(LocalLimiter),
}

/// What was decided, with what the headers say.
#[derive(Clone, Copy, Debug)]
pub struct Decision {
    /// Whether the call may go on.
    pub allowed: bool,
    /// The limit.
    pub rate: Rate,
    /// How many more may come at once.
    pub remaining: u32,
    /// When one more may come, if none may now.
    pub retry_after: Duration,
}

impl Limiter {
    /// The limiter in this process.
    pub fn local(limits: &Limits) -> Self {
        Self::Local(LocalLimiter {
            auth: Bucket::new(limits.auth),
            write: Bucket::new(limits.write),
            read: Bucket::new(limits.read),
        })
    }

    /// Takes `cost` from a key's allowance; a cost above the burst counts as the whole burst.
    pub fn check(&self, class: LimitClass, key: LimitKey, cost: NonZeroU32) -> Decision {
        match self {
            Self::Local(local) => local.bucket(class).check(key, cost),
        }
    }

    /// Forgets keys that are back at their full allowance. Call it every minute or so.
    pub fn forget_idle(&self) {
        match self {
            Self::Local(local) => {
                [&local.auth, &local.write, &local.read].into_iter().for_each(Bucket::forget_idle);
            }
        }
    }

    /// How many keys are remembered.
    pub fn keys(&self) -> usize {
        match self {
            Self::Local(local) => {
                local.auth.limiter.len() + local.write.limiter.len() + local.read.limiter.len()
            }
        }
    }

    /// `local`.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Local(_) => "local",
        }
    }
}

/// The limiter in this process.
#[derive(Debug)]
pub struct LocalLimiter {
    auth: Bucket,
    write: Bucket,
    read: Bucket,
}

impl LocalLimiter {
    const fn bucket(&self, class: LimitClass) -> &Bucket {
        match class {
            LimitClass::Auth => &self.auth,
            LimitClass::Write => &self.write,
            LimitClass::Read => &self.read,
        }
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

    fn check(&self, key: LimitKey, cost: NonZeroU32) -> Decision {
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
    use std::sync::Arc;

    use super::*;

    fn limits(write: &str) -> Limits {
        let slow: Rate = "1/h".parse().unwrap();
        Limits { auth: slow, write: write.parse().unwrap(), read: slow, trusted_proxies: "".parse().unwrap() }
    }

    const KEY: LimitKey = LimitKey::Address(IpAddr::V4(std::net::Ipv4Addr::LOCALHOST));

    #[test]
    fn many_threads_get_no_more_than_the_burst() {
        let limiter = Arc::new(Limiter::local(&limits("1/h,50")));
        let threads: Vec<_> = (0..8)
            .map(|_| {
                let limiter = limiter.clone();
                std::thread::spawn(move || {
                    (0..50).filter(|_| limiter.check(LimitClass::Write, KEY, NonZeroU32::MIN).allowed).count()
                })
            })
            .collect();
        let allowed: usize = threads.into_iter().map(|thread| thread.join().unwrap()).sum();
        assert_eq!(allowed, 50);
        let refused = limiter.check(LimitClass::Write, KEY, NonZeroU32::MIN);
        assert!(!refused.allowed && refused.retry_after > Duration::from_mins(50));
    }

    #[test]
    fn classes_and_keys_do_not_share_and_costs_count() {
        let limiter = Limiter::local(&limits("1/h,10"));
        let seven = NonZeroU32::new(7).unwrap();
        assert_eq!(limiter.check(LimitClass::Write, KEY, seven).remaining, 3);
        assert!(!limiter.check(LimitClass::Write, KEY, seven).allowed);
        assert!(limiter.check(LimitClass::Read, KEY, NonZeroU32::MIN).allowed);
        let other = LimitKey::User(UserId(uuid::Uuid::nil()));
        assert!(limiter.check(LimitClass::Write, other, NonZeroU32::new(1_000).unwrap()).allowed);
    }
}
