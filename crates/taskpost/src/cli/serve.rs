//! `taskpost`: everything in one process, until a signal.

use std::{net::SocketAddr, time::Instant};

use taskpost_common::{
    Clock,
    config::{Config, Database},
};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::{environment, logs, wire};

/// Serves until SIGTERM or SIGINT, then drains; a second signal ends the process at once.
pub async fn run() -> anyhow::Result<()> {
    let began = Instant::now();
    let config = environment::config()?;
    logs::start(config.log_format);
    let mut signals = Signals::new()?;
    let mut running = wire::start(&config, Clock::system(), wire::install_metrics()?).await?;
    print!("{}", banner(&config, running.address, began));

    let failure = tokio::select! {
        error = running.failed() => Some(error),
        () = signals.next() => None,
    };
    if let Some(error) = &failure {
        tracing::error!(
            error = format!("{error:#}"),
            "a role ended by itself; stopping, so that a supervisor starts all anew"
        );
    } else {
        tracing::info!("stopping: finishing what is in flight; a second signal ends at once");
    }
    tokio::select! {
        () = running.shut_down() => {}
        () = signals.next() => anyhow::bail!("ended at once by a second signal"),
    }
    failure.map_or(Ok(()), Err)
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> anyhow::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// Where it listens, what each part runs on, and what to type next.
fn banner(config: &Config, address: SocketAddr, began: Instant) -> String {
    let store = match config.database {
        Database::Sqlite => format!("SQLite in {}", config.data_dir.display()),
        Database::Postgres(_) => "Postgres (DATABASE_URL)".to_owned(),
    };
    let base = format!("http://{address}");
    let port = if address.port() == 3000 { String::new() } else { format!(" --url {base}") };
    format!(
        "Taskpost {version} listens on {base} (ready after {ready} ms)

  store          {store}
  event log      the store's events table
  delivery queue the store's deliveries table
  rate limit     in memory
  e-mail         files in {mail}
  API docs       {base}/docs

Try it in another terminal:

  TOKEN=$(cargo run --release --quiet -- token{port})
  curl -i {base}/tasks -H \"Authorization: Bearer $TOKEN\" \\
       -H 'Content-Type: application/json' -d '{{\"title\":\"Fix the lift\"}}'

",
        version = env!("CARGO_PKG_VERSION"),
        ready = began.elapsed().as_millis(),
        mail = config.data_dir.join("mail").display(),
    )
}
