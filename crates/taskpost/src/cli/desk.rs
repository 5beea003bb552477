//! The use cases in this process, for a command that changes something.

use std::sync::Arc;

use anyhow::anyhow;
use taskpost_common::{Clock, config::Config};
use taskpost_ports::{Limiter, Log, Spread, Wakes};
use taskpost_store::Db;
use taskpost_tracker::{Error, Parts, Tracker};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::{secrets, store};

/// The tracker on the store of an instance, which may be running: what a command does is an event for it like any other.
pub(super) struct Desk {
    pub(super) tracker: Tracker,
    db: Db,
    tasks: JoinSet<()>,
    stop: CancellationToken,
}

impl Desk {
    /// Opens the store; a new instance's is made.
    pub(super) async fn open(config: &Config) -> anyhow::Result<Self> {
        let db = store::open_or_make(config).await?;
        let (clock, wakes) = (Clock::system(), Wakes::default());
        let (mut tasks, stop) = (JoinSet::new(), CancellationToken::new());
        let parts = Parts {
            db: db.clone(),
            log: Log::local(db.clone(), wakes.clone(), clock.clone()),
            queue: None,
            limiter: Arc::new(Limiter::local(&config.limits)),
            spread: Spread::Local,
            wakes,
            clock,
            secrets: vec![secrets::throwaway()],
        };
        let tracker = Tracker::start(parts, config, &mut tasks, stop.clone()).await?;
        Ok(Self { tracker, db, tasks, stop })
    }

    /// Finishes what was begun.
    pub(super) async fn close(mut self) {
        self.tracker.drain().await;
        self.stop.cancel();
        while self.tasks.join_next().await.is_some() {}
        self.db.close().await;
    }
}

/// In words for who typed the command: each value that is not right, by the option of its name.
pub(super) fn explain(error: Error) -> anyhow::Error {
    match error {
        Error::Invalid(faults) => {
            let said = |fault: &taskpost_common::problem::FieldError| {
                format!("--{}: {}", fault.pointer.trim_start_matches('/'), fault.detail)
            };
            anyhow!(faults.iter().map(said).collect::<Vec<_>>().join("; "))
        }
        Error::Store(error) => store::explain(&error, "the store"),
        error => error.into(),
    }
}
