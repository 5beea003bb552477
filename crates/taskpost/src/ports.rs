//! Opens the ways to the brokers: each variable swaps one part alone.

use std::sync::Arc;

use anyhow::Context as _;
use taskpost_common::{Clock, config::Config};
use taskpost_ports::{Limiter, Log, Queue, Spread, Wakes, notify, queue::RabbitSettings};
use taskpost_store::Db;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::wire::Roles;

/// The parts that the roles of this process need.
pub(crate) struct Ports {
    pub log: Log,
    /// Of the role that delivers; others must not take its messages.
    pub queue: Option<Queue>,
    pub limiter: Arc<Limiter>,
    pub spread: Spread,
    pub wakes: Wakes,
}

impl Ports {
    /// Opens them without waiting for any broker; what they need runs in `tasks` until `stop`.
    pub(crate) fn open(
        config: &Config,
        roles: Roles,
        db: &Db,
        clock: &Clock,
        tasks: &mut JoinSet<()>,
        stop: &CancellationToken,
    ) -> anyhow::Result<Self> {
        let wakes = Wakes::default();
        if db.has_outbox() {
            tasks.spawn(notify::run(db.clone(), wakes.clone(), config.instance.clone(), stop.clone()));
        }
        let queue = roles.workers.then(|| queue(config, db, clock, tasks, stop)).transpose()?;
        let (limiter, spread) = limiter(config, roles, tasks, stop)?;
        Ok(Self { log: log(config, db, &wakes, clock)?, queue, limiter: Arc::new(limiter), spread, wakes })
    }
}

fn log(config: &Config, db: &Db, wakes: &Wakes, clock: &Clock) -> anyhow::Result<Log> {
    match &config.kafka {
        None => Ok(Log::local(db.clone(), wakes.clone(), clock.clone())),
        Some(kafka) => Ok(Log::kafka(kafka, &config.instance, db.clone(), clock.clone())?),
    }
}

fn queue(
    config: &Config,
    db: &Db,
    clock: &Clock,
    tasks: &mut JoinSet<()>,
    stop: &CancellationToken,
) -> anyhow::Result<Queue> {
    let Some(url) = &config.rabbitmq else { return Ok(Queue::local(db.clone(), clock.clone())) };
    let settings = RabbitSettings {
        url,
        instance: &config.instance,
        retry_delays: &config.retry_delays,
        prefetch: config.delivery_prefetch,
    };
    Queue::rabbitmq(&settings, db.clone(), clock.clone(), tasks, stop.clone()).context("RABBITMQ_URL")
}

fn limiter(
    config: &Config,
    roles: Roles,
    tasks: &mut JoinSet<()>,
    stop: &CancellationToken,
) -> anyhow::Result<(Limiter, Spread)> {
    match &config.redis {
        Some(url) if roles.api => Ok((
            Limiter::redis(url, &config.instance, &config.limits, tasks, stop.clone())
                .context("REDIS_URL")?,
            Spread::redis(url, &config.instance, tasks, stop.clone()).context("REDIS_URL")?,
        )),
        _ => Ok((Limiter::local(&config.limits), Spread::Local)),
    }
}
