//! Which migrations the store has, and which this program knows.

use std::{collections::BTreeMap, time::Duration};

use chrono::{DateTime, Utc};
use sqlx::{
    FromRow,
    migrate::{Migration as Known, Migrator},
    postgres::PgPoolOptions,
};

use super::{Db, on};
use crate::error::StoreError;

static POSTGRES: Migrator = sqlx::migrate!("../../prisma-free-migrations/postgres");
static SQLITE: Migrator = sqlx::migrate!("../../prisma-free-migrations/sqlite");

/// How long one statement of a migration may take, and wait for others, on Postgres.
const MIGRATE: &str = "10min";

/// The schema of a store beside the one that this program needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schema {
    /// What either of them knows, in the order of versions.
    pub migrations: Vec<Migration>,
}

/// A step from one schema to the next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Migration {
    /// Its number.
    pub version: i64,
    /// What it is for.
    pub name: String,
    /// Whether the store has it.
    pub state: MigrationState,
    /// Since when.
    pub applied_at: Option<DateTime<Utc>>,
    /// How long it took.
    pub took: Option<Duration>,
}

/// Whether a store has a migration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MigrationState {
    /// It has.
    Applied,
    /// Not yet.
    Pending,
    /// It has, and this program does not know it: a newer one was here.
    Unknown,
    /// It has another one of this number.
    Changed,
}

impl MigrationState {
    /// Its name in tables and JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Applied => "applied",
            Self::Pending => "pending",
            Self::Unknown => "unknown",
            Self::Changed => "changed",
        }
    }
}

impl Schema {
    fn new(known: &Migrator, applied: Vec<AppliedRow>) -> Self {
        let mut migrations: BTreeMap<i64, Migration> =
            known.iter().map(|known| (known.version, pending(known))).collect();
        for row in applied {
            let same = known.iter().find(|known| known.version == row.version);
            let state = match same.map(|known| *known.checksum == *row.checksum) {
                None => MigrationState::Unknown,
                Some(true) => MigrationState::Applied,
                Some(false) => MigrationState::Changed,
            };
            migrations.insert(row.version, row.into_migration(state));
        }
        Self { migrations: migrations.into_values().collect() }
    }

    /// Of an SQLite database that is not made yet.
    pub fn of_no_file() -> Self {
        Self::new(&SQLITE, Vec::new())
    }

    /// Those in this state.
    pub fn in_state(&self, state: MigrationState) -> impl Iterator<Item = &Migration> {
        self.migrations.iter().filter(move |migration| migration.state == state)
    }

    /// Refuses a store that another program has taken further, or elsewhere.
    pub fn require_known(&self) -> Result<(), StoreError> {
        if let Some(unknown) = self.in_state(MigrationState::Unknown).last() {
            let newest = self.in_state(MigrationState::Applied).last().map_or(0, |known| known.version);
            return Err(StoreError::Schema(format!(
                "the schema is newer than this program: it has migration {:04} ({}), and this is Taskpost {}, which \
                 knows them up to {newest:04}; run the newer Taskpost, or give this one a database of its own",
                unknown.version,
                unknown.name,
                env!("CARGO_PKG_VERSION"),
            )));
        }
        match self.in_state(MigrationState::Changed).next() {
            None => Ok(()),
            Some(changed) => Err(StoreError::Schema(format!(
                "the schema was made by another program: its migration {:04} ({}) is not this one's; run the Taskpost \
                 that made it, or give this one a database of its own",
                changed.version, changed.name,
            ))),
        }
    }

    /// Refuses any schema but the one this program needs.
    pub fn require_current(&self) -> Result<(), StoreError> {
        self.require_known()?;
        let pending: Vec<String> = self
            .in_state(MigrationState::Pending)
            .map(|migration| format!("{:04} ({})", migration.version, migration.name))
            .collect();
        if pending.is_empty() {
            return Ok(());
        }
        if pending.len() == self.migrations.len() {
            return Err(StoreError::Schema(
                "the store has no schema yet; run `taskpost migrate up`".to_owned(),
            ));
        }
        Err(StoreError::Schema(format!(
            "the schema is older than this program and lacks {}; run `taskpost migrate up`",
            pending.join(", ")
        )))
    }
}

impl Db {
    /// What the store has beside what this program needs.
    pub async fn schema(&self) -> Result<Schema, StoreError> {
        const SQL: &str = "SELECT version, description, installed_on, checksum, execution_time FROM _sqlx_migrations ORDER BY version";
        let known = match self {
            Self::Postgres { .. } => &POSTGRES,
            Self::Sqlite { .. } => &SQLITE,
        };
        if !self.was_migrated().await? {
            return Ok(Schema::new(known, Vec::new()));
        }
        let mut reader = self.reader().await?;
        Ok(Schema::new(known, on!(reader, |c| sqlx::query_as(SQL).fetch_all(c).await?)))
    }

    /// Refuses a schema that is older or newer than this program; the error says what to do.
    pub async fn require_current_schema(&self) -> Result<(), StoreError> {
        self.schema().await?.require_current()
    }

    /// Brings the schema up to this version and gives what was missing. Processes that do so at once wait for each other.
    pub async fn migrate(&self) -> Result<Vec<Migration>, StoreError> {
        let before = self.schema().await?;
        before.require_known()?;
        let missing: Vec<i64> = before.in_state(MigrationState::Pending).map(|found| found.version).collect();
        if missing.is_empty() {
            return Ok(Vec::new());
        }
        self.run_migrations().await?;
        let after = self.schema().await?.migrations;
        Ok(after.into_iter().filter(|migration| missing.contains(&migration.version)).collect())
    }

    async fn run_migrations(&self) -> Result<(), StoreError> {
        match self {
            Self::Postgres { write, .. } => {
                // A connection of its own, because sqlx holds a lock of the session meanwhile; and limits of its own,
                // because another process may be migrating and a large table takes its time.
                let options = write.connect_options().as_ref().clone();
                let options = options.options([("statement_timeout", MIGRATE), ("lock_timeout", MIGRATE)]);
                let alone = PgPoolOptions::new()
                    .max_connections(1)
                    .acquire_timeout(write.options().get_acquire_timeout())
                    .connect_with(options)
                    .await?;
                let ran = POSTGRES.run(&alone).await;
                alone.close().await;
                Ok(ran?)
            }
            Self::Sqlite { write, .. } => {
                // sqlx has no lock for SQLite: the transaction around all of them is.
                let mut tx = write.begin_with("BEGIN IMMEDIATE").await?;
                // Not `run`, whose future the compiler does not believe to be Send on a connection.
                SQLITE.run_direct(None, &mut *tx, false).await?;
                Ok(tx.commit().await?)
            }
        }
    }

    async fn was_migrated(&self) -> Result<bool, StoreError> {
        const POSTGRES: &str = "SELECT to_regclass('_sqlx_migrations') IS NOT NULL";
        const SQLITE: &str =
            "SELECT EXISTS (SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = '_sqlx_migrations')";
        let (exists,): (bool,) = match self {
            Self::Postgres { read, .. } => sqlx::query_as(POSTGRES).fetch_one(read).await?,
            Self::Sqlite { read, .. } => sqlx::query_as(SQLITE).fetch_one(read).await?,
        };
        Ok(exists)
    }
}

#[derive(FromRow)]
struct AppliedRow {
    version: i64,
    description: String,
    installed_on: DateTime<Utc>,
    checksum: Vec<u8>,
    execution_time: i64,
}

impl AppliedRow {
    fn into_migration(self, state: MigrationState) -> Migration {
        Migration {
            version: self.version,
            name: self.description,
            state,
            applied_at: Some(self.installed_on),
            // Below zero where the program ended before it was noted.
            took: u64::try_from(self.execution_time).ok().map(Duration::from_nanos),
        }
    }
}

fn pending(known: &Known) -> Migration {
    Migration {
        version: known.version,
        name: known.description.clone().into_owned(),
        state: MigrationState::Pending,
        applied_at: None,
        took: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(known: &Known) -> AppliedRow {
        AppliedRow {
            version: known.version,
            description: known.description.clone().into_owned(),
            installed_on: DateTime::UNIX_EPOCH,
            checksum: known.checksum.to_vec(),
            execution_time: -1,
        }
    }

    #[test]
    fn a_schema_is_current_older_newer_or_anothers() {
        let all: fn() -> Vec<AppliedRow> = || POSTGRES.iter().map(row).collect();
        assert!(Schema::new(&POSTGRES, all()).require_current().is_ok());

        let older = Schema::new(&POSTGRES, all().into_iter().take(1).collect());
        let says = older.require_current().unwrap_err().to_string();
        assert!(says.contains("0002 (brokers)") && says.contains("`taskpost migrate up`"), "{says}");
        assert!(older.require_known().is_ok());

        let mut rows = all();
        rows.push(AppliedRow {
            version: 9_999,
            description: "what comes".to_owned(),
            ..row(&POSTGRES.migrations[0])
        });
        let says = Schema::new(&POSTGRES, rows).require_known().unwrap_err().to_string();
        assert!(says.contains("newer") && says.contains("9999 (what comes)"), "{says}");

        let mut rows = all();
        rows[0].checksum = vec![0];
        let says = Schema::new(&POSTGRES, rows).require_current().unwrap_err().to_string();
        assert!(says.contains("0001 (init)") && says.contains("another program"), "{says}");
    }
}
