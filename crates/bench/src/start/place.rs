//! Where an instance keeps its things while it is measured: nothing of it was there before, and nothing stays.

use std::{collections::BTreeMap, path::Path};

use anyhow::{Context as _, Result};
use taskpost_common::Clock;
use taskpost_store::Db;
use tempfile::TempDir;
use uuid::Uuid;

use super::{brokers, database::Database};
use crate::bench::{Bench, given};

/// The product's own waits between tries, which name its queues.
pub const RETRY_DELAYS: &str = "5s,30s,5m,30m,2h";
/// What moves the limits of one user out of the way of a load that comes from one.
const LIMITLESS: [(&str, &str); 8] = [
    ("RATE_LIMIT_AUTH", "10000/s"),
    ("RATE_LIMIT_WRITE", "1000000/s"),
    ("RATE_LIMIT_READ", "1000000/s"),
    ("COMMIT_QUEUE", "50000"),
    ("COMMIT_WAIT", "5s"),
    ("WEBHOOK_ALLOW_PRIVATE", "true"),
    ("FIRST_USER_IS_ADMIN", "false"),
    ("JWT_SECRET", "a secret of the benchmark that is long enough"),
];

/// Which of the two products.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// On SQLite.
    Embedded,
    /// On Postgres, Kafka, RabbitMQ and Redis.
    Full,
}

/// A folder, and of the full shape a database and a name at the brokers.
#[derive(Debug)]
pub struct Place {
    folder: TempDir,
    /// Of the full shape.
    pub database: Option<Database>,
    instance: String,
    brokers: Vec<(&'static str, String)>,
}

impl Place {
    /// For a product of this shape.
    pub async fn new(bench: &Bench, shape: Shape) -> Result<Self> {
        let id: Uuid = Clock::system().id();
        let folder = tempfile::Builder::new().prefix("place-").tempdir_in(&bench.folder)?;
        let instance = format!("bench-{}", id.simple());
        if shape == Shape::Embedded {
            return Ok(Self { folder, database: None, instance, brokers: Vec::new() });
        }
        let ours = &bench.options.given;
        let brokers = vec![
            ("KAFKA_BROKERS", given(ours.kafka.as_ref(), "Kafka")?.to_owned()),
            ("RABBITMQ_URL", given(ours.rabbitmq.as_ref(), "RabbitMQ")?.to_owned()),
            ("REDIS_URL", given(ours.redis.as_ref(), "Redis")?.to_owned()),
        ];
        let database = Database::create(given(ours.postgres.as_ref(), "Postgres")?, id).await?;
        Ok(Self { folder, database: Some(database), instance, brokers })
    }

    /// With a database only, and of the brokers RabbitMQ if so.
    pub async fn on_postgres(bench: &Bench, rabbitmq: bool) -> Result<Self> {
        let mut place = Self::new(bench, Shape::Embedded).await?;
        let ours = &bench.options.given;
        if rabbitmq {
            place.brokers.push(("RABBITMQ_URL", given(ours.rabbitmq.as_ref(), "RabbitMQ")?.to_owned()));
        }
        let server = given(ours.postgres.as_ref(), "Postgres")?;
        place.database = Some(Database::create(server, Clock::system().id()).await?);
        Ok(place)
    }

    /// The data folder, where processes also write what they say.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Which shape it is for.
    pub fn shape(&self) -> Shape {
        if self.database.is_some() { Shape::Full } else { Shape::Embedded }
    }

    /// The variables of every process here.
    pub fn variables(&self) -> BTreeMap<String, String> {
        let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        let mut variables: BTreeMap<String, String> = LIMITLESS.iter().map(own).collect();
        let brokers = self.brokers.iter().map(|(name, url)| ((*name).to_owned(), url.clone()));
        variables.extend(brokers);
        variables.extend(self.database.as_ref().map(|it| ("DATABASE_URL".to_owned(), it.url().into())));
        for (name, value) in [
            ("DATA_DIR", self.folder().display().to_string()),
            ("INSTANCE", self.instance.clone()),
            ("HTTP_PORT", "0".to_owned()),
            ("OPERATE_PORT", "0".to_owned()),
            ("RETRY_DELAYS", RETRY_DELAYS.to_owned()),
        ] {
            variables.insert(name.to_owned(), value);
        }
        variables
    }

    /// Opens the store beside whoever works on it.
    pub async fn store(&self) -> Result<Db> {
        Ok(match &self.database {
            Some(database) => Db::postgres(database.url().as_str(), 1).await?,
            None => Db::sqlite(self.folder()).await?,
        })
    }

    /// Removes everything; what stops one part keeps no other from going.
    pub async fn remove(self) -> Result<()> {
        let mut results = Vec::new();
        for (variable, url) in &self.brokers {
            results.push(match *variable {
                "KAFKA_BROKERS" => brokers::remove_topics(url, &self.instance).await,
                "RABBITMQ_URL" => brokers::remove_queues(url, &self.instance, RETRY_DELAYS).await,
                _ => Ok(()),
            });
        }
        if let Some(database) = self.database {
            results.push(database.remove().await);
        }
        let folder = self.folder;
        results.push(tokio::task::spawn_blocking(move || folder.close()).await?.map_err(Into::into));
        results.into_iter().collect::<Result<()>>().context("something of a measurement stays behind")
    }
}
