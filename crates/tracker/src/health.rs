//! How the parts are.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use serde::Serialize;
use utoipa::ToSchema;

use crate::Tracker;

/// How long a part may take to answer.
const PATIENCE: Duration = Duration::from_secs(2);
/// Above this the committer's queue is as good as full.
const FULL: f64 = 0.9;

/// The state of the whole.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Health {
    /// The worst that matters.
    pub status: HealthStatus,
    /// Of this program.
    pub version: &'static str,
    /// Each part.
    pub checks: BTreeMap<&'static str, Check>,
}

/// How well something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum HealthStatus {
    /// All is well.
    Ok,
    /// It works, but something needs looking after.
    Degraded,
    /// It does not work.
    Down,
}

/// The state of a part.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Check {
    /// How well it is.
    pub status: HealthStatus,
    /// How long it took to answer.
    pub latency_ms: u64,
    /// What it runs on, or what is wrong and what to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

impl Health {
    /// Whether requests may be sent here: the store can be written and the committer has room.
    pub fn is_ready(&self) -> bool {
        self.status != HealthStatus::Down
    }
}

impl Tracker {
    /// Asks every part.
    pub async fn health(&self) -> Health {
        let mut checks = BTreeMap::new();
        checks.insert("store", self.check_store().await);
        checks.insert("committer", self.check_committer());
        let fixed =
            [("log", self.0.log.name()), ("queue", self.0.queue.name()), ("limiter", self.0.limiter.name())];
        for (part, name) in fixed {
            checks.insert(
                part,
                Check { status: HealthStatus::Ok, latency_ms: 0, detail: Some(name.to_owned()) },
            );
        }
        let down = checks.values().any(|check| check.status == HealthStatus::Down);
        let status = if down { HealthStatus::Down } else { HealthStatus::Ok };
        Health { status, version: env!("CARGO_PKG_VERSION"), checks }
    }

    async fn check_store(&self) -> Check {
        let started = Instant::now();
        let answer = tokio::time::timeout(PATIENCE, self.0.db.check_writable()).await;
        let latency_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
        let (status, detail) = match answer {
            Ok(Ok(())) => (HealthStatus::Ok, self.0.db.name()),
            Ok(Err(error)) => {
                tracing::debug!(%error, "the store is not writable");
                (HealthStatus::Down, "cannot be written; see the log, then DATABASE_URL or DATA_DIR")
            }
            Err(_) => (HealthStatus::Down, "does not answer within 2 s; see DATABASE_URL or DATA_DIR"),
        };
        Check { status, latency_ms, detail: Some(detail.to_owned()) }
    }

    fn check_committer(&self) -> Check {
        let full = self.0.committer.fullness() > FULL;
        let status = if full { HealthStatus::Down } else { HealthStatus::Ok };
        let detail =
            full.then(|| "the queue for new tasks is over 90 % full; COMMIT_QUEUE sets its size".to_owned());
        Check { status, latency_ms: 0, detail }
    }
}
