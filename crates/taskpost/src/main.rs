//! `taskpost`: names the roles; `wire.rs` builds them.

use clap::Parser;
use taskpost::{
    cli::{self, Cli, Command},
    wire::Roles,
};
use tokio::runtime::{Builder, Runtime};

/// Faster than the C library's under many small allocations (ADR 14).
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> anyhow::Result<()> {
    let cli = Cli::parse();
    keep_pages_small();
    taskpost::wire::install_crypto();
    // Connections have threads of their own, so that what stores and delivers has its share of the cores however many
    // requests come (ADR 16).
    let (front, back) = (runtime()?, runtime()?);
    back.block_on(async {
        match cli.command {
            None => cli::serve::run(Roles::ALL, front.handle()).await,
            Some(Command::Api) => cli::serve::run(Roles::API, front.handle()).await,
            Some(Command::Consumers) => cli::serve::run(Roles::CONSUMERS, front.handle()).await,
            Some(Command::Workers) => cli::serve::run(Roles::WORKERS, front.handle()).await,
            Some(Command::Migrate(command)) => cli::migrate::run(command).await,
            Some(Command::Doctor(options)) => cli::doctor::run(options).await,
            Some(Command::Token(options)) => cli::token::run(options).await,
        }
    })
}

fn runtime() -> std::io::Result<Runtime> {
    Builder::new_multi_thread().enable_all().build()
}

/// With transparent huge pages each of the allocator's arenas costs 2 MiB from its first byte on.
fn keep_pages_small() {
    // A kernel without them has nothing to turn off.
    #[cfg(target_os = "linux")]
    let _ = nix::sys::prctl::set_thp_disable(true);
}
