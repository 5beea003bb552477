//! The rounds: each measures every row once, in an order that alternates, so that what changes slowly on the machine, such as
//! its heat or a full disk, meets every row alike.

use std::{fs, process::ExitCode};

use anyhow::{Context as _, Result, bail};
use taskpost_common::Clock;
use tokio::{
    signal::unix::{SignalKind, signal},
    time::Instant,
};

use crate::{
    bench::Bench,
    figure::Outcome,
    history::{self, Record},
    machine::{Surroundings, Watch},
    options::Options,
    report,
    rows::{self, Row},
    start::database,
};

/// One measurement of a row.
#[derive(Clone, Debug)]
pub struct Sample {
    /// In which round.
    pub round: u32,
    /// Of which row.
    pub row: &'static str,
    /// What came of it, or why nothing did.
    pub outcome: Result<Outcome, String>,
    /// What else the machine was doing.
    pub surroundings: Surroundings,
}

/// Measures what is wanted and says what came of it. A missed target is no failure; a row that broke down is.
pub async fn run(options: Options) -> Result<ExitCode> {
    let bench = Bench::new(options.settled())?;
    let rows = rows::wanted(&bench.options);
    if bench.options.list {
        for row in rows {
            println!("{:<20} {}", row.name, row.about);
        }
        return Ok(ExitCode::SUCCESS);
    }
    if let Some(server) = &bench.options.given.postgres {
        database::sweep(server).await.context("what earlier runs left in Postgres")?;
    }
    let mut interrupted = signal(SignalKind::interrupt())?;
    let mut terminated = signal(SignalKind::terminate())?;
    // Dropping what runs kills every process of it.
    let samples = tokio::select! {
        samples = measure(&bench, &rows) => samples?,
        _ = interrupted.recv() => bail!("interrupted"),
        _ = terminated.recv() => bail!("terminated"),
    };
    conclude(&bench, &rows, &samples)
}

async fn measure(bench: &Bench, rows: &[Row]) -> Result<Vec<Sample>> {
    let rows = possible(bench, rows).await;
    if rows.is_empty() {
        bail!("there is nothing to measure; `--list` says which rows there are");
    }
    let (mut samples, began) = (Vec::new(), Instant::now());
    for round in 1..=bench.options.rounds {
        let mut order = rows.clone();
        if round.is_multiple_of(2) {
            order.reverse();
        }
        for row in order {
            let watch = Watch::start();
            let outcome = (row.run)(bench).await.map_err(|error| format!("{error:#}"));
            let sample = Sample { round, row: row.name, outcome, surroundings: watch.end() };
            say(&sample, began);
            samples.push(sample);
        }
    }
    Ok(samples)
}

/// The rows for which everything is there; why the others are left out is said.
async fn possible(bench: &Bench, rows: &[Row]) -> Vec<Row> {
    let mut possible = Vec::new();
    'rows: for row in rows {
        for need in row.needs {
            if let Some(why) = bench.lacks(*need).await {
                println!("{} is left out: {why}", row.name);
                continue 'rows;
            }
        }
        possible.push(*row);
    }
    possible
}

fn say(sample: &Sample, began: Instant) {
    let Sample { round, row, outcome, surroundings } = sample;
    let at = began.elapsed().as_secs();
    match outcome {
        Ok(outcome) => println!("[{at:>5} s] round {round}, {row}: {outcome} [{surroundings}]"),
        Err(error) => println!("[{at:>5} s] round {round}, {row}: FAILED: {error} [{surroundings}]"),
    }
}

fn conclude(bench: &Bench, rows: &[Row], samples: &[Sample]) -> Result<ExitCode> {
    let order: Vec<&str> = rows.iter().map(|row| row.name).collect();
    let (figures, last) = (report::figures(samples), history::last(&bench.options.history)?);
    println!("\n{}", report::table(&order, &figures, &last));
    println!("{}", report::reached(&report::rounds(samples)));
    print!("{}", report::surroundings(samples));
    let record = Record {
        at: Clock::system().now().to_rfc3339_opts(chrono::SecondsFormat::Secs, true),
        commit: commit(),
        rounds: bench.options.rounds,
        seconds: bench.options.seconds,
        quiet: samples.iter().all(|sample| sample.surroundings.is_quiet()),
        figures,
    };
    fs::write(bench.folder.join("last.json"), serde_json::to_string_pretty(&record)?)?;
    if bench.options.record {
        history::append(&bench.options.history, &record)?;
        println!("recorded in {}", bench.options.history.display());
    }
    let failed: Vec<&Sample> = samples.iter().filter(|sample| sample.outcome.is_err()).collect();
    for Sample { round, row, outcome, .. } in &failed {
        eprintln!("error: round {round}, {row}: {}", outcome.as_ref().err().map_or("", String::as_str));
    }
    Ok(if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The commit that is checked out, where that can be said.
fn commit() -> Option<String> {
    let mut git = std::process::Command::new("git");
    let said = git.args(["rev-parse", "--short", "HEAD"]).output().ok()?;
    let commit = String::from_utf8(said.stdout).ok()?.trim().to_owned();
    (said.status.success() && !commit.is_empty()).then_some(commit)
}
