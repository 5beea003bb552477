//! By which plans the lists and the board are read.

use std::fs;

use anyhow::{Context as _, Result};
use chrono::DateTime;
use taskpost_common::TaskId;
use taskpost_store::{
    Db, Plan, board,
    tasks::{self, After, Reach, Within},
};

use super::{
    cases::{Case, PAGE, newest},
    fill::Project,
};
use crate::{bench::Bench, figure::Outcome, start::stack::Stack};

/// What goes through all tasks there are, or counts rows to skip them. Every plan is written into the bench's folder.
pub async fn faults(
    bench: &Bench,
    stack: &Stack<'_>,
    project: &Project,
    cases: &[Case],
    deep: Option<TaskId>,
    outcome: &mut Outcome,
) -> Result<Vec<String>> {
    let db = stack.place.store().await?;
    let read = read(&db, project, cases, deep).await;
    db.close().await;
    let plans = read?;
    let path = bench.folder.join(format!("plans-{}.txt", db.name()));
    let said: Vec<String> = plans.iter().map(|(name, plan)| format!("{name}: {plan}\n")).collect();
    fs::write(&path, said.join("\n")).with_context(|| format!("could not write {}", path.display()))?;
    outcome.note(format!("plans in {}", path.display()));
    let of = |(name, plan): &(&str, Plan)| {
        let faults = plan.faults();
        (!faults.is_empty()).then(|| format!("{name}: {}", faults.join("; ")))
    };
    Ok(plans.iter().filter_map(of).collect())
}

/// The plan of every list, of a page far into one, and of the board.
async fn read<'a>(
    db: &Db,
    project: &Project,
    cases: &'a [Case],
    deep: Option<TaskId>,
) -> Result<Vec<(&'a str, Plan)>> {
    let mut reader = db.reader().await?;
    let within = [project.id];
    let within = Within::Projects(&within);
    // The order of creation is that of the ids alone.
    let after = |id| After { at: DateTime::UNIX_EPOCH, id, backwards: false };
    let mut lists: Vec<_> = cases.iter().map(|case| (case.name, case.filter.clone(), None)).collect();
    lists.extend(deep.map(|id| ("deep", newest(), Some(after(id)))));
    let mut plans = Vec::new();
    for (name, filter, after) in lists {
        let found = tasks::explain(&mut reader, within, &filter, after, PAGE + 1, Reach::USUAL).await?;
        plans.extend(found.into_iter().map(|plan| (name, plan)));
    }
    let build = board::live_build(&mut reader, board::NAME).await?;
    let found = board::explain(&mut reader, build, project.id, "in_progress", PAGE + 1).await?;
    plans.extend(found.into_iter().map(|plan| ("board", plan)));
    Ok(plans)
}
