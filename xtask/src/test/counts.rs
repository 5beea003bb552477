//! Runs `cargo test` with its output shown, and counts what it says. How it ends decides; the counts are for people.

use std::fmt;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use anyhow::{Context, Result};

/// How many tests passed and failed.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Counts {
    /// Of all.
    pub passed: u32,
    /// Of all.
    pub failed: u32,
    /// Passed and failed on SQLite.
    pub sqlite: (u32, u32),
    /// Passed and failed on Postgres.
    pub postgres: (u32, u32),
    /// The names of those that failed.
    pub failures: Vec<String>,
    /// The names of those that failed beside others, and passed when they were run again.
    pub flaky: Vec<String>,
    /// How many programs began to run tests and have not come to their end.
    pub unended: i32,
}

impl Counts {
    /// Those of each database, by its name.
    pub fn by_database(&self) -> impl Iterator<Item = (&'static str, (u32, u32))> {
        [("sqlite", self.sqlite), ("postgres", self.postgres)].into_iter()
    }

    /// Whether all that went wrong are tests that failed: every program came to its end.
    pub fn only_failures(&self) -> bool {
        self.unended == 0 && usize::try_from(self.failed) == Ok(self.failures.len())
    }

    fn read(&mut self, line: &str) {
        if line.starts_with("running ") && (line.ends_with(" test") || line.ends_with(" tests")) {
            self.unended += 1;
        } else if let Some(summary) = line.strip_prefix("test result: ") {
            self.passed += number_before(summary, " passed");
            self.failed += number_before(summary, " failed");
            self.unended -= 1;
        } else if let Some((name, result)) =
            line.strip_prefix("test ").and_then(|rest| rest.rsplit_once(" ... "))
        {
            if result == "FAILED" {
                self.failures.push(name.to_owned());
            }
            let database = match name.rsplit("::").next() {
                Some("sqlite") => &mut self.sqlite,
                Some("postgres") => &mut self.postgres,
                _ => return,
            };
            match result {
                "ok" => database.0 += 1,
                "FAILED" => database.1 += 1,
                _ => {}
            }
        }
    }
}

/// So that a failed run can say how far it came.
impl fmt::Display for Counts {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} passed, {} failed", self.passed, self.failed)
    }
}

impl std::error::Error for Counts {}

/// Runs it. Returns whether it ended well, and what was counted.
pub fn run(cargo: &mut Command) -> Result<(bool, Counts)> {
    let mut child =
        cargo.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().context("could not run cargo")?;
    let output = child.stdout.take().context("cargo has no output")?;
    let mut counts = Counts::default();
    for line in BufReader::new(output).split(b'\n') {
        let line = line.context("could not read cargo's output")?;
        let line = String::from_utf8_lossy(&line);
        println!("{line}");
        counts.read(line.trim_end());
    }
    Ok((child.wait().context("could not wait for cargo")?.success(), counts))
}

/// "12 passed; 0 failed" has 12 before " passed".
fn number_before(text: &str, word: &str) -> u32 {
    let before = text.find(word).map_or("", |at| &text[..at]);
    before.rsplit(' ').next().and_then(|number| number.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cargo_test_says_is_counted() {
        let mut counts = Counts::default();
        for line in [
            "running 4 tests",
            "test a_case::sqlite ... ok",
            "test a_case::postgres ... FAILED",
            "test other::sqlite ... ignored",
            "test unit::it_adds ... ok",
            "test result: FAILED. 2 passed; 1 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.5s",
            "running 1 test",
            "test result: ok. 30 passed; 0 failed; 0 ignored; 0 measured; 12 filtered out; finished in 1.02s",
        ] {
            counts.read(line);
        }
        let failures = vec!["a_case::postgres".to_owned()];
        let expected =
            Counts { passed: 32, failed: 1, sqlite: (1, 0), postgres: (0, 1), failures, ..Counts::default() };
        assert_eq!(counts, expected);
        assert!(counts.only_failures());
        counts.read("running 7 tests");
        assert!(!counts.only_failures(), "a program did not come to its end");
    }
}
