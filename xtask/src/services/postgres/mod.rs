//! PostgreSQL as a process of this machine. One user `taskpost` (a superuser: tests create databases), one database
//! `taskpost`, passwords always asked for, 127.0.0.1 only and no unix socket.

mod cluster;
pub mod disk;
mod programs;

use std::fmt::Write as _;

use anyhow::{Context, Result};

use super::account::Account;
use super::native::Processes;
use super::state::State;
use crate::progress::Progress;
use crate::workspace::Workspace;
use cluster::Cluster;
use programs::Programs;

/// Durable as in production, and room for many tests and for a benchmark's log.
pub const SETTINGS: [(&str, &str); 11] = [
    ("fsync", "on"),
    ("synchronous_commit", "on"),
    ("full_page_writes", "on"),
    ("shared_buffers", "128MB"),
    ("max_connections", "300"),
    ("min_wal_size", "512MB"),
    ("max_wal_size", "2GB"),
    ("password_encryption", "scram-sha-256"),
    ("logging_collector", "off"),
    ("timezone", "UTC"),
    ("log_timezone", "UTC"),
];

/// The address of the database, with the password.
pub fn url(state: &State) -> String {
    format!("postgres://taskpost:{}@127.0.0.1:{}/taskpost", state.password, state.port)
}

/// Returns when the server answers: found again, or started, or installed and set up.
pub fn up(workspace: &Workspace, state: &mut State, progress: &Progress) -> Result<()> {
    let old = state.home.clone().filter(|home| home.is_dir());
    let programs = match old.as_deref().and_then(cluster::major_version) {
        Some(major) => Programs::of_version(major).with_context(|| {
            let purge = "cargo xtask services down --purge";
            format!(
                "the data was made by PostgreSQL {major}; install that version or start anew with `{purge}`"
            )
        })?,
        None => Programs::newest_or_install(progress)?,
    };
    let home = match old {
        Some(home) => home,
        None => Account::for_server("postgres")?.make_home(workspace, "postgres", progress)?,
    };
    state.home = Some(home.clone());
    state.save()?;
    Cluster::new(home, programs)?.up(state, progress)
}

/// Stops the server, gently first.
pub fn down(state: &State, progress: &Progress) -> Result<()> {
    match existing(state)? {
        Some(cluster) => cluster.stop(progress),
        None => Ok(()),
    }
}

/// The server's process and those of its clients.
pub fn processes(state: &State) -> Result<Processes> {
    Ok(existing(state)?.map(|cluster| cluster.processes()).unwrap_or_default())
}

/// The server's process, when it answers to our password.
pub fn pid(state: &State) -> Result<Option<u32>> {
    let cluster = existing(state)?;
    Ok(cluster.and_then(|cluster| cluster.answering(state)))
}

/// The server whose data is there, and the programs that go with it.
fn existing(state: &State) -> Result<Option<Cluster>> {
    let Some(home) = state.home.clone().filter(|home| home.is_dir()) else {
        return Ok(None);
    };
    match cluster::major_version(&home).and_then(Programs::of_version) {
        Some(programs) => Cluster::new(home, programs).map(Some),
        None => Ok(None),
    }
}

/// The server's settings as a file.
fn settings(port: u16) -> String {
    let mut text = format!("listen_addresses = '127.0.0.1'\nport = {port}\nunix_socket_directories = ''\n");
    for (name, value) in SETTINGS {
        let _infallible = writeln!(text, "{name} = '{value}'");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_server_is_for_this_machine_only() {
        let text = settings(54321);
        assert!(text.contains("listen_addresses = '127.0.0.1'\nport = 54321\n"), "{text}");
    }
}
