//! `cargo xtask test`: the services, then `cargo test` against them, once for each combination of parts.

mod combination;
mod counts;

use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, bail};

use crate::binaries::{self, ALL_PACKAGES, BINARY};
use crate::progress::Progress;
use crate::workspace::Workspace;
use crate::{drill, process, services};
use combination::Combination;
use counts::Counts;

/// So many tests of a combination that fail are run again without the others. Those that pass then are told apart, as a
/// defect to be mended; a busy machine must not stop everybody's work. The drill is never run again.
const FLAKY: usize = 3;

/// So many tests of one program run at once for each core: most of what they do is wait for a service.
const AT_ONCE: usize = 2;

/// What `cargo xtask test` may be told.
#[derive(clap::Args, Default)]
pub struct Options {
    /// Stop the services afterwards; otherwise the next run finds them up
    #[arg(long)]
    down: bool,
    /// Only these, instead of all but `embedded` and `postgres`, which are in `workspace`
    #[arg(long, value_enum, value_delimiter = ',', conflicts_with = "extra")]
    only: Vec<Combination>,
    /// Instead of all combinations, passed on to one `cargo test`; with `-p <package>` only that package is tested
    #[arg(last = true)]
    extra: Vec<String>,
}

/// Runs the tests. The product's own variables are hidden from them and each service is named by its
/// `TASKPOST_TEST_…` variable instead, so that tests of the embedded product stay embedded.
pub fn run(workspace: &Workspace, options: &Options, progress: &Progress) -> Result<()> {
    let result = if options.extra.is_empty() {
        let wanted = if options.only.is_empty() { combination::ALL } else { &options.only };
        run_combinations(workspace, wanted, progress)
    } else {
        run_with_arguments(workspace, &options.extra, progress)
    };
    if options.down {
        services::down(workspace, &[], false, progress)?;
    }
    result.with_context(|| format!("tests FAILED after {:.0} s", progress.seconds()))?;
    println!("test: all passed in {:.0} s", progress.seconds());
    Ok(())
}

fn run_with_arguments(workspace: &Workspace, extra: &[String], progress: &Progress) -> Result<()> {
    let mut cargo = workspace.cargo("test");
    if !names_a_package(extra) {
        let release = own(extra).any(|word| word == "--release" || word == "-r");
        cargo.args(ALL_PACKAGES).env(BINARY, product(workspace, release, progress)?);
    }
    let services = services::up(workspace, &[], progress)?;
    services::name(workspace, cargo.args(extra), &services)?;
    progress.step("cargo test");
    process::show(&mut cargo)
}

/// Every combination runs, whatever became of those before.
fn run_combinations(workspace: &Workspace, wanted: &[Combination], progress: &Progress) -> Result<()> {
    let suite = workspace.test_targets("taskpost-testkit")?;
    let product = product(workspace, false, progress)?;
    let mut rows = Vec::new();
    for combination in wanted {
        progress.step(&format!("testing: {combination}"));
        let started = Instant::now();
        let result = run_combination(workspace, *combination, &suite, &product, progress);
        rows.push(Row { name: combination.to_string(), result, seconds: started.elapsed().as_secs_f64() });
    }
    print!("{}", table(&rows));
    let failed: Vec<&str> = rows.iter().filter(|row| !row.ok()).map(|row| row.name.as_str()).collect();
    if !failed.is_empty() {
        bail!("failed: {}", failed.join(", "));
    }
    Ok(())
}

fn run_combination(
    workspace: &Workspace,
    combination: Combination,
    suite: &[String],
    product: &Path,
    progress: &Progress,
) -> Result<Counts> {
    if combination == Combination::Drill {
        drill::run(workspace, &drill::Options::short(), progress)?;
        return Ok(Counts { passed: 1, ..Counts::default() });
    }
    let (ok, mut counts) = run_tests(workspace, combination, suite, product, &[], progress)?;
    if ok {
        return Ok(counts);
    }
    if counts.only_failures() && (1..=FLAKY).contains(&counts.failures.len()) {
        let failed = std::mem::take(&mut counts.failures);
        progress.step(&format!("again, without the others: {}", failed.join(", ")));
        let (ok, again) = run_tests(workspace, combination, suite, product, &failed, progress)?;
        if ok && usize::try_from(again.passed).is_ok_and(|passed| passed >= failed.len()) {
            return Ok(Counts { failed: 0, flaky: failed, ..counts });
        }
    }
    Err(counts.into())
}

fn run_tests(
    workspace: &Workspace,
    combination: Combination,
    suite: &[String],
    product: &Path,
    alone: &[String],
    progress: &Progress,
) -> Result<(bool, Counts)> {
    // The tests before may have left one of them dead.
    let services = services::up(workspace, &[], progress)?;
    let mut cargo = workspace.cargo("test");
    combination.tell(cargo.args(combination.packages()).arg("--no-fail-fast"), suite, alone);
    services::name(workspace, cargo.env(BINARY, product), &services)?;
    cargo.env("RUST_TEST_THREADS", at_once());
    counts::run(&mut cargo)
}

fn at_once() -> String {
    (AT_ONCE * std::thread::available_parallelism().map_or(1, NonZero::get)).to_string()
}

/// The product's binary, built once for all tests that start it.
fn product(workspace: &Workspace, release: bool, progress: &Progress) -> Result<PathBuf> {
    Ok(binaries::build(workspace, &["taskpost"], release, progress)?.join("taskpost"))
}

/// Cargo's own arguments: those before a `--`.
fn own(extra: &[String]) -> impl Iterator<Item = &String> {
    extra.iter().take_while(|word| *word != "--")
}

fn names_a_package(extra: &[String]) -> bool {
    own(extra).any(|word| word.starts_with("-p") || word.starts_with("--package"))
}

struct Row {
    name: String,
    /// The error may hold the counts.
    result: Result<Counts>,
    seconds: f64,
}

impl Row {
    fn ok(&self) -> bool {
        self.result.as_ref().is_ok_and(|counts| counts.failed == 0 && counts.passed > 0)
    }

    fn counts(&self) -> Option<&Counts> {
        match &self.result {
            Ok(counts) => Some(counts),
            Err(error) => error.downcast_ref(),
        }
    }

    fn verdict(&self) -> String {
        match &self.result {
            Ok(counts) if counts.passed == 0 => "FAILED: no test ran".to_owned(),
            Ok(counts) if !counts.flaky.is_empty() => format!("ok, but flaky: {}", counts.flaky.join(", ")),
            Ok(counts) if counts.failed == 0 => "ok".to_owned(),
            Err(error) if error.downcast_ref::<Counts>().is_none() => format!("FAILED: {error:#}"),
            _ => "FAILED".to_owned(),
        }
    }
}

/// What ran, how it went and how long it took; below `workspace` the tests of each database.
fn table(rows: &[Row]) -> String {
    let line = |name: &str, passed: &str, failed: &str, seconds: &str, verdict: &str| {
        format!("{name:<12} {passed:>7} {failed:>7} {seconds:>8}  {verdict}").trim_end().to_owned() + "\n"
    };
    let mut text = "\n".to_owned() + &line("combination", "passed", "failed", "seconds", "result");
    for row in rows {
        let (seconds, none) = (format!("{:.1}", row.seconds), Counts::default());
        let counts = row.counts().unwrap_or(&none);
        text += &line(
            &row.name,
            &counts.passed.to_string(),
            &counts.failed.to_string(),
            &seconds,
            &row.verdict(),
        );
        for (database, of_it) in counts.by_database().filter(|_| row.name == "workspace") {
            let (passed, failed) = (of_it.0.to_string(), of_it.1.to_string());
            text += &line(&format!("  {database}"), &passed, &failed, "", "");
        }
    }
    text
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

    #[test]
    fn the_table_says_what_failed_and_what_never_ran() {
        let counts = |passed, failed| Counts { passed, failed, ..Counts::default() };
        let row = |name: &str, result| Row { name: name.to_owned(), result, seconds: 2.0 };
        let rows = [
            row("workspace", Ok(Counts { sqlite: (3, 0), ..counts(7, 0) })),
            row("kafka", Err(counts(6, 1).into())),
            row("redis", Ok(counts(0, 0))),
            row("drill", Ok(Counts { flaky: vec!["a::sqlite".to_owned()], ..counts(5, 0) })),
            row("full", Err(anyhow::anyhow!("no cargo"))),
        ];
        assert_eq!(rows.iter().map(Row::ok).collect::<Vec<_>>(), [true, false, false, true, false]);
        let text = table(&rows);
        assert!(
            text.contains("workspace          7       0      2.0  ok\n  sqlite           3       0\n"),
            "{text}"
        );
        assert!(text.contains("kafka              6       1      2.0  FAILED\n"), "{text}");
        assert!(text.contains("FAILED: no test ran\n"), "{text}");
        assert!(text.contains("ok, but flaky: a::sqlite\n"), "{text}");
        assert!(text.contains("FAILED: no cargo\n"), "{text}");
    }
}
