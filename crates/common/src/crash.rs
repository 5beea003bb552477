//! Places where a test may end the process as a power cut would: between two steps that are only safe together.
//!
//! Compiled in by the feature `crash-points`, which tests alone turn on; `CRASH_AT=point:n` then kills the process at its
//! n-th pass. Without the feature nothing here does anything. `cargo xtask drill` goes through all of them.

use crate::text_enum::text_enum;

text_enum! {
    /// A place between two steps.
    CrashPoint {
        /// A group of tasks is inserted, and its transaction is open.
        BatchInserted = "batch.inserted",
        /// COMMIT is under way, and its answer has not come.
        BatchCommitSent = "batch.commit_sent",
        /// The statement that gives out positions is under way.
        SequencerMoved = "sequencer.moved",
        /// Events are handed to Kafka's client, and not acknowledged.
        RelayProduced = "relay.produced",
        /// Kafka has acknowledged events, and the relay's cursor has not moved.
        RelayAcked = "relay.acked",
        /// A group's effects are written, and its transaction is open.
        ConsumerApplied = "consumer.applied",
        /// A group's effects are committed, and Kafka's offset is not stored.
        ConsumerCommitted = "consumer.committed",
        /// RabbitMQ has confirmed deliveries, and their rows do not say so.
        DispatchPublished = "dispatch.published",
        /// A notification was sent, and nothing is recorded.
        NotifySent = "notify.sent",
        /// Outcomes are recorded, and their messages are not acknowledged.
        NotifyRecorded = "notify.recorded",
        /// The messages of later tries are confirmed, and the old ones are not acknowledged.
        RetryPublished = "retry.published",
        /// SQLite's WAL is being written back.
        EmbeddedCheckpoint = "embedded.checkpoint",
    }
}

/// The process may end here.
#[inline]
pub fn at(point: CrashPoint) {
    #[cfg(feature = "crash-points")]
    if armed::passes(point) {
        armed::end();
    }
    #[cfg(not(feature = "crash-points"))]
    let _ = point;
}

/// The process may end while `work` is under way: after it has begun, and before its answer.
#[inline]
pub async fn within<T>(point: CrashPoint, work: impl Future<Output = T>) -> T {
    #[cfg(feature = "crash-points")]
    if armed::passes(point) {
        armed::begin(work).await;
        armed::end();
    }
    #[cfg(not(feature = "crash-points"))]
    let _ = point;
    work.await
}

#[cfg(feature = "crash-points")]
mod armed {
    use std::{
        future::{Future, poll_fn},
        pin::pin,
        sync::{
            OnceLock,
            atomic::{AtomicU64, Ordering},
        },
        task::Poll,
        thread,
        time::{Duration, SystemTime},
    };

    use super::CrashPoint;

    /// How long what was begun may go on, at most.
    const BEGUN: u32 = 3_000;

    struct Armed {
        point: CrashPoint,
        left: AtomicU64,
    }

    /// Whether this pass is the one that `CRASH_AT` names.
    pub(super) fn passes(point: CrashPoint) -> bool {
        static ARMED: OnceLock<Option<Armed>> = OnceLock::new();
        let armed = ARMED.get_or_init(read).as_ref().filter(|armed| armed.point == point);
        armed.is_some_and(|armed| armed.left.fetch_sub(1, Ordering::Relaxed) == 1)
    }

    #[expect(clippy::disallowed_methods, reason = "a switch of tests is no setting of the product")]
    fn read() -> Option<Armed> {
        let value = std::env::var("CRASH_AT").ok()?;
        let (point, pass) = value.rsplit_once(':')?;
        Some(Armed { point: point.parse().ok()?, left: AtomicU64::new(pass.parse().ok()?) })
    }

    /// Begins some work and lets it go on for a moment that nobody knows.
    pub(super) async fn begin<T>(work: impl Future<Output = T>) {
        let mut work = pin!(work);
        let _ = poll_fn(|context| Poll::Ready(work.as_mut().poll(context))).await;
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        thread::sleep(Duration::from_micros((now.subsec_nanos() % BEGUN).into()));
    }

    /// SIGKILL: no destructor runs, and nothing is flushed.
    pub(super) fn end() -> ! {
        let _ = nix::sys::signal::kill(nix::unistd::Pid::this(), nix::sys::signal::Signal::SIGKILL);
        loop {
            thread::park();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_point_has_a_name() {
        for &point in CrashPoint::ALL {
            assert_eq!(point.as_str().parse::<CrashPoint>().ok(), Some(point));
        }
        at(CrashPoint::NotifySent);
    }
}
