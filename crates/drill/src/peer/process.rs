//! One of the peer's processes: this very program, started anew.

use std::{
    env,
    process::{Child, Command, Stdio},
};

use anyhow::ensure;

/// A running process. Dropping it kills it.
pub(super) struct Process {
    arguments: Vec<String>,
    child: Child,
}

impl Process {
    /// Starts `drill peer` with these arguments. What it logs is dropped: the failures it meets are ours.
    pub(super) fn start(arguments: Vec<String>) -> anyhow::Result<Self> {
        Ok(Self { child: spawn(&arguments)?, arguments })
    }

    /// Ends it as a power cut would, and starts it again at once, as a supervisor does.
    pub(super) fn kill(&mut self) -> anyhow::Result<()> {
        self.must_run()?;
        self.child.kill()?;
        self.child.wait()?;
        self.child = spawn(&self.arguments)?;
        Ok(())
    }

    /// An error if it has ended by itself, which makes the run worth nothing.
    pub(super) fn must_run(&mut self) -> anyhow::Result<()> {
        let ended = self.child.try_wait()?;
        ensure!(ended.is_none(), "the peer's {} has ended by itself", self.arguments[0]);
        Ok(())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn spawn(arguments: &[String]) -> anyhow::Result<Child> {
    let mut command = Command::new(env::current_exe()?);
    command.arg("peer").args(arguments);
    Ok(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?)
}
