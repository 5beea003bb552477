//! Clients that never know whether their first POST arrived: each is sent twice under one Idempotency-Key.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use anyhow::Result;
use goose::goose::{GooseUser, TransactionResult};

use super::{Scenario, row, shared};
use crate::{
    attack::{self, Answer, Step, account, ask, post},
    expected::Expected,
    record::Recorder,
    row::Row,
    run::Context,
    target::{Account, task},
};

const CREATED: Expected = Expected::of(&[201]);

struct Retries {
    accounts: Vec<Account>,
    recorder: Arc<Recorder>,
    stamp: String,
    keys: AtomicU64,
}

/// Runs it.
pub async fn run(context: &Context) -> Result<Vec<Row>> {
    let (scenario, recorder) = (Scenario::Retries, Recorder::new()?);
    let users = context.options.connections;
    let accounts = context.target.accounts(scenario.name(), shared(users)).await?;
    context.progress.watch(&recorder);
    let step = Retries {
        accounts,
        recorder: Arc::clone(&recorder),
        stamp: context.target.stamp.clone(),
        keys: AtomicU64::new(0),
    };
    attack::run(context, scenario.name(), users, step).await?;
    Ok(vec![row(&recorder, scenario)])
}

impl Step for Retries {
    async fn step(&self, user: &mut GooseUser) -> TransactionResult {
        let key = format!("{}-{}", self.stamp, self.keys.fetch_add(1, Ordering::Relaxed));
        let mut first: Option<Answer> = None;
        for name in ["POST /tasks", "POST /tasks, again"] {
            let request = post(user, account(&self.accounts, user)?, "/v1/tasks")?;
            let request = request.header("idempotency-key", &key).json(&task("Measure the load"));
            let Some(answer) = ask(user, &self.recorder, name, request, CREATED).await? else {
                return Ok(());
            };
            if let Some(first) = &first {
                if !is_replay(first, &answer) {
                    self.recorder.wrong("a second answer that is not the first");
                }
            } else {
                first = Some(answer);
            }
        }
        Ok(())
    }
}

/// The same status and body, and it says so.
fn is_replay(first: &Answer, second: &Answer) -> bool {
    let replayed = second.headers.get("idempotency-replayed").is_some_and(|value| value == "true");
    replayed && first.status == second.status && first.body == second.body
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use reqwest::header::{HeaderMap, HeaderName, HeaderValue};

    use super::*;

    #[test]
    fn only_the_same_answer_that_says_so_is_a_replay() {
        let answer = |body: &'static str, replayed: bool| {
            let line = (HeaderName::from_static("idempotency-replayed"), HeaderValue::from_static("true"));
            let headers = HeaderMap::from_iter(replayed.then_some(line));
            Answer { status: 201, headers, body: Bytes::from_static(body.as_bytes()) }
        };
        let first = answer("a", false);
        assert!(is_replay(&first, &answer("a", true)));
        assert!(!is_replay(&first, &answer("a", false)));
        assert!(!is_replay(&first, &answer("b", true)));
    }
}
