//! Runs the cases of a row against one app.

use std::time::Instant;

use taskpost_testkit::{Raw, Starting, TestApp, until};
use tokio::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::{case::Case, judge};

/// Rows that measure run alone; the others beside each other.
static TURN: RwLock<()> = RwLock::const_new(());

enum Turn {
    Shared { _guard: RwLockReadGuard<'static, ()> },
    Alone { _guard: RwLockWriteGuard<'static, ()> },
}

/// Grows with everything that a request can change: rows, their versions, and marks on them. Nothing here shrinks it.
const STATE: &str = "SELECT CAST(
    (SELECT count(*) + COALESCE(sum(version), 0) FROM users)
  + (SELECT count(*) + count(revoked_at) FROM sessions)
  + (SELECT count(*) + count(used_at) FROM refresh_tokens)
  + (SELECT count(*) + COALESCE(sum(version), 0) FROM tasks)
  + (SELECT count(*) + COALESCE(sum(version), 0) FROM endpoints)
  + (SELECT count(*) FROM idempotency_keys)
  + (SELECT count(read_at) + count(archived_at) + count(snoozed_until) FROM notifications)
  + (SELECT count(resolved_at) FROM dead_letters) AS BIGINT)";

/// A row of the table, under way.
pub(crate) struct Row {
    pub(crate) app: TestApp,
    name: &'static str,
    began: Instant,
    cases: usize,
    failures: Vec<String>,
    _turn: Turn,
}

impl Row {
    /// Starts a row on an app of its own.
    pub(crate) async fn start(name: &'static str, app: Starting) -> Self {
        let turn = Turn::Shared { _guard: TURN.read().await };
        Self::new(name, app.await, turn)
    }

    /// Starts a row that has the machine to itself, as far as these tests go.
    pub(crate) async fn alone(name: &'static str, app: Starting) -> Self {
        let turn = Turn::Alone { _guard: TURN.write().await };
        Self::new(name, app.await, turn)
    }

    fn new(name: &'static str, app: TestApp, turn: Turn) -> Self {
        Self { app, name, began: Instant::now(), cases: 0, failures: Vec::new(), _turn: turn }
    }

    /// Asks each case and judges its answer.
    pub(crate) async fn run(&mut self, cases: impl IntoIterator<Item = Case>) {
        for case in cases {
            self.ask(&case).await;
        }
    }

    /// Asks one case, judges its answer and gives it.
    pub(crate) async fn ask(&mut self, case: &Case) -> Raw {
        self.cases += 1;
        let bytes = case.bytes();
        let before = self.app.number(STATE).await;
        let began = Instant::now();
        let answer = Raw::send(case.from, self.app.address(), &bytes).await;
        let took = began.elapsed();
        let mut faults = judge::faults(case, &answer);
        if answer.status >= 400 || case.unchanged {
            let changed = self.app.number(STATE).await - before;
            if changed != 0 {
                faults.push(format!("it changed the store (by {changed})"));
            }
        }
        if answer.status >= 400 && took > case.within {
            faults.push(format!("took {took:?}, may take {:?}", case.within));
        }
        for fault in faults {
            self.fail(&case.name, &fault);
        }
        answer
    }

    /// Judges an answer that came behind another one.
    pub(crate) fn judge(&mut self, case: &Case, answer: &Raw) {
        self.cases += 1;
        for fault in judge::faults(case, answer) {
            self.fail(&case.name, &fault);
        }
    }

    /// Another case, which was not sent by [`Row::ask`].
    pub(crate) fn claim(&mut self, name: &str, holds: bool, otherwise: impl FnOnce() -> String) {
        self.cases += 1;
        if !holds {
            self.fail(name, &otherwise());
        }
    }

    fn fail(&mut self, name: &str, fault: &str) {
        let fault: String = fault.chars().take(600).collect();
        self.failures.push(format!("{name}: {fault}"));
    }

    /// Checks that the app is well and that the row had so many cases, and says what failed.
    pub(crate) async fn end(mut self, least: usize) {
        self.app.drain().await;
        // A limiter that Redis kept waiting once is back a moment later.
        until(|| async {
            let health = self.app.get("/health").send().await;
            let well = health.status == 200 && health.json()["status"] == "ok";
            if well { Ok(()) } else { Err(format!("health at the end: {}", health.text())) }
        })
        .await;
        self.cases += 1;
        let (name, backend) = (self.name, self.app.backend());
        let (failed, took) = (self.failures.len(), self.began.elapsed());
        println!("{name} on {backend:?}: {} cases, {failed} failed, {took:.1?}", self.cases);
        assert!(self.cases >= least, "{name} has only {} cases", self.cases);
        assert!(
            self.failures.is_empty(),
            "{name} on {backend:?}, {failed} of {} cases:\n{}",
            self.cases,
            self.failures.join("\n")
        );
        self.app.finish().await;
    }
}
