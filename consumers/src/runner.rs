//! Step 4 of 7: a consumer group reads the log, batch by batch: decode, apply, commit.
//! Before: `consumers/src/sequencer.rs`, or `consumers/src/relay.rs` where the log is Kafka. Next: `consumers/src/groups/`, which say what an event means.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use taskpost_common::{Envelope, Position};
use taskpost_ports::log::{Batch, Broken, Read, Subscription};
use tokio_util::sync::CancellationToken;

use crate::{
    Consumers, Decoded, Group,
    attempt::{Done, Fault, Fence, attempt, record},
    bury::{Try, bury_broken, bury_event},
    group::decode,
    outage::Outage,
};

/// Events in a batch while there are few, and at most while full batches keep coming.
const FEW: usize = 500;
const MANY: usize = 2_000;
/// How often a handler may refuse an event before it is a dead letter.
const REFUSALS: usize = 3;
/// How long progress past events without effects may stay unrecorded: recording it costs a transaction each time.
const LAZY: Duration = Duration::from_millis(50);
/// Reading that takes longer than this is begun again, on another connection.
const READ: Duration = Duration::from_secs(30);

/// Runs one group over the log. Any number of processes may run the same group: its progress is the fence, so that
/// each event takes effect once; the slower ones only work in vain.
#[derive(Debug)]
pub struct Runner<G> {
    group: Arc<G>,
    stage: Consumers,
    subscription: Subscription,
    outage: Outage,
    limit: usize,
    /// By partition, how far events without effects were passed over since the progress was last recorded.
    passed: BTreeMap<String, Passed>,
}

#[derive(Debug)]
struct Passed {
    /// The progress as it is recorded.
    from: Position,
    to: Position,
    since: Instant,
}

impl<G: Group> Runner<G> {
    /// A runner that goes on where the group's progress stands.
    pub fn new(group: Arc<G>, stage: &Consumers) -> Self {
        Self {
            group,
            stage: stage.clone(),
            subscription: stage.log.subscribe(G::NAME),
            outage: Outage::new(format!("group {}", G::NAME)),
            limit: FEW,
            passed: BTreeMap::new(),
        }
    }

    /// Runs until `stop`, and then finishes the transaction in hand.
    ///
    /// - A fault of the infrastructure holds the group: everything is rolled back and tried again later.
    /// - A fault of an event makes a dead letter of that event, and the next one goes on.
    pub async fn run(mut self, stop: CancellationToken) {
        metrics::gauge!("taskpost_group_held", "group" => G::NAME).set(0.0);
        while !stop.is_cancelled() {
            let lazy = self.passed.values().map(|passed| LAZY.saturating_sub(passed.since.elapsed())).min();
            let next = tokio::time::timeout(READ, self.subscription.next(self.limit));
            let read = tokio::select! {
                biased;
                () = stop.cancelled() => break,
                () = tokio::time::sleep(lazy.unwrap_or_default()), if lazy.is_some() => None,
                read = next => Some(read),
            };
            match read {
                None => self.record_passed(&stop).await,
                Some(Ok(Ok(Read::Events(batch)))) => self.handle(batch, &stop).await,
                Some(Ok(Ok(Read::Broken(broken)))) => self.handle_broken(&broken, &stop).await,
                Some(Ok(Err(error))) => self.hold(&error.into(), &stop).await,
                // Nothing has happened for so long, or the connection is stuck.
                Some(Err(_)) => self.subscription.rewind(),
            }
        }
        self.record_passed(&stop).await;
        self.subscription.close().await;
    }

    /// Records the progress past events that had no effects.
    async fn record_passed(&mut self, stop: &CancellationToken) {
        while let Some((partition, Passed { from, to, .. })) = self.passed.pop_first() {
            let fence = Fence::Progress { partition: &partition, from, to };
            if let Err(fault) = record(&self.stage, G::NAME, fence).await {
                return self.failed(fault, stop).await;
            }
            self.subscription.done(&partition, to);
        }
    }

    async fn handle(&mut self, batch: Batch, stop: &CancellationToken) {
        let started = Instant::now();
        let full = batch.events.len() >= self.limit;
        let batch = SortedBatch::new(&*self.group, batch);
        match self.apply(&batch, stop).await {
            Ok(()) => {
                self.outage.over();
                self.limit = if full { (self.limit * 2).min(MANY) } else { FEW };
                metrics::gauge!("taskpost_group_held", "group" => G::NAME).set(0.0);
                metrics::histogram!("taskpost_group_batch_seconds", "group" => G::NAME)
                    .record(started.elapsed());
            }
            Err(fault) => self.failed(fault, stop).await,
        }
    }

    async fn handle_broken(&mut self, broken: &Broken, stop: &CancellationToken) {
        match bury_broken(&self.stage, G::NAME, broken).await {
            Ok(()) => {
                self.outage.over();
                self.subscription.buried(broken);
            }
            Err(fault) => self.failed(fault, stop).await,
        }
    }

    /// Reads again from the recorded progress: at once when somebody else was faster, else after a while.
    async fn failed(&mut self, fault: Fault, stop: &CancellationToken) {
        if matches!(fault, Fault::Fenced) {
            metrics::counter!("taskpost_group_fenced_total", "group" => G::NAME).increment(1);
            self.rewind();
        } else {
            self.hold(&fault, stop).await;
        }
    }

    fn rewind(&mut self) {
        self.passed.clear();
        self.subscription.rewind();
    }

    /// The whole batch in one transaction; if that cannot be, one event after the other.
    async fn apply(&mut self, batch: &SortedBatch, stop: &CancellationToken) -> Result<(), Fault> {
        if batch.undecodable.is_empty() {
            match self.commit(batch, batch.from, batch.to, &batch.wanted).await {
                Err(Fault::Refused(reason)) => {
                    tracing::debug!(group = G::NAME, %reason, "a batch was refused; takes its events one by one");
                }
                done => return done,
            }
        }
        let mut at = batch.from;
        for single in batch.singles() {
            if stop.is_cancelled() {
                return Ok(());
            }
            self.apply_single(batch, at, &single).await?;
            at = single.position();
        }
        if at < batch.to { self.commit(batch, at, batch.to, &[]).await } else { Ok(()) }
    }

    async fn apply_single(
        &mut self,
        batch: &SortedBatch,
        from: Position,
        single: &Single<'_>,
    ) -> Result<(), Fault> {
        let to = single.position();
        match *single {
            Single::Wanted(decoded) => {
                let mut refusals = Vec::with_capacity(REFUSALS);
                while refusals.len() < REFUSALS {
                    match self.commit(batch, from, to, std::slice::from_ref(decoded)).await {
                        Err(Fault::Refused(reason)) => refusals.push((self.stage.clock.now(), reason)),
                        done => return done,
                    }
                }
                self.bury(batch, from, &decoded.envelope, refusals).await
            }
            Single::Undecodable(envelope, reason) => {
                self.bury(batch, from, envelope, vec![(self.stage.clock.now(), reason.clone())]).await
            }
        }
    }

    /// One transaction of effects and progress. What happened before it stays. Without effects there is none: the
    /// progress is recorded with the next effects, or a moment later.
    async fn commit(
        &mut self,
        batch: &SortedBatch,
        from: Position,
        to: Position,
        events: &[Decoded],
    ) -> Result<(), Fault> {
        let recorded = self.recorded(&batch.partition, from);
        let fence = Fence::Progress { partition: &batch.partition, from: recorded, to };
        match attempt(&self.stage, &*self.group, fence, events).await? {
            Done::Committed => self.recorded_to(&batch.partition, to),
            Done::Nothing => {
                let passed = Passed { from: recorded, to, since: Instant::now() };
                self.passed.entry(batch.partition.clone()).or_insert(passed).to = to;
            }
        }
        batch.count::<G>(from, to);
        Ok(())
    }

    /// The progress of a partition as it is recorded, when the events up to `at` are done.
    fn recorded(&self, partition: &str, at: Position) -> Position {
        self.passed.get(partition).map_or(at, |passed| passed.from)
    }

    /// One transaction of a dead letter and the progress past its event.
    async fn bury(
        &mut self,
        batch: &SortedBatch,
        from: Position,
        envelope: &Envelope,
        tries: Vec<Try>,
    ) -> Result<(), Fault> {
        let (partition, to) = (&batch.partition, envelope.position);
        let fence = Fence::Progress { partition, from: self.recorded(partition, from), to };
        bury_event(&self.stage, G::NAME, partition, fence, envelope, tries).await?;
        self.recorded_to(partition, to);
        batch.count::<G>(from, to);
        Ok(())
    }

    fn recorded_to(&mut self, partition: &str, to: Position) {
        self.passed.remove(partition);
        self.subscription.done(partition, to);
    }

    /// Goes back to the recorded progress and waits; smaller batches then, in case this one was too much.
    async fn hold(&mut self, fault: &Fault, stop: &CancellationToken) {
        self.rewind();
        self.limit = (self.limit / 4).max(1);
        metrics::gauge!("taskpost_group_held", "group" => G::NAME).set(1.0);
        self.outage.wait(fault, stop).await;
    }
}

/// A batch with its events decoded, without those that the group does not want.
#[derive(Debug)]
struct SortedBatch {
    partition: String,
    from: Position,
    to: Position,
    /// Where its events stand; in a partition of Kafka there are others between.
    positions: Vec<Position>,
    wanted: Vec<Decoded>,
    undecodable: Vec<(Envelope, String)>,
}

impl SortedBatch {
    fn new<G: Group>(group: &G, batch: Batch) -> Self {
        let mut sorted = Self {
            from: batch.from,
            to: batch.to(),
            positions: batch.events.iter().map(|event| event.position).collect(),
            partition: batch.partition,
            wanted: Vec::with_capacity(batch.events.len()),
            undecodable: Vec::new(),
        };
        for envelope in batch.events {
            match decode(group, &envelope) {
                Ok(Some(event)) => sorted.wanted.push(Decoded::new(G::NAME, envelope, event)),
                Ok(None) => {}
                Err(error) => sorted.undecodable.push((envelope, error.to_string())),
            }
        }
        sorted
    }

    /// Counts the events above `from` and up to `to`, which are done.
    fn count<G: Group>(&self, from: Position, to: Position) {
        let below = |end: Position| self.positions.partition_point(|position| *position <= end);
        let events = u64::try_from(below(to).saturating_sub(below(from))).unwrap_or_default();
        metrics::counter!("taskpost_group_events_total", "group" => G::NAME).increment(events);
    }

    /// Its events in their order, each alone.
    fn singles(&self) -> Vec<Single<'_>> {
        let undecodable =
            self.undecodable.iter().map(|(envelope, reason)| Single::Undecodable(envelope, reason));
        let mut singles: Vec<Single<'_>> =
            self.wanted.iter().map(Single::Wanted).chain(undecodable).collect();
        singles.sort_unstable_by_key(Single::position);
        singles
    }
}

#[derive(Debug)]
enum Single<'a> {
    Wanted(&'a Decoded),
    Undecodable(&'a Envelope, &'a String),
}

impl Single<'_> {
    const fn position(&self) -> Position {
        match self {
            Self::Wanted(decoded) => decoded.envelope.position,
            Self::Undecodable(envelope, _) => envelope.position,
        }
    }
}
