//! What a group could not handle becomes a dead letter, whole: first its copy on the log's dead-letter topic, where there
//! is one, then the row.

use chrono::{DateTime, Utc};
use taskpost_common::{Envelope, trace};
use taskpost_ports::log::{Broken, Poison};
use taskpost_store::{
    Tx,
    dead_letters::{self, NewLetter, Source},
};

use crate::{
    Consumers,
    attempt::{Fault, Fence, in_time},
};

/// When something was tried, and how it failed.
pub(crate) type Try = (DateTime<Utc>, String);

/// Buries an event in one transaction with the progress past it.
pub(crate) async fn bury_event(
    stage: &Consumers,
    group: &'static str,
    partition: &str,
    fence: Fence<'_>,
    envelope: &Envelope,
    tries: Vec<Try>,
) -> Result<(), Fault> {
    let reason = last(&tries);
    let payload = payload(envelope);
    let key = envelope.aggregate_id.to_string();
    let copy = Poison {
        id: envelope.id.0,
        type_name: Some(&envelope.type_name),
        traceparent: envelope.traceparent.as_deref(),
        group,
        partition,
        reason: &reason,
        key: Some(key.as_bytes()),
        payload: payload.as_bytes(),
    };
    stage.log.bury(&copy).await?;
    let letter = NewLetter {
        id: stage.clock.id(),
        source: Source::Log,
        handler: group.to_owned(),
        event_id: Some(envelope.id),
        position: Some(envelope.position),
        delivery_id: None,
        reason,
        attempts: history(tries)?,
        payload,
        created_at: stage.clock.now(),
    };
    keep(stage, &letter, Some(fence)).await?;
    let trace_id = envelope.traceparent.as_deref().map(trace::id);
    tracing::warn!(
        group, trace_id, event.id = %envelope.id, event.type = %envelope.type_name, position = %envelope.position,
        letter.id = %letter.id, reason = %letter.reason, "an event is now a dead letter"
    );
    Ok(())
}

/// Buries a record that is no event. It may be read again, so its letter has an id of its own making.
pub(crate) async fn bury_broken(
    stage: &Consumers,
    group: &'static str,
    broken: &Broken,
) -> Result<(), Fault> {
    let copy = Poison {
        id: broken.id.0,
        type_name: None,
        traceparent: None,
        group,
        partition: &broken.partition,
        reason: &broken.reason,
        key: broken.key.as_deref(),
        payload: &broken.payload,
    };
    stage.log.bury(&copy).await?;
    let now = stage.clock.now();
    let letter = NewLetter {
        id: broken.id,
        source: Source::Log,
        handler: group.to_owned(),
        event_id: None,
        position: None,
        delivery_id: None,
        reason: broken.reason.clone(),
        attempts: history(vec![(now, broken.reason.clone())])?,
        payload: broken.text(),
        created_at: now,
    };
    keep(stage, &letter, None).await?;
    tracing::warn!(
        group, partition = broken.partition, offset = broken.offset, letter.id = %letter.id,
        reason = %letter.reason, "a record that is no event is now a dead letter"
    );
    Ok(())
}

async fn keep(stage: &Consumers, letter: &NewLetter, fence: Option<Fence<'_>>) -> Result<(), Fault> {
    in_time(async {
        let mut tx: Tx = stage.db.begin().await.map_err(Fault::held)?;
        if let Some(fence) = fence {
            fence.pass(&mut tx, &letter.handler, letter.created_at).await?;
        }
        dead_letters::insert(&mut tx, letter).await.map_err(Fault::held)?;
        tx.commit().await.map_err(Fault::held)
    })
    .await?;
    metrics::counter!("taskpost_group_dead_letters_total", "group" => letter.handler.clone()).increment(1);
    Ok(())
}

fn last(tries: &[Try]) -> String {
    tries.last().map(|(_, reason)| reason.clone()).unwrap_or_default()
}

fn history(tries: Vec<Try>) -> Result<String, Fault> {
    let tries = tries.into_iter().map(|(at, reason)| (at, Some(reason), None));
    dead_letters::history(tries).map_err(Fault::held)
}

/// What a dead letter keeps: the whole event, or its bare data when that is not even JSON.
fn payload(envelope: &Envelope) -> String {
    let whole = envelope.to_cloudevent().and_then(|event| serde_json::to_string(&event));
    whole.unwrap_or_else(|_| envelope.data.clone())
}
