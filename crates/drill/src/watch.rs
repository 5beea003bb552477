//! Looks at every process all the time, as an orchestrator and an operator would: what its health says and how much memory
//! it has.

use std::{
    collections::BTreeMap,
    fs,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use taskpost_testkit::Client;
use tokio::task::JoinSet;

use crate::stack::Stack;

/// How often.
const EVERY: Duration = Duration::from_millis(250);
/// How long an answer may take: what comes later counts as none.
const PATIENCE: Duration = Duration::from_millis(2_500);

/// What was seen of one process at one time.
#[derive(Clone, Copy, Debug)]
pub struct Sight {
    /// Since the watch began, when it was asked.
    pub at: Duration,
    /// The status of /health/live; none when there was no answer in time.
    pub live: Option<u16>,
    /// The status of /health/ready.
    pub ready: Option<u16>,
}

/// What was seen, by the name of the process.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// Oldest first.
    pub sights: BTreeMap<&'static str, Vec<Sight>>,
    /// The most memory that each had, in MiB: the highest VmRSS seen.
    pub memory: BTreeMap<&'static str, u64>,
}

/// A running watch. Ends when it is dropped.
pub struct Watch {
    seen: Arc<Mutex<Seen>>,
    _watchers: JoinSet<()>,
}

impl Watch {
    /// Begins to look; `began` is when the history began.
    pub fn start(stack: &Stack, began: Instant) -> Self {
        let seen = Arc::new(Mutex::new(Seen::default()));
        let mut watchers = JoinSet::new();
        for (name, server) in stack.servers() {
            watchers.spawn(watch(name, server.address(), Arc::clone(&seen), began));
        }
        Self { seen, _watchers: watchers }
    }

    /// Everything seen so far.
    pub fn seen(&self) -> Seen {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Notes how much memory the processes have now.
    pub fn weigh(&self, stack: &Stack) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        for (name, server) in stack.servers() {
            let memory = resident(server.pid()).unwrap_or_default();
            let most = seen.memory.entry(name).or_default();
            *most = (*most).max(memory);
        }
    }
}

async fn watch(name: &'static str, address: SocketAddr, seen: Arc<Mutex<Seen>>, began: Instant) {
    let client = Client::new(address);
    let mut ticks = tokio::time::interval(EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let at = began.elapsed();
        let (live, ready) = tokio::join!(ask(&client, "/health/live"), ask(&client, "/health/ready"));
        let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.sights.entry(name).or_default().push(Sight { at, live, ready });
    }
}

async fn ask(client: &Client, path: &str) -> Option<u16> {
    let answer = tokio::time::timeout(PATIENCE, client.get(path).try_send()).await;
    Some(answer.ok()?.ok()?.status)
}

/// The resident memory of a process in MiB: VmHWM of proc(5), its peak.
fn resident(pid: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: u64 = line.trim().trim_end_matches(" kB").parse().ok()?;
    Some(kib / 1024)
}
