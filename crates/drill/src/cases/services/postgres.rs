//! What is done to the database by itself: to one of its processes, to all of the product's, and to its own.

use std::{fs, process::Command, time::Duration};

use tokio::time::timeout;

use super::{
    away::{AWAY, away},
    evidence::{Evidence, healed},
    shared,
};
use crate::{
    case::{Arena, Case},
    services::Service,
};

const FROZEN: Duration = Duration::from_secs(8);
/// How often all connections are ended, and what is acknowledged in between.
const ENDS: usize = 5;
const BETWEEN: usize = 20;
/// A frozen process that holds a latch of the server also stops who asks about it.
const QUESTION: Duration = Duration::from_secs(1);

/// The product's connections, without the one that asks.
const OURS: &str = "FROM pg_stat_activity WHERE application_name = 'taskpost' AND pid <> pg_backend_pid()";

/// All of them.
pub fn cases() -> [Case; 4] {
    [
        shared("postgres backend frozen".to_owned(), Box::new(|arena| Box::pin(freeze_one(arena)))),
        shared("postgres connections ended".to_owned(), Box::new(|arena| Box::pin(end_all(arena)))),
        shared("postgres restarted: fast".to_owned(), Box::new(|arena| Box::pin(restart(arena)))),
        shared(
            "postgres restarted: immediate".to_owned(),
            Box::new(|arena| Box::pin(restart_at_once(arena))),
        ),
    ]
}

/// One process of the server stands still in the middle of a transaction that stores tasks.
async fn freeze_one(arena: &Arena) -> Result<(), String> {
    let mut evidence = Evidence::of(arena, Service::Postgres);
    let pid = arena
        .until(|| async {
            let pid = in_transaction(arena, "").await.ok_or("no transaction is open")?;
            is_here(pid)?;
            signal("STOP", pid)?;
            // Its transaction may have ended meanwhile.
            if in_transaction(arena, &format!("AND pid = {pid}")).await.is_some() {
                return Ok(pid);
            }
            signal("CONT", pid)?;
            Err(format!("{pid} was not caught"))
        })
        .await;
    let frozen = evidence.watch_for(FROZEN);
    healed(frozen, async { signal("CONT", pid).expect("it can go on") }).await;
    let noticed = evidence.end();
    if !noticed.unserved.is_empty() {
        noticed.mark(arena, "postgres: a backend frozen in the middle of a transaction");
    }
    Ok(())
}

/// A process of the server that is storing tasks.
async fn in_transaction(arena: &Arena, also: &str) -> Option<i64> {
    let sql = format!(
        "SELECT query, pid::bigint {OURS} AND state IN ('active', 'idle in transaction')
         AND query LIKE '%INSERT INTO tasks%' {also} LIMIT 1"
    );
    let rows = timeout(QUESTION, arena.stack.api().rows(&sql)).await.ok()?.ok()?;
    rows.first().map(|(_, pid)| *pid)
}

/// The server ends every connection of the product.
async fn end_all(arena: &Arena) -> Result<(), String> {
    let (evidence, mut ended) = (Evidence::of(arena, Service::Postgres), 0);
    for _ in 0..ENDS {
        ended += arena.stack.number(&format!("SELECT count(pg_terminate_backend(pid)) {OURS}")).await;
        arena.load.wait_for_more(BETWEEN).await;
    }
    if ended > 0 {
        evidence.end().mark(arena, &format!("postgres: {ended} connections ended"));
    }
    Ok(())
}

/// It stops as `pg_ctl stop -m fast` does.
async fn restart(arena: &Arena) -> Result<(), String> {
    let service = Service::Postgres;
    away(arena, service, "stopped", AWAY, service.tell("stop"), service.tell("up")).await;
    Ok(())
}

/// It stops as `pg_ctl stop -m immediate` does, and recovers from its log.
async fn restart_at_once(arena: &Arena) -> Result<(), String> {
    const SQL: &str = "SELECT CAST(split_part(pg_read_file('postmaster.pid'), chr(10), 1) AS BIGINT)";
    let service = Service::Postgres;
    let pid = arena.stack.number(SQL).await;
    is_here(pid)?;
    let take = async {
        signal("QUIT", pid).expect("it can be told to stop");
        arena.until(|| async { is_here(pid).map_or(Ok(()), |()| Err(format!("{pid} still runs"))) }).await;
    };
    away(arena, service, "stopped at once", AWAY, take, service.tell("up")).await;
    Ok(())
}

/// Whether this number is a process of Postgres on this machine: in a container it has another one.
fn is_here(pid: i64) -> Result<(), String> {
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    if name.trim() == "postgres" { Ok(()) } else { Err("it needs a Postgres without a container".to_owned()) }
}

fn signal(name: &str, pid: i64) -> Result<(), String> {
    let sent = Command::new("kill").args(["-s", name, &pid.to_string()]).status();
    match sent {
        Ok(status) if status.success() => Ok(()),
        failed => Err(format!("no signal for {pid}: {failed:?}")),
    }
}
