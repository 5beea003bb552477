//! New tasks in the project beside personal ones.

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use super::fill::Project;
use crate::{
    bench::Bench,
    figure::{Outcome, Unit},
    measure::wrk::{self, Ask, Loop, Measured},
    rows::{TASK, TASKS},
    start::stack::Stack,
    stats::median,
};

/// How often the two are compared.
const PAIRS: usize = 4;
/// How long each is loaded: not long, as the project grows by it.
const SECONDS: u64 = 2;

/// Both loads, in pairs that begin with one and the other in turn; the groups catch up between them.
pub async fn compared(
    bench: &Bench,
    stack: &Stack<'_>,
    project: &Project,
    outcome: &mut Outcome,
) -> Result<()> {
    let mut task: Value = serde_json::from_str(TASK)?;
    task["project_id"] = json!(project.id);
    let token = &stack.client.token;
    let (personal, inside) = (Ask::post(TASKS, token, TASK), Ask::post(TASKS, token, task.to_string()));
    // What warms up.
    loaded(bench, stack, &personal).await?;
    let mut pairs = Vec::new();
    for number in 0..PAIRS {
        pairs.push(if number.is_multiple_of(2) {
            let first = loaded(bench, stack, &personal).await?;
            (first, loaded(bench, stack, &inside).await?)
        } else {
            let first = loaded(bench, stack, &inside).await?;
            (loaded(bench, stack, &personal).await?, first)
        });
    }
    let middle = |of: &dyn Fn(&(Measured, Measured)) -> f64| {
        median(&pairs.iter().map(of).collect::<Vec<_>>()).context("nothing was compared")
    };
    outcome.add("post_personal_per_second", middle(&|pair| pair.0.per_second)?, Unit::PerSecond);
    outcome.add("post_personal_p99_ms", middle(&|pair| pair.0.p99)?, Unit::Millis);
    outcome.add("post_project_per_second", middle(&|pair| pair.1.per_second)?, Unit::PerSecond);
    outcome.add("post_project_p99_ms", middle(&|pair| pair.1.p99)?, Unit::Millis);
    let ratio = middle(&|pair| pair.1.per_second / pair.0.per_second)?;
    outcome.add("post_project_to_personal", ratio, Unit::Count);
    Ok(())
}

async fn loaded(bench: &Bench, stack: &Stack<'_>, ask: &Ask) -> Result<Measured> {
    let load = Loop::lasting(SECONDS);
    let measured = wrk::once(bench, stack.place.folder(), stack.client.address, ask, load).await?;
    stack.caught_up().await?;
    Ok(measured)
}
