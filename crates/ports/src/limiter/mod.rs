//! The rate limiter: GCRA by key and class.

mod link;
mod local;
mod redis;
mod script;

use std::{fmt, net::IpAddr, num::NonZeroU32, time::Duration};

use secrecy::SecretString;
use taskpost_common::{UserId, config::Limits, rate::Rate};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use self::{local::LocalLimiter, redis::RedisLimiter};
use crate::{PortHealth, redis_client::InvalidRedisUrl};

/// Who is limited.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LimitKey {
    /// A known user.
    User(UserId),
    /// An address, for whoever is not known.
    Address(IpAddr),
}

impl fmt::Display for LimitKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::User(id) => id.fmt(f),
            Self::Address(address) => address.fmt(f),
        }
    }
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

    const fn rate(self, limits: &Limits) -> Rate {
        match self {
            Self::Auth => limits.auth,
            Self::Write => limits.write,
            Self::Read => limits.read,
        }
    }
}

/// The limiter. Contract: of any number of callers at once, at most the burst and then the rate is allowed; a cost
/// above the burst counts as the whole burst. An answer comes within 25 ms, whatever the backend does, and is never an
/// error. Memory is given back by [`Limiter::forget_idle`].
#[derive(Debug)]
pub enum Limiter {
    /// In this process, by `governor`.
    Local(LocalLimiter),
    /// Shared by all processes, by one script in Redis; while Redis is away each process limits by itself, and
    /// [`LimitClass::Auth`] more strictly.
    Redis(RedisLimiter),
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
        Self::Local(LocalLimiter::new(limits))
    }

    /// The limiter in Redis. Does not wait for Redis: a task connects, and heals what breaks, until `stop`.
    pub fn redis(
        url: &SecretString,
        instance: &str,
        limits: &Limits,
        tasks: &mut JoinSet<()>,
        stop: CancellationToken,
    ) -> Result<Self, InvalidRedisUrl> {
        RedisLimiter::start(url, instance, limits, tasks, stop).map(Self::Redis)
    }

    /// Takes `cost` from a key's allowance.
    pub async fn check(&self, class: LimitClass, key: LimitKey, cost: NonZeroU32) -> Decision {
        match self {
            Self::Local(local) => local.take(class, key, cost),
            // Boxed, so that the local one does not carry the weight of a network call in its future.
            Self::Redis(redis) => Box::pin(redis.take(class, key, cost)).await,
        }
    }

    /// Forgets keys that are back at their full allowance. Call it every minute or so.
    pub fn forget_idle(&self) {
        self.in_process().forget_idle();
    }

    /// How many keys are remembered in this process.
    pub fn keys(&self) -> usize {
        self.in_process().keys()
    }

    /// `local` or `redis`.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Local(_) => "local",
            Self::Redis(_) => "redis",
        }
    }

    /// How it is; answers within 2 s.
    pub async fn health(&self) -> PortHealth {
        let problem = match self {
            Self::Local(_) => None,
            Self::Redis(redis) => redis.problem().await,
        };
        PortHealth { name: self.name(), problem }
    }

    const fn in_process(&self) -> &LocalLimiter {
        match self {
            Self::Local(local) => local,
            Self::Redis(redis) => redis.fallback(),
        }
    }
}
