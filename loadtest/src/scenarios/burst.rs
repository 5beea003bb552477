//! Tasks, posted as fast as answers come.

use std::sync::Arc;

use anyhow::Result;
use goose::goose::{GooseUser, TransactionResult};

use super::{Scenario, row, shared};
use crate::{
    attack::{self, Step, account, ask, post},
    expected::Expected,
    record::Recorder,
    row::Row,
    run::Context,
    target::{Account, task},
};

struct Burst {
    accounts: Vec<Account>,
    recorder: Arc<Recorder>,
}

/// Runs it.
pub async fn run(context: &Context) -> Result<Vec<Row>> {
    let (scenario, recorder) = (Scenario::Burst, Recorder::new()?);
    let users = context.options.connections;
    let accounts = context.target.accounts(scenario.name(), shared(users)).await?;
    context.progress.watch(&recorder);
    let step = Burst { accounts, recorder: Arc::clone(&recorder) };
    attack::run(context, scenario.name(), users, step).await?;
    Ok(vec![row(&recorder, scenario)])
}

impl Step for Burst {
    async fn step(&self, user: &mut GooseUser) -> TransactionResult {
        let request =
            post(user, account(&self.accounts, user)?, "/v1/tasks")?.json(&task("Measure the load"));
        ask(user, &self.recorder, "POST /tasks", request, Expected::of(&[201])).await?;
        Ok(())
    }
}
