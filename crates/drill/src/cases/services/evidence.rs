//! What clients and processes notice of a fault, so that none counts that nobody felt; and that each is ended.

use std::{
    any::Any,
    collections::BTreeMap,
    panic::{AssertUnwindSafe, resume_unwind},
    time::{Duration, Instant},
};

use futures::FutureExt as _;
use serde_json::Value;
use taskpost_testkit::Server;
use tokio::time::{sleep, timeout};

use crate::{
    case::Arena,
    history::{Answer, Mark},
    services::Service,
};

/// How often the processes are asked until one has noticed.
const LOOK: Duration = Duration::from_millis(100);

/// Does `middle`, then `heal`, also when `middle` breaks down: or the next case would begin with this one's fault.
pub async fn healed<T>(middle: impl Future<Output = T>, heal: impl Future<Output = ()>) -> T {
    let ended: Result<T, Box<dyn Any + Send>> = AssertUnwindSafe(middle).catch_unwind().await;
    heal.await;
    ended.unwrap_or_else(|panic| resume_unwind(panic))
}

/// Collects what is noticed from now on.
pub struct Evidence<'a> {
    arena: &'a Arena,
    part: &'static str,
    began: Instant,
    since_ms: u64,
    ill: Option<String>,
}

/// What was noticed.
#[derive(Debug)]
pub struct Noticed {
    /// Which process said first that the part is not well, when, and why.
    pub ill: Option<String>,
    /// How many requests found no service: by their status.
    pub unserved: BTreeMap<u16, usize>,
    /// The median time of an answer in milliseconds, before and since.
    pub median_ms: (u64, u64),
}

impl<'a> Evidence<'a> {
    /// About the part that runs on this service.
    pub fn of(arena: &'a Arena, service: Service) -> Self {
        let part = match service {
            Service::Postgres => "store",
            Service::Kafka => "log",
            Service::Rabbitmq => "queue",
            Service::Redis => "limiter",
        };
        Self::of_part(arena, part)
    }

    /// About a part, by its name in /health.
    pub fn of_part(arena: &'a Arena, part: &'static str) -> Self {
        Self { arena, part, began: Instant::now(), since_ms: arena.history.now_ms(), ill: None }
    }

    /// Lets the fault last so long, and asks every process meanwhile until one says that its part is not well.
    pub async fn watch_for(&mut self, time: Duration) {
        let (began, part) = (self.began, self.part);
        let asking = self.arena.stack.servers().into_iter().map(|(name, server)| async move {
            loop {
                if let Some(complaint) = complaint(server, part).await {
                    let seconds = began.elapsed().as_secs_f64();
                    return format!("after {seconds:.1} s {name} said that its {part} is {complaint}");
                }
                sleep(LOOK).await;
            }
        });
        let first = futures::future::select_all(asking.map(Box::pin));
        let (first, ()) = tokio::join!(timeout(time, first), self.arena.last(time));
        if let Ok((words, ..)) = first {
            self.ill.get_or_insert(words);
        }
    }

    /// What was noticed until now. Whatever is away, a client is told so, in time and as something that passes.
    pub fn end(self) -> Noticed {
        let answers = self.arena.history.operations().into_iter().flat_map(|operation| operation.answers);
        let (before, since): (Vec<Answer>, Vec<Answer>) =
            answers.partition(|answer| answer.at_ms < self.since_ms);
        let mut unserved = BTreeMap::new();
        for status in since.iter().map(|answer| answer.status.unwrap_or_default()) {
            assert!(status != 0, "a client waited in vain, and was told nothing");
            assert!(status != 500, "a client was told that there is a bug (500)");
            if status > 500 {
                *unserved.entry(status).or_default() += 1;
            }
        }
        Noticed { ill: self.ill, unserved, median_ms: (median(&before), median(&since)) }
    }
}

impl Noticed {
    /// Marks the fault, with the proof.
    pub fn mark(&self, arena: &Arena, fault: &str) {
        let mut words = fault.to_owned();
        if let Some(ill) = &self.ill {
            words = format!("{words}; {ill}");
        }
        for (status, times) in &self.unserved {
            words = format!("{words}; {times} times {status}");
        }
        let (before, since) = self.median_ms;
        words = format!("{words}; median answer {since} ms, before {before} ms");
        arena.history.mark(Mark::Fault(words));
    }
}

/// How this process says that a part is not well, if it does.
async fn complaint(server: &Server, part: &str) -> Option<String> {
    let answer = server.get("/health").try_send().await.ok()?;
    let health: Value = serde_json::from_slice(&answer.body).ok()?;
    let check = &health["checks"][part];
    let status = check["status"].as_str().filter(|status| *status != "ok")?;
    Some(format!("{status} ({})", check["detail"].as_str().unwrap_or("without a reason")))
}

fn median(answers: &[Answer]) -> u64 {
    let mut times: Vec<u64> = answers.iter().map(|answer| answer.took_ms).collect();
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or_default()
}
