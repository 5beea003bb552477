//! A refused command that somebody wants stored after all, edited or not.

use std::time::Duration;

use taskpost_store::dead_letters::{self, DeadLetter};
use taskpost_tracker::ingest::{self, Command, Fate, GROUP};
use tokio_util::sync::CancellationToken;

use super::attempt::{Trouble, guarded, held};
use crate::{Consumers, outage::Outage};

/// What a missed ring costs at most.
const POLL: Duration = Duration::from_secs(1);
/// The bell of the log may ring a thousand times a second; letters are looked for less often.
const PAUSE: Duration = Duration::from_millis(250);
/// Letters read at once.
const LETTERS: usize = 50;

/// Handles letters of ingestion that wait for it, each once, until `stop`. It needs no Kafka: the letter has it all.
pub async fn run(stage: Consumers, stop: CancellationToken) {
    let mut bell = stage.wakes.log.listen();
    let mut outage = Outage::new("redrive of ingestion");
    while !stop.is_cancelled() {
        match round(&stage, &stop).await {
            Ok(()) => outage.over(),
            Err(trouble) => outage.wait(&trouble, &stop).await,
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = async { tokio::join!(bell.wait(POLL), tokio::time::sleep(PAUSE)); } => {}
        }
    }
}

async fn round(stage: &Consumers, stop: &CancellationToken) -> Result<(), Trouble> {
    let letters =
        guarded(async { Ok(dead_letters::redriving(&mut stage.db.reader().await?, GROUP, LETTERS).await?) });
    for letter in letters.await? {
        if stop.is_cancelled() {
            break;
        }
        match store(stage, &letter).await {
            Ok(()) => {}
            Err(Trouble::Refused { reason, .. }) => put_back(stage, &letter, &reason).await?,
            Err(held) => return Err(held),
        }
    }
    Ok(())
}

/// One transaction of the task and the end of its letter.
async fn store(stage: &Consumers, letter: &DeadLetter) -> Result<(), Trouble> {
    let refuse = |reason: String| Trouble::Refused { reason, problem: None };
    let command = Command::decode(letter.payload.as_bytes()).map_err(refuse)?;
    if ingest::task_of(letter).is_some_and(|id| id != command.id) {
        return Err(refuse("the payload's id is not that of the letter's task".to_owned()));
    }
    let stored = guarded(async {
        let mut tx = stage.db.begin().await?;
        if !dead_letters::finish_redrive(&mut tx, letter.id, Ok(()), stage.clock.now()).await? {
            // Another process has handled it.
            return Ok(false);
        }
        match ingest::store(&mut tx, &stage.clock, &[command]).await?.pop() {
            Some(Fate::Refused(problem)) => Err(refuse(ingest::in_words(&problem))),
            _ => tx.commit().await.map_err(held).map(|()| true),
        }
    });
    if stored.await? {
        stage.wakes.committed(stage.db.has_outbox());
        tracing::info!(group = GROUP, letter.id = %letter.id, "a dead letter was redriven");
    }
    Ok(())
}

/// Dead again, with the new reason.
async fn put_back(stage: &Consumers, letter: &DeadLetter, reason: &str) -> Result<(), Trouble> {
    guarded(async {
        let mut tx = stage.db.begin().await?;
        dead_letters::finish_redrive(&mut tx, letter.id, Err(reason), stage.clock.now())
            .await
            .map_err(held)?;
        tx.commit().await.map_err(held)
    })
    .await?;
    metrics::counter!("taskpost_ingestion_dead_letters_total").increment(1);
    tracing::warn!(group = GROUP, letter.id = %letter.id, reason, "a redriven letter is dead again");
    Ok(())
}
