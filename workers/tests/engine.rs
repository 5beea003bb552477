//! The engine and both channels, on SQLite, on Postgres, and on Postgres with RabbitMQ, with real sockets and files.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test may stop at the first surprise")]

mod support;

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};
use standardwebhooks::Webhook;
use support::{
    BODY, SECRET, Stage,
    channels::{Panics, Steps},
    receiver::{Receiver, Request},
    until,
};
use taskpost_common::{
    Cause,
    delivery::AttemptOutcome,
    notification::{Channel as Name, Class},
};
use taskpost_store::{
    Change,
    deliveries::{self, Attempt, Delivery, NewDelivery, Settlement},
    endpoints, leases,
};

macro_rules! everywhere {
    ($($case:ident,)+) => {
        mod sqlite {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                super::$case(super::Stage::sqlite().await).await;
            })+
        }
        mod postgres {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                super::$case(super::Stage::postgres().await).await;
            })+
        }
        mod rabbitmq {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                super::support::rabbitmq(super::$case).await;
            })+
        }
    };
}

everywhere! {
    a_webhook_is_delivered_once_and_signed,
    both_secrets_sign_while_one_is_rotated,
    a_failure_that_passes_is_tried_again_under_the_same_id,
    gone_disables_the_endpoint_and_buries,
    a_used_up_ladder_ends_as_a_dead_letter,
    failing_to_tell_of_a_failure_is_not_told,
    a_receiver_is_left_alone_as_long_as_it_asks,
    five_days_without_a_success_disable,
    a_success_ends_the_count_of_failing_days,
    nothing_is_sent_to_a_disabled_endpoint,
    a_blocked_target_gets_no_packet,
    a_payload_that_cannot_be_read_is_buried,
    a_full_endpoint_gets_everything_in_turn,
    a_panic_is_an_outcome_and_frees_its_slot,
    a_vanished_workers_delivery_falls_due_again_and_its_outcome_is_refused,
    an_outcome_is_stored_once_however_often_it_is_said,
    high_goes_first_and_low_does_not_starve,
    stopping_gives_back_what_is_not_finished,
    one_process_announces_for_all_that_share_the_queue,
    a_mail_is_one_file_however_often_it_is_tried,
    a_mail_says_no_more_than_it_should,
}

async fn a_webhook_is_delivered_once_and_signed(mut stage: Stage) {
    let receiver = Receiver::start(&["200 OK"]).await;
    let endpoint = stage.endpoint(&receiver.url()).await;
    stage.start(&[10]);
    let id = stage.webhook(endpoint).await;
    stage.drained().await;
    let requests = receiver.requests();
    assert_eq!(requests.len(), 1);
    let request = &requests[0];
    assert_eq!(request.body, BODY);
    assert_eq!(request.headers["content-type"], "application/cloudevents+json");
    assert_eq!(request.headers["webhook-id"], id.to_string());
    Webhook::new(SECRET).unwrap().verify(BODY.as_bytes(), &headers(request)).unwrap();
    let attempts = stage.attempts(id).await;
    assert_eq!((attempts.len(), attempts[0].number, attempts[0].status_code), (1, 1, Some(200)));
    assert_eq!((attempts[0].outcome.as_str(), attempts[0].excerpt.as_deref()), ("delivered", Some("said")));
    assert_eq!(stage.read_endpoint(endpoint).await.failing_since, None);
    assert!(stage.letters().await.is_empty() && stage.events().await.is_empty());
    stage.stop().await;
}

async fn both_secrets_sign_while_one_is_rotated(mut stage: Stage) {
    const OLD: &str = "whsec_b2xkIHNlY3JldCBvZiB0aGUgZW5kcG9pbnQ=";
    let receiver = Receiver::start(&["200 OK"]).await;
    let endpoint = stage.endpoint(&receiver.url()).await;
    let until = stage.clock.now() + chrono::Duration::hours(1);
    let rotate = |until| {
        move |it: &mut endpoints::Endpoint| {
            (it.previous_secret, it.previous_until) = (Some(OLD.to_owned()), Some(until));
        }
    };
    stage.change_endpoint(endpoint, rotate(until)).await;
    stage.start(&[10]);
    stage.webhook(endpoint).await;
    stage.drained().await;
    stage.change_endpoint(endpoint, rotate(stage.clock.now())).await;
    stage.webhook(endpoint).await;
    stage.drained().await;
    let requests = receiver.requests();
    let (both, one) = (&requests[0], &requests[1]);
    for secret in [SECRET, OLD] {
        Webhook::new(secret).unwrap().verify(BODY.as_bytes(), &headers(both)).unwrap();
    }
    Webhook::new(SECRET).unwrap().verify(BODY.as_bytes(), &headers(one)).unwrap();
    assert!(Webhook::new(OLD).unwrap().verify(BODY.as_bytes(), &headers(one)).is_err());
    stage.stop().await;
}

async fn a_failure_that_passes_is_tried_again_under_the_same_id(mut stage: Stage) {
    let receiver = Receiver::start(&["500 Broken", "200 OK"]).await;
    let endpoint = stage.endpoint(&receiver.url()).await;
    stage.start(&[10]);
    let id = stage.webhook(endpoint).await;
    stage.drained().await;
    let ids: Vec<String> = receiver.requests().iter().map(|it| it.headers["webhook-id"].clone()).collect();
    assert_eq!(ids, [id.to_string(), id.to_string()]);
    assert_eq!(stage.outcomes(id).await, ["failed", "delivered"]);
    assert_eq!(stage.read_endpoint(endpoint).await.failing_since, None);
    stage.stop().await;
}

async fn gone_disables_the_endpoint_and_buries(mut stage: Stage) {
    let receiver = Receiver::start(&["410 Gone"]).await;
    let endpoint = stage.endpoint(&receiver.url()).await;
    stage.start(&[10, 10]);
    let id = stage.webhook(endpoint).await;
    stage.drained().await;
    assert_eq!(receiver.requests().len(), 1);
    let now = stage.read_endpoint(endpoint).await;
    assert_eq!(
        (now.enabled, now.disabled_reason.as_deref()),
        (false, Some("gone: the receiver answered 410"))
    );
    let letters = stage.letters().await;
    assert_eq!((letters.len(), letters[0].delivery_id), (1, Some(id.0)));
    assert_eq!(letters[0].reason, "the receiver answered 410");
    let mut events = stage.events().await;
    events.sort_unstable();
    assert_eq!(events, ["delivery.exhausted", "endpoint.disabled"]);
    stage.stop().await;
}

async fn a_used_up_ladder_ends_as_a_dead_letter(mut stage: Stage) {
    let receiver = Receiver::start(&["503 Busy"]).await;
    let endpoint = stage.endpoint(&receiver.url()).await;
    stage.start(&[10, 10]);
    let id = stage.webhook(endpoint).await;
    stage.drained().await;
    assert_eq!(stage.outcomes(id).await, ["failed", "failed", "failed"]);
    let letters = stage.letters().await;
    assert_eq!(
        (letters.len(), letters[0].source.as_str(), letters[0].handler.as_str()),
        (1, "queue", "webhook")
    );
    assert_eq!(letters[0].reason, "gave up after 3 tries: the receiver answered 503");
    assert_eq!(letters[0].attempts.matches("503").count(), 6, "{}", letters[0].attempts);
    assert!(letters[0].payload.contains("task.created"));
    assert_eq!(stage.events().await, ["delivery.exhausted"]);
    assert!(stage.read_endpoint(endpoint).await.failing_since.is_some());
    stage.stop().await;
}

async fn failing_to_tell_of_a_failure_is_not_told(mut stage: Stage) {
    let receiver = Receiver::start(&["400 No"]).await;
    let endpoint = stage.endpoint(&receiver.url()).await;
    stage.start(&[10]);
    stage.webhook_of(endpoint, r#"{"type":"delivery.exhausted"}"#).await;
    stage.drained().await;
    assert_eq!(stage.letters().await.len(), 1);
    assert!(stage.events().await.is_empty());
    stage.stop().await;
}

async fn a_receiver_is_left_alone_as_long_as_it_asks(mut stage: Stage) {
    let receiver = Receiver::start(&["429 Slow\r\nRetry-After: 1", "200 OK"]).await;
    let endpoint = stage.endpoint(&receiver.url()).await;
    stage.start(&[600]);
    let id = stage.webhook(endpoint).await;
    stage.drained().await;
    let times: Vec<_> = receiver.requests().iter().map(|it| it.at).collect();
    let waited = times[1] - times[0];
    assert!(waited >= Duration::from_secs(1), "{waited:?}");
    assert_eq!(stage.outcomes(id).await, ["failed", "delivered"]);
    stage.stop().await;
}

async fn five_days_without_a_success_disable(mut stage: Stage) {
    let receiver = Receiver::start(&["500 Broken"]).await;
    let endpoint = stage.endpoint(&receiver.url()).await;
    fails_since(&stage, endpoint, chrono::Duration::days(6)).await;
    stage.start(&[600_000]);
    let id = stage.webhook(endpoint).await;
    let now = until("it is disabled", async || {
        Some(stage.read_endpoint(endpoint).await).filter(|endpoint| !endpoint.enabled)
    })
    .await;
    assert_eq!(now.disabled_reason.as_deref(), Some("failing: no delivery succeeded for 5 days"));
    assert_eq!(stage.events().await, ["endpoint.disabled"]);
    assert_eq!(stage.outcomes(id).await, ["failed"]);
    stage.stop().await;
}

async fn a_success_ends_the_count_of_failing_days(mut stage: Stage) {
    let receiver = Receiver::start(&["200 OK", "500 Broken"]).await;
    let endpoint = stage.endpoint(&receiver.url()).await;
    fails_since(&stage, endpoint, chrono::Duration::days(6)).await;
    stage.start(&[]);
    stage.webhook(endpoint).await;
    stage.drained().await;
    assert_eq!(stage.read_endpoint(endpoint).await.failing_since, None);
    stage.webhook(endpoint).await;
    stage.drained().await;
    let now = stage.read_endpoint(endpoint).await;
    assert!(now.enabled && now.failing_since.is_some());
    stage.stop().await;
}

async fn nothing_is_sent_to_a_disabled_endpoint(mut stage: Stage) {
    let receiver = Receiver::start(&["200 OK"]).await;
    let endpoint = stage.endpoint(&receiver.url()).await;
    stage.change_endpoint(endpoint, |endpoint| endpoint.enabled = false).await;
    stage.start(&[10]);
    let id = stage.webhook(endpoint).await;
    stage.drained().await;
    assert!(receiver.requests().is_empty() && stage.outcomes(id).await.is_empty());
    assert!(stage.letters().await.is_empty() && stage.events().await.is_empty());
    stage.stop().await;
}

async fn a_blocked_target_gets_no_packet(mut stage: Stage) {
    let receiver = Receiver::start(&["200 OK"]).await;
    let endpoint = stage.endpoint(&receiver.url()).await;
    stage.start_with(&[10], false);
    let id = stage.webhook(endpoint).await;
    stage.drained().await;
    assert!(receiver.requests().is_empty());
    assert_eq!(stage.outcomes(id).await, ["blocked"]);
    assert_eq!(stage.letters().await.len(), 1);
    stage.stop().await;
}

async fn a_payload_that_cannot_be_read_is_buried(mut stage: Stage) {
    let receiver = Receiver::start(&["200 OK"]).await;
    let endpoint = stage.endpoint(&receiver.url()).await;
    stage.start(&[10]);
    let odd = stage.new_delivery(Name::Webhook, Class::Normal, r#"{"odd":true}"#.to_owned());
    let odd = NewDelivery { user_id: None, endpoint_id: Some(endpoint), ..odd };
    let ids = stage.insert(&[odd, stage.new_delivery(Name::Email, Class::Low, "{}".to_owned())]).await;
    stage.drained().await;
    for id in ids {
        assert_eq!(stage.outcomes(id).await, ["rejected"]);
    }
    assert_eq!(stage.letters().await.len(), 2);
    assert!(receiver.requests().is_empty());
    stage.stop().await;
}

async fn a_full_endpoint_gets_everything_in_turn(mut stage: Stage) {
    let receiver = Receiver::start(&["200 OK"]).await;
    let endpoint = stage.endpoint(&receiver.url()).await;
    let mut ids = Vec::new();
    for _ in 0..60 {
        ids.push(stage.webhook(endpoint).await);
    }
    stage.start(&[10]);
    stage.drained().await;
    assert_eq!(receiver.requests().len(), 60);
    for id in ids {
        assert_eq!(stage.outcomes(id).await, ["delivered"]);
    }
    stage.stop().await;
}

async fn a_panic_is_an_outcome_and_frees_its_slot(mut stage: Stage) {
    stage.start_channel(Panics, 1, &[10]);
    let new: Vec<NewDelivery> = ["panic", "fine", "panic", "fine"]
        .map(|word| stage.new_delivery(Name::Email, Class::Normal, format!("{{\"do\":\"{word}\"}}")))
        .into();
    let ids = stage.insert(&new).await;
    stage.drained().await;
    assert_eq!(stage.outcomes(ids[0]).await, ["panicked", "panicked"]);
    assert_eq!(stage.outcomes(ids[1]).await, ["delivered"]);
    assert_eq!(stage.outcomes(ids[3]).await, ["delivered"]);
    assert_eq!(stage.letters().await.len(), 2);
    stage.stop().await;
}

async fn a_vanished_workers_delivery_falls_due_again_and_its_outcome_is_refused(mut stage: Stage) {
    let receiver = Receiver::start(&["200 OK"]).await;
    let endpoint = stage.endpoint(&receiver.url()).await;
    let id = stage.webhook(endpoint).await;
    let lost = stage.claim(Name::Webhook, 1, chrono::Duration::milliseconds(50)).await;
    assert_eq!((lost.len(), lost[0].id, lost[0].lease), (1, id, 1));
    stage.start(&[10]);
    stage.drained().await;
    assert_eq!(receiver.requests().len(), 1);
    assert!(!settle(&stage, &lost[0], &Settlement::Bury(failed(), "late".to_owned())).await);
    assert_eq!(stage.outcomes(id).await, ["delivered"]);
    assert!(stage.letters().await.is_empty());
    stage.stop().await;
}

async fn an_outcome_is_stored_once_however_often_it_is_said(stage: Stage) {
    let endpoint = stage.endpoint("http://127.0.0.1:1/").await;
    let id = stage.webhook(endpoint).await;
    let claimed = stage.claim(Name::Webhook, 1, chrono::Duration::seconds(60)).await;
    let later = Settlement::Retry(failed(), stage.clock.now());
    assert!(settle(&stage, &claimed[0], &later).await);
    assert!(!settle(&stage, &claimed[0], &later).await);
    assert_eq!(stage.outcomes(id).await, ["failed"]);
    let again = stage.claim(Name::Webhook, 1, chrono::Duration::seconds(60)).await;
    assert_eq!((again[0].attempt, again[0].lease), (1, 2));
}

async fn high_goes_first_and_low_does_not_starve(mut stage: Stage) {
    let channel = Steps::new();
    let new = |class| stage.new_delivery(Name::Email, class, "{}".to_owned());
    let low: Vec<NewDelivery> = (0..100).map(|_| new(Class::Low)).collect();
    stage.insert(&low).await;
    let high: Vec<NewDelivery> = (0..100).map(|_| new(Class::High)).collect();
    stage.insert(&high).await;
    stage.announced(200, &["high", "low"]).await;
    stage.start_channel(channel.clone(), 10, &[10]);
    channel.go.add_permits(200);
    stage.drained().await;
    let begun = channel.begun();
    assert_eq!(begun.len(), 200);
    let count = |class, part: &[Class]| part.iter().filter(|it| **it == class).count();
    let first = &begun[..50];
    assert!(count(Class::High, first) > count(Class::Low, first), "{first:?}");
    assert!(count(Class::Low, &begun[..110]) > 0);
    // On a busy machine a few wait too long for a slot, and are put off for a second.
    let soon = count(Class::High, &begun[..170]);
    assert!(soon > 90, "{soon}");
    stage.stop().await;
}

async fn stopping_gives_back_what_is_not_finished(mut stage: Stage) {
    let channel = Steps::new();
    let new = |_| stage.new_delivery(Name::Email, Class::Normal, "{}".to_owned());
    let ids = stage.insert(&(0..30).map(new).collect::<Vec<_>>()).await;
    stage.start_channel(channel.clone(), 4, &[10]);
    until("four are under way", async || (channel.begun().len() == 4).then_some(())).await;
    let took = stage.stop().await;
    // A few seconds go to what is under way, which would take ten minutes.
    assert!(took < Duration::from_mins(1), "{took:?}");
    for id in ids {
        assert!(stage.outcomes(id).await.is_empty());
    }
    let back = stage.claim(Name::Email, 30, chrono::Duration::seconds(60)).await;
    assert_eq!(back.len(), 30);
    assert!(back.iter().all(|delivery| delivery.attempt == 0));
}

async fn one_process_announces_for_all_that_share_the_queue(mut stage: Stage) {
    let channel = Steps::new();
    channel.go.add_permits(1);
    stage.start_channel(channel, 1, &[10]);
    stage.insert(&[stage.new_delivery(Name::Email, Class::Normal, "{}".to_owned())]).await;
    stage.drained().await;
    let (db, clock) = (stage.db.clone(), stage.clock.clone());
    let is_free = async || {
        let (now, holder) = (clock.now(), clock.id());
        leases::take(&db, "dispatcher.email", holder, now, now).await.unwrap()
    };
    assert_eq!(is_free().await, !stage.queue.is_shared(), "whoever announces to all holds the lease");
    stage.stop().await;
    assert!(is_free().await, "the next one need not wait for its end");
}

async fn a_mail_is_one_file_however_often_it_is_tried(mut stage: Stage) {
    let id = stage.mail("Task OPS-1 was assigned to you", "Ann assigned it.").await;
    let lost = stage.claim(Name::Email, 1, chrono::Duration::milliseconds(1)).await;
    stage.start(&[10]);
    stage.drained().await;
    let file = format!("{id}.eml");
    let first = std::fs::read_to_string(stage.mails().join(&file)).unwrap();
    assert!(!settle(&stage, &lost[0], &Settlement::Snooze(stage.clock.now())).await);
    stage.mail("Another", "b").await;
    stage.drained().await;
    let mut names: Vec<String> = std::fs::read_dir(stage.mails())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort_unstable();
    assert_eq!(names.len(), 2, "{names:?}");
    assert!(names.contains(&file));
    assert!(first.contains(&format!("Message-ID: <{id}@tasks.example.org>\r\n")), "{first}");
    assert!(first.contains("To: Ann <ann@example.org>\r\n"), "{first}");
    assert_eq!(stage.outcomes(id).await, ["delivered"]);
    stage.stop().await;
}

async fn a_mail_says_no_more_than_it_should(mut stage: Stage) {
    stage.start(&[10]);
    let id = stage.mail("a\r\nBcc: eve@example.org\r\n\r\n<b>", "<script>x</script>").await;
    stage.drained().await;
    let mail = std::fs::read_to_string(stage.mails().join(format!("{id}.eml"))).unwrap();
    assert!(!mail.lines().any(|line| line.to_lowercase().starts_with("bcc")), "{mail}");
    let html = mail.split("text/html").nth(1).expect("a part of HTML");
    assert!(!html.contains("<script") && !html.contains("<b>"), "{html}");
    stage.stop().await;
}

fn headers(request: &Request) -> HeaderMap {
    let pair = |(name, value): (&String, &String)| {
        (HeaderName::try_from(name).unwrap(), HeaderValue::try_from(value).unwrap())
    };
    request.headers.iter().map(pair).collect()
}

async fn fails_since(stage: &Stage, endpoint: taskpost_common::EndpointId, ago: chrono::Duration) {
    let mut tx = stage.begin().await;
    endpoints::note_health(&mut tx, endpoint, false, stage.clock.now() - ago).await.unwrap();
    tx.commit().await.unwrap();
}

fn failed() -> Attempt {
    Attempt {
        outcome: AttemptOutcome::Failed,
        status_code: None,
        error: None,
        excerpt: None,
        started_at: chrono::DateTime::UNIX_EPOCH,
        duration_ms: 0,
    }
}

async fn settle(stage: &Stage, delivery: &Delivery, settlement: &Settlement) -> bool {
    let mut tx = stage.begin().await;
    let change = Change { clock: &stage.clock, cause: &Cause::default() };
    let kept = deliveries::settle(&mut tx, change, delivery, settlement).await.unwrap();
    tx.commit().await.unwrap();
    kept
}
