//! What RabbitMQ is told, and what becomes of what others tell it.

use std::{collections::BTreeMap, time::Duration};

use lapin::{message::BasicGetMessage, types::AMQPValue};
use taskpost_common::notification::Class;
use taskpost_store::{
    Db,
    deliveries::{self, NewDelivery},
};

use crate::harness::{LADDER, Stage, ids, until};

on_rabbitmq!(
    a_message_is_the_id_of_a_delivery_and_nothing_else,
    a_step_keeps_a_fresh_message_for_its_class,
    a_step_gives_back_what_it_has_kept,
    strays_are_claimed_by_nobody,
    a_message_that_is_early_by_the_difference_of_clocks_is_kept,
    a_row_that_is_being_changed_keeps_its_message,
);

const TRACE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

/// Announces what is due, and claims nothing.
async fn announced(stage: &Stage, count: usize) {
    until("it is announced", async || {
        stage.dispatch().await;
        (stage.queued().await == count).then_some(())
    })
    .await;
}

/// Our own headers, without the count that the broker adds to what it hands out.
fn headers(message: &BasicGetMessage) -> BTreeMap<String, String> {
    let headers = message.delivery.properties.headers().clone().unwrap_or_default();
    let text = |value: &AMQPValue| match value {
        AMQPValue::LongLongInt(number) => number.to_string(),
        AMQPValue::LongString(text) => text.to_string(),
        other => format!("{other:?}"),
    };
    let ours = headers.inner().iter().filter(|(name, _)| name.as_str() != "x-delivery-count");
    ours.map(|(name, value)| (name.to_string(), text(value))).collect()
}

async fn a_message_is_the_id_of_a_delivery_and_nothing_else(stage: Stage) {
    let traced = NewDelivery { traceparent: Some(TRACE.to_owned()), ..stage.new_delivery(Class::High) };
    stage.insert_all(std::slice::from_ref(&traced)).await;
    announced(&stage, 1).await;
    let message = stage.broker().get(&stage.name("notify.email.high")).await.unwrap();
    assert_eq!(message.delivery.data, traced.id.to_string().as_bytes());
    assert_eq!(message.delivery.exchange.to_string(), stage.name("notify"));
    assert_eq!(message.delivery.routing_key.to_string(), "email.high");
    let properties = &message.delivery.properties;
    assert_eq!(properties.delivery_mode(), &Some(2), "it survives the broker");
    assert_eq!(properties.message_id().as_ref().map(ToString::to_string), Some(traced.id.to_string()));
    assert_eq!(properties.kind().as_ref().map(ToString::to_string), Some("delivery".to_owned()));
    let expected = [("attempt", "1"), ("traceparent", TRACE)];
    assert_eq!(headers(&message), expected.map(|(name, value)| (name.to_owned(), value.to_owned())).into());
}

async fn a_step_keeps_a_fresh_message_for_its_class(stage: Stage) {
    stage.insert(Class::Low, 1).await;
    let claimed = stage.claim_all(1).await;
    stage.retry(&claimed[0], LADDER[2]).await;
    stage.broker_holds(&[("notify.retry.1h", 1)]).await;
    until("the row counts on the step", async || (stage.queued().await == 1).then_some(())).await;
    stage.dispatch().await;
    stage.broker_holds(&[("notify.retry.1h", 1)]).await;

    let message = stage.broker().get(&stage.name("notify.retry.1h")).await.unwrap();
    assert_eq!(message.delivery.data, claimed[0].id.to_string().as_bytes());
    assert_eq!(message.delivery.routing_key.to_string(), "email.low");
    let due_at = stage.clock.now() + LADDER[2];
    let not_before = due_at.to_rfc3339_opts(chrono::SecondsFormat::Micros, true);
    let expected = [("attempt".to_owned(), "2".to_owned()), ("not_before".to_owned(), not_before)];
    assert_eq!(headers(&message), expected.into(), "and nothing of the message that came before it");
}

async fn a_step_gives_back_what_it_has_kept(stage: Stage) {
    let id = stage.insert(Class::Low, 1).await;
    let mut claimed = stage.claim_all(1).await;
    // A message that TTL sends in circles would be dropped, or stuck, from the second time on.
    for _ in 0..4 {
        stage.retry(&claimed[0], LADDER[0]).await;
        stage.clock.advance(LADDER[0]);
        claimed = until("it comes back by itself", async || {
            Some(stage.claim(1).await).filter(|claimed| !claimed.is_empty())
        })
        .await;
        assert_eq!((ids(&claimed), claimed[0].class), (id.clone(), Class::Low));
    }
    stage.deliver(&claimed).await;
    stage.broker_holds(&[]).await;
}

async fn strays_are_claimed_by_nobody(stage: Stage) {
    stage.insert(Class::Normal, 1).await;
    let finished = stage.claim_all(1).await;
    stage.deliver(&finished).await;
    let early = NewDelivery {
        due_at: stage.clock.now() + chrono::Duration::days(1),
        ..stage.new_delivery(Class::Low)
    };
    stage.insert_all(std::slice::from_ref(&early)).await;
    let unknown = stage.new_delivery(Class::High);
    for body in [finished[0].id, early.id, unknown.id, unknown.id].map(|id| id.to_string()) {
        stage.broker().publish(&stage.name("notify"), "email.high", body.as_bytes()).await;
    }
    stage.broker().publish(&stage.name("notify"), "email.low", b"\xff no id").await;
    until("the last one is set aside", async || {
        (stage.broker().ready(&stage.name("notify.dlq")).await == Some(1)).then_some(())
    })
    .await;
    stage.received(&["high"]).await;
    assert!(stage.claim(9).await.is_empty());
    stage.broker_holds(&[("notify.dlq", 2)]).await;
    // What is not acknowledged would be back in its queue.
    stage.stop().await;
    stage.broker_holds(&[("notify.dlq", 2)]).await;
}

async fn a_message_that_is_early_by_the_difference_of_clocks_is_kept(stage: Stage) {
    let wait = Duration::from_millis(300);
    let soon = NewDelivery { due_at: stage.clock.now() + wait, ..stage.new_delivery(Class::Low) };
    stage.insert_all(std::slice::from_ref(&soon)).await;
    until("the queues are declared", async || stage.queue().await.is_ready().then_some(())).await;
    // As if it had been announced by a machine whose clock goes ahead of ours.
    deliveries::mark_queued(&stage.db, &[(soon.id, 0)], stage.clock.now()).await.unwrap();
    stage.broker().publish(&stage.name("notify"), "email.low", soon.id.to_string().as_bytes()).await;
    stage.received(&["low"]).await;
    assert!(stage.claim(9).await.is_empty());
    stage.clock.advance(wait);
    let claimed = until("it is claimed without being announced again", async || {
        Some(stage.claim(9).await).filter(|claimed| !claimed.is_empty())
    })
    .await;
    assert_eq!(ids(&claimed), [soon.id]);
    stage.deliver(&claimed).await;
    stage.broker_holds(&[("notify.dlq", 1)]).await;
}

async fn a_row_that_is_being_changed_keeps_its_message(stage: Stage) {
    let id = stage.insert(Class::Normal, 1).await;
    announced(&stage, 1).await;
    let Db::Postgres { write, .. } = &stage.db else { panic!("a case for Postgres") };
    let mut other = write.begin().await.unwrap();
    sqlx::query("SELECT id FROM deliveries FOR UPDATE").execute(&mut *other).await.unwrap();
    until("the message was received", async || {
        assert!(stage.claim(1).await.is_empty(), "somebody else changes the row");
        (stage.broker().ready(&stage.name("notify.email.normal")).await == Some(0)).then_some(())
    })
    .await;
    for _ in 0..20 {
        stage.queue().await.announced(crate::harness::CHANNEL).await;
        assert!(stage.claim(1).await.is_empty());
    }
    other.rollback().await.unwrap();
    let claimed =
        until("it is claimed", async || Some(stage.claim(1).await).filter(|claimed| !claimed.is_empty()))
            .await;
    assert_eq!(ids(&claimed), id);
    stage.deliver(&claimed).await;
    stage.broker_holds(&[]).await;
}
