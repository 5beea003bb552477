//! `taskpost doctor`: looks at everything this process would stand on, and says what to do where something is wrong.

mod brokers;
mod machine;
mod secrets;
mod store;

use std::time::Duration;

use anyhow::bail;
use clap::Args;
use serde_json::{Value, json};
use taskpost_common::{Clock, config::Config};

use super::table::table;
use crate::environment;
use secrets::Secrets;

/// How long one look may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// How to show what was found.
#[derive(Debug, Args)]
pub struct Options {
    /// As JSON, for scripts
    #[arg(long)]
    json: bool,
}

/// What was found.
#[derive(Debug)]
struct Finding {
    name: &'static str,
    verdict: Verdict,
    detail: String,
    /// What to do.
    mend: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Verdict {
    Ok,
    Warn,
    Fail,
}

impl Verdict {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Fail => "fail",
        }
    }
}

impl Finding {
    fn ok(name: &'static str, detail: impl Into<String>) -> Self {
        Self { name, verdict: Verdict::Ok, detail: detail.into(), mend: None }
    }

    fn warn(name: &'static str, detail: impl Into<String>, mend: impl Into<String>) -> Self {
        Self { name, verdict: Verdict::Warn, detail: detail.into(), mend: Some(mend.into()) }
    }

    fn fail(name: &'static str, detail: impl Into<String>, mend: impl Into<String>) -> Self {
        Self { name, verdict: Verdict::Fail, detail: detail.into(), mend: Some(mend.into()) }
    }
}

/// Looks, prints what it found, and fails if anything must be mended.
pub async fn run(options: Options) -> anyhow::Result<()> {
    let findings = match environment::config() {
        Ok(config) => {
            let secrets = Secrets::of(&config);
            let findings = Box::pin(look(config)).await?;
            findings.into_iter().map(|finding| secrets.hide(finding)).collect()
        }
        Err(error) => vec![Finding::fail("variables", format!("{error:#}"), "correct the variable")],
    };
    print(&findings, options.json);
    match findings.iter().filter(|finding| finding.verdict == Verdict::Fail).count() {
        0 => Ok(()),
        failed => bail!("{failed} of {} checks failed", findings.len()),
    }
}

async fn look(mut config: Config) -> anyhow::Result<Vec<Finding>> {
    let clock = Clock::system();
    // What `DB_TYPE=memdb` would work in, and a stand-in for a database that is not made yet.
    let temporary = tempfile::tempdir()?;
    if config.temporary {
        temporary.path().clone_into(&mut config.data_dir);
    }
    let mut findings = machine::folder(&config);
    let (stored, brokers, machine) = tokio::join!(
        store::look(&config, &clock),
        brokers::look(&config, &clock, temporary.path()),
        machine::look(&config),
    );
    findings.extend(stored.into_iter().chain(brokers).chain(machine));
    Ok(findings)
}

/// A look that takes too long is a finding as well.
async fn in_time(name: &'static str, look: impl Future<Output = Vec<Finding>>) -> Vec<Finding> {
    tokio::time::timeout(PATIENCE, look).await.unwrap_or_else(|_| {
        let detail = format!("no answer within {} s", PATIENCE.as_secs());
        vec![Finding::fail(name, detail, "see that it is up and not overloaded")]
    })
}

fn print(findings: &[Finding], as_json: bool) {
    if as_json {
        println!("{:#}", value(findings));
        return;
    }
    let row = |finding: &Finding| {
        [finding.name.to_owned(), finding.verdict.as_str().to_owned(), finding.detail.clone()]
    };
    print!("{}", table(["CHECK", "STATUS", "DETAIL"], &findings.iter().map(row).collect::<Vec<_>>()));
    let mends = || findings.iter().filter_map(|finding| Some((finding.name, finding.mend.as_deref()?)));
    if mends().next().is_some() {
        println!("\nWhat to do:");
    }
    for (name, mend) in mends() {
        println!("  {name}: {mend}");
    }
}

fn value(findings: &[Finding]) -> Value {
    let check = |finding: &Finding| {
        json!({
            "name": finding.name,
            "status": finding.verdict.as_str(),
            "detail": finding.detail,
            "mend": finding.mend,
        })
    };
    let worst = findings.iter().map(|finding| finding.verdict).max().unwrap_or(Verdict::Ok);
    json!({"status": worst.as_str(), "checks": findings.iter().map(check).collect::<Vec<_>>()})
}
