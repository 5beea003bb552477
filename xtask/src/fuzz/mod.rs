//! `cargo xtask fuzz`: schemathesis asks the product what its OpenAPI document allows and forbids, as an admin, as
//! anybody and as nobody. An answer of 5xx but 503, a panic, and a product that ends are failures; other findings are
//! told.

mod client;
mod counts;
mod document;
mod report;
mod runner;
mod settings;

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use clap::ValueEnum;

use crate::binaries;
use crate::process;
use crate::product::{Place, Product, Setting};
use crate::progress::Progress;
use crate::services::{self, Service};
use crate::tools;
use crate::workspace::Workspace;
use client::Client;
use counts::Counts;
use document::Document;
use report::Row;
use runner::Job;
use settings::Known;

/// What the product is started with where the environment does not say otherwise: no limit stands in the way, and
/// no webhook reaches anybody.
const SETTINGS: [Setting; 6] = [
    ("COMMIT_WAIT", "5s"),
    ("RATE_LIMIT_AUTH", "10000/s"),
    ("RATE_LIMIT_WRITE", "1000000/s"),
    ("RATE_LIMIT_READ", "1000000/s"),
    ("WEBHOOK_ALLOW_PRIVATE", "false"),
    ("WEBHOOK_PORTS", "9"),
];

/// Nobody guesses it, so nobody changes it: that takes the present one.
const PASSWORD: &str = "no example has this password";

/// They end accounts, or all that an account may do, and the id could be that of who asks. So admins leave them out, but
/// for a part of its own, the last, where who asks is never told its own id. What only ends a session (logging out,
/// ending one's own session) is asked everywhere: whoever is logged out logs in again.
const ON_ACCOUNTS: [&str; 3] = ["update_user", "disable_user", "set_roles"];

/// A part of the run.
struct Part {
    name: &'static str,
    who: Who,
    /// Its share of the time, in percent.
    share: u64,
}

/// Who asks, and for what.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Who {
    /// An admin, for everything but what is on accounts.
    Admin,
    /// Somebody without a role, for everything.
    Member,
    /// Nobody, and whoever has a made-up token, for everything.
    Nobody,
    /// Another admin, for what is on accounts alone.
    Keeper,
}

const PARTS: [Part; 4] = [
    Part { name: "admin", who: Who::Admin, share: 50 },
    Part { name: "member", who: Who::Member, share: 25 },
    Part { name: "nobody", who: Who::Nobody, share: 10 },
    Part { name: "accounts", who: Who::Keeper, share: 15 },
];

/// What `cargo xtask fuzz` may be told.
#[derive(clap::Args)]
pub struct Options {
    /// How long it asks
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=1440))]
    minutes: u64,
    /// Makes chance repeatable; drawn when it is not said
    #[arg(long)]
    seed: Option<u32>,
    /// What the product stands on
    #[arg(long, value_enum, default_value_t = Backend::Sqlite)]
    backend: Backend,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum Backend {
    /// A file in a scratch folder
    Sqlite,
    /// A schema of its own at the server of `services up`
    Postgres,
}

/// Runs it.
pub fn run(workspace: &Workspace, options: &Options, progress: &Progress) -> Result<()> {
    let program = tools::schemathesis(workspace, progress)?;
    // Not as it is released: here an overflow panics, and asking takes longer than answering.
    let binary = binaries::build(workspace, &["taskpost"], false, progress)?.join("taskpost");
    let services = match options.backend {
        Backend::Sqlite => Vec::new(),
        Backend::Postgres => services::up(workspace, &[Service::Postgres], progress)?,
    };
    let place = Place::new(workspace, "fuzz", binary, &SETTINGS, services)?;
    furnish(&place, progress)?;
    let log = place.log();
    let seed = options.seed.unwrap_or_else(drawn);
    println!("seed {seed}");
    let mut product = place.start(progress)?;
    let fuzz = Fuzz {
        program,
        folder: workspace.root.join("target").join("fuzz"),
        seed,
        seconds: options.minutes * 60,
        client: Client::new(&product.base)?,
        progress,
    };
    let mut rows = Vec::new();
    let mut defects = Vec::new();
    if let Err(error) = fuzz.ask(&mut product, &mut rows) {
        defects.push(format!("{error:#}"));
    }
    if let Err(error) = product.stop(progress) {
        defects.push(format!("{error:#}"));
    }
    print!("{}", report::table(&rows));
    defects.extend(judged(&rows, &String::from_utf8_lossy(&fs::read(&log).unwrap_or_default())));
    println!("\nreports: {}/<part>.xml, .json and .log", fuzz.folder.display());
    println!("the product's log: {}", log.display());
    if defects.is_empty() {
        println!("fuzz: no server error in {:.0} s", progress.seconds());
        return Ok(());
    }
    bail!("defects found with seed {seed}:\n{}", defects.join("\n"))
}

/// What a run needs.
struct Fuzz<'a> {
    program: PathBuf,
    folder: PathBuf,
    seed: u32,
    seconds: u64,
    client: Client,
    progress: &'a Progress,
}

impl Fuzz<'_> {
    /// Asks in every part, as long as the product runs.
    fn ask(&self, product: &mut Product, rows: &mut Vec<Row>) -> Result<()> {
        let document = Document::read(&self.client.get("/openapi.json", None)?.body)?;
        let start = self.counts()?;
        let mut before = start.clone();
        for part in &PARTS {
            let began = Instant::now();
            let report = self.ask_as(part, &document, &product.base);
            if let Some(status) = product.ended()? {
                bail!("the product ended by itself in the part {} ({status})", part.name);
            }
            let after = self.counts()?;
            let (counts, seconds) = (after.since(&before), began.elapsed().as_secs());
            rows.push(Row { part: part.name, seconds, counts, report: report.context(part.name)? });
            before = after;
        }
        tell_what_never_worked(&document.operations(), &before.since(&start));
        Ok(())
    }

    fn ask_as(&self, part: &Part, document: &Document, base: &str) -> Result<report::Report> {
        let seconds = (self.seconds * part.share / 100).max(1);
        self.progress.step(&format!("asking as {} for {seconds} s", part.name));
        let email = email(part);
        let account = (part.who != Who::Nobody).then_some((email.as_str(), PASSWORD));
        let known = match account {
            Some((email, password)) => {
                let token = self.client.log_in(email, password)?;
                Known::of(&self.client, document, &token, part.who == Who::Keeper)?
            }
            None => Known::default(),
        };
        let settings = settings::text(account, document, known);
        let job = Job {
            program: &self.program,
            folder: &self.folder,
            name: part.name,
            base,
            settings: &settings,
            options: chosen(part.who),
            seed: self.seed,
            seconds,
        };
        job.run()
    }

    fn counts(&self) -> Result<Counts> {
        Ok(Counts::read(&self.client.get("/metrics", None)?.body))
    }
}

/// A demo, so that there is something to ask for, and the accounts of those who ask.
fn furnish(place: &Place, progress: &Progress) -> Result<()> {
    progress.step("making a store with a demo");
    process::must(&mut place.command(&["migrate", "up"]))?;
    process::must(&mut place.command(&["seed"]))?;
    for part in PARTS.iter().filter(|part| part.who != Who::Nobody) {
        let email = email(part);
        let mut words = vec!["user", "create", "--password-stdin", "--name", part.name, "--email"];
        words.push(&email);
        if part.who != Who::Member {
            words.extend(["--role", "admin"]);
        }
        process::must_with_input(&mut place.command(&words), PASSWORD)?;
    }
    Ok(())
}

fn email(part: &Part) -> String {
    format!("fuzz-{}@taskpost.example", part.name)
}

/// Which operations they ask for.
fn chosen(who: Who) -> Vec<String> {
    let option = match who {
        Who::Admin => "--exclude-operation-id",
        Who::Keeper => "--include-operation-id",
        Who::Member | Who::Nobody => return Vec::new(),
    };
    ON_ACCOUNTS.iter().flat_map(|id| [option.to_owned(), (*id).to_owned()]).collect()
}

/// What is wrong with the answers, by three witnesses: schemathesis, the product's own counts, and its log.
fn judged(rows: &[Row], log: &str) -> Vec<String> {
    let mut defects = Vec::new();
    for Row { part, counts, report, .. } in rows {
        if !report.is_whole() {
            let (code, reason) = (report.exit_code, &report.stop_reason);
            defects.push(format!("{part}: schemathesis did not do its work (exit code {code}, {reason})"));
        }
        if report.server_errors() > 0 {
            defects.push(format!("{part}: server errors found: {}", report.server_errors()));
        }
        defects.extend(counts.errors().into_iter().map(|error| format!("{part}: answered {error}")));
    }
    let panics = log.lines().filter(|line| line.contains("panicked")).count();
    if panics > 0 {
        defects.push(format!("panics in the product's log: {panics}"));
    }
    defects
}

/// Whatever was only ever refused has not been tried in earnest.
fn tell_what_never_worked(operations: &BTreeSet<String>, counts: &Counts) {
    let done = counts.done();
    let never: Vec<&str> =
        operations.iter().map(String::as_str).filter(|operation| !done.contains(operation)).collect();
    let (all, worked) = (operations.len(), operations.len() - never.len());
    println!("\noperations: {all}, of which {worked} answered 2xx or 3xx");
    if !never.is_empty() {
        println!("only ever refused: {}", never.join(", "));
    }
}

/// Anything will do, as it is told.
fn drawn() -> u32 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.subsec_nanos())
}

#[cfg(test)]
mod tests {
    use super::*;

    const REPORT: &str = r#"{"exit_code": 0, "stop_reason": "max_time", "test_cases": {"generated": 9},
        "failures": [], "errors": [], "operations": null}"#;

    fn row(metrics: &str, report: &str) -> Row {
        let report = serde_json::from_str(report).unwrap();
        Row { part: "admin", seconds: 1, counts: Counts::read(metrics), report }
    }

    #[test]
    fn the_parts_are_the_whole() {
        assert_eq!(PARTS.iter().map(|part| part.share).sum::<u64>(), 100);
        assert_eq!(PARTS[3].who, Who::Keeper, "what it does to accounts would be in the way of the others");
        assert_eq!(chosen(Who::Admin)[..2], ["--exclude-operation-id", "update_user"]);
        assert_eq!(chosen(Who::Keeper).len(), 6);
        assert!(chosen(Who::Nobody).is_empty());
    }

    #[test]
    fn a_server_error_is_seen_by_whoever_sees_it() {
        let fine = "taskpost_http_requests_total{method=\"GET\",route=\"/a\",status=\"503\"} 7\n";
        let bad = "taskpost_http_requests_total{method=\"GET\",route=\"/a\",status=\"500\"} 7\n";
        let found = REPORT.replace(
            "\"failures\": []",
            r#""failures": [{"type": "ServerError", "title": "t", "count": 2, "operations": []}]"#,
        );
        assert!(judged(&[row(fine, REPORT)], "all is well").is_empty());
        assert_eq!(judged(&[row(bad, REPORT)], ""), ["admin: answered 500 of GET /a: 7"]);
        assert_eq!(judged(&[row(fine, &found)], ""), ["admin: server errors found: 2"]);
        assert_eq!(judged(&[], "x\nthe handler panicked: no\n"), ["panics in the product's log: 1"]);
        let idle = REPORT.replace("\"generated\": 9", "\"generated\": 0");
        assert_eq!(judged(&[row(fine, &idle)], "").len(), 1);
    }
}
