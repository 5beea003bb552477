//! `cargo xtask loadtest`: the product as it is released, the load test's own program against it, and its exit code.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Result, bail};

use crate::process;
use crate::product::Place;
use crate::progress::Progress;
use crate::services;
use crate::tools;
use crate::workspace::Workspace;

/// What the product is started with where the environment does not say otherwise: nothing but the work itself is to
/// stand in the way.
const USUAL: [(&str, &str); 7] = [
    ("COMMIT_WAIT", "5s"),
    ("RATE_LIMIT_AUTH", "10000/s"),
    ("RATE_LIMIT_WRITE", "1000000/s"),
    ("RATE_LIMIT_READ", "1000000/s"),
    ("WEBHOOK_ALLOW_PRIVATE", "true"),
    // One receiver gets all; the usual 2 at once would measure that limit.
    ("WEBHOOK_CONCURRENCY", "32"),
    // An admin's webhook and lists would have everybody's tasks.
    ("FIRST_USER_IS_ADMIN", "false"),
];

/// What `cargo xtask loadtest` may be told: whatever the load test itself may be told, and `--full`.
#[derive(clap::Args)]
#[command(disable_help_flag = true)]
pub struct Options {
    /// `--help` says what there is; `--full` loads the product on Postgres, Kafka, RabbitMQ and Redis
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "OPTIONS")]
    words: Vec<String>,
}

impl Options {
    fn say(&self, option: &str) -> bool {
        let value = format!("{option}=");
        self.words.iter().any(|word| word == option || word.starts_with(&value))
    }

    /// Whether a scenario may run that needs oha: one is named, or none at all.
    fn want_oha(&self) -> bool {
        let named = |word: &String| word.trim_start_matches("--scenario=").starts_with("oha-");
        !self.say("--scenario") || self.words.iter().any(named)
    }

    /// What the load test is told.
    fn handed_over(&self) -> impl Iterator<Item = &String> {
        self.words.iter().filter(|word| *word != "--full")
    }
}

/// Runs the load test. Its exit code becomes ours.
pub fn run(workspace: &Workspace, options: &Options, progress: &Progress) -> Result<()> {
    let (given, full) = (options.say("--host"), options.say("--full"));
    if given && full {
        bail!("--full starts a product, --host names one: say one of them");
    }
    let mut loadtest = Command::new(build(workspace, "taskpost-loadtest", progress)?);
    loadtest.current_dir(&workspace.root).args(options.handed_over());
    if ["--list", "--help", "-h"].iter().any(|word| options.say(word)) {
        return process::hand_over(&mut loadtest, LOADTEST);
    }
    if options.want_oha() && !options.say("--oha") {
        loadtest.arg("--oha").arg(tools::oha(workspace, progress)?);
    }
    if given {
        return process::hand_over(&mut loadtest, LOADTEST);
    }
    let binary = build(workspace, "taskpost", progress)?;
    let services = if full { services::up(workspace, &[], progress)? } else { Vec::new() };
    let product = Place::new(workspace, "loadtest", binary, &USUAL, services)?.start(progress)?;
    progress.step(LOADTEST);
    // A proxy would not reach this machine's loopback.
    loadtest.args(["--host", &product.base]).env("NO_PROXY", "127.0.0.1");
    let result = process::hand_over(&mut loadtest, LOADTEST);
    let stopped = product.stop(progress);
    if let (Err(_), Err(error)) = (&result, &stopped) {
        eprintln!("error: {error:#}");
    }
    result.and(stopped)
}

const LOADTEST: &str = "the load test";

/// Builds one package as it is released, by itself: together with others it would get features that it does not need.
fn build(workspace: &Workspace, package: &str, progress: &Progress) -> Result<PathBuf> {
    progress.step(&format!("building {package} (release)"));
    let mut cargo = workspace.cargo("build");
    cargo.args(["--release", "--package", package, "--bin", package]);
    process::show(&mut cargo)?;
    Ok(workspace.target_folder()?.join("release").join(package))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(line: &str) -> Options {
        Options { words: line.split_whitespace().map(str::to_owned).collect() }
    }

    #[test]
    fn oha_is_built_only_for_its_scenarios() {
        for line in [
            "",
            "--full",
            "--scenario oha-open",
            "--scenario=oha-closed",
            "--scenario burst --scenario oha-open",
        ] {
            assert!(options(line).want_oha(), "{line}");
        }
        for line in ["--scenario burst", "--scenario=mixed --seconds 5"] {
            assert!(!options(line).want_oha(), "{line}");
        }
    }

    #[test]
    fn only_full_is_not_for_the_load_test() {
        let options = options("--seconds 5 --full --host=http://127.0.0.1:3000");
        assert!(options.say("--host") && options.say("--full") && !options.say("--rate"));
        let handed: Vec<&String> = options.handed_over().collect();
        assert_eq!(handed, ["--seconds", "5", "--host=http://127.0.0.1:3000"]);
    }
}
