//! How a database goes about a statement: for benchmarks and tests, which see to it that lists are read by indexes.

use std::fmt;

/// Tables that have a row for each task.
const LARGE: [&str; 3] = ["tasks", "board_cards", "task_numbers"];
/// What a step is called that reads all of a table, on Postgres and on SQLite.
const SCANS: [&str; 2] = ["Seq Scan on ", "SCAN "];

/// A statement and how the database goes about it.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The statement, with `$1` and so on for its values.
    pub sql: String,
    /// The steps in the words of the database; Postgres says what each took.
    pub steps: Vec<String>,
}

impl Plan {
    /// What makes the statement cost more the more tasks there are: steps that go through all of a table with a row
    /// for each task, be it by an index, and the statement itself if it counts rows to skip them.
    pub fn faults(&self) -> Vec<&str> {
        let steps = self.steps.iter().map(String::as_str);
        let mut faults: Vec<&str> = steps.filter(|step| reads_all(step)).collect();
        if self.sql.to_ascii_uppercase().contains("OFFSET") {
            faults.push(&self.sql);
        }
        faults
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}", self.sql.trim())?;
        self.steps.iter().try_for_each(|step| write!(out, "\n    {step}"))
    }
}

fn reads_all(step: &str) -> bool {
    SCANS.iter().any(|scan| {
        let table = step.split_once(scan).and_then(|(_, rest)| rest.split_whitespace().next());
        table.is_some_and(|table| LARGE.contains(&table))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_that_reads_all_tasks_is_a_fault() {
        let faults = |sql: &str, step: &str| {
            let plan = Plan { sql: sql.to_owned(), steps: vec!["Limit".to_owned(), step.to_owned()] };
            plan.faults().len()
        };
        for step in [
            "  ->  Seq Scan on tasks  (cost=0.00..9.62 rows=1 width=8)",
            "  ->  Parallel Seq Scan on board_cards",
            "SCAN tasks",
            "SCAN tasks USING INDEX sqlite_autoindex_tasks_1",
        ] {
            assert_eq!(faults("SELECT 1", step), 1, "{step}");
        }
        for step in [
            "  ->  Index Scan Backward using tasks_project on tasks",
            "  ->  Bitmap Heap Scan on tasks",
            "  ->  Seq Scan on board_counts",
            "SEARCH tasks USING INDEX tasks_project (project_id=?)",
            "SCAN task_text VIRTUAL TABLE INDEX 0:M2",
        ] {
            assert_eq!(faults("SELECT 1", step), 0, "{step}");
        }
        assert_eq!(faults("SELECT 1 LIMIT 2 OFFSET $1", "SEARCH tasks"), 1);
    }
}
