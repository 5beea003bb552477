//! Tasks whose due date is near or past. `next_reminder_at` says when somebody is to look at one again: what was told is
//! behind it, and a task that has nothing left to tell has none. So each look reads only what is to be told now.

use chrono::{DateTime, Duration, Utc};
use taskpost_common::{Event, event::TaskDue, task::Task};

use super::{TaskRow, seen_by};
use crate::{
    Change, Db, Plan, Session, StoreError, Tx,
    db::{Conn, on},
    dynamic::{Bind, Statement},
    events::{self, NewEvent},
};

/// How many are looked at in one transaction.
const SOME: usize = 200;
/// How long before it is due a task is due soon, and how often an overdue one is told of.
const DAY: Duration = Duration::days(1);
/// That it is due soon, and three times that it is overdue.
const REMINDERS: i32 = 4;

const WAITING: &str = "
    SELECT * FROM tasks WHERE next_reminder_at <= $1 AND completed_at IS NULL ORDER BY next_reminder_at LIMIT $2";
/// As above, for the transaction alone, and without those that somebody else has in hand.
const HELD: &str = "
    SELECT * FROM tasks WHERE next_reminder_at <= $1 AND completed_at IS NULL ORDER BY next_reminder_at LIMIT $2
    FOR NO KEY UPDATE SKIP LOCKED";

/// What came of a look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reminded {
    /// How many tasks were told of.
    pub told: u64,
    /// Whether more may be waiting.
    pub more: bool,
}

/// Appends `task.due_soon` and `task.overdue` for tasks whose time has come. Any number of processes may do so at once:
/// each passes over what another one has in hand, and tells of a task as it is while nobody else can change it.
pub async fn remind(db: &Db, change: Change<'_>) -> Result<Reminded, StoreError> {
    let now = change.clock.now();
    let mut reader = db.reader().await?;
    // Looked at before, because on SQLite a transaction keeps writers waiting.
    let nothing = waiting(&mut reader, now, 1).await?.is_empty();
    drop(reader);
    if nothing {
        return Ok(Reminded::default());
    }
    let mut tx = db.begin().await?;
    let tasks = waiting(&mut tx, now, SOME).await?;
    let told = tell(&mut tx, change, now, &tasks).await?;
    tx.commit().await?;
    Ok(Reminded { told, more: tasks.len() == SOME })
}

/// The plan by which [`remind`] looks whether there is anything: for benchmarks and tests. Postgres runs the statement.
pub async fn explain_waiting(session: &mut Session, now: DateTime<Utc>) -> Result<Plan, StoreError> {
    Statement::of(WAITING, vec![Bind::Time(now), Bind::Int(1)]).explain(session).await
}

/// When the next reminder of a due date is to be given, if one is left at `now`.
pub(super) fn next_reminder(due_at: Option<DateTime<Utc>>, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
    current(due_at?, now).map(|(_, begins)| begins)
}

/// The first reminder whose day is not over, counted from 0, and when that day begins, which may be later than `now`.
fn current(due_at: DateTime<Utc>, now: DateTime<Utc>) -> Option<(i32, DateTime<Utc>)> {
    let mut reminders = (0..REMINDERS).map(|number| (number, due_at + DAY * (number - 1)));
    reminders.find(|(_, begins)| now < *begins + DAY)
}

/// Open tasks that are to be looked at, those first that wait longest; in a transaction nobody else changes them until it
/// ends, and those that somebody has in hand are left out.
async fn waiting(session: &mut Session, now: DateTime<Utc>, limit: usize) -> Result<Vec<Task>, StoreError> {
    let sql = if matches!(session.0, Conn::PgTx(_)) { HELD } else { WAITING };
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let rows: Vec<TaskRow> = on!(session, |c| sqlx::query_as(sql).bind(now).bind(limit).fetch_all(c).await?);
    rows.into_iter().map(Task::try_from).collect()
}

/// Gives the reminder of each task whose day it is, and notes when the next one is to be given.
async fn tell(
    tx: &mut Tx,
    change: Change<'_>,
    now: DateTime<Utc>,
    tasks: &[Task],
) -> Result<u64, StoreError> {
    const SQL: &str = "UPDATE tasks SET next_reminder_at = $1 WHERE id = $2";
    let mut told = Vec::with_capacity(tasks.len());
    for task in tasks {
        let found = task.due_at.and_then(|due_at| Some((due_at, current(due_at, now)?)));
        let next = match found {
            Some((due_at, (number, begins))) if begins <= now => {
                let fact = reminder(task, due_at, number);
                told.push(NewEvent::new(change, &fact, task.id.0, task.version, seen_by(task))?);
                (number + 1 < REMINDERS).then(|| begins + DAY)
            }
            Some((_, (_, begins))) => Some(begins),
            None => None,
        };
        on!(tx, |c| sqlx::query(SQL).bind(next).bind(task.id.0).execute(c).await.map(drop)?);
    }
    events::append(tx, &told.iter().collect::<Vec<_>>()).await?;
    Ok(told.len() as u64)
}

fn reminder(task: &Task, due_at: DateTime<Utc>, number: i32) -> Event {
    let data = TaskDue { task: task.reference(), due_at, number: number.max(1).into() };
    if number == 0 { Event::TaskDueSoon(data) } else { Event::TaskOverdue(data) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reminder_has_its_day() {
        let due_at = DateTime::UNIX_EPOCH;
        for (hours, number, begins) in [
            (-49, 0, -24),
            (-24, 0, -24),
            (-1, 0, -24),
            (0, 1, 0),
            (23, 1, 0),
            (24, 2, 24),
            (48, 3, 48),
            (71, 3, 48),
        ] {
            let found = current(due_at, due_at + Duration::hours(hours));
            assert_eq!(found, Some((number, due_at + Duration::hours(begins))), "{hours} hours after");
        }
        assert_eq!(current(due_at, due_at + Duration::hours(72)), None);
        assert_eq!(next_reminder(None, due_at), None);
        assert_eq!(next_reminder(Some(due_at), due_at), Some(due_at));
    }
}
