//! What a fault test does to a whole server. Data stays, and `up` brings the server back on the same port.

use anyhow::{Result, ensure};

use super::state::{How, State};
use super::{Service, docker, native};
use crate::workspace::Workspace;

/// SIGKILL; returns when all of it is gone.
pub fn kill(workspace: &Workspace, service: Service, state: &State) -> Result<&'static str> {
    match state.how {
        How::Docker => docker::tell(workspace, service, state, "kill")?,
        How::Native => native::kill(running(service, state)?)?,
    }
    Ok("killed")
}

/// SIGSTOP; the kernel still accepts connections for it.
pub fn pause(workspace: &Workspace, service: Service, state: &State) -> Result<&'static str> {
    match state.how {
        How::Docker => docker::tell(workspace, service, state, "pause")?,
        How::Native => native::pause(running(service, state)?)?,
    }
    Ok("paused")
}

/// SIGCONT.
pub fn resume(workspace: &Workspace, service: Service, state: &State) -> Result<&'static str> {
    match state.how {
        How::Docker => docker::tell(workspace, service, state, "unpause")?,
        How::Native => native::resume(running(service, state)?)?,
    }
    Ok("goes on")
}

/// How its processes are found, if there are any.
fn running(service: Service, state: &State) -> Result<impl Fn() -> Result<native::Processes> + use<'_>> {
    let name = service.name();
    ensure!(
        !service.processes(state)?.all.is_empty(),
        "{name} does not run; `cargo xtask services up {name}`"
    );
    Ok(move || service.processes(state))
}
