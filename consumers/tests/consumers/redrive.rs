//! Dead letters that are handled once more.

use std::sync::Arc;

use taskpost_common::DeadLetterId;
use taskpost_consumers::Group;
use taskpost_store::dead_letters::{self, DeadLetter};

use crate::{
    echo::Echo,
    support::{Stage, begin, until},
};

pub async fn request(stage: &Stage, id: DeadLetterId, payload: Option<&str>) -> bool {
    let mut tx = begin(stage.db()).await;
    let by = stage.clock().id();
    let taken = dead_letters::request_redrive(&mut tx, id, payload, by, stage.clock().now()).await.unwrap();
    tx.commit().await.unwrap();
    stage.consumers.wakes.log.ring();
    taken
}

pub async fn settled(stage: &Stage, id: DeadLetterId) -> DeadLetter {
    until("the letter is settled", || async {
        let letter = dead_letters::get(&mut stage.reader().await, id).await.unwrap().unwrap();
        (letter.state != "redriving").then_some(letter)
    })
    .await
}

/// A letter of an event with the title `poison`.
async fn poisoned(stage: &Stage, echo: &Arc<Echo>) -> DeadLetter {
    let ann = stage.member("ann").await;
    stage.task("poison", ann, None).await;
    stage.drain(echo).await;
    stage.letters(Echo::NAME).await.remove(0)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_edited_letter_is_redriven_once() {
    for stage in Stage::both().await {
        let echo = Arc::new(Echo::new(&stage));
        let letter = poisoned(&stage, &echo).await;
        let loops = stage.start_redrive(&echo, 3);
        let cured = letter.payload.replace("poison", "cured");
        assert!(request(&stage, letter.id, Some(&cured)).await);
        let done = settled(&stage, letter.id).await;
        assert_eq!((done.state.as_str(), done.payload.as_str()), ("redriven", cured.as_str()));
        assert!(!request(&stage, letter.id, None).await, "it is dead no more");
        loops.end().await;
        stage.drain(&echo).await;
        assert_eq!(Echo::answered(&stage).await, ["cured"], "{}", stage.db().name());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_letter_that_fails_again_is_dead_again_with_the_new_reason() {
    for stage in Stage::both().await {
        let echo = Arc::new(Echo::new(&stage));
        let letter = poisoned(&stage, &echo).await;
        let loops = stage.start_redrive(&echo, 1);
        let other_id = letter
            .payload
            .replace(&letter.event_id.unwrap().to_string(), &stage.clock().id::<DeadLetterId>().to_string());
        let other_type = letter.payload.replace("task.created", "task.abducted");
        let other_data = letter.payload.replace(r#""title""#, r#""tittle""#);
        let worse = letter.payload.replace("poison", "poison and panic");
        let mut fingerprints = vec![letter.fingerprint.clone()];
        for (tries, (payload, reason)) in [
            (None, "will not have poison"),
            (Some(worse.as_str()), "will not have poison and panic"),
            (Some("{"), "the payload is no event"),
            (Some(&other_id), "the payload's id is not that of the letter's event"),
            (Some(&other_type), "unknown event type `task.abducted`"),
            (Some(&other_data), "malformed data of `task.created`"),
        ]
        .into_iter()
        .enumerate()
        {
            assert!(request(&stage, letter.id, payload).await);
            let again = settled(&stage, letter.id).await;
            assert_eq!((again.state.as_str(), again.resolved_at), ("dead", None));
            assert!(again.reason.starts_with(reason), "{}", again.reason);
            assert_eq!(again.attempts.matches(r#""at""#).count(), 4 + tries, "{}", again.attempts);
            fingerprints.push(again.fingerprint);
        }
        loops.end().await;
        assert_eq!(fingerprints[0], fingerprints[1], "the same reason");
        fingerprints.dedup();
        assert_eq!(fingerprints.len(), 6, "{fingerprints:?}");
        assert!(Echo::answered(&stage).await.is_empty());
    }
}
