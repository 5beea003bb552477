//! The peer: the same service built the common way, so that a reader sees what ours buys. It is written as a
//! good engineer writes it on an ordinary day, in two ways, and is killed as ours is.
//!
//! ```text
//! outbox   POST /tasks ─ task + outbox, one commit ─▶ reader, `id > last` ─▶ queue ─▶ worker ─▶ receiver
//! publish  POST /tasks ─ task, one commit, then ──────────────────────────▶ queue ─▶ worker ─▶ receiver
//! ```

mod api;
mod kills;
mod load;
mod place;
mod process;
mod queue;
mod reader;
mod round;
mod store;
mod worker;

use std::{convert::Infallible, fmt::Write as _, time::Duration};

use anyhow::Context as _;
use clap::{Subcommand, ValueEnum};
use tokio::time::sleep;

use kills::Kills;

/// How long a supervisor waits before it starts again what has failed.
const AGAIN: Duration = Duration::from_millis(200);

/// The peer's processes, and its table alone.
#[derive(Debug, Subcommand)]
pub enum PeerCommand {
    /// Takes tasks
    Api(api::Options),
    /// Publishes what is in the outbox
    Reader(reader::Options),
    /// Tells the receiver
    Worker(worker::Options),
    /// Loads and kills the peer, and prints what became of its tasks
    Table {
        /// Where the load and the moments of the kills come from
        #[arg(long, default_value_t = 1)]
        seed: u64,
        /// Only rows whose name contains this, `outbox api` say
        #[arg(long)]
        only: Option<String>,
    },
}

/// How the peer tells others of a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Way {
    Outbox,
    Publish,
}

impl Way {
    const fn name(self) -> &'static str {
        match self {
            Self::Outbox => "outbox",
            Self::Publish => "publish",
        }
    }

    const fn system(self) -> &'static str {
        match self {
            Self::Outbox => "outbox, id > last",
            Self::Publish => "insert, then publish",
        }
    }
}

/// What became of the peer's tasks under one fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// Which way: "outbox, id > last" or "insert, then publish".
    pub system: String,
    /// What was killed: none, api, reader, worker, postgres or rabbitmq.
    pub fault: String,
    /// Tasks answered 201.
    pub acknowledged: usize,
    /// Tasks acknowledged or stored of which the receiver was never told.
    pub lost: usize,
    /// Tasks of which the receiver was told more than once.
    pub doubled: usize,
}

/// Loads and kills the peer, once for each row whose name, `peer outbox api` say, contains `only`. The services
/// are those of `TASKPOST_TEST_POSTGRES_URL` and `TASKPOST_TEST_RABBITMQ_URL`; two rows of each way kill them.
pub async fn run(seed: u64, only: Option<&str>) -> anyhow::Result<Vec<Row>> {
    let mut rows = Vec::new();
    for &way in Way::value_variants() {
        for kills in Kills::of(way) {
            let name = format!("peer {} {}", way.name(), kills.name());
            if only.is_none_or(|only| name.contains(only)) {
                rows.push(round::run(way, kills, seed).await.context(name)?);
            }
        }
    }
    Ok(rows)
}

/// The table, in Markdown; nothing without rows.
pub fn table(rows: &[Row]) -> String {
    if rows.is_empty() {
        return String::new();
    }
    let mut text = "| peer | killed | acknowledged | lost | doubled |\n|---|---|--:|--:|--:|\n".to_owned();
    for Row { system, fault, acknowledged, lost, doubled } in rows {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "| {system} | {fault} | {acknowledged} | {lost} | {doubled} |");
    }
    text
}

/// Runs one of the peer's processes until it is killed, or its table.
pub async fn serve(command: PeerCommand) -> anyhow::Result<()> {
    match command {
        PeerCommand::Api(options) => api::run(options).await,
        PeerCommand::Reader(options) => supervised(async || reader::run(&options).await).await,
        PeerCommand::Worker(options) => supervised(async || worker::run(&options).await).await,
        PeerCommand::Table { seed, only } => {
            print!("{}", table(&run(seed, only.as_deref()).await?));
            Ok(())
        }
    }
}

/// Starts what has failed again and again.
async fn supervised(work: impl AsyncFn() -> anyhow::Result<Infallible>) -> ! {
    loop {
        let Err(error) = work().await;
        eprintln!("{error:#}");
        sleep(AGAIN).await;
    }
}
