//! Our programs, built with the features that tests have.

use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::process;
use crate::progress::Progress;
use crate::workspace::Workspace;

/// Tells tests which binary of the product to run, instead of building one.
pub const BINARY: &str = "TASKPOST_BINARY";

/// What is built and tested together. With fewer packages cargo would choose other features, and build everything anew.
pub const ALL_PACKAGES: [&str; 3] = ["--workspace", "--exclude", "taskpost-loadtest"];

/// Builds these programs and returns the folder they are in.
pub fn build(workspace: &Workspace, names: &[&str], release: bool, progress: &Progress) -> Result<PathBuf> {
    progress.step(&format!("building {}", names.join(" and ")));
    let mut cargo = workspace.cargo("build");
    cargo.args(ALL_PACKAGES).args(names.iter().flat_map(|name| ["--bin", name]));
    // A test among the targets, and cargo adds the features of the dev-dependencies, as it does for `cargo test`.
    cargo.args(["--test", "tracing"]);
    if release {
        cargo.arg("--release");
    }
    process::show(&mut cargo).context("the programs do not build")?;
    Ok(workspace.target_folder()?.join(if release { "release" } else { "debug" }))
}
