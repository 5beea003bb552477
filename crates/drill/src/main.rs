//! `cargo xtask drill`: breaks Taskpost and everything around it under load, and checks that nothing was lost.
#![expect(clippy::expect_used, clippy::panic, reason = "a case that meets a surprise stops there, and fails")]

mod case;
mod cases;
mod check;
mod expect;
mod history;
mod load;
mod peer;
mod proxies;
mod report;
mod run;
mod services;
mod stack;
mod watch;

use clap::{Parser, Subcommand};
use run::Wanted;

#[derive(Parser)]
#[command(name = "cargo xtask drill", about = "Breaks Taskpost under load, and checks that nothing was lost")]
struct Arguments {
    #[command(flatten)]
    wanted: Wanted,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// A process of the peer
    #[command(subcommand, hide = true)]
    Peer(peer::PeerCommand),
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    match arguments.command {
        None => run::run(&arguments.wanted).await,
        Some(Command::Peer(command)) => peer::serve(command).await,
    }
}
