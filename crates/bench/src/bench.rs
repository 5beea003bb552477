//! What every row has at hand: how long to load, the programs, the services and a folder.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};

use crate::{options::Options, peers};

/// What rows are measured with.
#[derive(Debug)]
pub struct Bench {
    /// What was asked for.
    pub options: Options,
    /// This binary, whose hidden modes are parts of the product.
    pub own: PathBuf,
    /// Where scratch things, logs and built peers go; an absolute path.
    pub folder: PathBuf,
    /// Where the peers are; an absolute path.
    pub peers: PathBuf,
}

/// What a row cannot be measured without.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// The product's binary.
    Product,
    /// The load generator.
    Wrk,
    /// The floor.
    Pgbench,
    /// A server for the store.
    Postgres,
    /// The event log.
    Kafka,
    /// The delivery queue.
    Rabbitmq,
    /// The rate limiter.
    Redis,
    /// The usual way in Node.
    Express,
    /// A job queue in Go.
    River,
    /// A job queue in Node.
    Graphile,
}

/// All that the production shape needs.
pub const FULL: &[Need] =
    &[Need::Product, Need::Wrk, Need::Postgres, Need::Kafka, Need::Rabbitmq, Need::Redis];
/// All that the embedded shape needs.
pub const EMBEDDED: &[Need] = &[Need::Product, Need::Wrk];

impl Bench {
    /// With the folder made.
    pub fn new(options: Options) -> Result<Self> {
        let absolute =
            |path: &Path| std::path::absolute(path).with_context(|| format!("{} is no path", path.display()));
        let (folder, peers) = (absolute(&options.folder)?, absolute(&options.peers)?);
        fs::create_dir_all(&folder).with_context(|| format!("could not make {}", folder.display()))?;
        let own = std::env::current_exe().context("could not find this program itself")?;
        Ok(Self { options, own, folder, peers })
    }

    /// For how many seconds a row is loaded.
    pub fn seconds(&self) -> u64 {
        self.options.seconds
    }

    /// Why a need is not met; none when it is. A peer is built here, so that no round has to.
    pub async fn lacks(&self, need: Need) -> Option<String> {
        let given = &self.options.given;
        let file = |path: &Option<PathBuf>, what: &str| match path {
            Some(path) if path.is_file() => None,
            _ => Some(format!("there is no {what}")),
        };
        let service = |url: &Option<String>, what: &str| {
            url.as_ref().map_or_else(|| Some(format!("there is no {what}")), |_| None)
        };
        match need {
            Need::Product => file(&given.taskpost, "binary of the product"),
            Need::Wrk => file(&given.wrk, "wrk"),
            Need::Pgbench => file(&given.pgbench, "pgbench"),
            Need::Postgres => service(&given.postgres, "Postgres"),
            Need::Kafka => service(&given.kafka, "Kafka"),
            Need::Rabbitmq => service(&given.rabbitmq, "RabbitMQ"),
            Need::Redis => service(&given.redis, "Redis"),
            Need::Express => peers::express::prepare(self).await.err().map(|error| format!("{error:#}")),
            Need::River => peers::queues::prepare_river(self).await.err().map(|error| format!("{error:#}")),
            Need::Graphile => {
                peers::queues::prepare_graphile(self).await.err().map(|error| format!("{error:#}"))
            }
        }
    }

    /// The product's binary.
    pub fn taskpost(&self) -> Result<&Path> {
        self.options.given.taskpost.as_deref().context("there is no binary of the product")
    }
}

/// A setting that `xtask` gives, which the row's needs have made sure of.
pub fn given<'a>(setting: Option<&'a String>, what: &str) -> Result<&'a str> {
    setting.map(String::as_str).with_context(|| format!("there is no {what}"))
}
