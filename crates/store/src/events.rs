//! The event store: append, move, read by position.
//!
//! Step 2 of 7 ends here: on SQLite the writer gives out positions itself; on Postgres events go to the outbox.
//! Next: `consumers/src/sequencer.rs`.

use std::ops::RangeInclusive;

use chrono::{DateTime, Utc};
use sqlx::FromRow;
use taskpost_common::{
    Cause, Envelope, Event, EventId, Position, ProjectId, UserId,
    crash::{self, CrashPoint},
};
use uuid::Uuid;

use crate::{
    Change, Db, Session, StoreError, Tx, Viewer,
    bulk::insert_many,
    db::on,
    dynamic::{Bind, Statement},
};

/// Positions in one partition of `events` on Postgres.
pub(crate) const PARTITION: i64 = 4_000_000;
/// How many positions one page of [`visible_after`] looks at, however few of them the viewer may see.
const WINDOW: i64 = 10_000;

/// An event that is ready to be appended.
#[derive(Clone, Debug)]
pub struct NewEvent {
    /// Its id.
    pub id: EventId,
    pub(crate) type_name: &'static str,
    pub(crate) aggregate_id: Uuid,
    pub(crate) aggregate_version: i64,
    pub(crate) seen_by: SeenBy,
    pub(crate) cause: Cause,
    pub(crate) at: DateTime<Utc>,
    pub(crate) data: String,
}

/// Who sees an event, as of when it is written.
#[derive(Clone, Copy, Debug, Default)]
pub struct SeenBy {
    /// Whoever may read this project, and of those below nobody else.
    pub project_id: Option<ProjectId>,
    /// The reporter or account holder.
    pub owner_id: Option<UserId>,
    /// The assignee, or the member that an event about a project is about, who sees it though they are out.
    pub assignee_id: Option<UserId>,
}

impl NewEvent {
    /// An event about `aggregate_id` that makes its `version`.
    pub fn new(
        change: Change<'_>,
        event: &Event,
        aggregate_id: Uuid,
        version: i64,
        seen_by: SeenBy,
    ) -> Result<Self, StoreError> {
        Ok(Self {
            id: change.clock.id(),
            type_name: event.type_name(),
            aggregate_id,
            aggregate_version: version,
            seen_by,
            cause: change.cause.clone(),
            at: change.clock.now(),
            data: event.data()?,
        })
    }
}

/// Runs one of the macros of [`crate::bulk`] over events for the outbox.
macro_rules! outbox_rows {
    ($run:ident!($tx:expr, $events:expr, $suffix:literal)) => {
        $run!($tx, "outbox", $events, $suffix, |e| {
            id: uuid = e.id.0,
            type: text = e.type_name,
            aggregate_id: uuid = e.aggregate_id,
            aggregate_version: bigint = e.aggregate_version,
            actor_id: uuid = e.cause.actor_id.map(|id| id.0),
            project_id: uuid = e.seen_by.project_id.map(|id| id.0),
            owner_id: uuid = e.seen_by.owner_id.map(|id| id.0),
            assignee_id: uuid = e.seen_by.assignee_id.map(|id| id.0),
            correlation_id: uuid = e.cause.correlation_id,
            causation_id: uuid = e.cause.causation_id.map(|id| id.0),
            traceparent: text = e.cause.traceparent.as_deref(),
            at: timestamptz = e.at,
            data: text = e.data.as_str(),
        })
    };
}
pub(crate) use outbox_rows;

/// Appends events in their order. They become visible with the transaction, and get their positions then or later.
pub async fn append(tx: &mut Tx, events: &[&NewEvent]) -> Result<(), StoreError> {
    const SQL: &str = "UPDATE log_head SET position = position + $1 RETURNING position";
    if events.is_empty() {
        return Ok(());
    }
    if tx.is_postgres() {
        outbox_rows!(insert_many!(tx, events, ""));
        return Ok(());
    }
    let count = i64::try_from(events.len()).unwrap_or(i64::MAX);
    let (head,): (i64,) = on!(tx, |c| sqlx::query_as(SQL).bind(count).fetch_one(c).await?);
    let placed: Vec<(i64, &NewEvent)> = (head - count + 1..).zip(events.iter().copied()).collect();
    let placed = placed.as_slice();
    insert_many!(tx, "events", placed, "", |e| {
        position: bigint = e.0,
        id: uuid = e.1.id.0,
        type: text = e.1.type_name,
        aggregate_id: uuid = e.1.aggregate_id,
        aggregate_version: bigint = e.1.aggregate_version,
        actor_id: uuid = e.1.cause.actor_id.map(|id| id.0),
        project_id: uuid = e.1.seen_by.project_id.map(|id| id.0),
        owner_id: uuid = e.1.seen_by.owner_id.map(|id| id.0),
        assignee_id: uuid = e.1.seen_by.assignee_id.map(|id| id.0),
        correlation_id: uuid = e.1.cause.correlation_id,
        causation_id: uuid = e.1.cause.causation_id.map(|id| id.0),
        traceparent: text = e.1.cause.traceparent.as_deref(),
        at: timestamptz = e.1.at,
        data: text = e.1.data.as_str(),
    });
    Ok(())
}

/// Moves up to `limit` of the lowest outbox rows into `events` and gives them the next positions, in one statement.
/// Returns how many it moved. The lock on `log_head` is the fence: any number of callers may run at once. On SQLite,
/// which has no outbox, it moves nothing.
pub async fn sequence(db: &Db, limit: i64) -> Result<u64, StoreError> {
    // The lock comes first, so that of two movers the second waits before it deletes, and finds the rows gone. The rows
    // are named by an array, which the index is asked for: joined with a subquery, the whole outbox would be read.
    const SQL: &str = "
        WITH fence AS MATERIALIZED (SELECT position FROM log_head WHERE id = 1 FOR UPDATE),
        gone AS (
            DELETE FROM outbox WHERE seq = ANY (ARRAY(
                SELECT seq FROM outbox WHERE (SELECT position FROM fence) IS NOT NULL ORDER BY seq LIMIT $1))
            RETURNING *),
        head AS (
            UPDATE log_head SET position = position + (SELECT count(*) FROM gone)
            WHERE id = 1 AND EXISTS (SELECT 1 FROM gone) RETURNING position)
        INSERT INTO events (position, id, type, aggregate_id, aggregate_version, actor_id, project_id, owner_id,
                            assignee_id, correlation_id, causation_id, traceparent, at, data)
        SELECT head.position - count(*) OVER () + row_number() OVER (ORDER BY seq), id, type, aggregate_id,
               aggregate_version, actor_id, project_id, owner_id, assignee_id, correlation_id, causation_id,
               traceparent, at, data
        FROM gone, head";
    match db {
        Db::Postgres { read, .. } => {
            let moving = sqlx::query(SQL).bind(limit).execute(read);
            Ok(crash::within(CrashPoint::SequencerMoved, moving).await?.rows_affected())
        }
        Db::Sqlite { .. } => Ok(0),
    }
}

/// Gives back the room of the rows that [`sequence`] has moved, which it would step over each time. Does nothing on
/// SQLite, and where another one does it already.
pub async fn sweep_outbox(db: &Db) -> Result<(), StoreError> {
    if let Db::Postgres { read, .. } = db {
        sqlx::query("VACUUM (SKIP_LOCKED, TRUNCATE FALSE) outbox").execute(read).await?;
    }
    Ok(())
}

/// Makes the partition of `events` that the head is in, and the one after it. Does nothing on SQLite.
pub async fn ensure_partitions(db: &Db) -> Result<(), StoreError> {
    if !db.has_outbox() {
        return Ok(());
    }
    let current = head(&mut db.reader().await?).await?.0 / PARTITION;
    make_partitions(db, current..=current + 1).await
}

/// Makes the partitions of `events` of these numbers, as far as they are missing. On Postgres only.
pub(crate) async fn make_partitions(db: &Db, numbers: RangeInclusive<i64>) -> Result<(), StoreError> {
    // An arbitrary number that names "making partitions".
    const LOCK: &str = "SELECT pg_advisory_xact_lock(7041002)";
    for number in numbers {
        if has_partition(&mut db.reader().await?, number).await? {
            continue;
        }
        let (from, to) = (number * PARTITION, (number + 1) * PARTITION);
        // Made apart and attached, because attaching locks out neither readers nor the sequencer.
        let make =
            format!("CREATE TABLE events_p{number} (LIKE events INCLUDING DEFAULTS INCLUDING CONSTRAINTS)");
        let attach = format!(
            "ALTER TABLE events ATTACH PARTITION events_p{number} FOR VALUES FROM ({from}) TO ({to})"
        );
        let mut tx = db.begin().await?;
        // Of two processes the second waits, and then finds it made.
        on!(tx, |c| sqlx::query(LOCK).execute(c).await.map(drop)?);
        if !has_partition(&mut tx, number).await? {
            on!(tx, |c| sqlx::query(sqlx::AssertSqlSafe(make)).execute(c).await.map(drop)?);
            on!(tx, |c| sqlx::query(sqlx::AssertSqlSafe(attach)).execute(c).await.map(drop)?);
        }
        tx.commit().await?;
    }
    Ok(())
}

async fn has_partition(session: &mut Session, number: i64) -> Result<bool, StoreError> {
    const SQL: &str = "SELECT to_regclass($1) IS NOT NULL";
    let (exists,): (bool,) =
        on!(session, |c| sqlx::query_as(SQL).bind(format!("events_p{number}")).fetch_one(c).await?);
    Ok(exists)
}

/// The last position given out.
pub async fn head(session: &mut Session) -> Result<Position, StoreError> {
    const SQL: &str = "SELECT position FROM log_head WHERE id = 1";
    let (position,): (i64,) = on!(session, |c| sqlx::query_as(SQL).fetch_one(c).await?);
    Ok(Position(position))
}

/// How many events wait in the outbox, and since when the oldest does.
pub async fn outbox_backlog(session: &mut Session) -> Result<(i64, Option<DateTime<Utc>>), StoreError> {
    const SQL: &str = "SELECT count(*), (SELECT at FROM outbox ORDER BY seq LIMIT 1) FROM (SELECT 1 FROM outbox LIMIT 100000) AS waiting";
    if !session.is_postgres() {
        return Ok((0, None));
    }
    Ok(on!(session, |c| sqlx::query_as(SQL).fetch_one(c).await?))
}

/// Events after a position, in order, gap-free.
pub async fn after(
    session: &mut Session,
    position: Position,
    limit: i64,
) -> Result<Vec<Envelope>, StoreError> {
    const SQL: &str = "SELECT * FROM events WHERE position > $1 ORDER BY position LIMIT $2";
    let rows: Vec<EventRow> =
        on!(session, |c| sqlx::query_as(SQL).bind(position.0).bind(limit).fetch_all(c).await?);
    Ok(rows.into_iter().map(Envelope::from).collect())
}

/// One event, if the viewer may see it.
pub async fn visible(
    session: &mut Session,
    viewer: Viewer,
    id: EventId,
) -> Result<Option<Envelope>, StoreError> {
    let mut statement = Statement::new("SELECT * FROM events WHERE id = ");
    statement.bind(Bind::Uuid(id.0));
    narrow(&mut statement, viewer);
    let rows: Vec<EventRow> = statement.fetch_all(session).await?;
    Ok(rows.into_iter().next().map(Envelope::from))
}

/// Which events are wanted.
#[derive(Clone, Debug, Default)]
pub struct EventFilter {
    /// Exact types, or families as `task.*`; empty is all.
    pub types: Vec<String>,
    /// Of this project.
    pub project_id: Option<ProjectId>,
}

/// Events after `position` that the viewer may see, and the position to go on from, which moves over hidden ones.
pub async fn visible_after(
    session: &mut Session,
    viewer: Viewer,
    position: Position,
    filter: &EventFilter,
    limit: usize,
) -> Result<(Vec<Envelope>, Position), StoreError> {
    let head = head(session).await?;
    let end = Position(position.0.saturating_add(WINDOW).min(head.0).max(position.0));
    let mut statement = Statement::new("SELECT * FROM events WHERE position > ");
    statement.bind(Bind::Int(position.0)).push(" AND position <= ").bind(Bind::Int(end.0));
    narrow(&mut statement, viewer);
    if let Some(project) = filter.project_id {
        statement.push(" AND project_id = ").bind(Bind::Uuid(project.0));
    }
    let (families, exact): (Vec<_>, Vec<_>) = filter.types.iter().partition(|name| name.ends_with(".*"));
    if !filter.types.is_empty() {
        statement.push(" AND (type IN ").list(exact.into_iter().cloned().map(Bind::Text));
        for family in families {
            let prefix = family.trim_end_matches('*').to_owned();
            let length = i64::try_from(prefix.len()).unwrap_or_default();
            statement
                .push(" OR substr(type, 1, CAST(")
                .bind(Bind::Int(length))
                .push(" AS INTEGER)) = ")
                .bind(Bind::Text(prefix));
        }
        statement.push(")");
    }
    statement.push(" ORDER BY position LIMIT ").bind(Bind::Int(i64::try_from(limit).unwrap_or(i64::MAX)));
    let rows: Vec<EventRow> = statement.fetch_all(session).await?;
    let next = match rows.last() {
        Some(last) if rows.len() == limit => Position(last.position),
        _ => end,
    };
    Ok((rows.into_iter().map(Envelope::from).collect(), next))
}

/// Adds what the viewer may see: everything for an admin, else what they did, outside of projects what is theirs,
/// all of projects that they may read now, and that they came into a project or went, though they are out of it.
fn narrow(statement: &mut Statement, viewer: Viewer) {
    if viewer.admin {
        return;
    }
    let user = Bind::Uuid(viewer.user_id.0);
    statement
        .push(" AND (actor_id = ")
        .bind(user.clone())
        .push(" OR (project_id IS NULL AND (owner_id = ")
        .bind(user.clone())
        .push(" OR assignee_id = ")
        .bind(user.clone())
        .push(")) OR project_id IN (SELECT project_id FROM members WHERE user_id = ")
        .bind(user.clone())
        .push(") OR project_id IN (SELECT id FROM projects WHERE visibility = 'internal')")
        .push(" OR (assignee_id = ")
        .bind(user)
        .push(" AND type IN ('project.member_added', 'project.member_removed',")
        .push(" 'project.member_role_changed')))");
}

#[derive(FromRow)]
struct EventRow {
    position: i64,
    id: Uuid,
    r#type: String,
    aggregate_id: Uuid,
    aggregate_version: i64,
    actor_id: Option<Uuid>,
    project_id: Option<Uuid>,
    owner_id: Option<Uuid>,
    assignee_id: Option<Uuid>,
    correlation_id: Uuid,
    causation_id: Option<Uuid>,
    traceparent: Option<String>,
    at: DateTime<Utc>,
    data: String,
}

impl From<EventRow> for Envelope {
    fn from(row: EventRow) -> Self {
        Self {
            position: Position(row.position),
            id: EventId(row.id),
            type_name: row.r#type,
            aggregate_id: row.aggregate_id,
            aggregate_version: row.aggregate_version,
            actor_id: row.actor_id.map(UserId),
            project_id: row.project_id.map(ProjectId),
            owner_id: row.owner_id.map(UserId),
            assignee_id: row.assignee_id.map(UserId),
            correlation_id: row.correlation_id,
            causation_id: row.causation_id.map(EventId),
            traceparent: row.traceparent,
            at: row.at,
            data: row.data,
        }
    }
}
