//! One case: a product under load, a fault, its end, and what the checkers say then.

use std::{
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use futures::future::BoxFuture;
use rand::{SeedableRng as _, rngs::StdRng};
use taskpost_testkit::until_within;

use crate::{
    check,
    expect::Expect,
    history::{History, Mark},
    load::{Load, Pressure},
    report::{ENOUGH, Report, Verdict},
    stack::{Options, RECOVERY, Setup, Stack},
    watch::Watch,
};

/// How many are acknowledged before the fault, and after it.
const BEFORE: usize = 100;
const AFTER: usize = 150;
/// How long everything may take to come to rest. A case that takes longer is broken, not late.
const SETTLING: Duration = Duration::from_mins(4);

/// What a case does to the running product: it makes its faults, ends them, and marks in the history what it saw. An error
/// is a reason why the case cannot be run on this machine.
pub type Fault = Box<dyn for<'a> Fn(&'a Arena) -> BoxFuture<'a, Result<(), String>> + Send + Sync>;

/// A case.
pub struct Case {
    /// Its name: what is broken, and how.
    pub name: String,
    /// What is drilled.
    pub setup: Setup,
    /// Whether it is in the short set.
    pub short: bool,
    /// Whether it leaves the services alone, so that others may run beside it.
    pub apart: bool,
    /// How many seeds a whole run gives it.
    pub seeds: u64,
    /// How hard the clients press.
    pub pressure: Pressure,
    /// Says how the product is to be started.
    pub options: Box<dyn Fn(&mut StdRng) -> Options + Send + Sync>,
    /// What is done to it.
    pub fault: Fault,
    /// What the checkers expect.
    pub expect: Expect,
}

/// What a fault works on.
pub struct Arena {
    /// The running product.
    pub stack: Stack,
    /// What the clients were told.
    pub history: Arc<History>,
    /// What the processes said of themselves.
    pub watch: Watch,
    /// The clients.
    pub load: Load,
    /// The seed of the case.
    pub seed: u64,
}

impl Case {
    /// A case of the usual kind, which can be run anywhere and stands beside others.
    pub fn new(
        name: &str,
        setup: Setup,
        fault: impl for<'a> Fn(&'a Arena) -> BoxFuture<'a, ()> + Send + Sync + 'static,
    ) -> Self {
        Self {
            name: name.to_owned(),
            setup,
            short: false,
            apart: true,
            seeds: 1,
            pressure: Pressure::default(),
            options: Box::new(|_| Options::default()),
            fault: Box::new(move |arena| {
                let broken = fault(arena);
                Box::pin(async {
                    broken.await;
                    Ok(())
                })
            }),
            expect: Expect::default(),
        }
    }

    /// Runs it. `folder` gets its history, and the logs of the processes when it did not pass.
    pub async fn run(&self, seed: u64, folder: &Path) -> Report {
        let began = Instant::now();
        let mut report = Report::new(&self.name, self.setup, seed);
        match Box::pin(self.play(seed, folder, &mut report)).await {
            Ok(()) => report.judge(),
            Err(reason) => report.verdict = Verdict::Skipped(reason),
        }
        report.seconds = began.elapsed().as_secs_f64();
        report
    }

    async fn play(&self, seed: u64, folder: &Path, report: &mut Report) -> Result<(), String> {
        let options = (self.options)(&mut StdRng::seed_from_u64(seed));
        let stack = Stack::start(self.setup, &options).await;
        let history = History::begin(&folder.join("history.jsonl")).map_err(|error| error.to_string())?;
        let history = Arc::new(history);
        let watch = Watch::start(&stack, history.began());
        let load = Load::start(&stack, &history, seed, self.pressure);
        let arena = Arena { stack, history, watch, load, seed };
        arena
            .until(|| async {
                // One that is to die by itself may have done so already.
                let died = arena.stack.servers().into_iter().any(|(_, server)| server.ended().is_some());
                let acknowledged = arena.history.acknowledged();
                let begun = died || acknowledged >= BEFORE;
                if begun {
                    Ok(())
                } else {
                    Err(format!("{acknowledged} of {BEFORE} operations are acknowledged"))
                }
            })
            .await;
        let broken = (self.fault)(&arena).await;
        let Arena { stack, history, watch, load, .. } = arena;
        if broken.is_ok() {
            history.mark(Mark::Healed);
            report.recovery = Some(recovered(&stack, &load).await.as_secs_f64());
            load.wait_for_more(AFTER).await;
            load.wait_for(ENOUGH).await;
        }
        load.stop().await;
        // What is applied late is delivered later still.
        stack.api().drain_within(SETTLING).await;
        until_within(SETTLING, || async {
            // What is snoozed waits longer than draining looks ahead.
            match stack.number("SELECT count(*) FROM deliveries WHERE finished_at IS NULL").await {
                0 => Ok(()),
                left => Err(format!("{left} deliveries are not finished")),
            }
        })
        .await;
        stack.api().drain_within(SETTLING).await;
        watch.weigh(&stack);
        history.flush().map_err(|error| error.to_string())?;
        broken?;
        let scene =
            check::Scene { stack: &stack, history: &history, seen: &watch.seen(), expect: self.expect };
        report.take(&history, check::all(&scene).await);
        if !report.violations.is_empty() {
            keep_logs(&stack, folder);
        }
        drop(watch);
        stack.finish().await;
        Ok(())
    }
}

/// Waits until every process is well and takes tasks; how long that took.
async fn recovered(stack: &Stack, load: &Load) -> Duration {
    let began = Instant::now();
    load.wait_for_more(1).await;
    stack.well().await;
    began.elapsed()
}

/// Keeps what the processes said beside the history.
fn keep_logs(stack: &Stack, folder: &Path) {
    for (name, server) in stack.servers() {
        // The case has failed already; a log that cannot be kept must not hide why.
        let _ = std::fs::write(folder.join(format!("{name}.log")), server.stderr());
    }
}

impl Arena {
    /// Waits for a condition, as long as recovering may take.
    pub async fn until<T, F>(&self, look: impl FnMut() -> F) -> T
    where
        F: Future<Output = Result<T, String>>,
    {
        until_within(RECOVERY, look).await
    }

    /// Lets the fault go on for so long. Nothing is waited for: time is what makes this fault.
    pub async fn last(&self, time: Duration) {
        tokio::time::sleep(time).await;
    }
}
