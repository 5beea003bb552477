//! Deliveries: stored once, claimed by one, settled under a lease.

use std::collections::BTreeSet;

use chrono::{DateTime, Duration, Utc};
use taskpost_common::{
    EndpointId,
    delivery::AttemptOutcome,
    notification::{Channel, Class},
};
use taskpost_store::{
    dead_letters::{self, LetterFilter},
    deliveries::{self, Attempt, Delivery, NewDelivery, Settlement},
};
use tokio::task::JoinSet;

use crate::harness::Store;

both!(
    an_event_gives_each_target_one_delivery,
    no_two_claims_get_the_same,
    a_claim_takes_what_is_due_of_each_class,
    only_the_holder_of_the_lease_settles,
    the_leases_of_the_dead_end_at_once,
    a_buried_delivery_is_a_letter_and_told,
    the_agenda_knows_now_and_next,
);

pub fn webhook(store: &Store, endpoint: EndpointId) -> NewDelivery {
    NewDelivery {
        id: store.id(),
        channel: Channel::Webhook,
        class: Class::Normal,
        event_id: store.id(),
        user_id: None,
        endpoint_id: Some(endpoint),
        notification_id: None,
        payload: "{}".to_owned(),
        traceparent: None,
        due_at: store.clock.now(),
    }
}

pub fn attempt(store: &Store, outcome: AttemptOutcome) -> Attempt {
    Attempt {
        outcome,
        status_code: Some(503),
        error: Some("the receiver answered 503".to_owned()),
        excerpt: None,
        started_at: store.clock.now(),
        duration_ms: 12,
    }
}

pub fn delivered(store: &Store) -> Settlement {
    Settlement::Delivered(attempt(store, AttemptOutcome::Delivered))
}

pub async fn insert(store: &Store, rows: &[NewDelivery]) -> u64 {
    let mut tx = store.begin().await;
    let inserted = deliveries::insert(&mut tx, rows, store.clock.now()).await.unwrap();
    tx.commit().await.unwrap();
    inserted
}

async fn claim(store: &Store, places: &[(Class, usize)]) -> Vec<Delivery> {
    let now = store.clock.now();
    deliveries::claim(&store.db, Channel::Webhook, places, now, lease_end(now)).await.unwrap()
}

pub fn lease_end(now: DateTime<Utc>) -> DateTime<Utc> {
    now + Duration::seconds(30)
}

pub async fn settle(store: &Store, delivery: &Delivery, settlement: &Settlement) -> bool {
    let mut tx = store.begin().await;
    let kept = deliveries::settle(&mut tx, store.change(), delivery, settlement).await.unwrap();
    tx.commit().await.unwrap();
    kept
}

async fn an_event_gives_each_target_one_delivery(store: Store) {
    let first = webhook(&store, store.id());
    let again = NewDelivery { id: store.id(), payload: "{\"a\":1}".to_owned(), ..first.clone() };
    let other_target = NewDelivery { id: store.id(), endpoint_id: Some(store.id()), ..first.clone() };
    let mail = NewDelivery {
        id: store.id(),
        channel: Channel::Email,
        endpoint_id: None,
        user_id: Some(store.id()),
        ..first.clone()
    };
    let mail_again = NewDelivery { id: store.id(), ..mail.clone() };
    assert_eq!(insert(&store, &[first.clone(), again.clone(), mail.clone()]).await, 2);
    assert_eq!(insert(&store, &[mail_again, again, other_target]).await, 1);
    let claimed = claim(&store, &[(Class::Normal, 10)]).await;
    assert_eq!(claimed.iter().map(|row| (row.id, row.payload.as_str())).next(), Some((first.id, "{}")));
    assert_eq!(claimed.len(), 2, "mail is another channel");
}

async fn no_two_claims_get_the_same(store: Store) {
    let rows: Vec<_> = (0..60).map(|_| webhook(&store, store.id())).collect();
    insert(&store, &rows).await;
    let mut workers = JoinSet::new();
    for _ in 0..6 {
        let store = store.clone();
        workers.spawn(async move {
            let mut mine = Vec::new();
            loop {
                let claimed = claim(&store, &[(Class::Normal, 4)]).await;
                let mut reader = store.reader().await;
                let due = deliveries::due(&mut reader, Channel::Webhook, store.clock.now(), 1).await.unwrap();
                mine.extend(claimed);
                if due.is_empty() {
                    return mine;
                }
            }
        });
    }
    let claimed = workers.join_all().await.concat();
    assert!(claimed.iter().all(|row| row.lease == 1 && row.attempt == 0));
    let ids: BTreeSet<_> = claimed.iter().map(|row| row.id).collect();
    assert_eq!((claimed.len(), ids.len()), (60, 60));
}

async fn a_claim_takes_what_is_due_of_each_class(store: Store) {
    let row = |class, due| NewDelivery {
        class,
        due_at: store.clock.now() + Duration::seconds(due),
        ..webhook(&store, store.id())
    };
    let rows = [
        row(Class::Low, 0),
        row(Class::High, -1),
        row(Class::High, -2),
        row(Class::High, 0),
        row(Class::Normal, 1),
        row(Class::Normal, 0),
    ];
    insert(&store, &rows).await;
    let claimed = claim(&store, &[(Class::High, 2), (Class::Normal, 5), (Class::Low, 1)]).await;
    let ids: Vec<_> = claimed.iter().map(|row| row.id).collect();
    assert_eq!(ids, [rows[1].id, rows[2].id, rows[5].id, rows[0].id], "the earliest of each class");
    assert!(claimed.iter().all(|row| row.due_at == lease_end(store.clock.now())));
    let rest = claim(&store, &[(Class::High, 2), (Class::Normal, 5), (Class::Low, 1)]).await;
    assert_eq!(rest.iter().map(|row| row.id).collect::<Vec<_>>(), [rows[3].id]);
    assert!(claim(&store, &[]).await.is_empty());
}

async fn the_leases_of_the_dead_end_at_once(store: Store) {
    let places = [(Class::Normal, 1)];
    insert(&store, &[webhook(&store, store.id())]).await;
    let dead = claim(&store, &places).await.remove(0);
    assert!(claim(&store, &places).await.is_empty(), "leased");
    let end = || deliveries::end_leases(&store.db, store.clock.now());
    assert_eq!((end().await.unwrap(), end().await.unwrap()), (1, 0));
    let next = claim(&store, &places).await.remove(0);
    assert_eq!((next.id, next.lease), (dead.id, 2));
    assert!(!settle(&store, &dead, &delivered(&store)).await, "should it live on, its lease is an old one");
}

async fn only_the_holder_of_the_lease_settles(store: Store) {
    let places = [(Class::Normal, 1)];
    insert(&store, &[webhook(&store, store.id())]).await;
    let late = claim(&store, &places).await.remove(0);
    store.clock.advance(std::time::Duration::from_secs(31));
    let holder = claim(&store, &places).await.remove(0);
    assert_eq!((late.lease, holder.lease), (1, 2), "it fell due again");
    assert!(!settle(&store, &late, &delivered(&store)).await, "an old lease");

    let again = store.clock.now() + Duration::seconds(5);
    let retry = Settlement::Retry(attempt(&store, AttemptOutcome::Failed), again);
    assert!(settle(&store, &holder, &retry).await);
    assert!(!settle(&store, &holder, &retry).await, "recorded already");
    assert!(claim(&store, &places).await.is_empty(), "not due yet");
    store.clock.advance(std::time::Duration::from_secs(5));
    let second = claim(&store, &places).await.remove(0);
    assert_eq!((second.lease, second.attempt), (3, 1));
    assert!(settle(&store, &second, &Settlement::Snooze(store.clock.now())).await);
    let third = claim(&store, &places).await.remove(0);
    assert_eq!((third.lease, third.attempt), (4, 1), "a snooze costs no try");
    assert!(settle(&store, &third, &delivered(&store)).await);
    store.clock.advance(std::time::Duration::from_hours(1));
    assert!(claim(&store, &places).await.is_empty(), "finished");

    let tries = deliveries::attempts(&mut store.reader().await, third.id).await.unwrap();
    let tries: Vec<_> = tries
        .iter()
        .map(|row| (row.number, row.outcome.as_str(), row.status_code, row.duration_ms))
        .collect();
    assert_eq!(tries, [(1, "failed", Some(503), 12), (2, "delivered", Some(503), 12)]);
}

async fn a_buried_delivery_is_a_letter_and_told(store: Store) {
    let rows: Vec<_> = (0..3).map(|_| webhook(&store, store.id())).collect();
    insert(&store, &rows).await;
    let claimed = claim(&store, &[(Class::Normal, 3)]).await;
    let bury = Settlement::Bury(attempt(&store, AttemptOutcome::Rejected), "gone for good".to_owned());
    let cancel = Settlement::Cancel("switched off".to_owned());
    let done = delivered(&store);
    let mut tx = store.begin().await;
    let outcomes = [(&claimed[0], &bury), (&claimed[1], &cancel), (&claimed[2], &done)];
    let kept = deliveries::settle_many(&mut tx, store.change(), &outcomes).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(kept, [true; 3]);
    assert!(deliveries::unfinished(&mut store.reader().await).await.unwrap().is_empty());

    let letters =
        dead_letters::list(&mut store.reader().await, &LetterFilter::default(), None, 10).await.unwrap();
    assert_eq!(letters.len(), 1);
    let letter = &letters[0];
    assert_eq!((letter.delivery_id, letter.event_id), (Some(claimed[0].id.0), Some(claimed[0].event_id.0)));
    assert_eq!(
        (letter.reason.as_str(), letter.payload.as_str(), letter.state.as_str()),
        ("gone for good", "{}", "dead")
    );
    assert_eq!(store.told_of(claimed[0].id.0).await, ["delivery.exhausted"]);
    assert_eq!(store.log().await.len(), 1, "neither the cancelled nor the delivered one is told");

    let mut tx = store.begin().await;
    let now = store.clock.now();
    assert!(deliveries::revive(&mut tx, claimed[0].id, Some("{\"b\":2}"), now).await.unwrap());
    assert!(!deliveries::revive(&mut tx, claimed[0].id, None, now).await.unwrap(), "once");
    assert!(!deliveries::revive(&mut tx, claimed[1].id, None, now).await.unwrap(), "not dead");
    tx.commit().await.unwrap();
    let revived = claim(&store, &[(Class::Normal, 9)]).await.remove(0);
    assert_eq!((revived.id, revived.attempt, revived.payload.as_str()), (claimed[0].id, 0, "{\"b\":2}"));
    assert!(!settle(&store, &claimed[0], &done).await, "who held it before holds it no more");
}

async fn the_agenda_knows_now_and_next(store: Store) {
    let agenda = async || {
        let found =
            deliveries::agenda(&mut store.reader().await, Channel::Webhook, store.clock.now()).await.unwrap();
        (found.due, found.next)
    };
    assert_eq!(agenda().await, (false, None));
    let soon = store.clock.now() + Duration::microseconds(1);
    let later = soon + Duration::hours(1);
    let row = |class, due_at| NewDelivery { class, due_at, ..webhook(&store, store.id()) };
    insert(&store, &[row(Class::Low, later)]).await;
    assert_eq!(agenda().await, (false, Some(later)));
    insert(&store, &[row(Class::High, soon)]).await;
    assert_eq!(agenda().await, (false, Some(soon)));
    store.clock.advance(std::time::Duration::from_micros(1));
    assert_eq!(agenda().await, (true, Some(later)));
}
