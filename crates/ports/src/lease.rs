//! Leadership: of many processes one does what only one needs to do, and another takes over when it is gone.

use std::time::{Duration, Instant};

use taskpost_common::Clock;
use taskpost_store::{Db, StoreError, leases};
use uuid::Uuid;

/// How long a lease lasts: what the death of its holder costs at most.
const LASTS: Duration = Duration::from_secs(5);
/// How often it is renewed, and how often somebody else's is asked about.
const EVERY: Duration = Duration::from_millis(1_500);

/// A lease. It saves work only: a process that was stopped past its end goes on for a moment beside its successor, so
/// what must not happen twice is fenced elsewhere.
#[derive(Debug)]
pub struct Lease {
    db: Db,
    clock: Clock,
    name: String,
    holder: Uuid,
    /// When it was last asked for, and whether it was had.
    asked: Option<(Instant, bool)>,
}

impl Lease {
    /// The lease of this name, not yet held.
    pub fn new(db: Db, clock: Clock, name: impl Into<String>) -> Self {
        let holder = clock.id();
        Self { db, clock, name: name.into(), holder, asked: None }
    }

    /// Whether this process holds it; takes or renews it when that is due, so that calling it often costs nothing. On
    /// SQLite there is one process, which holds everything.
    pub async fn held(&mut self) -> Result<bool, StoreError> {
        if !self.db.has_outbox() {
            return Ok(true);
        }
        if let Some((at, had)) = self.asked
            && at.elapsed() < EVERY
        {
            return Ok(had);
        }
        let now = self.clock.now();
        let asked = Instant::now();
        let until = now + LASTS;
        let had = leases::take(&self.db, &self.name, self.holder, now, until).await?;
        self.asked = Some((asked, had));
        Ok(had)
    }

    /// Gives it back, so that the next one need not wait for its end.
    pub async fn give_back(&mut self) -> Result<(), StoreError> {
        match self.asked.take() {
            Some((_, true)) => leases::give_back(&self.db, &self.name, self.holder).await,
            _ => Ok(()),
        }
    }
}
