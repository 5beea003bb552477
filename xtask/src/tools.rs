//! Tools that are built once into `target/tools`.

use std::path::PathBuf;
use std::process::Command;

use anyhow::Result;

use crate::process;
use crate::progress::Progress;
use crate::workspace::Workspace;

/// A program that cargo builds from its published source.
struct Tool {
    name: &'static str,
    version: &'static str,
    takes: &'static str,
}

const CARGO_DENY: Tool = Tool { name: "cargo-deny", version: "0.20.2", takes: "two minutes" };
const OHA: Tool = Tool { name: "oha", version: "1.16.0", takes: "four minutes" };

/// cargo-deny in the version this project is checked with; built when it is not there.
pub fn cargo_deny(workspace: &Workspace, progress: &Progress) -> Result<PathBuf> {
    CARGO_DENY.installed(workspace, progress)
}

/// oha, which loads the product; built when it is not there. It cannot be a dependency: it links another SQLite.
pub fn oha(workspace: &Workspace, progress: &Progress) -> Result<PathBuf> {
    OHA.installed(workspace, progress)
}

impl Tool {
    fn installed(&self, workspace: &Workspace, progress: &Progress) -> Result<PathBuf> {
        let Self { name, version, takes } = self;
        let tools = workspace.root.join("target").join("tools");
        let program = tools.join("bin").join(name);
        let there = process::capture(Command::new(&program).arg("--version"));
        if there.is_ok_and(|outcome| outcome.ok && self.is(&outcome.stdout)) {
            return Ok(program);
        }
        progress.step(&format!("building {name} {version} into target/tools (once, about {takes})"));
        let mut install = workspace.cargo("install");
        install.args([name, "--locked", "--quiet", "--version", version, "--root"]).arg(&tools);
        process::show(&mut install)?;
        Ok(program)
    }

    /// Whether a program that says this of itself is the one.
    fn is(&self, said: &str) -> bool {
        said.split_whitespace().next_back() == Some(self.version)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_version_is_not_the_tool() {
        assert!(OHA.is("oha 1.16.0"));
        for other in ["oha 11.16.0", "oha 1.16.0-beta", ""] {
            assert!(!OHA.is(other), "{other}");
        }
    }
}
