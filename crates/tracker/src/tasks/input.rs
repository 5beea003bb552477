//! What a client may ask for a task to be, and the checks that need no store.

use std::str::FromStr;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Deserializer, Serialize};
use taskpost_common::{
    CategoryId, ProjectId, TaskId, UserId,
    task::{Priority, Task},
    workflow::Workflow,
};
use utoipa::ToSchema;

use crate::{
    Error,
    validate::{Checks, Lines},
    workflow,
};

/// A new task; a title suffices.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateTask {
    /// One line of 1 to 200 characters.
    #[schema(example = "Fix the lift", min_length = 1, max_length = 200)]
    pub title: String,
    /// Markdown, at most 20,000 characters.
    #[serde(default)]
    #[schema(max_length = 20_000)]
    pub description: Option<String>,
    /// The project; absent makes a personal task.
    #[serde(default)]
    pub project_id: Option<ProjectId>,
    /// The project's category.
    #[serde(default)]
    pub category_id: Option<CategoryId>,
    /// One of the project's types; outside projects task, bug, feature or chore.
    #[serde(default, rename = "type")]
    #[schema(example = "bug")]
    pub task_type: Option<String>,
    /// How much it matters.
    #[serde(default)]
    pub priority: Option<Priority>,
    /// Who works on it.
    #[serde(default)]
    pub assignee_id: Option<UserId>,
    /// At most 20 words.
    #[serde(default)]
    #[schema(max_items = 20)]
    pub labels: Option<Vec<String>>,
    /// When it should be done.
    #[serde(default)]
    pub due_at: Option<DateTime<Utc>>,
}

/// A merge patch (RFC 7396): what is absent stays, null empties.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PatchTask {
    /// One line of 1 to 200 characters.
    #[serde(default, deserialize_with = "present")]
    #[schema(nullable = false, min_length = 1, max_length = 200)]
    pub title: Option<Option<String>>,
    /// Markdown, at most 20,000 characters.
    #[serde(default, deserialize_with = "present")]
    #[schema(max_length = 20_000)]
    pub description: Option<Option<String>>,
    /// One of the project's types; outside projects task, bug, feature or chore.
    #[serde(default, rename = "type", deserialize_with = "present")]
    pub task_type: Option<Option<String>>,
    /// How much it matters.
    #[serde(default, deserialize_with = "present")]
    pub priority: Option<Option<Priority>>,
    /// One of the project's categories.
    #[serde(default, deserialize_with = "present")]
    pub category_id: Option<Option<CategoryId>>,
    /// Who works on it; in a project one of its members.
    #[serde(default, deserialize_with = "present")]
    pub assignee_id: Option<Option<UserId>>,
    /// At most 20 words.
    #[serde(default, deserialize_with = "present")]
    #[schema(max_items = 20)]
    pub labels: Option<Option<Vec<String>>>,
    /// When it should be done.
    #[serde(default, deserialize_with = "present")]
    pub due_at: Option<Option<DateTime<Utc>>>,
}

/// A move to another status.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Transition {
    /// The new status.
    #[schema(example = "done")]
    pub to: String,
    /// Why; required on entering done or cancelled.
    #[serde(default)]
    #[schema(example = "done")]
    pub resolution: Option<String>,
}

/// A task by what a client calls it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TaskName {
    /// By its id.
    Id(TaskId),
    /// By its key, such as `OPS-42`.
    Key(String),
}

impl FromStr for TaskName {
    type Err = ();

    /// Other spellings of an id or a key are no names, so that one thing has one.
    fn from_str(text: &str) -> Result<Self, ()> {
        if text.len() == 36
            && let Ok(id) = text.parse()
        {
            return Ok(Self::Id(id));
        }
        let (project, number) = text.split_once('-').ok_or(())?;
        let is_key = (2..=10).contains(&project.len())
            && project.starts_with(|c: char| c.is_ascii_uppercase())
            && project.bytes().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit());
        let is_number = (1..=18).contains(&number.len())
            && !number.starts_with('0')
            && number.bytes().all(|c| c.is_ascii_digit());
        if is_key && is_number { Ok(Self::Key(text.to_owned())) } else { Err(()) }
    }
}

/// The task that an input which was checked asks for.
pub(crate) fn new_task(id: TaskId, reporter_id: UserId, input: CreateTask, now: DateTime<Utc>) -> Task {
    let now = micros(now);
    let first = workflow::first(Workflow::standard());
    Task {
        id,
        key: None,
        project_id: input.project_id,
        category_id: input.category_id,
        task_type: input.task_type.unwrap_or_else(|| first_type(Workflow::standard())),
        title: input.title,
        description: input.description.unwrap_or_default(),
        status: first.name,
        status_category: first.category,
        state: first.category.state(),
        priority: input.priority.unwrap_or(Priority::None),
        resolution: None,
        assignee_id: input.assignee_id,
        reporter_id,
        labels: input.labels.unwrap_or_default(),
        due_at: input.due_at.map(micros),
        comment_count: 0,
        version: 1,
        created_at: now,
        updated_at: now,
        completed_at: None,
    }
}

/// Checks what can be checked without the store.
pub(crate) fn check_new(input: &CreateTask) -> Result<(), Error> {
    let mut checks = Checks::default();
    checks.text("/title", &input.title, 1, 200, Lines::One);
    if let Some(description) = &input.description {
        checks.text("/description", description, 0, 20_000, Lines::Many);
    }
    check_labels(&mut checks, input.labels.as_deref());
    // A project has lists of its own, which the store knows.
    if input.project_id.is_none() {
        check_personal(&mut checks, input);
    }
    check_due(&mut checks, input.due_at);
    checks.finish()
}

pub(super) fn check_patch(patch: &PatchTask) -> Result<(), Error> {
    let mut checks = Checks::default();
    match &patch.title {
        Some(Some(title)) => checks.text("/title", title, 1, 200, Lines::One),
        Some(None) => checks.fault("/title", "missing_field", "a task must have a title"),
        None => {}
    }
    if let Some(Some(description)) = &patch.description {
        checks.text("/description", description, 0, 20_000, Lines::Many);
    }
    check_labels(&mut checks, patch.labels.as_ref().and_then(|given| given.as_deref()));
    check_due(&mut checks, patch.due_at.flatten());
    checks.finish()
}

fn check_personal(checks: &mut Checks, input: &CreateTask) {
    let known = &Workflow::standard().task_types;
    if input.task_type.as_ref().is_some_and(|given| !known.contains(given)) {
        checks.fault("/type", "unknown_type", format!("must be one of {}", known.join(", ")));
    }
    if input.category_id.is_some() {
        checks.fault("/category_id", "unknown_category", "a personal task has no category");
    }
}

/// The type of a task that does not say.
fn first_type(workflow: &Workflow) -> String {
    workflow.task_types.first().cloned().unwrap_or_default()
}

fn check_labels(checks: &mut Checks, labels: Option<&[String]>) {
    let Some(labels) = labels else { return };
    if labels.len() > 20 {
        checks.fault("/labels", "too_long", "must have at most 20 labels");
    }
    for (i, label) in labels.iter().take(20).enumerate() {
        checks.text(&format!("/labels/{i}"), label, 1, 50, Lines::One);
    }
}

/// RFC 3339 has four digits for the year; Postgres and SQLite sort those alike.
fn check_due(checks: &mut Checks, due_at: Option<DateTime<Utc>>) {
    use chrono::Datelike as _;
    if due_at.is_some_and(|due| !(1970..=9999).contains(&due.year())) {
        checks.fault("/due_at", "out_of_range", "must lie between 1970 and 9999");
    }
}

pub(super) fn apply(task: &mut Task, patch: &PatchTask, workflow: &Workflow) {
    if let Some(title) = patch.title.clone().flatten() {
        task.title = title;
    }
    if let Some(description) = &patch.description {
        task.description = description.clone().unwrap_or_default();
    }
    if let Some(task_type) = &patch.task_type {
        task.task_type = task_type.clone().unwrap_or_else(|| first_type(workflow));
    }
    if let Some(priority) = patch.priority {
        task.priority = priority.unwrap_or(Priority::None);
    }
    if let Some(category) = patch.category_id {
        task.category_id = category;
    }
    if let Some(assignee) = patch.assignee_id {
        task.assignee_id = assignee;
    }
    if let Some(labels) = &patch.labels {
        task.labels = labels.clone().unwrap_or_default();
    }
    if let Some(due_at) = patch.due_at {
        task.due_at = due_at.map(micros);
    }
}

/// The store keeps microseconds.
fn micros(time: DateTime<Utc>) -> DateTime<Utc> {
    DateTime::from_timestamp_micros(time.timestamp_micros()).unwrap_or(time)
}

/// Tells a null from an absent field.
pub(crate) fn present<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}
