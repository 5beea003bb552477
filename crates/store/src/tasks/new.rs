//! New tasks: none is stored without its events, and none twice.

use std::{collections::HashSet, sync::LazyLock};

use taskpost_common::{
    Event, EventId, TaskId,
    event::{AssignCause, TaskAssigned, TaskCreated},
    task::Task,
};
use uuid::Uuid;

use super::{due::next_reminder, labels_text, record};
use crate::{
    Change, Db, MAX_BATCH, Session, StoreError, Tx,
    bulk::{bind_arrays, insert_many, insert_many_returning, unnest_text},
    db::{Raw, on},
    dynamic::{Bind, Statement},
    events::{self, NewEvent, outbox_rows},
};

/// A task to be stored, together with its events: neither can be stored without the other.
#[derive(Clone, Debug)]
pub struct NewTask {
    task: Task,
    events: Vec<NewEvent>,
}

impl NewTask {
    /// The task with `task.created` and, when it has an assignee, `task.assigned`.
    pub fn new(change: Change<'_>, task: Task) -> Result<Self, StoreError> {
        let mut facts = vec![Event::TaskCreated(TaskCreated { task: task.clone() })];
        if let Some(assignee_id) = task.assignee_id {
            facts.push(Event::TaskAssigned(TaskAssigned {
                task: task.reference(),
                assignee_id,
                previous_assignee_id: None,
                cause: AssignCause::Create,
            }));
        }
        let events = record(change, &task, &facts)?;
        Ok(Self { task, events })
    }

    /// The task.
    pub const fn task(&self) -> &Task {
        &self.task
    }

    /// Its last event, which a client may wait for.
    pub fn last_event(&self) -> Option<EventId> {
        self.events.last().map(|event| event.id)
    }
}

/// Runs one of the macros of [`crate::bulk`] over new tasks.
macro_rules! task_rows {
    ($run:ident!($tx:expr, $tasks:expr, $suffix:literal)) => {
        $run!($tx, "tasks", $tasks, $suffix, |t| {
            id: uuid = t.task.id.0,
            key: text = t.task.key.as_deref(),
            project_id: uuid = t.task.project_id.map(|id| id.0),
            category_id: uuid = t.task.category_id.map(|id| id.0),
            task_type: text = t.task.task_type.as_str(),
            title: text = t.task.title.as_str(),
            description: text = t.task.description.as_str(),
            status: text = t.task.status.as_str(),
            status_category: text = t.task.status_category.as_str(),
            priority: text = t.task.priority.as_str(),
            resolution: text = t.task.resolution.as_deref(),
            assignee_id: uuid = t.task.assignee_id.map(|id| id.0),
            reporter_id: uuid = t.task.reporter_id.0,
            labels: text = labels_text(&t.task.labels),
            due_at: timestamptz = t.task.due_at,
            next_reminder_at: timestamptz = next_reminder(t.task.due_at, t.task.created_at),
            version: bigint = t.task.version,
            created_at: timestamptz = t.task.created_at,
            updated_at: timestamptz = t.task.updated_at,
            completed_at: timestamptz = t.task.completed_at,
        })
    };
}

/// Stores tasks and their events: two statements, however many there are.
pub async fn insert(tx: &mut Tx, tasks: &[&NewTask]) -> Result<(), StoreError> {
    task_rows!(insert_many!(tx, tasks, ""));
    let all: Vec<&NewEvent> = tasks.iter().flat_map(|task| &task.events).collect();
    events::append(tx, &all).await
}

/// How tasks were not stored.
#[derive(Debug, thiserror::Error)]
pub enum Unstored {
    /// Nothing is stored.
    #[error(transparent)]
    Surely(#[from] StoreError),
    /// The answer was lost: they may be stored.
    #[error("the statement did not return: {0}")]
    Perhaps(StoreError),
}

/// Stores tasks and their events by one statement, which is a transaction of its own: with nothing else to do in it, one
/// round trip instead of four.
pub async fn insert_alone(db: &Db, tasks: &[&NewTask]) -> Result<(), Unstored> {
    static SQL: LazyLock<String> = LazyLock::new(|| {
        let (tasks, next) = task_rows!(unnest_text!(1, tasks, ""));
        let (events, _) = outbox_rows!(unnest_text!(next, events, ""));
        format!("WITH stored AS ({tasks}) {events}")
    });
    let Db::Postgres { read, .. } = db else {
        let mut tx = db.begin().await?;
        insert(&mut tx, tasks).await?;
        return tx.commit().await.map_err(Unstored::Perhaps);
    };
    let mut connection = read.acquire().await.map_err(StoreError::from)?;
    let events: Vec<&NewEvent> = tasks.iter().flat_map(|task| &task.events).collect();
    let query = sqlx::query::<sqlx::Postgres>(sqlx::AssertSqlSafe(SQL.as_str()));
    let query = task_rows!(bind_arrays!(query, tasks, ""));
    let query = outbox_rows!(bind_arrays!(query, events, ""));
    match query.execute(&mut *connection).await {
        Ok(_) => Ok(()),
        Err(error) if is_refusal(&error) => Err(Unstored::Surely(error.into())),
        Err(error) => Err(Unstored::Perhaps(error.into())),
    }
}

/// Whether the server says that it did not do it. One that says goodbye (class 57) may have done it before.
fn is_refusal(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(sqlx::error::DatabaseError::code);
    code.is_some_and(|code| !code.starts_with("57") && !code.starts_with("08"))
}

/// Stores those tasks that never were stored, with their events, and gives their ids. The others, of the same call too,
/// are left as they are: for commands that may come more than once.
pub async fn insert_missing(tx: &mut Tx, tasks: &[&NewTask]) -> Result<HashSet<TaskId>, StoreError> {
    let inserted = task_rows!(insert_many_returning!(tx, tasks, "ON CONFLICT (id) DO NOTHING RETURNING id"));
    let inserted: Vec<TaskId> = inserted.into_iter().map(TaskId).collect();
    // After the insert, which waits for a deletion that is under way.
    let gone = deleted(tx, &inserted).await?;
    take_back(tx, &gone).await?;
    let mut new: HashSet<TaskId> = inserted.into_iter().collect();
    new.retain(|id| !gone.contains(id));
    let mut untold = new.clone();
    let told = tasks.iter().filter(|task| untold.remove(&task.task.id));
    let all: Vec<&NewEvent> = told.flat_map(|task| &task.events).collect();
    events::append(tx, &all).await?;
    Ok(new)
}

/// Which of these tasks were deleted, as far as events are kept.
pub async fn deleted(session: &mut Session, ids: &[TaskId]) -> Result<Vec<TaskId>, StoreError> {
    // One text for any number, so that its plan is kept; in the outbox are those without a position yet.
    const POSTGRES: &str = "
        SELECT aggregate_id FROM events WHERE type = 'task.deleted' AND aggregate_id = ANY($1)
        UNION ALL SELECT aggregate_id FROM outbox WHERE type = 'task.deleted' AND aggregate_id = ANY($1)";
    const SQLITE: &str = "SELECT aggregate_id FROM events WHERE type = 'task.deleted' AND aggregate_id IN ";
    let mut gone = Vec::new();
    for ids in ids.chunks(MAX_BATCH) {
        let ids: Vec<Uuid> = ids.iter().map(|id| id.0).collect();
        let rows: Vec<(Uuid,)> = match session.0.raw() {
            Raw::Pg(c) => sqlx::query_as(POSTGRES).bind(ids).fetch_all(c).await?,
            Raw::Lite(_) => {
                let mut statement = Statement::new(SQLITE);
                statement.list(ids.into_iter().map(Bind::Uuid));
                statement.fetch_all(session).await?
            }
        };
        gone.extend(rows.into_iter().map(|(id,)| TaskId(id)));
    }
    Ok(gone)
}

/// Removes rows of this transaction, of which nothing is told.
async fn take_back(tx: &mut Tx, ids: &[TaskId]) -> Result<(), StoreError> {
    const SQL: &str = "DELETE FROM tasks WHERE id = $1";
    for id in ids {
        on!(tx, |c| sqlx::query(SQL).bind(id.0).execute(c).await.map(drop)?);
    }
    Ok(())
}
