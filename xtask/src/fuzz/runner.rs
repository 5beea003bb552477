//! Runs schemathesis, and ends it when it does not end by itself.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::report::Report;
use crate::process;

/// How long it may take beyond its time: for the request it waits for, and for its reports.
const GRACE: Duration = Duration::from_mins(2);
const PAUSE: Duration = Duration::from_millis(200);

/// One run.
pub struct Job<'a> {
    /// Where schemathesis is.
    pub program: &'a Path,
    /// Where its reports go, as `<name>.json`, `<name>.xml` and `<name>.log`.
    pub folder: &'a Path,
    /// Its name.
    pub name: &'a str,
    /// Where the product listens.
    pub base: &'a str,
    /// What it is told as a file.
    pub settings: &'a str,
    /// What it is told besides.
    pub options: Vec<String>,
    /// What makes chance repeatable.
    pub seed: u32,
    /// How long it asks.
    pub seconds: u64,
}

impl Job<'_> {
    /// Runs it, and reads its report. Findings are no failure here.
    pub fn run(&self) -> Result<Report> {
        for extension in ["json", "xml", "log"] {
            // Of an earlier run.
            let _none = fs::remove_file(self.file(extension));
        }
        let settings = self.file("toml");
        fs::write(&settings, self.settings)
            .with_context(|| format!("could not write {}", settings.display()))?;
        let log = self.file("log");
        let output = File::create(&log).with_context(|| format!("could not write {}", log.display()))?;
        let mut command = self.command(&settings);
        command.stdin(Stdio::null()).stderr(output.try_clone()?).stdout(output);
        let mut child = command.spawn().context("could not run schemathesis")?;
        let waited = wait(&mut child, Duration::from_secs(self.seconds) + GRACE);
        if waited.is_err() {
            // It may have ended meanwhile.
            let _ended = child.kill().and_then(|()| child.wait());
        }
        waited.with_context(|| format!("see {}", log.display()))?;
        let report = Report::read(&self.file("json"));
        report.with_context(|| format!("schemathesis did not do its work; see {}", log.display()))
    }

    fn command(&self, settings: &Path) -> Command {
        let mut command = Command::new(self.program);
        command.current_dir(self.folder).arg("--config-file").arg(settings);
        command.args(["run", &format!("{}/openapi.json", self.base), "--url", self.base]);
        command.args(["--seed", &self.seed.to_string(), "--max-time", &self.seconds.to_string()]);
        // A finding is not the end of an operation, and nobody waits for its smallest example.
        command.args(["--continue-on-failure", "--no-shrink", "--generation-database", "none"]);
        command.args(["--request-timeout", "30", "--suppress-health-check", "all"]);
        command.args(["--no-color", "--warnings", "off", "--report", "json,junit"]);
        command.arg("--report-json-path").arg(self.file("json"));
        command.arg("--report-junit-path").arg(self.file("xml"));
        // A proxy would not reach this machine's loopback.
        command.args(&self.options).envs([("NO_PROXY", "127.0.0.1"), ("no_proxy", "127.0.0.1")]);
        command
    }

    fn file(&self, extension: &str) -> PathBuf {
        self.folder.join(format!("{}.{extension}", self.name))
    }
}

/// Until it ends. When its time is up it is asked to write its reports and end.
fn wait(child: &mut Child, limit: Duration) -> Result<()> {
    if ends(child, limit)? {
        return Ok(());
    }
    process::capture(Command::new("kill").args(["-s", "INT", &child.id().to_string()]))?;
    if ends(child, GRACE)? {
        return Ok(());
    }
    bail!("schemathesis does not end, and is killed")
}

fn ends(child: &mut Child, limit: Duration) -> Result<bool> {
    let deadline = Instant::now() + limit;
    while child.try_wait()?.is_none() {
        if Instant::now() >= deadline {
            return Ok(false);
        }
        std::thread::sleep(PAUSE);
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_report_is_that_of_this_run() {
        let folder = std::env::temp_dir().join(format!("xtask-fuzz-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("admin.json"), "of an earlier run").unwrap();
        let job = Job {
            program: Path::new("true"),
            folder: &folder,
            name: "admin",
            base: "http://127.0.0.1:1",
            settings: "[auth]\n",
            options: vec!["--include-tag=tasks".to_owned()],
            seed: 7,
            seconds: 1,
        };
        let error = format!("{:#}", job.run().map(drop).unwrap_err());
        assert!(error.contains("did not do its work") && error.contains("there is no"), "{error}");
        let command = job.command(Path::new("s.toml"));
        let words: Vec<_> = command.get_args().map(|word| word.to_string_lossy()).collect();
        assert_eq!(words[..3], ["--config-file", "s.toml", "run"]);
        for word in ["http://127.0.0.1:1/openapi.json", "--include-tag=tasks", "7"] {
            assert!(words.iter().any(|said| said == word), "{word}");
        }
        fs::remove_dir_all(&folder).unwrap();
    }
}
