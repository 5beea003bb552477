//! The one script that limits.

use std::{num::NonZeroU32, time::Duration};

use redis::{Cmd, ErrorKind, RedisResult, Script, ServerErrorKind, aio::MultiplexedConnection};
use taskpost_common::rate::Rate;

const CODE: &str = include_str!("gcra.lua");

/// One atomic step in Redis: reading and writing apart would let parallel callers through.
#[derive(Debug)]
pub(super) struct Gcra {
    hash: String,
}

/// What is asked of Redis.
#[derive(Debug)]
pub(super) struct Question {
    pub(super) key: String,
    pub(super) rate: Rate,
    pub(super) cost: NonZeroU32,
}

/// What Redis says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) allowed: bool,
    pub(super) remaining: u32,
    pub(super) retry_after: Duration,
}

impl Gcra {
    pub(super) fn new() -> Self {
        Self { hash: Script::new(CODE).get_hash().to_owned() }
    }

    /// Runs it; where Redis does not know it (any more), it is sent whole, which also makes it known.
    pub(super) async fn run(
        &self,
        connection: &mut MultiplexedConnection,
        question: &Question,
    ) -> RedisResult<Answer> {
        let known = question.command("EVALSHA", &self.hash).query_async(connection).await;
        let (allowed, remaining, millis): (bool, u32, u64) = match known {
            Err(error) if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript) => {
                question.command("EVAL", CODE).query_async(connection).await?
            }
            known => known?,
        };
        Ok(Answer { allowed, remaining, retry_after: Duration::from_millis(millis) })
    }
}

impl Question {
    fn command(&self, name: &str, script: &str) -> Cmd {
        let mut command = redis::cmd(name);
        command.arg(script).arg(1).arg(&self.key);
        // In decimal digits, as Redis must not see an exponent.
        command.arg(self.rate.period().as_nanos().to_string());
        command.arg(self.rate.burst.get()).arg(self.cost.min(self.rate.burst).get());
        command
    }
}
