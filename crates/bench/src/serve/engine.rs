//! The product's delivery engine with a channel that sends nothing: how fast it claims, settles and acknowledges.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use serde::{Deserialize, Serialize};
use taskpost::{environment, logs, store};
use taskpost_common::{
    Clock, UserId,
    config::Config,
    notification::{self, Class},
};
use taskpost_ports::{Queue, Wakes, queue::RabbitSettings};
use taskpost_store::{
    Db, MAX_BATCH, StoreError,
    deliveries::{self, Delivery, NewDelivery},
};
use taskpost_workers::{
    Engine,
    channels::{AttemptResult, Channel, Report},
};
use tokio::{
    task::JoinSet,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

/// How long everything may take.
const PATIENCE: Duration = Duration::from_mins(3);
/// How often it is looked whether all is done. Looking costs the store little: what is unfinished has an index.
const LOOK: Duration = Duration::from_millis(10);
const NAME: notification::Channel = notification::Channel::Email;

/// What came of it, for whoever started this process.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Drained {
    /// How many.
    pub jobs: usize,
    /// From the start of the engine until the store had recorded all of them.
    pub seconds: f64,
    /// How long it took to tell the broker of them, where there is one.
    pub announced: f64,
}

/// Stores deliveries, has the broker hold them where there is one, drains them and prints how long that took.
pub async fn run(jobs: usize) -> Result<()> {
    let config = environment::config()?;
    logs::start(config.log_format);
    let drained = timeout(PATIENCE, drain(&config, jobs)).await.context("draining took too long")??;
    println!("{}", serde_json::to_string(&drained)?);
    Ok(())
}

async fn drain(config: &Config, jobs: usize) -> Result<Drained> {
    let (clock, wakes, stop) = (Clock::system(), Wakes::default(), CancellationToken::new());
    let (mut tasks, mut queue_tasks) = (JoinSet::new(), JoinSet::new());
    let (db, _) = store::migrate(config).await?;
    let queue = match &config.rabbitmq {
        None => Queue::local(db.clone(), clock.clone()),
        Some(url) => {
            let settings = RabbitSettings {
                url,
                instance: &config.instance,
                retry_delays: &config.retry_delays,
                prefetch: config.delivery_prefetch,
            };
            Queue::rabbitmq(&settings, db.clone(), clock.clone(), &mut queue_tasks, stop.clone())?
        }
    };
    fill(&db, &clock, jobs).await?;
    let began = Instant::now();
    if queue.is_shared() {
        announce(&db, &queue, &clock).await?;
    }
    let announced = began.elapsed().as_secs_f64();
    let engine = Engine {
        db: db.clone(),
        queue,
        wakes,
        clock,
        retry_delays: config.retry_delays.clone(),
        concurrency: config.delivery_concurrency,
        per_endpoint: config.webhooks.per_endpoint,
    };
    let began = Instant::now();
    engine.start(&mut tasks, stop.clone()).add(&mut tasks, Nowhere);
    while !deliveries::unfinished(&mut db.reader().await?).await?.is_empty() {
        sleep(LOOK).await;
    }
    let seconds = began.elapsed().as_secs_f64();
    stop.cancel();
    while tasks.join_next().await.is_some() {}
    while queue_tasks.join_next().await.is_some() {}
    db.close().await;
    Ok(Drained { jobs, seconds, announced })
}

/// Deliveries that are due now, each with a payload as large as those that the peers' jobs have.
async fn fill(db: &Db, clock: &Clock, jobs: usize) -> Result<()> {
    const PAYLOAD: &str = "{\"task_id\":123,\"user_id\":\"u-000123\",\"project_id\":\"p-0042\",\
        \"kind\":\"task.assigned\",\"message\":\"You were assigned task 123\",\"t0\":0}";
    let (user, now): (UserId, _) = (clock.id(), clock.now());
    let new = |_| NewDelivery {
        id: clock.id(),
        channel: NAME,
        class: Class::Normal,
        event_id: clock.id(),
        user_id: Some(user),
        endpoint_id: None,
        notification_id: None,
        payload: PAYLOAD.to_owned(),
        traceparent: None,
        due_at: now,
    };
    let mut left = jobs;
    while left > 0 {
        let some: Vec<NewDelivery> = (0..left.min(MAX_BATCH)).map(new).collect();
        let mut tx = db.begin().await?;
        deliveries::insert(&mut tx, &some, now).await?;
        tx.commit().await?;
        left -= some.len();
    }
    Ok(())
}

/// Tells the broker of all of them.
async fn announce(db: &Db, queue: &Queue, clock: &Clock) -> Result<()> {
    let end = Instant::now() + PATIENCE;
    loop {
        if queue.is_ready() {
            queue.publish_due(NAME).await?;
            let left = deliveries::unannounced(&mut db.reader().await?, NAME, clock.now(), 1).await?;
            if left.is_empty() {
                return Ok(());
            }
        }
        if Instant::now() >= end {
            bail!("RabbitMQ does not take the messages");
        }
        sleep(LOOK).await;
    }
}

/// A channel that has sent everything at once.
struct Nowhere;

impl Channel for Nowhere {
    type Target = ();

    fn name(&self) -> notification::Channel {
        NAME
    }

    fn timeout(&self) -> Duration {
        Duration::from_secs(10)
    }

    async fn targets(&self, deliveries: &[Delivery]) -> Result<Vec<()>, StoreError> {
        Ok(vec![(); deliveries.len()])
    }

    async fn send(&self, _delivery: &Delivery, (): ()) -> Report {
        AttemptResult::Sent { status_code: None, excerpt: None }.into()
    }
}
