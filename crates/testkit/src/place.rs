//! Where an instance keeps its things: a folder of its own, and on Postgres a schema of its own.

use std::{collections::BTreeMap, path::Path};

use sqlx::{AssertSqlSafe, Connection as _, PgConnection};
use taskpost_common::Clock;
use tempfile::TempDir;
use url::Url;
use uuid::Uuid;

use crate::brokers::{Brokers, Part};

/// The variable that names a Postgres for tests.
const POSTGRES: &str = "TASKPOST_TEST_POSTGRES_URL";

/// Which database a case runs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    /// A file in the data folder.
    Sqlite,
    /// A fresh schema of the server that `TASKPOST_TEST_POSTGRES_URL` names.
    Postgres,
}

/// A place of one instance. Dropping it removes everything.
#[derive(Debug)]
pub(crate) struct Place {
    folder: TempDir,
    schema: Option<Schema>,
    brokers: Brokers,
}

impl Place {
    /// With the brokers that this run of the tests uses.
    pub(crate) fn new(backend: Backend) -> Self {
        Self::with(backend, Part::used())
    }

    /// With these brokers.
    pub(crate) fn with(backend: Backend, parts: Vec<Part>) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let schema = match backend {
            Backend::Sqlite => None,
            Backend::Postgres => Some(Schema::new()),
        };
        Self { folder, schema, brokers: Brokers::new(parts) }
    }

    /// The data folder.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The prefix of all its names at the brokers.
    pub(crate) fn instance(&self) -> &str {
        self.brokers.instance()
    }

    /// What a test may overrule: everything near, generous and quick.
    pub(crate) fn variables(&self) -> BTreeMap<String, String> {
        let mut variables: BTreeMap<String, String> = [
            ("HTTP_PORT", "0"),
            ("RATE_LIMIT_AUTH", "100000/s"),
            ("RATE_LIMIT_WRITE", "100000/s"),
            ("RATE_LIMIT_READ", "100000/s"),
            ("WEBHOOK_ALLOW_PRIVATE", "true"),
            ("WEBHOOK_TIMEOUT", "3s"),
            ("RETRY_DELAYS", "20ms,40ms"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into();
        variables.insert("DATA_DIR".to_owned(), self.folder().display().to_string());
        if let Some(schema) = &self.schema {
            variables.insert("DATABASE_URL".to_owned(), schema.url());
        }
        variables.extend(self.brokers.variables());
        variables
    }

    /// As [`Place::variables`], for who drills nothing: that the machine stood still for a while fails no try and
    /// refuses no task.
    pub(crate) fn unhurried(&self) -> BTreeMap<String, String> {
        let mut variables = self.variables();
        let patience = [("WEBHOOK_TIMEOUT", "30s"), ("COMMIT_WAIT", "1m")];
        variables.extend(patience.map(|(name, value)| (name.to_owned(), value.to_owned())));
        variables
    }

    /// An instance starts here with these variables.
    pub(crate) fn used_with(&self, variables: &BTreeMap<String, String>) {
        self.brokers.used_with(variables);
    }

    /// Removes everything, once nobody uses it any more.
    pub(crate) async fn remove(mut self) {
        self.brokers.remove().await;
        if let Some(schema) = self.schema.take() {
            schema.remove().await;
        }
    }
}

#[derive(Debug)]
struct Schema {
    server: Url,
    name: String,
}

impl Schema {
    fn new() -> Self {
        #[expect(clippy::disallowed_methods, reason = "the tests' own variable")]
        let server = std::env::var(POSTGRES).unwrap_or_else(|_| {
            panic!("{POSTGRES} is not set; `cargo xtask test` starts a Postgres and sets it")
        });
        let server = server.parse().unwrap_or_else(|error| panic!("{POSTGRES}: {error}"));
        let name = format!("test_{}", Clock::system().id::<Uuid>().simple());
        Self { server, name }
    }

    fn url(&self) -> String {
        let mut url = self.server.clone();
        // A busy machine takes a while to log in to Postgres, which is no test's business.
        url.query_pairs_mut().append_pair("schema", &self.name).append_pair("pool_timeout", "5");
        url.into()
    }

    async fn remove(self) {
        self.try_remove().await.expect("the test's schema can be dropped");
    }

    async fn try_remove(&self) -> Result<(), sqlx::Error> {
        let mut connection = PgConnection::connect(self.server.as_str()).await?;
        let drop = format!("SET lock_timeout = '30s'; DROP SCHEMA IF EXISTS {} CASCADE", self.name);
        sqlx::raw_sql(AssertSqlSafe(drop)).execute(&mut connection).await?;
        connection.close().await
    }
}

impl Drop for Place {
    /// A test that failed leaves nothing behind either. It has no runtime to wait in any more, so this brings its own.
    fn drop(&mut self) {
        let left = async {
            self.brokers.remove().await;
            if let Some(schema) = &self.schema {
                // What fails here must not hide why the test failed.
                let _ = schema.try_remove().await;
            }
        };
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
                let _ = runtime.map(|runtime| runtime.block_on(left));
            });
        });
    }
}
