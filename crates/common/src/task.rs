//! Tasks.

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{
    ids::{CategoryId, ProjectId, TaskId, UserId},
    text_enum::text_enum,
};

text_enum! {
    /// How much a task matters.
    Priority {
        /// Not said.
        None = "none",
        /// Can wait.
        Low = "low",
        /// Neither.
        Medium = "medium",
        /// Soon.
        High = "high",
        /// Now; passes quiet hours.
        Urgent = "urgent",
    }
}

text_enum! {
    /// What a status means, whatever a project calls it.
    StatusCategory {
        /// Not planned yet.
        Backlog = "backlog",
        /// Planned.
        Todo = "todo",
        /// Being worked on.
        InProgress = "in_progress",
        /// Finished; has a resolution.
        Done = "done",
        /// Given up; has a resolution.
        Cancelled = "cancelled",
    }
}

text_enum! {
    /// Whether work is left on a task; derived from the status' category.
    TaskState {
        /// Work is left.
        Open = "open",
        /// Done or cancelled.
        Closed = "closed",
    }
}

text_enum! {
    /// How tasks are dealt out.
    Strategy {
        /// Each to anybody.
        Random = "random",
        /// Each to one of those who have the fewest by then.
        LeastLoaded = "least_loaded",
    }
}

impl StatusCategory {
    /// Done and cancelled are closed, the others open.
    pub const fn state(self) -> TaskState {
        match self {
            Self::Backlog | Self::Todo | Self::InProgress => TaskState::Open,
            Self::Done | Self::Cancelled => TaskState::Closed,
        }
    }
}

/// A task as clients and events carry it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema, ToSchema)]
pub struct Task {
    /// Its id.
    pub id: TaskId,
    /// `OPS-42` inside a project, absent on a personal task.
    pub key: Option<String>,
    /// The project; absent on a personal task.
    pub project_id: Option<ProjectId>,
    /// The project's category.
    pub category_id: Option<CategoryId>,
    /// One of the project's task types.
    #[serde(rename = "type")]
    pub task_type: String,
    /// One line.
    pub title: String,
    /// Markdown.
    pub description: String,
    /// One of the project's statuses.
    pub status: String,
    /// What that status means.
    pub status_category: StatusCategory,
    /// Open or closed.
    pub state: TaskState,
    /// How much it matters.
    pub priority: Priority,
    /// Why it was closed; present on closed tasks only.
    pub resolution: Option<String>,
    /// Who works on it.
    pub assignee_id: Option<UserId>,
    /// Who made it.
    pub reporter_id: UserId,
    /// Free words.
    pub labels: Vec<String>,
    /// When it should be done.
    pub due_at: Option<DateTime<Utc>>,
    /// How many comments it has.
    pub comment_count: i64,
    /// Raised by every change but comments.
    pub version: i64,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// When it last changed.
    pub updated_at: DateTime<Utc>,
    /// When it was closed; present on closed tasks only.
    pub completed_at: Option<DateTime<Utc>>,
}

impl Task {
    /// What later events say of the task.
    pub fn reference(&self) -> TaskRef {
        TaskRef {
            id: self.id,
            key: self.key.clone(),
            title: self.title.clone(),
            project_id: self.project_id,
            reporter_id: self.reporter_id,
            assignee_id: self.assignee_id,
            priority: self.priority,
            version: self.version,
        }
    }
}

/// A task as an event about it names it: enough to tell people without asking the store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TaskRef {
    /// Its id.
    pub id: TaskId,
    /// Its key inside a project.
    pub key: Option<String>,
    /// Its title at that moment.
    pub title: String,
    /// Its project.
    pub project_id: Option<ProjectId>,
    /// Who made it.
    pub reporter_id: UserId,
    /// Who worked on it at that moment.
    pub assignee_id: Option<UserId>,
    /// How much it mattered at that moment.
    pub priority: Priority,
    /// The version the event made.
    pub version: i64,
}
