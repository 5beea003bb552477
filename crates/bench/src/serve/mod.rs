//! The hidden modes of this binary: what is measured and is no program by itself. Each takes its settings from the product's
//! variables.

pub mod bare;
pub mod engine;
pub mod movers;
pub mod nothing;

use anyhow::Result;
use clap::Subcommand;
use taskpost::{cli, wire::Roles};
use tokio::runtime::Handle;

/// A hidden mode.
#[derive(Subcommand, Clone, Copy, Debug)]
pub enum Part {
    /// Answer every request alike, and read none of it
    #[command(hide = true)]
    ServeNothing,
    /// Serve the product's API, with nothing behind it
    #[command(hide = true)]
    ServeApi,
    /// Serve the product without what delivers
    #[command(hide = true)]
    ServeIntake,
    /// Move events as the product does, with no groups that read them
    #[command(hide = true)]
    ServeMovers,
    /// Drain so many deliveries through the product's engine, by a channel that sends nothing
    #[command(hide = true)]
    DrainEngine {
        /// How many
        jobs: usize,
    },
    /// Publish, consume and acknowledge so many messages with the client library alone
    #[command(hide = true)]
    DrainQueue {
        /// How many
        jobs: usize,
    },
}

/// Runs it: until a signal, or to its end. The product's connections are served on `front`.
pub async fn serve(part: Part, front: &Handle) -> Result<()> {
    let alone = Roles { name: None, api: true, consumers: false, workers: false };
    match part {
        Part::ServeNothing => nothing::run().await,
        Part::ServeApi => cli::serve::run(alone, front).await,
        Part::ServeIntake => cli::serve::run(Roles { consumers: true, ..alone }, front).await,
        Part::ServeMovers => movers::run().await,
        Part::DrainEngine { jobs } => engine::run(jobs).await,
        Part::DrainQueue { jobs } => bare::run(jobs).await,
    }
}
