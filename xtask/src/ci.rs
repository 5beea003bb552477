//! `cargo xtask ci` and `lint`: every step runs even after a failure, and a table at the end says how each went.

use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use crate::process;
use crate::progress::Progress;
use crate::workspace::Workspace;
use crate::{services, test, tidy, tools};

/// Test, then everything `lint` does.
pub fn everything(workspace: &Workspace, progress: &Progress) -> Result<()> {
    run(&[&[("test", test_all as Run)], LINT].concat(), workspace, progress)
}

/// fmt, clippy, doc, deny, tidy, compose.
pub fn lint(workspace: &Workspace, progress: &Progress) -> Result<()> {
    run(LINT, workspace, progress)
}

type Run = fn(&Workspace, &Progress) -> Result<()>;

const LINT: &[(&str, Run)] = &[
    ("fmt", fmt),
    ("clippy", clippy),
    ("doc", doc),
    ("deny", deny),
    ("tidy", |workspace, _| tidy::run(workspace)),
    ("compose", compose),
];

fn test_all(workspace: &Workspace, progress: &Progress) -> Result<()> {
    test::run(workspace, &test::Options::default(), progress)
}

fn fmt(workspace: &Workspace, _: &Progress) -> Result<()> {
    process::show(workspace.cargo("fmt").args(["--all", "--check"]))
}

fn clippy(workspace: &Workspace, _: &Progress) -> Result<()> {
    process::show(workspace.cargo("clippy").args(["--workspace", "--all-targets", "--", "-D", "warnings"]))
}

fn doc(workspace: &Workspace, _: &Progress) -> Result<()> {
    let mut doc = workspace.cargo("doc");
    process::show(doc.args(["--workspace", "--no-deps"]).env("RUSTDOCFLAGS", "-D warnings"))
}

fn deny(workspace: &Workspace, progress: &Progress) -> Result<()> {
    let mut deny = Command::new(tools::cargo_deny(workspace, progress)?);
    process::show(deny.current_dir(&workspace.root).args(["check", "bans", "licenses", "sources"]))
}

/// Docker's own check of the compose files, where its client is; what needs no client is part of tidy.
fn compose(workspace: &Workspace, progress: &Progress) -> Result<()> {
    if !services::has_compose() {
        progress.step("no `docker compose` here; tidy has looked at the files");
        return Ok(());
    }
    for file in ["docker-compose.yml", "docker-compose.infra.yml"] {
        let mut config = Command::new("docker");
        config.current_dir(&workspace.root).args(["compose", "--file", file, "config", "--quiet"]);
        process::show(&mut config)?;
    }
    Ok(())
}

fn run(steps: &[(&'static str, Run)], workspace: &Workspace, progress: &Progress) -> Result<()> {
    let mut rows = Vec::new();
    for (name, step) in steps {
        progress.step(name);
        let started = Instant::now();
        let result = step(workspace, progress);
        if let Err(error) = &result {
            eprintln!("{name}: {error:#}");
        }
        rows.push(Row { name, took: started.elapsed(), ok: result.is_ok() });
    }
    print!("{}", table(&rows));
    let failed: Vec<&str> = rows.iter().filter(|row| !row.ok).map(|row| row.name).collect();
    if !failed.is_empty() {
        bail!("failed: {}", failed.join(", "));
    }
    Ok(())
}

struct Row {
    name: &'static str,
    took: Duration,
    ok: bool,
}

fn table(rows: &[Row]) -> String {
    let line = |row: &Row| {
        let result = if row.ok { "ok" } else { "FAILED" };
        format!("{:<8} {:>8.1}  {result}\n", row.name, row.took.as_secs_f64())
    };
    let lines: String = rows.iter().map(line).collect();
    format!("\n{:<8} {:>8}  result\n{lines}", "step", "seconds")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_says_which_step_failed() {
        let rows = [
            Row { name: "fmt", took: Duration::from_millis(1500), ok: true },
            Row { name: "tidy", took: Duration::ZERO, ok: false },
        ];
        let text = table(&rows);
        assert!(text.contains("fmt           1.5  ok"), "{text}");
        assert!(text.contains("tidy          0.0  FAILED"), "{text}");
    }
}
