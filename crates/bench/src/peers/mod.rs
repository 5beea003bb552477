//! What else could do the work: each peer is copied into the bench's folder, built there once, and run as it says itself.

pub mod copy;
pub mod express;
pub mod queues;

use std::{path::Path, process::Command, time::Duration};

use anyhow::Result;

use crate::start::process::{Process, Ready};

/// How long installing and building a peer may take.
const BUILD: Duration = Duration::from_mins(10);

/// Runs a step of a build to its end.
async fn step(name: &'static str, command: Command, folder: &Path) -> Result<()> {
    let running = Process::start(name, command, folder, Ready::AtOnce).await?;
    running.ends(BUILD).await.map(drop)
}

/// A program with its words, in a folder.
fn command(program: &str, words: &[&str], folder: &Path) -> Command {
    let mut command = Command::new(program);
    command.args(words).current_dir(folder);
    command
}
