//! `taskpost` and its roles: serves until a signal.

use std::{fmt::Write as _, net::SocketAddr, time::Instant};

use taskpost_common::{
    Clock,
    config::{Config, Database},
};
use tokio::{
    runtime::Handle,
    signal::unix::{Signal, SignalKind, signal},
};

use crate::{
    environment,
    traces::Traces,
    wire::{self, Roles},
};

/// Serves until SIGTERM or SIGINT, then drains; a second signal ends the process at once. Connections are served on `front`.
pub async fn run(roles: Roles, front: &Handle) -> anyhow::Result<()> {
    let began = Instant::now();
    let mut config = environment::config()?;
    // Removed when this function ends.
    let temporary = config.temporary.then(tempfile::tempdir).transpose()?;
    if let Some(folder) = &temporary {
        folder.path().clone_into(&mut config.data_dir);
    }
    if let (Some(role), Database::Sqlite) = (roles.name, &config.database) {
        anyhow::bail!(
            "DATABASE_URL: `taskpost {role}` shares its store with other processes and needs \
             postgres://user:password@host:port/database; `taskpost` alone serves everything on SQLite"
        );
    }
    let traces = Traces::start(&config, roles.name).await?;
    let ended = serve(&config, roles, began, front).await;
    traces.flush().await;
    ended
}

async fn serve(config: &Config, roles: Roles, began: Instant, front: &Handle) -> anyhow::Result<()> {
    let mut signals = Signals::new()?;
    let mut running = tokio::select! {
        running = wire::start(config, roles, Clock::system(), wire::install_metrics()?, front) => running?,
        // It waits for the store, however long that takes.
        () = signals.next() => return Ok(()),
    };
    print!("{}", banner(config, roles, running.address, began));

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
fn banner(config: &Config, roles: Roles, address: SocketAddr, began: Instant) -> String {
    let base = format!("http://{address}");
    let name = roles.name.map_or_else(|| "Taskpost".to_owned(), |role| format!("Taskpost {role}"));
    let mut text = format!(
        "{name} {version} listens on {base} (ready after {ready} ms)\n\n",
        version = env!("CARGO_PKG_VERSION"),
        ready = began.elapsed().as_millis(),
    );
    for (part, runs_on) in parts(config) {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "  {part:<15}{runs_on}");
    }
    if roles.api {
        text.push_str(&try_it(&base, address));
    } else {
        let _ = writeln!(text, "  health         {base}/health");
    }
    text
}

/// What each part runs on, and the variable that says so.
fn parts(config: &Config) -> [(&'static str, String); 5] {
    let of = |given: bool, real: &str, local: &str| if given { real } else { local }.to_owned();
    [
        (
            "store",
            match config.database {
                Database::Sqlite => format!("SQLite in {}", config.data_dir.display()),
                Database::Postgres(_) => "Postgres (DATABASE_URL)".to_owned(),
            },
        ),
        ("event log", of(config.kafka.is_some(), "Kafka (KAFKA_BROKERS)", "the store's events table")),
        (
            "delivery queue",
            of(config.rabbitmq.is_some(), "RabbitMQ (RABBITMQ_URL)", "the store's deliveries table"),
        ),
        ("rate limit", of(config.redis.is_some(), "Redis (REDIS_URL)", "in memory")),
        (
            "e-mail",
            match config.smtp {
                None => format!("files in {} (SMTP_URL is not set)", config.data_dir.join("mail").display()),
                Some(_) => "SMTP (SMTP_URL)".to_owned(),
            },
        ),
    ]
}

fn try_it(base: &str, address: SocketAddr) -> String {
    let port = if address.port() == 3000 { String::new() } else { format!(" --url {base}") };
    format!(
        "  API docs       {base}/docs

Try it in another terminal:

  TOKEN=$(cargo run --release --quiet -- token{port})
  curl -i {base}/tasks -H \"Authorization: Bearer $TOKEN\" \\
       -H 'Content-Type: application/json' -d '{{\"title\":\"Fix the lift\"}}'

"
    )
}
