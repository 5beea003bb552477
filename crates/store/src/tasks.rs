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
    task::{Priority, StatusCategory, Task, TaskState},
};
use uuid::Uuid;

use crate::{
    Change, MAX_BATCH, Session, StoreError, Tx, Viewer,
    db::on,
    dynamic::{Bind, Statement},
    events::{self, NewEvent, SeenBy},
};

mod new;
mod seen;

pub use new::{NewTask, Unstored, deleted, insert, insert_alone, insert_missing};
pub use seen::{visible, visible_each};

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
            completed_at = $14
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
        .execute(c)
        .await?
        .rows_affected());
    if rows == 0 {
        return Err(StoreError::Stale("the task"));
    }
    let events = record(change, &after, &differences(before, &after))?;
    let all: Vec<&NewEvent> = events.iter().collect();
    events::append(tx, &all).await?;
    Ok((after, events.last().map(|event| event.id)))
}

/// Deletes the task as it stands at `before`'s version.
pub async fn delete(tx: &mut Tx, change: Change<'_>, before: &Task) -> Result<EventId, StoreError> {
    const SQL: &str = "DELETE FROM tasks WHERE id = $1 AND version = $2";
    let rows = on!(tx, |c| sqlx::query(SQL)
        .bind(before.id.0)
        .bind(before.version)
        .execute(c)
        .await?
        .rows_affected());
    if rows == 0 {
        return Err(StoreError::Stale("the task"));
    }
    let mut gone = before.reference();
    gone.version += 1;
    let fact = Event::TaskDeleted(TaskDeleted { task: gone, cascade: false });
    let event = NewEvent::new(change, &fact, before.id.0, before.version + 1, seen_by(before))?;
    events::append(tx, &[&event]).await?;
    Ok(event.id)
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

/// What a list of tasks is ordered by; the id makes it total.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TaskOrder {
    /// By the time they were made.
    CreatedAt,
    /// By the time they last changed.
    UpdatedAt,
}

/// Which tasks are wanted. An empty list asks for nothing in particular.
#[derive(Clone, Debug)]
pub struct TaskFilter {
    /// One of these statuses.
    pub status: Vec<String>,
    /// Open or closed.
    pub state: Option<TaskState>,
    /// One of these priorities.
    pub priority: Vec<Priority>,
    /// One of these types.
    pub task_type: Vec<String>,
    /// Of one of these assignees.
    pub assignee_id: Vec<UserId>,
    /// Of one of these reporters.
    pub reporter_id: Vec<UserId>,
    /// Made at or after.
    pub created_from: Option<DateTime<Utc>>,
    /// Made before.
    pub created_before: Option<DateTime<Utc>>,
    /// Their order.
    pub order: TaskOrder,
    /// From high to low.
    pub descending: bool,
}

/// Where a page starts: behind (or, walking back, before) this row.
#[derive(Clone, Copy, Debug)]
pub struct After {
    /// The row's value of the order.
    pub at: DateTime<Utc>,
    /// Its id.
    pub id: TaskId,
    /// Walk against the order; the rows still come back in it.
    pub backwards: bool,
}

/// Up to `limit` tasks that the viewer may see, in the filter's order.
pub async fn list(
    session: &mut Session,
    viewer: Viewer,
    filter: &TaskFilter,
    after: Option<After>,
    limit: usize,
) -> Result<Vec<Task>, StoreError> {
    let backwards = after.is_some_and(|after| after.backwards);
    let page = Page { filter, after, limit, descending: filter.descending != backwards };
    let mut statement;
    if viewer.admin {
        statement = Statement::new("SELECT * FROM tasks WHERE TRUE");
        page.narrow(&mut statement);
    } else {
        // Each branch walks an index of its own and stops at the limit; an OR would read all and sort.
        statement = Statement::new("SELECT * FROM tasks WHERE id IN (SELECT id FROM (");
        for (i, column) in
            ["SELECT id FROM tasks WHERE reporter_id = ", "SELECT id FROM tasks WHERE assignee_id = "]
                .into_iter()
                .enumerate()
        {
            statement.push(if i == 0 { "SELECT id FROM (" } else { ") AS own UNION SELECT id FROM (" });
            statement.push(column).bind(Bind::Uuid(viewer.user_id.0));
            page.narrow(&mut statement);
        }
        statement.push(") AS given) AS seen)");
        page.order(&mut statement);
    }
    let rows: Vec<TaskRow> = statement.fetch_all(session).await?;
    let mut tasks = rows.into_iter().map(Task::try_from).collect::<Result<Vec<_>, _>>()?;
    if backwards {
        tasks.reverse();
    }
    Ok(tasks)
}

struct Page<'a> {
    filter: &'a TaskFilter,
    after: Option<After>,
    limit: usize,
    descending: bool,
}

impl Page<'_> {
    /// Adds the filter, the starting point, the order and the limit.
    fn narrow(&self, statement: &mut Statement) {
        let filter = self.filter;
        let texts = |values: &[String]| values.iter().cloned().map(Bind::Text).collect::<Vec<_>>();
        let ids = |values: &[UserId]| values.iter().map(|id| Bind::Uuid(id.0)).collect::<Vec<_>>();
        let priorities = filter.priority.iter().map(|p| Bind::Text(p.as_str().to_owned())).collect();
        for (sql, values) in [
            (" AND status IN ", texts(&filter.status)),
            (" AND priority IN ", priorities),
            (" AND task_type IN ", texts(&filter.task_type)),
            (" AND assignee_id IN ", ids(&filter.assignee_id)),
            (" AND reporter_id IN ", ids(&filter.reporter_id)),
        ] {
            if !values.is_empty() {
                statement.push(sql).list(values);
            }
        }
        match filter.state {
            Some(TaskState::Open) => statement.push(" AND completed_at IS NULL"),
            Some(TaskState::Closed) => statement.push(" AND completed_at IS NOT NULL"),
            None => statement,
        };
        if let Some(from) = filter.created_from {
            statement.push(" AND created_at >= ").bind(Bind::Time(from));
        }
        if let Some(before) = filter.created_before {
            statement.push(" AND created_at < ").bind(Bind::Time(before));
        }
        self.start(statement);
        self.order(statement);
    }

    fn start(&self, statement: &mut Statement) {
        let Some(after) = self.after else { return };
        match (self.filter.order, self.descending) {
            // UUIDv7 grow with time, so the id alone is the order of creation.
            (TaskOrder::CreatedAt, false) => statement.push(" AND id > ").bind(Bind::Uuid(after.id.0)),
            (TaskOrder::CreatedAt, true) => statement.push(" AND id < ").bind(Bind::Uuid(after.id.0)),
            (TaskOrder::UpdatedAt, descending) => statement
                .push(if descending { " AND (updated_at, id) < (" } else { " AND (updated_at, id) > (" })
                .bind(Bind::Time(after.at))
                .push(", ")
                .bind(Bind::Uuid(after.id.0))
                .push(")"),
        };
    }

    fn order(&self, statement: &mut Statement) {
        statement.push(match (self.filter.order, self.descending) {
            (TaskOrder::CreatedAt, false) => " ORDER BY id LIMIT ",
            (TaskOrder::CreatedAt, true) => " ORDER BY id DESC LIMIT ",
            (TaskOrder::UpdatedAt, false) => " ORDER BY updated_at, id LIMIT ",
            (TaskOrder::UpdatedAt, true) => " ORDER BY updated_at DESC, id DESC LIMIT ",
        });
        statement.bind(Bind::Int(i64::try_from(self.limit).unwrap_or(i64::MAX)));
    }
}

/// What happened between two states of a task. A closing or an opening is told besides the change of status.
fn differences(before: &Task, after: &Task) -> Vec<Event> {
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
            cause: AssignCause::Update,
        })),
        (Some(previous_assignee_id), None) => {
            facts.push(Event::TaskUnassigned(TaskUnassigned { task: task.clone(), previous_assignee_id }));
        }
        (None, None) => {}
    }
    if before.status != after.status {
        facts.push(Event::TaskStatusChanged(TaskStatusChanged {
            task: task.clone(),
            from: before.status.clone(),
            to: after.status.clone(),
            category: after.status_category,
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
