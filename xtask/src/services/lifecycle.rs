//! How a service starts, stops and is described, however it runs.

use anyhow::Result;

use super::native;
use super::report::{Condition, Report};
use super::state::{How, State};
use super::{Service, disk, docker, external};
use crate::environment;
use crate::progress::Progress;
use crate::workspace::Workspace;

impl Service {
    /// Starts it unless it is up, and returns its address with its password.
    pub fn up(self, workspace: &Workspace, progress: &Progress) -> Result<String> {
        let state = State::load(workspace, self)?;
        if let Some(url) = self.given(state.as_ref()) {
            external::check(self, &url)?;
            progress.step(&format!("{}: using {}", self.name(), self.variable()));
            return Ok(url);
        }
        let mut state = match state.filter(State::is_begun) {
            Some(state) => state,
            None => self.begin(workspace, progress)?,
        };
        match state.how {
            How::Docker => docker::up(workspace, self, &mut state, progress)?,
            How::Native => {
                self.resume(&state, progress)?;
                self.native_up(workspace, &mut state, progress)?;
            }
        }
        Ok(self.url(&state))
    }

    /// Chooses once how the service runs here, its port and its password.
    fn begin(self, workspace: &Workspace, progress: &Progress) -> Result<State> {
        let how = if docker::answers() { How::Docker } else { How::Native };
        progress.step(&format!("{}: setting it up ({how})", self.name()));
        let state = State::new(workspace, self, how)?;
        if how == How::Docker {
            // What an earlier state left behind has a password that nobody knows any more.
            docker::purge(workspace, self, &state)?;
        }
        state.save()?;
        Ok(state)
    }

    /// Stops it. With `purge` nothing is left of it.
    pub fn down(self, workspace: &Workspace, purge: bool, progress: &Progress) -> Result<()> {
        let name = self.name();
        let Some(state) = State::load(workspace, self)? else {
            progress.step(&format!("{name}: nothing of it here"));
            return Ok(());
        };
        match state.how {
            How::Docker if purge => docker::purge(workspace, self, &state)?,
            How::Docker => docker::down(workspace, self, &state)?,
            How::Native => {
                self.resume(&state, progress)?;
                self.native_down(&state, progress)?;
                if purge {
                    disk::forget(self, &state)?;
                }
            }
        }
        if purge {
            state.remove()?;
        }
        progress.step(&format!("{name}: stopped, data {}", if purge { "deleted" } else { "kept" }));
        Ok(())
    }

    /// What `status` says of it.
    pub fn report(self, workspace: &Workspace) -> Result<Report> {
        let state = State::load(workspace, self)?;
        if let Some(url) = self.given(state.as_ref()) {
            return Ok(Report::external(self, &url));
        }
        let Some(state) = state else {
            return Ok(Report::absent(self));
        };
        let (condition, pid) = match state.how {
            How::Docker if docker::is_up(workspace, self, &state) => (Condition::Up, None),
            How::Docker => (Condition::Down, None),
            How::Native => self.native_condition(&state)?,
        };
        Ok(Report::ours(self, &state, condition, pid))
    }

    fn native_condition(self, state: &State) -> Result<(Condition, Option<u32>)> {
        let processes = self.processes(state)?;
        let condition = match processes.main {
            Some(_) if processes.are_paused() => Condition::Paused,
            Some(_) if self.native_answers(state)? => Condition::Up,
            None | Some(_) => Condition::Down,
        };
        Ok((condition, processes.main))
    }

    fn resume(self, state: &State, progress: &Progress) -> Result<()> {
        if self.processes(state)?.are_paused() {
            progress.step(&format!("{}: was paused, goes on", self.name()));
            native::resume(|| self.processes(state))?;
        }
        Ok(())
    }

    /// The address somebody gave us. Our own, put into the shell by `env`, is not one.
    pub fn given(self, state: Option<&State>) -> Option<String> {
        let url = environment::variable(self.variable())?;
        let ours = state.is_some_and(|state| self.url(state) == url);
        (!ours).then_some(url)
    }
}
