//! How long the answers to questions about the project take.

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use taskpost_common::TaskId;

use super::{
    cases::{Case, newest_at},
    fill::Project,
};
use crate::{
    bench::Bench,
    figure::{Outcome, Unit},
    measure::wrk::{self, Ask, Loop},
    start::stack::Stack,
    stats::float,
};

/// Over how many connections it is asked: as many as SQLite has readers, so that none waits for another.
const CONNECTIONS: u32 = 4;
/// The pages that are measured by themselves.
const DEPTHS: [usize; 4] = [1, 10, 100, 1_000];
/// How many times as long as the first page the deepest may take.
const FLAT: f64 = 2.0;

/// The first page of each list.
pub async fn lists(bench: &Bench, stack: &Stack<'_>, cases: &[Case], outcome: &mut Outcome) -> Result<()> {
    for case in cases {
        let page = stack.client.get(&case.path).await?;
        ensure!(page["data"].as_array().is_some_and(|tasks| !tasks.is_empty()), "{} is empty", case.path);
        answered(bench, stack, &format!("list_{}", case.name), &case.path, outcome).await?;
    }
    Ok(())
}

/// Pages far into the newest tasks, reached by cursors. Gives the task that the deepest one begins behind.
pub async fn depths(
    bench: &Bench,
    stack: &Stack<'_>,
    project: &Project,
    outcome: &mut Outcome,
) -> Result<Option<TaskId>> {
    let first = newest_at(project);
    let (mut path, mut reached) = (first.clone(), Vec::new());
    let mut behind: Option<TaskId> = None;
    for number in 1..=DEPTHS.into_iter().max().unwrap_or_default() {
        if DEPTHS.contains(&number) {
            reached.push((number, path.clone()));
        }
        let page = stack.client.get(&path).await?;
        let Some(cursor) = page["page"]["next_cursor"].as_str() else { break };
        path = format!("{first}&cursor={cursor}");
        behind = page["data"].as_array().and_then(|tasks| tasks.last()?["id"].as_str()?.parse().ok());
    }
    let mut times = Vec::new();
    for (number, path) in reached {
        times.push(answered(bench, stack, &format!("page_{number}"), &path, outcome).await?);
    }
    if let [first, .., last] = times[..] {
        outcome.add("page_last_to_first", last / first.max(1e-9), Unit::Count);
        if last > first * FLAT {
            outcome.note("a page costs more the more come before it");
        }
    }
    Ok(behind)
}

/// The board, which must hold all tasks.
pub async fn board(
    bench: &Bench,
    stack: &Stack<'_>,
    project: &Project,
    tasks: usize,
    outcome: &mut Outcome,
) -> Result<()> {
    let path = board_at(project);
    let board = stack.client.get(&path).await?;
    ensure!(board["source"] == "view", "the board comes from the {}", board["source"]);
    let shown = counted(&board)?;
    ensure!(shown == tasks, "the board counts {shown} of {tasks} tasks");
    let (_, bytes) = stack.client.look(&path).await?;
    outcome.add("board_bytes", float(bytes), Unit::Bytes);
    answered(bench, stack, "board", &path, outcome).await.map(drop)
}

/// Where the board of the project is.
pub fn board_at(project: &Project) -> String {
    format!("/v1/views/projects/{}/board", project.id)
}

/// How many tasks a board counts in all its columns.
pub fn counted(board: &Value) -> Result<usize> {
    let columns = board["columns"].as_array().context("a board has columns")?;
    let counts: Option<Vec<u64>> = columns.iter().map(|column| column["count"].as_u64()).collect();
    Ok(usize::try_from(counts.context("a column has a count")?.iter().sum::<u64>())?)
}

/// Asks again and again; gives within which time half of the answers came, in milliseconds.
async fn answered(
    bench: &Bench,
    stack: &Stack<'_>,
    name: &str,
    path: &str,
    outcome: &mut Outcome,
) -> Result<f64> {
    let ask = Ask::get(vec![path.to_owned()], &stack.client.token);
    let load = Loop { threads: 1, connections: CONNECTIONS, seconds: bench.seconds() };
    let (folder, address) = (stack.place.folder(), stack.client.address);
    let (measured, _) =
        wrk::warmed(bench, folder, address, &ask, load).await.with_context(|| name.to_owned())?;
    outcome.add(format!("{name}_p50_ms"), measured.p50, Unit::Millis);
    outcome.add(format!("{name}_p99_ms"), measured.p99, Unit::Millis);
    Ok(measured.p50)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_board_counts_all_its_columns() {
        let board = json!({"columns": [{"status": "todo", "count": 7}, {"status": "done", "count": 5}]});
        assert_eq!(counted(&board).unwrap(), 12);
        assert!(counted(&json!({"columns": [{"status": "todo"}]})).is_err());
        assert!(counted(&json!({"data": []})).is_err());
    }
}
