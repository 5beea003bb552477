//! Changes of many tasks of one project at once, each with its events.

use sqlx::FromRow;
use taskpost_common::{
    CategoryId, EventId, ProjectId, TaskId, UserId,
    event::AssignCause,
    task::{Priority, Task, TaskRef},
};
use uuid::Uuid;

use super::{TaskRow, deletion, differences, record};
use crate::{
    Change, MAX_BATCH, Session, StoreError, Tx,
    db::on,
    dynamic::{Bind, Statement},
    events::{self, NewEvent},
    history,
};

/// How many tasks are changed by one statement.
const TOGETHER: usize = 100;

/// A column whose values a project lists.
#[derive(Clone, Copy, Debug)]
pub enum TaskColumn {
    /// The status.
    Status,
    /// The type.
    Type,
}

/// How many tasks of a project have this value.
pub async fn count_with(
    session: &mut Session,
    project: ProjectId,
    column: TaskColumn,
    value: &str,
) -> Result<i64, StoreError> {
    let sql = match column {
        TaskColumn::Status => "SELECT count(*) FROM tasks WHERE project_id = $1 AND status = $2",
        TaskColumn::Type => "SELECT count(*) FROM tasks WHERE project_id = $1 AND task_type = $2",
    };
    let (count,): (i64,) =
        on!(session, |c| sqlx::query_as(sql).bind(project.0).bind(value).fetch_one(c).await?);
    Ok(count)
}

/// The open tasks of a project, in the order they were made; at most `limit`. Nobody else changes them until
/// the transaction ends.
pub async fn open_in_project(tx: &mut Tx, project: ProjectId, limit: usize) -> Result<Vec<Task>, StoreError> {
    let mut open = Statement::new("SELECT * FROM tasks WHERE project_id = ");
    open.bind(Bind::Uuid(project.0)).push(" AND completed_at IS NULL");
    locked(tx, open, limit).await
}

/// Takes a user's open tasks in a project from them: who does not belong there has none. Who did the closed ones stays known.
pub async fn unassign_in_project(
    tx: &mut Tx,
    change: Change<'_>,
    project: ProjectId,
    user: UserId,
) -> Result<Option<EventId>, StoreError> {
    let mut theirs = Statement::new("SELECT * FROM tasks WHERE project_id = ");
    theirs.bind(Bind::Uuid(project.0)).push(" AND assignee_id = ").bind(Bind::Uuid(user.0));
    theirs.push(" AND completed_at IS NULL");
    edit_all(tx, change, &theirs, AssignCause::Removal, |task| task.assignee_id = None).await
}

/// Takes the tasks of a category out of it.
pub async fn ungroup(
    tx: &mut Tx,
    change: Change<'_>,
    project: ProjectId,
    category: CategoryId,
) -> Result<Option<EventId>, StoreError> {
    let mut grouped = Statement::new("SELECT * FROM tasks WHERE category_id = ");
    grouped.bind(Bind::Uuid(category.0)).push(" AND project_id = ").bind(Bind::Uuid(project.0));
    edit_all(tx, change, &grouped, AssignCause::Update, |task| task.category_id = None).await
}

/// Edits all tasks that `which` finds, as many at a time as [`MAX_BATCH`]; gives the last event.
async fn edit_all(
    tx: &mut Tx,
    change: Change<'_>,
    which: &Statement,
    cause: AssignCause,
    edit: impl Fn(&mut Task),
) -> Result<Option<EventId>, StoreError> {
    let (mut last, mut done) = (None, Uuid::nil());
    loop {
        let mut next = which.clone();
        next.push(" AND id > ").bind(Bind::Uuid(done));
        let some = locked(tx, next, MAX_BATCH).await?;
        let Some(task) = some.last() else { return Ok(last) };
        done = task.id.0;
        let edited = |before: Task| {
            let mut after = before.clone();
            edit(&mut after);
            (before, after)
        };
        let edits = some.into_iter().map(edited).collect();
        last = change_many(tx, change, edits, cause).await?.or(last);
    }
}

/// The first `limit` tasks that `which` finds, in the order of their ids, which nobody else changes until the
/// transaction ends.
async fn locked(tx: &mut Tx, mut which: Statement, limit: usize) -> Result<Vec<Task>, StoreError> {
    which.push(" ORDER BY id LIMIT ").bind(Bind::Int(i64::try_from(limit).unwrap_or(i64::MAX)));
    // SQLite has one writer.
    which.push(if tx.is_postgres() { " FOR UPDATE" } else { "" });
    let rows: Vec<TaskRow> = which.fetch_all(tx).await?;
    rows.into_iter().map(Task::try_from).collect()
}

/// Stores each second task in place of the first, as far as assignee and category differ; gives the last event.
/// [`StoreError::Stale`] when one of them is no longer at its version.
pub async fn change_many(
    tx: &mut Tx,
    change: Change<'_>,
    edits: Vec<(Task, Task)>,
    cause: AssignCause,
) -> Result<Option<EventId>, StoreError> {
    let mut last = None;
    let now = change.clock.now();
    for edits in edits.chunks(TOGETHER) {
        let rows = overwrite(edits, now).execute(tx).await?;
        if rows != edits.len() as u64 {
            return Err(StoreError::Stale("a task"));
        }
        let mut events = Vec::new();
        for (before, after) in edits {
            let mut after = after.clone();
            after.version = before.version + 1;
            after.updated_at = now;
            events.extend(record(change, &after, &differences(before, &after, cause))?);
        }
        let all: Vec<&NewEvent> = events.iter().collect();
        history::append(tx, &all).await?;
        events::append(tx, &all).await?;
        last = events.last().map(|event| event.id).or(last);
    }
    Ok(last)
}

fn overwrite(edits: &[(Task, Task)], now: chrono::DateTime<chrono::Utc>) -> Statement {
    let mut statement = Statement::new("UPDATE tasks SET version = tasks.version + 1, updated_at = ");
    statement.bind(Bind::Time(now));
    statement.push(", assignee_id = edit.column3, category_id = edit.column4 FROM (VALUES ");
    for (i, (before, after)) in edits.iter().enumerate() {
        statement.push(if i == 0 { "(" } else { ", (" }).bind(Bind::Uuid(before.id.0)).push(", ");
        statement.bind(Bind::Int(before.version)).push(", ");
        statement.bind(Bind::MaybeUuid(after.assignee_id.map(|id| id.0))).push(", ");
        statement.bind(Bind::MaybeUuid(after.category_id.map(|id| id.0))).push(")");
    }
    statement.push(") AS edit WHERE tasks.id = edit.column1 AND tasks.version = edit.column2");
    statement
}

/// Deletes every task of a project with what hangs on it, but for comments, which are gone already; gives the last event.
/// They are locked since their comments went, so that nobody sets a watch in between.
pub async fn delete_in_project(
    tx: &mut Tx,
    change: Change<'_>,
    project: ProjectId,
) -> Result<Option<EventId>, StoreError> {
    const BESIDE: [&str; 2] = [
        "DELETE FROM task_history WHERE task_id IN (SELECT id FROM tasks WHERE project_id = $1)",
        "DELETE FROM watches WHERE subject_type = 'task' AND subject_id IN (SELECT id FROM tasks WHERE project_id = $1)",
    ];
    const SOME: &str = "
        DELETE FROM tasks
        WHERE id IN (SELECT id FROM tasks WHERE project_id = $1 AND id > $2 ORDER BY id LIMIT 500)
        RETURNING id, key, title, project_id, reporter_id, assignee_id, priority, version";
    for sql in BESIDE {
        on!(tx, |c| sqlx::query(sql).bind(project.0).execute(c).await.map(drop)?);
    }
    let (mut last, mut done) = (None, Uuid::nil());
    loop {
        // From where the last ones ended: Postgres would step over all that are gone each time.
        let rows: Vec<GoneRow> =
            on!(tx, |c| sqlx::query_as(SOME).bind(project.0).bind(done).fetch_all(c).await?);
        let mut gone: Vec<TaskRef> = rows.into_iter().map(TaskRef::from).collect();
        // RETURNING has no order.
        gone.sort_unstable_by_key(|task| task.id);
        let Some(task) = gone.last() else { return Ok(last) };
        done = task.id.0;
        let mut events = Vec::with_capacity(gone.len());
        for task in gone {
            events.push(deletion(change, task, true)?);
        }
        events::append(tx, &events.iter().collect::<Vec<_>>()).await?;
        last = events.last().map(|event| event.id);
    }
}

/// What is told of a task that is gone.
#[derive(FromRow)]
struct GoneRow {
    #[sqlx(try_from = "Uuid")]
    id: TaskId,
    key: Option<String>,
    title: String,
    project_id: Option<Uuid>,
    #[sqlx(try_from = "Uuid")]
    reporter_id: UserId,
    assignee_id: Option<Uuid>,
    #[sqlx(try_from = "String")]
    priority: Priority,
    version: i64,
}

impl From<GoneRow> for TaskRef {
    fn from(row: GoneRow) -> Self {
        Self {
            id: row.id,
            key: row.key,
            title: row.title,
            project_id: row.project_id.map(ProjectId),
            reporter_id: row.reporter_id,
            assignee_id: row.assignee_id.map(UserId),
            priority: row.priority,
            version: row.version,
        }
    }
}
