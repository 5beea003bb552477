//! Step 3b of 7, where the log is Kafka: events go from the store to Kafka, in the order of their positions.
//! Before: `consumers/src/sequencer.rs`. Next: `consumers/src/runner.rs`.
//!
//! One process relays, under a lease. The lease only saves work: a second relay puts the same events there in the same
//! order, and groups skip what comes twice. The cursor is the position up to which Kafka has acknowledged everything, so
//! nothing is passed over: what Kafka will not take stops the relay there, and alarms.
//!
//! Events are read by position and not handed over by the sequencer in memory: it would have to give every row back from
//! its one statement, for a read by primary key of what was written a moment ago.

mod session;
mod spans;

use std::time::Duration;

use taskpost_common::{Position, retry::Backoff};
use taskpost_ports::{
    Lease,
    log::{Kafka, LogError, kafka::Failure},
};
use taskpost_store::{StoreError, events};
use tokio_util::sync::CancellationToken;

use crate::{Consumers, outage::Outage};
use session::Session;

/// How often one that stands by looks; the lease itself asks the store less often.
const STAND_BY: Duration = Duration::from_millis(250);
/// How long giving the lease back may take.
const GIVE_BACK: Duration = Duration::from_secs(1);
/// A record that was refused is tried again after this, and later after that.
const SOON: Duration = Duration::from_secs(1);
const SLOWLY: Duration = Duration::from_mins(1);

/// Relays until `stop`, and then waits a little for what is under way. `groups` are those that read.
pub async fn run(stage: Consumers, kafka: Kafka, groups: &'static [&'static str], stop: CancellationToken) {
    let mut lease = Lease::new(stage.db.clone(), stage.clock.clone(), "relay");
    let outage = Outage::new("relay");
    let mut relay = Relay { stage, kafka, groups, outage, refused: None, lost: false, alarmed: false };
    metrics::gauge!("taskpost_relay_stuck").set(0.0);
    while !stop.is_cancelled() {
        match lease.held().await {
            Ok(true) => relay.work(&mut lease, &stop).await,
            Ok(false) => {
                // Whoever relays now finds out what is refused.
                relay.refused = None;
                relay.calm();
                tokio::select! {
                    () = stop.cancelled() => {}
                    () = tokio::time::sleep(STAND_BY) => {}
                }
            }
            Err(error) => relay.outage.wait(&error, &stop).await,
        }
    }
    if !matches!(tokio::time::timeout(GIVE_BACK, lease.give_back()).await, Ok(Ok(()))) {
        tracing::debug!("the relay's lease was not given back; it ends by itself");
    }
}

struct Relay {
    stage: Consumers,
    kafka: Kafka,
    groups: &'static [&'static str],
    outage: Outage,
    refused: Option<Refused>,
    /// It was seen that Kafka has lost records.
    lost: bool,
    /// An operator was told that somebody must do something.
    alarmed: bool,
}

/// An event that Kafka would not take.
struct Refused {
    position: Position,
    backoff: Backoff,
}

/// Why a session ends, or pauses.
#[derive(Debug, thiserror::Error)]
enum Trouble {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("the store took too long")]
    Slow(#[from] tokio::time::error::Elapsed),
    #[error(transparent)]
    Log(LogError),
    #[error("event {0} was refused: {1}")]
    Refused(Position, String),
    #[error("the producer has lost its place: {0}")]
    Lost(String),
    #[error("records that Kafka had acknowledged are gone: {0}")]
    Emptied(String),
    #[error("another relay is at work")]
    Fenced,
}

impl From<LogError> for Trouble {
    fn from(error: LogError) -> Self {
        match error {
            LogError::Store(error) => Self::Store(error),
            error => Self::Log(error),
        }
    }
}

impl From<Failure> for Trouble {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Refused(position, why) => Self::Refused(position, why),
            Failure::Lost(why) => Self::Lost(why),
            Failure::Emptied(why) => Self::Emptied(why),
        }
    }
}

impl Relay {
    /// A producer's life: from the stored cursor to a stop, the loss of the lease, or a failure.
    async fn work(&mut self, lease: &mut Lease, stop: &CancellationToken) {
        let trouble = match Session::begin(&self.stage, &self.kafka, self.groups, self.lost).await {
            Ok(mut session) => {
                self.lost = false;
                let ended = self.drive(&mut session, lease, stop).await;
                session.end().await;
                ended.err()
            }
            Err(trouble) => Some(trouble),
        };
        metrics::gauge!("taskpost_relay_in_flight").set(0.0);
        self.lost |= matches!(trouble, Some(Trouble::Emptied(_)));
        match trouble {
            None => {}
            Some(Trouble::Refused(position, why)) => self.refused(position, &why, stop).await,
            Some(Trouble::Log(LogError::Refused(why))) => {
                self.alarm(&why);
                self.outage.wait(&why, stop).await;
            }
            Some(trouble) => self.outage.wait(&trouble, stop).await,
        }
    }

    async fn drive(
        &mut self,
        session: &mut Session,
        lease: &mut Lease,
        stop: &CancellationToken,
    ) -> Result<(), Trouble> {
        session.alone = self.refused.as_ref().map(|refused| refused.position);
        if self.refused.is_none() {
            self.calm();
        }
        while !stop.is_cancelled() {
            let turn = async {
                let held = lease.held().await?;
                if held {
                    session.step(stop).await?;
                }
                Ok(held)
            };
            match turn.await {
                Ok(true) => {}
                Ok(false) => return Ok(()),
                // The producer is well: it keeps what is under way until the store is back.
                Err(trouble @ (Trouble::Store(_) | Trouble::Slow(_))) => {
                    self.outage.wait(&trouble, stop).await;
                    continue;
                }
                Err(trouble) => return Err(trouble),
            }
            if session.moves() {
                self.outage.over();
            }
            if self.refused.as_ref().is_some_and(|refused| session.cursor() >= refused.position) {
                self.refused = None;
                session.alone = None;
                self.calm();
            }
        }
        Ok(())
    }

    /// Stops at an event and waits. The first time it may have been refused for its neighbours: then it is sent alone.
    async fn refused(&mut self, position: Position, why: &str, stop: &CancellationToken) {
        let known = self.refused.as_mut().filter(|refused| refused.position == position);
        let Some(refused) = known else {
            tracing::debug!(%position, why, "an event was refused; sends it alone");
            self.refused = Some(Refused { position, backoff: Backoff::new(SOON, SLOWLY) });
            return;
        };
        let wait = refused.backoff.wait();
        let event = event_at(&self.stage, position).await;
        self.alarm(&format!(
            "KAFKA_BROKERS: Kafka will not take event {position} ({event}): {why}; nothing behind it reaches the groups until that is mended"
        ));
        tokio::select! {
            () = stop.cancelled() => {}
            () = tokio::time::sleep(wait) => {}
        }
    }

    /// Says that somebody must do something: once to the log, and to /health as long as it lasts.
    fn alarm(&mut self, why: &str) {
        self.kafka.stuck(Some(why.to_owned()));
        if !std::mem::replace(&mut self.alarmed, true) {
            metrics::gauge!("taskpost_relay_stuck").set(1.0);
            tracing::error!(reason = why, "the relay is stuck; mend the reason, and it goes on by itself");
        }
    }

    fn calm(&mut self) {
        if std::mem::take(&mut self.alarmed) {
            metrics::gauge!("taskpost_relay_stuck").set(0.0);
            self.kafka.stuck(None);
            tracing::info!("the relay is stuck no more");
        }
    }
}

/// What an operator is told of an event.
async fn event_at(stage: &Consumers, position: Position) -> String {
    let read = async {
        let mut reader = stage.db.reader().await?;
        events::after(&mut reader, Position(position.0 - 1), 1).await
    };
    match tokio::time::timeout(GIVE_BACK, read).await {
        Ok(Ok(events)) => events.first().map(|event| format!("{} {}", event.type_name, event.id)),
        _ => None,
    }
    .unwrap_or_else(|| "unknown".to_owned())
}
