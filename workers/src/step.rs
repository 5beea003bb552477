//! The one place that decides what becomes of a delivery after a try: a pure function of the outcome.

use std::time::Duration;

use taskpost_common::delivery::AttemptOutcome;

use crate::channels::AttemptResult;

/// How much jitter lengthens a wait at most.
const JITTER: f64 = 0.1;

/// What is done next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// It was delivered.
    Done,
    /// It is tried again after this long.
    RetryIn(Duration),
    /// It is tried again after this long, and this one cost no try.
    Snooze(Duration),
    /// It is given up, for this reason.
    Bury(String),
    /// It is called back, for this reason.
    Cancel(String),
}

/// Decides after try number `attempt` (from 1). There is a first try and one more for each of `delays`.
///
/// A wait that is a step of the ladder is exactly that step, so that it may go through its retry queue; a longer one,
/// which a receiver asked for, is lengthened by up to a tenth by `jitter` in [0, 1), and is at most twice the step.
pub fn next_step(outcome: &AttemptResult, attempt: u32, delays: &[Duration], jitter: f64) -> Step {
    let failure = match outcome {
        AttemptResult::Sent { .. } => return Step::Done,
        AttemptResult::Postponed(wait) => return Step::Snooze(*wait),
        AttemptResult::Cancelled(reason) => return Step::Cancel(reason.clone()),
        AttemptResult::Failed(failure) => failure,
    };
    if is_final(failure.outcome) {
        return Step::Bury(failure.error.clone());
    }
    let step = usize::try_from(attempt).ok().and_then(|attempt| delays.get(attempt.saturating_sub(1)));
    match step {
        None => Step::Bury(format!("gave up after {attempt} tries: {}", failure.error)),
        Some(&delay) => Step::RetryIn(match failure.retry_after {
            Some(asked) if asked > delay => {
                asked.mul_f64(jitter.clamp(0.0, 1.0).mul_add(JITTER, 1.0)).min(delay * 2)
            }
            _ => delay,
        }),
    }
}

/// How a try ended by the receiver's HTTP status. 408, 425 and 429 are the client errors that may pass; a redirect
/// never does, as none is followed.
pub const fn outcome_of(status: u16) -> AttemptOutcome {
    match status {
        200..=299 => AttemptOutcome::Delivered,
        408 | 425 | 429 => AttemptOutcome::Failed,
        300..=499 => AttemptOutcome::Rejected,
        _ => AttemptOutcome::Failed,
    }
}

/// Whether another try cannot end otherwise.
const fn is_final(outcome: AttemptOutcome) -> bool {
    match outcome {
        AttemptOutcome::Rejected | AttemptOutcome::Blocked => true,
        AttemptOutcome::Delivered
        | AttemptOutcome::Failed
        | AttemptOutcome::TimedOut
        | AttemptOutcome::Panicked => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::channels::Failure;

    const LADDER: [Duration; 2] = [Duration::from_secs(10), Duration::from_mins(1)];

    fn failed(outcome: AttemptOutcome, retry_after: Option<u64>) -> AttemptResult {
        let failure = Failure::new(outcome, "no");
        AttemptResult::Failed(Failure { retry_after: retry_after.map(Duration::from_secs), ..failure })
    }

    fn answered(status: u16) -> AttemptResult {
        match outcome_of(status) {
            AttemptOutcome::Delivered => AttemptResult::Sent { status_code: Some(status), excerpt: None },
            outcome => failed(outcome, None),
        }
    }

    #[test]
    fn every_outcome_has_its_step() {
        let secs = Duration::from_secs;
        let buried = || Step::Bury("no".to_owned());
        for (outcome, attempt, expected) in [
            (answered(200), 1, Step::Done),
            (answered(204), 3, Step::Done),
            (answered(299), 1, Step::Done),
            (answered(500), 1, Step::RetryIn(secs(10))),
            (answered(503), 2, Step::RetryIn(secs(60))),
            (answered(503), 3, Step::Bury("gave up after 3 tries: no".to_owned())),
            (answered(100), 1, Step::RetryIn(secs(10))),
            (answered(999), 1, Step::RetryIn(secs(10))),
            (answered(408), 1, Step::RetryIn(secs(10))),
            (answered(425), 1, Step::RetryIn(secs(10))),
            (answered(429), 2, Step::RetryIn(secs(60))),
            (answered(301), 1, buried()),
            (answered(304), 1, buried()),
            (answered(400), 1, buried()),
            (answered(401), 1, buried()),
            (answered(404), 1, buried()),
            (answered(410), 1, buried()),
            (answered(499), 2, buried()),
            (failed(AttemptOutcome::Blocked, None), 1, buried()),
            (failed(AttemptOutcome::Rejected, Some(5)), 1, buried()),
            (failed(AttemptOutcome::TimedOut, None), 1, Step::RetryIn(secs(10))),
            (failed(AttemptOutcome::TimedOut, None), 4, Step::Bury("gave up after 4 tries: no".to_owned())),
            (failed(AttemptOutcome::Panicked, None), 2, Step::RetryIn(secs(60))),
            (failed(AttemptOutcome::Panicked, None), 3, Step::Bury("gave up after 3 tries: no".to_owned())),
            (AttemptResult::Postponed(secs(1)), 3, Step::Snooze(secs(1))),
            (AttemptResult::Postponed(secs(1)), 99, Step::Snooze(secs(1))),
            (AttemptResult::Cancelled("off".to_owned()), 1, Step::Cancel("off".to_owned())),
        ] {
            assert_eq!(next_step(&outcome, attempt, &LADDER, 0.5), expected, "{outcome:?}, try {attempt}");
        }
    }

    #[test]
    fn what_a_receiver_asks_for_is_kept_between_one_and_two_steps() {
        for (asked, jitter, millis) in [
            (0, 0.9, 10_000),
            (9, 0.9, 10_000),
            (10, 0.9, 10_000),
            (12, 0.0, 12_000),
            (12, 0.5, 12_600),
            (12, 0.999, 13_199),
            (19, 0.9, 20_000),
            (20, 0.0, 20_000),
            (86_400, 0.5, 20_000),
        ] {
            let Step::RetryIn(wait) =
                next_step(&failed(AttemptOutcome::Failed, Some(asked)), 1, &LADDER, jitter)
            else {
                panic!("{asked}");
            };
            assert_eq!(wait.as_micros().div_ceil(1_000), millis, "{asked} s, jitter {jitter}");
        }
    }

    #[test]
    fn an_empty_ladder_is_one_try() {
        assert!(matches!(next_step(&answered(500), 1, &[], 0.0), Step::Bury(_)));
        assert_eq!(next_step(&answered(200), 1, &[], 0.0), Step::Done);
    }
}
