//! Which sessions have ended, in memory, for as long as their access tokens could still be shown. The id of a token for
//! machines stands for a session of its own.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
    time::Duration as StdDuration,
};

use chrono::{DateTime, Duration, Utc};
use taskpost_common::SessionId;
use taskpost_ports::spread::Ended;
use taskpost_store::{Db, StoreError, sessions};
use tokio_util::sync::CancellationToken;

use crate::{Inner, tokens};

/// How soon a session that another process ended is refused here, when nobody tells.
const EVERY: StdDuration = StdDuration::from_millis(500);
/// The most hearsay that is kept; beyond it the store's word is waited for.
const MAX_HEARSAY: usize = 10_000;

/// The sessions that ended within the lifetime of an access token. `sessions.revoked_at` is the truth.
#[derive(Default)]
pub(crate) struct Revoked(RwLock<Sets>);

#[derive(Default)]
struct Sets {
    /// Sessions that ended, by the store, and since when they are known.
    known: HashMap<SessionId, DateTime<Utc>>,
    /// Sessions that somebody says have ended, until the store has been asked.
    hearsay: HashSet<SessionId>,
}

impl Revoked {
    pub(crate) fn contains(&self, id: SessionId) -> bool {
        let sets = self.read();
        sets.known.contains_key(&id) || sets.hearsay.contains(&id)
    }

    /// Refuses a session from now on.
    pub(crate) fn insert(&self, id: SessionId, now: DateTime<Utc>) {
        self.write().known.insert(id, now);
    }

    /// Refuses a session until the store has been asked.
    fn hear(&self, id: SessionId) {
        let hearsay = &mut self.write().hearsay;
        if hearsay.len() < MAX_HEARSAY {
            hearsay.insert(id);
        }
    }

    /// Adds what the store says and forgets what is past use. The window is wider than a token's life by the leeway
    /// of clocks, so it also holds what was committed late.
    pub(crate) async fn refresh(&self, db: &Db, now: DateTime<Utc>) -> Result<(), StoreError> {
        let since = now - tokens::LIFETIME - Duration::minutes(2);
        // Who told these had committed first, so the store now knows them if they are true.
        let told: Vec<SessionId> = self.read().hearsay.iter().copied().collect();
        let revoked = sessions::revoked_since(&mut db.reader().await?, since).await?;
        self.settle(revoked, &told, since, now);
        Ok(())
    }

    fn settle(&self, revoked: Vec<SessionId>, told: &[SessionId], since: DateTime<Utc>, now: DateTime<Utc>) {
        let mut sets = self.write();
        for id in revoked {
            sets.known.entry(id).or_insert(now);
        }
        sets.known.retain(|_, at| *at >= since);
        for id in told {
            sets.hearsay.remove(id);
        }
    }

    fn read(&self) -> RwLockReadGuard<'_, Sets> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Sets> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Believes what other processes tell, until [`watch`] has asked the store.
pub(crate) async fn hear(inner: Arc<Inner>, mut ended: Ended, stop: CancellationToken) {
    while let Some(id) = stop.run_until_cancelled(ended.next()).await {
        inner.machine_tokens.forget(id);
        inner.revoked.hear(id);
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

#[cfg(test)]
mod tests {
    use taskpost_common::Clock;

    use super::*;

    #[test]
    fn hearsay_holds_until_the_store_was_asked_after_it() {
        let (clock, revoked) = (Clock::system(), Revoked::default());
        let [true_word, false_word, later] = [(); 3].map(|()| clock.id::<SessionId>());
        let (now, since) = (clock.now(), clock.now() - Duration::minutes(17));
        revoked.hear(true_word);
        revoked.hear(false_word);
        assert!(revoked.contains(true_word) && revoked.contains(false_word));

        // The store was asked before `later` was heard, so it can say nothing of it.
        let told = [true_word, false_word];
        revoked.hear(later);
        revoked.settle(vec![true_word], &told, since, now);
        assert!(revoked.contains(true_word) && !revoked.contains(false_word) && revoked.contains(later));
    }

    #[test]
    fn hearsay_has_an_end() {
        let (clock, revoked) = (Clock::system(), Revoked::default());
        let ids: Vec<SessionId> = (0..=MAX_HEARSAY).map(|_| clock.id()).collect();
        for id in &ids {
            revoked.hear(*id);
        }
        assert_eq!(ids.iter().filter(|id| revoked.contains(**id)).count(), MAX_HEARSAY);
    }
}
