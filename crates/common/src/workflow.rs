//! What a task may be: the lists that a project keeps, or the default ones, which personal tasks have.

use std::sync::LazyLock;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::task::{Priority, StatusCategory};

/// A status and what it means.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Status {
    /// Its name, unique in the list.
    #[schema(example = "in_review")]
    pub name: String,
    /// What it means, whatever it is called.
    pub category: StatusCategory,
}

/// The four lists, each in its order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Workflow {
    /// Where tasks stand; a new one gets the first.
    pub statuses: Vec<Status>,
    /// What tasks are; a new one is the first if it does not say.
    pub task_types: Vec<String>,
    /// How much tasks may matter.
    pub priorities: Vec<Priority>,
    /// Why tasks are closed.
    pub resolutions: Vec<String>,
}

/// The lists of personal tasks, and of a new project.
static DEFAULT: LazyLock<Workflow> = LazyLock::new(|| {
    let words = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect();
    let status = |name: &str, category| Status { name: name.to_owned(), category };
    Workflow {
        statuses: vec![
            status("todo", StatusCategory::Todo),
            status("in_progress", StatusCategory::InProgress),
            status("in_review", StatusCategory::InProgress),
            status("done", StatusCategory::Done),
            status("cancelled", StatusCategory::Cancelled),
        ],
        task_types: words(&["task", "bug", "feature", "chore"]),
        priorities: Priority::ALL.to_vec(),
        resolutions: words(&["done", "wont_do", "duplicate", "cannot_reproduce", "obsolete"]),
    }
});

impl Workflow {
    /// The default lists.
    pub fn standard() -> &'static Self {
        &DEFAULT
    }

    /// The status of this name.
    pub fn status(&self, name: &str) -> Option<&Status> {
        self.statuses.iter().find(|status| status.name == name)
    }
}
