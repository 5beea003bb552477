//! One try to store commands: one transaction, then the bells.

use std::{fmt, panic::AssertUnwindSafe};

use futures::{FutureExt as _, future::BoxFuture};
use taskpost_common::problem::Problem;
use taskpost_store::StoreError;
use taskpost_tracker::ingest::{self, Command, Fate};

use crate::{
    Consumers,
    attempt::{Fault, in_time, words},
};

/// How a try failed, by what follows from it.
#[derive(Debug)]
pub(super) enum Trouble {
    /// The infrastructure is at fault: wait and try the same again.
    Held(String),
    /// A command is at fault, or what handles it.
    Refused {
        /// Why.
        reason: String,
        /// What its client is told, where it is the client's doing.
        problem: Option<Problem>,
    },
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Held(reason) | Self::Refused { reason, .. } => f.write_str(reason),
        }
    }
}

impl From<StoreError> for Trouble {
    fn from(error: StoreError) -> Self {
        match &error {
            StoreError::Constraint(_) => {
                Self::Refused { reason: error.to_string(), problem: Some(ingest::refused_by_store()) }
            }
            StoreError::Corrupt(_) | StoreError::Refused(_) => {
                Self::Refused { reason: error.to_string(), problem: None }
            }
            _ => Self::Held(error.to_string()),
        }
    }
}

/// Stores commands in one transaction. Whatever goes wrong, a panic included, nothing has happened then, but for a commit
/// whose answer was lost: trying again finds out.
pub(super) async fn attempt(stage: &Consumers, commands: &[Command]) -> Result<Vec<Fate>, Trouble> {
    guarded(async {
        let mut tx = stage.db.begin().await?;
        let fates = ingest::store(&mut tx, &stage.clock, commands).await?;
        tx.commit().await.map_err(held)?;
        if fates.contains(&Fate::Stored) {
            stage.wakes.committed(stage.db.has_outbox());
        }
        Ok(fates)
    })
    .await
}

/// Runs a transaction within its time and with its panics caught.
pub(super) fn guarded<'a, T: Send + 'a>(
    work: impl Future<Output = Result<T, Trouble>> + Send + 'a,
) -> BoxFuture<'a, Result<T, Trouble>> {
    Box::pin(async move {
        let guarded = AssertUnwindSafe(work).catch_unwind();
        match in_time(async { Ok::<_, Fault>(guarded.await) }).await {
            Ok(Ok(done)) => done,
            Ok(Err(panic)) => {
                let reason = format!("the handler panicked: {}", words(panic.as_ref()));
                Err(Trouble::Refused { reason, problem: None })
            }
            Err(late) => Err(Trouble::Held(late.to_string())),
        }
    })
}

/// For steps where no command can be at fault.
#[expect(clippy::needless_pass_by_value, reason = "the shape that map_err takes")]
pub(super) fn held(error: StoreError) -> Trouble {
    Trouble::Held(error.to_string())
}
