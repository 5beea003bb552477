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
    match cli.command {
        None => serve(Roles::ALL),
        Some(Command::Api) => serve(Roles::API),
        Some(Command::Consumers) => serve(Roles::CONSUMERS),
        Some(Command::Workers) => serve(Roles::WORKERS),
        Some(Command::Migrate(command)) => runtime()?.block_on(cli::migrate::run(command)),
        Some(Command::Events(command)) => runtime()?.block_on(cli::events::run(command)),
        Some(Command::User(command)) => runtime()?.block_on(cli::user::run(command)),
        Some(Command::Seed(options)) => runtime()?.block_on(cli::seed::run(options)),
        Some(Command::Config(options)) => cli::config::run(&options),
        Some(Command::Doctor(options)) => runtime()?.block_on(cli::doctor::run(options)),
        Some(Command::Token(options)) => runtime()?.block_on(cli::token::run(options)),
    }
}

/// Connections have threads of their own, so that what stores and delivers has its share of the cores however many requests
/// come (ADR 16).
fn serve(roles: Roles) -> anyhow::Result<()> {
    let (front, back) = (runtime()?, runtime()?);
    back.block_on(cli::serve::run(roles, front.handle()))
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
