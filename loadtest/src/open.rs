//! The open loop: requests are due at a constant rate, however long the answers take.
//!
//! A request that is due while all connections wait is sent late, and its time still counts from when it was due: what a
//! stall costs is not hidden by asking less (coordinated omission).

use std::{
    sync::{
        Arc, Weak,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use tokio::{sync::Semaphore, task::JoinSet};

use crate::schedule::Schedule;

/// From the call to the first request.
const LEAD: Duration = Duration::from_millis(100);

/// A request that is due.
#[derive(Clone, Copy, Debug)]
pub struct Due {
    /// Which, from 0.
    pub number: u64,
    /// Since when.
    pub at: Instant,
}

struct Pace {
    start: Instant,
    schedule: Schedule,
    due: Semaphore,
    next: AtomicU64,
}

/// Sends every request of the schedule, over at most so many connections, and returns when all have their answers.
pub async fn run<F, S>(schedule: Schedule, connections: u16, send: F) -> Result<()>
where
    F: Fn(Due) -> S + Clone + Send + Sync + 'static,
    S: Future<Output = ()> + Send + 'static,
{
    let (due, next) = (Semaphore::new(0), AtomicU64::new(0));
    let pace = Arc::new(Pace { start: Instant::now() + LEAD, schedule, due, next });
    let waiting = Arc::downgrade(&pace);
    // The runtime's timers count whole milliseconds, a thread's do not.
    let pacer = move || keep_pace(&waiting, connections);
    thread::Builder::new().name("pacer".to_owned()).spawn(pacer).context("could not start a thread")?;
    let mut senders = JoinSet::new();
    for _ in 0..connections {
        senders.spawn(take_turns(Arc::clone(&pace), send.clone()));
    }
    drop(pace);
    while let Some(ended) = senders.join_next().await {
        ended.context("a sender broke down")?;
    }
    Ok(())
}

/// Releases each request when it is due, and at the end every sender. Ends when nobody waits any more.
fn keep_pace(pace: &Weak<Pace>, connections: u16) {
    let Some((start, schedule)) = pace.upgrade().map(|pace| (pace.start, pace.schedule)) else { return };
    for number in 0..schedule.total() {
        let wait = (start + schedule.due(number)).saturating_duration_since(Instant::now());
        if !wait.is_zero() {
            thread::sleep(wait);
        }
        let Some(pace) = pace.upgrade() else { return };
        pace.due.add_permits(1);
    }
    if let Some(pace) = pace.upgrade() {
        pace.due.add_permits(usize::from(connections));
    }
}

/// One connection: takes whichever request is due next.
async fn take_turns<F, S>(pace: Arc<Pace>, send: F)
where
    F: Fn(Due) -> S,
    S: Future<Output = ()>,
{
    while let Ok(permit) = pace.due.acquire().await {
        permit.forget();
        let number = pace.next.fetch_add(1, Ordering::Relaxed);
        if number >= pace.schedule.total() {
            return;
        }
        send(Due { number, at: pace.start + pace.schedule.due(number) }).await;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[tokio::test]
    async fn every_request_is_sent_once_and_none_before_it_is_due() {
        let came = Arc::new(Mutex::new(Vec::new()));
        let list = Arc::clone(&came);
        let send = move |due: Due| {
            let list = Arc::clone(&list);
            async move {
                assert!(Instant::now() >= due.at);
                list.lock().unwrap().push(due.number);
            }
        };
        run(Schedule::new(200, 1), 4, send).await.unwrap();
        let mut numbers = came.lock().unwrap().clone();
        numbers.sort_unstable();
        assert_eq!(numbers, (0..200).collect::<Vec<_>>());
    }

    #[tokio::test]
    async fn a_stall_shows_in_the_times_of_those_that_were_due_meanwhile() {
        let late = Arc::new(Mutex::new(Vec::new()));
        let list = Arc::clone(&late);
        let send = move |due: Due| {
            let list = Arc::clone(&list);
            async move {
                if due.number == 0 {
                    tokio::time::sleep(Duration::from_millis(500)).await;
                }
                list.lock().unwrap().push(due.at.elapsed());
            }
        };
        run(Schedule::new(100, 1), 1, send).await.unwrap();
        let waited = late.lock().unwrap().iter().filter(|took| **took >= Duration::from_millis(100)).count();
        // 50 were due during the stall, of which 40 had still to wait for at least 100 ms.
        assert!(waited >= 30, "{waited}");
    }
}
