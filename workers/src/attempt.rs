//! One try, from its start to its outcome.

use std::{
    panic::AssertUnwindSafe,
    time::{Duration, Instant},
};

use futures::FutureExt as _;
use taskpost_common::{
    Clock,
    crash::{self, CrashPoint},
    delivery::AttemptOutcome,
    trace,
};
use taskpost_store::deliveries::{Attempt, Delivery, Settlement};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument as _, Span, debug, field::Empty, info_span};

use crate::{
    channels::{AttemptResult, Channel, Failure, Report},
    outcomes::Outcome,
    step::{Step, next_step},
};

/// What the engine grants a channel beyond its own deadline, so that the channel can say itself what took so long.
const GRACE: Duration = Duration::from_secs(5);

/// The longest time a try of this channel takes.
pub(crate) fn deadline(channel: &impl Channel) -> Duration {
    channel.timeout() + GRACE
}

/// Makes the tries of one channel.
pub(crate) struct Attempter<C> {
    pub channel: C,
    pub clock: Clock,
    pub delays: Vec<Duration>,
    /// Ends tries under way; their deliveries are given back.
    pub hurry: CancellationToken,
}

impl<C: Channel> Attempter<C> {
    /// Makes one try and decides what becomes of the delivery. Ends in time and without a panic, whatever the channel does.
    pub(crate) async fn attempt(&self, delivery: Delivery, target: C::Target) -> Outcome {
        let (started_at, began) = (self.clock.now(), Instant::now());
        let span = span(&delivery);
        let report = self.guarded(&delivery, target).instrument(span.clone()).await;
        crash::at(CrashPoint::NotifySent);
        let took = began.elapsed();
        metrics::histogram!("taskpost_delivery_seconds", "channel" => delivery.channel.as_str()).record(took);
        let attempt = Attempt {
            started_at,
            duration_ms: i64::try_from(took.as_millis()).unwrap_or(i64::MAX),
            ..described(&report.result)
        };
        tell(&span, &report.result);
        let (settlement, wait) = span.in_scope(|| self.decide(&delivery, &report.result, attempt));
        Outcome { delivery, settlement, wait, health: report.health }
    }

    async fn guarded(&self, delivery: &Delivery, target: C::Target) -> Report {
        // Nothing the channel left half-done is seen again: each try starts from the row.
        let attempt = AssertUnwindSafe(async { self.channel.send(delivery, target).await }).catch_unwind();
        let failed = |outcome, error: &str| Report::from(AttemptResult::Failed(Failure::new(outcome, error)));
        tokio::select! {
            biased;
            ended = tokio::time::timeout(deadline(&self.channel), attempt) => match ended {
                Ok(Ok(report)) => report,
                Ok(Err(_)) => failed(AttemptOutcome::Panicked, "the channel failed by a fault of its own"),
                Err(_) => failed(AttemptOutcome::TimedOut, "the attempt took too long"),
            },
            () = self.hurry.cancelled() => AttemptResult::Postponed(Duration::ZERO).into(),
        }
    }

    /// What becomes of a delivery, and after what wait it is tried again.
    fn decide(
        &self,
        delivery: &Delivery,
        result: &AttemptResult,
        attempt: Attempt,
    ) -> (Settlement, Option<Duration>) {
        let number = u32::try_from(delivery.attempt + 1).unwrap_or(u32::MAX);
        let now = self.clock.now();
        let settlement = match next_step(result, number, &self.delays, rand::random()) {
            Step::RetryIn(wait) => {
                let error = attempt.error.as_deref().unwrap_or_default();
                debug!(delivery.id = %delivery.id, attempt = number, error, ?wait, "will try again");
                return (Settlement::Retry(attempt, now + wait), Some(wait));
            }
            Step::Done => Settlement::Delivered(attempt),
            Step::Snooze(wait) => Settlement::Snooze(now + wait),
            Step::Bury(reason) => Settlement::Bury(attempt, reason),
            Step::Cancel(reason) => Settlement::Cancel(reason),
        };
        (settlement, None)
    }
}

/// The try's place in the trace of what brought the delivery about.
fn span(delivery: &Delivery) -> Span {
    let span = info_span!(
        target: trace::TARGET,
        parent: None,
        "deliver",
        otel.kind = "client",
        otel.status_code = Empty,
        channel = delivery.channel.as_str(),
        delivery.id = %delivery.id,
        event.id = %delivery.event_id,
        attempt = delivery.attempt + 1,
        outcome = Empty,
        http.response.status_code = Empty,
    );
    trace::child_of(&span, delivery.traceparent.as_deref());
    span
}

/// Says in its span how a try ended.
fn tell(span: &Span, result: &AttemptResult) {
    let (outcome, status_code) = match result {
        AttemptResult::Sent { status_code, .. } => (AttemptOutcome::Delivered.as_str(), *status_code),
        AttemptResult::Failed(failure) => {
            span.record("otel.status_code", "ERROR");
            (failure.outcome.as_str(), failure.status_code)
        }
        AttemptResult::Postponed(_) => ("postponed", None),
        AttemptResult::Cancelled(_) => ("cancelled", None),
    };
    span.record("outcome", outcome);
    span.record("http.response.status_code", status_code);
}

/// What is kept of a try; its times are put in by the caller.
fn described(result: &AttemptResult) -> Attempt {
    let (outcome, status_code, error, excerpt) = match result {
        AttemptResult::Sent { status_code, excerpt } => {
            (AttemptOutcome::Delivered, *status_code, None, excerpt.clone())
        }
        AttemptResult::Failed(failure) => {
            (failure.outcome, failure.status_code, Some(failure.error.clone()), failure.excerpt.clone())
        }
        AttemptResult::Postponed(_) | AttemptResult::Cancelled(_) => {
            (AttemptOutcome::Failed, None, None, None)
        }
    };
    Attempt { outcome, status_code, error, excerpt, started_at: chrono::DateTime::UNIX_EPOCH, duration_ms: 0 }
}
