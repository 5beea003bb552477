//! Beside step 2 of 7, on Kafka only: what was accepted with 202 is stored.
//! Before: `crates/tracker/src/ingest.rs`, which put the commands on the log. Next: `consumers/src/sequencer.rs`.
//!
//! Exact by primary key: a command that comes again finds its task, or the event of its deletion, or its dead letter, and
//! does nothing. So members need no fence between them, and offsets are only where reading starts.

mod attempt;
mod bury;
pub mod redrive;

use std::{
    ops::Range,
    time::{Duration, Instant},
};

use futures::{StreamExt as _, stream};
use taskpost_common::trace;
use taskpost_ports::log::ingest::{Commands, Ingest, Record};
use taskpost_store::MAX_BATCH;
use taskpost_tracker::ingest::{self, Command, Fate};
use tokio_util::sync::CancellationToken;
use tracing::{Span, info_span};

use crate::{Consumers, outage::Outage};
use attempt::{Trouble, attempt};
use bury::{Death, bury};

/// Records in a batch.
const BATCH: usize = 2_000;
/// Transactions at once: while one waits for the disk, another is made.
const AT_ONCE: usize = 2;
/// How often the store may refuse a command before it is a dead letter.
const REFUSALS: usize = 3;
/// How long a batch is tried again before the group is left, so that another process may have better luck. Far below the
/// time after which the group takes a silent member for dead.
const IN_HAND: Duration = Duration::from_mins(1);

/// Stores what is accepted until `stop`, and then finishes the batch in hand.
///
/// - A fault of the infrastructure holds it: the same batch is tried again later.
/// - A command that cannot be read or stored is a dead letter, and the next one goes on.
pub async fn run(stage: Consumers, ingest: Ingest, stop: CancellationToken) {
    let mut commands = ingest.commands();
    let mut ingestion = Ingestion { stage, outage: Outage::new("ingestion") };
    while !stop.is_cancelled() {
        let read = tokio::select! {
            biased;
            () = stop.cancelled() => break,
            read = commands.next(BATCH) => read,
        };
        match read {
            Ok(records) => ingestion.settle(&mut commands, records, &stop).await,
            Err(error) => ingestion.outage.wait(&error, &stop).await,
        }
    }
    commands.rewind().await;
}

struct Ingestion {
    stage: Consumers,
    outage: Outage,
}

impl Ingestion {
    /// Applies a batch, however often that has to be tried.
    async fn settle(&mut self, commands: &mut Commands, records: Vec<Record>, stop: &CancellationToken) {
        let (mut batch, since) = (Batch::decode(&self.stage, records), Instant::now());
        // They last as long as the batch is in hand.
        let _spans: Vec<Span> = batch.commands.iter().filter_map(span).collect();
        loop {
            match batch.apply(&self.stage).await {
                Ok(()) => {
                    commands.done();
                    return self.outage.over();
                }
                Err(reason) => self.outage.wait(&reason, stop).await,
            }
            if stop.is_cancelled() || since.elapsed() > IN_HAND {
                return commands.rewind().await;
            }
        }
    }
}

/// A batch of records on its way into the store.
struct Batch {
    records: Vec<Record>,
    /// What could be read of them, in order.
    commands: Vec<Command>,
    /// By command, the place of its record.
    places: Vec<usize>,
    /// Which commands are not done yet, a transaction each.
    left: Vec<Range<usize>>,
    /// What is to become a dead letter.
    deaths: Vec<Death>,
}

impl Batch {
    fn decode(stage: &Consumers, records: Vec<Record>) -> Self {
        let (mut commands, mut places, mut deaths) =
            (Vec::with_capacity(records.len()), Vec::new(), Vec::new());
        for (place, record) in records.iter().enumerate() {
            let read = record.value.as_deref().ok_or_else(|| "it has no value".to_owned());
            match read.and_then(Command::decode) {
                Ok(command) => {
                    commands.push(command);
                    places.push(place);
                }
                Err(reason) => deaths.push(Death::unreadable(place, record, stage.clock.now(), reason)),
            }
        }
        let starts = (0..commands.len()).step_by(MAX_BATCH);
        let left = starts.map(|start| start..(start + MAX_BATCH).min(commands.len())).collect();
        Self { records, commands, places, left, deaths }
    }

    /// Applies what is left. What was applied before a failure stays.
    async fn apply(&mut self, stage: &Consumers) -> Result<(), String> {
        let left = std::mem::take(&mut self.left);
        let commands = &self.commands;
        let trying = left.into_iter().map(async |range| {
            let outcome = attempt(stage, &commands[range.clone()]).await;
            (range, outcome)
        });
        let tried: Vec<_> = stream::iter(trying).buffer_unordered(AT_ONCE).collect().await;
        let mut held = None;
        for (range, outcome) in tried {
            let applied = match outcome {
                Ok(fates) => {
                    self.note(stage, range.start, fates);
                    Ok(())
                }
                Err(Trouble::Refused { reason, .. }) => {
                    tracing::debug!(reason, "commands were refused; takes them one by one");
                    self.apply_singles(stage, range).await
                }
                Err(Trouble::Held(reason)) => {
                    self.left.push(range);
                    Err(reason)
                }
            };
            held = applied.err().or(held);
        }
        match held {
            Some(reason) => Err(reason),
            None => bury(stage, &self.records, &mut self.deaths).await,
        }
    }

    /// So that a bad one fails alone.
    async fn apply_singles(&mut self, stage: &Consumers, range: Range<usize>) -> Result<(), String> {
        for index in range.clone() {
            match self.apply_single(stage, index).await {
                Ok(fates) => self.note(stage, index, fates),
                Err(Single::Refused(death)) => self.deaths.push(death),
                Err(Single::Held(reason)) => {
                    self.left.push(index..range.end);
                    return Err(reason);
                }
            }
        }
        Ok(())
    }

    async fn apply_single(&self, stage: &Consumers, index: usize) -> Result<Vec<Fate>, Single> {
        let command = &self.commands[index];
        let (mut tries, mut told) = (Vec::with_capacity(REFUSALS), None);
        while tries.len() < REFUSALS {
            match attempt(stage, std::slice::from_ref(command)).await {
                Ok(fates) => return Ok(fates),
                Err(Trouble::Held(reason)) => return Err(Single::Held(reason)),
                Err(Trouble::Refused { reason, problem }) => {
                    tries.push((stage.clock.now(), reason));
                    told = told.or(problem);
                }
            }
        }
        Err(Single::Refused(Death::of(self.places[index], command, tries, told)))
    }

    /// Notes what became of commands from the one at `index` on.
    fn note(&mut self, stage: &Consumers, index: usize, fates: Vec<Fate>) {
        let (mut stored, mut doubled) = (0, 0);
        for (index, fate) in (index..).zip(fates) {
            match fate {
                Fate::Stored => stored += 1,
                Fate::Doubled => doubled += 1,
                Fate::Refused(problem) => {
                    let tries = vec![(stage.clock.now(), ingest::in_words(&problem))];
                    let (place, command) = (self.places[index], &self.commands[index]);
                    self.deaths.push(Death::of(place, command, tries, Some(problem)));
                }
            }
        }
        metrics::counter!("taskpost_ingestion_stored_total").increment(stored);
        metrics::counter!("taskpost_ingestion_doubled_total").increment(doubled);
    }
}

/// How a command failed that was tried alone.
enum Single {
    Held(String),
    Refused(Death),
}

/// The work on a command, as its trace sees it; none while nobody collects traces.
fn span(command: &Command) -> Option<Span> {
    let span = info_span!(
        target: trace::TARGET,
        parent: None,
        "consume",
        otel.kind = "consumer",
        group = ingest::GROUP,
        task.id = %command.id,
    );
    trace::child_of(&span, command.traceparent());
    (!span.is_disabled()).then_some(span)
}
