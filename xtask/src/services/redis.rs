//! Redis as a process of this machine: nothing on disk, a password always asked for, 127.0.0.1 only.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::native::{Prepared, Server};
use super::state::State;
use super::{Service, apt, wire};
use crate::progress::Progress;

/// It holds allowances of a few minutes, so nothing is written to disk; full, it refuses instead of forgetting.
pub const SETTINGS: [(&str, &str); 4] =
    [("save", "\"\""), ("appendonly", "no"), ("maxmemory", "256mb"), ("maxmemory-policy", "noeviction")];

/// How it runs natively.
pub const SERVER: Server = Server { service: Service::Redis, user: "redis", find, prepare, probe };

/// The address, with the password.
pub fn url(state: &State) -> String {
    format!("redis://:{}@127.0.0.1:{}/0", state.password, state.port)
}

fn find(progress: &Progress) -> Result<PathBuf> {
    apt::find_or_install("redis-server", "redis-server", Service::Redis, progress)
}

fn prepare(server: &Prepared, _: &Progress) -> Result<Command> {
    let path = server.write("redis.conf", &settings(server.state)?)?;
    let mut command = server.server();
    command.arg(path);
    Ok(command)
}

/// The server's settings as a file. With a title of its own it would overwrite the environment it is known by.
fn settings(state: &State) -> Result<String> {
    let mut text = "bind 127.0.0.1\ndaemonize no\nset-proc-title no\ndir ./\n".to_owned();
    writeln!(text, "port {}\nrequirepass {}", state.port, state.password)?;
    for (name, value) in SETTINGS {
        writeln!(text, "{name} {value}")?;
    }
    Ok(text)
}

fn probe(state: &State) -> Result<()> {
    let mut stream = wire::connect(state.port)?;
    let request = format!("AUTH {}\r\nPING\r\n", state.password);
    let expected = "+OK\r\n+PONG\r\n";
    let answer = wire::ask(&mut stream, request.as_bytes(), expected.len())
        .context("Redis does not take our password, or is loading")?;
    ensure!(answer == expected.as_bytes(), "Redis does not take our password, or is loading");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_server_is_for_this_machine_only_and_wants_a_password() {
        let text = settings(&State::of(28701, "secret")).unwrap();
        assert!(text.contains("bind 127.0.0.1\n"), "{text}");
        assert!(text.contains("port 28701\nrequirepass secret\n"), "{text}");
    }
}
