//! Tasks whose due date is near or past: each is told of once, whichever process looks.

use chrono::{DateTime, Duration, Utc};
use taskpost_common::{Event, event::TaskDue, task::Task};

use super::{TaskRow, seen_by};
use crate::{
    Change, Db, StoreError, Tx,
    db::on,
    dynamic::{Bind, Statement},
    events::{self, NewEvent},
};

/// How many are told of in one transaction.
const SOME: i64 = 200;
/// How long before it is due a task is due soon, and how often an overdue one is told of.
const DAY: Duration = Duration::days(1);
/// How often an overdue task is told of.
const OVERDUE: i32 = 3;

/// What is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DueKind {
    /// It is due within a day.
    Soon,
    /// It is past its due date.
    Overdue,
}

impl DueKind {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Soon => "due_soon",
            Self::Overdue => "overdue",
        }
    }
}

/// Due dates after `from` and up to `to` are told of for the `number`th time.
#[derive(Clone, Copy)]
struct Window {
    kind: DueKind,
    number: i64,
    from: DateTime<Utc>,
    to: DateTime<Utc>,
}

/// Appends `task.due_soon` and `task.overdue` for what is due now and was not told yet; gives how many. The row of each in
/// `task_reminders` is the fence, so any number of processes may do so at once.
pub async fn remind(db: &Db, change: Change<'_>) -> Result<u64, StoreError> {
    let now = change.clock.now();
    let mut windows = vec![Window { kind: DueKind::Soon, number: 1, from: now, to: now + DAY }];
    windows.extend((0..OVERDUE).map(|days| Window {
        kind: DueKind::Overdue,
        number: i64::from(days) + 1,
        from: now - DAY * (days + 1),
        to: now - DAY * days,
    }));
    let mut told = 0;
    for window in windows {
        let due = waiting(db, window).await?;
        if !due.is_empty() {
            let mut tx = db.begin().await?;
            told += tell(&mut tx, change, window, due).await?;
            tx.commit().await?;
        }
    }
    Ok(told)
}

async fn waiting(db: &Db, window: Window) -> Result<Vec<Task>, StoreError> {
    let mut statement =
        Statement::new("SELECT * FROM tasks WHERE due_at IS NOT NULL AND completed_at IS NULL AND due_at > ");
    statement.bind(Bind::Time(window.from)).push(" AND due_at <= ").bind(Bind::Time(window.to));
    statement.push(" AND NOT EXISTS (SELECT 1 FROM task_reminders AS told WHERE told.task_id = tasks.id AND told.kind = ");
    statement.bind(Bind::Text(window.kind.as_str().to_owned()));
    statement.push(" AND told.due_at = tasks.due_at AND told.number = ").bind(Bind::Int(window.number));
    statement.push(") ORDER BY due_at LIMIT ").bind(Bind::Int(SOME));
    let rows: Vec<TaskRow> = statement.fetch_all(&mut db.reader().await?).await?;
    rows.into_iter().map(Task::try_from).collect()
}

async fn tell(tx: &mut Tx, change: Change<'_>, window: Window, due: Vec<Task>) -> Result<u64, StoreError> {
    const SQL: &str = "
        INSERT INTO task_reminders (task_id, kind, due_at, number, at) VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING";
    let mut events = Vec::new();
    for task in due {
        let Some(due_at) = task.due_at else { continue };
        let rows = on!(tx, |c| sqlx::query(SQL)
            .bind(task.id.0)
            .bind(window.kind.as_str())
            .bind(due_at)
            .bind(window.number)
            .bind(change.clock.now())
            .execute(c)
            .await?
            .rows_affected());
        if rows == 1 {
            let data = TaskDue { task: task.reference(), due_at, number: window.number };
            let fact = match window.kind {
                DueKind::Soon => Event::TaskDueSoon(data),
                DueKind::Overdue => Event::TaskOverdue(data),
            };
            events.push(NewEvent::new(change, &fact, task.id.0, task.version, seen_by(&task))?);
        }
    }
    events::append(tx, &events.iter().collect::<Vec<_>>()).await?;
    Ok(events.len() as u64)
}
