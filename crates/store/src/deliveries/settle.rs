//! What became of claimed deliveries, recorded many at a time.

use std::collections::HashSet;

use chrono::{DateTime, Utc};
use serde::Deserialize;
use taskpost_common::{
    AttemptId, Cause, DeadLetterId, Event,
    delivery::{AttemptOutcome, DeliveryState, WebhookPayload},
    event::DeliveryExhausted,
};
use uuid::Uuid;

use super::{Delivery, attempts};
use crate::{
    Change, StoreError, Tx,
    bulk::{chunks, insert_many},
    db::Raw,
    dead_letters::{self, NewLetter, Source},
    endpoints,
    events::{self, NewEvent, SeenBy},
};

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
    /// Given up for this reason: a dead letter and `delivery.exhausted`.
    Bury(Attempt, String),
    /// Its target is gone or switched off; nothing is sent and nobody is alarmed.
    Cancel(String),
}

/// Records what became of a claimed delivery. `false` when its lease has passed to another, or its outcome is recorded
/// already: nothing is changed.
pub async fn settle(
    tx: &mut Tx,
    change: Change<'_>,
    delivery: &Delivery,
    settlement: &Settlement,
) -> Result<bool, StoreError> {
    Ok(settle_many(tx, change, &[(delivery, settlement)]).await? == [true])
}

/// Records what became of many claimed deliveries; for each as [`settle`] says.
pub async fn settle_many(
    tx: &mut Tx,
    change: Change<'_>,
    outcomes: &[(&Delivery, &Settlement)],
) -> Result<Vec<bool>, StoreError> {
    let now = change.clock.now();
    let next: Vec<Next> =
        outcomes.iter().map(|(delivery, settlement)| Next::of(delivery, settlement, now)).collect();
    let held = update(tx, &next, now).await?;
    let kept: Vec<bool> = next.iter().map(|next| held.contains(&(next.id, next.lease))).collect();
    let settled = || outcomes.iter().zip(&kept).filter(|(_, kept)| **kept).map(|(outcome, _)| *outcome);
    insert_attempts(tx, change, settled()).await?;
    for (delivery, settlement) in settled() {
        if let Settlement::Bury(_, reason) = settlement {
            bury(tx, change, delivery, reason).await?;
        }
    }
    Ok(kept)
}

impl Settlement {
    /// The try it costs.
    const fn attempt(&self) -> Option<&Attempt> {
        match self {
            Self::Delivered(attempt) | Self::Retry(attempt, _) | Self::Bury(attempt, _) => Some(attempt),
            Self::Snooze(_) | Self::Cancel(_) => None,
        }
    }
}

/// How a row is to be.
struct Next {
    id: Uuid,
    lease: i64,
    state: &'static str,
    attempt: i64,
    due_at: DateTime<Utc>,
    finished_at: Option<DateTime<Utc>>,
}

impl Next {
    fn of(delivery: &Delivery, settlement: &Settlement, now: DateTime<Utc>) -> Self {
        let (state, due_at, finished_at) = match settlement {
            Settlement::Delivered(_) => (DeliveryState::Delivered, now, Some(now)),
            Settlement::Retry(_, at) => (DeliveryState::Retrying, *at, None),
            Settlement::Snooze(at) => (DeliveryState::Scheduled, *at, None),
            Settlement::Bury(..) => (DeliveryState::Dead, now, Some(now)),
            Settlement::Cancel(_) => (DeliveryState::Cancelled, now, Some(now)),
        };
        Self {
            id: delivery.id.0,
            lease: delivery.lease,
            state: state.as_str(),
            attempt: delivery.attempt + i64::from(settlement.attempt().is_some()),
            due_at,
            finished_at,
        }
    }
}

/// Changes those rows whose lease still holds, in one statement on Postgres, in a few on SQLite; gives their ids and leases.
async fn update(tx: &mut Tx, next: &[Next], now: DateTime<Utc>) -> Result<HashSet<(Uuid, i64)>, StoreError> {
    const POSTGRES: &str = "
        UPDATE deliveries SET state = n.state, attempt = n.attempt, due_at = n.due_at, queued_at = NULL,
            finished_at = n.finished_at, updated_at = $1
        FROM UNNEST($2::uuid[], $3::bigint[], $4::text[], $5::bigint[], $6::timestamptz[], $7::timestamptz[])
            AS n (id, lease, state, attempt, due_at, finished_at)
        WHERE deliveries.id = n.id AND deliveries.lease = n.lease AND deliveries.state = 'sending'
        RETURNING deliveries.id, deliveries.lease";
    let mut held = HashSet::with_capacity(next.len());
    match tx.0.raw() {
        Raw::Pg(c) if !next.is_empty() => {
            let rows: Vec<(Uuid, i64)> = sqlx::query_as(POSTGRES)
                .bind(now)
                .bind(next.iter().map(|n| n.id).collect::<Vec<_>>())
                .bind(next.iter().map(|n| n.lease).collect::<Vec<_>>())
                .bind(next.iter().map(|n| n.state).collect::<Vec<_>>())
                .bind(next.iter().map(|n| n.attempt).collect::<Vec<_>>())
                .bind(next.iter().map(|n| n.due_at).collect::<Vec<_>>())
                .bind(next.iter().map(|n| n.finished_at).collect::<Vec<_>>())
                .fetch_all(c)
                .await?;
            held.extend(rows);
        }
        Raw::Pg(_) => {}
        Raw::Lite(c) => {
            for chunk in chunks(next) {
                let mut query = sqlx::query_as(sqlx::AssertSqlSafe(sqlite_update(chunk.len()))).bind(now);
                for n in chunk {
                    query = query
                        .bind(n.id)
                        .bind(n.lease)
                        .bind(n.state)
                        .bind(n.attempt)
                        .bind(n.due_at)
                        .bind(n.finished_at);
                }
                let rows: Vec<(Uuid, i64)> = query.fetch_all(&mut *c).await?;
                held.extend(rows);
            }
        }
    }
    Ok(held)
}

/// SQLite calls the columns of VALUES column1, column2, …. The `+` keeps it from building an index on them and reading
/// all of `deliveries` against that.
fn sqlite_update(rows: usize) -> String {
    format!(
        "UPDATE deliveries SET updated_at = ?, state = n.column3, attempt = n.column4, due_at = n.column5, queued_at = NULL,
             finished_at = n.column6
         FROM (VALUES {}) AS n
         WHERE deliveries.id = +n.column1 AND deliveries.lease = +n.column2 AND deliveries.state = 'sending'
         RETURNING deliveries.id, deliveries.lease",
        vec!["(?,?,?,?,?,?)"; rows].join(",")
    )
}

async fn insert_attempts<'a>(
    tx: &mut Tx,
    change: Change<'_>,
    settled: impl Iterator<Item = (&'a Delivery, &'a Settlement)>,
) -> Result<(), StoreError> {
    let tries: Vec<(AttemptId, &Delivery, &Attempt)> = settled
        .filter_map(|(delivery, settlement)| Some((change.clock.id(), delivery, settlement.attempt()?)))
        .collect();
    insert_many!(tx, "attempts", tries.as_slice(), "", |t| {
        id: uuid = t.0.0,
        delivery_id: uuid = t.1.id.0,
        number: bigint = t.1.attempt + 1,
        outcome: text = t.2.outcome.as_str(),
        status_code: bigint = t.2.status_code.map(i64::from),
        error: text = t.2.error.as_deref(),
        excerpt: text = t.2.excerpt.as_deref(),
        started_at: timestamptz = t.2.started_at,
        duration_ms: bigint = t.2.duration_ms,
    });
    Ok(())
}

async fn bury(tx: &mut Tx, change: Change<'_>, delivery: &Delivery, reason: &str) -> Result<(), StoreError> {
    let attempts = attempts(tx, delivery.id).await?;
    let letter = NewLetter {
        id: change.clock.id::<DeadLetterId>(),
        source: Source::Queue,
        handler: delivery.channel.to_string(),
        event_id: Some(delivery.event_id),
        position: None,
        delivery_id: Some(delivery.id),
        reason: reason.to_owned(),
        attempts: dead_letters::history(
            attempts.iter().map(|row| (row.started_at, row.error.clone(), row.status_code)),
        )?,
        payload: delivery.payload.clone(),
        created_at: change.clock.now(),
    };
    dead_letters::insert(tx, &letter).await?;
    if tells_of_a_delivery(delivery) {
        return Ok(());
    }
    let fact = Event::DeliveryExhausted(DeliveryExhausted {
        delivery_id: delivery.id,
        channel: delivery.channel,
        endpoint_id: delivery.endpoint_id,
        user_id: delivery.user_id,
        reason: reason.to_owned(),
    });
    // Whoever should have got it sees that it was given up.
    let owner_id = match delivery.endpoint_id {
        Some(endpoint) => endpoints::by_ids(tx, &[endpoint]).await?.first().map(|endpoint| endpoint.user_id),
        None => delivery.user_id,
    };
    let seen_by = SeenBy { owner_id, ..SeenBy::default() };
    let cause = Cause { causation_id: Some(delivery.event_id), ..change.cause.clone() };
    let event =
        NewEvent::new(Change { cause: &cause, ..change }, &fact, delivery.id.0, delivery.lease, seen_by)?;
    events::append(tx, &[&event]).await
}

/// Whether what it carries is itself an event of the delivery topic: failing to tell of a failure is not told again, or a broken
/// receiver of those would feed itself for ever.
fn tells_of_a_delivery(delivery: &Delivery) -> bool {
    #[derive(Deserialize)]
    struct Told {
        #[serde(rename = "type")]
        kind: String,
    }
    let told = serde_json::from_str::<WebhookPayload>(&delivery.payload)
        .and_then(|payload| serde_json::from_str::<Told>(&payload.body));
    told.is_ok_and(|told| ["delivery.", "endpoint."].iter().any(|family| told.kind.starts_with(family)))
}
