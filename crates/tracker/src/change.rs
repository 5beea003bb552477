//! How a change is made: one transaction in a task of its own, at most once for each Idempotency-Key.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use futures::future::BoxFuture;
use taskpost_common::{Cause, EventId, trace};
use taskpost_store::{
    Change, StoreError, Tx,
    idempotency::{self, KeyId, KeyRow, StoredAnswer},
};
use tracing::{Instrument as _, info_span};

use crate::{Caller, Error, Inner, Tracker};

/// The longest a transaction may take.
const DEADLINE: Duration = Duration::from_secs(10);
/// The longest one may take that changes very many tasks.
const LARGE: Duration = Duration::from_mins(1);
/// How long a request waits for such a one.
const PATIENCE: Duration = Duration::from_secs(8);

/// How often a change is tried when somebody else is faster.
pub(crate) const TRIES: u32 = 5;

/// An Idempotency-Key of a request.
#[derive(Clone, Debug)]
pub struct OnceKey {
    route: String,
    key: String,
    body_hash: String,
    older_hashes: Vec<String>,
}

/// How to answer, and under which key the answer is kept. The answer is made inside the transaction, so that a repeat
/// gets the same one to the byte.
#[derive(Debug)]
pub struct Once<T> {
    /// The key, if the client sent one.
    pub key: Option<OnceKey>,
    /// Makes the answer from the outcome and the last event of the change.
    pub render: fn(&T, Option<EventId>) -> Result<StoredAnswer, serde_json::Error>,
}

impl<T> Once<T> {
    /// An answer without a key.
    pub const fn new(render: fn(&T, Option<EventId>) -> Result<StoredAnswer, serde_json::Error>) -> Self {
        Self { key: None, render }
    }

    /// The row that keeps `answer`, if there is a key.
    pub(crate) fn row(
        &self,
        caller: &Caller,
        answer: StoredAnswer,
        now: chrono::DateTime<chrono::Utc>,
    ) -> Option<KeyRow> {
        self.key.as_ref().map(|key| KeyRow {
            id: KeyId { user_id: caller.user_id(), route: key.route.clone(), key: key.key.clone() },
            body_hash: key.body_hash.clone(),
            older_hashes: key.older_hashes.clone(),
            answer,
            created_at: now,
        })
    }
}

/// An answer that is ready to go out.
#[derive(Clone, Debug)]
pub struct Answered {
    /// Status, headers and body.
    pub answer: StoredAnswer,
    /// Whether it is the answer to an earlier request with the same key.
    pub replayed: bool,
}

impl Tracker {
    /// The Idempotency-Key of a request to a route, which is method and path. A body may hold what is easily guessed, such
    /// as a password, so what is kept of it says nothing without the instance's secret.
    pub fn once_key(&self, route: String, key: String, body: &[u8]) -> OnceKey {
        let parts = [body];
        let mut hashes = self.0.body_keys.words(&parts);
        let body_hash = hashes.next().unwrap_or_default();
        OnceKey { route, key, body_hash, older_hashes: hashes.collect() }
    }

    /// Runs `work` in one transaction and rings the bells. The caller may be dropped meanwhile: the change goes on.
    pub(crate) async fn change<T, W>(&self, cause: &Cause, work: W) -> Result<T, Error>
    where
        T: Send + 'static,
        W: for<'t> FnOnce(&'t mut Tx, Change<'t>) -> BoxFuture<'t, Result<T, Error>> + Send + 'static,
    {
        self.change_within(DEADLINE, cause, work).await
    }

    /// As [`Tracker::change`], for work that may take a minute. Who waits for it is told after a while that it goes on.
    pub(crate) async fn change_large<T, W>(&self, cause: &Cause, work: W) -> Result<T, Error>
    where
        T: Send + 'static,
        W: for<'t> FnOnce(&'t mut Tx, Change<'t>) -> BoxFuture<'t, Result<T, Error>> + Send + 'static,
    {
        while_patient(PATIENCE, self.change_within(LARGE, cause, work)).await
    }

    /// As [`Tracker::change`], and again when somebody else changed one of its rows meanwhile.
    pub(crate) async fn change_again<T, W>(&self, cause: &Cause, work: W) -> Result<T, Error>
    where
        T: Send + 'static,
        W: for<'t> FnOnce(&'t mut Tx, Change<'t>) -> BoxFuture<'t, Result<T, Error>> + Clone + Send + 'static,
    {
        for _ in 1..TRIES {
            match self.change(cause, work.clone()).await {
                Err(Error::Store(StoreError::Stale(_))) => {}
                done => return done,
            }
        }
        self.change(cause, work).await
    }

    async fn change_within<T, W>(&self, deadline: Duration, cause: &Cause, work: W) -> Result<T, Error>
    where
        T: Send + 'static,
        W: for<'t> FnOnce(&'t mut Tx, Change<'t>) -> BoxFuture<'t, Result<T, Error>> + Send + 'static,
    {
        let inner = self.0.clone();
        let cause = cause.clone();
        let change = async move {
            let began = Instant::now();
            let changed = tokio::time::timeout(deadline, transact(&inner, &cause, work)).await;
            let changed = changed.unwrap_or(Err(Error::Unknown));
            if let Err(error) = &changed
                && began.elapsed() > PATIENCE
            {
                tracing::warn!(%error, "a change failed when its request may have ended already");
            }
            changed
        };
        let span = info_span!(target: trace::TARGET, "commit");
        let running = self.0.changes.spawn(change.instrument(span));
        running.await.map_err(|error| Error::Internal(error.to_string()))?
    }

    /// As [`Tracker::change`], with an answer that is stored under the caller's key.
    pub(crate) async fn change_once<T, W>(
        &self,
        caller: &Caller,
        once: Once<T>,
        work: W,
    ) -> Result<Answered, Error>
    where
        T: Send + 'static,
        W: for<'t> FnOnce(&'t mut Tx, Change<'t>) -> BoxFuture<'t, Result<(T, Option<EventId>), Error>>
            + Send
            + 'static,
    {
        let claim = once.row(caller, PENDING, self.0.clock.now());
        self.change(&caller.cause, move |tx, change| {
            Box::pin(async move {
                if let Some(row) = &claim
                    && let Some(replay) = claim_or_replay(tx, row).await?
                {
                    return Ok(replay);
                }
                let (value, event_id) = work(tx, change).await?;
                let answer = (once.render)(&value, event_id)?;
                if let Some(row) = &claim {
                    idempotency::answer(tx, &row.id, &answer).await?;
                }
                Ok(Answered { answer, replayed: false })
            })
        })
        .await
    }
}

/// What came of a change, if that is known in time. One that is under way does not end with who waits for it.
async fn while_patient<T>(
    patience: Duration,
    change: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    tokio::time::timeout(patience, change).await.unwrap_or(Err(Error::GoesOn))
}

/// What a claimed key holds until the change is done; nobody else ever sees it.
pub(crate) const PENDING: StoredAnswer =
    StoredAnswer { status: 0, location: None, etag: None, event_id: None, body: String::new() };

async fn transact<T, W>(inner: &Arc<Inner>, cause: &Cause, work: W) -> Result<T, Error>
where
    W: for<'t> FnOnce(&'t mut Tx, Change<'t>) -> BoxFuture<'t, Result<T, Error>>,
{
    let mut tx = inner.db.begin().await?;
    match work(&mut tx, Change { clock: &inner.clock, cause }).await {
        Ok(value) => {
            // Where the answer is lost, it may be stored all the same.
            tx.commit().await.map_err(|error| match error {
                StoreError::Unavailable(_) => Error::Unknown,
                error => error.into(),
            })?;
            inner.wakes.committed(inner.db.has_outbox());
            Ok(value)
        }
        Err(error) => {
            // The work's own error says more than a failed rollback, which the server does by itself anyway.
            let _ = tx.rollback().await;
            Err(error)
        }
    }
}

/// Claims the key, or gives the answer that is kept under it.
async fn claim_or_replay(tx: &mut Tx, row: &KeyRow) -> Result<Option<Answered>, Error> {
    match idempotency::claim(tx, &mut [row]).await {
        Ok(1) => Ok(None),
        Ok(_) => {
            let stored = idempotency::get(tx, &[&row.id]).await?;
            stored.first().map(|stored| replay(row, stored)).transpose()
        }
        Err(StoreError::Locked(_)) => Err(running_twin()),
        Err(error) => Err(error.into()),
    }
}

/// The stored answer, if the same body asks for it.
pub(crate) fn replay(asked: &KeyRow, stored: &KeyRow) -> Result<Answered, Error> {
    if asked.body_hash != stored.body_hash && !asked.older_hashes.contains(&stored.body_hash) {
        let detail = "this Idempotency-Key was used with another body; use a new key";
        return Err(Error::field("", "idempotency_key_reused", detail));
    }
    Ok(Answered { answer: stored.answer.clone(), replayed: true })
}

/// A request with the same key has not ended within the time we wait for it.
pub(crate) fn running_twin() -> Error {
    Error::Conflict("a request with this Idempotency-Key is still running; ask again".to_owned())
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use taskpost_common::problem::Code;

    use super::*;

    #[tokio::test]
    async fn who_waits_too_long_is_told_that_it_goes_on() {
        assert_eq!(while_patient(PATIENCE, ready(Ok(7))).await.unwrap(), 7);
        let late = while_patient(Duration::ZERO, pending::<Result<(), Error>>()).await.unwrap_err();
        assert_eq!((late.code(), late.retry_after()), (Code::Unavailable, Some(Duration::from_secs(10))));
        assert!(late.problem().detail.contains("goes on"));
    }
}
