//! The one script that limits.

use std::{num::NonZeroU32, time::Duration};

use redis::{Cmd, ErrorKind, RedisResult, Script, ServerErrorKind, aio::MultiplexedConnection};
use taskpost_common::rate::Rate;

const CODE: &str = include_str!("gcra.lua");
/// What the script takes, and what it answers, for each key.
const NUMBERS: usize = 3;

/// One atomic step in Redis: reading and writing apart would let parallel callers through.
#[derive(Debug)]
pub(super) struct Gcra {
    hash: String,
}

/// What is asked of Redis.
#[derive(Clone, Debug)]
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

    /// Runs it, and gives an answer to each question; where Redis does not know it (any more), it is sent whole, which
    /// also makes it known.
    pub(super) async fn run(
        &self,
        connection: &mut MultiplexedConnection,
        questions: &[Question],
    ) -> RedisResult<Vec<Answer>> {
        let known = command("EVALSHA", &self.hash, questions).query_async(connection).await;
        let numbers: Vec<u64> = match known {
            Err(error) if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript) => {
                command("EVAL", CODE, questions).query_async(connection).await?
            }
            known => known?,
        };
        let answers: Vec<Answer> = numbers.chunks_exact(NUMBERS).map(Answer::read).collect();
        if answers.len() == questions.len() {
            return Ok(answers);
        }
        Err((ErrorKind::UnexpectedReturnType, "the script answered another number of questions").into())
    }
}

impl Answer {
    fn read(numbers: &[u64]) -> Self {
        let number = |at: usize| numbers.get(at).copied().unwrap_or_default();
        Self {
            allowed: number(0) == 1,
            remaining: u32::try_from(number(1)).unwrap_or(u32::MAX),
            retry_after: Duration::from_millis(number(2)),
        }
    }
}

fn command(name: &str, script: &str, questions: &[Question]) -> Cmd {
    let mut command = redis::cmd(name);
    command.arg(script).arg(questions.len());
    for question in questions {
        command.arg(&question.key);
    }
    for Question { rate, cost, .. } in questions {
        // In decimal digits, as Redis must not see an exponent.
        command.arg(rate.period().as_nanos().to_string());
        command.arg(rate.burst.get()).arg((*cost).min(rate.burst).get());
    }
    command
}
