//! An open loop: requests arrive at a constant rate whatever becomes of those before, and each answer's time counts from
//! when its request was due. So what a stall keeps from being sent is part of what is measured.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use tokio::{sync::mpsc, task::JoinSet};

use super::connection::{Answer, Connection};
use crate::stats::percentile;

/// How often it is looked what is due, at most.
const TICK: Duration = Duration::from_micros(200);
/// Connections are made so many at once.
const AT_ONCE: usize = 64;
/// Fewer than the product lets one address have.
const EACH_ADDRESS: usize = 800;

/// The bytes of the request with this number.
pub type Make = Arc<dyn Fn(u64) -> Vec<u8> + Send + Sync>;

/// How many arrive, and where.
#[derive(Clone)]
pub struct Arrivals {
    /// Where.
    pub address: SocketAddr,
    /// How many in a second.
    pub rate: f64,
    /// For how long.
    pub time: Duration,
    /// How many requests there are at once, at most; one that is due when all are under way is not sent.
    pub connections: usize,
    /// What they are.
    pub make: Make,
}

/// What came of them.
#[derive(Clone, Debug, Default)]
pub struct Heard {
    /// The answers: when each request was due, and how long it took from then.
    pub answers: Vec<(Instant, Duration, Answer)>,
    /// How many found no connection free.
    pub unsent: usize,
    /// How many got no answer.
    pub broken: usize,
}

impl Heard {
    /// The times of those with a status of 2xx.
    pub fn admitted(&self) -> Vec<Duration> {
        let good = self.answers.iter().filter(|(_, _, answer)| (200..300).contains(&answer.status));
        good.map(|(_, took, _)| *took).collect()
    }

    /// The time within which so many of a hundred were admitted, in milliseconds.
    pub fn admitted_within(&self, of_100: usize) -> f64 {
        percentile(&mut self.admitted(), of_100)
    }

    /// How often each status came.
    pub fn statuses(&self) -> BTreeMap<u16, usize> {
        let mut counts = BTreeMap::new();
        for (_, _, answer) in &self.answers {
            *counts.entry(answer.status).or_default() += 1;
        }
        counts
    }

    fn add(&mut self, other: Self) {
        self.answers.extend(other.answers);
        self.unsent += other.unsent;
        self.broken += other.broken;
    }
}

/// The connections with nothing to do, by their numbers. The last one back is the first to go, so that few are used
/// where few suffice.
type Idle = Arc<Mutex<Vec<usize>>>;
/// A request: its number and when it is due.
type Due = (u64, Instant);

/// Sends them all and waits for the last answer.
pub async fn run(arrivals: &Arrivals) -> Result<Heard> {
    let idle = Idle::default();
    let (mut senders, mut tasks) = (Vec::new(), JoinSet::new());
    while senders.len() < arrivals.connections {
        let some = AT_ONCE.min(arrivals.connections - senders.len());
        let opened = futures::future::join_all(
            (0..some).map(|next| Connection::open(arrivals.address, from(senders.len() + next))),
        )
        .await;
        for connection in opened {
            let (sender, receiver) = mpsc::channel(1);
            let number = senders.len();
            senders.push(sender);
            lock(&idle).push(number);
            let (arrivals, idle) = (arrivals.clone(), Arc::clone(&idle));
            tasks.spawn(work(arrivals, connection?, receiver, idle, number));
        }
    }
    let (schedule, places) = (arrivals.clone(), Arc::clone(&idle));
    let sent = tokio::task::spawn_blocking(move || send(&schedule, &senders, &places));
    let mut heard = Heard { unsent: sent.await.context("the schedule broke")?, ..Heard::default() };
    while let Some(ended) = tasks.join_next().await {
        heard.add(ended.context("a connection broke")?);
    }
    Ok(heard)
}

/// Gives each request to an idle connection when it is due; gives how many found none. On a thread of its own, whose sleep
/// is finer than a runtime's.
fn send(arrivals: &Arrivals, connections: &[mpsc::Sender<Due>], idle: &Idle) -> usize {
    let (began, mut number, mut unsent) = (Instant::now(), 0, 0);
    loop {
        let due = began + due_after(number, arrivals.rate);
        if due - began >= arrivals.time {
            return unsent;
        }
        let wait = due.saturating_duration_since(Instant::now());
        if !wait.is_zero() {
            thread::sleep(wait.max(TICK));
        }
        let place = lock(idle).pop();
        let taken = place.and_then(|place| connections.get(place)?.try_send((number, due)).ok());
        unsent += usize::from(taken.is_none());
        number += 1;
    }
}

/// When the request with this number is due, from the beginning.
fn due_after(number: u64, rate: f64) -> Duration {
    let number = crate::stats::float(usize::try_from(number).unwrap_or(usize::MAX));
    Duration::from_secs_f64(number / rate.max(1e-3))
}

/// One connection: sends what it is given until there will be no more. One that was closed or broke is made anew.
async fn work(
    arrivals: Arrivals,
    first: Connection,
    mut requests: mpsc::Receiver<Due>,
    idle: Idle,
    number: usize,
) -> Heard {
    let (mut heard, mut open) = (Heard::default(), Some(first));
    while let Some((request, due)) = requests.recv().await {
        let connection = match open.take().filter(Connection::is_open) {
            Some(connection) => Ok(connection),
            None => Connection::open(arrivals.address, from(number)).await,
        };
        let answered = async {
            let mut connection = connection?;
            let answer = connection.ask(&(arrivals.make)(request)).await?;
            anyhow::Ok((connection, answer))
        };
        match answered.await {
            Ok((connection, answer)) => {
                heard.answers.push((due, due.elapsed(), answer));
                open = Some(connection);
            }
            Err(_) => heard.broken += 1,
        }
        lock(&idle).push(number);
    }
    heard
}

/// The address of this machine that the connection with this number comes from.
fn from(number: usize) -> Ipv4Addr {
    Ipv4Addr::new(127, 0, 0, u8::try_from(1 + number / EACH_ADDRESS).unwrap_or(u8::MAX))
}

fn lock(idle: &Idle) -> std::sync::MutexGuard<'_, Vec<usize>> {
    idle.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{measure::connection, serve::nothing};

    #[test]
    fn requests_are_due_at_even_distances() {
        assert_eq!(due_after(0, 100.0), Duration::ZERO);
        assert_eq!(due_after(250, 100.0), Duration::from_millis(2_500));
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn every_arrival_is_answered_or_counted() {
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(nothing::serve(listener));
        let make: Make = Arc::new(move |_| connection::post(address, "/v1/tasks", "abc", "{}"));
        let time = Duration::from_secs(1);
        let heard = run(&Arrivals { address, rate: 200.0, time, connections: 4, make }).await.unwrap();
        assert_eq!(heard.answers.len() + heard.unsent + heard.broken, 200);
        assert_eq!(heard.broken, 0);
        assert!(heard.statuses().keys().all(|status| *status == 201), "{:?}", heard.statuses());
    }
}
