//! Time and ids as a parameter, so that tests own them.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use chrono::{DateTime, SubsecRound, Utc};
use uuid::{ContextV7, Timestamp, Uuid};

/// Where "now" and new ids come from. Cheap to clone; clones of a manual clock share one time.
#[derive(Clone, Debug)]
pub struct Clock(Source);

#[derive(Clone, Debug)]
enum Source {
    System,
    Manual { micros: Arc<AtomicI64>, ids: Arc<Mutex<ContextV7>> },
}

impl Clock {
    /// The machine's clock.
    pub const fn system() -> Self {
        Self(Source::System)
    }

    /// A clock that stands at `start` until [`Clock::advance`] moves it.
    pub fn manual(start: DateTime<Utc>) -> Self {
        Self(Source::Manual {
            micros: Arc::new(AtomicI64::new(start.timestamp_micros())),
            ids: Arc::new(Mutex::new(ContextV7::new())),
        })
    }

    /// The time in whole microseconds: Postgres keeps no more, and both stores must give back what was written.
    pub fn now(&self) -> DateTime<Utc> {
        match &self.0 {
            #[expect(clippy::disallowed_methods, reason = "the one place that reads the machine's clock")]
            Source::System => Utc::now().trunc_subsecs(6),
            Source::Manual { micros, .. } => {
                DateTime::from_timestamp_micros(micros.load(Ordering::SeqCst)).unwrap_or_default()
            }
        }
    }

    /// A new UUIDv7 (RFC 9562) of this moment; later ones of one process sort higher.
    pub fn id<T: From<Uuid>>(&self) -> T {
        match &self.0 {
            #[expect(clippy::disallowed_methods, reason = "the one place that makes ids")]
            Source::System => Uuid::now_v7().into(),
            Source::Manual { ids, .. } => {
                let now = self.now();
                let ids = ids.lock().unwrap_or_else(PoisonError::into_inner);
                let seconds = u64::try_from(now.timestamp()).unwrap_or_default();
                Uuid::new_v7(Timestamp::from_unix(&*ids, seconds, now.timestamp_subsec_nanos())).into()
            }
        }
    }

    /// Moves a manual clock forward; the machine's clock is not moved.
    pub fn advance(&self, by: Duration) {
        if let Source::Manual { micros, .. } = &self.0 {
            micros.fetch_add(i64::try_from(by.as_micros()).unwrap_or(i64::MAX), Ordering::SeqCst);
        }
    }
}
