//! Commands that cannot be stored: first to the dead-letter topic, then among the dead letters, each once.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use futures::future::try_join_all;
use taskpost_common::{DeadLetterId, TaskId, problem::Problem};
use taskpost_ports::log::{Broken, LogError, Poison, ingest::Record};
use taskpost_store::{
    StoreError,
    dead_letters::{self, NewLetter, Source},
};
use taskpost_tracker::ingest::{self, Command, GROUP};

use super::attempt::{Trouble, guarded};
use crate::Consumers;

/// Letters in one transaction.
const LETTERS: usize = 100;

/// A record that is to become a dead letter.
#[derive(Debug)]
pub(super) struct Death {
    /// Its place in the batch.
    place: usize,
    /// The task that it was to make, as far as that is known.
    task: Option<TaskId>,
    tries: Vec<(DateTime<Utc>, String)>,
    /// What its client is told.
    problem: Option<Problem>,
}

impl Death {
    /// Of a record that is no command. Its key names the task, if one of ours wrote it.
    pub(super) fn unreadable(place: usize, record: &Record, at: DateTime<Utc>, reason: String) -> Self {
        let key = record.key.as_deref().and_then(|key| std::str::from_utf8(key).ok());
        let task = key.and_then(|key| key.parse().ok());
        Self { place, task, tries: vec![(at, reason)], problem: None }
    }

    /// Of a command that was refused.
    pub(super) fn of(
        place: usize,
        command: &Command,
        tries: Vec<(DateTime<Utc>, String)>,
        problem: Option<Problem>,
    ) -> Self {
        Self { place, task: Some(command.id), tries, problem }
    }

    fn reason(&self) -> &str {
        self.tries.last().map_or("", |(_, reason)| reason)
    }
}

/// Buries what has died, and forgets it. What is buried already stays as it is.
pub(super) async fn bury(
    stage: &Consumers,
    records: &[Record],
    deaths: &mut Vec<Death>,
) -> Result<(), String> {
    while !deaths.is_empty() {
        let some = deaths.len().min(LETTERS);
        let missing = guarded(async { Ok(missing(stage, records, &deaths[..some]).await?) });
        let letters = missing.await.map_err(|trouble| trouble.to_string())?;
        try_join_all(letters.iter().map(|letter| copy(stage, letter)))
            .await
            .map_err(|error| error.to_string())?;
        keep(stage, &letters).await.map_err(|trouble| trouble.to_string())?;
        drop(deaths.drain(..some));
    }
    Ok(())
}

/// A letter with its record.
type Buried<'a> = (NewLetter, &'a Record);

/// The letters that are not kept yet.
async fn missing<'a>(
    stage: &Consumers,
    records: &'a [Record],
    deaths: &[Death],
) -> Result<Vec<Buried<'a>>, StoreError> {
    let mut reader = stage.db.reader().await?;
    let mut made: HashMap<DeadLetterId, String> = HashMap::new();
    let mut letters = Vec::with_capacity(deaths.len());
    for death in deaths {
        let Some(record) = records.get(death.place) else { continue };
        let broken = broken(record, death.reason());
        let (own, payload) = (broken.id, broken.text());
        // Its task's id, so that whoever asks for the task finds the letter; another record may have taken that.
        for id in [death.task.map_or(own, |task| DeadLetterId(task.0)), own] {
            match (made.get(&id), dead_letters::get(&mut reader, id).await?) {
                (None, None) => {
                    made.insert(id, payload.clone());
                    letters.push((letter(stage, death, (id, own), payload)?, record));
                    break;
                }
                (Some(other), _) if *other == payload => break,
                (None, Some(other)) if ingest::is_letter_of(&other, own, &payload) => break,
                _ => {}
            }
        }
    }
    Ok(letters)
}

/// Puts a copy where operators look who read Kafka.
async fn copy(stage: &Consumers, (letter, record): &Buried<'_>) -> Result<(), LogError> {
    let broken = broken(record, &letter.reason);
    let poison = Poison {
        id: letter.id.0,
        type_name: None,
        traceparent: None,
        group: GROUP,
        partition: &broken.partition,
        reason: &broken.reason,
        key: broken.key.as_deref(),
        payload: &broken.payload,
    };
    stage.log.bury(&poison).await
}

/// The record as any other that is no event.
fn broken(record: &Record, reason: &str) -> Broken {
    let partition = format!("ingest/{}", record.partition);
    Broken {
        id: Broken::id(GROUP, &partition, record.offset, record.written_at),
        partition,
        offset: record.offset,
        key: record.key.clone(),
        payload: record.value.clone().unwrap_or_default(),
        reason: reason.to_owned(),
    }
}

fn letter(
    stage: &Consumers,
    death: &Death,
    (id, record): (DeadLetterId, DeadLetterId),
    payload: String,
) -> Result<NewLetter, StoreError> {
    Ok(NewLetter {
        id,
        source: Source::Log,
        handler: GROUP.to_owned(),
        event_id: None,
        position: None,
        delivery_id: None,
        reason: death.reason().to_owned(),
        attempts: ingest::history(&death.tries, record, death.task, death.problem.as_ref())?,
        payload,
        created_at: stage.clock.now(),
    })
}

async fn keep(stage: &Consumers, letters: &[Buried<'_>]) -> Result<(), Trouble> {
    if letters.is_empty() {
        return Ok(());
    }
    guarded(async {
        let mut tx = stage.db.begin().await?;
        for (letter, _) in letters {
            dead_letters::insert(&mut tx, letter).await?;
        }
        Ok(tx.commit().await?)
    })
    .await?;
    metrics::counter!("taskpost_ingestion_dead_letters_total").increment(letters.len() as u64);
    for (letter, record) in letters {
        tracing::warn!(
            group = GROUP, letter.id = %letter.id, record.partition, record.offset, reason = %letter.reason,
            "an accepted task is now a dead letter"
        );
    }
    Ok(())
}
