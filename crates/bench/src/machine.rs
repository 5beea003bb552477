//! What else the machine was doing: its load, what the host took away, and other busy programs, from proc(5).

use std::{
    collections::HashMap,
    fmt, fs, process,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use crate::stats::float;

/// How often it is looked.
const EVERY: Duration = Duration::from_millis(500);
/// The services, which are measured with the rest. Everything else that is not a child of ours is somebody else's.
const SERVICES: [&str; 8] = [
    "postgres",
    "java",
    "beam.smp",
    "erl_child_setup",
    "inet_gethost",
    "epmd",
    "redis-server",
    "docker-proxy",
];
/// Percent of one core that others may take, and of all time that the host may, on a quiet machine.
const QUIET_OTHERS: f64 = 10.0;
const QUIET_STEAL: f64 = 2.0;
/// How many others are named.
const NAMED: usize = 3;

/// What was going on while a row was measured.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Surroundings {
    /// The load average of the last minute, when the row began.
    pub load: f64,
    /// The time the host took away, in percent.
    pub steal: f64,
    /// What other programs used, in percent of one core.
    pub others: f64,
    /// The busiest of them, with the percent of one core of each.
    pub busiest: Vec<(String, f64)>,
}

impl Surroundings {
    /// Whether nothing else was worth mentioning.
    pub fn is_quiet(&self) -> bool {
        self.steal < QUIET_STEAL && self.others < QUIET_OTHERS
    }
}

impl fmt::Display for Surroundings {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            out,
            "load {:.1}, steal {:.1} %, others {:.0} % of a core",
            self.load, self.steal, self.others
        )?;
        let named: Vec<String> =
            self.busiest.iter().map(|(name, percent)| format!("{name} {percent:.0} %")).collect();
        if named.is_empty() { Ok(()) } else { write!(out, " ({})", named.join(", ")) }
    }
}

/// Looks until it is asked what it saw.
#[derive(Debug)]
pub struct Watch {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Surroundings>,
}

impl Watch {
    /// Begins to look.
    pub fn start() -> Self {
        let stop = Arc::<AtomicBool>::default();
        let stopped = Arc::clone(&stop);
        Self { stop, thread: thread::spawn(move || watch(&stopped)) }
    }

    /// What was seen.
    pub fn end(self) -> Surroundings {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.thread().unpark();
        self.thread.join().unwrap_or_default()
    }
}

fn watch(stop: &AtomicBool) -> Surroundings {
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = load.split(' ').next().and_then(|first| first.parse().ok()).unwrap_or_default();
    let cores = float(thread::available_parallelism().map_or(1, Into::into));
    let (mut total, mut steal) = (0, 0);
    let mut others: HashMap<String, u64> = HashMap::new();
    let mut before = (Times::now(), processes());
    while !stop.load(Ordering::Relaxed) {
        thread::park_timeout(EVERY);
        let now = (Times::now(), processes());
        total += now.0.total.saturating_sub(before.0.total);
        steal += now.0.steal.saturating_sub(before.0.steal);
        for (id, process) in &now.1 {
            let ticks = process.ticks.saturating_sub(before.1.get(id).map_or(0, |before| before.ticks));
            if ticks > 0 && !is_ours(*id, &now.1) {
                *others.entry(process.name.clone()).or_default() += ticks;
            }
        }
        before = now;
    }
    let of_all = |ticks: u64| 100.0 * ratio(ticks, total);
    let mut busiest: Vec<(String, f64)> =
        others.into_iter().map(|(name, ticks)| (name, of_all(ticks) * cores)).collect();
    busiest.sort_by(|one, other| other.1.total_cmp(&one.1));
    let sum = busiest.iter().map(|(_, percent)| percent).sum();
    busiest.retain(|(_, percent)| *percent >= 1.0);
    busiest.truncate(NAMED);
    Surroundings { load, steal: of_all(steal), others: sum, busiest }
}

fn ratio(part: u64, whole: u64) -> f64 {
    let fraction = |ticks: u64| float(usize::try_from(ticks).unwrap_or(usize::MAX));
    fraction(part) / fraction(whole.max(1))
}

/// The time of all cores since the machine began, in ticks.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Times {
    total: u64,
    steal: u64,
}

impl Times {
    fn now() -> Self {
        Self::parse(&fs::read_to_string("/proc/stat").unwrap_or_default())
    }

    /// user, nice, system, idle, iowait, irq, softirq, steal; what follows is counted in user already.
    fn parse(stat: &str) -> Self {
        let first = stat.lines().next().unwrap_or_default();
        let ticks: Vec<u64> = first.split_whitespace().skip(1).filter_map(|word| word.parse().ok()).collect();
        Self { total: ticks.iter().take(8).sum(), steal: ticks.get(7).copied().unwrap_or_default() }
    }
}

/// A process at one time.
#[derive(Clone, Debug, PartialEq)]
struct Process {
    name: String,
    parent: u32,
    ticks: u64,
}

impl Process {
    /// `id (name) state parent …`; user and system time are the fields 14 and 15. The name may hold anything.
    fn parse(stat: &str) -> Option<Self> {
        let (head, rest) = stat.rsplit_once(')')?;
        let name = head.split_once('(')?.1.to_owned();
        let fields: Vec<&str> = rest.split_whitespace().collect();
        let number = |place: usize| fields.get(place)?.parse::<u64>().ok();
        let parent = u32::try_from(number(1)?).ok()?;
        Some(Self { name, parent, ticks: number(11)? + number(12)? })
    }
}

fn processes() -> HashMap<u32, Process> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let ids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    ids.filter_map(|id| {
        let stat = fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
        Some((id, Process::parse(&stat)?))
    })
    .collect()
}

/// We, what we started, the services, and the kernel's own.
fn is_ours(id: u32, all: &HashMap<u32, Process>) -> bool {
    /// The kernel's threads have this parent, or are it.
    const KERNEL: u32 = 2;
    let mut at = id;
    // As long as a chain can be; a loop cannot happen but in a torn view.
    for _ in 0..64 {
        if at == process::id() || at == KERNEL {
            return true;
        }
        match all.get(&at) {
            Some(process) if SERVICES.iter().any(|service| process.name.starts_with(service)) => return true,
            Some(process) if process.parent > 1 => at = process.parent,
            _ => return false,
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_numbers_are_read() {
        let stat = "cpu  100 0 50 800 10 0 5 35 7 0\ncpu0 1 2 3\n";
        assert_eq!(Times::parse(stat), Times { total: 1_000, steal: 35 });
        let process = Process::parse("42 (a b) c) S 7 42 42 0 -1 0 0 0 0 0 250 50 0 0 20 0").unwrap();
        assert_eq!(process, Process { name: "a b) c".to_owned(), parent: 7, ticks: 300 });
        assert_eq!(Process::parse("nonsense"), None);
    }

    #[test]
    fn children_and_services_are_ours() {
        let process = |name: &str, parent| Process { name: name.to_owned(), parent, ticks: 0 };
        let all = HashMap::from([
            (10, process("taskpost", process::id())),
            (11, process("worker", 10)),
            (12, process("redis-server", 1)),
            (13, process("rustc", 14)),
            (14, process("cargo", 1)),
        ]);
        for (id, ours) in [(10, true), (11, true), (12, true), (13, false), (14, false)] {
            assert_eq!(is_ours(id, &all), ours, "{id}");
        }
    }

    #[test]
    fn a_machine_with_a_compiler_running_is_not_quiet() {
        let quiet = Surroundings { load: 1.0, steal: 0.1, others: 2.0, busiest: Vec::new() };
        assert!(quiet.is_quiet());
        let busiest = vec![("rustc".to_owned(), 97.0)];
        let busy = Surroundings { others: 99.0, busiest, ..quiet.clone() };
        assert!(!busy.is_quiet() && !Surroundings { steal: 5.0, ..quiet }.is_quiet());
        assert_eq!(busy.to_string(), "load 1.0, steal 0.1 %, others 99 % of a core (rustc 97 %)");
    }
}
