//! Processes are killed, asked to end, frozen, and run beside others of their role, under load.

use std::time::{Duration, Instant};

use taskpost_common::Clock;
use taskpost_testkit::Server;
use tokio::time::timeout;
use uuid::Uuid;

use crate::{
    case::{Arena, Case},
    history::{History, Mark, Wish},
    load::Pressure,
    stack::{Options, Role, Setup},
};

/// How often each process is killed.
const KILLS: usize = 3;
/// How many operations are acknowledged between two faults.
const BETWEEN: usize = 100;
/// How long a process may take to end when it is asked to.
const GOODBYE: Duration = Duration::from_secs(20);
/// How long a process that takes requests stands still. Postgres ends a transaction that does so for 10 s.
const FROZEN: Duration = Duration::from_secs(8);
/// Within this time all threads of a frozen process stand still.
const STOPPED: Duration = Duration::from_secs(2);
/// Within this time a process that is well says that it lives.
const ANSWER: Duration = Duration::from_secs(1);
/// How long to wait before looking again.
const PAUSE: Duration = Duration::from_millis(250);
/// How long a process that was taken for dead works beside its successor.
const TOGETHER: Duration = Duration::from_secs(5);

/// Every one of these.
pub fn cases() -> Vec<Case> {
    let killed = |setup, role: Role, name: &str| Case {
        short: true,
        ..Case::new(&format!("{name} killed"), setup, move |arena| Box::pin(killed(arena, role)))
    };
    let frozen =
        |setup, name: &str| Case::new(&format!("{name} frozen"), setup, |arena| Box::pin(frozen(arena)));
    let mut cases = vec![killed(Setup::Embedded, Role::Api, "process")];
    cases.extend(Role::ALL.map(|role| killed(Setup::Full, role, role.name())));
    cases.extend([
        Case::new("terminated", Setup::Embedded, |arena| Box::pin(terminated(arena, &[Role::Api]))),
        Case::new("terminated", Setup::Full, |arena| Box::pin(terminated(arena, &Role::ALL))),
        frozen(Setup::Embedded, "process"),
        frozen(Setup::Full, "api"),
        Case::new("rebalance", Setup::Full, |arena| Box::pin(rebalance(arena))),
        Case {
            short: true,
            ..Case::new("zombie leader: consumers", Setup::Full, |arena| Box::pin(zombie_consumers(arena)))
        },
        Case {
            // It lasts long, and what comes meanwhile is to be delivered.
            pressure: Pressure { pause: Duration::from_millis(100), ..Pressure::default() },
            options: Box::new(|_| Options {
                // A lease outlasts a try, so this decides how long the zombie is frozen.
                variables: [("WEBHOOK_TIMEOUT", "1s".to_owned())].into(),
                ..Options::default()
            }),
            ..Case::new("zombie leader: workers", Setup::Full, |arena| Box::pin(zombie_workers(arena)))
        },
    ]);
    cases
}

async fn killed(arena: &Arena, role: Role) {
    for _ in 0..KILLS {
        arena.stack.kill(role, &arena.history).await;
        arena.load.wait_for_more(BETWEEN).await;
    }
}

/// Each is asked to end, and started again. What it took it must have answered.
async fn terminated(arena: &Arena, roles: &[Role]) {
    let Arena { stack, history, load, .. } = arena;
    for &role in roles {
        let (server, name) = (stack.server(role), stack.name(role));
        let asked_at = history.now_ms();
        history.mark(Mark::Down(name));
        let exit = server.terminate().await;
        let ended: Uuid = Clock::system().id();
        assert!(exit.status.success(), "{name} ended with {}: {}", exit.status, exit.stderr);
        assert!(exit.took < GOODBYE, "{name} took {:?} to end", exit.took);
        history.mark(Mark::Fault(format!("{name}: ended {:.1} s after SIGTERM", exit.took.as_secs_f64())));
        server.restart().await;
        history.mark(Mark::Up(name));
        load.wait_for_more(BETWEEN).await;
        let unanswered = taken_and_not_answered(history, asked_at, ended);
        assert!(unanswered.is_empty(), "{name} stored these and ended without an answer: {unanswered:?}");
    }
}

/// Tasks that a process stored before it ended, and whose client heard of them only by asking its successor. Their ids
/// tell when they were made. A connection that is refused, or closed while it is idle, took nothing.
fn taken_and_not_answered(history: &History, asked_at: u64, ended: Uuid) -> Vec<String> {
    let lost = history.operations().into_iter().filter(|operation| {
        let told = operation.answers.iter().position(|answer| answer.task.is_some());
        let Some((before, told)) = told.map(|place| operation.answers.split_at(place)) else { return false };
        let id: Option<Uuid> = told.first().and_then(|told| told.task.as_ref()?.parse().ok());
        operation.wish == Wish::Create
            && before.iter().any(|answer| answer.status.is_none() && answer.at_ms >= asked_at)
            && id.is_some_and(|id| id < ended)
    });
    lost.map(|operation| operation.key).collect()
}

async fn frozen(arena: &Arena) {
    let Arena { stack, history, .. } = arena;
    let (server, name) = (stack.api(), stack.name(Role::Api));
    history.mark(Mark::Down(name));
    server.signal("STOP");
    let began = Instant::now();
    let ask = || timeout(ANSWER, server.get("/health/live").try_send());
    // Its threads stop one after the other: one of them may still answer for a moment.
    while let Ok(answer) = ask().await {
        assert!(began.elapsed() < STOPPED, "{name} is frozen, and says {answer:?}");
    }
    arena.last(FROZEN.saturating_sub(began.elapsed())).await;
    server.signal("CONT");
    history.mark(Mark::Up(name));
    history.mark(Mark::Fault(format!("{name}: frozen for {} s, and did not answer", FROZEN.as_secs())));
}

/// Consumers come and go, gently and by SIGKILL, while events stream in.
async fn rebalance(arena: &Arena) {
    let Arena { stack, history, load, .. } = arena;
    let (first, name) = (stack.server(Role::Consumers), stack.name(Role::Consumers));
    let second = stack.api().beside().role("consumers").await;
    let moved = applies(arena, &second, 0).await;
    history.mark(Mark::Fault(format!("a second process joined, and applied {moved} events")));
    load.wait_for_more(BETWEEN).await;

    history.mark(Mark::Down(name));
    let exit = first.terminate().await;
    assert!(exit.status.success(), "{name} ended with {}: {}", exit.status, exit.stderr);
    let third = stack.api().beside().role("consumers").await;
    let moved = applies(arena, &third, 0).await;
    history.mark(Mark::Fault(format!("the first left and a third joined, and applied {moved} events")));
    load.wait_for_more(BETWEEN).await;

    second.kill();
    let alone = Instant::now();
    load.wait_for_more(BETWEEN).await;
    // Those of the second are given to the third when Kafka misses it.
    applied_everywhere(arena).await;
    let took = alone.elapsed().as_secs_f64();
    history
        .mark(Mark::Fault(format!("the second was killed, and the third had everything {took:.1} s later")));
    first.restart().await;
    history.mark(Mark::Up(name));
    load.wait_for_more(BETWEEN).await;
    third.finish().await;
    second.finish().await;
}

/// Waits until a process has applied more events than so many; how many it has.
async fn applies(arena: &Arena, server: &Server, more_than: u64) -> u64 {
    until_seldom(arena, || async {
        let applied = applied(server).await;
        if applied > more_than { Ok(applied) } else { Err(format!("it applied {applied} events")) }
    })
    .await
}

async fn applied(server: &Server) -> u64 {
    counter(server, "taskpost_group_events_total", "").await
}

/// Waits until everything that is in the log now is relayed, and each group has applied it in every partition.
async fn applied_everywhere(arena: &Arena) {
    let head = arena.stack.number("SELECT position FROM log_head").await;
    let heads = until_seldom(arena, || async {
        let (heads, rest): (Vec<_>, Vec<_>) = places(arena)
            .await
            .into_iter()
            .partition(|(group, partition, _)| group == "relay" && !partition.is_empty());
        let cursor = rest.iter().find(|(group, partition, _)| group == "relay" && partition.is_empty());
        match cursor {
            Some((.., cursor)) if *cursor >= head => Ok(heads),
            cursor => Err(format!("of {head} events relayed: {cursor:?}")),
        }
    })
    .await;
    until_seldom(arena, || async {
        let behind: Vec<_> = places(arena)
            .await
            .into_iter()
            .filter(|(group, partition, position)| {
                let head = heads.iter().find(|(_, of, _)| of == partition);
                ["notifier", "projections", "webhooks"].contains(&group.as_str())
                    && head.is_some_and(|head| *position < head.2)
            })
            .collect();
        if behind.is_empty() { Ok(()) } else { Err(format!("of {heads:?} not applied: {behind:?}")) }
    })
    .await;
}

/// How far each group is in each partition, and the relay.
async fn places(arena: &Arena) -> Vec<(String, String, i64)> {
    const SQL: &str = "SELECT group_name || ' ' || partition, position FROM group_progress";
    let rows = arena.stack.rows(SQL).await.into_iter();
    rows.filter_map(|(name, position)| {
        let (group, partition) = name.split_once(' ')?;
        Some((group.to_owned(), partition.to_owned(), position))
    })
    .collect()
}

/// The leader is frozen past its lease and Kafka's patience. Another one takes over, and then the first goes on where
/// it was.
async fn zombie_consumers(arena: &Arena) {
    let Arena { stack, history, load, .. } = arena;
    let (zombie, name) = (stack.server(Role::Consumers), stack.name(Role::Consumers));
    history.mark(Mark::Down(name));
    zombie.signal("STOP");
    let frozen = Instant::now();
    let second = stack.api().beside().role("consumers").await;
    until_seldom(arena, || async {
        let counts = leads(&second).await;
        if counts.contains(&0) { Err(format!("it does not lead yet: {counts:?}")) } else { Ok(()) }
    })
    .await;
    load.wait_for_more(BETWEEN).await;
    applied_everywhere(arena).await;
    let [moved, relayed, applied] = leads(&second).await;
    zombie.signal("CONT");
    history.mark(Mark::Up(name));
    history.mark(Mark::Fault(format!(
        "{name}: frozen for {:.0} s; another process moved {moved} events, relayed {relayed} and applied {applied}",
        frozen.elapsed().as_secs_f64(),
    )));
    arena.last(TOGETHER).await;
    second.finish().await;
}

/// How many events a process gave a position, relayed and applied.
async fn leads(server: &Server) -> [u64; 3] {
    [
        counter(server, "taskpost_sequencer_moved_total", "").await,
        counter(server, "taskpost_relay_events_total", "").await,
        counter(server, "taskpost_group_events_total", "").await,
    ]
}

/// The worker is frozen past the leases of its deliveries. Another one delivers them, and then the first goes on.
async fn zombie_workers(arena: &Arena) {
    let Arena { stack, history, .. } = arena;
    let (zombie, name) = (stack.server(Role::Workers), stack.name(Role::Workers));
    history.mark(Mark::Down(name));
    let held = until_seldom(arena, || freeze_with_leases(arena, zombie)).await;
    let frozen = Instant::now();
    let second = stack.api().beside().role("workers").await;
    until_seldom(arena, || async {
        let now = leases(arena, "finished_at IS NOT NULL").await;
        let left = held.iter().filter(|(id, lease)| !now.iter().any(|(i, l)| i == id && l > lease)).count();
        if left == 0 { Ok(()) } else { Err(format!("{left} of {} leases were not taken over", held.len())) }
    })
    .await;
    let delivered = counter(&second, "taskpost_deliveries_total", "outcome=\"delivered\"").await;
    zombie.signal("CONT");
    history.mark(Mark::Up(name));
    let late = until_seldom(arena, || async {
        match counter(zombie, "taskpost_leases_lost_total", "").await {
            0 => Err("no outcome came after its lease".to_owned()),
            late => Ok(late),
        }
    })
    .await;
    history.mark(Mark::Fault(format!(
        "{name}: frozen for {:.0} s with {} webhooks under way; another process delivered {delivered}, those too; \
         {late} outcomes came after their leases",
        frozen.elapsed().as_secs_f64(),
        held.len(),
    )));
    arena.last(TOGETHER).await;
    second.finish().await;
}

/// Freezes a worker in the middle of tries; gives the ids and leases of those deliveries.
async fn freeze_with_leases(arena: &Arena, worker: &Server) -> Result<Vec<(String, i64)>, String> {
    worker.signal("STOP");
    // What it had sent to the store takes effect meanwhile.
    arena.last(ANSWER).await;
    let held = leases(arena, "state = 'sending'").await;
    if held.is_empty() {
        worker.signal("CONT");
        return Err("it was not delivering anything".to_owned());
    }
    Ok(held)
}

/// Ids and leases of webhook deliveries.
async fn leases(arena: &Arena, which: &str) -> Vec<(String, i64)> {
    let id = arena.stack.id_text("id");
    arena
        .stack
        .rows(&format!("SELECT {id}, lease FROM deliveries WHERE channel = 'webhook' AND {which}"))
        .await
}

/// As [`Arena::until`], with a pause after each look that was in vain: they cost a connection each.
pub(super) async fn until_seldom<T, F>(arena: &Arena, mut look: impl FnMut() -> F) -> T
where
    F: Future<Output = Result<T, String>>,
{
    arena
        .until(|| {
            let looking = look();
            async {
                let looked = looking.await;
                if looked.is_err() {
                    arena.last(PAUSE).await;
                }
                looked
            }
        })
        .await
}

/// A counter of a process, over all its series with this label.
pub(super) async fn counter(server: &Server, name: &str, label: &str) -> u64 {
    let text = server.get("/metrics").expect(200).await.text();
    let series = text.lines().filter_map(|line| {
        let (series, value) = line.rsplit_once(' ')?;
        let known = series.split('{').next() == Some(name) && series.contains(label);
        known.then(|| value.parse::<u64>().unwrap_or_default())
    });
    series.sum()
}
