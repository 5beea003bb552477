//! Runs other programs and turns their failures into errors that name the command.

use std::io::Write;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::exit::Exit;

/// How a program ended and what it printed.
pub struct Outcome {
    /// Whether it exited with 0.
    pub ok: bool,
    /// Its standard output, without the last line break.
    pub stdout: String,
    /// Its standard error, without the last line break.
    pub stderr: String,
}

/// Runs the command with its output shown; an exit other than 0 is an error.
pub fn show(command: &mut Command) -> Result<()> {
    let line = describe(command);
    let status = command.stdin(Stdio::null()).status().with_context(|| format!("could not run `{line}`"))?;
    if !status.success() {
        bail!("`{line}` failed ({status})");
    }
    Ok(())
}

/// Runs a program of ours with its output shown. An exit code other than 0 becomes ours; `what` names the program.
pub fn hand_over(command: &mut Command, what: &str) -> Result<()> {
    let status = command.stdin(Stdio::null()).status().with_context(|| format!("could not run {what}"))?;
    if status.success() {
        return Ok(());
    }
    let code = status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1);
    Err(Exit::with(code, format!("{what} failed ({status})")).into())
}

/// Runs the command and keeps what it prints; an exit other than 0 is for the caller to judge.
pub fn capture(command: &mut Command) -> Result<Outcome> {
    let line = describe(command);
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("could not run `{line}`"))?;
    Ok(Outcome::from(&output))
}

/// Runs the command and returns its standard output; an exit other than 0 is an error with what it said.
pub fn must(command: &mut Command) -> Result<String> {
    let line = describe(command);
    let outcome = capture(command)?;
    if !outcome.ok {
        bail!("`{line}` failed: {}", outcome.said());
    }
    Ok(outcome.stdout)
}

/// As [`must`], with this on its standard input.
pub fn must_with_input(command: &mut Command, input: &str) -> Result<String> {
    let line = describe(command);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().with_context(|| format!("could not run `{line}`"))?;
    if let Some(mut stdin) = child.stdin.take() {
        // A program that ends before it reads says why itself.
        let _sent = stdin.write_all(input.as_bytes());
    }
    let output = child.wait_with_output().with_context(|| format!("could not run `{line}`"))?;
    let outcome = Outcome::from(&output);
    if !outcome.ok {
        bail!("`{line}` failed: {}", outcome.said());
    }
    Ok(outcome.stdout)
}

/// Like `capture`, but none when the program cannot be run or does not end in time. For short output only: it is
/// read after the end.
pub fn capture_within(command: &mut Command, limit: Duration) -> Option<Outcome> {
    let mut child =
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().ok()?;
    let deadline = Instant::now() + limit;
    while child.try_wait().ok()?.is_none() {
        if Instant::now() >= deadline {
            child.kill().ok()?;
            child.wait().ok()?;
            return None;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    child.wait_with_output().ok().as_ref().map(Outcome::from)
}

impl Outcome {
    /// What to show somebody who asks why it failed.
    pub fn said(&self) -> &str {
        if self.stderr.is_empty() { &self.stdout } else { &self.stderr }
    }
}

impl From<&Output> for Outcome {
    fn from(output: &Output) -> Self {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end().to_owned();
        Self { ok: output.status.success(), stdout: text(&output.stdout), stderr: text(&output.stderr) }
    }
}

/// The command as one would type it. Variables are left out: they may hold passwords.
fn describe(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_names_the_command_and_what_it_said() {
        let error = must(Command::new("sh").args(["-c", "echo no such luck >&2; exit 3"])).unwrap_err();
        assert!(error.to_string().contains("sh -c"), "{error}");
        assert!(error.to_string().ends_with("no such luck"), "{error}");
    }

    #[test]
    fn what_is_put_in_is_read() {
        assert_eq!(must_with_input(&mut Command::new("cat"), "a secret\n").unwrap(), "a secret");
        let mut deaf = Command::new("sh");
        let error = must_with_input(deaf.args(["-c", "echo deaf >&2; exit 1"]), "a secret").unwrap_err();
        assert!(error.to_string().ends_with("deaf") && !error.to_string().contains("secret"), "{error}");
    }

    #[test]
    fn its_exit_code_is_ours() {
        let ended = |script: &str| hand_over(Command::new("sh").args(["-c", script]), "the drill");
        assert!(ended("exit 0").is_ok());
        for (script, expected) in [("exit 7", 7), ("kill -9 $$", 1)] {
            let error = ended(script).unwrap_err();
            assert_eq!(error.downcast_ref().map(|exit: &Exit| exit.code), Some(expected), "{error}");
            assert!(error.to_string().starts_with("the drill failed ("), "{error}");
        }
    }

    #[test]
    fn a_program_that_hangs_is_given_up() {
        let started = Instant::now();
        let outcome = capture_within(Command::new("sleep").arg("30"), Duration::from_millis(100));
        assert!(outcome.is_none());
        assert!(started.elapsed() < Duration::from_secs(10));
    }
}
