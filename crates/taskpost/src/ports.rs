//! Opens the ways to the brokers: each variable swaps one part alone.

use std::sync::Arc;

use taskpost_common::{Clock, config::Config};
use taskpost_ports::{Limiter, Log, Queue, Wakes};
use taskpost_store::Db;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::wire::Roles;

/// The parts that the roles share.
pub(crate) struct Ports {
    pub log: Log,
    pub queue: Queue,
    pub limiter: Arc<Limiter>,
    pub wakes: Wakes,
}

impl Ports {
    /// Opens them without waiting for any broker; what they need runs in `tasks` until `stop`.
    pub(crate) fn open(
        config: &Config,
        _roles: Roles,
        db: &Db,
        clock: &Clock,
        _tasks: &mut JoinSet<()>,
        _stop: &CancellationToken,
    ) -> anyhow::Result<Self> {
        let wakes = Wakes::default();
        let log = Log::Local { db: db.clone(), wakes: wakes.clone() };
        let queue = Queue::local(db.clone(), clock.clone());
        let limiter = Arc::new(Limiter::local(&config.limits));
        Ok(Self { log, queue, limiter, wakes })
    }
}
