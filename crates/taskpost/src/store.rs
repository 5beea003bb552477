//! Opens the store: waits for a server that is not up yet, and holds the schema to this program.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use secrecy::{ExposeSecret, SecretString};
use taskpost_common::{
    config::{Config, Database},
    retry::Backoff,
};
use taskpost_store::{Db, Migration, StoreError};
use tokio_util::sync::CancellationToken;

/// Connections to Postgres, for writing and again for reading.
const CONNECTIONS: u32 = 10;
/// As many for a command.
const COMMAND_CONNECTIONS: u32 = 3;
/// How often SQLite's log is written back. It is little each time, so that no commit waits long behind it for the cores.
const CHECKPOINT: Duration = Duration::from_millis(200);
/// How often it is said again what is waited for.
const SAY: Duration = Duration::from_secs(5);

/// Opens the store. Without a role the schema is brought up to this program; a role refuses any other one, as it shares
/// it with processes that may be older. A server that is not up is waited for, however long that takes; what does
/// not pass by waiting, such as a wrong password, is an error that names the variable.
pub async fn open(config: &Config, role: Option<&str>) -> anyhow::Result<Db> {
    if role.is_none() {
        return Ok(migrate(config).await?.0);
    }
    match &config.database {
        Database::Sqlite => {
            let db = open_sqlite(&config.data_dir).await?;
            db.require_current_schema().await.map_err(|error| explain(&error, "DATA_DIR"))?;
            Ok(db)
        }
        Database::Postgres(url) => {
            let (db, ()) = patiently(url, async |db: &Db| db.require_current_schema().await).await?;
            Ok(db)
        }
    }
}

/// Opens the store as [`open`] does without a role, and says what was missing from its schema.
pub async fn migrate(config: &Config) -> anyhow::Result<(Db, Vec<Migration>)> {
    let (db, done) = match &config.database {
        Database::Sqlite => {
            let db = open_sqlite(&config.data_dir).await?;
            let done = db.migrate().await.map_err(|error| explain(&error, "DATA_DIR"))?;
            (db, done)
        }
        Database::Postgres(url) => patiently(url, async |db: &Db| db.migrate().await).await?,
    };
    for migration in &done {
        tracing::info!(version = migration.version, name = migration.name, "migrated the schema");
    }
    Ok((db, done))
}

/// Opens the store of an instance as it is, for a command: makes nothing, and waits for nobody.
pub(crate) async fn open_as_is(config: &Config) -> anyhow::Result<Db> {
    if config.temporary {
        bail!("DB_TYPE: memdb is gone when its process ends, so that no command reaches it");
    }
    let (db, variable) = match &config.database {
        Database::Sqlite if !Db::is_in(&config.data_dir) => bail!(
            "DATA_DIR: there is no database in {}; start Taskpost there, or name another folder",
            config.data_dir.display()
        ),
        Database::Sqlite => (open_sqlite(&config.data_dir).await?, "DATA_DIR"),
        Database::Postgres(url) => {
            let db = Db::postgres_lazy(url.expose_secret(), COMMAND_CONNECTIONS);
            (db.map_err(|error| explain(&error, "DATABASE_URL"))?, "DATABASE_URL")
        }
    };
    if let Err(error) = db.require_current_schema().await {
        db.close().await;
        return Err(explain(&error, variable));
    }
    Ok(db)
}

/// As [`open_as_is`], but makes the SQLite database of a new instance.
pub(crate) async fn open_or_make(config: &Config) -> anyhow::Result<Db> {
    let is_new = matches!(config.database, Database::Sqlite) && !Db::is_in(&config.data_dir);
    if is_new && !config.temporary { open(config, None).await } else { open_as_is(config).await }
}

/// Opens or makes the database in the data folder.
pub(crate) async fn open_sqlite(folder: &Path) -> anyhow::Result<Db> {
    std::fs::create_dir_all(folder)
        .with_context(|| format!("DATA_DIR: cannot make the folder {}", folder.display()))?;
    let opened = Db::sqlite(folder).await.map_err(|error| explain(&error, "DATA_DIR"));
    opened.with_context(|| format!("DATA_DIR: cannot open the database in {}", folder.display()))
}

/// Writes SQLite's log back beside the writer until `stop`, so that few commits have to.
pub(crate) async fn checkpoints(db: Db, stop: CancellationToken) {
    let seconds = metrics::histogram!("taskpost_checkpoint_seconds");
    while stop.run_until_cancelled(tokio::time::sleep(CHECKPOINT)).await.is_some() {
        let began = Instant::now();
        match db.checkpoint().await {
            Ok(()) => seconds.record(began.elapsed()),
            // A commit does it when the log has grown long enough.
            Err(error) => tracing::debug!(%error, "could not write SQLite's log back"),
        }
    }
}

/// Connects and prepares, again and again while the server is away.
async fn patiently<T>(
    url: &SecretString,
    prepare: impl AsyncFn(&Db) -> Result<T, StoreError>,
) -> anyhow::Result<(Db, T)> {
    let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(3));
    let mut said: Option<Instant> = None;
    loop {
        let error = match connect(url, &prepare).await {
            Ok(opened) => {
                if said.is_some() {
                    tracing::info!("the server of DATABASE_URL is there");
                }
                return Ok(opened);
            }
            Err(error) => error,
        };
        let trouble = error.trouble();
        if !trouble.passes {
            return Err(explain(&error, "DATABASE_URL"));
        }
        if said.is_none_or(|said| said.elapsed() >= SAY) {
            said = Some(Instant::now());
            let (what, mend) = (trouble.what, trouble.mend);
            tracing::warn!(error = error.cause(), "DATABASE_URL: waiting for Postgres: {what}; {mend}");
        }
        tokio::time::sleep(backoff.wait()).await;
    }
}

async fn connect<T>(
    url: &SecretString,
    prepare: &impl AsyncFn(&Db) -> Result<T, StoreError>,
) -> Result<(Db, T), StoreError> {
    let db = Db::postgres(url.expose_secret(), CONNECTIONS).await?;
    match prepare(&db).await {
        Ok(prepared) => Ok((db, prepared)),
        Err(error) => {
            db.close().await;
            Err(error)
        }
    }
}

/// In words, with the variable to look at.
pub(crate) fn explain(error: &StoreError, variable: &str) -> anyhow::Error {
    // These say all there is to say.
    if matches!(error, StoreError::Schema(_) | StoreError::Config(_)) {
        let said = error.to_string();
        let named = said.starts_with(variable);
        return anyhow::Error::msg(if named { said } else { format!("{variable}: {said}") });
    }
    let trouble = error.trouble();
    anyhow::Error::msg(format!("{variable}: {} ({}); {}", trouble.what, error.cause(), trouble.mend))
}
