//! Deliveries that a broker has: told of once, claimed by their ids, and never stuck.

use std::collections::BTreeSet;

use chrono::Duration;
use taskpost_common::{
    DeliveryId,
    delivery::AttemptOutcome,
    notification::{Channel, Class},
};
use taskpost_store::{
    MAX_BATCH,
    deliveries::{self, Announcement, Delivery, NewDelivery, Settlement},
};
use tokio::task::JoinSet;

use crate::{
    deliveries::{attempt, delivered, insert, lease_end, settle, webhook},
    harness::Store,
};

both!(
    what_a_broker_has_is_not_announced_again_nor_claimed_by_others,
    what_was_claimed_meanwhile_is_not_marked,
    ids_are_claimed_when_they_are_due_and_by_one,
    no_two_claims_get_the_same_id,
    a_new_time_takes_a_delivery_from_the_broker,
    what_a_broker_seems_to_have_lost_is_found,
    the_largest_batches_by_id_go_in,
);

async fn store_of(store: &Store, class: Class, rows: usize) -> Vec<NewDelivery> {
    let rows: Vec<_> = (0..rows).map(|_| NewDelivery { class, ..webhook(store, store.id()) }).collect();
    insert(store, &rows).await;
    rows
}

async fn unannounced(store: &Store) -> Vec<Announcement> {
    let now = store.clock.now();
    deliveries::unannounced(&mut store.reader().await, Channel::Webhook, now, 10).await.unwrap()
}

async fn mark(store: &Store, announced: &[Announcement]) -> u64 {
    let told: Vec<_> = announced.iter().map(|it| (it.id, it.lease)).collect();
    deliveries::mark_queued(&store.db, &told, store.clock.now()).await.unwrap()
}

async fn claim(store: &Store, ids: &[DeliveryId]) -> Vec<Delivery> {
    let now = store.clock.now();
    deliveries::claim_by_id(&store.db, Channel::Webhook, ids, now, lease_end(now)).await.unwrap()
}

/// Whether the row says that a broker has it.
async fn is_queued(store: &Store, id: DeliveryId) -> bool {
    let now = store.clock.now();
    let told = deliveries::queued(&mut store.reader().await, Channel::Webhook, now, 100).await.unwrap();
    told.contains(&id)
}

async fn what_a_broker_has_is_not_announced_again_nor_claimed_by_others(store: Store) {
    store_of(&store, Class::Low, 12).await;
    let high = store_of(&store, Class::High, 1).await;
    let due = unannounced(&store).await;
    assert_eq!(
        (due.len(), due[0].id, due[0].lease),
        (11, high[0].id, 0),
        "so many of each class, high first"
    );
    assert_eq!(mark(&store, &due).await, 11);
    assert_eq!(unannounced(&store).await.len(), 2, "what was beyond the limit");
    mark(&store, &unannounced(&store).await).await;
    assert!(unannounced(&store).await.is_empty());

    let now = store.clock.now();
    let mut reader = store.reader().await;
    assert!(deliveries::due(&mut reader, Channel::Webhook, now, 9).await.unwrap().is_empty());
    let agenda = deliveries::agenda(&mut reader, Channel::Webhook, now).await.unwrap();
    assert_eq!((agenda.due, agenda.next), (false, None));
    drop(reader);
    let places = [(Class::High, 9), (Class::Low, 9)];
    let claimed = deliveries::claim(&store.db, Channel::Webhook, &places, now, lease_end(now)).await.unwrap();
    assert!(claimed.is_empty(), "the broker has them");

    let told = deliveries::queued(&mut store.reader().await, Channel::Webhook, now, 100).await.unwrap();
    assert_eq!(told.len(), 13);
    assert_eq!(deliveries::unqueue(&store.db, &told).await.unwrap(), 13);
    let again = deliveries::claim(&store.db, Channel::Webhook, &places, now, lease_end(now)).await.unwrap();
    assert_eq!((again.len(), again[0].id), (1 + 9, high[0].id));
}

async fn what_was_claimed_meanwhile_is_not_marked(store: Store) {
    let rows = store_of(&store, Class::Normal, 3).await;
    let read = unannounced(&store).await;
    let claimed = claim(&store, &[rows[0].id]).await.remove(0);
    let done = claim(&store, &[rows[1].id]).await.remove(0);
    assert!(settle(&store, &done, &delivered(&store)).await);
    assert_eq!(mark(&store, &read).await, 1, "the third alone");
    assert!(!is_queued(&store, claimed.id).await && !is_queued(&store, done.id).await);
    assert_eq!(store.number("SELECT count(*) FROM deliveries WHERE state = 'queued'").await, 1);

    store.clock.advance(std::time::Duration::from_secs(31));
    let ended = unannounced(&store).await;
    assert_eq!((ended.len(), ended[0].id, ended[0].lease), (1, claimed.id, 1), "its lease ended");
    assert_eq!(mark(&store, &ended).await, 1);
    assert!(settle(&store, &claimed, &delivered(&store)).await, "late, but nobody claimed it since");
}

async fn ids_are_claimed_when_they_are_due_and_by_one(store: Store) {
    let rows = store_of(&store, Class::Normal, 2).await;
    let later =
        NewDelivery { due_at: store.clock.now() + Duration::seconds(5), ..webhook(&store, store.id()) };
    insert(&store, std::slice::from_ref(&later)).await;
    let ids = [rows[0].id, later.id, store.id(), rows[0].id];
    mark(&store, &unannounced(&store).await).await;
    let claimed = claim(&store, &ids).await;
    assert_eq!(claimed.len(), 1, "early and unknown ones are claimed by nobody");
    let first = &claimed[0];
    assert_eq!((first.id, first.lease, first.due_at), (rows[0].id, 1, lease_end(store.clock.now())));
    assert!(claim(&store, &ids).await.is_empty(), "leased");
    assert!(settle(&store, first, &delivered(&store)).await);
    store.clock.advance(std::time::Duration::from_mins(1));
    let claimed = claim(&store, &ids).await;
    assert_eq!(claimed.iter().map(|it| it.id).collect::<Vec<_>>(), [later.id], "the first is finished");
    let (now, other) = (store.clock.now(), [rows[1].id]);
    let elsewhere = deliveries::claim_by_id(&store.db, Channel::Email, &other, now, lease_end(now));
    assert!(elsewhere.await.unwrap().is_empty(), "another channel's");
    let times = deliveries::due_times(&store.db, Channel::Webhook, &ids).await.unwrap();
    assert_eq!(times, [(later.id, lease_end(now))], "without the finished and the unknown");
    assert!(claim(&store, &[]).await.is_empty());
}

async fn no_two_claims_get_the_same_id(store: Store) {
    let rows = store_of(&store, Class::Normal, 60).await;
    let ids: Vec<_> = rows.iter().map(|row| row.id).collect();
    let mut workers = JoinSet::new();
    for start in 0..6 {
        let (store, mut ids) = (store.clone(), ids.clone());
        ids.rotate_left(start * 10);
        workers.spawn(async move {
            let mut mine = Vec::new();
            for ids in ids.chunks(7) {
                mine.extend(claim(&store, ids).await);
            }
            mine
        });
    }
    let claimed = workers.join_all().await.concat();
    let distinct: BTreeSet<_> = claimed.iter().map(|row| row.id).collect();
    assert_eq!((claimed.len(), distinct.len()), (60, 60));
}

async fn a_new_time_takes_a_delivery_from_the_broker(store: Store) {
    let id = store_of(&store, Class::Normal, 1).await[0].id;
    let retry_at = store.clock.now() + Duration::seconds(10);
    let retry = Settlement::Retry(attempt(&store, AttemptOutcome::Failed), retry_at);
    let bury = Settlement::Bury(attempt(&store, AttemptOutcome::Rejected), "no".to_owned());
    for settlement in [&Settlement::Snooze(store.clock.now()), &retry, &bury] {
        assert_eq!(mark(&store, &unannounced(&store).await).await, 1);
        assert!(is_queued(&store, id).await);
        let claimed = claim(&store, &[id]).await.remove(0);
        assert!(!is_queued(&store, id).await, "claimed");
        assert!(settle(&store, &claimed, settlement).await);
        assert!(!is_queued(&store, id).await, "{settlement:?}");
        let told = (claimed.id, claimed.lease);
        let marked = deliveries::mark_queued(&store.db, &[told], store.clock.now()).await.unwrap();
        if matches!(settlement, Settlement::Retry(..)) {
            assert_eq!((marked, is_queued(&store, id).await), (1, true), "its step has it");
            assert_eq!(store.number("SELECT count(*) FROM deliveries WHERE state = 'retrying'").await, 1);
            assert!(unannounced(&store).await.is_empty());
        }
        deliveries::unqueue(&store.db, &[id]).await.unwrap();
        store.clock.advance(std::time::Duration::from_secs(5));
    }
    let mut tx = store.begin().await;
    assert!(deliveries::revive(&mut tx, id, None, store.clock.now()).await.unwrap());
    tx.commit().await.unwrap();
    assert!(!is_queued(&store, id).await);
    assert_eq!(unannounced(&store).await.len(), 1);
}

async fn what_a_broker_seems_to_have_lost_is_found(store: Store) {
    let rows = store_of(&store, Class::Low, 4).await;
    mark(&store, &unannounced(&store).await).await;
    claim(&store, &[rows[3].id]).await;
    let overdue = async |but, limit| {
        let before = store.clock.now() - Duration::seconds(60);
        let lane = (Channel::Webhook, Class::Low);
        deliveries::overdue(&mut store.reader().await, lane, before, but, limit).await.unwrap()
    };
    assert!(overdue(0, 9).await.is_empty(), "told of just now");
    store.clock.advance(std::time::Duration::from_mins(1));
    assert_eq!(overdue(0, 9).await.len(), 3, "the claimed one is not with the broker");
    assert_eq!(overdue(0, 2).await.len(), 2);
    assert!(overdue(3, 9).await.is_empty(), "the broker still has as many");
    let lost = overdue(2, 9).await;
    assert_eq!((lost.len(), lost[0].class), (1, Class::Low));
    assert_eq!(mark(&store, &lost).await, 1, "told of again");
    assert_eq!(overdue(0, 9).await.len(), 2);
}

async fn the_largest_batches_by_id_go_in(store: Store) {
    let rows = store_of(&store, Class::Normal, MAX_BATCH).await;
    let ids: Vec<_> = rows.iter().map(|row| row.id).collect();
    let told: Vec<_> = ids.iter().map(|id| (*id, 0)).collect();
    let most = u64::try_from(MAX_BATCH).unwrap();
    assert_eq!(deliveries::mark_queued(&store.db, &told, store.clock.now()).await.unwrap(), most);
    assert_eq!(deliveries::due_times(&store.db, Channel::Webhook, &ids).await.unwrap().len(), MAX_BATCH);
    assert_eq!(deliveries::unqueue(&store.db, &ids).await.unwrap(), most);
    assert_eq!(claim(&store, &ids).await.len(), MAX_BATCH);
    assert_eq!(deliveries::mark_queued(&store.db, &[], store.clock.now()).await.unwrap(), 0);
    assert_eq!(deliveries::unqueue(&store.db, &[]).await.unwrap(), 0);
}
