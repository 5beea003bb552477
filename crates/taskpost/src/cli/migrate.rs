//! `taskpost migrate`: the schema of the store, and its move to another database, apart from serving.

mod store_to;

use anyhow::bail;
use chrono::SecondsFormat;
use clap::{Args, Subcommand};
use secrecy::ExposeSecret as _;
use serde_json::{Value, json};
use taskpost_common::config::{Config, Database};
use taskpost_store::{Db, Migration, MigrationState, Schema};

use super::table::table;
use crate::{environment, logs, store};

/// What to do with the schema.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Bring the schema up to this program; waits for a server that is not up yet
    Up,
    /// Show which migrations the store has
    Status(Status),
    /// Move the SQLite database of DATA_DIR into an empty Postgres; the instance must be stopped
    Store(store_to::Options),
}

/// How to show it.
#[derive(Debug, Args)]
pub struct Status {
    /// As JSON, for scripts
    #[arg(long)]
    json: bool,
}

/// Migrates, or shows what there is to migrate.
pub async fn run(command: Command) -> anyhow::Result<()> {
    let config = environment::config()?;
    logs::start(config.log_format);
    if config.temporary {
        bail!("DB_TYPE: memdb begins anew at each start, so that there is nothing to migrate");
    }
    match command {
        Command::Up => up(&config).await,
        Command::Status(Status { json }) => status(&config, json).await,
        Command::Store(options) => store_to::run(&config, options).await,
    }
}

async fn up(config: &Config) -> anyhow::Result<()> {
    let (db, done) = store::migrate(config).await?;
    db.close().await;
    if done.is_empty() {
        println!("the schema is current; there was nothing to do");
    } else {
        println!("{}\nthe schema is current", table(HEAD, &rows(&done)));
    }
    Ok(())
}

async fn status(config: &Config, as_json: bool) -> anyhow::Result<()> {
    let schema = look(config).await?;
    if as_json {
        println!("{:#}", value(&schema));
        return Ok(());
    }
    let verdict = match schema.require_current() {
        Ok(()) => "the schema is current".to_owned(),
        Err(error) => error.to_string(),
    };
    println!("{}\n{verdict}", table(HEAD, &rows(&schema.migrations)));
    Ok(())
}

/// Looks without making anything, and without waiting.
async fn look(config: &Config) -> anyhow::Result<Schema> {
    let (db, variable) = match &config.database {
        Database::Sqlite if !Db::is_in(&config.data_dir) => return Ok(Schema::of_no_file()),
        Database::Sqlite => (store::open_sqlite(&config.data_dir).await?, "DATA_DIR"),
        Database::Postgres(url) => {
            let db = Db::postgres_lazy(url.expose_secret(), 1);
            (db.map_err(|error| store::explain(&error, "DATABASE_URL"))?, "DATABASE_URL")
        }
    };
    let schema = db.schema().await.map_err(|error| store::explain(&error, variable));
    db.close().await;
    schema
}

const HEAD: [&str; 5] = ["VERSION", "NAME", "STATE", "APPLIED AT", "TOOK"];

fn rows(migrations: &[Migration]) -> Vec<[String; 5]> {
    let none = || "-".to_owned();
    let row = |migration: &Migration| {
        [
            format!("{:04}", migration.version),
            migration.name.clone(),
            migration.state.as_str().to_owned(),
            applied_at(migration).unwrap_or_else(none),
            migration.took.map_or_else(none, |took| format!("{} ms", took.as_millis())),
        ]
    };
    migrations.iter().map(row).collect()
}

fn applied_at(migration: &Migration) -> Option<String> {
    migration.applied_at.map(|at| at.to_rfc3339_opts(SecondsFormat::Secs, true))
}

fn value(schema: &Schema) -> Value {
    let migration = |migration: &Migration| {
        json!({
            "version": migration.version,
            "name": migration.name,
            "state": migration.state.as_str(),
            "applied_at": applied_at(migration),
            "took_ms": migration.took.and_then(|took| u64::try_from(took.as_millis()).ok()),
        })
    };
    json!({
        "current": schema.require_current().is_ok(),
        "pending": schema.in_state(MigrationState::Pending).count(),
        "migrations": schema.migrations.iter().map(migration).collect::<Vec<_>>(),
    })
}
