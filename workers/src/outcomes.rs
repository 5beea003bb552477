//! The recorder: the outcomes of all tries go through it, many in one transaction.

use std::{
    collections::{BTreeMap, HashSet},
    time::Duration,
};

use taskpost_common::{
    Cause, Clock, EndpointId,
    crash::{self, CrashPoint},
    trace,
};
use taskpost_ports::{Queue, Wakes, queue::Fate};
use taskpost_store::{
    Change, Db, StoreError, Tx,
    deliveries::{self, Attempt, Delivery, Settlement},
    endpoints,
};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep},
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, warn};

use crate::{
    channels::{Health, Verdict},
    outage::Outage,
};

/// How many outcomes are stored at once.
const BATCH: usize = 200;
/// How many may wait for the recorder; then tries wait for it.
pub(crate) const WAITING: usize = 2 * BATCH;
/// An endpoint without a success for so long is disabled.
const FAILING_TOO_LONG: chrono::Duration = chrono::Duration::days(5);
/// How long it goes on trying after the process was told to stop.
const LAST_CHANCE: Duration = Duration::from_secs(9);

/// What came of a try, or of a delivery that was not tried.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub delivery: Delivery,
    pub settlement: Settlement,
    /// How long it waits for another try.
    pub wait: Option<Duration>,
    pub health: Option<Health>,
}

impl Outcome {
    /// What it means to the queue, where `kept` says whether its lease still held.
    fn fate(&self, kept: bool) -> Fate {
        match (&self.settlement, self.wait) {
            (Settlement::Retry(_, due_at), Some(wait)) if kept => Fate::Retry { wait, due_at: *due_at },
            (Settlement::Bury(..), _) if kept => Fate::Buried,
            _ => Fate::Settled,
        }
    }
}

/// Stores outcomes.
#[derive(Debug)]
pub(crate) struct Recorder {
    db: Db,
    queue: Queue,
    wakes: Wakes,
    clock: Clock,
    outage: Outage,
    /// Endpoints that this process has noted as failing: a try that began before does not know.
    failing: HashSet<EndpointId>,
    /// When to give up; known once the process stops.
    stop: CancellationToken,
    until: Option<Instant>,
}

/// What a stored batch did.
struct Stored {
    /// For each outcome, whether its lease still held.
    kept: Vec<bool>,
    /// Whether endpoints were disabled.
    disabled: bool,
    /// Endpoints whose health was noted.
    noted: Vec<(EndpointId, Verdict)>,
}

impl Recorder {
    pub(crate) fn new(db: Db, queue: Queue, wakes: Wakes, clock: Clock, stop: CancellationToken) -> Self {
        let outage = Outage::of("recording outcomes");
        Self { db, queue, wakes, clock, outage, failing: HashSet::new(), stop, until: None }
    }

    /// Goes on until every sender is gone, and all they sent is stored.
    pub(crate) async fn run(mut self, mut outcomes: mpsc::Receiver<Outcome>) {
        let mut batch = Vec::with_capacity(BATCH);
        while outcomes.recv_many(&mut batch, BATCH).await > 0 {
            self.record(&batch).await;
            batch.clear();
        }
    }

    /// Stores a batch, however long the store is away. What the store refuses is found by storing one at a time.
    async fn record(&mut self, batch: &[Outcome]) {
        loop {
            match self.store(batch).await {
                Ok(stored) => {
                    self.outage.over();
                    crash::at(CrashPoint::NotifyRecorded);
                    return self.tell(batch, stored);
                }
                Err(error) if error.is_transient() => {
                    if !self.may_wait(&error).await {
                        // They are not lost: their leases end, and they fall due again.
                        self.let_go(batch);
                        return error!(count = batch.len(), %error, "could not record outcomes before the end");
                    }
                }
                Err(_) if batch.len() > 1 => {
                    for outcome in batch {
                        Box::pin(self.record(std::slice::from_ref(outcome))).await;
                    }
                    return;
                }
                Err(error) => return self.record_plain(batch, &error).await,
            }
        }
    }

    /// Waits before the next try; `false` when the process has no more time.
    async fn may_wait(&mut self, error: &StoreError) -> bool {
        let wait = self.outage.failed(error);
        if !self.stop.is_cancelled() {
            let _ = self.stop.run_until_cancelled(sleep(wait)).await;
            return true;
        }
        let until = *self.until.get_or_insert_with(|| Instant::now() + LAST_CHANCE);
        sleep(wait.min(until.saturating_duration_since(Instant::now()))).await;
        Instant::now() < until
    }

    /// Stores an outcome that the store refused, without the words that others gave us.
    async fn record_plain(&mut self, batch: &[Outcome], refused: &StoreError) {
        for outcome in batch {
            let id = outcome.delivery.id;
            let plain = [Outcome {
                delivery: outcome.delivery.clone(),
                settlement: plain(&outcome.settlement),
                wait: outcome.wait,
                health: None,
            }];
            match self.store(&plain).await {
                Ok(stored) => {
                    warn!(delivery.id = %id, error = %refused, "the store refused an outcome; its words were left out");
                    self.tell(&plain, stored);
                }
                // The lease ends, and the delivery falls due again.
                Err(error) => {
                    self.let_go(&plain);
                    error!(delivery.id = %id, %error, "could not record an outcome");
                }
            }
        }
    }

    async fn store(&self, batch: &[Outcome]) -> Result<Stored, StoreError> {
        let cause = Cause { correlation_id: self.clock.id(), ..Cause::default() };
        let change = Change { clock: &self.clock, cause: &cause };
        let outcomes: Vec<_> = batch.iter().map(|outcome| (&outcome.delivery, &outcome.settlement)).collect();
        let mut tx = self.db.begin().await?;
        let kept = deliveries::settle_many(&mut tx, change, &outcomes).await?;
        let (disabled, noted) = self.note_health(&mut tx, change, health_of(batch, &kept)).await?;
        tx.commit().await?;
        Ok(Stored { kept, disabled, noted })
    }

    /// Notes how endpoints do, where that is news, and disables those that are gone or fail for too long.
    async fn note_health(
        &self,
        tx: &mut Tx,
        change: Change<'_>,
        verdicts: BTreeMap<EndpointId, Health>,
    ) -> Result<(bool, Vec<(EndpointId, Verdict)>), StoreError> {
        let now = change.clock.now();
        let (mut disabled, mut noted) = (false, Vec::new());
        for (id, health) in verdicts {
            let healthy = health.verdict == Verdict::Healthy;
            if healthy && !health.was_failing && !self.failing.contains(&id) {
                continue;
            }
            let since = endpoints::note_health(tx, id, healthy, now).await?;
            noted.push((id, health.verdict));
            let reason = match health.verdict {
                Verdict::Gone => "gone: the receiver answered 410",
                Verdict::Failing if since.is_some_and(|since| now - since >= FAILING_TOO_LONG) => {
                    "failing: no delivery succeeded for 5 days"
                }
                Verdict::Failing | Verdict::Healthy => continue,
            };
            endpoints::disable(tx, change, id, reason).await?;
            disabled = true;
        }
        Ok((disabled, noted))
    }

    /// After the commit: remembers, counts, and wakes whoever has something to do now.
    fn tell(&mut self, batch: &[Outcome], stored: Stored) {
        for (id, verdict) in stored.noted {
            if verdict == Verdict::Healthy {
                self.failing.remove(&id)
            } else {
                self.failing.insert(id)
            };
        }
        let kept = batch.iter().zip(&stored.kept);
        self.queue.settled(kept.map(|(outcome, kept)| (&outcome.delivery, outcome.fate(*kept))));
        let (mut appended, mut due_later) = (stored.disabled, false);
        for (outcome, kept) in batch.iter().zip(stored.kept) {
            if !kept {
                metrics::counter!("taskpost_leases_lost_total").increment(1);
                debug!(delivery.id = %outcome.delivery.id, "an outcome came after its lease");
                continue;
            }
            self.count(outcome);
            appended |= matches!(outcome.settlement, Settlement::Bury(..));
            due_later |= matches!(outcome.settlement, Settlement::Retry(..) | Settlement::Snooze(_));
        }
        if appended {
            self.wakes.committed(self.db.has_outbox());
        }
        if due_later {
            self.wakes.deliveries.ring();
        }
    }

    /// Tells the queue of outcomes that could not be stored.
    fn let_go(&self, batch: &[Outcome]) {
        self.queue.settled(batch.iter().map(|outcome| (&outcome.delivery, Fate::Settled)));
    }

    fn count(&self, Outcome { delivery, settlement, .. }: &Outcome) {
        let channel = delivery.channel.as_str();
        let outcome = match settlement {
            Settlement::Delivered(_) => {
                let lag = (self.clock.now() - delivery.created_at).to_std().unwrap_or_default();
                metrics::histogram!("taskpost_delivery_lag_seconds", "channel" => channel).record(lag);
                "delivered"
            }
            Settlement::Retry(..) => "retried",
            Settlement::Snooze(_) => "snoozed",
            Settlement::Bury(_, reason) => {
                let trace_id = delivery.traceparent.as_deref().map(trace::id);
                warn!(delivery.id = %delivery.id, channel, reason, trace_id, "gave a delivery up");
                "buried"
            }
            Settlement::Cancel(reason) => {
                debug!(delivery.id = %delivery.id, channel, reason, "called a delivery back");
                "cancelled"
            }
        };
        metrics::counter!("taskpost_deliveries_total", "channel" => channel, "outcome" => outcome)
            .increment(1);
    }
}

/// The last word on each endpoint, of outcomes that count; "gone" is always the last. Sorted, as locks are taken in order.
fn health_of(batch: &[Outcome], kept: &[bool]) -> BTreeMap<EndpointId, Health> {
    let mut verdicts: BTreeMap<EndpointId, Health> = BTreeMap::new();
    let news = batch.iter().zip(kept).filter(|(_, kept)| **kept).filter_map(|(outcome, _)| outcome.health);
    for health in news {
        let known = verdicts.entry(health.endpoint).or_insert(health);
        let verdict = if known.verdict == Verdict::Gone { Verdict::Gone } else { health.verdict };
        *known = Health { verdict, was_failing: known.was_failing || health.was_failing, ..health };
    }
    verdicts
}

/// The same settlement in our own words.
fn plain(settlement: &Settlement) -> Settlement {
    const WORDS: &str = "what failed could not be stored";
    let wordless = |attempt: &Attempt| Attempt {
        error: attempt.error.as_ref().map(|_| WORDS.to_owned()),
        excerpt: None,
        ..attempt.clone()
    };
    match settlement {
        Settlement::Delivered(attempt) => Settlement::Delivered(wordless(attempt)),
        Settlement::Retry(attempt, at) => Settlement::Retry(wordless(attempt), *at),
        Settlement::Bury(attempt, _) => Settlement::Bury(wordless(attempt), WORDS.to_owned()),
        Settlement::Snooze(at) => Settlement::Snooze(*at),
        Settlement::Cancel(reason) => Settlement::Cancel(reason.clone()),
    }
}
