//! Bells between processes: on Postgres what rings here is told to the others by NOTIFY, and what they tell rings here.
//!
//! It only saves waiting. Whoever misses a ring finds the work at its next poll, so nothing here is worth an error.

use std::time::{Duration, Instant};

use taskpost_common::retry::Backoff;
use taskpost_store::{Channel, Db, Speaking, StoreError};
use tokio_util::sync::CancellationToken;

use crate::wake::{Listener, Wakes};

/// How long the others are told nothing after they were told something, and while it rings on and on: 200 times a second then.
const SHORT: Duration = Duration::from_millis(1);
const LONG: Duration = Duration::from_millis(5);
/// So many times in a row that it rang again within the short pause it rings on and on.
const STREAM: u32 = 16;
/// After so long a silence the listening connection is asked whether it still stands.
const SILENCE: Duration = Duration::from_secs(30);
/// How long the server may take for anything.
const PATIENCE: Duration = Duration::from_secs(3);

/// Joins the bells of this process with those of the others of this instance, until `stop`. On SQLite there are none.
pub async fn run(db: Db, wakes: Wakes, instance: String, stop: CancellationToken) {
    let Some(channel) = Channel::new(&db, &instance) else {
        return stop.cancelled().await;
    };
    // Everybody hears everything; by this name we know our own.
    let own = format!("{:016x}", rand::random::<u64>());
    tokio::select! {
        () = stop.cancelled() => {}
        () = hear(&channel, &wakes, &own) => {}
        () = tell(&channel, &wakes, &own) => {}
    }
}

/// Rings here what others tell.
async fn hear(channel: &Channel, wakes: &Wakes, own: &str) {
    let mut outage = Outage::new("does not hear other processes");
    loop {
        if let Err(failure) = listen(channel, wakes, own, &mut outage).await {
            outage.wait(&failure).await;
        }
    }
}

async fn listen(channel: &Channel, wakes: &Wakes, own: &str, outage: &mut Outage) -> Result<(), Failure> {
    let mut listening = tokio::time::timeout(PATIENCE, channel.listen()).await??;
    outage.over();
    // Whatever was told before this was missed.
    wakes.by_letter().into_iter().for_each(|(_, bell)| bell.ring_here());
    let heard = metrics::counter!("taskpost_notify_heard_total");
    loop {
        let Ok(told) = tokio::time::timeout(SILENCE, listening.next()).await else {
            tokio::time::timeout(PATIENCE, listening.probe()).await??;
            continue;
        };
        let told = told?;
        let Some((from, letters)) = told.split_once(' ') else { continue };
        if from != own {
            heard.increment(1);
            let bells = wakes.by_letter().into_iter().filter(|(letter, _)| letters.contains(*letter));
            bells.for_each(|(_, bell)| bell.ring_here());
        }
    }
}

/// Tells the others what rings here.
async fn tell(channel: &Channel, wakes: &Wakes, own: &str) {
    let mut rings = Rings::new(wakes);
    let mut outage = Outage::new("does not reach other processes");
    let mut speaking = None;
    let told = metrics::counter!("taskpost_notify_told_total");
    let mut in_a_row = 0_u32;
    loop {
        let rested = Instant::now();
        rings.wait().await;
        in_a_row = if rested.elapsed() < SHORT { in_a_row.saturating_add(1) } else { 0 };
        let telling = speak(channel, &mut speaking, format!("{own} {}", rings.letters));
        match tokio::time::timeout(PATIENCE, telling).await.map_err(Failure::from) {
            Ok(Ok(())) => {
                rings.letters.clear();
                outage.over();
                told.increment(1);
                tokio::time::sleep(if in_a_row < STREAM { SHORT } else { LONG }).await;
            }
            // The bells that rang are told once it works again.
            Ok(Err(error)) => outage.failed(&mut speaking, &error.into()).await,
            Err(failure) => outage.failed(&mut speaking, &failure).await,
        }
    }
}

async fn speak(channel: &Channel, speaking: &mut Option<Speaking>, what: String) -> Result<(), StoreError> {
    let speaking = match speaking {
        Some(speaking) => speaking,
        none => none.insert(channel.speak().await?),
    };
    speaking.tell(&what).await
}

/// What rang here, coalesced.
struct Rings {
    bells: [(char, Listener); 3],
    /// Which bells rang and were not told yet.
    letters: String,
}

impl Rings {
    fn new(wakes: &Wakes) -> Self {
        Self {
            bells: wakes.by_letter().map(|(letter, bell)| (letter, bell.listen_here())),
            letters: String::new(),
        }
    }

    /// Waits until there is something to tell.
    async fn wait(&mut self) {
        if self.letters.is_empty() {
            let [(_, one), (_, two), (_, three)] = &mut self.bells;
            let letter = tokio::select! {
                () = one.rung() => 0,
                () = two.rung() => 1,
                () = three.rung() => 2,
            };
            self.letters.extend(self.bells.get(letter).map(|(letter, _)| *letter));
        }
        for (letter, bell) in &mut self.bells {
            if bell.has_rung() && !self.letters.contains(*letter) {
                self.letters.push(*letter);
            }
        }
    }
}

#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("the server did not answer within {} s", PATIENCE.as_secs())]
    TimedOut(#[from] tokio::time::error::Elapsed),
}

/// Said once when it begins and once when it ends.
struct Outage {
    what: &'static str,
    backoff: Backoff,
    lasts: bool,
}

impl Outage {
    fn new(what: &'static str) -> Self {
        Self { what, backoff: Backoff::default(), lasts: false }
    }

    async fn failed(&mut self, speaking: &mut Option<Speaking>, failure: &Failure) {
        *speaking = None;
        self.wait(failure).await;
    }

    async fn wait(&mut self, failure: &Failure) {
        if !std::mem::replace(&mut self.lasts, true) {
            tracing::info!(error = %failure, "{} for now; it looks for work now and then instead", self.what);
        }
        tokio::time::sleep(self.backoff.wait()).await;
    }

    fn over(&mut self) {
        if std::mem::take(&mut self.lasts) {
            self.backoff.reset();
            tracing::info!("no longer {}", self.what);
        }
    }
}
