//! Two folders of migrations, one schema; and the settings that durability rests on.

use std::{collections::BTreeSet, path::Path};

use sqlx::{PgPool, SqlitePool, migrate::Migrator};
use taskpost_store::{Db, MigrationState, StoreError};

use crate::harness::{Store, in_schema, postgres_url, run};

static POSTGRES: Migrator = sqlx::migrate!("../../prisma-free-migrations/postgres");
static SQLITE: Migrator = sqlx::migrate!("../../prisma-free-migrations/sqlite");

both!(migrating_again_changes_nothing, a_newer_or_foreign_schema_is_left_alone);

async fn migrating_again_changes_nothing(store: Store) {
    let user = store.user("ada").await;
    for _ in 0..2 {
        assert_eq!(store.db.migrate().await.unwrap(), [], "there is nothing left to do");
    }
    assert!(taskpost_store::users::get(&mut store.reader().await, user.id).await.unwrap().is_some());
    assert_eq!(store.number("SELECT count(*) FROM log_head").await, 1);
}

/// What a process finds that another one has left at its first migration.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_older_schema_is_brought_up() {
    run(Store::sqlite_bare().await, bring_up).await;
    run(Store::postgres_bare().await, bring_up).await;
}

async fn bring_up(store: Store) {
    let schema = store.db.schema().await.unwrap();
    assert!(
        schema.migrations.iter().all(|migration| migration.state == MigrationState::Pending),
        "{schema:?}"
    );
    match &store.db {
        Db::Postgres { write, .. } => POSTGRES.run_to(1, write).await.unwrap(),
        Db::Sqlite { write, .. } => SQLITE.run_to(1, write).await.unwrap(),
    }
    let refused = store.db.require_current_schema().await.unwrap_err();
    let says = refused.to_string();
    assert!(matches!(refused, StoreError::Schema(_)) && !refused.is_transient(), "{refused:?}");
    assert!(says.contains("0002 (brokers)") && says.contains("`taskpost migrate up`"), "{says}");

    let done = store.db.migrate().await.unwrap();
    assert!(done.len() > 1 || done[0].version == 2, "{done:?}");
    assert!(done.iter().all(|migration| migration.version > 1 && migration.applied_at.is_some()), "{done:?}");
    store.db.require_current_schema().await.unwrap();
    assert_eq!(store.db.schema().await.unwrap().in_state(MigrationState::Applied).count(), done.len() + 1);
}

async fn a_newer_or_foreign_schema_is_left_alone(store: Store) {
    const NEWER: &str = "
        INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time)
        SELECT 9000, 'what comes', success, checksum, 1 FROM _sqlx_migrations WHERE version = 1";
    const FOREIGN: &str = "UPDATE _sqlx_migrations SET checksum = (SELECT checksum FROM _sqlx_migrations WHERE version = 1) WHERE version = 2";
    store.execute(NEWER).await.unwrap();
    for refused in [store.db.require_current_schema().await.err(), store.db.migrate().await.err()] {
        let says = refused.unwrap().to_string();
        assert!(says.contains("newer") && says.contains("9000 (what comes)"), "{says}");
    }
    store.execute("DELETE FROM _sqlx_migrations WHERE version = 9000").await.unwrap();
    store.db.require_current_schema().await.unwrap();
    store.execute(FOREIGN).await.unwrap();
    let says = store.db.migrate().await.unwrap_err().to_string();
    assert!(says.contains("another program") && says.contains("0002"), "{says}");
}

/// sqlx itself has no lock there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn processes_may_migrate_at_once_on_sqlite() {
    run(Store::sqlite_bare().await, async |store: Store| {
        let mut processes = tokio::task::JoinSet::new();
        let folder = Path::new(&store.place()).parent().unwrap().to_owned();
        for _ in 0..4 {
            let db = Db::sqlite(&folder).await.unwrap();
            processes.spawn(async move {
                db.migrate().await.unwrap();
                db.close().await;
            });
        }
        processes.join_all().await;
        store.user("ada").await;
    })
    .await;
}

/// Two processes of one instance may start at the same time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn processes_may_migrate_at_once_on_postgres() {
    run(Store::postgres_bare().await, async |store: Store| {
        let mut processes = tokio::task::JoinSet::new();
        for _ in 0..4 {
            let url = in_schema(&postgres_url(), &store.place());
            processes.spawn(async move {
                let db = Db::postgres(&url, 2).await.unwrap();
                db.migrate().await.unwrap();
                db.close().await;
            });
        }
        processes.join_all().await;
        store.user("ada").await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_folders_make_the_same_schema() {
    run(Store::postgres().await, async |postgres: Store| {
        let sqlite = Store::sqlite().await;
        let (lite, pg) = (sqlite.lite().0, postgres.pg());
        assert_eq!(
            lite_strings(lite, VERSIONS).await,
            pg_strings(pg, VERSIONS).await,
            "numbers and names of files"
        );
        assert_eq!(
            lite_strings(lite, LITE_COLUMNS).await,
            pg_strings(pg, PG_COLUMNS).await,
            "tables and columns"
        );
        assert_eq!(
            lite_strings(lite, LITE_INDEXES).await,
            pg_strings(pg, PG_INDEXES).await,
            "indexes and uniqueness"
        );
        sqlite.db.close().await;
    })
    .await;
}

const VERSIONS: &str = "SELECT CAST(version AS TEXT) || ' ' || description FROM _sqlx_migrations";

/// `table.column type null|not null [key]`, each column by its affinity on SQLite.
const LITE_COLUMNS: &str = "
    SELECT t.name || '.' || c.name || ' ' || c.type
        || CASE WHEN c.\"notnull\" = 1 OR c.pk > 0 THEN ' not null' ELSE ' null' END || CASE WHEN c.pk > 0 THEN ' key' ELSE '' END
    FROM sqlite_master AS t JOIN pragma_table_info(t.name) AS c
    WHERE t.type = 'table' AND t.name NOT LIKE 'sqlite_%' AND t.name NOT LIKE '\\_sqlx%' ESCAPE '\\'
        AND t.name <> 'task_numbers' AND t.name NOT LIKE 'task\\_text%' ESCAPE '\\'";
const PG_COLUMNS: &str = "
    SELECT t.relname || '.' || c.attname || ' '
        || CASE format_type(c.atttypid, c.atttypmod) WHEN 'uuid' THEN 'BLOB' WHEN 'bigint' THEN 'INTEGER' WHEN 'boolean' THEN 'INTEGER'
           WHEN 'text' THEN 'TEXT' WHEN 'timestamp with time zone' THEN 'TEXT' ELSE '?' END
        || CASE WHEN c.attnotnull THEN ' not null' ELSE ' null' END
        || CASE WHEN EXISTS (SELECT 1 FROM pg_index AS i WHERE i.indrelid = t.oid AND i.indisprimary AND c.attnum = ANY (i.indkey))
           THEN ' key' ELSE '' END
    FROM pg_class AS t JOIN pg_attribute AS c ON c.attrelid = t.oid AND c.attnum > 0 AND NOT c.attisdropped
    WHERE t.relnamespace = current_schema()::regnamespace AND t.relkind IN ('r', 'p') AND NOT t.relispartition
        AND t.relname NOT IN ('outbox', '_sqlx_migrations')";

/// `table (columns) [unique] [partial]` of everything but primary keys.
const LITE_INDEXES: &str = "
    SELECT t.name || ' (' || (SELECT group_concat(name, ', ') FROM (SELECT name FROM pragma_index_info(i.name) ORDER BY seqno))
        || ')' || CASE WHEN i.\"unique\" THEN ' unique' ELSE '' END || CASE WHEN i.partial THEN ' partial' ELSE '' END
    FROM sqlite_master AS t JOIN pragma_index_list(t.name) AS i
    WHERE t.type = 'table' AND t.name NOT LIKE '\\_sqlx%' ESCAPE '\\' AND i.origin <> 'pk'
        AND t.name <> 'task_numbers' AND t.name NOT LIKE 'task\\_text%' ESCAPE '\\'";
const PG_INDEXES: &str = "
    SELECT t.relname || ' (' || (SELECT string_agg(attname, ', ' ORDER BY attnum) FROM pg_attribute WHERE attrelid = i.indexrelid)
        || ')' || CASE WHEN i.indisunique THEN ' unique' ELSE '' END || CASE WHEN i.indpred IS NOT NULL THEN ' partial' ELSE '' END
    FROM pg_index AS i JOIN pg_class AS t ON t.oid = i.indrelid
    WHERE t.relnamespace = current_schema()::regnamespace AND NOT t.relispartition AND NOT i.indisprimary
        AND t.relname NOT IN ('outbox', '_sqlx_migrations') AND i.indexrelid::regclass::text <> 'tasks_text'";

async fn lite_strings(pool: &SqlitePool, sql: &'static str) -> BTreeSet<String> {
    sqlx::query_scalar(sql).fetch_all(pool).await.unwrap().into_iter().collect()
}

async fn pg_strings(pool: &PgPool, sql: &'static str) -> BTreeSet<String> {
    sqlx::query_scalar(sql).fetch_all(pool).await.unwrap().into_iter().collect()
}

/// What was committed must survive a loss of power, and what was deleted must not stay in the file.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sqlite_is_durable_and_whole() {
    run(Store::sqlite().await, async |store: Store| {
        store.user("ada").await;
        let (write, read) = store.lite();
        for (pool, pragma, value) in [
            (write, "SELECT journal_mode FROM pragma_journal_mode", "wal"),
            (write, "SELECT CAST(synchronous AS TEXT) FROM pragma_synchronous", "2"),
            (write, "SELECT CAST(foreign_keys AS TEXT) FROM pragma_foreign_keys", "1"),
            (write, "SELECT CAST(secure_delete AS TEXT) FROM pragma_secure_delete", "1"),
            (write, "SELECT integrity_check FROM pragma_integrity_check", "ok"),
            (read, "SELECT journal_mode FROM pragma_journal_mode", "wal"),
            (read, "SELECT CAST(query_only AS TEXT) FROM pragma_query_only", "1"),
        ] {
            assert_eq!(lite_strings(pool, pragma).await, BTreeSet::from([value.to_owned()]), "{pragma}");
        }
        assert!(sqlx::query("DELETE FROM users").execute(read).await.is_err(), "readers cannot write");
        let (version,): (String,) = sqlx::query_as("SELECT sqlite_version()").fetch_one(write).await.unwrap();
        let numbers: Vec<u32> = version.split('.').map(|part| part.parse().unwrap()).collect();
        assert!(numbers >= vec![3, 51, 3], "{version} can corrupt a WAL that is reset");
    })
    .await;
}

/// No statement, lock or forgotten transaction may hold others up for long.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_is_durable_and_limits_waits() {
    run(Store::postgres().await, async |store: Store| {
        let Db::Postgres { write, read } = &store.db else { panic!("a case for Postgres") };
        for pool in [write, read] {
            for (name, value) in [
                ("synchronous_commit", "on"),
                ("statement_timeout", "5s"),
                ("lock_timeout", "2s"),
                ("idle_in_transaction_session_timeout", "10s"),
                ("TimeZone", "UTC"),
                ("application_name", "taskpost"),
                ("search_path", store.place().as_str()),
            ] {
                let (is,): (String,) =
                    sqlx::query_as("SELECT current_setting($1)").bind(name).fetch_one(pool).await.unwrap();
                assert_eq!(is, value, "{name}");
            }
        }
    })
    .await;
}

#[tokio::test]
async fn a_schema_name_cannot_smuggle_sql() {
    for name in ["", "a\"b", "a;b", "a b", "ü"] {
        let error = Db::postgres(&in_schema(&postgres_url(), name), 1).await.unwrap_err();
        assert!(error.to_string().starts_with("DATABASE_URL: schema="), "{name}: {error}");
    }
}
