//! Beside step 4 of 7: a dead letter that somebody wants handled once more, edited or not.
//!
//! It runs past the group's progress, because its position was passed when it was buried.

use std::{sync::Arc, time::Duration};

use taskpost_common::{Envelope, EventId, Position, event::CloudEvent};
use taskpost_ports::log::envelope_of;
use taskpost_store::{
    dead_letters::{self, DeadLetter},
    events,
};
use tokio_util::sync::CancellationToken;

use crate::{
    Consumers, Decoded, EVERYTHING, Group,
    attempt::{Done, Fault, Fence, attempt, in_time, record},
    group::decode,
    outage::Outage,
};

/// What a missed ring costs at most.
const POLL: Duration = Duration::from_secs(1);
/// The bell of the log may ring a thousand times a second; letters are looked for less often.
const PAUSE: Duration = Duration::from_millis(250);
/// Letters read at once.
const LETTERS: usize = 50;

/// Handles a group's letters that wait for it, each once, until `stop`.
pub async fn run<G: Group>(group: Arc<G>, stage: Consumers, stop: CancellationToken) {
    let mut bell = stage.wakes.log.listen();
    let mut outage = Outage::new(format!("redrive of group {}", G::NAME));
    while !stop.is_cancelled() {
        match round(&*group, &stage, &stop).await {
            Ok(()) => outage.over(),
            Err(fault) => outage.wait(&fault, &stop).await,
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = async { tokio::join!(bell.wait(POLL), tokio::time::sleep(PAUSE)); } => {}
        }
    }
}

async fn round<G: Group>(group: &G, stage: &Consumers, stop: &CancellationToken) -> Result<(), Fault> {
    let letters = in_time(async {
        let mut reader = stage.db.reader().await.map_err(Fault::held)?;
        dead_letters::redriving(&mut reader, G::NAME, LETTERS).await.map_err(Fault::held)
    })
    .await?;
    for letter in letters {
        if stop.is_cancelled() {
            break;
        }
        match handle(group, stage, &letter).await {
            Ok(()) => tracing::info!(group = G::NAME, letter.id = %letter.id, "a dead letter was redriven"),
            Err(Fault::Refused(reason)) => put_back::<G>(stage, &letter, &reason).await?,
            // Another process has handled it.
            Err(Fault::Fenced) => {}
            Err(held @ Fault::Held(_)) => return Err(held),
        }
    }
    Ok(())
}

async fn handle<G: Group>(group: &G, stage: &Consumers, letter: &DeadLetter) -> Result<(), Fault> {
    let mut envelope = unfold(letter).map_err(Fault::Refused)?;
    let recorded = in_time(async {
        let mut reader = stage.db.reader().await.map_err(Fault::held)?;
        events::visible(&mut reader, EVERYTHING, envelope.id).await.map_err(Fault::held)
    })
    .await?;
    // Who sees an event was settled when it was recorded, and no CloudEvent carries it.
    envelope.owner_id = recorded.as_ref().and_then(|event| event.owner_id);
    envelope.assignee_id = recorded.as_ref().and_then(|event| event.assignee_id);
    let event = decode(group, &envelope).map_err(|error| Fault::Refused(error.to_string()))?;
    let events = event.map(|event| Decoded::new(G::NAME, envelope, event));
    let fence = Fence::Letter(letter.id);
    match attempt(stage, group, fence, events.as_slice()).await? {
        Done::Committed => Ok(()),
        Done::Nothing => record(stage, G::NAME, fence).await,
    }
}

/// Dead again, with the new reason.
async fn put_back<G: Group>(stage: &Consumers, letter: &DeadLetter, reason: &str) -> Result<(), Fault> {
    let now = stage.clock.now();
    in_time(async {
        let mut tx = stage.db.begin().await.map_err(Fault::held)?;
        dead_letters::finish_redrive(&mut tx, letter.id, Err(reason), now).await.map_err(Fault::held)?;
        tx.commit().await.map_err(Fault::held)
    })
    .await?;
    metrics::counter!("taskpost_group_dead_letters_total", "group" => G::NAME).increment(1);
    tracing::warn!(group = G::NAME, letter.id = %letter.id, reason, "a redriven letter is dead again");
    Ok(())
}

/// The event that a letter's payload tells of. It must still be the letter's own: effects are kept apart by its id. A
/// letter of what was no event at all becomes the event that somebody made of it.
fn unfold(letter: &DeadLetter) -> Result<Envelope, String> {
    let event: CloudEvent =
        serde_json::from_str(&letter.payload).map_err(|error| format!("the payload is no event: {error}"))?;
    if letter.event_id.is_some_and(|id| EventId(id) != event.id) {
        return Err("the payload's id is not that of the letter's event".to_owned());
    }
    let envelope = envelope_of(&event).map_err(|error| format!("the payload is no event: {error}"))?;
    Ok(Envelope { position: letter.position.map_or(event.position, Position), ..envelope })
}
