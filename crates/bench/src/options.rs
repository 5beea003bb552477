//! What `cargo xtask bench` may be told.

use std::path::PathBuf;

/// What is to be measured, how often and how long.
#[derive(clap::Args, Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of the command line")]
pub struct Options {
    /// How often each row is measured
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    pub rounds: u32,
    /// How long each row is loaded
    #[arg(long, default_value_t = 6, value_parser = clap::value_parser!(u64).range(1..))]
    pub seconds: u64,
    /// One round of 3 seconds: to see that everything works, not how fast it is
    #[arg(long)]
    pub quick: bool,
    /// Only rows whose name contains this; may be said several times
    #[arg(long, value_name = "PART")]
    pub only: Vec<String>,
    /// Where the peers are; a row whose peer is not there is left out
    #[arg(long, default_value = "../shared/peers", value_name = "FOLDER")]
    pub peers: PathBuf,
    /// Append the medians to the history
    #[arg(long)]
    pub record: bool,
    /// Only say which rows there are
    #[arg(long)]
    pub list: bool,
    /// Instead of the usual rows: what a request costs with 1k, 100k and 1M tasks
    #[arg(long)]
    pub growth: bool,
    /// Instead of the usual rows: a constant load for so long, and whether memory and lag stay flat
    #[arg(long, value_name = "MINUTES")]
    pub soak: Option<u64>,
    /// Instead of the usual rows: 1, 2 and 3 API processes, 1, 2 and 4 of consumers
    #[arg(long)]
    pub scale: bool,
    /// Instead of the usual rows: one project with very many tasks
    #[arg(long)]
    pub projects: bool,
    /// How many tasks that project has
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(1_000..))]
    pub tasks: u32,
    /// Where logs and results go
    #[arg(long, default_value = "target/bench", value_name = "FOLDER")]
    pub folder: PathBuf,
    /// The history: a line of JSON for each recorded run
    #[arg(long, default_value = "docs/benchmarks.jsonl", value_name = "FILE")]
    pub history: PathBuf,
    #[command(flatten)]
    pub given: Given,
}

/// What xtask finds for us.
#[derive(clap::Args, Clone, Debug)]
pub struct Given {
    /// The product's binary, built without crash points
    #[arg(long, env = "TASKPOST_BINARY", hide = true)]
    pub taskpost: Option<PathBuf>,
    /// wrk
    #[arg(long, env = "TASKPOST_BENCH_WRK", hide = true)]
    pub wrk: Option<PathBuf>,
    /// pgbench
    #[arg(long, env = "TASKPOST_BENCH_PGBENCH", hide = true)]
    pub pgbench: Option<PathBuf>,
    /// The Postgres of tests and benchmarks
    #[arg(long, env = "TASKPOST_TEST_POSTGRES_URL", hide = true, hide_env_values = true)]
    pub postgres: Option<String>,
    /// Its Kafka
    #[arg(long, env = "TASKPOST_TEST_KAFKA_BROKERS", hide = true)]
    pub kafka: Option<String>,
    /// Its RabbitMQ
    #[arg(long, env = "TASKPOST_TEST_RABBITMQ_URL", hide = true, hide_env_values = true)]
    pub rabbitmq: Option<String>,
    /// Its Redis
    #[arg(long, env = "TASKPOST_TEST_REDIS_URL", hide = true, hide_env_values = true)]
    pub redis: Option<String>,
}

impl Options {
    /// Whether a row of this name was asked for.
    pub fn wants(&self, name: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|part| name.contains(part.as_str()))
    }

    /// Whether something else than the usual rows was asked for.
    pub fn is_special(&self) -> bool {
        self.growth || self.soak.is_some() || self.scale || self.projects
    }

    /// With what `--quick` means.
    #[must_use]
    pub fn settled(mut self) -> Self {
        if self.quick {
            (self.rounds, self.seconds) = (1, 3);
        }
        self
    }
}
