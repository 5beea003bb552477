//! The project's own commands. `cargo xtask --help` lists them.

mod bench;
mod binaries;
mod ci;
mod drill;
mod environment;
mod exit;
mod fuzz;
mod loadtest;
mod process;
mod product;
mod progress;
mod services;
mod test;
mod tidy;
mod tools;
mod workspace;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use exit::Exit;
use progress::Progress;
use workspace::Workspace;

#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", about = "The project's own commands")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run every test against real services, which it starts itself
    Test(test::Options),
    /// Break the product and everything around it under load, and count what was lost: a table of zeros
    Drill(drill::Options),
    /// Ask the product whatever its OpenAPI document allows and forbids; any answer of 5xx but 503 is a failure
    Fuzz(fuzz::Options),
    /// Load the product in many ways, and say how fast it was: a table and a page with plots
    Loadtest(loadtest::Options),
    /// Measure the product beside what bounds it and what else could do its work: medians, spreads and ratios
    Bench(bench::Options),
    /// Start, stop and find the services that tests and benchmarks use
    #[command(subcommand)]
    Services(services::Command),
    /// Test, then everything `lint` does
    Ci,
    /// fmt, clippy, doc, deny, tidy and, with Docker's client, the compose files
    Lint,
    /// Check what no compiler checks: who depends on whom, what the text must not say, and how it is deployed
    Tidy,
}

fn main() -> ExitCode {
    match run(&Arguments::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            error.downcast_ref().map_or(ExitCode::FAILURE, |exit: &Exit| ExitCode::from(exit.code))
        }
    }
}

fn run(command: &Command) -> anyhow::Result<()> {
    let workspace = Workspace::find()?;
    let progress = Progress::start();
    match command {
        Command::Test(options) => test::run(&workspace, options, &progress),
        Command::Drill(options) => drill::run(&workspace, options, &progress),
        Command::Fuzz(options) => fuzz::run(&workspace, options, &progress),
        Command::Loadtest(options) => loadtest::run(&workspace, options, &progress),
        Command::Bench(options) => bench::run(&workspace, options, &progress),
        Command::Services(command) => services::run(&workspace, command, &progress),
        Command::Ci => ci::everything(&workspace, &progress),
        Command::Lint => ci::lint(&workspace, &progress),
        Command::Tidy => tidy::run(&workspace),
    }
}
