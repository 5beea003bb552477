//! Tasks: every change appends its events here, by comparing before and after.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde_json::{Value, json};
use sqlx::FromRow;
use taskpost_common::{
    CategoryId, Event, EventId, ProjectId, TaskId, UserId,
    event::{
        AssignCause, TaskAssigned, TaskCompleted, TaskDeleted, TaskReopened, TaskStatusChanged,
        TaskUnassigned, TaskUpdated,
    },
    task::{Priority, StatusCategory, Task, TaskRef, TaskState},
};
use uuid::Uuid;

use crate::{
    Change, MAX_BATCH, Session, StoreError, Tx, comments,
    db::on,
    dynamic::{Bind, Statement},
    events::{self, NewEvent, SeenBy},
    history,
};

mod due;
mod list;
mod many;
mod new;
mod placing;
mod seen;

pub use due::{Reminded, explain_waiting, remind};
pub use list::{After, Found, Place, Reach, TaskFilter, TaskOrder, Within, explain, list, list_in_reach};
pub use many::{
    TaskColumn, change_many, count_with, delete_in_project, open_in_project, unassign_in_project, ungroup,
};
pub use new::{NewTask, Unstored, deleted, insert, insert_alone, insert_missing};
pub use placing::{categories, take_numbers};
pub use seen::{id_of_key, visible, visible_each};

/// Stores `after` in place of `before` and appends an event for each thing that differs. Nothing differs: nothing is
/// stored, and the task comes back as it is. [`StoreError::Stale`] when the row is no longer at `before`'s version.
pub async fn update(
    tx: &mut Tx,
    change: Change<'_>,
    before: &Task,
    mut after: Task,
) -> Result<(Task, Option<EventId>), StoreError> {
    const SQL: &str = "
        UPDATE tasks SET category_id = $1, task_type = $2, title = $3, description = $4, status = $5, status_category = $6,
            priority = $7, resolution = $8, assignee_id = $9, labels = $10, due_at = $11, version = $12, updated_at = $13,
            completed_at = $14, next_reminder_at = CASE WHEN due_at IS DISTINCT FROM $11 THEN $17 ELSE next_reminder_at END
        WHERE id = $15 AND version = $16";
    if *before == after {
        return Ok((after, None));
    }
    after.version = before.version + 1;
    after.updated_at = change.clock.now();
    let rows = on!(tx, |c| sqlx::query(SQL)
        .bind(after.category_id.map(|id| id.0))
        .bind(&after.task_type)
        .bind(&after.title)
        .bind(&after.description)
        .bind(&after.status)
        .bind(after.status_category.as_str())
        .bind(after.priority.as_str())
        .bind(after.resolution.as_deref())
        .bind(after.assignee_id.map(|id| id.0))
        .bind(labels_text(&after.labels))
        .bind(after.due_at)
        .bind(after.version)
        .bind(after.updated_at)
        .bind(after.completed_at)
        .bind(after.id.0)
        .bind(before.version)
        .bind(due::next_reminder(after.due_at, after.updated_at))
        .execute(c)
        .await?
        .rows_affected());
    if rows == 0 {
        return Err(StoreError::Stale("the task"));
    }
    let events = record(change, &after, &differences(before, &after, AssignCause::Update))?;
    let all: Vec<&NewEvent> = events.iter().collect();
    history::append(tx, &all).await?;
    events::append(tx, &all).await?;
    Ok((after, events.last().map(|event| event.id)))
}

/// Deletes the task as it stands at `before`'s version, with its comments.
pub async fn delete(tx: &mut Tx, change: Change<'_>, before: &Task) -> Result<EventId, StoreError> {
    const SQL: &str = "DELETE FROM tasks WHERE id = $1 AND version = $2";
    const BESIDE: [&str; 2] = [
        "DELETE FROM task_history WHERE task_id = $1",
        "DELETE FROM watches WHERE subject_type = 'task' AND subject_id = $1",
    ];
    comments::delete_on(tx, change, &comments::Root::Task(before.clone())).await?;
    let rows = on!(tx, |c| sqlx::query(SQL)
        .bind(before.id.0)
        .bind(before.version)
        .execute(c)
        .await?
        .rows_affected());
    if rows == 0 {
        return Err(StoreError::Stale("the task"));
    }
    for sql in BESIDE {
        on!(tx, |c| sqlx::query(sql).bind(before.id.0).execute(c).await.map(drop)?);
    }
    let event = deletion(change, before.reference(), false)?;
    events::append(tx, &[&event]).await?;
    Ok(event.id)
}

/// That a task is gone, as it was before; `cascade` with something larger.
fn deletion(change: Change<'_>, mut task: TaskRef, cascade: bool) -> Result<NewEvent, StoreError> {
    task.version += 1;
    let (id, version) = (task.id.0, task.version);
    let seen_by = SeenBy {
        project_id: task.project_id,
        owner_id: Some(task.reporter_id),
        assignee_id: task.assignee_id,
    };
    NewEvent::new(change, &Event::TaskDeleted(TaskDeleted { task, cascade }), id, version, seen_by)
}

/// Tasks by their ids, in no order, whoever asks: for what the system does itself.
pub async fn by_ids(session: &mut Session, ids: &[TaskId]) -> Result<Vec<Task>, StoreError> {
    let mut tasks = Vec::with_capacity(ids.len());
    for ids in ids.chunks(MAX_BATCH) {
        let mut statement = Statement::new("SELECT * FROM tasks WHERE id IN ");
        statement.list(ids.iter().map(|id| Bind::Uuid(id.0)));
        let rows: Vec<TaskRow> = statement.fetch_all(session).await?;
        tasks.extend(rows.into_iter().map(Task::try_from).collect::<Result<Vec<_>, _>>()?);
    }
    Ok(tasks)
}

/// Which of these users exist and are active: who may be given a task.
pub async fn assignable(session: &mut Session, users: &[UserId]) -> Result<Vec<UserId>, StoreError> {
    let mut statement = Statement::new("SELECT id FROM users WHERE status = 'active' AND id IN ");
    statement.list(users.iter().map(|id| Bind::Uuid(id.0)));
    let rows: Vec<(Uuid,)> = statement.fetch_all(session).await?;
    Ok(rows.into_iter().map(|(id,)| UserId(id)).collect())
}

/// What happened between two states of a task. A closing or an opening is told besides the change of status.
fn differences(before: &Task, after: &Task, cause: AssignCause) -> Vec<Event> {
    let mut facts = Vec::new();
    let task = after.reference();
    let changes = changed_fields(before, after);
    if !changes.is_empty() {
        facts.push(Event::TaskUpdated(TaskUpdated { task: task.clone(), changes }));
    }
    match (before.assignee_id, after.assignee_id) {
        (old, new) if old == new => {}
        (previous_assignee_id, Some(assignee_id)) => facts.push(Event::TaskAssigned(TaskAssigned {
            task: task.clone(),
            assignee_id,
            previous_assignee_id,
            cause,
        })),
        (Some(previous_assignee_id), None) => {
            let task = task.clone();
            facts.push(Event::TaskUnassigned(TaskUnassigned { task, previous_assignee_id, cause }));
        }
        (None, None) => {}
    }
    if before.status != after.status {
        facts.push(Event::TaskStatusChanged(TaskStatusChanged {
            task: task.clone(),
            from: before.status.clone(),
            to: after.status.clone(),
            category: after.status_category,
            from_category: Some(before.status_category),
        }));
    }
    match (before.state, after.state) {
        (TaskState::Open, TaskState::Closed) => facts.push(Event::TaskCompleted(TaskCompleted {
            task,
            assignee_id: after.assignee_id,
            resolution: after.resolution.clone().unwrap_or_default(),
        })),
        (TaskState::Closed, TaskState::Open) => {
            facts.push(Event::TaskReopened(TaskReopened { task, assignee_id: after.assignee_id }));
        }
        _ => {}
    }
    facts
}

fn changed_fields(before: &Task, after: &Task) -> BTreeMap<String, [Value; 2]> {
    let fields = [
        ("title", json!(before.title), json!(after.title)),
        ("description", json!(before.description), json!(after.description)),
        ("type", json!(before.task_type), json!(after.task_type)),
        ("priority", json!(before.priority), json!(after.priority)),
        ("category_id", json!(before.category_id), json!(after.category_id)),
        ("labels", json!(before.labels), json!(after.labels)),
        ("due_at", json!(before.due_at), json!(after.due_at)),
    ];
    let changed = fields.into_iter().filter(|(_, old, new)| old != new);
    changed.map(|(name, old, new)| (name.to_owned(), [old, new])).collect()
}

fn record(change: Change<'_>, task: &Task, facts: &[Event]) -> Result<Vec<NewEvent>, StoreError> {
    facts.iter().map(|fact| NewEvent::new(change, fact, task.id.0, task.version, seen_by(task))).collect()
}

fn seen_by(task: &Task) -> SeenBy {
    SeenBy { project_id: task.project_id, owner_id: Some(task.reporter_id), assignee_id: task.assignee_id }
}

/// A JSON array in a text column. A list of strings always has one.
fn labels_text(labels: &[String]) -> String {
    if labels.is_empty() { "[]".to_owned() } else { json!(labels).to_string() }
}

#[derive(FromRow)]
struct TaskRow {
    #[sqlx(try_from = "Uuid")]
    id: TaskId,
    key: Option<String>,
    project_id: Option<Uuid>,
    category_id: Option<Uuid>,
    task_type: String,
    title: String,
    description: String,
    status: String,
    #[sqlx(try_from = "String")]
    status_category: StatusCategory,
    #[sqlx(try_from = "String")]
    priority: Priority,
    resolution: Option<String>,
    assignee_id: Option<Uuid>,
    #[sqlx(try_from = "Uuid")]
    reporter_id: UserId,
    labels: String,
    due_at: Option<DateTime<Utc>>,
    comment_count: i64,
    version: i64,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
    completed_at: Option<DateTime<Utc>>,
}

impl TryFrom<TaskRow> for Task {
    type Error = StoreError;

    fn try_from(row: TaskRow) -> Result<Self, StoreError> {
        Ok(Self {
            id: row.id,
            key: row.key,
            project_id: row.project_id.map(ProjectId),
            category_id: row.category_id.map(CategoryId),
            task_type: row.task_type,
            title: row.title,
            description: row.description,
            status: row.status,
            status_category: row.status_category,
            state: row.status_category.state(),
            priority: row.priority,
            resolution: row.resolution,
            assignee_id: row.assignee_id.map(UserId),
            reporter_id: row.reporter_id,
            labels: serde_json::from_str(&row.labels)?,
            due_at: row.due_at,
            comment_count: row.comment_count,
            version: row.version,
            created_at: row.created_at,
            updated_at: row.updated_at,
            completed_at: row.completed_at,
        })
    }
}
