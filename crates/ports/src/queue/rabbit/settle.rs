//! Acknowledging what was claimed, after its outcome is stored: by a task of its own, so that nobody waits for the broker.
//!
//! Nothing here can harm a delivery: the row rules. A message that is not acknowledged comes again and is claimed by
//! nobody; one that is not published is announced when its row falls due.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use chrono::{DateTime, SecondsFormat, Utc};
use futures::future::join_all;
use lapin::{
    Acker,
    options::{BasicAckOptions, BasicRejectOptions},
};
use taskpost_common::{
    Clock, DeliveryId,
    crash::{self, CrashPoint},
};
use taskpost_store::{
    Db,
    deliveries::{self, Delivery},
};
use tokio::{sync::mpsc, time::timeout};
use tracing::debug;

use super::{
    super::Fate,
    closing::Closing,
    inbox::Received,
    publisher::{Message, Publisher},
    topology::Topology,
};

/// How many settlements may wait; more are let go, and their messages come again.
pub(super) const WAITING: usize = 10_000;
/// How many are settled in one go.
const BATCH: usize = 500;
/// How long acknowledging may take.
const ACKNOWLEDGE: Duration = Duration::from_secs(5);

/// The messages of what this process has claimed.
#[derive(Clone, Debug, Default)]
pub(super) struct Claimed(Arc<Mutex<HashMap<(DeliveryId, i64), Claim>>>);

#[derive(Debug)]
struct Claim {
    acker: Acker,
    until: DateTime<Utc>,
}

impl Claimed {
    /// Keeps the message of a delivery until it is settled, or its lease has ended.
    pub(super) fn keep(&self, delivery: &Delivery, message: Received) {
        let claim = Claim { acker: message.acker, until: delivery.due_at };
        self.claims().insert((delivery.id, delivery.lease), claim);
    }

    fn take(&self, delivery: &Delivery) -> Option<Acker> {
        self.claims().remove(&(delivery.id, delivery.lease)).map(|claim| claim.acker)
    }

    /// Takes the messages whose leases have ended: their deliveries are announced anew.
    pub(super) fn take_ended(&self, now: DateTime<Utc>) -> Vec<Acker> {
        self.claims().extract_if(|_, claim| claim.until <= now).map(|(_, claim)| claim.acker).collect()
    }

    fn claims(&self) -> MutexGuard<'_, HashMap<(DeliveryId, i64), Claim>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is to be done with a message.
#[derive(Debug)]
pub(super) enum Settlement {
    Acknowledge(Acker),
    SetAside(Acker),
    /// To be published for another try, then marked in the row with this lease, then acknowledged.
    Retry {
        message: Message,
        lease: i64,
        acker: Acker,
    },
}

/// What a fate does to the message of a delivery; nothing if this process has none.
pub(super) fn settlement(
    claimed: &Claimed,
    topology: &Topology,
    delivery: &Delivery,
    fate: Fate,
) -> Option<Settlement> {
    let acker = claimed.take(delivery)?;
    Some(match fate {
        Fate::Settled => Settlement::Acknowledge(acker),
        Fate::Buried => Settlement::SetAside(acker),
        Fate::Retry { wait, due_at } => match topology.retry(wait) {
            None => Settlement::Acknowledge(acker),
            Some(exchange) => {
                let message = Message {
                    id: delivery.id,
                    exchange,
                    key: Topology::key(delivery.channel, delivery.class),
                    attempt: delivery.attempt + 2,
                    not_before: Some(due_at.to_rfc3339_opts(SecondsFormat::Micros, true)),
                    traceparent: delivery.traceparent.clone(),
                };
                Settlement::Retry { message, lease: delivery.lease, acker }
            }
        },
    })
}

/// The task that settles.
pub(super) struct Settler {
    pub db: Db,
    pub clock: Clock,
    pub publisher: Arc<Publisher>,
    pub closing: Closing,
}

impl Settler {
    /// Goes on until the end.
    pub(super) async fn run(self, mut waiting: mpsc::Receiver<Settlement>) {
        let mut batch = Vec::with_capacity(BATCH);
        loop {
            tokio::select! {
                biased;
                count = waiting.recv_many(&mut batch, BATCH) => if count == 0 { return },
                () = self.closing.done() => return,
            }
            let count = batch.len();
            self.settle(batch.drain(..)).await;
            self.closing.settled(count);
        }
    }

    async fn settle(&self, batch: impl Iterator<Item = Settlement>) {
        let (mut done, mut set_aside, mut retries) = (Vec::new(), Vec::new(), Vec::new());
        for settlement in batch {
            match settlement {
                Settlement::Acknowledge(acker) => done.push(acker),
                Settlement::SetAside(acker) => set_aside.push(acker),
                Settlement::Retry { message, lease, acker } => retries.push((message, lease, acker)),
            }
        }
        acknowledge(done).await;
        self.set_aside(set_aside).await;
        if !retries.is_empty() {
            self.retry(retries).await;
        }
    }

    /// A fresh message into the queue of its delay, then the row, then the acknowledgement of the old one.
    async fn retry(&self, retries: Vec<(Message, i64, Acker)>) {
        let mut messages = Vec::with_capacity(retries.len());
        let (mut leases, mut ackers) = (Vec::new(), Vec::new());
        for (message, lease, acker) in retries {
            leases.push((message.id, lease));
            messages.push(message);
            ackers.push(acker);
        }
        let mut published = self.publisher.publish(&messages).await.into_iter();
        crash::at(CrashPoint::RetryPublished);
        leases.retain(|_| published.next().unwrap_or(false));
        if let Err(error) = deliveries::mark_queued(&self.db, &leases, self.clock.now()).await {
            // Both the broker and the dispatcher announce them, which does no harm.
            debug!(%error, "could not note what waits for another try on the broker");
        }
        acknowledge(ackers).await;
    }

    async fn set_aside(&self, ackers: Vec<Acker>) {
        let options = BasicRejectOptions { requeue: false };
        let all = join_all(ackers.iter().map(|acker| acker.reject(options)));
        count_lost(&timeout(ACKNOWLEDGE, all).await.unwrap_or_default());
    }
}

/// Acknowledges messages. Those of a connection that is gone come again, and are claimed by nobody.
pub(super) async fn acknowledge(ackers: Vec<Acker>) {
    let all = join_all(ackers.iter().map(|acker| acker.ack(BasicAckOptions::default())));
    count_lost(&timeout(ACKNOWLEDGE, all).await.unwrap_or_default());
}

/// `Ok(false)` and `Err` both mean that the broker was not told.
fn count_lost(answers: &[lapin::Result<bool>]) {
    let lost = answers.iter().filter(|answer| !matches!(answer, Ok(true))).count();
    if lost > 0 {
        debug!(lost, "acknowledgements came after the end of their connection");
    }
}
