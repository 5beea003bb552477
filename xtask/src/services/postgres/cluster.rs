//! One PostgreSQL server: its data in `<home>/data`, its log in `<home>/server.log`.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::programs::Programs;
use super::settings;
use crate::environment;
use crate::process::{self, Outcome};
use crate::progress::Progress;
use crate::services::Service;
use crate::services::account::Account;
use crate::services::native::{self, Processes};
use crate::services::state::{State, write_private};

/// How long a server may take until it answers.
const PATIENCE: Duration = Duration::from_mins(1);

/// A server, up or not.
pub struct Cluster {
    home: PathBuf,
    programs: Programs,
    account: Account,
}

/// The version that made the data, or none when there is no data yet.
pub fn major_version(home: &Path) -> Option<u32> {
    fs::read_to_string(home.join("data").join("PG_VERSION")).ok()?.trim().parse().ok()
}

impl Cluster {
    /// The server whose folder this is; it runs as the folder's owner.
    pub fn new(home: PathBuf, programs: Programs) -> Result<Self> {
        let account = Account::owner_of(&home)?;
        Ok(Self { home, programs, account })
    }

    /// Returns when it answers to our password and has our database.
    pub fn up(&self, state: &mut State, progress: &Progress) -> Result<()> {
        if let Some(pid) = self.answering(state) {
            progress.step(&format!("postgres: already up on 127.0.0.1:{} (pid {pid})", state.port));
            return Ok(());
        }
        if !self.data().exists() {
            progress.step("postgres: creating its data");
            self.create(state)?;
        }
        self.start(state, progress)?;
        if !self.asks(state, "taskpost")?.ok {
            process::must(self.client("createdb", state).arg("taskpost"))?;
        }
        match self.answering(state) {
            Some(pid) => progress.step(&format!("postgres: up on 127.0.0.1:{} (pid {pid})", state.port)),
            None => bail!("PostgreSQL started but does not answer; {}", native::end_of_log(&self.home)),
        }
        Ok(())
    }

    /// Its process, when that is alive and a query gets through with our password.
    pub fn answering(&self, state: &State) -> Option<u32> {
        let pid = self.running()?;
        self.asks(state, "taskpost").is_ok_and(|answer| answer.ok).then_some(pid)
    }

    /// The server's process and those of its clients.
    pub fn processes(&self) -> Processes {
        self.running().map(Processes::with_children).unwrap_or_default()
    }

    /// Runs these statements in our database, one after the other, each in a transaction of its own.
    pub fn tell(&self, state: &State, statements: &[&str]) -> Result<()> {
        let mut psql = self.client("psql", state);
        psql.args(["--no-psqlrc", "--quiet", "--set", "ON_ERROR_STOP=1"]);
        psql.args(statements.iter().flat_map(|statement| ["--command", statement]));
        let said = process::capture(psql.arg("taskpost"))?;
        if !said.ok {
            bail!("PostgreSQL says: {}", said.said());
        }
        Ok(())
    }

    /// Stops it: clients are sent away, then it is told to leave at once, then it is killed.
    pub fn stop(&self, progress: &Progress) -> Result<()> {
        let Some(pid) = self.running() else {
            return Ok(());
        };
        progress.step(&format!("postgres: stopping (pid {pid})"));
        for (mode, seconds) in [("fast", "30"), ("immediate", "10")] {
            let mut stop = self.control("stop");
            if process::capture(stop.args(["--wait", "--mode", mode, "--timeout", seconds]))?.ok {
                return Ok(());
            }
        }
        process::must(self.account.command(self.programs.path("pg_ctl"), &self.home).args([
            "kill",
            "KILL",
            &pid.to_string(),
        ]))?;
        Ok(())
    }

    /// The data is made under another name and renamed when it is whole, so an interrupted `up` can be repeated.
    fn create(&self, state: &State) -> Result<()> {
        let draft = self.home.join("data.new");
        if draft.exists() {
            fs::remove_dir_all(&draft).with_context(|| format!("could not delete {}", draft.display()))?;
        }
        let password = self.home.join("password.new");
        write_private(&password, &state.password).context("could not write the password for initdb")?;
        self.account.give(&password)?;
        let locale = if cfg!(target_os = "macos") { "en_US.UTF-8" } else { "C.UTF-8" };
        let mut initdb = self.account.command(self.programs.path("initdb"), &self.home);
        environment::hide_all(&mut initdb, "PG");
        initdb.args(["--username=taskpost", "--auth=scram-sha-256", "--encoding=UTF8"]);
        initdb.arg(format!("--locale={locale}")).arg("--pwfile").arg(&password).arg("--pgdata").arg(&draft);
        let made = process::must(&mut initdb);
        fs::remove_file(&password).context("could not delete the password for initdb")?;
        made?;
        let mut file = OpenOptions::new().append(true).open(draft.join("postgresql.conf"))?;
        file.write_all(b"\ninclude 'taskpost.conf'\n")?;
        fs::rename(&draft, self.data()).context("could not put the new data in its place")
    }

    /// Starts it. A port that somebody took meanwhile is exchanged for another; what a killed server left behind
    /// (its processes take a moment to notice) is waited for.
    fn start(&self, state: &mut State, progress: &Progress) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if self.running().is_none() {
                self.remove_stale_pid_file()?;
                state.keep_or_choose_ports(Service::Postgres)?;
                self.write_settings(state.port)?;
                progress.step(&format!("postgres: starting on 127.0.0.1:{}", state.port));
                let mut start = self.control("start");
                start
                    .args(["--silent", "--wait", "--timeout", "60", "--log"])
                    .arg(self.home.join("server.log"));
                process::capture(&mut start)?;
            }
            if self.running().is_some() && self.asks(state, "postgres")?.ok {
                return Ok(());
            }
            if Instant::now() >= deadline {
                bail!(
                    "PostgreSQL does not answer after {} s; {}",
                    PATIENCE.as_secs(),
                    native::end_of_log(&self.home)
                );
            }
            std::thread::sleep(Duration::from_millis(500));
        }
    }

    fn write_settings(&self, port: u16) -> Result<()> {
        let path = self.data().join("taskpost.conf");
        write_private(&path, &settings(port))
            .with_context(|| format!("could not write {}", path.display()))?;
        self.account.give(&path)
    }

    /// A pid file may outlive its server and name a process that has nothing to do with it, which PostgreSQL could
    /// take for a server of the same data.
    fn remove_stale_pid_file(&self) -> Result<()> {
        match fs::remove_file(self.pid_file()) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(error).with_context(|| format!("could not delete {}", self.pid_file().display()))
            }
            _ => Ok(()),
        }
    }

    /// The process the pid file names, if that is a server of this data.
    fn running(&self) -> Option<u32> {
        let pid = fs::read_to_string(self.pid_file()).ok()?.lines().next()?.trim().parse().ok()?;
        let line = command_line_of(pid)?;
        line.contains(self.data().to_string_lossy().as_ref()).then_some(pid)
    }

    /// A query by TCP with the password: proves that it is our server and that it works.
    fn asks(&self, state: &State, database: &str) -> Result<Outcome> {
        let mut psql = self.client("psql", state);
        process::capture(psql.args(["--no-psqlrc", "--tuples-only", "--command", "SELECT 1", database]))
    }

    fn client(&self, program: &str, state: &State) -> Command {
        let mut client = self.account.command(self.programs.path(program), &self.home);
        environment::hide_all(&mut client, "PG");
        client
            .args(["--host=127.0.0.1", "--username=taskpost", "--no-password", "--port"])
            .arg(state.port.to_string())
            .env("PGPASSWORD", &state.password)
            .env("PGCONNECT_TIMEOUT", "5")
            .env("PGSSLMODE", "disable");
        client
    }

    fn control(&self, verb: &str) -> Command {
        let mut control = self.account.command(self.programs.path("pg_ctl"), &self.home);
        environment::hide_all(&mut control, "PG");
        control.arg(verb).arg("--pgdata").arg(self.data());
        control
    }

    fn data(&self) -> PathBuf {
        self.home.join("data")
    }

    fn pid_file(&self) -> PathBuf {
        self.data().join("postmaster.pid")
    }
}

/// How a process was started, or none when there is no such process.
fn command_line_of(pid: u32) -> Option<String> {
    if Path::new("/proc/self/cmdline").exists() {
        let line = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        return Some(String::from_utf8_lossy(&line).replace('\0', " "));
    }
    process::must(Command::new("ps").args(["-o", "command=", "-p", &pid.to_string()])).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_known_by_its_command_line() {
        let own = command_line_of(std::process::id()).unwrap();
        assert!(own.contains("xtask"), "{own}");
        assert!(command_line_of(u32::MAX).is_none());
    }
}
