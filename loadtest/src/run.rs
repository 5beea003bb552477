//! One scenario after the other, and what came of all.

use std::{fs, process::ExitCode, time::Duration};

use anyhow::{Context as _, Result};
use tokio::time::sleep;

use crate::{options::Options, progress::Progress, report, row::Row, scenarios::Scenario, target::Target};

/// The rate of an open loop when nothing else says it.
const USUAL_RATE: u32 = 1_000;

/// What every scenario is given.
pub struct Context {
    /// What the command line said.
    pub options: Options,
    /// The instance that is loaded.
    pub target: Target,
    /// Who says what runs.
    pub progress: Progress,
    /// The most tasks in a second that a closed loop has posted so far.
    peak: u64,
}

/// How the run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// All was measured, and nothing happened that must not be.
    Fine,
    /// The table says what happened.
    Failed,
    /// By Ctrl-C; the table has what was measured before.
    Interrupted,
}

/// Runs the scenarios, prints the table and writes the results.
pub async fn run(options: Options) -> Result<Ending> {
    let folder = options.folder.clone();
    fs::create_dir_all(&folder).with_context(|| format!("could not create {}", folder.display()))?;
    let target = Target::new(&options.host)?;
    target.ready().await?;
    // The first account of an instance may be an admin, who sees everybody's tasks; it does nothing here.
    target.one("first").await?;
    let mut context = Context::new(options, target);
    let mut rows: Vec<Row> = Vec::new();
    let mut interrupted = false;
    for scenario in wanted(&context.options) {
        context.progress.begin(scenario.name(), context.options.seconds);
        let ran = measure(&context, scenario).await;
        context.progress.end();
        interrupted = goose::is_killswitch_triggered();
        let measured = match ran {
            Some(Ok(measured)) => measured,
            Some(Err(error)) => {
                eprintln!("{}: {error:#}", scenario.name());
                vec![Row::failed(scenario.name(), scenario.kind(), &format!("{error:#}"))]
            }
            None => Vec::new(),
        };
        context.learn(scenario, &measured);
        rows.extend(measured);
        if interrupted {
            break;
        }
    }
    print!("{}", report::table(&rows));
    let page = report::write(&folder, &context.options, &rows)?;
    println!("\n{}", page.display());
    Ok(match (interrupted, rows.iter().all(Row::is_fine)) {
        (true, _) => Ending::Interrupted,
        (false, true) => Ending::Fine,
        (false, false) => Ending::Failed,
    })
}

impl Context {
    /// Nothing was measured yet.
    pub fn new(options: Options, target: Target) -> Self {
        Self { options, target, progress: Progress::start(), peak: 0 }
    }

    /// The rate of the open loops: half of what a closed loop reached is a load that a server should stand.
    pub fn rate(&self) -> u32 {
        let half = u32::try_from(self.peak / 2).ok().filter(|half| *half > 0);
        self.options.rate.or(half).unwrap_or(USUAL_RATE)
    }

    fn learn(&mut self, scenario: Scenario, rows: &[Row]) {
        if matches!(scenario, Scenario::Burst | Scenario::OhaClosed) {
            let reached = rows.iter().map(|row| row.per_second).max();
            self.peak = self.peak.max(reached.unwrap_or(0));
        }
    }
}

/// What the scenario measured; none when it was interrupted. Goose ends by itself then.
async fn measure(context: &Context, scenario: Scenario) -> Option<Result<Vec<Row>>> {
    if scenario.is_goose() {
        return Some(scenario.run(context).await);
    }
    tokio::select! {
        measured = scenario.run(context) => Some(measured),
        () = interrupted() => None,
    }
}

/// Goose takes Ctrl-C for the whole process once it has run, and remembers it.
async fn interrupted() {
    while !goose::is_killswitch_triggered() {
        sleep(Duration::from_millis(200)).await;
    }
}

/// What the command line names, else all that can run here.
fn wanted(options: &Options) -> Vec<Scenario> {
    if !options.scenarios.is_empty() {
        return options.scenarios.clone();
    }
    let runs = |scenario: &Scenario| options.oha.is_some() || !scenario.is_oha();
    Scenario::all().into_iter().filter(runs).collect()
}

impl From<Ending> for ExitCode {
    fn from(ending: Ending) -> Self {
        match ending {
            Ending::Fine => Self::SUCCESS,
            Ending::Failed => Self::FAILURE,
            // As a shell reports a program that Ctrl-C has ended.
            Ending::Interrupted => Self::from(130),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::row::Loop;

    #[test]
    fn without_oha_all_but_its_scenarios_run() {
        let of = |line: &[&str]| wanted(&Options::parse_from([&["loadtest"], line].concat()));
        assert_eq!(of(&["--oha", "oha"]), Scenario::all());
        let without = of(&[]);
        assert_eq!(without.len(), Scenario::all().len() - 2);
        assert!(!without.iter().any(|scenario| scenario.is_oha()));
        assert_eq!(of(&["--scenario", "oha-open"]), [Scenario::OhaOpen]);
    }

    #[tokio::test]
    async fn an_open_loop_takes_half_of_what_a_closed_one_reached() {
        let options = Options::parse_from(["loadtest"]);
        let target = Target::new(&options.host).unwrap();
        let mut context = Context::new(options, target);
        assert_eq!(context.rate(), USUAL_RATE);
        let row = Row { per_second: 9_001, ..Row::failed("burst", Loop::Closed, "") };
        context.learn(Scenario::Mixed, std::slice::from_ref(&row));
        assert_eq!(context.rate(), USUAL_RATE);
        context.learn(Scenario::Burst, &[row]);
        assert_eq!(context.rate(), 4_500);
        context.options.rate = Some(70);
        assert_eq!(context.rate(), 70);
    }
}
