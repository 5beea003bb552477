//! The engine without its channels: they are added one by one.

use std::time::Duration;

use taskpost_common::Clock;
use taskpost_ports::{Lease, Queue, Wakes};
use taskpost_store::Db;
use tokio::{sync::mpsc, task::JoinSet};
use tokio_util::sync::CancellationToken;

use crate::{
    attempt::Attempter,
    channels::Channel,
    dispatcher::Dispatcher,
    outcomes::{self, Outcome, Recorder},
    runner::Runner,
};

/// What every channel's deliveries have in common.
#[derive(Debug)]
pub struct Engine {
    /// The store.
    pub db: Db,
    /// Says which deliveries to take.
    pub queue: Queue,
    /// The bells of this process.
    pub wakes: Wakes,
    /// Time and ids.
    pub clock: Clock,
    /// The waits between the tries of a delivery.
    pub retry_delays: Vec<Duration>,
    /// How many deliveries each channel sends at once.
    pub concurrency: usize,
    /// How many of them go to one endpoint.
    pub per_endpoint: usize,
}

/// An engine that runs. Its tasks do not need it; it is only for adding channels.
#[derive(Debug)]
pub struct Running {
    engine: Engine,
    outcomes: mpsc::Sender<Outcome>,
    stop: CancellationToken,
}

impl Engine {
    /// Starts the recorder, which ends after the last channel has.
    pub fn start(self, tasks: &mut JoinSet<()>, stop: CancellationToken) -> Running {
        let (outcomes, waiting) = mpsc::channel(outcomes::WAITING);
        let recorder = Recorder::new(
            self.db.clone(),
            self.queue.clone(),
            self.wakes.clone(),
            self.clock.clone(),
            stop.clone(),
        );
        tasks.spawn(recorder.run(waiting));
        Running { engine: self, outcomes, stop }
    }
}

impl Running {
    /// Starts the dispatcher and the runner of a channel.
    pub fn add(&self, tasks: &mut JoinSet<()>, channel: impl Channel) -> &Self {
        let engine = &self.engine;
        let name = format!("dispatcher.{}", channel.name());
        let dispatcher = Dispatcher {
            channel: channel.name(),
            queue: engine.queue.clone(),
            lease: Lease::new(engine.db.clone(), engine.clock.clone(), name),
            wakes: engine.wakes.clone(),
            clock: engine.clock.clone(),
        };
        let attempter = Attempter {
            channel,
            clock: engine.clock.clone(),
            delays: engine.retry_delays.clone(),
            hurry: CancellationToken::new(),
        };
        let (queue, outcomes) = (engine.queue.clone(), self.outcomes.clone());
        let runner = Runner::new(attempter, queue, outcomes, engine.concurrency, engine.per_endpoint);
        tasks.spawn(dispatcher.run(self.stop.clone()));
        tasks.spawn(runner.run(self.stop.clone()));
        self
    }
}
