//! The lists that are read: as the API is asked for them, and as the store is.

use taskpost_common::task::{Priority, TaskState};
use taskpost_store::tasks::{TaskFilter, TaskOrder};

use super::fill::{ALL, LABEL, Project, RARE, RARE_LABEL, SOME};

/// How many tasks a page has.
pub const PAGE: usize = 50;

/// A list of the project's tasks.
#[derive(Debug)]
pub struct Case {
    /// Its name in figures.
    pub name: &'static str,
    /// Where it is.
    pub path: String,
    /// The same for the store.
    pub filter: TaskFilter,
}

/// Where the project's tasks are, newest first.
pub fn newest_at(project: &Project) -> String {
    format!("/v1/projects/{}/tasks?limit={PAGE}", project.id)
}

/// All tasks, newest first.
pub fn newest() -> TaskFilter {
    TaskFilter { descending: true, ..TaskFilter::default() }
}

/// Every order, and every filter by itself and some together.
pub fn cases(project: &Project) -> Vec<Case> {
    let at = newest_at(project);
    let case = |name: &'static str, query: &str, filter: TaskFilter| Case {
        name,
        path: format!("{at}{query}"),
        filter,
    };
    let mut cases = vec![case("newest", "", newest())];
    for (name, sort, order, descending) in [
        ("oldest", "created_at", TaskOrder::CreatedAt, false),
        ("freshest", "-updated_at", TaskOrder::UpdatedAt, true),
        ("stalest", "updated_at", TaskOrder::UpdatedAt, false),
        ("soonest", "due_at", TaskOrder::DueAt, false),
        ("latest", "-due_at", TaskOrder::DueAt, true),
    ] {
        cases.push(case(name, &format!("&sort={sort}"), TaskFilter { order, descending, ..newest() }));
    }
    for (name, statuses) in [("status", &["in_progress"][..]), ("statuses", &["in_review", "done"][..])] {
        let filter = TaskFilter { status: owned(statuses), ..newest() };
        cases.push(case(name, &format!("&status={}", statuses.join(",")), filter));
    }
    for (name, label) in [("label", LABEL), ("label_rare", RARE_LABEL)] {
        let filter = TaskFilter { label: owned(&[label]), ..newest() };
        cases.push(case(name, &format!("&label={label}"), filter));
    }
    for (name, word) in [("q_all", ALL), ("q_some", SOME), ("q_rare", RARE)] {
        let filter = TaskFilter { words: owned(&[word]), ..newest() };
        cases.push(case(name, &format!("&q={word}"), filter));
    }
    for (name, assignee) in ["assignee", "assignee_rare"].into_iter().zip(&project.members) {
        let filter = TaskFilter { assignee_id: vec![*assignee], ..newest() };
        cases.push(case(name, &format!("&assignee_id={assignee}"), filter));
    }
    let priority = vec![Priority::High, Priority::Urgent];
    cases.extend([
        case("priorities", "&priority=high,urgent", TaskFilter { priority: priority.clone(), ..newest() }),
        case("closed", "&state=closed", TaskFilter { state: Some(TaskState::Closed), ..newest() }),
        case(
            "together",
            "&state=open&priority=high,urgent&sort=due_at",
            TaskFilter {
                state: Some(TaskState::Open),
                priority,
                order: TaskOrder::DueAt,
                descending: false,
                ..newest()
            },
        ),
    ]);
    cases
}

fn owned(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}
