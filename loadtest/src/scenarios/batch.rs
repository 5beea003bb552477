//! Tasks by the hundred.

use std::sync::Arc;

use anyhow::Result;
use goose::goose::{GooseUser, TransactionResult};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Scenario, row, shared};
use crate::{
    attack::{self, Step, account, ask, post},
    expected::Expected,
    record::Recorder,
    row::{Row, per_second},
    run::Context,
    target::{Account, task},
};

/// How many tasks a batch has.
const SIZE: usize = 100;
/// The most users: what they post at once fits into the usual COMMIT_QUEUE of 4096 tasks, and so none is told to wait.
const USERS: u16 = 32;

struct Batch {
    accounts: Vec<Account>,
    recorder: Arc<Recorder>,
    body: Value,
}

/// Runs it.
pub async fn run(context: &Context) -> Result<Vec<Row>> {
    let (scenario, recorder) = (Scenario::Batch, Recorder::new()?);
    let users = context.options.connections.min(USERS);
    let accounts = context.target.accounts(scenario.name(), shared(users)).await?;
    context.progress.watch(&recorder);
    let body = json!({"tasks": vec![task("Measure the load"); SIZE]});
    let step = Batch { accounts, recorder: Arc::clone(&recorder), body };
    attack::run(context, scenario.name(), users, step).await?;
    let measured = row(&recorder, scenario);
    let tasks = measured.good.saturating_mul(SIZE as u64);
    let rate = per_second(tasks, measured.elapsed);
    Ok(vec![measured.note(format!("{rate} tasks/s, by {users} users"))])
}

impl Step for Batch {
    async fn step(&self, user: &mut GooseUser) -> TransactionResult {
        let request = post(user, account(&self.accounts, user)?, "/v1/tasks/batch")?.json(&self.body);
        let answer = ask(user, &self.recorder, "POST /tasks/batch", request, Expected::of(&[207])).await?;
        if answer.is_some_and(|answer| !are_made(&answer.body, SIZE)) {
            self.recorder.wrong("a batch that was not made whole");
        }
        Ok(())
    }
}

/// Whether all of so many tasks were made.
fn are_made(body: &[u8], size: usize) -> bool {
    #[derive(Deserialize)]
    struct Results {
        results: Vec<Made>,
    }
    #[derive(Deserialize)]
    struct Made {
        status: u16,
    }
    let results: Option<Results> = serde_json::from_slice(body).ok();
    results.is_some_and(|Results { results }| {
        results.len() == size && results.iter().all(|made| made.status == 201)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_is_whole_when_every_task_was_made() {
        assert!(are_made(br#"{"results": [{"status": 201, "task": {}}, {"status": 201}]}"#, 2));
        assert!(!are_made(br#"{"results": [{"status": 201}]}"#, 2));
        assert!(!are_made(br#"{"results": [{"status": 201}, {"status": 422, "problem": {}}]}"#, 2));
        assert!(!are_made(b"{}", 0));
    }
}
