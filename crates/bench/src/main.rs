//! `cargo xtask bench`: Taskpost, what bounds it, and what else could do its work, measured in one run.
//!
//! [`run`] has the rounds, [`rows`] what is measured, [`targets`] what is to be reached. What is measured runs as processes
//! of its own: the product's binary, and for parts of the product this binary again, in a hidden mode of [`serve`].

mod bench;
mod figure;
mod history;
mod machine;
mod measure;
mod options;
mod peers;
mod report;
mod rows;
mod run;
mod serve;
mod start;
mod stats;
mod targets;

use std::process::ExitCode;

use clap::Parser;
use options::Options;
use serve::Part;
use tokio::runtime::{Builder, Runtime};

/// As in the product, parts of which run in this program.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(Parser)]
#[command(name = "cargo xtask bench", about = "Taskpost and its peers, measured in one run")]
struct Arguments {
    #[command(flatten)]
    options: Options,
    #[command(subcommand)]
    part: Option<Part>,
}

fn main() -> anyhow::Result<ExitCode> {
    let arguments = Arguments::parse();
    // A kernel without huge pages has none to turn off.
    #[cfg(target_os = "linux")]
    let _ = nix::sys::prctl::set_thp_disable(true);
    taskpost::wire::install_crypto();
    let Some(part) = arguments.part else { return runtime()?.block_on(run::run(arguments.options)) };
    // Two, as in the product.
    let (front, back) = (runtime()?, runtime()?);
    back.block_on(serve::serve(part, front.handle()))?;
    Ok(ExitCode::SUCCESS)
}

fn runtime() -> std::io::Result<Runtime> {
    Builder::new_multi_thread().enable_all().build()
}
