//! The answers given under an Idempotency-Key, stored in the transaction of the change they answer.

use chrono::{DateTime, Utc};
use sqlx::FromRow;
use taskpost_common::{EventId, UserId};
use uuid::Uuid;

use crate::{
    Session, StoreError, Tx,
    bulk::insert_many,
    db::on,
    dynamic::{Bind, Statement},
};

/// Names one request: the same user sends the same key to the same route.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId {
    /// Who sent it.
    pub user_id: UserId,
    /// Method and path.
    pub route: String,
    /// The header's value.
    pub key: String,
}

/// An answer as it was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredAnswer {
    /// HTTP status.
    pub status: u16,
    /// The Location header.
    pub location: Option<String>,
    /// The ETag header.
    pub etag: Option<String>,
    /// The Event-Id header.
    pub event_id: Option<EventId>,
    /// The body, JSON.
    pub body: String,
}

/// A key with the digest of its request's body and its answer.
#[derive(Clone, Debug)]
pub struct KeyRow {
    /// Which request.
    pub id: KeyId,
    /// A keyed digest of the body.
    pub body_hash: String,
    /// What older keys make of it; asked for and not stored.
    pub older_hashes: Vec<String>,
    /// What was answered.
    pub answer: StoredAnswer,
    /// When.
    pub created_at: DateTime<Utc>,
}

/// Runs a macro of [`crate::bulk`] over keys.
macro_rules! key_rows {
    ($run:ident!($tx:expr, $rows:expr, $suffix:literal)) => {
        $run!($tx, "idempotency_keys", $rows, $suffix, |r| {
            user_id: uuid = r.id.user_id.0,
            route: text = r.id.route.as_str(),
            key: text = r.id.key.as_str(),
            body_hash: text = r.body_hash.as_str(),
            status: bigint = i64::from(r.answer.status),
            location: text = r.answer.location.as_deref(),
            etag: text = r.answer.etag.as_deref(),
            event_id: uuid = r.answer.event_id.map(|id| id.0),
            body: text = r.answer.body.as_str(),
            created_at: timestamptz = r.created_at,
        })
    };
}

/// Claims keys, each with its answer. Waits for a running twin in another transaction to end. What was there already
/// is left as it is: read it by [`get`] and compare `created_at` and `body_hash`.
pub async fn claim(tx: &mut Tx, rows: &mut [&KeyRow]) -> Result<u64, StoreError> {
    // One order for everybody, so that two writers never wait for each other.
    rows.sort_unstable_by(|a, b| a.id.cmp(&b.id));
    let rows: &[&KeyRow] = rows;
    Ok(key_rows!(insert_many!(tx, rows, "ON CONFLICT DO NOTHING")))
}

/// Stores the answers of keys that this transaction has claimed with others, by one statement.
pub async fn answer_all(tx: &mut Tx, rows: &mut [&KeyRow]) -> Result<(), StoreError> {
    rows.sort_unstable_by(|a, b| a.id.cmp(&b.id));
    let rows: &[&KeyRow] = rows;
    key_rows!(insert_many!(
        tx,
        rows,
        "ON CONFLICT (user_id, route, key) DO UPDATE SET status = excluded.status, location = excluded.location,
            etag = excluded.etag, event_id = excluded.event_id, body = excluded.body"
    ));
    Ok(())
}

/// Stores the answer of a key that this transaction has claimed.
pub async fn answer(tx: &mut Tx, id: &KeyId, answer: &StoredAnswer) -> Result<(), StoreError> {
    const SQL: &str = "
        UPDATE idempotency_keys SET status = $1, location = $2, etag = $3, event_id = $4, body = $5
        WHERE user_id = $6 AND route = $7 AND key = $8";
    on!(tx, |c| sqlx::query(SQL)
        .bind(i64::from(answer.status))
        .bind(answer.location.as_deref())
        .bind(answer.etag.as_deref())
        .bind(answer.event_id.map(|id| id.0))
        .bind(&answer.body)
        .bind(id.user_id.0)
        .bind(&id.route)
        .bind(&id.key)
        .execute(c)
        .await
        .map(drop)?);
    Ok(())
}

/// Gives up a key that this transaction has claimed.
pub async fn release(tx: &mut Tx, id: &KeyId) -> Result<(), StoreError> {
    const SQL: &str = "DELETE FROM idempotency_keys WHERE user_id = $1 AND route = $2 AND key = $3";
    on!(tx, |c| sqlx::query(SQL)
        .bind(id.user_id.0)
        .bind(&id.route)
        .bind(&id.key)
        .execute(c)
        .await
        .map(drop)?);
    Ok(())
}

/// How many keys are asked for at once. A list that each is looked up by; as alternatives SQLite would plan for each.
const CHUNK: usize = 64;

/// The stored rows of these keys. By a statement of its own, after [`claim`], so that it sees what a twin committed.
pub async fn get(session: &mut Session, ids: &[&KeyId]) -> Result<Vec<KeyRow>, StoreError> {
    let mut found = Vec::with_capacity(ids.len());
    for ids in ids.chunks(CHUNK) {
        let mut statement = Statement::new("SELECT k.* FROM (VALUES ");
        for (place, id) in ids.iter().enumerate() {
            statement.push(if place == 0 { "(" } else { ", (" }).bind(Bind::Uuid(id.user_id.0)).push(", ");
            statement
                .bind(Bind::Text(id.route.clone()))
                .push(", ")
                .bind(Bind::Text(id.key.clone()))
                .push(")");
        }
        statement.push(
            ") AS wanted, idempotency_keys AS k
            WHERE k.user_id = wanted.column1 AND k.route = wanted.column2 AND k.key = wanted.column3",
        );
        let rows: Vec<Row> = statement.fetch_all(session).await?;
        found.extend(rows.into_iter().map(KeyRow::from));
    }
    Ok(found)
}

#[derive(FromRow)]
struct Row {
    user_id: Uuid,
    route: String,
    key: String,
    body_hash: String,
    status: i64,
    location: Option<String>,
    etag: Option<String>,
    event_id: Option<Uuid>,
    body: String,
    created_at: DateTime<Utc>,
}

impl From<Row> for KeyRow {
    fn from(row: Row) -> Self {
        Self {
            id: KeyId { user_id: UserId(row.user_id), route: row.route, key: row.key },
            body_hash: row.body_hash,
            older_hashes: Vec::new(),
            answer: StoredAnswer {
                status: u16::try_from(row.status).unwrap_or_default(),
                location: row.location,
                etag: row.etag,
                event_id: row.event_id.map(EventId),
                body: row.body,
            },
            created_at: row.created_at,
        }
    }
}
