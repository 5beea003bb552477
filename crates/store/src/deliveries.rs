//! Deliveries: the rows are the truth, and `due_at` decides.

use chrono::{DateTime, Utc};
use sqlx::FromRow;
use taskpost_common::{
    AttemptId, DeliveryId, EndpointId, EventId, NotificationId, UserId,
    delivery::DeliveryState,
    notification::{Channel, Class},
};
use uuid::Uuid;

use crate::{Db, Session, StoreError, Tx, bulk::insert_many, db::on};

mod queued;
mod settle;

pub use queued::{Announcement, claim_by_id, due_times, mark_queued, overdue, queued, unannounced, unqueue};
pub use settle::{Attempt, Settlement, settle, settle_many};

/// A delivery to be made.
#[derive(Clone, Debug)]
pub struct NewDelivery {
    /// Its id, the receiver's key for removing duplicates.
    pub id: DeliveryId,
    /// How it goes.
    pub channel: Channel,
    /// How soon it goes.
    pub class: Class,
    /// The event it tells of.
    pub event_id: EventId,
    /// Who gets it, of an e-mail.
    pub user_id: Option<UserId>,
    /// What gets it, of a webhook.
    pub endpoint_id: Option<EndpointId>,
    /// The inbox item it belongs to.
    pub notification_id: Option<NotificationId>,
    /// What it carries: a JSON object.
    pub payload: String,
    /// W3C Trace Context of what it goes back to.
    pub traceparent: Option<String>,
    /// When it may go.
    pub due_at: DateTime<Utc>,
}

/// Stores deliveries; one that the event already gave the same user or endpoint is left as it is.
pub async fn insert(tx: &mut Tx, deliveries: &[NewDelivery], now: DateTime<Utc>) -> Result<u64, StoreError> {
    Ok(insert_many!(tx, "deliveries", deliveries, "ON CONFLICT DO NOTHING", |d| {
        id: uuid = d.id.0,
        channel: text = d.channel.as_str(),
        class: text = d.class.as_str(),
        state: text = DeliveryState::Scheduled.as_str(),
        event_id: uuid = d.event_id.0,
        user_id: uuid = d.user_id.map(|id| id.0),
        endpoint_id: uuid = d.endpoint_id.map(|id| id.0),
        notification_id: uuid = d.notification_id.map(|id| id.0),
        payload: text = d.payload.as_str(),
        traceparent: text = d.traceparent.as_deref(),
        attempt: bigint = 0_i64,
        lease: bigint = 0_i64,
        due_at: timestamptz = d.due_at,
        created_at: timestamptz = now,
        updated_at: timestamptz = now,
    }))
}

/// A delivery as it stands.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// Its id.
    pub id: DeliveryId,
    /// How it goes.
    pub channel: Channel,
    /// How soon it goes.
    pub class: Class,
    /// Where it stands.
    pub state: DeliveryState,
    /// The event it tells of.
    pub event_id: EventId,
    /// Who gets it.
    pub user_id: Option<UserId>,
    /// What gets it.
    pub endpoint_id: Option<EndpointId>,
    /// What it carries.
    pub payload: String,
    /// W3C Trace Context of what it goes back to.
    pub traceparent: Option<String>,
    /// How many tries it has had.
    pub attempt: i64,
    /// Counts the leases; an outcome under an older one is refused.
    pub lease: i64,
    /// When it is next due.
    pub due_at: DateTime<Utc>,
    /// When it was made.
    pub created_at: DateTime<Utc>,
}

/// One lane of [`claim`], [`due`], [`agenda`] and [`unannounced`]: the unfinished deliveries of channel `$1` and a class
/// that no broker has, by when they are due. `ORDER BY queued_at, due_at` is the order of the index.
macro_rules! lane {
    ($what:literal, $class:literal, $($and:tt)+) => {
        concat!(
            "SELECT * FROM (SELECT ", $what, " FROM deliveries WHERE channel = $1 AND class = '", $class,
            "' AND finished_at IS NULL AND queued_at IS NULL ", $($and)+, ") AS ", $class
        )
    };
}
use lane;

/// Claims up to so many due deliveries of each class that no broker has, in one transaction: each falls due again at
/// `until` unless its outcome is recorded before. No two callers get the same one under the same lease.
pub async fn claim(
    db: &Db,
    channel: Channel,
    places: &[(Class, usize)],
    now: DateTime<Utc>,
    until: DateTime<Utc>,
) -> Result<Vec<Delivery>, StoreError> {
    macro_rules! sql {
        ($skip:literal) => {
            concat!(
                "UPDATE deliveries SET state = 'sending', lease = lease + 1, due_at = $3, updated_at = $2 WHERE id IN (",
                lane!("id", "high", concat!("AND due_at <= $2 ORDER BY queued_at, due_at LIMIT $4", $skip)), " UNION ALL ",
                lane!("id", "normal", concat!("AND due_at <= $2 ORDER BY queued_at, due_at LIMIT $5", $skip)), " UNION ALL ",
                lane!("id", "low", concat!("AND due_at <= $2 ORDER BY queued_at, due_at LIMIT $6", $skip)),
                ") RETURNING *"
            )
        };
    }
    let limit = |class| {
        let places: usize = places.iter().filter(|(of, _)| *of == class).map(|(_, places)| *places).sum();
        i64::try_from(places).unwrap_or(i64::MAX)
    };
    let mut tx = db.begin().await?;
    let sql = if tx.is_postgres() { sql!(" FOR UPDATE SKIP LOCKED") } else { sql!("") };
    let rows: Vec<Row> = on!(tx, |c| sqlx::query_as(sql)
        .bind(channel.as_str())
        .bind(now)
        .bind(until)
        .bind(limit(Class::High))
        .bind(limit(Class::Normal))
        .bind(limit(Class::Low))
        .fetch_all(c)
        .await?);
    tx.commit().await?;
    Ok(in_order(rows))
}

/// Ends every lease, so that what was being sent falls due at once; gives how many there were. For whoever knows that
/// nobody is sending: the one process on its SQLite file, as it starts.
pub async fn end_leases(db: &Db, now: DateTime<Utc>) -> Result<u64, StoreError> {
    const SQL: &str = "UPDATE deliveries SET due_at = $1, updated_at = $1 WHERE finished_at IS NULL AND state = 'sending' AND due_at > $1";
    let mut tx = db.begin().await?;
    let ended = on!(tx, |c| sqlx::query(SQL).bind(now).execute(c).await?.rows_affected());
    tx.commit().await?;
    Ok(ended)
}

/// Claimed deliveries by class, the oldest first.
fn in_order(rows: Vec<Row>) -> Vec<Delivery> {
    let mut claimed: Vec<Delivery> = rows.into_iter().map(Delivery::from).collect();
    claimed.sort_unstable_by_key(|delivery| (delivery.class, delivery.id));
    claimed
}

/// How many deliveries of each class of a channel are due and with no broker, up to `most` of each; classes without any are left out.
pub async fn due(
    session: &mut Session,
    channel: Channel,
    now: DateTime<Utc>,
    most: i64,
) -> Result<Vec<(Class, i64)>, StoreError> {
    const SQL: &str = concat!(
        "SELECT class, count(*) FROM (",
        lane!("class", "high", "AND due_at <= $2 LIMIT $3"),
        " UNION ALL ",
        lane!("class", "normal", "AND due_at <= $2 LIMIT $3"),
        " UNION ALL ",
        lane!("class", "low", "AND due_at <= $2 LIMIT $3"),
        ") AS due GROUP BY class"
    );
    let rows: Vec<(String, i64)> = on!(session, |c| sqlx::query_as(SQL)
        .bind(channel.as_str())
        .bind(now)
        .bind(most)
        .fetch_all(c)
        .await?);
    rows.into_iter()
        .map(|(class, count)| {
            class.parse().map(|class| (class, count)).map_err(|_| StoreError::Corrupt(class))
        })
        .collect()
}

/// What a channel has to do, apart from what a broker has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Agenda {
    /// Whether anything is due.
    pub due: bool,
    /// When the first of what is not due yet will be.
    pub next: Option<DateTime<Utc>>,
}

/// What a channel has to do now and next, apart from what a broker has.
pub async fn agenda(
    session: &mut Session,
    channel: Channel,
    now: DateTime<Utc>,
) -> Result<Agenda, StoreError> {
    const SQL: &str = concat!(
        lane!("due_at", "high", "AND due_at <= $2 LIMIT 1"),
        " UNION ALL ",
        lane!("due_at", "high", "AND due_at > $2 ORDER BY queued_at, due_at LIMIT 1"),
        " UNION ALL ",
        lane!("due_at", "normal", "AND due_at <= $2 LIMIT 1"),
        " UNION ALL ",
        lane!("due_at", "normal", "AND due_at > $2 ORDER BY queued_at, due_at LIMIT 1"),
        " UNION ALL ",
        lane!("due_at", "low", "AND due_at <= $2 LIMIT 1"),
        " UNION ALL ",
        lane!("due_at", "low", "AND due_at > $2 ORDER BY queued_at, due_at LIMIT 1")
    );
    let rows: Vec<(DateTime<Utc>,)> =
        on!(session, |c| sqlx::query_as(SQL).bind(channel.as_str()).bind(now).fetch_all(c).await?);
    let times = || rows.iter().map(|(at,)| *at);
    Ok(Agenda { due: times().any(|at| at <= now), next: times().filter(|at| *at > now).min() })
}

/// Puts a dead delivery back, due now, with all its tries before it.
pub async fn revive(
    tx: &mut Tx,
    id: DeliveryId,
    payload: Option<&str>,
    now: DateTime<Utc>,
) -> Result<bool, StoreError> {
    const SQL: &str = "
        UPDATE deliveries SET state = 'scheduled', attempt = 0, due_at = $1, queued_at = NULL, updated_at = $1,
            finished_at = NULL, payload = COALESCE($2, payload)
        WHERE id = $3 AND state = 'dead'";
    let rows =
        on!(tx, |c| sqlx::query(SQL).bind(now).bind(payload).bind(id.0).execute(c).await?.rows_affected());
    Ok(rows == 1)
}

/// A stored try, for the owner of the endpoint.
#[derive(Clone, Debug, FromRow)]
pub struct AttemptRow {
    /// Its id.
    pub id: Uuid,
    /// The delivery.
    pub delivery_id: Uuid,
    /// Its number, from 1.
    pub number: i64,
    /// How it ended.
    pub outcome: String,
    /// The receiver's HTTP status.
    pub status_code: Option<i64>,
    /// What failed.
    pub error: Option<String>,
    /// The first of what the receiver said.
    pub excerpt: Option<String>,
    /// When it began.
    pub started_at: DateTime<Utc>,
    /// How long it took.
    pub duration_ms: i64,
}

/// The tries of a delivery, in their order.
pub async fn attempts(session: &mut Session, delivery: DeliveryId) -> Result<Vec<AttemptRow>, StoreError> {
    const SQL: &str = "SELECT * FROM attempts WHERE delivery_id = $1 ORDER BY id LIMIT 500";
    Ok(on!(session, |c| sqlx::query_as(SQL).bind(delivery.0).fetch_all(c).await?))
}

/// The newest tries at an endpoint, older than `before`.
pub async fn endpoint_attempts(
    session: &mut Session,
    endpoint: EndpointId,
    before: Option<AttemptId>,
    limit: usize,
) -> Result<Vec<AttemptRow>, StoreError> {
    const SQL: &str = "
        SELECT attempts.* FROM attempts JOIN deliveries ON deliveries.id = attempts.delivery_id
        WHERE deliveries.endpoint_id = $1 AND attempts.id < $2 ORDER BY attempts.id DESC LIMIT $3";
    let before = before.map_or(Uuid::max(), |id| id.0);
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    Ok(on!(session, |c| sqlx::query_as(SQL).bind(endpoint.0).bind(before).bind(limit).fetch_all(c).await?))
}

/// How many deliveries of each channel are unfinished, up to a hundred thousand.
pub async fn unfinished(session: &mut Session) -> Result<Vec<(String, i64)>, StoreError> {
    const SQL: &str = "
        SELECT channel, count(*) FROM (SELECT channel FROM deliveries WHERE finished_at IS NULL LIMIT 100000) AS open
        GROUP BY channel";
    Ok(on!(session, |c| sqlx::query_as(SQL).fetch_all(c).await?))
}

#[derive(FromRow)]
struct Row {
    #[sqlx(try_from = "Uuid")]
    id: DeliveryId,
    #[sqlx(try_from = "String")]
    channel: Channel,
    #[sqlx(try_from = "String")]
    class: Class,
    #[sqlx(try_from = "String")]
    state: DeliveryState,
    #[sqlx(try_from = "Uuid")]
    event_id: EventId,
    user_id: Option<Uuid>,
    endpoint_id: Option<Uuid>,
    payload: String,
    traceparent: Option<String>,
    attempt: i64,
    lease: i64,
    due_at: DateTime<Utc>,
    created_at: DateTime<Utc>,
}

impl From<Row> for Delivery {
    fn from(row: Row) -> Self {
        Self {
            id: row.id,
            channel: row.channel,
            class: row.class,
            state: row.state,
            event_id: row.event_id,
            user_id: row.user_id.map(UserId),
            endpoint_id: row.endpoint_id.map(EndpointId),
            payload: row.payload,
            traceparent: row.traceparent,
            attempt: row.attempt,
            lease: row.lease,
            due_at: row.due_at,
            created_at: row.created_at,
        }
    }
}
