//! `cargo xtask services`: the servers that tests and benchmarks use, private to this checkout.
//!
//! A service whose variable is set already is used as it is. Otherwise it runs in Docker where an engine answers, and
//! natively where none does. To add one: a variant of [`Service`], its arms, a module, a block in the compose file.

mod account;
mod apt;
mod docker;
mod external;
mod port;
mod postgres;
mod report;
mod state;

use std::fs::{self, File, TryLockError};

use anyhow::{Context, Result, bail};
use clap::Subcommand;

use crate::environment;
use crate::progress::Progress;
use crate::workspace::Workspace;
use report::Report;
use state::{How, State};

/// What `cargo xtask services` may be told.
#[derive(Subcommand)]
pub enum Command {
    /// Start what is not up, and say where it is
    Up,
    /// Stop what `up` started; data stays
    Down {
        /// Delete the data as well
        #[arg(long)]
        purge: bool,
    },
    /// Print `export …` lines: eval "$(cargo xtask services env)"
    Env,
    /// Show what is up, and where
    Status {
        /// For programs
        #[arg(long)]
        json: bool,
    },
}

/// The services there are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Service {
    /// The database.
    Postgres,
}

/// Runs the command.
pub fn run(workspace: &Workspace, command: &Command, progress: &Progress) -> Result<()> {
    match command {
        Command::Up => {
            up(workspace, progress)?;
            print!("{}", report::table(&reports(workspace)?));
            eprintln!("for this shell: eval \"$(cargo xtask services env)\"");
            Ok(())
        }
        Command::Down { purge } => down(workspace, *purge, progress),
        Command::Env => {
            print!("{}", exports(workspace)?);
            Ok(())
        }
        Command::Status { json } => {
            let reports = reports(workspace)?;
            print!("{}", if *json { report::json(&reports)? } else { report::table(&reports) });
            Ok(())
        }
    }
}

/// Starts what is not up. Returns each service's address with its password.
pub fn up(workspace: &Workspace, progress: &Progress) -> Result<Vec<(Service, String)>> {
    let _lock = lock(workspace, progress)?;
    Service::ALL.iter().map(|service| Ok((*service, service.up(workspace, progress)?))).collect()
}

/// Stops what `up` started. With `purge` nothing is left of it.
pub fn down(workspace: &Workspace, purge: bool, progress: &Progress) -> Result<()> {
    let _lock = lock(workspace, progress)?;
    Service::ALL.iter().try_for_each(|service| service.down(workspace, purge, progress))
}

impl Service {
    /// All of them, in the order in which they start.
    const ALL: [Self; 1] = [Self::Postgres];

    /// Its name in commands, folders and the compose file.
    pub fn name(self) -> &'static str {
        match self {
            Self::Postgres => "postgres",
        }
    }

    /// The product's variable for it.
    pub fn variable(self) -> &'static str {
        match self {
            Self::Postgres => "DATABASE_URL",
        }
    }

    /// The tests' variable for it.
    pub fn test_variable(self) -> &'static str {
        match self {
            Self::Postgres => "TASKPOST_TEST_POSTGRES_URL",
        }
    }

    /// The URL schemes its variable may have.
    fn schemes(self) -> &'static [&'static str] {
        match self {
            Self::Postgres => &["postgres", "postgresql"],
        }
    }

    /// The port an address without one means.
    fn usual_port(self) -> u16 {
        match self {
            Self::Postgres => 5432,
        }
    }

    /// The first port to try, far from the usual one.
    fn first_port(self) -> u16 {
        match self {
            Self::Postgres => 54320,
        }
    }

    fn url(self, state: &State) -> String {
        match self {
            Self::Postgres => postgres::url(state),
        }
    }

    fn native_up(self, workspace: &Workspace, state: &mut State, progress: &Progress) -> Result<()> {
        match self {
            Self::Postgres => postgres::up(workspace, state, progress),
        }
    }

    fn native_down(self, state: &State, progress: &Progress) -> Result<()> {
        match self {
            Self::Postgres => postgres::down(state, progress),
        }
    }

    /// The process that answers, if one does.
    fn native_pid(self, state: &State) -> Result<Option<u32>> {
        match self {
            Self::Postgres => postgres::pid(state),
        }
    }

    fn up(self, workspace: &Workspace, progress: &Progress) -> Result<String> {
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
            How::Native => self.native_up(workspace, &mut state, progress)?,
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

    fn down(self, workspace: &Workspace, purge: bool, progress: &Progress) -> Result<()> {
        let name = self.name();
        let Some(state) = State::load(workspace, self)? else {
            progress.step(&format!("{name}: nothing of it here"));
            return Ok(());
        };
        match state.how {
            How::Docker if purge => docker::purge(workspace, self, &state)?,
            How::Docker => docker::down(workspace, self, &state)?,
            How::Native => self.native_down(&state, progress)?,
        }
        if purge {
            state.remove()?;
        }
        progress.step(&format!("{name}: stopped, data {}", if purge { "deleted" } else { "kept" }));
        Ok(())
    }

    fn report(self, workspace: &Workspace) -> Result<Report> {
        let state = State::load(workspace, self)?;
        if let Some(url) = self.given(state.as_ref()) {
            return Ok(Report::external(self, &url));
        }
        let Some(state) = state else {
            return Ok(Report::absent(self));
        };
        let (up, pid) = match state.how {
            How::Docker => (docker::is_up(workspace, self, &state), None),
            How::Native => {
                let pid = self.native_pid(&state)?;
                (pid.is_some(), pid)
            }
        };
        Ok(Report::ours(self, &state, up, pid))
    }

    /// The address somebody gave us. Our own, put into the shell by `env`, is not one.
    fn given(self, state: Option<&State>) -> Option<String> {
        let url = environment::variable(self.variable())?;
        let ours = state.is_some_and(|state| self.url(state) == url);
        (!ours).then_some(url)
    }
}

fn reports(workspace: &Workspace) -> Result<Vec<Report>> {
    Service::ALL.iter().map(|service| service.report(workspace)).collect()
}

fn exports(workspace: &Workspace) -> Result<String> {
    let mut lines = String::new();
    for service in Service::ALL {
        if !service.report(workspace)?.up {
            bail!("{} is not up; run `cargo xtask services up`", service.name());
        }
        let state = State::load(workspace, service)?;
        let given = service.given(state.as_ref());
        let url = given.or_else(|| state.map(|state| service.url(&state))).unwrap_or_default();
        lines.push_str(&report::export(service.variable(), &url));
    }
    Ok(lines)
}

/// Held while services start or stop, so that two of us do not race. Ends with the process at the latest.
fn lock(workspace: &Workspace, progress: &Progress) -> Result<File> {
    let folder = workspace.services_folder();
    fs::create_dir_all(&folder).with_context(|| format!("could not create {}", folder.display()))?;
    let path = folder.join("lock");
    let file = File::create(&path).with_context(|| format!("could not open {}", path.display()))?;
    match file.try_lock() {
        Ok(()) => return Ok(file),
        Err(TryLockError::WouldBlock) => progress.step("waiting for another `cargo xtask services`"),
        Err(TryLockError::Error(error)) => return Err(error).context("could not lock the services"),
    }
    file.lock().context("could not lock the services")?;
    Ok(file)
}
