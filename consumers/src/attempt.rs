//! One try of a group at some events: plan, then one transaction of {fence, effects}, then the bells.

use std::{any::Any, fmt, future::Future, panic::AssertUnwindSafe, time::Duration};

use chrono::{DateTime, Utc};
use futures::FutureExt as _;
use taskpost_common::{
    DeadLetterId,
    crash::{self, CrashPoint},
};
use taskpost_ports::log::LogError;
use taskpost_store::{
    StoreError, Tx, dead_letters,
    progress::{self, Step},
};

use crate::{Applied, ApplyError, Consumers, Decoded, Group};

/// The longest that one try may take, above every time limit of the store.
const LONGEST: Duration = Duration::from_secs(30);

/// How a try failed, by what follows from it.
#[derive(Debug)]
pub(crate) enum Fault {
    /// The infrastructure is at fault: wait and try the same again.
    Held(String),
    /// An event is at fault, or the handler with it.
    Refused(String),
    /// Somebody else has done it: read again from the recorded progress.
    Fenced,
}

impl Fault {
    /// For the steps around a handler, where no event can be at fault.
    #[expect(clippy::needless_pass_by_value, reason = "the shape that map_err takes")]
    pub(crate) fn held(error: StoreError) -> Self {
        Self::Held(error.to_string())
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Held(reason) | Self::Refused(reason) => f.write_str(reason),
            Self::Fenced => f.write_str("somebody else was faster"),
        }
    }
}

/// The log fails as a whole; what is wrong with an event shows when it is read.
impl From<LogError> for Fault {
    fn from(error: LogError) -> Self {
        Self::Held(error.to_string())
    }
}

impl From<ApplyError> for Fault {
    fn from(error: ApplyError) -> Self {
        match error {
            ApplyError::Store(error @ (StoreError::Migrate(_) | StoreError::Config(_))) => Self::held(error),
            ApplyError::Store(error) if error.is_transient() => Self::held(error),
            ApplyError::Store(error) => Self::Refused(error.to_string()),
            ApplyError::Refused(reason) => Self::Refused(reason),
        }
    }
}

/// What the transaction records besides the effects. It is conditional, so that one of two zombies loses.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Fence<'a> {
    /// The group's progress in some partitions.
    Progress(&'a [Step<'a>]),
    /// The end of a redrive.
    Letter(DeadLetterId),
}

impl Fence<'_> {
    /// Records it; `Fenced` when it is no longer as it was.
    pub(crate) async fn pass(&self, tx: &mut Tx, group: &str, now: DateTime<Utc>) -> Result<(), Fault> {
        let passed = match *self {
            Self::Progress(steps) => progress::advance(tx, group, steps, now).await,
            Self::Letter(id) => dead_letters::finish_redrive(tx, id, Ok(()), now).await,
        };
        if passed.map_err(Fault::held)? { Ok(()) } else { Err(Fault::Fenced) }
    }
}

/// What became of a try that did not fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Done {
    /// The effects and the fence are committed together.
    Committed,
    /// There was nothing to write, so nothing was; the fence can be recorded later.
    Nothing,
}

/// Applies events in one transaction with `fence`. Whatever goes wrong, a panic included, nothing has happened then,
/// but for a commit whose answer was lost: reading the fence again tells.
pub(crate) async fn attempt<G: Group>(
    stage: &Consumers,
    group: &G,
    fence: Fence<'_>,
    events: &[Decoded],
) -> Result<Done, Fault> {
    let guarded = AssertUnwindSafe(transact(stage, group, fence, events)).catch_unwind();
    let applied = match in_time(async { Ok(guarded.await) }).await? {
        Ok(result) => result?,
        Err(panic) => return Err(Fault::Refused(format!("the handler panicked: {}", words(panic.as_ref())))),
    };
    let Some(applied) = applied else { return Ok(Done::Nothing) };
    if applied.deliveries {
        stage.wakes.deliveries.ring();
    }
    if applied.events {
        stage.wakes.committed(stage.db.has_outbox());
    }
    Ok(Done::Committed)
}

/// Records a fence alone.
pub(crate) async fn record(stage: &Consumers, group: &str, fence: Fence<'_>) -> Result<(), Fault> {
    in_time(async {
        let mut tx = stage.db.begin().await.map_err(Fault::held)?;
        fence.pass(&mut tx, group, stage.clock.now()).await?;
        tx.commit().await.map_err(Fault::held)
    })
    .await
}

/// Ends what takes longer than [`LONGEST`]: a server that neither answers nor hangs up must not hold a loop for ever.
pub(crate) async fn in_time<T>(work: impl Future<Output = Result<T, Fault>>) -> Result<T, Fault> {
    match tokio::time::timeout(LONGEST, work).await {
        Ok(result) => result,
        Err(_) => Err(Fault::Held(format!("the store took longer than {} s", LONGEST.as_secs()))),
    }
}

async fn transact<G: Group>(
    stage: &Consumers,
    group: &G,
    fence: Fence<'_>,
    events: &[Decoded],
) -> Result<Option<Applied>, Fault> {
    if events.is_empty() {
        return Ok(None);
    }
    let mut reader = stage.db.reader().await.map_err(Fault::held)?;
    let Some(plan) = group.plan(&mut reader, events).await? else { return Ok(None) };
    drop(reader);
    let mut tx = stage.db.begin().await.map_err(Fault::held)?;
    // The fence comes first: of two that try the same, the second waits here and leaves without any work.
    fence.pass(&mut tx, G::NAME, stage.clock.now()).await?;
    let applied = group.apply(&mut tx, events, plan).await?;
    crash::at(CrashPoint::ConsumerApplied);
    tx.commit().await.map_err(Fault::held)?;
    crash::at(CrashPoint::ConsumerCommitted);
    Ok(Some(applied))
}

/// What a panic said.
pub(crate) fn words(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("without words")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_fault_that_passes_or_is_no_events_holds_the_group() {
        let store = |error: StoreError| Fault::from(ApplyError::Store(error));
        assert!(matches!(store(StoreError::Stale("the task")), Fault::Held(_)));
        assert!(matches!(store(StoreError::Config("no".to_owned())), Fault::Held(_)));
        assert!(matches!(store(StoreError::Constraint("tasks_title".to_owned())), Fault::Refused(_)));
        assert!(matches!(store(StoreError::Corrupt("a date".to_owned())), Fault::Refused(_)));
        assert!(matches!(Fault::from(ApplyError::Refused("no".to_owned())), Fault::Refused(_)));
    }
}
