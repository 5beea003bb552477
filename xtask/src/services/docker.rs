//! Services in containers, by `docker-compose.infra.yml`.

use std::process::Command;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};

use super::state::State;
use super::{Service, port};
use crate::process;
use crate::progress::Progress;
use crate::workspace::Workspace;

/// Whether an engine answers; the client alone proves nothing.
pub fn answers() -> bool {
    let limit = Duration::from_secs(10);
    let engine = process::capture_within(
        Command::new("docker").args(["info", "--format", "{{.ServerVersion}}"]),
        limit,
    );
    engine.is_some_and(|engine| engine.ok && !engine.stdout.is_empty()) && has_compose()
}

/// Whether the client is there with its plugin.
pub fn has_compose() -> bool {
    let version =
        process::capture_within(Command::new("docker").args(["compose", "version"]), Duration::from_secs(10));
    version.is_some_and(|version| version.ok)
}

/// Two that start at once would both create the project's network.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// Starts the container and returns when it is healthy.
pub fn up(workspace: &Workspace, service: Service, state: &mut State, progress: &Progress) -> Result<()> {
    if is_up(workspace, service, state) {
        progress.step(&format!("{}: already up in Docker on 127.0.0.1:{}", service.name(), state.port));
        return Ok(());
    }
    if is(workspace, service, state, "paused") {
        progress.step(&format!("{}: was paused, goes on", service.name()));
        return tell(workspace, service, state, "unpause");
    }
    state.keep_or_choose_ports(service)?;
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    progress.step(&format!("{}: starting in Docker on 127.0.0.1:{}", service.name(), state.port));
    let mut compose = compose(workspace, service, state);
    process::show(compose.args(["up", "--detach", "--wait", "--wait-timeout", "300", service.name()]))
        .context("the container did not become healthy; `docker info` and the lines above say more")
}

/// Whether its container runs and its port answers.
pub fn is_up(workspace: &Workspace, service: Service, state: &State) -> bool {
    is(workspace, service, state, "running") && port::answers(state.port)
}

/// Whether its container is running, paused, exited, …
fn is(workspace: &Workspace, service: Service, state: &State, status: &str) -> bool {
    let mut compose = compose(workspace, service, state);
    let containers = compose.args(["ps", "--quiet", "--status", status, service.name()]);
    process::capture(containers).is_ok_and(|ids| ids.ok && !ids.stdout.is_empty())
}

/// One of Docker's own verbs for one container: stop, kill, pause, unpause.
pub fn tell(workspace: &Workspace, service: Service, state: &State, verb: &str) -> Result<()> {
    process::must(compose(workspace, service, state).args([verb, service.name()])).map(drop)
}

/// Stops the container; the volume stays.
pub fn down(workspace: &Workspace, service: Service, state: &State) -> Result<()> {
    let mut compose = compose(workspace, service, state);
    process::must(compose.args(["rm", "--stop", "--force", service.name()]))
        .context("is the Docker engine that started it still there?")?;
    Ok(())
}

/// Stops the container and deletes its volume.
pub fn purge(workspace: &Workspace, service: Service, state: &State) -> Result<()> {
    down(workspace, service, state)?;
    let volume = format!("{}_{}", workspace.tag(), service.name());
    process::must(Command::new("docker").args(["volume", "rm", "--force", &volume]))?;
    Ok(())
}

/// `docker compose` for this checkout's project. The file's variables are `TASKPOST_<SERVICE>_{PORT,PASSWORD}`,
/// and `…_CONSOLE_PORT` for the last of a service with a console.
fn compose(workspace: &Workspace, service: Service, state: &State) -> Command {
    let variable = |what: &str| format!("TASKPOST_{}_{what}", service.name().to_uppercase());
    let mut compose = Command::new("docker");
    compose
        .current_dir(&workspace.root)
        .args(["compose", "--project-name", &workspace.tag(), "--file", "docker-compose.infra.yml"])
        .env(variable("PORT"), state.port.to_string())
        .env(variable("PASSWORD"), &state.password);
    if let Some(console) = service.console(state).and(state.other_ports.last()) {
        compose.env(variable("CONSOLE_PORT"), console.to_string());
    }
    compose
}
