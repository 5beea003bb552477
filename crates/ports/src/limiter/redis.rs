//! The limiter that all processes share, in Redis.

use std::{num::NonZeroU32, sync::Arc};

use secrecy::SecretString;
use taskpost_common::{config::Limits, rate::Rate};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::{
    Decision, LimitClass, LimitKey,
    link::Link,
    local::LocalLimiter,
    script::{Answer, Question},
};
use crate::redis_client::{self, InvalidRedisUrl};

/// What part of its rate and burst `auth` keeps in each process while Redis is away, when many processes would
/// otherwise allow many times the guesses.
const AUTH_SHARE: u32 = 4;

/// The limiter in Redis, with the one in this process behind it.
#[derive(Debug)]
pub struct RedisLimiter {
    link: Arc<Link>,
    limits: Limits,
    instance: String,
    fallback: LocalLimiter,
}

impl RedisLimiter {
    pub(super) fn start(
        url: &SecretString,
        instance: &str,
        limits: &Limits,
        tasks: &mut JoinSet<()>,
        stop: CancellationToken,
    ) -> Result<Self, InvalidRedisUrl> {
        let (link, asked) = Link::new(redis_client::client(url)?, instance);
        let link = Arc::new(link);
        let (kept, answering, stop_answering) = (Arc::clone(&link), Arc::clone(&link), stop.clone());
        tasks.spawn(async move {
            stop.run_until_cancelled(kept.keep_up()).await;
        });
        tasks.spawn(async move {
            stop_answering.run_until_cancelled(answering.answer(asked)).await;
        });
        let fallback = LocalLimiter::new(&Limits { auth: stricter(limits.auth), ..limits.clone() });
        Ok(Self { link, limits: limits.clone(), instance: instance.to_owned(), fallback })
    }

    pub(super) async fn take(&self, class: LimitClass, key: LimitKey, cost: NonZeroU32) -> Decision {
        let rate = class.rate(&self.limits);
        let name = format!("{}:limit:{}:{key}", self.instance, class.as_str());
        let Some(answer) = self.link.ask(Question { key: name, rate, cost }).await else {
            metrics::counter!("taskpost_limiter_fallback_total", "class" => class.as_str()).increment(1);
            return self.fallback.take(class, key, cost);
        };
        if answer.allowed {
            // So that nobody finds a full allowance here when Redis goes.
            self.fallback.take(class, key, cost);
        }
        let Answer { allowed, remaining, retry_after } = answer;
        Decision { allowed, rate, remaining, retry_after }
    }

    pub(super) async fn problem(&self) -> Option<String> {
        self.link.problem().await
    }

    pub(super) const fn fallback(&self) -> &LocalLimiter {
        &self.fallback
    }
}

fn stricter(rate: Rate) -> Rate {
    let part = |n: NonZeroU32| NonZeroU32::new(n.get() / AUTH_SHARE).unwrap_or(NonZeroU32::MIN);
    Rate { count: part(rate.count), burst: part(rate.burst), ..rate }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strictness_is_a_quarter_and_at_least_one() {
        for (rate, kept) in [("60/m,30", "15/m,7"), ("3/h,2", "1/h,1"), ("5/s", "1/s,1")] {
            assert_eq!(stricter(rate.parse().unwrap()).to_string(), kept, "{rate}");
        }
    }
}
