//! Signals to whole servers. Who they go to is looked up each time, never remembered.

use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use super::processes::{Processes, lives};
use crate::process;

/// How long a signal may take to show.
const PATIENCE: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(20);

/// Kills all processes without a warning and returns when they are gone.
pub fn kill(processes: impl Fn() -> Result<Processes>) -> Result<()> {
    // A stopped process starts no others while the rest is killed.
    let mut targets = stop_all(&processes)?;
    let deadline = Instant::now() + PATIENCE;
    while !targets.is_empty() {
        if Instant::now() > deadline {
            bail!("killed, but still there: processes {targets:?}");
        }
        signal("KILL", &targets)?;
        std::thread::sleep(PAUSE);
        targets.retain(|pid| lives(*pid));
        targets.extend(processes()?.all);
        targets.sort_unstable();
        targets.dedup();
    }
    Ok(())
}

/// Stops all processes where they are, until `resume`.
pub fn pause(processes: impl Fn() -> Result<Processes>) -> Result<()> {
    stop_all(&processes).map(drop)
}

/// Lets them go on.
pub fn resume(processes: impl Fn() -> Result<Processes>) -> Result<()> {
    signal("CONT", &processes()?.all)
}

/// Asks the process to end, and returns whether it did in time.
pub fn ask_to_end(pid: u32, patience: Duration) -> Result<bool> {
    signal("TERM", &[pid])?;
    Ok(wait_until_gone(pid, patience))
}

/// Whether the process went in time.
pub fn wait_until_gone(pid: u32, patience: Duration) -> bool {
    let deadline = Instant::now() + patience;
    while lives(pid) {
        if Instant::now() > deadline {
            return false;
        }
        std::thread::sleep(PAUSE);
    }
    true
}

/// Stops them, and whom they started meanwhile.
fn stop_all(processes: &impl Fn() -> Result<Processes>) -> Result<Vec<u32>> {
    let mut stopped = Vec::new();
    loop {
        let all = processes()?.all;
        let running: Vec<u32> = all.iter().copied().filter(|pid| !stopped.contains(pid)).collect();
        if running.is_empty() {
            return Ok(stopped);
        }
        signal("STOP", &running)?;
        stopped.extend(running);
    }
}

/// A process that is gone already is no error.
fn signal(name: &str, pids: &[u32]) -> Result<()> {
    if !pids.is_empty() {
        let pids = pids.iter().map(u32::to_string);
        process::capture(
            Command::new("sh").args(["-c", "kill \"$@\"", "kill", &format!("-{name}")]).args(pids),
        )?;
    }
    Ok(())
}
