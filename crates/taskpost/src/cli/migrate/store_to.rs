//! `taskpost migrate store`: embedded data moves to Postgres.

use anyhow::{Context as _, bail};
use clap::Args;
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::{Value, json};
use taskpost_common::config::{Config, Database};
use taskpost_store::{
    Db, StoreError,
    copy::{Copied, Move},
};
use url::Url;

use crate::{
    cli::{progress::Bar, table::table},
    store,
};

const TO: &str = "--to";

/// Where to.
#[derive(Debug, Args)]
pub struct Options {
    /// postgres://user:password@host:port/database; DATABASE_URL when not said
    #[arg(long)]
    to: Option<SecretString>,
    /// As JSON, for scripts
    #[arg(long)]
    json: bool,
}

/// Copies every table, compares both sides, and says what to do next.
pub(super) async fn run(config: &Config, options: Options) -> anyhow::Result<()> {
    let url = target(config, options.to)?;
    let from = open_alone(config).await?;
    let opened = Db::postgres(url.expose_secret(), 2).await;
    let to = opened.map_err(|error| store::explain(&error, TO))?;
    let copied = copy(config, &from, &to).await;
    to.close().await;
    from.close().await;
    print(config, &copied?, options.json);
    Ok(())
}

fn target(config: &Config, said: Option<SecretString>) -> anyhow::Result<SecretString> {
    let url = match (said, &config.database) {
        (Some(url), _) => url,
        (None, Database::Postgres(url)) => url.clone(),
        (None, Database::Sqlite) => {
            bail!("--to: name the Postgres: --to postgres://user:password@host:port/database")
        }
    };
    let scheme = Url::parse(url.expose_secret()).ok().map(|url| url.scheme().to_owned());
    match scheme.as_deref() {
        Some("postgres" | "postgresql") => Ok(url),
        _ => bail!("--to: expected postgres://user:password@host:port/database"),
    }
}

async fn open_alone(config: &Config) -> anyhow::Result<Db> {
    let folder = &config.data_dir;
    if !Db::is_in(folder) {
        bail!("DATA_DIR: there is no database in {}, so there is nothing to move", folder.display());
    }
    match Db::sqlite_alone(folder).await {
        Err(StoreError::Locked(_)) => bail!(
            "DATA_DIR: another process uses the database in {}; stop the instance, and see that it is not started \
             again before its data have moved",
            folder.display()
        ),
        opened => opened.map_err(|error| store::explain(&error, "DATA_DIR")),
    }
}

async fn copy(config: &Config, from: &Db, to: &Db) -> anyhow::Result<Vec<Copied>> {
    from.require_current_schema().await.map_err(|error| store::explain(&error, "DATA_DIR"))?;
    to.migrate().await.map_err(|error| store::explain(&error, TO))?;
    let plan = Move::plan(from, to).await.map_err(|error| store::explain(&error, TO))?;
    let full = plan.in_the_way().await.map_err(|error| store::explain(&error, TO))?;
    if !full.is_empty() {
        let rows: i64 = full.iter().map(|(_, rows)| rows).sum();
        let tables: Vec<String> = full.iter().map(|(table, rows)| format!("{table} {rows}")).collect();
        bail!(
            "--to: the target is not empty: it has {rows} rows ({}); name an empty database, or another schema of this \
             one by ?schema=",
            tables.join(", ")
        );
    }
    let mut bar = Bar::new();
    let count = |rows: i64| rows.unsigned_abs();
    let copied = plan.run(|at| bar.at(at.table, count(at.done), count(at.all))).await;
    let copied = copied.map_err(|error| store::explain(&error, TO));
    copied.with_context(|| {
        format!("nothing was moved, and the data in {} are as they were", config.data_dir.display())
    })
}

fn print(config: &Config, copied: &[Copied], as_json: bool) {
    let rows: i64 = copied.iter().map(|table| table.rows).sum();
    let next = [
        "set DATABASE_URL to the address that was given by --to".to_owned(),
        format!(
            "keep DATA_DIR={}: its secret signs tokens unless JWT_SECRET is set",
            config.data_dir.display()
        ),
        "start Taskpost; when all is well, put the old taskpost.db away".to_owned(),
    ];
    if as_json {
        let value =
            |table: &Copied| json!({"table": table.table, "rows": table.rows, "checksum": table.checksum});
        let tables: Vec<Value> = copied.iter().map(value).collect();
        println!("{:#}", json!({"rows": rows, "tables": tables, "next": next}));
        return;
    }
    let row = |it: &Copied| [it.table.clone(), it.rows.to_string(), it.checksum.clone()];
    print!("{}", table(["TABLE", "ROWS", "CHECKSUM"], &copied.iter().map(row).collect::<Vec<_>>()));
    println!("\n{rows} rows in {} tables are the same on both sides. What to do next:", copied.len());
    for step in next {
        println!("  {step}");
    }
}
