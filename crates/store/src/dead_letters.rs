//! Dead letters: what could not be handled, whole, with its history.

use chrono::{DateTime, SecondsFormat, Utc};
use serde_json::{Value, json};
use sqlx::FromRow;
use taskpost_common::{DeadLetterId, DeliveryId, EventId, Position, UserId};
use uuid::Uuid;

use crate::{
    Session, StoreError, Tx,
    db::on,
    dynamic::{Bind, Statement},
};

/// How many tries the history of a letter keeps, however often it is redriven.
const MAX_TRIES: usize = 100;

/// Where a letter comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// A consumer group could not handle an event.
    Log,
    /// A worker gave a delivery up.
    Queue,
}

impl Source {
    /// Its spelling in JSON and SQL.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Log => "log",
            Self::Queue => "queue",
        }
    }
}

/// A letter to be kept.
#[derive(Clone, Debug)]
pub struct NewLetter {
    /// Its id.
    pub id: DeadLetterId,
    /// Where it comes from.
    pub source: Source,
    /// The consumer group or the channel.
    pub handler: String,
    /// The event.
    pub event_id: Option<EventId>,
    /// The event's position.
    pub position: Option<Position>,
    /// The delivery.
    pub delivery_id: Option<DeliveryId>,
    /// Why, in words.
    pub reason: String,
    /// What was tried: a JSON object as [`history`] makes it.
    pub attempts: String,
    /// What could not be handled, to the byte.
    pub payload: String,
    /// When.
    pub created_at: DateTime<Utc>,
}

/// The tries of a letter as its `attempts` column keeps them.
pub fn history(
    tries: impl Iterator<Item = (DateTime<Utc>, Option<String>, Option<i64>)>,
) -> Result<String, StoreError> {
    let tries: Vec<Value> = tries.map(|(at, error, status)| one_try(at, error.as_deref(), status)).collect();
    Ok(serde_json::to_string(&json!({"attempts": tries}))?)
}

fn one_try(at: DateTime<Utc>, error: Option<&str>, status: Option<i64>) -> Value {
    json!({"at": at.to_rfc3339_opts(SecondsFormat::Micros, true), "error": error, "status_code": status})
}

/// A history with one more try at its end, of the last [`MAX_TRIES`]. One that cannot be read must not keep a letter
/// from being put back, so it begins anew.
fn one_more(history: &str, at: DateTime<Utc>, error: &str) -> String {
    let mut history: Value = serde_json::from_str(history).unwrap_or_default();
    let known = history.get_mut("attempts").and_then(Value::as_array_mut);
    let mut tries = known.map(std::mem::take).unwrap_or_default();
    tries.push(one_try(at, Some(error), None));
    tries.drain(..tries.len().saturating_sub(MAX_TRIES));
    json!({"attempts": tries}).to_string()
}

/// Keeps a letter. One with this id that is there already stays as it is: the same record was read once more.
pub async fn insert(tx: &mut Tx, letter: &NewLetter) -> Result<(), StoreError> {
    const SQL: &str = "
        INSERT INTO dead_letters (id, source, handler, event_id, position, delivery_id, reason, fingerprint, attempts, payload, state, created_at)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, 'dead', $11)
        ON CONFLICT (id) DO NOTHING";
    on!(tx, |c| sqlx::query(SQL)
        .bind(letter.id.0)
        .bind(letter.source.as_str())
        .bind(&letter.handler)
        .bind(letter.event_id.map(|id| id.0))
        .bind(letter.position.map(|position| position.0))
        .bind(letter.delivery_id.map(|id| id.0))
        .bind(&letter.reason)
        .bind(fingerprint(&letter.handler, &letter.reason))
        .bind(&letter.attempts)
        .bind(&letter.payload)
        .bind(letter.created_at)
        .execute(c)
        .await
        .map(drop)?);
    Ok(())
}

/// The handler and the reason with its numbers and ids taken out, so that failures of one kind fall together.
fn fingerprint(handler: &str, reason: &str) -> String {
    let plain = |word: &str| !word.chars().any(|c| c.is_ascii_digit());
    let words: Vec<&str> =
        reason.split_whitespace().map(|word| if plain(word) { word } else { "#" }).collect();
    let mut text = format!("{handler}: {}", words.join(" "));
    if let Some((end, _)) = text.char_indices().nth(120) {
        text.truncate(end);
    }
    text
}

/// A letter as it is kept.
#[derive(Clone, Debug, FromRow)]
pub struct DeadLetter {
    /// Its id.
    #[sqlx(try_from = "Uuid")]
    pub id: DeadLetterId,
    /// `log` or `queue`.
    pub source: String,
    /// The consumer group or the channel.
    pub handler: String,
    /// The event.
    pub event_id: Option<Uuid>,
    /// The event's position.
    pub position: Option<i64>,
    /// The delivery.
    pub delivery_id: Option<Uuid>,
    /// Why.
    pub reason: String,
    /// Failures of one kind share it.
    pub fingerprint: String,
    /// What was tried.
    pub attempts: String,
    /// What could not be handled.
    pub payload: String,
    /// `dead`, `redriving` (a letter of the log that waits for its group), `redriven` or `discarded`.
    pub state: String,
    /// When it was buried.
    pub created_at: DateTime<Utc>,
    /// When somebody decided.
    pub resolved_at: Option<DateTime<Utc>>,
    /// Why it was discarded.
    pub resolve_reason: Option<String>,
}

/// Which letters are wanted.
#[derive(Clone, Debug, Default)]
pub struct LetterFilter {
    /// `dead`, `redriving`, `redriven` or `discarded`.
    pub state: Option<String>,
    /// `log` or `queue`.
    pub source: Option<String>,
    /// The consumer group or the channel.
    pub handler: Option<String>,
}

/// A page of letters, newest first, older than `before`.
pub async fn list(
    session: &mut Session,
    filter: &LetterFilter,
    before: Option<DeadLetterId>,
    limit: usize,
) -> Result<Vec<DeadLetter>, StoreError> {
    let mut statement = Statement::new("SELECT * FROM dead_letters WHERE TRUE");
    for (sql, value) in [
        (" AND state = ", &filter.state),
        (" AND source = ", &filter.source),
        (" AND handler = ", &filter.handler),
    ] {
        if let Some(value) = value {
            statement.push(sql).bind(Bind::Text(value.clone()));
        }
    }
    if let Some(before) = before {
        statement.push(" AND id < ").bind(Bind::Uuid(before.0));
    }
    statement.push(" ORDER BY id DESC LIMIT ").bind(Bind::Int(i64::try_from(limit).unwrap_or(i64::MAX)));
    statement.fetch_all(session).await
}

/// One letter.
pub async fn get(session: &mut Session, id: DeadLetterId) -> Result<Option<DeadLetter>, StoreError> {
    const SQL: &str = "SELECT * FROM dead_letters WHERE id = $1";
    Ok(on!(session, |c| sqlx::query_as(SQL).bind(id.0).fetch_optional(c).await?))
}

/// How many letters are dead, up to a hundred thousand.
pub async fn count_dead(session: &mut Session) -> Result<i64, StoreError> {
    const SQL: &str =
        "SELECT count(*) FROM (SELECT 1 FROM dead_letters WHERE state = 'dead' LIMIT 100000) AS dead";
    let (count,): (i64,) = on!(session, |c| sqlx::query_as(SQL).fetch_one(c).await?);
    Ok(count)
}

/// What somebody decided of a letter.
#[derive(Clone, Copy, Debug)]
pub enum Verdict<'a> {
    /// It was handled again.
    Redriven,
    /// It was put away, for this reason.
    Discarded(&'a str),
}

/// Decides a letter once; `false` when it is not dead any more.
pub async fn resolve(
    tx: &mut Tx,
    id: DeadLetterId,
    verdict: Verdict<'_>,
    by: UserId,
    now: DateTime<Utc>,
) -> Result<bool, StoreError> {
    const SQL: &str = "
        UPDATE dead_letters SET state = $1, resolve_reason = $2, resolved_by = $3, resolved_at = $4
        WHERE id = $5 AND state = 'dead'";
    let (state, reason) = match verdict {
        Verdict::Redriven => ("redriven", None),
        Verdict::Discarded(reason) => ("discarded", Some(reason)),
    };
    let rows = on!(tx, |c| sqlx::query(SQL)
        .bind(state)
        .bind(reason)
        .bind(by.0)
        .bind(now)
        .bind(id.0)
        .execute(c)
        .await?
        .rows_affected());
    Ok(rows == 1)
}

/// Asks a letter's consumer group to handle it once more, with another payload when one is given. `false` when it is
/// not a dead letter of the log: one of the queue is revived by its delivery.
pub async fn request_redrive(
    tx: &mut Tx,
    id: DeadLetterId,
    payload: Option<&str>,
    by: UserId,
    now: DateTime<Utc>,
) -> Result<bool, StoreError> {
    const SQL: &str = "
        UPDATE dead_letters SET state = 'redriving', payload = COALESCE($1, payload), resolved_by = $2, resolved_at = $3
        WHERE id = $4 AND state = 'dead' AND source = 'log'";
    let rows = on!(tx, |c| sqlx::query(SQL)
        .bind(payload)
        .bind(by.0)
        .bind(now)
        .bind(id.0)
        .execute(c)
        .await?
        .rows_affected());
    Ok(rows == 1)
}

/// Letters that wait for a consumer group to handle them once more, oldest first.
pub async fn redriving(
    session: &mut Session,
    handler: &str,
    limit: usize,
) -> Result<Vec<DeadLetter>, StoreError> {
    const SQL: &str =
        "SELECT * FROM dead_letters WHERE state = 'redriving' AND handler = $1 ORDER BY id LIMIT $2";
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    Ok(on!(session, |c| sqlx::query_as(SQL).bind(handler).bind(limit).fetch_all(c).await?))
}

/// Records, in the transaction of the handler's effects, how a redrive ended: redriven, or dead again with its new
/// reason and one more try. `false` when the letter does not wait any more: another was faster, and the caller must
/// roll back.
pub async fn finish_redrive(
    tx: &mut Tx,
    id: DeadLetterId,
    outcome: Result<(), &str>,
    now: DateTime<Utc>,
) -> Result<bool, StoreError> {
    const DONE: &str =
        "UPDATE dead_letters SET state = 'redriven', resolved_at = $1 WHERE id = $2 AND state = 'redriving'";
    const DEAD: &str = "
        UPDATE dead_letters SET state = 'dead', reason = $1, fingerprint = $2, attempts = $3, resolved_by = NULL,
            resolved_at = NULL
        WHERE id = $4 AND state = 'redriving'";
    let rows = match outcome {
        Ok(()) => on!(tx, |c| sqlx::query(DONE).bind(now).bind(id.0).execute(c).await?.rows_affected()),
        Err(reason) => {
            let Some(letter) = get(tx, id).await? else { return Ok(false) };
            let attempts = one_more(&letter.attempts, now, reason);
            on!(tx, |c| sqlx::query(DEAD)
                .bind(reason)
                .bind(fingerprint(&letter.handler, reason))
                .bind(attempts)
                .bind(id.0)
                .execute(c)
                .await?
                .rows_affected())
        }
    };
    Ok(rows == 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_of_one_kind_share_a_fingerprint() {
        let one = fingerprint("webhook", "the receiver answered 503 after 12 ms");
        assert_eq!(one, fingerprint("webhook", "the receiver answered 500 after 9 ms"));
        assert_ne!(one, fingerprint("email", "the receiver answered 503 after 12 ms"));
        assert!(fingerprint("webhook", &"ü".repeat(1_000)).len() < 400);
    }

    #[test]
    fn a_history_grows_at_its_end_up_to_a_limit() {
        let at = DateTime::<Utc>::UNIX_EPOCH;
        let mut text = history(std::iter::once((at, Some("first".to_owned()), Some(503)))).unwrap();
        text = one_more(&text, at, "second");
        let two: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(two["attempts"][0]["status_code"], 503);
        assert_eq!(two["attempts"][1]["error"], "second");
        for i in 0..MAX_TRIES {
            text = one_more(&text, at, &format!("try {i}"));
        }
        let many: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(many["attempts"].as_array().unwrap().len(), MAX_TRIES);
        assert_eq!(many["attempts"][MAX_TRIES - 1]["error"], format!("try {}", MAX_TRIES - 1));
        for unreadable in ["", "[]", "{}", r#"{"attempts":3}"#] {
            let begun: Value = serde_json::from_str(&one_more(unreadable, at, "first")).unwrap();
            assert_eq!(begun["attempts"][0]["error"], "first", "{unreadable}");
        }
    }
}
