//! `cargo xtask test`: the services, then `cargo test` against them.

use anyhow::{Context, Result};

use crate::process;
use crate::progress::Progress;
use crate::services;
use crate::workspace::Workspace;

/// What `cargo xtask test` may be told.
#[derive(clap::Args, Default)]
pub struct Options {
    /// Stop the services afterwards; otherwise the next run finds them up
    #[arg(long)]
    down: bool,
    /// Passed on to `cargo test`; with `-p <package>` only that package is tested
    #[arg(last = true)]
    extra: Vec<String>,
}

/// Runs the tests. The product's own variables are hidden from them and each service is named by its
/// `TASKPOST_TEST_…` variable instead, so that tests of the embedded product stay embedded.
pub fn run(workspace: &Workspace, options: &Options, progress: &Progress) -> Result<()> {
    let services = services::up(workspace, progress)?;
    let mut cargo = workspace.cargo("test");
    if !names_a_package(&options.extra) {
        cargo.args(["--workspace", "--exclude", "taskpost-loadtest"]);
    }
    cargo.args(&options.extra);
    for (service, url) in &services {
        cargo.env_remove(service.variable()).env(service.test_variable(), url);
    }
    progress.step("cargo test");
    let result = process::show(&mut cargo);
    if options.down {
        services::down(workspace, false, progress)?;
    }
    result.with_context(|| format!("tests FAILED after {:.0} s", progress.seconds()))?;
    println!("test: all passed in {:.0} s", progress.seconds());
    Ok(())
}

/// Whether cargo's own arguments (those before a `--`) choose packages.
fn names_a_package(extra: &[String]) -> bool {
    let own = extra.iter().take_while(|word| *word != "--");
    own.into_iter().any(|word| word.starts_with("-p") || word.starts_with("--package"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_cargos_own_arguments_choose_packages() {
        let words = |line: &str| line.split(' ').map(str::to_owned).collect::<Vec<_>>();
        assert!(names_a_package(&words("-p taskpost-store")));
        assert!(names_a_package(&words("--package=taskpost-store -- --nocapture")));
        assert!(!names_a_package(&words("retry -- -p")));
        assert!(!names_a_package(&[]));
    }
}
