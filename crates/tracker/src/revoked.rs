//! Which sessions have ended, in memory, for as long as their access tokens could still be shown.

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock},
    time::Duration as StdDuration,
};

use chrono::{DateTime, Duration, Utc};
use taskpost_common::SessionId;
use taskpost_store::{Db, StoreError, sessions};
use tokio_util::sync::CancellationToken;

use crate::{Inner, tokens};

/// How soon a session that another process ended is refused here.
const EVERY: StdDuration = StdDuration::from_millis(500);

/// The sessions that ended within the lifetime of an access token. `sessions.revoked_at` is the truth.
#[derive(Default)]
pub(crate) struct Revoked(RwLock<HashMap<SessionId, DateTime<Utc>>>);

impl Revoked {
    pub(crate) fn contains(&self, id: SessionId) -> bool {
        self.0.read().unwrap_or_else(PoisonError::into_inner).contains_key(&id)
    }

    /// Refuses a session from now on.
    pub(crate) fn insert(&self, id: SessionId, now: DateTime<Utc>) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).insert(id, now);
    }

    /// Adds what the store says and forgets what is past use. The window is wider than a token's life by the leeway
    /// of clocks, so it also holds what was committed late.
    pub(crate) async fn refresh(&self, db: &Db, now: DateTime<Utc>) -> Result<(), StoreError> {
        let since = now - tokens::LIFETIME - Duration::minutes(2);
        let revoked = sessions::revoked_since(&mut db.reader().await?, since).await?;
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        for id in revoked {
            known.entry(id).or_insert(now);
        }
        known.retain(|_, at| *at >= since);
        Ok(())
    }
}

/// Keeps the set in step with what other processes do.
pub(crate) async fn watch(inner: Arc<Inner>, stop: CancellationToken) {
    let mut failing = false;
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(EVERY) => {}
        }
        match inner.revoked.refresh(&inner.db, inner.clock.now()).await {
            Ok(()) => failing = false,
            Err(error) if !failing => {
                failing = true;
                tracing::warn!(%error, "could not read which sessions have ended; sessions ended elsewhere may last up to 15 minutes");
            }
            Err(_) => {}
        }
    }
}
