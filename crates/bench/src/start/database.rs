//! A scratch database on the server for tests and benchmarks.

use std::time::Duration;

use anyhow::{Context as _, Result};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};
use tokio::time::timeout;
use url::Url;
use uuid::Uuid;

/// How long a question may take; counting a million rows does.
const PATIENCE: Duration = Duration::from_mins(1);
/// What all names begin with.
const PREFIX: &str = "bench_";

/// A database that nobody else uses.
#[derive(Clone, Debug)]
pub struct Database {
    server: Url,
    name: String,
}

impl Database {
    /// Makes one.
    pub async fn create(server: &str, id: Uuid) -> Result<Self> {
        let made = Self { server: parse(server)?, name: format!("{PREFIX}{}", id.simple()) };
        run(&made.server, format!("CREATE DATABASE {}", made.name)).await?;
        Ok(made)
    }

    /// Its address.
    pub fn url(&self) -> Url {
        let mut url = self.server.clone();
        url.set_path(&self.name);
        url
    }

    /// Connects, to ask several times: logging in costs more than most questions.
    pub async fn asker(&self) -> Result<Asker> {
        let connected = timeout(PATIENCE, PgConnection::connect(self.url().as_str())).await;
        Ok(Asker(connected.context("Postgres took too long")??))
    }

    /// The only number of a query.
    pub async fn number(&self, sql: &'static str) -> Result<i64> {
        self.asker().await?.number(sql).await
    }

    /// Runs statements.
    pub async fn execute(&self, sql: &'static str) -> Result<()> {
        run(&self.url(), sql.to_owned()).await
    }

    /// Drops it, whoever is connected. Postgres writes a checkpoint then, so that the next row begins with none due.
    pub async fn remove(self) -> Result<()> {
        drop_database(&self.server, &self.name).await
    }
}

/// A connection for questions.
#[derive(Debug)]
pub struct Asker(PgConnection);

impl Asker {
    /// The only number of a query.
    pub async fn number(&mut self, sql: &'static str) -> Result<i64> {
        let asked = sqlx::query_scalar(sql).fetch_one(&mut self.0);
        timeout(PATIENCE, asked).await.context("Postgres took too long")?.with_context(|| sql.to_owned())
    }
}

/// Drops what earlier runs left that were ended at once.
pub async fn sweep(server: &str) -> Result<()> {
    const SQL: &str = "SELECT datname::text FROM pg_database WHERE datname LIKE 'bench\\_%'";
    let server = parse(server)?;
    let asked = async {
        let mut connection = PgConnection::connect(server.as_str()).await?;
        let names: Vec<String> = sqlx::query_scalar(SQL).fetch_all(&mut connection).await?;
        connection.close().await?;
        Ok::<_, sqlx::Error>(names)
    };
    for name in timeout(PATIENCE, asked).await.context("Postgres took too long")?? {
        drop_database(&server, &name).await?;
    }
    Ok(())
}

/// Drops a database that a peer has made.
pub async fn drop_of_peer(server: &str, name: &'static str) -> Result<()> {
    drop_database(&parse(server)?, name).await
}

async fn drop_database(server: &Url, name: &str) -> Result<()> {
    run(server, format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)")).await
}

fn parse(server: &str) -> Result<Url> {
    server.parse().context("the address of Postgres is no URL")
}

async fn run(url: &Url, sql: String) -> Result<()> {
    let ran = async {
        let mut connection = PgConnection::connect(url.as_str()).await?;
        sqlx::raw_sql(AssertSqlSafe(sql.clone())).execute(&mut connection).await?;
        connection.close().await
    };
    timeout(PATIENCE, ran).await.context("Postgres took too long")?.with_context(|| sql.clone())
}
