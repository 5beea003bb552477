//! `cargo xtask loadtest`: loads Taskpost in many ways, and says how fast it was. See README.md.

mod attack;
mod expected;
mod oha;
mod open;
mod options;
mod posted;
mod progress;
mod receiver;
mod record;
mod report;
mod row;
mod run;
mod scenarios;
mod schedule;
mod target;

use std::process::ExitCode;

use clap::Parser as _;
use options::Options;

#[tokio::main]
async fn main() -> ExitCode {
    let options = Options::parse();
    if options.list {
        print!("{}", scenarios::list());
        return ExitCode::SUCCESS;
    }
    match run::run(options).await {
        Ok(ending) => ending.into(),
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
