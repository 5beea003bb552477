//! How a server is found, started and stopped; what differs between servers comes as a [`Server`].

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use super::processes::{MARK, PID_FILE, Processes, lives};
use super::signal;
use crate::environment;
use crate::progress::Progress;
use crate::services::Service;
use crate::services::account::Account;
use crate::services::state::State;
use crate::workspace::Workspace;

/// How long a server may take until it answers, and until it has stopped when asked to.
const PATIENCE_UP: Duration = Duration::from_mins(1);
const PATIENCE_DOWN: Duration = Duration::from_secs(30);

/// What differs between servers.
pub struct Server {
    /// Which it is.
    pub service: Service,
    /// The user its package makes for it.
    pub user: &'static str,
    /// Finds its programs, or installs them where that is possible. Returns the one to run.
    pub find: fn(&Progress) -> Result<PathBuf>,
    /// Writes what it needs into its folder, and says how it is started.
    pub prepare: fn(&Prepared, &Progress) -> Result<Command>,
    /// Speaks to it; fails unless it is ready and takes our password.
    pub probe: fn(&State) -> Result<()>,
}

/// A server about to be started.
pub struct Prepared<'a> {
    /// The program `find` found.
    pub program: PathBuf,
    /// Its folder.
    pub home: &'a Path,
    /// Whom it runs as.
    pub account: Account,
    /// Its ports and its password.
    pub state: &'a State,
}

impl Server {
    /// Returns when it answers: found again, or started, or installed and set up.
    pub fn up(&self, workspace: &Workspace, state: &mut State, progress: &Progress) -> Result<()> {
        let name = self.service.name();
        ensure!(
            Path::new("/proc/self/environ").exists(),
            "{name} runs natively on Linux only; start Docker, or set {}",
            self.service.variable()
        );
        let home = self.home(workspace, state, progress)?;
        match Processes::of(&home)?.main {
            Some(_) if !state.is_complete(self.service) => {
                progress.step(&format!("{name}: runs as an older version set it up, and starts anew"));
                self.down(state, progress)?;
            }
            Some(pid) if self.answers(state) => {
                progress.step(&format!("{name}: already up on 127.0.0.1:{} (pid {pid})", state.port));
                return Ok(());
            }
            Some(pid) => {
                progress.step(&format!("{name}: runs (pid {pid}) but does not answer yet"));
                if self.wait_for_answer(state, &home, pid).is_ok() {
                    return Ok(());
                }
            }
            None => {}
        }
        // What is left is of no use: it does not answer, or the process it belonged to is gone.
        signal::kill(|| Processes::of(&home))?;
        self.start(state, &home, progress)
    }

    /// Asks it to stop, and kills what is left of it.
    pub fn down(&self, state: &State, progress: &Progress) -> Result<()> {
        let Some(home) = existing(state) else { return Ok(()) };
        let processes = || Processes::of(home);
        if let Some(pid) = processes()?.main {
            progress.step(&format!("{}: stopping (pid {pid})", self.service.name()));
            if !signal::ask_to_end(pid, PATIENCE_DOWN)? {
                progress.step(&format!("{}: does not stop; killing it", self.service.name()));
            }
        }
        signal::kill(processes)
    }

    /// Whether it is ready and takes our password.
    pub fn answers(&self, state: &State) -> bool {
        (self.probe)(state).is_ok()
    }

    fn home(&self, workspace: &Workspace, state: &mut State, progress: &Progress) -> Result<PathBuf> {
        if let Some(home) = existing(state) {
            return Ok(home.to_path_buf());
        }
        // The programs come first: their package makes the user.
        (self.find)(progress)?;
        let home = Account::for_server(self.user)?.make_home(workspace, self.service.name(), progress)?;
        state.home = Some(home.clone());
        state.save()?;
        Ok(home)
    }

    fn start(&self, state: &mut State, home: &Path, progress: &Progress) -> Result<()> {
        let name = self.service.name();
        let program = (self.find)(progress)?;
        state.keep_or_choose_ports(self.service)?;
        let account = Account::owner_of(home)?;
        let prepared = Prepared { program, home, account, state };
        let command = (self.prepare)(&prepared, progress)?;
        progress.step(&format!("{name}: starting on 127.0.0.1:{}", state.port));
        let started = Instant::now();
        let pid = spawn(command, home)?;
        fs::write(home.join(PID_FILE), pid.to_string()).context("could not write down the process")?;
        self.wait_for_answer(state, home, pid)?;
        let seconds = started.elapsed().as_secs_f64();
        progress.step(&format!("{name}: up on 127.0.0.1:{} (pid {pid}) after {seconds:.1} s", state.port));
        Ok(())
    }

    fn wait_for_answer(&self, state: &State, home: &Path, pid: u32) -> Result<()> {
        let (name, deadline) = (self.service.name(), Instant::now() + PATIENCE_UP);
        loop {
            let Err(problem) = (self.probe)(state) else { return Ok(()) };
            if !lives(pid) {
                bail!("{name} has ended; {}", end_of_log(home));
            }
            if Instant::now() > deadline {
                let seconds = PATIENCE_UP.as_secs();
                return Err(problem)
                    .with_context(|| format!("{name} is not ready after {seconds} s; {}", end_of_log(home)));
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

impl Prepared<'_> {
    /// The server itself, in a session of its own, so that nothing meant for our terminal reaches it.
    pub fn server(&self) -> Command {
        let mut command = self.helper(Path::new("setsid"));
        command.arg(&self.program);
        command
    }

    /// Any program, run as the server's user in its folder, with nothing of our environment but the search path.
    pub fn helper(&self, program: &Path) -> Command {
        let mut command = self.account.command(program, self.home);
        let path = environment::variable("PATH").unwrap_or_else(|| "/usr/bin:/bin".to_owned());
        command.env_clear().env("PATH", path).env("HOME", self.home).env("LANG", "C.UTF-8");
        command
    }

    /// Writes a file into its folder that only the server can read.
    pub fn write(&self, name: &str, text: &str) -> Result<PathBuf> {
        let path = self.home.join(name);
        crate::services::state::write_private(&path, text)
            .with_context(|| format!("could not write {}", path.display()))?;
        self.account.give(&path)?;
        Ok(path)
    }

    /// Makes a folder of the server's own in its folder.
    pub fn folder(&self, name: &str) -> Result<PathBuf> {
        let path = self.home.join(name);
        fs::create_dir_all(&path).with_context(|| format!("could not create {}", path.display()))?;
        self.account.give(&path)?;
        Ok(path)
    }
}

fn spawn(mut command: Command, home: &Path) -> Result<u32> {
    let log = log(home)?;
    command.env(MARK, home).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
    let child =
        command.spawn().context("could not start it (is `setsid` of the package util-linux there?)")?;
    Ok(child.id())
}

fn log(home: &Path) -> Result<File> {
    let path = home.join("server.log");
    let mut options = OpenOptions::new();
    options.append(true).create(true).mode(0o600);
    options.open(&path).with_context(|| format!("could not open {}", path.display()))
}

fn existing(state: &State) -> Option<&Path> {
    state.home.as_deref().filter(|home| home.is_dir())
}

/// The last lines a server wrote.
pub fn end_of_log(home: &Path) -> String {
    let path = home.join("server.log");
    let text = fs::read_to_string(&path).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    let last = lines[lines.len().saturating_sub(10)..].join("\n");
    format!("the end of {}:\n{last}", path.display())
}
