//! A program that is measured, as a process: started, watched, weighed and stopped.

use std::{
    fs::{self, File},
    net::SocketAddr,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use nix::{
    sys::signal::{Signal, killpg},
    unistd::Pid,
};
use tokio::time::{sleep, timeout};

/// How long a start may take, and a stop.
const START: Duration = Duration::from_mins(1);
const STOP: Duration = Duration::from_secs(25);
/// How often it is looked.
const LOOK: Duration = Duration::from_millis(10);
/// What a program of ours says when it listens.
const LISTENS: &str = "listens on http://";
/// How much of its log is shown of one that fails.
const LAST_WORDS: usize = 2_000;

/// How one knows that it has started.
#[derive(Clone, Copy, Debug)]
pub enum Ready<'a> {
    /// It says where it listens.
    Listens,
    /// It says this.
    Says(&'a str),
    /// At once; the caller finds out.
    AtOnce,
}

/// A running process, in a group of its own with what it starts. Dropping it kills it.
#[derive(Debug)]
pub struct Process {
    /// What it is called in figures.
    pub name: &'static str,
    /// Where it listens, if it said so.
    pub address: Option<SocketAddr>,
    child: Child,
    ended: Option<ExitStatus>,
    said: PathBuf,
}

/// What a process holds of the memory, in MiB.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Memory {
    /// Now: VmRSS.
    pub now: f64,
    /// At most so far: VmHWM.
    pub peak: f64,
}

impl Process {
    /// Starts it and waits until it is ready. What it says goes into a file of the folder.
    pub async fn start(
        name: &'static str,
        mut command: Command,
        folder: &Path,
        ready: Ready<'_>,
    ) -> Result<Self> {
        let said = unused(folder, name);
        let file = File::create(&said).with_context(|| format!("could not make {}", said.display()))?;
        command.process_group(0).stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
        let child = command.spawn();
        let child = child.with_context(|| format!("could not run {}", command.get_program().display()))?;
        let mut process = Self { name, address: None, child, said, ended: None };
        let waited = timeout(START, process.begin(ready)).await;
        waited
            .unwrap_or_else(|_| bail!("{name} did not start in time"))
            .with_context(|| process.last_words())?;
        Ok(process)
    }

    async fn begin(&mut self, ready: Ready<'_>) -> Result<()> {
        loop {
            self.must_run()?;
            let text = self.says();
            match ready {
                Ready::AtOnce => return Ok(()),
                Ready::Says(words) if text.contains(words) => return Ok(()),
                Ready::Listens => {
                    let rest = text.split_once(LISTENS).map(|(_, rest)| rest);
                    let address = rest.and_then(|rest| rest.split_whitespace().next());
                    self.address = address.and_then(|address| address.parse().ok());
                    if self.address.is_some() {
                        return Ok(());
                    }
                }
                Ready::Says(_) => {}
            }
            sleep(LOOK).await;
        }
    }

    /// Fails when it has ended.
    pub fn must_run(&mut self) -> Result<()> {
        match self.ended()? {
            Some(status) => bail!("{} ended with {status}", self.name),
            None => Ok(()),
        }
    }

    fn ended(&mut self) -> Result<Option<ExitStatus>> {
        if self.ended.is_none() {
            self.ended = self.child.try_wait()?;
        }
        Ok(self.ended)
    }

    async fn end(&mut self) -> Result<ExitStatus> {
        loop {
            match self.ended()? {
                Some(status) => return Ok(status),
                None => sleep(LOOK).await,
            }
        }
    }

    /// Waits until it ends, which must be well; gives what it said.
    pub async fn ends(mut self, limit: Duration) -> Result<String> {
        let Ok(status) = timeout(limit, self.end()).await else {
            bail!("{} did not end within {limit:?}; {}", self.name, self.last_words());
        };
        let status = status?;
        if status.success() {
            Ok(self.says())
        } else {
            bail!("{} ended with {status}; {}", self.name, self.last_words())
        }
    }

    /// What it said so far.
    pub fn says(&self) -> String {
        fs::read_to_string(&self.said).unwrap_or_default()
    }

    /// The end of what it said.
    pub fn last_words(&self) -> String {
        let text = self.says();
        let from = text.char_indices().rev().nth(LAST_WORDS).map_or(0, |(from, _)| from);
        format!("{} said: {}", self.name, text[from..].trim())
    }

    /// Its memory; of one that has ended, none.
    pub fn memory(&self) -> Option<Memory> {
        Memory::parse(&fs::read_to_string(format!("/proc/{}/status", self.child.id())).ok()?)
    }

    /// Asks it and what it started to end, and waits until it has.
    pub async fn stop(mut self) -> Result<()> {
        self.signal(Signal::SIGTERM);
        match timeout(STOP, self.end()).await {
            Ok(ended) => ended.map(drop),
            Err(_) => bail!("{} did not stop within {STOP:?}", self.name),
        }
    }

    /// Another process may have its number once it was waited for.
    fn signal(&self, signal: Signal) {
        let group = i32::try_from(self.child.id()).ok().filter(|_| self.ended.is_none());
        // One that has just ended needs none.
        let _ = group.map(|group| killpg(Pid::from_raw(group), signal));
    }
}

impl Drop for Process {
    /// What it started goes with it.
    fn drop(&mut self) {
        self.signal(Signal::SIGKILL);
        // It has ended, or does so now.
        let _ = self.child.wait();
    }
}

impl Memory {
    fn parse(status: &str) -> Option<Self> {
        let mib = |field: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(field))?;
            let kib: u32 = line.trim().trim_end_matches(" kB").parse().ok()?;
            Some(f64::from(kib) / 1024.0)
        };
        Some(Self { now: mib("VmRSS:")?, peak: mib("VmHWM:")? })
    }
}

/// A file that no other process of this place writes to.
fn unused(folder: &Path, name: &str) -> PathBuf {
    let mut paths = (0_u32..).map(|number| folder.join(format!("{name}-{number}.log")));
    paths.find(|path| !path.exists()).unwrap_or_else(|| folder.join(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn memory_is_read_in_mebibytes() {
        let status = "Name:\ttaskpost\nVmHWM:\t   40960 kB\nVmRSS:\t   20480 kB\n";
        assert_eq!(Memory::parse(status), Some(Memory { now: 20.0, peak: 40.0 }));
        assert_eq!(Memory::parse("Name:\tzombie\n"), None);
    }

    #[tokio::test]
    async fn a_process_is_found_by_what_it_says() {
        let folder = tempfile::tempdir().unwrap();
        let script = "echo 'It listens on http://127.0.0.1:4711 (ready)'; exec sleep 60";
        let process = Process::start("one", shell(script), folder.path(), Ready::Listens).await.unwrap();
        assert_eq!(process.address, Some("127.0.0.1:4711".parse().unwrap()));
        assert!(process.memory().is_some());
        process.stop().await.unwrap();
    }

    #[tokio::test]
    async fn a_start_that_fails_says_why() {
        let folder = tempfile::tempdir().unwrap();
        let started =
            Process::start("one", shell("echo no luck; exit 3"), folder.path(), Ready::Listens).await;
        let error = format!("{:#}", started.unwrap_err());
        assert!(error.contains("no luck") && error.contains("ended with"), "{error}");
        let process = Process::start("two", shell("echo done"), folder.path(), Ready::AtOnce).await.unwrap();
        assert_eq!(process.ends(Duration::from_mins(1)).await.unwrap(), "done\n");
    }
}
