//! What people do: three writes and seven reads in a turn, and every read must show the writes before it.

use std::sync::Arc;

use anyhow::Result;
use goose::goose::{GooseUser, TransactionError, TransactionResult};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Scenario, row, shared};
use crate::{
    attack::{self, Answer, Step, account, ask, get, post},
    expected::Expected,
    record::Recorder,
    row::Row,
    run::Context,
    target::{Account, task},
};

const CREATED: Expected = Expected::of(&[201]);
const OK: Expected = Expected::of(&[200]);

struct Mixed {
    accounts: Vec<Account>,
    recorder: Arc<Recorder>,
}

/// What a task's answers are checked by.
#[derive(Deserialize)]
struct Shown {
    id: String,
    status: String,
}

/// One user's turn with one task.
struct Turn<'a> {
    user: &'a mut GooseUser,
    account: &'a Account,
    recorder: &'a Recorder,
    id: String,
}

/// A part of a turn: false ends the turn.
type Part = Result<bool, Box<TransactionError>>;

/// Runs it.
pub async fn run(context: &Context) -> Result<Vec<Row>> {
    let (scenario, recorder) = (Scenario::Mixed, Recorder::new()?);
    let users = context.options.connections;
    let accounts = context.target.accounts(scenario.name(), shared(users)).await?;
    context.progress.watch(&recorder);
    let step = Mixed { accounts, recorder: Arc::clone(&recorder) };
    attack::run(context, scenario.name(), users, step).await?;
    Ok(vec![row(&recorder, scenario)])
}

impl Step for Mixed {
    async fn step(&self, user: &mut GooseUser) -> TransactionResult {
        let account = account(&self.accounts, user)?;
        let request = post(user, account, "/v1/tasks")?.json(&task("Measure the load"));
        let answer = ask(user, &self.recorder, "POST /tasks", request, CREATED).await?;
        let Some(made) = answer.and_then(|answer| self.read(&answer)) else { return Ok(()) };
        let mut turn = Turn { user, account, recorder: &self.recorder, id: made.id };
        let whole = turn.show("todo").await?
            && turn.list().await?
            && turn.change("in_progress", &json!({"to": "in_progress"})).await?
            && turn.show("in_progress").await?
            && turn.list().await?
            && turn.show("in_progress").await?
            && turn.change("done", &json!({"to": "done", "resolution": "done"})).await?
            && turn.show("done").await?;
        if whole {
            turn.list().await?;
        }
        Ok(())
    }
}

impl Mixed {
    fn read(&self, answer: &Answer) -> Option<Shown> {
        let shown = serde_json::from_slice(&answer.body).ok();
        if shown.is_none() {
            self.recorder.wrong("an answer that is no task");
        }
        shown
    }
}

impl Turn<'_> {
    /// Shows the task, which must have this status.
    async fn show(&mut self, status: &str) -> Part {
        let request = get(self.user, self.account, &format!("/v1/tasks/{}", self.id))?;
        let answer = ask(self.user, self.recorder, "GET /tasks/{id}", request, OK).await?;
        Ok(answer.is_some_and(|answer| self.must_be(status, &answer)))
    }

    /// Lists the newest tasks.
    async fn list(&mut self) -> Part {
        let request = get(self.user, self.account, "/v1/tasks?limit=20")?;
        Ok(ask(self.user, self.recorder, "GET /tasks", request, OK).await?.is_some())
    }

    /// Moves the task.
    async fn change(&mut self, status: &str, body: &Value) -> Part {
        let path = format!("/v1/tasks/{}/transitions", self.id);
        let request = post(self.user, self.account, &path)?.json(body);
        let answer = ask(self.user, self.recorder, "POST /tasks/{id}/transitions", request, OK).await?;
        Ok(answer.is_some_and(|answer| self.must_be(status, &answer)))
    }

    fn must_be(&self, status: &str, answer: &Answer) -> bool {
        let fine = is(&self.id, status, &answer.body);
        if !fine {
            self.recorder.wrong("a task that is not as it was left");
        }
        fine
    }
}

fn is(id: &str, status: &str, body: &[u8]) -> bool {
    serde_json::from_slice(body).is_ok_and(|shown: Shown| shown.id == id && shown.status == status)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_is_told_by_its_id_and_its_status() {
        let body = br#"{"id": "1", "status": "done", "title": "Measure the load"}"#;
        assert!(is("1", "done", body));
        assert!(!is("2", "done", body));
        assert!(!is("1", "todo", body));
        assert!(!is("1", "done", b"{}"));
    }
}
