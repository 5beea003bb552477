//! Step 3 of the product's 7 by itself: the sequencer, and the relay where the log is Kafka.

use anyhow::{Result, bail};
use taskpost::{environment, logs, store};
use taskpost_common::Clock;
use taskpost_consumers::{Consumers, GROUPS, relay, sequencer};
use taskpost_ports::{Log, Wakes, notify};
use tokio::{
    signal::unix::{SignalKind, signal},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;

/// Moves events until SIGTERM.
pub async fn run() -> Result<()> {
    let config = environment::config()?;
    logs::start(config.log_format);
    let mut terminate = signal(SignalKind::terminate())?;
    let db = store::open(&config, Some("movers")).await?;
    if !db.has_outbox() {
        bail!("DATABASE_URL: on SQLite there is nothing to move");
    }
    let (wakes, clock, stop, mut tasks) =
        (Wakes::default(), Clock::system(), CancellationToken::new(), JoinSet::new());
    tasks.spawn(notify::run(db.clone(), wakes.clone(), config.instance.clone(), stop.clone()));
    tasks.spawn(sequencer::run(db.clone(), wakes.clone(), clock.clone(), stop.clone()));
    if let Some(kafka) = &config.kafka {
        let log = Log::kafka(kafka, &config.instance, db.clone(), clock.clone())?;
        if let Log::Kafka(kafka) = &log {
            let stage = Consumers { db, log: log.clone(), wakes, clock };
            tasks.spawn(relay::run(stage, kafka.clone(), GROUPS, stop.clone()));
        }
    }
    println!("It moves events");
    tokio::select! {
        _ = terminate.recv() => {}
        _ = tasks.join_next() => bail!("a mover ended by itself"),
    }
    stop.cancel();
    while tasks.join_next().await.is_some() {}
    Ok(())
}
