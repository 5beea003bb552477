//! What came of a case, and the table of all.

use std::fmt;

use crate::{check::Findings, history::History, stack::Setup};

/// A case with fewer acknowledged operations proves nothing.
pub const ENOUGH: usize = 500;

/// How a case ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Everything held.
    Passed,
    /// Something did not hold, or the case broke down.
    Failed,
    /// It proves nothing, for this reason.
    Vacuous(String),
    /// It cannot be run here, for this reason.
    Skipped(String),
}

/// What came of a case.
#[derive(Clone, Debug)]
pub struct Report {
    /// The case.
    pub case: String,
    /// What was drilled.
    pub setup: Setup,
    /// The seed.
    pub seed: u64,
    /// Acknowledged operations.
    pub acknowledged: usize,
    /// Acknowledged and not there, or there and never told.
    pub lost: usize,
    /// Effects that took place twice.
    pub doubled: usize,
    /// Lower versions after higher ones.
    pub inversions: usize,
    /// Notifications that came more than 60 s after they could.
    pub late: usize,
    /// Requests that came again under their webhook-id, which is allowed.
    pub repeats: usize,
    /// Requests that clients sent again under their Idempotency-Key.
    pub asked_again: usize,
    /// From the end of the fault until everything was well, in seconds.
    pub recovery: Option<f64>,
    /// The faults that were seen to work.
    pub faults: Vec<String>,
    /// What did not hold, in words, by its invariant.
    pub violations: Vec<String>,
    /// How it ended.
    pub verdict: Verdict,
    /// How long the case took.
    pub seconds: f64,
}

impl Report {
    /// Of a case that has not run.
    pub fn new(case: &str, setup: Setup, seed: u64) -> Self {
        Self {
            case: case.to_owned(),
            setup,
            seed,
            acknowledged: 0,
            lost: 0,
            doubled: 0,
            inversions: 0,
            late: 0,
            repeats: 0,
            asked_again: 0,
            recovery: None,
            faults: Vec::new(),
            violations: Vec::new(),
            verdict: Verdict::Failed,
            seconds: 0.0,
        }
    }

    /// Takes in what was found.
    pub fn take(&mut self, history: &History, found: Findings) {
        self.acknowledged = history.acknowledged();
        self.faults = history.faults();
        self.lost = found.lost;
        self.doubled = found.doubled;
        self.inversions = found.inversions;
        self.late = found.late;
        self.repeats = found.repeats;
        self.asked_again = history.repeated();
        self.violations = found.violations;
    }

    /// Decides how it ended, once everything is known.
    pub fn judge(&mut self) {
        let zeros = self.lost + self.doubled + self.inversions + self.late == 0;
        self.verdict = if !self.violations.is_empty() || !zeros {
            Verdict::Failed
        } else if self.acknowledged < ENOUGH {
            Verdict::Vacuous(format!("only {} operations were acknowledged", self.acknowledged))
        } else if self.faults.is_empty() {
            Verdict::Vacuous("no fault was seen to work".to_owned())
        } else if self.asked_again == 0 {
            Verdict::Vacuous("no request was sent again".to_owned())
        } else {
            Verdict::Passed
        };
    }

    /// Whether the drill may pass with it.
    pub fn is_fine(&self) -> bool {
        matches!(self.verdict, Verdict::Passed | Verdict::Skipped(_))
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Passed => out.write_str("ok"),
            Self::Failed => out.write_str("FAILED"),
            Self::Vacuous(why) => write!(out, "VACUOUS: {why}"),
            Self::Skipped(why) => write!(out, "skipped: {}", why.trim()),
        }
    }
}

/// A row of the table.
impl fmt::Display for Report {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let recovery = self.recovery.map_or_else(String::new, |seconds| format!("{seconds:.1}"));
        write!(
            out,
            "| {} | {} | {} | {} | {} | {} | {} | {} | {} | {recovery} | {} |",
            self.case,
            self.setup.name(),
            self.seed,
            self.acknowledged,
            self.lost,
            self.doubled,
            self.inversions,
            self.late,
            self.repeats,
            self.verdict,
        )
    }
}

/// How the table begins, in Markdown.
pub const HEAD: &str = "\
| case | product | seed | acknowledged | lost | doubled | inversions | late | sent again | recovery s | result |
|---|---|--:|--:|--:|--:|--:|--:|--:|--:|---|
";
