//! The largest calls and the empty ones.

use taskpost_common::{
    Event, EventId, UserId,
    event::{UserData, UserEvent},
    notification::{Channel, Class, Reason},
    user::Roles,
};
use taskpost_store::{
    MAX_BATCH, deliveries, endpoints,
    events::{self, NewEvent, SeenBy},
    idempotency::{self, KeyRow},
    notifications::{self, Decision, InboxFilter, NewNotification},
    tasks::{self, NewTask, TaskFilter},
    users,
};

use crate::{
    deliveries::webhook,
    harness::{Store, plain},
    idempotency::key_row,
    notifications::item,
};

both!(
    the_largest_batch_of_tasks_goes_in,
    the_largest_batch_of_events_goes_in,
    the_largest_batches_of_the_others_go_in,
    empty_lists_do_nothing,
    empty_lists_find_nothing,
);

async fn the_largest_batch_of_tasks_goes_in(store: Store) {
    let (reporter, assignee) = (store.id(), store.id());
    let rows: Vec<_> = (0..MAX_BATCH).map(|_| store.task(reporter, Some(assignee))).collect();
    store.store(&rows).await;
    let listed = tasks::list(
        &mut store.reader().await,
        crate::listing::within(plain(assignee)),
        &TaskFilter::default(),
        None,
        MAX_BATCH + 1,
    )
    .await
    .unwrap()
    .tasks;
    assert_eq!(listed, rows);
    let log = store.log().await;
    let told: Vec<_> =
        log.iter().map(|event| (event.position.0, event.aggregate_id, event.type_name.as_str())).collect();
    let wanted: Vec<_> = rows
        .iter()
        .flat_map(|task| [(task.id.0, "task.created"), (task.id.0, "task.assigned")])
        .zip(1..)
        .map(|((id, name), position)| (position, id, name))
        .collect();
    assert_eq!(told, wanted);
}

async fn the_largest_batch_of_events_goes_in(store: Store) {
    let fact =
        Event::UserRegistered(UserEvent { user: UserData { id: store.id(), roles: Roles::default() } });
    let rows: Vec<NewEvent> = (1..)
        .take(MAX_BATCH)
        .map(|version| NewEvent::new(store.change(), &fact, store.id(), version, SeenBy::default()).unwrap())
        .collect();
    let mut tx = store.begin().await;
    events::append(&mut tx, &rows.iter().collect::<Vec<_>>()).await.unwrap();
    tx.commit().await.unwrap();
    let log = store.log().await;
    assert_eq!(
        log.iter().map(|event| event.id).collect::<Vec<_>>(),
        rows.iter().map(|event| event.id).collect::<Vec<_>>()
    );
    assert!(log.iter().zip(1..).all(|(event, n)| (event.position.0, event.aggregate_version) == (n, n)));
}

async fn the_largest_batches_of_the_others_go_in(store: Store) {
    let user: UserId = store.id();
    let now = store.clock.now();
    let keys: Vec<KeyRow> = (0..MAX_BATCH).map(|i| key_row(&store, user, &format!("k{i}"))).collect();
    let items: Vec<NewNotification> = (0..MAX_BATCH).map(|_| item(&store, user)).collect();
    let hooks: Vec<_> = (0..MAX_BATCH).map(|_| webhook(&store, store.id())).collect();
    let decisions: Vec<Decision> = (0..MAX_BATCH).map(|_| decision(&store, store.id(), user)).collect();

    let mut tx = store.begin().await;
    let claimed = idempotency::claim(&mut tx, &mut keys.iter().collect::<Vec<_>>()).await.unwrap();
    notifications::insert(&mut tx, &items).await.unwrap();
    notifications::insert_decisions(&mut tx, &decisions).await.unwrap();
    let inserted = deliveries::insert(&mut tx, &hooks, now).await.unwrap();
    tx.commit().await.unwrap();

    let most = u64::try_from(MAX_BATCH).unwrap();
    assert_eq!((claimed, inserted), (most, most));
    let mut reader = store.reader().await;
    let ids: Vec<_> = keys.iter().map(|row| &row.id).collect();
    assert_eq!(idempotency::get(&mut reader, &ids).await.unwrap().len(), MAX_BATCH);
    assert_eq!(
        notifications::count(&mut reader, user, &InboxFilter::default()).await.unwrap(),
        most.cast_signed()
    );
    assert_eq!(store.number("SELECT count(*) FROM decisions").await, most.cast_signed());
    let nobody: Vec<UserId> = (0..MAX_BATCH).map(|_| store.id()).collect();
    assert!(users::by_ids(&mut reader, &nobody).await.unwrap().is_empty());
    drop(reader);

    let until = now + chrono::Duration::minutes(1);
    let claimed = deliveries::claim(&store.db, Channel::Webhook, &[(Class::Normal, MAX_BATCH)], now, until)
        .await
        .unwrap();
    let done = crate::deliveries::delivered(&store);
    let outcomes: Vec<_> = claimed.iter().map(|delivery| (delivery, &done)).collect();
    let mut tx = store.begin().await;
    let settled = deliveries::settle_many(&mut tx, store.change(), &outcomes).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(settled, vec![true; MAX_BATCH]);
    assert!(deliveries::unfinished(&mut store.reader().await).await.unwrap().is_empty());
}

async fn empty_lists_do_nothing(store: Store) {
    let mut tx = store.begin().await;
    tasks::insert(&mut tx, &Vec::<&NewTask>::new()).await.unwrap();
    events::append(&mut tx, &[]).await.unwrap();
    assert_eq!(idempotency::claim(&mut tx, &mut []).await.unwrap(), 0);
    notifications::insert(&mut tx, &[]).await.unwrap();
    notifications::insert_decisions(&mut tx, &[]).await.unwrap();
    assert_eq!(deliveries::insert(&mut tx, &[], store.clock.now()).await.unwrap(), 0);
    assert!(deliveries::settle_many(&mut tx, store.change(), &[]).await.unwrap().is_empty());
    tx.commit().await.unwrap();
    assert!(store.log().await.is_empty());
}

async fn empty_lists_find_nothing(store: Store) {
    store.store(&[store.task(store.id(), None)]).await;
    let mut reader = store.reader().await;
    assert!(users::by_ids(&mut reader, &[]).await.unwrap().is_empty());
    assert!(users::taken_handles(&mut reader, &[]).await.unwrap().is_empty());
    assert!(tasks::assignable(&mut reader, &[]).await.unwrap().is_empty());
    assert!(idempotency::get(&mut reader, &[]).await.unwrap().is_empty());
    assert!(endpoints::by_ids(&mut reader, &[]).await.unwrap().is_empty());
    // In a filter an empty list asks for nothing in particular.
    assert_eq!(
        tasks::list(&mut reader, crate::listing::within(store.admin()), &TaskFilter::default(), None, 10)
            .await
            .unwrap()
            .tasks
            .len(),
        1
    );
    assert!(
        tasks::list(&mut reader, crate::listing::within(store.admin()), &TaskFilter::default(), None, 0)
            .await
            .unwrap()
            .tasks
            .is_empty()
    );
}

pub fn decision(store: &Store, event_id: EventId, user_id: UserId) -> Decision {
    Decision {
        event_id,
        user_id,
        channel: Channel::InApp,
        sent: true,
        reason: Reason::Assigned,
        rule: "default",
        delivery_id: None,
        at: store.clock.now(),
    }
}
