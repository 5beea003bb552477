//! What a broker has: which rows it is to be told of, which it was told of, and which it wants claimed by their ids.
//!
//! `queued_at` says since when the broker has a delivery for its present `due_at`; whatever changes `due_at` empties it.
//! The statements by id ask for the state, not for `finished_at IS NULL`: with that, Postgres could read all that is
//! unfinished by the partial index instead of a few hundred rows by their keys.

use chrono::{DateTime, Utc};
use sqlx::{AssertSqlSafe, FromRow};
use taskpost_common::{
    DeliveryId,
    notification::{Channel, Class},
};
use uuid::Uuid;

use super::{Delivery, Row, in_order, lane};
use crate::{
    Db, Session, StoreError,
    bulk::chunks,
    db::{Raw, on},
};

/// The states of an unfinished delivery.
macro_rules! unfinished {
    () => {
        "state IN ('scheduled', 'queued', 'sending', 'retrying')"
    };
}

/// A delivery that a broker is to be told of.
#[derive(Clone, Debug)]
pub struct Announcement {
    /// Its id.
    pub id: DeliveryId,
    /// How soon it goes.
    pub class: Class,
    /// Its lease; whoever claims it meanwhile raises that.
    pub lease: i64,
    /// How many tries it has had.
    pub attempt: i64,
    /// W3C Trace Context of what it goes back to.
    pub traceparent: Option<String>,
}

/// Deliveries of a channel that are due and that no broker has: up to `limit` of each class, high first.
pub async fn unannounced(
    session: &mut Session,
    channel: Channel,
    now: DateTime<Utc>,
    limit: i64,
) -> Result<Vec<Announcement>, StoreError> {
    macro_rules! due {
        ($class:literal) => {
            lane!(
                "id, class, lease, attempt, traceparent",
                $class,
                "AND due_at <= $2 ORDER BY queued_at, due_at LIMIT $3"
            )
        };
    }
    const SQL: &str = concat!(due!("high"), " UNION ALL ", due!("normal"), " UNION ALL ", due!("low"));
    let rows: Vec<Due> = on!(session, |c| sqlx::query_as(SQL)
        .bind(channel.as_str())
        .bind(now)
        .bind(limit)
        .fetch_all(c)
        .await?);
    let mut due: Vec<Announcement> = rows.into_iter().map(Announcement::from).collect();
    due.sort_by_key(|announcement| announcement.class);
    Ok(due)
}

/// Deliveries of a class that a broker was told of before `before`, that were due before it as well, and that nobody has
/// claimed since: all but the newest `but` of them, and of these the newest `limit`.
pub async fn overdue(
    session: &mut Session,
    (channel, class): (Channel, Class),
    before: DateTime<Utc>,
    but: i64,
    limit: i64,
) -> Result<Vec<Announcement>, StoreError> {
    const SQL: &str = "
        SELECT id, class, lease, attempt, traceparent FROM deliveries
        WHERE channel = $1 AND class = $2 AND finished_at IS NULL AND queued_at <= $3 AND due_at <= $3
        ORDER BY queued_at DESC LIMIT $4 OFFSET $5";
    let rows: Vec<Due> = on!(session, |c| sqlx::query_as(SQL)
        .bind(channel.as_str())
        .bind(class.as_str())
        .bind(before)
        .bind(limit)
        .bind(but)
        .fetch_all(c)
        .await?);
    Ok(rows.into_iter().map(Announcement::from).collect())
}

/// Notes that a broker has these deliveries, each under the lease it had when it was read. One that was claimed or
/// finished meanwhile, or is being changed now, is left as it is. Gives how many were noted.
pub async fn mark_queued(
    db: &Db,
    queued: &[(DeliveryId, i64)],
    now: DateTime<Utc>,
) -> Result<u64, StoreError> {
    const POSTGRES: &str = concat!(
        "UPDATE deliveries SET queued_at = $1, updated_at = $1,
            state = CASE WHEN state <> 'sending' AND due_at <= $1 THEN 'queued' ELSE state END
        WHERE id IN (
            SELECT d.id FROM deliveries AS d JOIN UNNEST($2::uuid[], $3::bigint[]) AS q (id, lease) USING (id, lease)
            WHERE ",
        unfinished!(),
        " FOR UPDATE OF d SKIP LOCKED)"
    );
    if queued.is_empty() {
        return Ok(0);
    }
    let mut noted = 0;
    let mut tx = db.begin().await?;
    match tx.0.raw() {
        Raw::Pg(c) => {
            let query = sqlx::query(POSTGRES)
                .bind(now)
                .bind(queued.iter().map(|(id, _)| id.0).collect::<Vec<_>>())
                .bind(queued.iter().map(|(_, lease)| *lease).collect::<Vec<_>>());
            noted += query.execute(&mut *c).await?.rows_affected();
        }
        Raw::Lite(c) => {
            for chunk in chunks(queued) {
                let sql = AssertSqlSafe(sqlite_mark(chunk.len()));
                let mut query = sqlx::query(sql).bind(now).bind(now).bind(now);
                for (id, lease) in chunk {
                    query = query.bind(id.0).bind(lease);
                }
                noted += query.execute(&mut *c).await?.rows_affected();
            }
        }
    }
    tx.commit().await?;
    Ok(noted)
}

/// As in `settle.rs`: the `+` keeps SQLite from reading all of `deliveries` against an index on the values.
fn sqlite_mark(rows: usize) -> String {
    format!(
        "UPDATE deliveries SET queued_at = ?, updated_at = ?,
             state = CASE WHEN state <> 'sending' AND due_at <= ? THEN 'queued' ELSE state END
         FROM (VALUES {}) AS q
         WHERE deliveries.id = +q.column1 AND deliveries.lease = +q.column2 AND {}",
        vec!["(?,?)"; rows].join(","),
        unfinished!()
    )
}

/// Claims those of these deliveries of a channel that are due and unfinished, in one transaction, as [`super::claim`]
/// does. One that is being changed now is passed over.
pub async fn claim_by_id(
    db: &Db,
    channel: Channel,
    ids: &[DeliveryId],
    now: DateTime<Utc>,
    until: DateTime<Utc>,
) -> Result<Vec<Delivery>, StoreError> {
    macro_rules! set {
        ($until:literal, $now:literal) => {
            concat!(
                "UPDATE deliveries SET state = 'sending', lease = lease + 1, queued_at = NULL, due_at = ",
                $until,
                ", updated_at = ",
                $now,
                " WHERE "
            )
        };
    }
    const POSTGRES: &str = concat!(
        set!("$1", "$2"),
        "id IN (SELECT id FROM deliveries WHERE id = ANY($3) AND channel = $4 AND due_at <= $2 AND ",
        unfinished!(),
        " FOR UPDATE SKIP LOCKED) RETURNING *"
    );
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let mut rows: Vec<Row> = Vec::with_capacity(ids.len());
    let mut tx = db.begin().await?;
    match tx.0.raw() {
        Raw::Pg(c) => {
            let ids: Vec<Uuid> = ids.iter().map(|id| id.0).collect();
            let query = sqlx::query_as(POSTGRES).bind(until).bind(now).bind(ids);
            rows = query.bind(channel.as_str()).fetch_all(&mut *c).await?;
        }
        Raw::Lite(c) => {
            for chunk in chunks(ids) {
                let these = in_list(chunk.len());
                let sql = [
                    set!("?", "?"),
                    &these,
                    " AND channel = ? AND due_at <= ? AND ",
                    unfinished!(),
                    " RETURNING *",
                ];
                let mut query = sqlx::query_as(AssertSqlSafe(sql.concat())).bind(until).bind(now);
                for id in chunk {
                    query = query.bind(id.0);
                }
                rows.append(&mut query.bind(channel.as_str()).bind(now).fetch_all(&mut *c).await?);
            }
        }
    }
    tx.commit().await?;
    Ok(in_order(rows))
}

/// `id IN (?,…)`.
fn in_list(ids: usize) -> String {
    format!("id IN ({})", vec!["?"; ids].join(","))
}

/// When these deliveries of a channel are due, without those that are finished or unknown.
pub async fn due_times(
    db: &Db,
    channel: Channel,
    ids: &[DeliveryId],
) -> Result<Vec<(DeliveryId, DateTime<Utc>)>, StoreError> {
    macro_rules! sql {
        ($which:literal) => {
            concat!(
                "SELECT id, due_at FROM deliveries WHERE ",
                $which,
                " AND channel = $2 AND ",
                unfinished!()
            )
        };
    }
    let rows: Vec<(Uuid, DateTime<Utc>)> = match db {
        Db::Postgres { read, .. } => {
            let ids: Vec<Uuid> = ids.iter().map(|id| id.0).collect();
            sqlx::query_as(sql!("id = ANY($1)")).bind(ids).bind(channel.as_str()).fetch_all(read).await?
        }
        Db::Sqlite { read, .. } => {
            let mut rows = Vec::with_capacity(ids.len());
            for id in ids {
                let query = sqlx::query_as(sql!("id = $1")).bind(id.0).bind(channel.as_str());
                rows.append(&mut query.fetch_all(read).await?);
            }
            rows
        }
    };
    Ok(rows.into_iter().map(|(id, due_at)| (DeliveryId(id), due_at)).collect())
}

/// Up to `limit` unfinished deliveries of a channel that a broker was told of before `before`.
pub async fn queued(
    session: &mut Session,
    channel: Channel,
    before: DateTime<Utc>,
    limit: i64,
) -> Result<Vec<DeliveryId>, StoreError> {
    const SQL: &str = "
        SELECT id FROM deliveries
        WHERE channel = $1 AND class IN ('high', 'normal', 'low') AND finished_at IS NULL AND queued_at <= $2 LIMIT $3";
    let rows: Vec<(Uuid,)> = on!(session, |c| sqlx::query_as(SQL)
        .bind(channel.as_str())
        .bind(before)
        .bind(limit)
        .fetch_all(c)
        .await?);
    Ok(rows.into_iter().map(|(id,)| DeliveryId(id)).collect())
}

/// Notes that no broker has these deliveries, so that their `due_at` alone decides. One that is being changed now is left
/// as it is. Gives how many were noted.
pub async fn unqueue(db: &Db, ids: &[DeliveryId]) -> Result<u64, StoreError> {
    const SQLITE: &str = concat!("UPDATE deliveries SET queued_at = NULL WHERE id = $1 AND ", unfinished!());
    const POSTGRES: &str = concat!(
        "UPDATE deliveries SET queued_at = NULL WHERE id IN (SELECT id FROM deliveries WHERE id = ANY($1) AND ",
        unfinished!(),
        " FOR UPDATE SKIP LOCKED)"
    );
    let mut noted = 0;
    let mut tx = db.begin().await?;
    match tx.0.raw() {
        Raw::Pg(c) => {
            let ids: Vec<Uuid> = ids.iter().map(|id| id.0).collect();
            noted += sqlx::query(POSTGRES).bind(ids).execute(&mut *c).await?.rows_affected();
        }
        Raw::Lite(c) => {
            for id in ids {
                noted += sqlx::query(SQLITE).bind(id.0).execute(&mut *c).await?.rows_affected();
            }
        }
    }
    tx.commit().await?;
    Ok(noted)
}

#[derive(FromRow)]
struct Due {
    #[sqlx(try_from = "Uuid")]
    id: DeliveryId,
    #[sqlx(try_from = "String")]
    class: Class,
    lease: i64,
    attempt: i64,
    traceparent: Option<String>,
}

impl From<Due> for Announcement {
    fn from(due: Due) -> Self {
        let Due { id, class, lease, attempt, traceparent } = due;
        Self { id, class, lease, attempt, traceparent }
    }
}
