//! The floor: one-row inserts by pgbench, with nothing around them.

use std::{fs, path::Path, process::Command, time::Duration};

use anyhow::{Context as _, Result, ensure};
use url::Url;

use crate::{
    bench::Bench,
    figure::{Outcome, Unit},
    start::{
        database::Database,
        process::{Process, Ready},
    },
};

/// What a run may take longer than it should.
const LATE: Duration = Duration::from_secs(30);

/// As wide as the product's tasks and with one index besides the key.
const TABLE: &str = "
CREATE TABLE floor (
    id              BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    task_type       TEXT NOT NULL,
    title           TEXT NOT NULL,
    description     TEXT NOT NULL,
    status          TEXT NOT NULL,
    status_category TEXT NOT NULL,
    priority        TEXT NOT NULL,
    reporter_id     UUID NOT NULL,
    labels          TEXT NOT NULL,
    comment_count   BIGINT NOT NULL DEFAULT 0,
    version         BIGINT NOT NULL,
    created_at      TIMESTAMPTZ NOT NULL,
    updated_at      TIMESTAMPTZ NOT NULL
);
CREATE INDEX floor_reporter ON floor (reporter_id, id);";

const INSERT: &str = "INSERT INTO floor (task_type, title, description, status, status_category, priority, \
    reporter_id, labels, version, created_at, updated_at) VALUES ('task', 'Prepare the quarterly report', \
    'Collect the figures from every team and draft the summary.', 'todo', 'todo', 'high', \
    '0192d5a1-0000-7000-8000-000000000001', '[]', 1, now(), now());\n";

/// Measures in a database of its own.
pub async fn floor(bench: &Bench, folder: &Path, database: &Database) -> Result<Outcome> {
    database.execute(TABLE).await?;
    let script = folder.join("insert.sql");
    fs::write(&script, INSERT).with_context(|| format!("could not write {}", script.display()))?;
    let seconds = bench.seconds();
    let mut pgbench = Command::new(bench.options.given.pgbench.as_deref().context("there is no pgbench")?);
    connect(&mut pgbench, &database.url());
    pgbench.args(["-n", "-M", "prepared", "-c", "64", "-j", "2", "-T", &seconds.to_string()]);
    pgbench.arg("-f").arg(&script);
    let running = Process::start("pgbench", pgbench, folder, Ready::AtOnce).await?;
    parse(&running.ends(Duration::from_secs(seconds) + LATE).await?)
}

/// By the variables of libpq, so that no list of processes shows a password.
fn connect(command: &mut Command, url: &Url) {
    let decoded = |text: &str| {
        let pair = format!("x={}", text.replace('+', "%2B").replace('&', "%26"));
        url::form_urlencoded::parse(pair.as_bytes())
            .next()
            .map_or_else(String::new, |(_, value)| value.into_owned())
    };
    command.env("PGHOST", url.host_str().unwrap_or("localhost"));
    command.env("PGPORT", url.port().unwrap_or(5432).to_string());
    command.env("PGUSER", decoded(url.username()));
    command.env("PGPASSWORD", decoded(url.password().unwrap_or_default()));
    command.env("PGDATABASE", url.path().trim_start_matches('/'));
}

fn parse(said: &str) -> Result<Outcome> {
    let after = |start: &str| {
        let rest = said.lines().find_map(|line| line.strip_prefix(start));
        rest.and_then(|rest| rest.split_whitespace().next())
    };
    let number = |start: &str| -> Result<f64> {
        after(start)
            .with_context(|| format!("pgbench says nothing of `{start}`: {said}"))?
            .parse()
            .context("a number")
    };
    let failed = after("number of failed transactions: ").unwrap_or("0");
    ensure!(failed == "0", "{failed} inserts failed");
    let (per_second, average) = (number("tps = ")?, number("latency average = ")?);
    Ok(Outcome::default().with("per_second", per_second, Unit::PerSecond).with(
        "average_ms",
        average,
        Unit::Millis,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAID: &str = "\
pgbench (15.18 (Debian 15.18-0+deb12u1))
transaction type: insert.sql
scaling factor: 1
query mode: prepared
number of clients: 64
number of threads: 2
duration: 6 s
number of transactions actually processed: 152789
number of failed transactions: 0 (0.000%)
latency average = 2.513 ms
initial connection time = 94.318 ms
tps = 25464.918273 (without initial connection time)
";

    #[test]
    fn what_pgbench_says_is_read() {
        let outcome = parse(SAID).unwrap();
        assert_eq!(outcome.to_string(), "per_second 25465/s, average_ms 2.51 ms");
        assert!(parse(&SAID.replace("transactions: 0", "transactions: 3")).is_err());
        assert!(parse("pgbench: error: connection failed\n").is_err());
    }

    #[test]
    fn a_password_is_told_as_it_is() {
        let mut command = Command::new("true");
        connect(&mut command, &"postgres://ann:a%20b+c@localhost:5433/x".parse().unwrap());
        let told = |name: &str| {
            let found = command.get_envs().find(|(known, _)| *known == name);
            found.and_then(|(_, value)| value?.to_str()).map(str::to_owned)
        };
        assert_eq!(told("PGPASSWORD").as_deref(), Some("a b+c"));
        assert_eq!(told("PGPORT").as_deref(), Some("5433"));
        assert_eq!(told("PGDATABASE").as_deref(), Some("x"));
    }
}
