//! Step 4 of 7: a consumer group reads the log, batch by batch: decode, apply, commit.
//! Before: `consumers/src/sequencer.rs`, or `consumers/src/relay.rs` where the log is Kafka. Next: `consumers/src/groups/`, which say what an event means.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use taskpost_common::{Envelope, Position};
use taskpost_ports::log::{Batch, Broken, Read, Subscription};
use taskpost_store::progress::Step;
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
                Some(Ok(Ok(read))) => {
                    let (batches, broken) = self.gather(read);
                    self.handle(batches, broken, &stop).await;
                }
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
        let passed = std::mem::take(&mut self.passed);
        if passed.is_empty() {
            return;
        }
        let steps: Vec<Step<'_>> = passed
            .iter()
            .map(|(partition, Passed { from, to, .. })| Step { partition, from: *from, to: *to })
            .collect();
        if let Err(fault) = record(&self.stage, G::NAME, Fence::Progress(&steps)).await {
            return self.failed(fault, stop).await;
        }
        for step in steps {
            self.subscription.done(step.partition, step.to);
        }
    }

    /// Adds to what was read whatever else is there, so that partitions share a transaction. A record that is no event
    /// is the last.
    fn gather(&mut self, first: Read) -> (Vec<Batch>, Option<Broken>) {
        let (mut batches, mut count) = (Vec::<Batch>::new(), 0);
        let mut next = Some(first);
        while let Some(read) = next {
            let batch = match read {
                Read::Events(batch) => batch,
                Read::Broken(broken) => return (batches, Some(broken)),
            };
            count += batch.events.len();
            match batches.iter_mut().find(|known| known.partition == batch.partition) {
                Some(known) => known.events.extend(batch.events),
                None => batches.push(batch),
            }
            next = if count < self.limit { self.subscription.more(self.limit - count) } else { None };
        }
        (batches, None)
    }

    async fn handle(&mut self, batches: Vec<Batch>, broken: Option<Broken>, stop: &CancellationToken) {
        if !batches.is_empty() {
            let started = Instant::now();
            let full = batches.iter().map(|batch| batch.events.len()).sum::<usize>() >= self.limit;
            let sorted = Sorted::new(&*self.group, batches);
            if let Err(fault) = self.apply(&sorted, stop).await {
                return self.failed(fault, stop).await;
            }
            self.outage.over();
            self.limit = if full { (self.limit * 2).min(MANY) } else { FEW };
            metrics::gauge!("taskpost_group_held", "group" => G::NAME).set(0.0);
            metrics::histogram!("taskpost_group_batch_seconds", "group" => G::NAME).record(started.elapsed());
        }
        // When it is stopping, events before it may not have been applied.
        if let Some(broken) = broken.filter(|_| !stop.is_cancelled()) {
            self.handle_broken(&broken, stop).await;
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

    /// Everything in one transaction; if that cannot be, one event after the other.
    async fn apply(&mut self, sorted: &Sorted, stop: &CancellationToken) -> Result<(), Fault> {
        if sorted.undecodable.is_empty() {
            let steps: Vec<Step<'_>> = sorted.parts.iter().map(Part::step).collect();
            match self.commit(sorted, &steps, &sorted.wanted).await {
                Err(Fault::Refused(reason)) => {
                    tracing::debug!(group = G::NAME, %reason, "a batch was refused; takes its events one by one");
                }
                done => return done,
            }
        }
        let mut left: Vec<Step<'_>> = sorted.parts.iter().map(Part::step).collect();
        for single in sorted.singles() {
            if stop.is_cancelled() {
                return Ok(());
            }
            let Some(rest) = left.iter_mut().find(|rest| sorted.holds(rest.partition, single.position()))
            else {
                continue;
            };
            self.apply_single(sorted, Step { to: single.position(), ..*rest }, &single).await?;
            rest.from = single.position();
        }
        left.retain(|rest| rest.from < rest.to);
        if left.is_empty() { Ok(()) } else { self.commit(sorted, &left, &[]).await }
    }

    async fn apply_single(
        &mut self,
        sorted: &Sorted,
        step: Step<'_>,
        single: &Single<'_>,
    ) -> Result<(), Fault> {
        match *single {
            Single::Wanted(decoded) => {
                let mut refusals = Vec::with_capacity(REFUSALS);
                while refusals.len() < REFUSALS {
                    match self.commit(sorted, &[step], std::slice::from_ref(decoded)).await {
                        Err(Fault::Refused(reason)) => refusals.push((self.stage.clock.now(), reason)),
                        done => return done,
                    }
                }
                self.bury(sorted, step, &decoded.envelope, refusals).await
            }
            Single::Undecodable(envelope, reason) => {
                self.bury(sorted, step, envelope, vec![(self.stage.clock.now(), reason.clone())]).await
            }
        }
    }

    /// One transaction of effects and progress. What happened before it stays. Without effects there is none: the
    /// progress is recorded with the next effects, or a moment later.
    async fn commit(&mut self, sorted: &Sorted, steps: &[Step<'_>], events: &[Decoded]) -> Result<(), Fault> {
        let recorded: Vec<Step<'_>> = steps.iter().map(|step| self.recorded(*step)).collect();
        match attempt(&self.stage, &*self.group, Fence::Progress(&recorded), events).await? {
            Done::Committed => steps.iter().for_each(|step| self.recorded_to(*step)),
            Done::Nothing => {
                for Step { partition, from, to } in recorded {
                    let passed = Passed { from, to, since: Instant::now() };
                    self.passed.entry(partition.to_owned()).or_insert(passed).to = to;
                }
            }
        }
        sorted.count::<G>(steps);
        Ok(())
    }

    /// The step from the progress as it is recorded.
    fn recorded<'a>(&self, step: Step<'a>) -> Step<'a> {
        self.passed.get(step.partition).map_or(step, |passed| Step { from: passed.from, ..step })
    }

    /// One transaction of a dead letter and the progress past its event.
    async fn bury(
        &mut self,
        sorted: &Sorted,
        step: Step<'_>,
        envelope: &Envelope,
        tries: Vec<Try>,
    ) -> Result<(), Fault> {
        let recorded = [self.recorded(step)];
        let fence = Fence::Progress(&recorded);
        bury_event(&self.stage, G::NAME, step.partition, fence, envelope, tries).await?;
        self.recorded_to(step);
        sorted.count::<G>(&[step]);
        Ok(())
    }

    fn recorded_to(&mut self, step: Step<'_>) {
        self.passed.remove(step.partition);
        self.subscription.done(step.partition, step.to);
    }

    /// Goes back to the recorded progress and waits; smaller batches then, in case this one was too much.
    async fn hold(&mut self, fault: &Fault, stop: &CancellationToken) {
        self.rewind();
        self.limit = (self.limit / 4).max(1);
        metrics::gauge!("taskpost_group_held", "group" => G::NAME).set(1.0);
        self.outage.wait(fault, stop).await;
    }
}

/// Batches with their events decoded, without those that the group does not want.
#[derive(Debug)]
struct Sorted {
    parts: Vec<Part>,
    /// In the order of the log, whatever their partitions.
    wanted: Vec<Decoded>,
    undecodable: Vec<(Envelope, String)>,
}

/// What of a partition is in hand.
#[derive(Debug)]
struct Part {
    partition: String,
    from: Position,
    to: Position,
    /// Where its events stand; in a partition of Kafka there are others between.
    positions: Vec<Position>,
}

impl Part {
    fn step(&self) -> Step<'_> {
        Step { partition: &self.partition, from: self.from, to: self.to }
    }
}

impl Sorted {
    fn new<G: Group>(group: &G, batches: Vec<Batch>) -> Self {
        let mut sorted = Self { parts: Vec::new(), wanted: Vec::new(), undecodable: Vec::new() };
        for batch in batches {
            sorted.parts.push(Part {
                from: batch.from,
                to: batch.to(),
                positions: batch.events.iter().map(|event| event.position).collect(),
                partition: batch.partition,
            });
            for envelope in batch.events {
                match decode(group, &envelope) {
                    Ok(Some(event)) => sorted.wanted.push(Decoded::new(G::NAME, envelope, event)),
                    Ok(None) => {}
                    Err(error) => sorted.undecodable.push((envelope, error.to_string())),
                }
            }
        }
        sorted.wanted.sort_unstable_by_key(|decoded| decoded.envelope.position);
        sorted
    }

    fn part(&self, partition: &str) -> Option<&Part> {
        self.parts.iter().find(|part| part.partition == partition)
    }

    /// Whether the event at this position is one of that partition.
    fn holds(&self, partition: &str, position: Position) -> bool {
        self.part(partition).is_some_and(|part| part.positions.binary_search(&position).is_ok())
    }

    /// Counts the events of these steps, which are done.
    fn count<G: Group>(&self, steps: &[Step<'_>]) {
        let counted = steps.iter().map(|step| {
            let part = self.part(step.partition);
            let below = |end: Position| {
                part.map_or(0, |part| part.positions.partition_point(|position| *position <= end))
            };
            below(step.to).saturating_sub(below(step.from))
        });
        let events = u64::try_from(counted.sum::<usize>()).unwrap_or_default();
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
