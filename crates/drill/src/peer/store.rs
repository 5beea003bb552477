//! The peer's tables, in a schema of its own.

use std::time::Duration;

use sqlx::{
    AssertSqlSafe, Connection as _, PgConnection, PgPool, PgTransaction,
    postgres::{PgConnectOptions, PgPoolOptions},
};
use uuid::Uuid;

/// How many projects the tasks are in.
pub(super) const PROJECTS: i32 = 20;

const CONNECTIONS: u32 = 8;
/// How long a request waits for a connection.
const ACQUIRE: Duration = Duration::from_secs(3);

const TABLES: &str = "
    CREATE TABLE IF NOT EXISTS projects (id int PRIMARY KEY, task_count bigint NOT NULL DEFAULT 0);
    CREATE TABLE IF NOT EXISTS tasks (
        id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
        project_id int NOT NULL REFERENCES projects,
        title text NOT NULL,
        created_at timestamptz NOT NULL DEFAULT now()
    );
    CREATE TABLE IF NOT EXISTS outbox (id bigserial PRIMARY KEY, task_id uuid NOT NULL);
    CREATE TABLE IF NOT EXISTS reader (last bigint NOT NULL);
    INSERT INTO reader SELECT 0 WHERE NOT EXISTS (SELECT FROM reader);
";

/// Where the tables are.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Store {
    #[arg(long)]
    pub database: String,
    #[arg(long)]
    pub schema: String,
}

impl Store {
    /// The API's connections.
    pub(super) fn pool(&self) -> sqlx::Result<PgPool> {
        let pool = PgPoolOptions::new().max_connections(CONNECTIONS).acquire_timeout(ACQUIRE);
        Ok(pool.connect_lazy_with(self.options()?))
    }

    /// One connection.
    pub(super) async fn connect(&self) -> sqlx::Result<PgConnection> {
        PgConnection::connect_with(&self.options()?).await
    }

    /// Makes what is missing.
    pub(super) async fn make(&self) -> sqlx::Result<()> {
        let mut connection = self.connect().await?;
        let schema = format!("CREATE SCHEMA IF NOT EXISTS {}", self.schema);
        sqlx::raw_sql(AssertSqlSafe(schema)).execute(&mut connection).await?;
        sqlx::raw_sql(TABLES).execute(&mut connection).await?;
        let projects = "INSERT INTO projects SELECT generate_series(1, $1) ON CONFLICT DO NOTHING";
        sqlx::query(projects).bind(PROJECTS).execute(&mut connection).await?;
        connection.close().await
    }

    /// Removes everything.
    pub(super) async fn remove(&self) -> sqlx::Result<()> {
        let mut connection = self.connect().await?;
        let schema = format!("SET lock_timeout = '5s'; DROP SCHEMA IF EXISTS {} CASCADE", self.schema);
        sqlx::raw_sql(AssertSqlSafe(schema)).execute(&mut connection).await?;
        connection.close().await
    }

    fn options(&self) -> sqlx::Result<PgConnectOptions> {
        Ok(self.database.parse::<PgConnectOptions>()?.options([("search_path", &self.schema)]))
    }
}

/// Inserts a task and counts it in its project.
pub(super) async fn insert_task(
    transaction: &mut PgTransaction<'_>,
    project: i32,
    title: &str,
) -> sqlx::Result<Uuid> {
    let insert = "INSERT INTO tasks (project_id, title) VALUES ($1, $2) RETURNING id";
    let id = sqlx::query_scalar(insert).bind(project).bind(title).fetch_one(&mut **transaction).await?;
    let count = "UPDATE projects SET task_count = task_count + 1 WHERE id = $1";
    sqlx::query(count).bind(project).execute(&mut **transaction).await?;
    Ok(id)
}

/// Notes that others are to be told of a task.
pub(super) async fn insert_event(transaction: &mut PgTransaction<'_>, task: Uuid) -> sqlx::Result<()> {
    let insert = "INSERT INTO outbox (task_id) VALUES ($1)";
    sqlx::query(insert).bind(task).execute(&mut **transaction).await.map(drop)
}

/// The ids of all tasks.
pub(super) async fn tasks(connection: &mut PgConnection) -> sqlx::Result<Vec<Uuid>> {
    sqlx::query_scalar("SELECT id FROM tasks").fetch_all(connection).await
}

/// How far the reader has come.
pub(super) async fn last(connection: &mut PgConnection) -> sqlx::Result<i64> {
    sqlx::query_scalar("SELECT last FROM reader").fetch_one(connection).await
}

/// The next events after a place: what the common way takes for all that is new.
pub(super) async fn events(connection: &mut PgConnection, last: i64) -> sqlx::Result<Vec<(i64, Uuid)>> {
    let select = "SELECT id, task_id FROM outbox WHERE id > $1 ORDER BY id LIMIT 100";
    sqlx::query_as(select).bind(last).fetch_all(connection).await
}

/// Stores how far the reader has come.
pub(super) async fn set_last(connection: &mut PgConnection, last: i64) -> sqlx::Result<()> {
    sqlx::query("UPDATE reader SET last = $1").bind(last).execute(connection).await.map(drop)
}
