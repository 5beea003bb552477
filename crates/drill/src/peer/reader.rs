//! The reader of the peer's outbox: publishes what is newer than the last it has seen.

use std::{convert::Infallible, time::Duration};

use futures::future::try_join_all;
use tokio::time::{MissedTickBehavior, interval};

use super::{
    queue::{Publisher, Queue},
    store::{self, Store},
};

/// How often it looks.
const POLL: Duration = Duration::from_millis(20);

/// How the reader is started.
#[derive(Debug, clap::Args)]
pub struct Options {
    #[command(flatten)]
    store: Store,
    #[command(flatten)]
    queue: Queue,
}

/// Reads until something fails. The place is stored after the confirms, so what failed is published again.
pub(super) async fn run(options: &Options) -> anyhow::Result<Infallible> {
    let publisher = Publisher::new(options.queue.clone());
    let mut connection = options.store.connect().await?;
    let mut last = store::last(&mut connection).await?;
    let mut polls = interval(POLL);
    polls.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        polls.tick().await;
        let events = store::events(&mut connection, last).await?;
        let Some(&(newest, _)) = events.last() else { continue };
        try_join_all(events.iter().map(|&(_, task)| publisher.publish(task))).await?;
        store::set_last(&mut connection, newest).await?;
        last = newest;
    }
}
