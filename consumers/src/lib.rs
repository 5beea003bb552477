//! Steps 3 to 5 of 7: events get their positions, are read in order, and become notifications and deliveries.
//!
//! Before: `crates/tracker/src/committer.rs`, which commits tasks with their events. Here, in order:
//! [`sequencer`] (outbox → `events`), [`relay`] (`events` → Kafka, where the log is that), [`runner`] (log → decode →
//! apply → commit) and [`groups`] (what an event means). Next: `workers/src/dispatcher.rs`, which takes up the deliveries.

mod attempt;
mod bury;
mod gauges;
pub mod group;
pub mod groups;
mod housekeeping;
pub mod ingestion;
mod outage;
pub mod redrive;
pub mod relay;
mod reminders;
pub mod replay;
pub mod runner;
pub mod sequencer;
mod standing;

use std::sync::Arc;

use taskpost_common::{Clock, UserId};
use taskpost_ports::{Log, Wakes};
use taskpost_store::{Db, Viewer};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

pub use group::{Applied, ApplyError, Decoded, Group};
use groups::{Notifier, Projections, Webhooks};
pub use runner::Runner;
pub use standing::Standing;

/// The consumer groups that read the log.
pub const GROUPS: &[&str] = &[Notifier::NAME, Webhooks::NAME, Projections::NAME];

/// Consumers see everything; whom they tell is decided for each recipient.
const EVERYTHING: Viewer = Viewer { user_id: UserId(Uuid::nil()), admin: true };

/// What the consumers work with. Any number of processes may run them at once: positions are fenced by the store,
/// and effects by each group's progress.
#[derive(Clone, Debug)]
pub struct Consumers {
    /// The store.
    pub db: Db,
    /// The events.
    pub log: Log,
    /// The bells of this process.
    pub wakes: Wakes,
    /// Time and ids.
    pub clock: Clock,
}

impl Consumers {
    /// Starts every loop as a task of its own. On `stop` each finishes what it holds and ends; one that ends before
    /// has panicked.
    pub fn start(self, tasks: &mut JoinSet<()>, stop: &CancellationToken) {
        if self.db.has_outbox() {
            let (db, wakes, clock) = (self.db.clone(), self.wakes.clone(), self.clock.clone());
            tasks.spawn(sequencer::run(db, wakes, clock, stop.clone()));
        }
        if let Log::Kafka(kafka) = &self.log {
            tasks.spawn(relay::run(self.clone(), kafka.clone(), GROUPS, stop.clone()));
        }
        self.start_group(Notifier::new(self.clock.clone()), tasks, stop);
        self.start_group(Webhooks::new(self.clock.clone()), tasks, stop);
        self.start_group(Projections, tasks, stop);
        if let Some(ingest) = self.log.ingest() {
            tasks.spawn(ingestion::run(self.clone(), ingest.clone(), stop.clone()));
        }
        tasks.spawn(ingestion::redrive::run(self.clone(), stop.clone()));
        tasks.spawn(gauges::run(self.clone(), GROUPS, stop.clone()));
        tasks.spawn(reminders::run(self.clone(), stop.clone()));
        tasks.spawn(housekeeping::run(self, stop.clone()));
    }

    fn start_group<G: Group>(&self, group: G, tasks: &mut JoinSet<()>, stop: &CancellationToken) {
        let group = Arc::new(group);
        tasks.spawn(Runner::new(Arc::clone(&group), self).run(stop.clone()));
        tasks.spawn(redrive::run(group, self.clone(), stop.clone()));
    }
}
