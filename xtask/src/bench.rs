//! `cargo xtask bench`: the services, the product as it is released, and the bench's own program against them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::binaries::BINARY;
use crate::environment;
use crate::process;
use crate::progress::Progress;
use crate::services;
use crate::workspace::Workspace;

/// Tell the bench where its programs are.
const WRK: &str = "TASKPOST_BENCH_WRK";
const PGBENCH: &str = "TASKPOST_BENCH_PGBENCH";

/// What `cargo xtask bench` may be told: whatever the bench itself may be told.
#[derive(clap::Args, Default)]
#[command(disable_help_flag = true)]
pub struct Options {
    /// `--help` says what there is; `--list` says which rows; `--quick` only shows that they work
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "OPTIONS")]
    words: Vec<String>,
}

/// Runs the bench. Its exit code becomes ours: a row that broke down is a failure, a missed target is none.
pub fn run(workspace: &Workspace, options: &Options, progress: &Progress) -> Result<()> {
    let folder = workspace.root.join("target").join("bench").join("bin");
    let mut bench = Command::new(build(workspace, "taskpost-bench", "bench", &folder, progress)?);
    bench.current_dir(&workspace.root).args(&options.words);
    let only_tells = |word: &String| ["--list", "--help", "-h"].contains(&word.as_str());
    if options.words.iter().any(only_tells) {
        return process::hand_over(&mut bench, "the bench");
    }
    bench.env(BINARY, build(workspace, "taskpost", "taskpost", &folder, progress)?);
    let services = services::up(workspace, &[], progress)?;
    services::name(workspace, &mut bench, &services)?;
    tell(&mut bench, WRK, wrk(progress)?);
    tell(&mut bench, PGBENCH, pgbench());
    progress.step("the bench");
    process::hand_over(&mut bench, "the bench")
}

/// Builds one package by itself, so that no other turns features of its own on in it, and puts its program where no later
/// build with other features overwrites it.
fn build(
    workspace: &Workspace,
    package: &str,
    program: &str,
    folder: &Path,
    progress: &Progress,
) -> Result<PathBuf> {
    progress.step(&format!("building {program} as it is released"));
    let mut cargo = workspace.cargo("build");
    cargo.args(["--release", "--package", package, "--bin", program]);
    process::show(&mut cargo).with_context(|| format!("{program} does not build"))?;
    let built = workspace.target_folder()?.join("release").join(program);
    let copy = folder.join(program);
    fs::create_dir_all(folder).with_context(|| format!("could not make {}", folder.display()))?;
    // A program that runs cannot be written to, but another can take its place.
    let draft = folder.join(format!("{program}.new"));
    fs::copy(&built, &draft)
        .and_then(|_| fs::rename(&draft, &copy))
        .with_context(|| format!("could not copy {}", built.display()))?;
    Ok(copy)
}

/// wrk; installed when it is missing and that needs nobody's leave. Without it the bench leaves rows out and says so.
fn wrk(progress: &Progress) -> Result<Option<PathBuf>> {
    if let Some(found) = found("wrk") {
        return Ok(Some(found));
    }
    if services::can_install() {
        progress.step("installing the package wrk");
        services::install(&["wrk"])?;
    }
    Ok(found("wrk"))
}

/// pgbench, which comes with the server.
fn pgbench() -> Option<PathBuf> {
    let beside = || {
        let folder = process::must(Command::new("pg_config").arg("--bindir")).ok()?;
        Some(PathBuf::from(folder).join("pgbench")).filter(|path| path.is_file())
    };
    found("pgbench").or_else(beside)
}

fn found(program: &str) -> Option<PathBuf> {
    environment::search_path().into_iter().map(|folder| folder.join(program)).find(|path| path.is_file())
}

fn tell(bench: &mut Command, variable: &str, program: Option<PathBuf>) {
    match program {
        Some(program) => bench.env(variable, program),
        None => bench.env_remove(variable),
    };
}
