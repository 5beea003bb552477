//! Tools that are built or installed once into `target/tools`.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};

use crate::exit::Exit;
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
/// The version of schemathesis, which Python's own installer fetches.
const SCHEMATHESIS: &str = "4.32.5";

/// cargo-deny in the version this project is checked with; built when it is not there.
pub fn cargo_deny(workspace: &Workspace, progress: &Progress) -> Result<PathBuf> {
    CARGO_DENY.installed(workspace, progress)
}

/// oha, which loads the product; built when it is not there. It cannot be a dependency: it links another SQLite.
pub fn oha(workspace: &Workspace, progress: &Progress) -> Result<PathBuf> {
    OHA.installed(workspace, progress)
}

/// schemathesis, which makes up requests from an OpenAPI document; put into a Python environment of its own when it is
/// not there.
pub fn schemathesis(workspace: &Workspace, progress: &Progress) -> Result<PathBuf> {
    let home = workspace.root.join("target").join("tools").join("schemathesis");
    let (python, program) = (home.join("bin").join("python"), home.join("bin").join("schemathesis"));
    let there = process::capture(Command::new(&program).arg("--version"));
    if there.is_ok_and(|outcome| outcome.ok && says(&outcome.stdout, SCHEMATHESIS)) {
        return Ok(program);
    }
    let version = process::capture(Command::new("python3").arg("--version"));
    if !version.is_ok_and(|outcome| outcome.ok && is_new_enough(&outcome.stdout)) {
        return Err(Exit::not_here(
            "schemathesis needs Python 3.11 or newer as `python3`, and it is not here. Install it (Debian, Ubuntu: \
             `sudo apt-get install python3-venv`; Fedora: `sudo dnf install python3`; macOS: `brew install python`)",
        )
        .into());
    }
    progress.step(&format!("installing schemathesis {SCHEMATHESIS} into target/tools (once, a minute)"));
    process::show(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&home))
        .context("Python cannot make an environment (Debian, Ubuntu: `sudo apt-get install python3-venv`)")?;
    let package = format!("schemathesis=={SCHEMATHESIS}");
    let mut pip = Command::new(python);
    process::show(pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", &package]))?;
    Ok(program)
}

impl Tool {
    fn installed(&self, workspace: &Workspace, progress: &Progress) -> Result<PathBuf> {
        let Self { name, version, takes } = self;
        let tools = workspace.root.join("target").join("tools");
        let program = tools.join("bin").join(name);
        let there = process::capture(Command::new(&program).arg("--version"));
        if there.is_ok_and(|outcome| outcome.ok && says(&outcome.stdout, version)) {
            return Ok(program);
        }
        progress.step(&format!("building {name} {version} into target/tools (once, about {takes})"));
        let mut install = workspace.cargo("install");
        install.args([name, "--locked", "--quiet", "--version", version, "--root"]).arg(&tools);
        process::show(&mut install)?;
        Ok(program)
    }
}

/// Whether a program that says this of itself is of this version.
fn says(said: &str, version: &str) -> bool {
    said.split_whitespace().next_back() == Some(version)
}

/// Whether what Python says of itself will do for schemathesis.
fn is_new_enough(said: &str) -> bool {
    let version = said.strip_prefix("Python ").unwrap_or_default();
    let mut numbers = version.split('.').map(|number| number.parse().unwrap_or(0_u32));
    (numbers.next(), numbers.next()) >= (Some(3), Some(11))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_version_is_not_the_tool() {
        assert!(says("oha 1.16.0", OHA.version));
        assert!(says("schemathesis, version 4.32.5", "4.32.5"));
        for other in ["oha 11.16.0", "oha 1.16.0-beta", ""] {
            assert!(!says(other, OHA.version), "{other}");
        }
    }

    #[test]
    fn an_old_python_will_not_do() {
        for good in ["Python 3.11.7", "Python 3.14.0rc1", "Python 4.0"] {
            assert!(is_new_enough(good), "{good}");
        }
        for bad in ["Python 3.9.2", "Python 2.7.18", "Python", ""] {
            assert!(!is_new_enough(bad), "{bad}");
        }
    }
}
