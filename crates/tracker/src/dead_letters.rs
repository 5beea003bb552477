//! The dead-letter inbox of log and queue, for admins.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json, value::RawValue};
use taskpost_common::{DeadLetterId, DeliveryId, EventId, Position, user::Role};
use taskpost_store::{
    Change, Tx,
    audit::{self, NewAudit},
    dead_letters::{self, DeadLetter, LetterFilter, Verdict},
    deliveries,
};
use utoipa::ToSchema;

use crate::{
    Answered, Caller, Error, Once, Tracker,
    pages::{Cursors, Page, PageRequest},
    validate::{Checks, Lines},
};

/// A dead letter.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Letter {
    /// Its id.
    pub id: DeadLetterId,
    /// `log` or `queue`.
    pub source: String,
    /// The consumer group, of one from the log.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// The channel, of one from the queue.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub channel: Option<String>,
    /// The event.
    pub event_id: Option<EventId>,
    /// The event's position.
    pub position: Option<Position>,
    /// The delivery.
    pub delivery_id: Option<DeliveryId>,
    /// Why.
    pub reason: String,
    /// Failures of one kind share it.
    pub fingerprint: String,
    /// What was tried.
    pub attempts: Vec<LetterAttempt>,
    /// What could not be handled: JSON where it is JSON, else text.
    pub payload: Value,
    /// When it was buried.
    pub created_at: DateTime<Utc>,
    /// dead, redriving, redriven or discarded.
    pub state: String,
    /// When somebody decided.
    pub resolved_at: Option<DateTime<Utc>>,
    /// Why it was discarded.
    pub resolve_reason: Option<String>,
}

/// One try.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct LetterAttempt {
    /// When.
    pub at: DateTime<Utc>,
    /// What failed.
    pub error: Option<String>,
    /// What the receiver answered.
    #[serde(default)]
    pub status_code: Option<i64>,
}

/// How to handle a letter again.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Redrive {
    /// Another payload in place of the kept one: a JSON object, taken to the byte.
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    pub payload: Option<Box<RawValue>>,
}

/// Why a letter is put away.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Discard {
    /// A sentence, kept with it.
    #[schema(example = "the receiver was retired", min_length = 1, max_length = 500)]
    pub reason: String,
}

impl Tracker {
    /// A page of letters, newest first.
    pub async fn dead_letters(
        &self,
        caller: &Caller,
        filter: LetterFilter,
        page: PageRequest,
    ) -> Result<Page<Letter>, Error> {
        caller.require(Role::Admin)?;
        let scope = format!("dead letters {} {filter:?}", caller.user_id());
        let cursors = Cursors { key: &self.0.cursors, scope, now: self.0.clock.now() };
        let before = cursors.open::<DeadLetterId>(page.cursor.as_deref())?.map(|(_, id)| id);
        let rows =
            dead_letters::list(&mut self.0.db.reader().await?, &filter, before, page.limit + 1).await?;
        let page = cursors.page(rows, page.limit, None, |letter| letter.id)?;
        let Page { data, next_cursor, prev_cursor, total } = page;
        Ok(Page { data: data.into_iter().map(Letter::from).collect(), next_cursor, prev_cursor, total })
    }

    /// One letter.
    pub async fn dead_letter(&self, caller: &Caller, id: DeadLetterId) -> Result<Letter, Error> {
        caller.require(Role::Admin)?;
        let letter = dead_letters::get(&mut self.0.db.reader().await?, id).await?;
        letter.map(Letter::from).ok_or(Error::NotFound("dead letter"))
    }

    /// Handles a letter again: a delivery is due at once, with all its tries before it; an event is applied once by
    /// its group, which takes the letter from here.
    pub async fn redrive(
        &self,
        caller: &Caller,
        id: DeadLetterId,
        input: Redrive,
        once: Once<Letter>,
    ) -> Result<Answered, Error> {
        caller.require(Role::Admin)?;
        if input.payload.as_ref().is_some_and(|payload| !payload.get().starts_with('{')) {
            return Err(Error::field("/payload", "wrong_type", "must be a JSON object"));
        }
        let payload = input.payload.map(|payload| payload.get().to_owned());
        let by = caller.user_id();
        let answered = self
            .change_once(caller, once, move |tx, change| {
                Box::pin(async move {
                    let now = change.clock.now();
                    let letter = found(tx, id).await?;
                    let taken = match letter.delivery_id {
                        Some(delivery) => {
                            dead_letters::resolve(tx, id, Verdict::Redriven, by, now).await?
                                && deliveries::revive(tx, DeliveryId(delivery), payload.as_deref(), now)
                                    .await?
                        }
                        None => dead_letters::request_redrive(tx, id, payload.as_deref(), by, now).await?,
                    };
                    if !taken {
                        return Err(Error::Conflict(format!(
                            "the letter is {} and cannot be redriven",
                            letter.state
                        )));
                    }
                    let detail = json!({"edited": payload.is_some()});
                    record(tx, change, "dead_letter.redriven", id, detail).await?;
                    Ok((found(tx, id).await?.into(), None))
                })
            })
            .await?;
        self.0.wakes.deliveries.ring();
        self.0.wakes.log.ring();
        Ok(answered)
    }

    /// Puts a letter away for good.
    pub async fn discard(
        &self,
        caller: &Caller,
        id: DeadLetterId,
        input: Discard,
        once: Once<Letter>,
    ) -> Result<Answered, Error> {
        caller.require(Role::Admin)?;
        let mut checks = Checks::default();
        checks.text("/reason", &input.reason, 1, 500, Lines::One);
        checks.finish()?;
        let by = caller.user_id();
        self.change_once(caller, once, move |tx, change| {
            Box::pin(async move {
                let letter = found(tx, id).await?;
                let verdict = Verdict::Discarded(&input.reason);
                if !dead_letters::resolve(tx, id, verdict, by, change.clock.now()).await? {
                    return Err(Error::Conflict(format!(
                        "the letter is {} and cannot be discarded",
                        letter.state
                    )));
                }
                let detail = json!({"reason": input.reason});
                record(tx, change, "dead_letter.discarded", id, detail).await?;
                Ok((found(tx, id).await?.into(), None))
            })
        })
        .await
    }
}

async fn record(
    tx: &mut Tx,
    change: Change<'_>,
    action: &'static str,
    id: DeadLetterId,
    detail: Value,
) -> Result<(), Error> {
    let row = NewAudit { action, subject_type: "dead_letter", subject_id: id.0, project_id: None, detail };
    Ok(audit::record(tx, change, row).await?)
}

async fn found(tx: &mut Tx, id: DeadLetterId) -> Result<DeadLetter, Error> {
    dead_letters::get(tx, id).await?.ok_or(Error::NotFound("dead letter"))
}

impl From<DeadLetter> for Letter {
    fn from(letter: DeadLetter) -> Self {
        #[derive(Default, Deserialize)]
        struct History {
            attempts: Vec<LetterAttempt>,
        }
        // A history or payload that is not the JSON we write is shown as it is, never hidden.
        let history: History = serde_json::from_str(&letter.attempts).unwrap_or_default();
        let payload = serde_json::from_str(&letter.payload).unwrap_or(Value::String(letter.payload));
        let from_queue = letter.source == "queue";
        Self {
            id: letter.id,
            group: (!from_queue).then(|| letter.handler.clone()),
            channel: from_queue.then_some(letter.handler),
            source: letter.source,
            event_id: letter.event_id.map(EventId),
            position: letter.position.map(Position),
            delivery_id: letter.delivery_id.map(DeliveryId),
            reason: letter.reason,
            fingerprint: letter.fingerprint,
            attempts: history.attempts,
            payload,
            created_at: letter.created_at,
            state: letter.state,
            resolved_at: letter.resolved_at,
            resolve_reason: letter.resolve_reason,
        }
    }
}
