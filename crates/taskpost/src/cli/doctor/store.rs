//! The store: there, writable, of the right schema, durable, and of the same time.

use chrono::TimeDelta;
use secrecy::ExposeSecret as _;
use taskpost_common::{
    Clock,
    config::{Config, Database},
};
use taskpost_store::{Db, Server, StoreError};

use super::{Finding, in_time};

/// The oldest major version of Postgres that has all that is used.
const OLDEST: i64 = 13;
/// How far the clocks may be apart.
const SKEW: TimeDelta = TimeDelta::seconds(1);
/// Connections a process takes at most: to write, to read, and two for the bells.
const CONNECTIONS: i64 = 22;

pub(super) async fn look(config: &Config, clock: &Clock) -> Vec<Finding> {
    let (opened, variable) = match &config.database {
        Database::Sqlite if !Db::is_in(&config.data_dir) => {
            return vec![Finding::ok("store", "SQLite; the first start makes it in DATA_DIR")];
        }
        Database::Sqlite => (Db::sqlite(&config.data_dir).await, "DATA_DIR"),
        Database::Postgres(url) => (Db::postgres(url.expose_secret(), 2).await, "DATABASE_URL"),
    };
    match opened {
        Ok(db) => {
            let findings = in_time("store", of_db(&db, clock, variable)).await;
            db.close().await;
            findings
        }
        Err(error) => vec![failed("store", &error, variable)],
    }
}

async fn of_db(db: &Db, clock: &Clock, variable: &str) -> Vec<Finding> {
    let before = clock.now();
    let server = match db.server().await {
        Ok(server) => server,
        Err(error) => return vec![failed("store", &error, variable)],
    };
    let after = clock.now();
    let mut findings = vec![reachable(db, &server)];
    findings.extend(clocks(&server, before + (after - before) / 2));
    if db.has_outbox() {
        findings.push(durable(&server));
    }
    let schema = match db.schema().await {
        Ok(schema) => schema.require_current(),
        Err(error) => Err(error),
    };
    match schema {
        Ok(()) => {
            findings.push(Finding::ok("schema", "current"));
            findings.push(writable(db, variable).await);
        }
        Err(error @ StoreError::Schema(_)) => {
            let said = error.to_string();
            let (detail, mend) = said.split_once("; ").unwrap_or((&said, "see `taskpost migrate status`"));
            findings.push(Finding::fail("schema", detail, mend));
        }
        Err(error) => findings.push(failed("schema", &error, variable)),
    }
    findings
}

fn reachable(db: &Db, server: &Server) -> Finding {
    let version = &server.version;
    if !db.has_outbox() {
        return Finding::ok("store", format!("SQLite {version}"));
    }
    if server.major < OLDEST {
        let mend = format!("let DATABASE_URL name a Postgres {OLDEST} or later");
        return Finding::fail("store", format!("Postgres {version} is too old"), mend);
    }
    let few = server.max_connections.filter(|most| *most < 3 * CONNECTIONS);
    match few {
        None => Finding::ok("store", format!("Postgres {version}")),
        Some(most) => Finding::warn(
            "store",
            format!(
                "Postgres {version} takes {most} connections, and each process of Taskpost up to {CONNECTIONS}"
            ),
            format!("raise max_connections of the server to {} or more", 3 * CONNECTIONS),
        ),
    }
}

fn clocks(server: &Server, here: chrono::DateTime<chrono::Utc>) -> Option<Finding> {
    let apart = (server.now? - here).abs();
    let detail = format!("{} ms from the store's", apart.num_milliseconds());
    Some(if apart > SKEW {
        Finding::warn("clock", detail, "set the time of this machine and of the store's by NTP")
    } else {
        Finding::ok("clock", detail)
    })
}

fn durable(server: &Server) -> Finding {
    if server.unsafe_settings.is_empty() {
        return Finding::ok("durability", "a commit is on disk");
    }
    Finding::fail(
        "durability",
        format!("{}: a crash loses tasks that were acknowledged", server.unsafe_settings.join(", ")),
        "turn them on in postgresql.conf, or by ALTER SYSTEM, ALTER DATABASE or ALTER ROLE",
    )
}

async fn writable(db: &Db, variable: &str) -> Finding {
    match db.check_writable().await {
        Ok(()) => {}
        Err(error) => return failed("writing", &error, variable),
    }
    match db.try_write().await {
        Ok(()) => Finding::ok("writing", "a row was written and undone"),
        Err(error) => failed("writing", &error, variable),
    }
}

fn failed(name: &'static str, error: &StoreError, variable: &str) -> Finding {
    let trouble = error.trouble();
    if matches!(error, StoreError::Config(_)) {
        return Finding::fail(name, error.to_string(), format!("correct {variable}"));
    }
    Finding::fail(name, format!("{} ({})", trouble.what, error.cause()), trouble.mend)
}
