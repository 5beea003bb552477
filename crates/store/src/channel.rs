//! What processes on one Postgres tell one another at once, by NOTIFY. Whoever is away misses it: nothing may rest on it.

use std::io;

use sqlx::{
    AssertSqlSafe, Connection as _, Executor as _, PgConnection,
    postgres::{PgConnectOptions, PgListener, PgPoolOptions},
};
use uuid::Uuid;

use crate::{Db, StoreError};

/// A channel of NOTIFY. Each who tells and each who listens has a connection apart from the store's pools; dropping it
/// closes it.
#[derive(Clone, Debug)]
pub struct Channel {
    options: PgConnectOptions,
    instance: String,
}

impl Channel {
    /// The channel of this instance in this schema; none on SQLite, which has one process.
    pub fn new(db: &Db, instance: &str) -> Option<Self> {
        let Db::Postgres { write, .. } = db else { return None };
        // Nothing told here needs to last, so no commit waits for the disk.
        let options = write.connect_options().as_ref().clone().options([("synchronous_commit", "off")]);
        Some(Self { options, instance: instance.to_owned() })
    }

    /// Connects to tell.
    pub async fn speak(&self) -> Result<Speaking, StoreError> {
        let mut connection = PgConnection::connect_with(&self.options).await?;
        let name = self.name(&mut connection).await?;
        Ok(Speaking { connection, name })
    }

    /// Connects and listens from now on.
    pub async fn listen(&self) -> Result<Listening, StoreError> {
        // A pool of its own for each try: one that broke without a word may hold its place in a pool for long.
        let alone = PgPoolOptions::new()
            .max_connections(1)
            .idle_timeout(None)
            .max_lifetime(None)
            .test_before_acquire(false);
        let pool = alone.connect_with(self.options.clone()).await?;
        let mut listener = PgListener::connect_with(&pool).await?;
        // Connecting again by itself, it would hide that something was missed.
        listener.eager_reconnect(false);
        let name = self.name(&mut *sqlx::Acquire::acquire(&mut listener).await?).await?;
        listener.listen(&name).await?;
        Ok(Listening { listener, name })
    }

    /// The name on the server, which instances in other schemas or of other names do not share.
    async fn name(&self, connection: &mut PgConnection) -> Result<String, StoreError> {
        const SCHEMA: &str = "SELECT COALESCE(current_schema(), '')";
        const SHOW: &str = "SELECT set_config('application_name', $1, FALSE)";
        let (schema,): (String,) = sqlx::query_as(SCHEMA).fetch_one(&mut *connection).await?;
        let id = Uuid::new_v5(&Uuid::NAMESPACE_OID, format!("{} {schema}", self.instance).as_bytes());
        let name = format!("taskpost_{}", id.simple());
        sqlx::query(SHOW).bind(&name).execute(connection).await?;
        Ok(name)
    }
}

/// One who tells.
#[derive(Debug)]
pub struct Speaking {
    connection: PgConnection,
    name: String,
}

impl Speaking {
    /// Tells everybody who listens, also in this process.
    pub async fn tell(&mut self, what: &str) -> Result<(), StoreError> {
        const SQL: &str = "SELECT pg_notify($1, $2)";
        sqlx::query(SQL).bind(&self.name).bind(what).execute(&mut self.connection).await?;
        Ok(())
    }
}

/// One who listens.
#[derive(Debug)]
pub struct Listening {
    listener: PgListener,
    name: String,
}

impl Listening {
    /// Waits for what somebody tells next; may be dropped. After an error listen anew: something may have been missed.
    pub async fn next(&mut self) -> Result<String, StoreError> {
        match self.listener.try_recv().await? {
            Some(told) => Ok(told.payload().to_owned()),
            None => Err(StoreError::Unavailable(sqlx::Error::Io(io::ErrorKind::ConnectionReset.into()))),
        }
    }

    /// Asks whether the connection still stands: one that was cut without a word would be waited on for ever.
    pub async fn probe(&mut self) -> Result<(), StoreError> {
        self.listener.execute(AssertSqlSafe("SELECT 1")).await?;
        Ok(())
    }

    /// The channel's name, which is also the connections' `application_name`.
    pub fn name(&self) -> &str {
        &self.name
    }
}
