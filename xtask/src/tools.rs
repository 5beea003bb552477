//! Tools that are built once into `target/tools`.

use std::path::PathBuf;
use std::process::Command;

use anyhow::Result;

use crate::process;
use crate::progress::Progress;
use crate::workspace::Workspace;

const CARGO_DENY: &str = "0.20.2";

/// cargo-deny in the version this project is checked with; built when it is not there (about two minutes).
pub fn cargo_deny(workspace: &Workspace, progress: &Progress) -> Result<PathBuf> {
    let tools = workspace.root.join("target").join("tools");
    let program = tools.join("bin").join("cargo-deny");
    let there = process::capture(Command::new(&program).arg("--version"));
    if there.is_ok_and(|outcome| outcome.ok && outcome.stdout.ends_with(CARGO_DENY)) {
        return Ok(program);
    }
    progress.step(&format!("building cargo-deny {CARGO_DENY} into target/tools (once, about two minutes)"));
    let mut install = workspace.cargo("install");
    install.args(["cargo-deny", "--locked", "--quiet", "--version", CARGO_DENY, "--root"]).arg(&tools);
    process::show(&mut install)?;
    Ok(program)
}
