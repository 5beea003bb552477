//! The product in a scratch place: as many of its processes as a row wants, and a user.

use std::{process::Command, time::Duration};

use anyhow::{Context as _, Result};
use taskpost_consumers::Standing;
use taskpost_store::{events, progress::relay};
use tokio::time::{Instant, sleep};

use super::{
    client::Client,
    place::{Place, Shape},
    process::{Process, Ready},
};
use crate::{
    bench::Bench,
    figure::{Outcome, Unit},
};

/// How long the product may take until it is well, and until it has caught up.
const PATIENCE: Duration = Duration::from_mins(1);
const CATCH_UP: Duration = Duration::from_mins(6);
/// How often it is asked.
const ASK: Duration = Duration::from_millis(20);
/// The user whose tasks they are.
const USER: &str = "ada";

/// A process of the product.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// `taskpost`: everything.
    All,
    /// `taskpost api`.
    Api,
    /// `taskpost consumers`.
    Consumers,
    /// `taskpost workers`.
    Workers,
    /// A part of the product: the API and nothing behind it.
    ApiAlone,
    /// A part of the product: all but what delivers.
    Intake,
    /// A part of the product: the sequencer and the relay.
    Movers,
}

impl Role {
    /// Its name in figures.
    const fn name(self) -> &'static str {
        match self {
            Self::All => "embedded",
            Self::Api => "api",
            Self::Consumers => "consumers",
            Self::Workers => "workers",
            Self::ApiAlone => "api_alone",
            Self::Intake => "intake",
            Self::Movers => "movers",
        }
    }

    /// Whether it takes requests.
    const fn is_api(self) -> bool {
        matches!(self, Self::All | Self::Api | Self::ApiAlone | Self::Intake)
    }

    fn command(self, bench: &Bench) -> Result<Command> {
        let hidden = |mode| {
            let mut command = Command::new(&bench.own);
            command.arg(mode);
            Ok(command)
        };
        match self {
            Self::All => Ok(Command::new(bench.taskpost()?)),
            Self::Api | Self::Consumers | Self::Workers => {
                let mut command = Command::new(bench.taskpost()?);
                command.arg(self.name());
                Ok(command)
            }
            Self::ApiAlone => hidden("serve-api"),
            Self::Intake => hidden("serve-intake"),
            Self::Movers => hidden("serve-movers"),
        }
    }
}

/// How a stack is started.
#[derive(Clone, Copy, Debug)]
pub struct Plan<'a> {
    /// On what.
    pub shape: Shape,
    /// Its processes, in this order; the API comes first.
    pub roles: &'a [Role],
    /// Variables of all of them.
    pub variables: &'a [(&'static str, &'static str)],
}

/// A running product.
#[derive(Debug)]
pub struct Stack<'a> {
    bench: &'a Bench,
    /// Its scratch place.
    pub place: Place,
    /// Its processes, with the memory each had when it was ready.
    pub processes: Vec<(Process, f64)>,
    /// A user of the first API.
    pub client: Client,
    variables: Vec<(&'static str, &'static str)>,
}

/// Starts a stack, does the work, and takes the stack down. How much memory each process had comes to the figures.
pub async fn with(
    bench: &Bench,
    plan: Plan<'_>,
    work: impl AsyncFnOnce(&mut Stack<'_>) -> Result<Outcome>,
) -> Result<Outcome> {
    let place = Place::new(bench, plan.shape).await?;
    let address = std::net::SocketAddr::from(([127, 0, 0, 1], 0));
    let (processes, variables) = (Vec::new(), plan.variables.to_vec());
    let mut stack = Stack { bench, place, processes, client: Client::new(address)?, variables };
    let result = match stack.begin(plan.roles).await {
        Ok(()) => work(&mut stack).await,
        Err(error) => Err(error),
    };
    let result = result.map(|outcome| stack.weighed(outcome)).map_err(|error| {
        let said: Vec<String> = stack.processes.iter().map(|(process, _)| process.last_words()).collect();
        error.context(said.join("\n"))
    });
    let taken_down = stack.finish().await;
    let outcome = result?;
    taken_down.map(|()| outcome)
}

impl Stack<'_> {
    async fn begin(&mut self, roles: &[Role]) -> Result<()> {
        if self.place.shape() == Shape::Full {
            let mut migrate = Command::new(self.bench.taskpost()?);
            self.prepare(&mut migrate);
            migrate.args(["migrate", "up"]);
            let process = Process::start("migrate", migrate, self.place.folder(), Ready::AtOnce).await?;
            process.ends(PATIENCE).await?;
        }
        for role in roles {
            self.add(*role).await?;
        }
        Ok(())
    }

    /// Starts one more process; the first API gets a user.
    pub async fn add(&mut self, role: Role) -> Result<()> {
        let mut command = role.command(self.bench)?;
        self.prepare(&mut command);
        let ready = if role == Role::Movers { Ready::Says("moves events") } else { Ready::Listens };
        let process = Process::start(role.name(), command, self.place.folder(), ready).await?;
        if let Some(address) = process.address {
            let client = Client::new(address)?;
            let what = format!("{} is well", role.name());
            until(&what, PATIENCE, async || Ok(client.is_well("/health/ready").await)).await?;
            let is_new = self.client.token.is_empty();
            if role.is_api() {
                self.client.address = address;
            }
            if role.is_api() && is_new {
                self.client.register(USER).await?;
            }
        }
        let idle = process.memory().map_or(0.0, |memory| memory.now);
        self.processes.push((process, idle));
        Ok(())
    }

    fn prepare(&self, command: &mut Command) {
        command.current_dir(self.place.folder()).env_clear().envs(self.place.variables());
        command.envs(self.variables.iter().copied());
    }

    /// Stops every process; the place stays.
    pub async fn stop(&mut self) -> Result<()> {
        let mut results = Vec::new();
        for (process, _) in self.processes.drain(..) {
            results.push(process.stop().await);
        }
        results.into_iter().collect()
    }

    /// Stops one process.
    pub async fn stop_one(&mut self, role: Role) -> Result<()> {
        let place = self.processes.iter().position(|(process, _)| process.name == role.name());
        let place = place.with_context(|| format!("{} does not run", role.name()))?;
        self.processes.remove(place).0.stop().await
    }

    /// A new token for the same user.
    pub async fn renew(&mut self) -> Result<()> {
        self.client.login(USER).await
    }

    /// How long it takes from now until every consumer group has applied every event, in seconds.
    pub async fn caught_up(&self) -> Result<f64> {
        let (began, db) = (Instant::now(), self.place.store().await?);
        let still =
            until("the groups have caught up", CATCH_UP, async || Ok(Standing::read(&db).await?.is_still()));
        let result = still.await;
        db.close().await;
        result.map(|()| began.elapsed().as_secs_f64())
    }

    /// How long it takes from now until every event has its position and Kafka has it, in seconds.
    pub async fn moved(&self) -> Result<f64> {
        let (began, db) = (Instant::now(), self.place.store().await?);
        let moved = until("all events are moved", CATCH_UP, async || {
            let mut reader = db.reader().await?;
            let (outbox, _) = events::outbox_backlog(&mut reader).await?;
            let (cursor, head) = (relay::cursor(&mut reader).await?, events::head(&mut reader).await?);
            Ok(outbox == 0 && cursor == head)
        });
        let result = moved.await;
        db.close().await;
        result.map(|()| began.elapsed().as_secs_f64())
    }

    /// How many MiB all its processes hold now.
    pub fn memory(&self) -> f64 {
        self.processes.iter().filter_map(|(process, _)| process.memory()).map(|memory| memory.now).sum()
    }

    fn weighed(&self, mut outcome: Outcome) -> Outcome {
        for (process, idle) in &self.processes {
            if let Some(memory) = process.memory() {
                outcome.add(format!("{}_idle_mib", process.name), *idle, Unit::Mib);
                outcome.add(format!("{}_peak_mib", process.name), memory.peak, Unit::Mib);
            }
        }
        outcome
    }

    async fn finish(mut self) -> Result<()> {
        let stopped = self.stop().await;
        let removed = self.place.remove().await;
        stopped.and(removed)
    }
}

/// Asks again and again until it is so.
pub async fn until(what: &str, patience: Duration, ask: impl AsyncFn() -> Result<bool>) -> Result<()> {
    let end = Instant::now() + patience;
    while !ask().await? {
        if Instant::now() >= end {
            anyhow::bail!("waited {patience:?} in vain until {what}");
        }
        sleep(ASK).await;
    }
    Ok(())
}

/// The variables of a place as a command of ours wants them.
pub fn in_place(bench: &Bench, place: &Place, mode: &str) -> Command {
    let mut command = Command::new(&bench.own);
    command.arg(mode).current_dir(place.folder()).env_clear().envs(place.variables());
    command
}

/// The address of a process that listens.
pub fn address(process: &Process) -> Result<std::net::SocketAddr> {
    process.address.with_context(|| format!("{} listens nowhere", process.name))
}
