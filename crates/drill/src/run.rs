//! Chooses cases and seeds, runs them, and says what came of it.

use std::{
    collections::VecDeque,
    fs::{self, File},
    io::Write as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng, seq::IndexedRandom as _};
use tokio::task::JoinSet;

use crate::{
    case::Case,
    cases, peer,
    report::{HEAD, Report},
};

/// How many cases that leave the services alone run at once.
const BESIDE: usize = 2;

/// What is to be run.
#[derive(clap::Args)]
pub struct Wanted {
    /// Everything that is random follows from it; without one it is chosen, and printed
    #[arg(long)]
    seed: Option<u64>,
    /// Only cases whose name contains this
    #[arg(long)]
    case: Option<String>,
    /// Random cases, again and again for so long, instead of each in its turn
    #[arg(long)]
    minutes: Option<u64>,
    /// The short set, with one seed each
    #[arg(long)]
    short: bool,
    /// Only say which cases there are
    #[arg(long)]
    list: bool,
    /// With the product as it is released, but for its crash points; xtask builds it so
    #[arg(long)]
    release: bool,
    /// Where histories and logs go
    #[arg(long, default_value = "target/drill")]
    folder: PathBuf,
}

/// A case with its seed.
type Turn = (Arc<Case>, u64);

/// Runs what is wanted. An error says what failed; the table was printed then too.
pub async fn run(wanted: &Wanted) -> Result<()> {
    let cases: Vec<Arc<Case>> = cases::all()
        .into_iter()
        .filter(|case| wanted.case.as_ref().is_none_or(|part| case.name.contains(part)))
        .filter(|case| !wanted.short || case.short)
        .map(Arc::new)
        .collect();
    if wanted.list {
        for case in cases {
            println!("{} ({}){}", case.name, case.setup.name(), if case.short { ", short" } else { "" });
        }
        return Ok(());
    }
    let seed = wanted.seed.unwrap_or_else(|| rand::rng().random_range(1..1_000_000));
    println!("seed {seed}, {} build", if wanted.release { "release" } else { "debug" });
    let table = Table::begin(&wanted.folder)?;
    let reports = match wanted.minutes {
        Some(minutes) => soak(&cases, seed, Duration::from_mins(minutes), &table).await?,
        None => in_turn(turns(&cases, seed, wanted.short), &table).await?,
    };
    println!("\n{}", table.read()?);
    let peers = if wanted.short || wanted.minutes.is_some() {
        Vec::new()
    } else {
        peer::run(seed, wanted.case.as_deref()).await?
    };
    println!("{}", peer::table(&peers));
    if reports.is_empty() && peers.is_empty() {
        bail!("no case ran");
    }
    let failed: Vec<&str> =
        reports.iter().filter(|report| !report.is_fine()).map(|report| report.case.as_str()).collect();
    if !failed.is_empty() {
        bail!("{} of {} cases failed: {}", failed.len(), reports.len(), failed.join(", "));
    }
    Ok(())
}

/// Each case with as many seeds as it is to have.
fn turns(cases: &[Arc<Case>], seed: u64, short: bool) -> VecDeque<Turn> {
    let seeds = |case: &Case| if short { 1 } else { case.seeds };
    cases.iter().flat_map(|case| (seed..seed + seeds(case)).map(|seed| (Arc::clone(case), seed))).collect()
}

/// One after the other, or a few at once where they leave the services alone.
async fn in_turn(mut turns: VecDeque<Turn>, table: &Table) -> Result<Vec<Report>> {
    let mut reports = Vec::new();
    let mut running = JoinSet::new();
    while !turns.is_empty() || !running.is_empty() {
        while turns
            .front()
            .is_some_and(|(case, _)| running.is_empty() || (case.apart && running.len() < BESIDE))
        {
            let Some(turn) = turns.pop_front() else { break };
            let apart = turn.0.apart;
            running.spawn(play(turn, table.clone()));
            if !apart {
                break;
            }
        }
        let ended = running.join_next().await.context("nothing runs")?;
        reports.push(ended??);
    }
    Ok(reports)
}

/// Random cases until the time is over.
async fn soak(cases: &[Arc<Case>], seed: u64, time: Duration, table: &Table) -> Result<Vec<Report>> {
    let (began, mut random, mut reports) = (Instant::now(), StdRng::seed_from_u64(seed), Vec::new());
    while began.elapsed() < time {
        let case = cases.choose(&mut random).context("no case of that name")?;
        reports.push(play((Arc::clone(case), random.random_range(1..1_000_000)), table.clone()).await?);
    }
    Ok(reports)
}

/// Runs a case, and says at once what came of it.
async fn play((case, seed): Turn, table: Table) -> Result<Report> {
    let name = format!("{} {} {seed}", case.name, case.setup.name()).replace([' ', '/'], "-");
    let folder = table.0.join(name);
    fs::create_dir_all(&folder).with_context(|| format!("could not make {}", folder.display()))?;
    let ours = Arc::clone(&case);
    // A case that panics has failed; the others go on.
    let played = tokio::spawn(async move { ours.run(seed, &folder).await }).await;
    let report = played.unwrap_or_else(|panic| {
        let mut report = Report::new(&case.name, case.setup, seed);
        report.violations.push(format!("the case broke down: {}", words(panic)));
        report
    });
    println!(
        "{} ({}, seed {seed}): {}, {} acknowledged, {:.0} s; {}",
        report.case,
        report.setup.name(),
        report.verdict,
        report.acknowledged,
        report.seconds,
        report.faults.join("; "),
    );
    for violation in &report.violations {
        println!("    {violation}");
    }
    table.add(&report)?;
    Ok(report)
}

/// The table of a run: a file that grows with every case, so that a run that is cut short leaves what it has.
#[derive(Clone)]
struct Table(PathBuf);

impl Table {
    fn begin(folder: &Path) -> Result<Self> {
        let table = Self(folder.to_owned());
        fs::create_dir_all(folder).with_context(|| format!("could not make {}", folder.display()))?;
        fs::write(table.path(), HEAD)
            .with_context(|| format!("could not write {}", table.path().display()))?;
        Ok(table)
    }

    fn add(&self, report: &Report) -> Result<()> {
        let mut file = File::options().append(true).open(self.path())?;
        writeln!(file, "{report}").with_context(|| format!("could not write {}", self.path().display()))
    }

    fn read(&self) -> Result<String> {
        fs::read_to_string(self.path()).with_context(|| format!("could not read {}", self.path().display()))
    }

    fn path(&self) -> PathBuf {
        self.0.join("table.md")
    }
}

fn words(error: tokio::task::JoinError) -> String {
    let Ok(panic) = error.try_into_panic() else { return "it was cancelled".to_owned() };
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "without words".to_owned())
}
