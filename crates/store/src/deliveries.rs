//! Deliveries: the rows are the truth, and `due_at` decides.

use chrono::{DateTime, Utc};
use sqlx::FromRow;
use taskpost_common::{
    AttemptId, DeadLetterId, DeliveryId, EndpointId, Event, EventId, NotificationId, UserId,
    delivery::{AttemptOutcome, DeliveryState},
    event::DeliveryExhausted,
    notification::{Channel, Class},
};
use uuid::Uuid;

use crate::{
    Change, Db, Session, StoreError, Tx,
    bulk::insert_many,
    db::on,
    dead_letters::{self, NewLetter, Source},
    events::{self, NewEvent, SeenBy},
};

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
    /// How many tries it has had.
    pub attempt: i64,
    /// Counts the leases; an outcome under an older one is refused.
    pub lease: i64,
    /// When it is next due.
    pub due_at: DateTime<Utc>,
    /// When it was made.
    pub created_at: DateTime<Utc>,
}

/// Claims up to `limit` due deliveries of a lane: each falls due again at `until` unless its outcome is recorded
/// before. No two callers get the same one under the same lease.
pub async fn claim(
    db: &Db,
    channel: Channel,
    class: Class,
    limit: usize,
    now: DateTime<Utc>,
    until: DateTime<Utc>,
) -> Result<Vec<Delivery>, StoreError> {
    macro_rules! sql {
        ($skip:literal) => {
            concat!(
                "UPDATE deliveries SET state = 'sending', lease = lease + 1, due_at = $1, updated_at = $2
                 WHERE id IN (SELECT id FROM deliveries
                     WHERE channel = $3 AND class = $4 AND due_at <= $2 AND finished_at IS NULL
                     ORDER BY due_at LIMIT $5 ",
                $skip,
                ") RETURNING *"
            )
        };
    }
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let mut tx = db.begin().await?;
    let sql = if tx.is_postgres() { sql!("FOR UPDATE SKIP LOCKED") } else { sql!("") };
    let rows: Vec<Row> = on!(tx, |c| sqlx::query_as(sql)
        .bind(until)
        .bind(now)
        .bind(channel.as_str())
        .bind(class.as_str())
        .bind(limit)
        .fetch_all(c)
        .await?);
    tx.commit().await?;
    let mut claimed: Vec<Delivery> = rows.into_iter().map(Delivery::from).collect();
    claimed.sort_unstable_by_key(|delivery| delivery.id);
    Ok(claimed)
}

/// How many deliveries of each class of a channel are due, up to `most` of each.
pub async fn due(session: &mut Session, channel: Channel, now: DateTime<Utc>, most: i64) -> Result<Vec<(Class, i64)>, StoreError> {
    const SQL: &str = "
        SELECT count(*) FROM (SELECT 1 FROM deliveries
            WHERE channel = $1 AND class = $2 AND due_at <= $3 AND finished_at IS NULL LIMIT $4) AS due";
    let mut counts = Vec::with_capacity(Class::ALL.len());
    for &class in Class::ALL {
        let (count,): (i64,) = on!(session, |c| sqlx::query_as(SQL)
            .bind(channel.as_str())
            .bind(class.as_str())
            .bind(now)
            .bind(most)
            .fetch_one(c)
            .await?);
        counts.push((class, count));
    }
    Ok(counts)
}

/// When the next unfinished delivery of a channel is due.
pub async fn next_due(session: &mut Session, channel: Channel) -> Result<Option<DateTime<Utc>>, StoreError> {
    const SQL: &str = "
        SELECT due_at FROM deliveries WHERE channel = $1 AND class = $2 AND finished_at IS NULL ORDER BY due_at LIMIT 1";
    let mut next: Option<DateTime<Utc>> = None;
    for class in Class::ALL {
        let row: Option<(DateTime<Utc>,)> = on!(session, |c| sqlx::query_as(SQL)
            .bind(channel.as_str())
            .bind(class.as_str())
            .fetch_optional(c)
            .await?);
        next = next.into_iter().chain(row.map(|(due,)| due)).min();
    }
    Ok(next)
}

/// One try.
#[derive(Clone, Debug)]
pub struct Attempt {
    /// How it ended.
    pub outcome: AttemptOutcome,
    /// The receiver's HTTP status.
    pub status_code: Option<u16>,
    /// What failed, in words.
    pub error: Option<String>,
    /// The first of what the receiver said, at most 1 KiB.
    pub excerpt: Option<String>,
    /// When it began.
    pub started_at: DateTime<Utc>,
    /// How long it took.
    pub duration_ms: i64,
}

/// What becomes of a claimed delivery.
#[derive(Clone, Debug)]
pub enum Settlement {
    /// Delivered.
    Delivered(Attempt),
    /// Due again at a time.
    Retry(Attempt, DateTime<Utc>),
    /// Due again at a time; it cost no try.
    Snooze(DateTime<Utc>),
    /// Given up: a dead letter and `delivery.exhausted`.
    Bury(Attempt),
    /// Its target is gone or switched off; nothing is sent and nobody is alarmed.
    Cancel(String),
}

/// Records what became of a delivery under its lease. `false` when the lease has passed to another: nothing is changed.
pub async fn settle(tx: &mut Tx, change: Change<'_>, delivery: &Delivery, settlement: &Settlement) -> Result<bool, StoreError> {
    const SQL: &str = "
        UPDATE deliveries SET state = $1, attempt = $2, due_at = $3, finished_at = $4, updated_at = $5
        WHERE id = $6 AND lease = $7 AND finished_at IS NULL";
    let now = change.clock.now();
    let tried = delivery.attempt + 1;
    let (state, attempt, due_at, finished_at) = match settlement {
        Settlement::Delivered(_) => (DeliveryState::Delivered, tried, now, Some(now)),
        Settlement::Retry(_, at) => (DeliveryState::Retrying, tried, *at, None),
        Settlement::Snooze(at) => (DeliveryState::Scheduled, delivery.attempt, *at, None),
        Settlement::Bury(_) => (DeliveryState::Dead, tried, now, Some(now)),
        Settlement::Cancel(_) => (DeliveryState::Cancelled, delivery.attempt, now, Some(now)),
    };
    let rows = on!(tx, |c| sqlx::query(SQL)
        .bind(state.as_str())
        .bind(attempt)
        .bind(due_at)
        .bind(finished_at)
        .bind(now)
        .bind(delivery.id.0)
        .bind(delivery.lease)
        .execute(c)
        .await?
        .rows_affected());
    if rows == 0 {
        return Ok(false);
    }
    if let Settlement::Delivered(attempt) | Settlement::Retry(attempt, _) | Settlement::Bury(attempt) = settlement {
        insert_attempt(tx, change, delivery, tried, attempt).await?;
    }
    if let Settlement::Bury(attempt) = settlement {
        bury(tx, change, delivery, attempt).await?;
    }
    Ok(true)
}

async fn insert_attempt(tx: &mut Tx, change: Change<'_>, delivery: &Delivery, number: i64, attempt: &Attempt) -> Result<(), StoreError> {
    const SQL: &str = "
        INSERT INTO attempts (id, delivery_id, number, outcome, status_code, error, excerpt, started_at, duration_ms)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)";
    let id: AttemptId = change.clock.id();
    on!(tx, |c| sqlx::query(SQL)
        .bind(id.0)
        .bind(delivery.id.0)
        .bind(number)
        .bind(attempt.outcome.as_str())
        .bind(attempt.status_code.map(i64::from))
        .bind(attempt.error.as_deref())
        .bind(attempt.excerpt.as_deref())
        .bind(attempt.started_at)
        .bind(attempt.duration_ms)
        .execute(c)
        .await
        .map(drop)?);
    Ok(())
}

async fn bury(tx: &mut Tx, change: Change<'_>, delivery: &Delivery, last: &Attempt) -> Result<(), StoreError> {
    let reason = last.error.clone().unwrap_or_else(|| last.outcome.to_string());
    let attempts = attempts(tx, delivery.id).await?;
    let letter = NewLetter {
        id: change.clock.id::<DeadLetterId>(),
        source: Source::Queue,
        handler: delivery.channel.to_string(),
        event_id: Some(delivery.event_id),
        position: None,
        delivery_id: Some(delivery.id),
        reason: reason.clone(),
        attempts: dead_letters::history(attempts.iter().map(|row| (row.started_at, row.error.clone(), row.status_code)))?,
        payload: delivery.payload.clone(),
        created_at: change.clock.now(),
    };
    dead_letters::insert(tx, &letter).await?;
    let fact = Event::DeliveryExhausted(DeliveryExhausted {
        delivery_id: delivery.id,
        channel: delivery.channel,
        endpoint_id: delivery.endpoint_id,
        user_id: delivery.user_id,
        reason,
    });
    // The owner of a webhook sees it by its own endpoint; the recipient of a mail as the owner of the event.
    let seen_by = SeenBy { owner_id: delivery.user_id, ..SeenBy::default() };
    let event = NewEvent::new(change, &fact, delivery.id.0, delivery.lease, seen_by)?;
    events::append(tx, &[&event]).await
}

/// Puts a dead delivery back, due now, with all its tries before it.
pub async fn revive(tx: &mut Tx, id: DeliveryId, payload: Option<&str>, now: DateTime<Utc>) -> Result<bool, StoreError> {
    const SQL: &str = "
        UPDATE deliveries SET state = 'scheduled', attempt = 0, due_at = $1, updated_at = $1, finished_at = NULL,
            payload = COALESCE($2, payload)
        WHERE id = $3 AND state = 'dead'";
    let rows = on!(tx, |c| sqlx::query(SQL).bind(now).bind(payload).bind(id.0).execute(c).await?.rows_affected());
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
            attempt: row.attempt,
            lease: row.lease,
            due_at: row.due_at,
            created_at: row.created_at,
        }
    }
}
