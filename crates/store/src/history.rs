//! What happened to a task after it was made: kept with it, however long the log keeps its events.

use chrono::{DateTime, Utc};
use sqlx::FromRow;
use taskpost_common::{EventId, TaskId, UserId};
use uuid::Uuid;

use crate::{Session, StoreError, Tx, bulk::insert_many, db::on, events::NewEvent};

/// Something that happened to a task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HistoryItem {
    /// Its event.
    pub event_id: EventId,
    /// The event's type.
    pub type_name: String,
    /// Who did it; absent when the system did.
    pub actor_id: Option<UserId>,
    /// The version of the task that it made.
    pub version: i64,
    /// When.
    pub at: DateTime<Utc>,
    /// The event's data as JSON text.
    pub data: String,
}

/// Keeps events of tasks, each under its aggregate.
pub(crate) async fn append(tx: &mut Tx, events: &[&NewEvent]) -> Result<(), StoreError> {
    insert_many!(tx, "task_history", events, "", |e| {
        task_id: uuid = e.aggregate_id,
        event_id: uuid = e.id.0,
        type: text = e.type_name,
        actor_id: uuid = e.cause.actor_id.map(|id| id.0),
        version: bigint = e.aggregate_version,
        at: timestamptz = e.at,
        data: text = e.data.as_str(),
    });
    Ok(())
}

/// Up to `limit` items of a task after the one of an event, oldest first.
pub async fn list(
    session: &mut Session,
    task: TaskId,
    after: Option<EventId>,
    limit: usize,
) -> Result<Vec<HistoryItem>, StoreError> {
    const SQL: &str =
        "SELECT * FROM task_history WHERE task_id = $1 AND event_id > $2 ORDER BY event_id LIMIT $3";
    let after = after.map_or(Uuid::nil(), |id| id.0);
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let rows: Vec<Row> =
        on!(session, |c| sqlx::query_as(SQL).bind(task.0).bind(after).bind(limit).fetch_all(c).await?);
    Ok(rows.into_iter().map(HistoryItem::from).collect())
}

#[derive(FromRow)]
struct Row {
    event_id: Uuid,
    r#type: String,
    actor_id: Option<Uuid>,
    version: i64,
    at: DateTime<Utc>,
    data: String,
}

impl From<Row> for HistoryItem {
    fn from(row: Row) -> Self {
        Self {
            event_id: EventId(row.event_id),
            type_name: row.r#type,
            actor_id: row.actor_id.map(UserId),
            version: row.version,
            at: row.at,
            data: row.data,
        }
    }
}
