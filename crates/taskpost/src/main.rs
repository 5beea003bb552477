//! `taskpost`: names the roles; `wire.rs` builds them.

use clap::Parser;
use taskpost::{
    cli::{self, Cli, Command},
    wire::Roles,
};

/// Faster than the C library's under many small allocations (ADR 14).
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> anyhow::Result<()> {
    let cli = Cli::parse();
    keep_pages_small();
    taskpost::wire::install_crypto();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        match cli.command {
            None => cli::serve::run(Roles::ALL).await,
            Some(Command::Api) => cli::serve::run(Roles::API).await,
            Some(Command::Consumers) => cli::serve::run(Roles::CONSUMERS).await,
            Some(Command::Workers) => cli::serve::run(Roles::WORKERS).await,
            Some(Command::Migrate(command)) => cli::migrate::run(command).await,
            Some(Command::Doctor(options)) => cli::doctor::run(options).await,
            Some(Command::Token(options)) => cli::token::run(options).await,
        }
    })
}

/// With transparent huge pages each of the allocator's arenas costs 2 MiB from its first byte on.
fn keep_pages_small() {
    // A kernel without them has nothing to turn off.
    #[cfg(target_os = "linux")]
    let _ = nix::sys::prctl::set_thp_disable(true);
}
