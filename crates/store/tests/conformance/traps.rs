//! Where the two databases differ by nature, and the store must not.

use std::collections::HashSet;

use chrono::{DateTime, Duration, Utc};
use taskpost_common::{
    Clock, Event,
    delivery::DeliveryState,
    event::{TaskUpdated, UserData, UserEvent},
    notification::{Channel, Class},
};
use taskpost_store::{
    Db, StoreError,
    deliveries::{self, NewDelivery},
    endpoints,
    events::{self, EventFilter, NewEvent, SeenBy},
    notifications::{self, InboxFilter},
    tasks::{self, TaskFilter, TaskOrder},
    users,
};

use crate::{
    endpoints::endpoint,
    harness::{Store, run},
    notifications::item,
};

both!(
    times_come_back_to_the_microsecond,
    times_sort_by_time_however_many_digits_they_have,
    a_unique_violation_ends_its_transaction,
    payloads_come_back_to_the_byte,
    event_data_are_objects_that_decode,
    text_is_no_id,
    patterns_keep_their_case,
    counts_are_whole_numbers,
);

async fn times_come_back_to_the_microsecond(store: Store) {
    for clock in [store.clock.clone(), Clock::system()] {
        let mut task = store.task(store.id(), None);
        (task.created_at, task.updated_at) = (clock.now(), clock.now());
        task.due_at = Some(clock.now() + Duration::microseconds(1));
        store.store(std::slice::from_ref(&task)).await;
        assert_eq!(store.stored(task.id).await.unwrap(), task);
    }
    let log = store.log().await;
    assert!(log.iter().all(|event| event.at == store.clock.now()));
}

/// SQLite compares times as text, and writes only the digits a time has.
async fn times_sort_by_time_however_many_digits_they_have(store: Store) {
    let second = DateTime::<Utc>::from_timestamp(1_800_000_000, 0).unwrap();
    let micros =
        [0, 1, 10, 100_000, 100_001, 120_000, 123_000, 123_400, 123_456, 999_999, 1_000_000, 60_000_000];
    let (reporter, project) = (store.id(), store.id());
    let mut rows: Vec<_> = micros
        .iter()
        .map(|micros| {
            let mut task = store.task(reporter, None);
            // A personal one that nobody changed would stand at the time in its id.
            task.project_id = Some(project);
            task.updated_at = second + Duration::microseconds(*micros);
            task.created_at = task.updated_at;
            task
        })
        .collect();
    rows.reverse();
    store.store(&rows).await;
    rows.reverse();

    let mut filter = TaskFilter { order: TaskOrder::UpdatedAt, ..TaskFilter::default() };
    let listed =
        tasks::list(&mut store.reader().await, crate::listing::within(store.admin()), &filter, None, 50)
            .await
            .unwrap()
            .tasks;
    assert_eq!(listed, rows);
    for (i, task) in rows.iter().enumerate() {
        filter.created_from = Some(task.created_at);
        let listed =
            tasks::list(&mut store.reader().await, crate::listing::within(store.admin()), &filter, None, 50)
                .await
                .unwrap()
                .tasks;
        assert_eq!(listed, rows[i..], "from {}", task.created_at);
    }
}

/// Postgres aborts a transaction at the first error; SQLite would go on. So an error is a transaction's end.
async fn a_unique_violation_ends_its_transaction(store: Store) {
    let ada = store.user("ada").await;
    let mut same_mail = store.somebody("ada_2");
    same_mail.email.clone_from(&ada.email);
    let mut same_handle = store.somebody("ada");
    same_handle.email = "other@example.org".to_owned();
    for (clash, covers) in [(same_mail, "email"), (same_handle, "handle")] {
        let mut tx = store.begin().await;
        users::insert(&mut tx, store.change(), &store.somebody("bob"), "hash").await.unwrap();
        let error = users::insert(&mut tx, store.change(), &clash, "hash").await.unwrap_err();
        assert!(matches!(&error, StoreError::Constraint(name) if name.contains(covers)), "{error:?}");
        assert!(!error.is_transient());
        if store.db.has_outbox() {
            let after = users::get(&mut tx, ada.id).await.unwrap_err();
            assert!(matches!(after, StoreError::Refused(_)), "{after:?}");
        }
        tx.rollback().await.unwrap();
    }
    store.user("bob").await;
    let log = store.log().await;
    assert_eq!(
        log.iter().map(|event| event.position.0).collect::<Vec<_>>(),
        [1, 2],
        "ada's and the last bob's"
    );
    assert_eq!(store.number("SELECT count(*) FROM users").await, 2);
}

/// Why nobody may commit after an error: Postgres answers ROLLBACK to that COMMIT, and sqlx passes it for a success.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_after_an_error_lies_on_postgres() {
    run(Store::postgres().await, async |store: Store| {
        let ada = store.user("ada").await;
        let mut tx = store.begin().await;
        users::insert(&mut tx, store.change(), &store.somebody("bob"), "hash").await.unwrap();
        users::insert(&mut tx, store.change(), &ada, "hash").await.unwrap_err();
        let answer = tx.commit().await;
        assert!(
            answer.is_ok(),
            "{answer:?}: the store tells now, so Tx::commit may be trusted after an error"
        );
        assert_eq!(store.number("SELECT count(*) FROM users").await, 1, "bob is gone");
    })
    .await;
}

/// A JSON column of SQLite's would make integers of some of these.
async fn payloads_come_back_to_the_byte(store: Store) {
    let payloads =
        ["{\"a\": 1.0,\"b\":1e3, \"ü\":\"\\u0000😀\"}", "42", "007", "1e3", "\"x\"", "null", " { } "];
    let rows: Vec<NewDelivery> = payloads
        .iter()
        .map(|payload| NewDelivery {
            id: store.id(),
            channel: Channel::Email,
            class: Class::Normal,
            event_id: store.id(),
            user_id: Some(store.id()),
            endpoint_id: None,
            notification_id: None,
            payload: (*payload).to_owned(),
            traceparent: None,
            due_at: store.clock.now(),
        })
        .collect();
    let mut tx = store.begin().await;
    deliveries::insert(&mut tx, &rows, store.clock.now()).await.unwrap();
    tx.commit().await.unwrap();
    let now = store.clock.now();
    let places = [(Class::Normal, 50)];
    let claimed =
        deliveries::claim(&store.db, Channel::Email, &places, now, now + Duration::minutes(1)).await.unwrap();
    let back: Vec<&str> = claimed.iter().map(|delivery| delivery.payload.as_str()).collect();
    assert_eq!(back, payloads);
    assert!(claimed.iter().all(|delivery| delivery.state == DeliveryState::Sending));
}

async fn event_data_are_objects_that_decode(store: Store) {
    let user = store.somebody("ada");
    let task = store.task(user.id, None);
    let changes = [("title".to_owned(), [1.into(), serde_json::Value::Null])].into();
    let facts = [
        Event::UserRegistered(UserEvent { user: UserData { id: user.id, roles: user.roles } }),
        Event::TaskUpdated(TaskUpdated { task: task.reference(), changes }),
    ];
    let rows: Vec<NewEvent> = facts
        .iter()
        .map(|fact| NewEvent::new(store.change(), fact, task.id.0, 7, SeenBy::default()).unwrap())
        .collect();
    let mut tx = store.begin().await;
    events::append(&mut tx, &rows.iter().collect::<Vec<_>>()).await.unwrap();
    tx.commit().await.unwrap();
    for (event, fact) in store.log().await.iter().zip(&facts) {
        assert!(serde_json::from_str::<serde_json::Map<_, _>>(&event.data).is_ok(), "{}", event.data);
        assert_eq!(event.decode().unwrap(), *fact);
        assert_eq!(
            (event.aggregate_id, event.aggregate_version, event.actor_id),
            (task.id.0, 7, store.cause.actor_id)
        );
        assert_eq!((event.owner_id, event.assignee_id, event.project_id), (None, None, None));
        assert_eq!((event.correlation_id, event.at), (store.cause.correlation_id, store.clock.now()));
    }
}

/// What runs over and over would else go round all connections, and find none of them warm.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lane_is_one_connection() {
    run(Store::postgres().await, async |store: Store| {
        let backends = async |db: &Db| {
            let Db::Postgres { read, .. } = db else { panic!("a case for Postgres") };
            let mut backends = HashSet::<i32>::new();
            for _ in 0..5 {
                backends.insert(sqlx::query_scalar("SELECT pg_backend_pid()").fetch_one(read).await.unwrap());
            }
            backends
        };
        let lane = store.db.lane();
        assert_eq!(backends(&lane).await.len(), 1);
        assert!(backends(&store.db).await.is_disjoint(&backends(&lane).await));
        // Transactions are begun elsewhere, where what is left of them is rolled back.
        let reader = lane.reader().await.unwrap();
        lane.begin().await.unwrap().rollback().await.unwrap();
        drop(reader);
    })
    .await;
}

/// Only STRICT tables keep SQLite from taking it; Postgres refuses a bound text, though it reads a literal.
async fn text_is_no_id(store: Store) {
    let id = store.clock.id::<uuid::Uuid>().to_string();
    let refused = match &store.db {
        Db::Postgres { write, .. } => {
            let sql =
                "INSERT INTO sessions (id, user_id, created_at, expires_at) VALUES ($1, $1, now(), now())";
            sqlx::query(sql)
                .bind(id)
                .execute(write)
                .await
                .unwrap_err()
                .to_string()
                .contains("is of type uuid")
        }
        Db::Sqlite { write, .. } => {
            let sql = "INSERT INTO group_progress VALUES ('g', '', $1, '')";
            assert!(sqlx::query(sql).bind(&id).execute(write).await.is_err(), "text for a number");
            let sql = "INSERT INTO sessions (id, user_id, created_at, expires_at) VALUES ($1, $1, '', '')";
            sqlx::query(sql)
                .bind(id)
                .execute(write)
                .await
                .unwrap_err()
                .to_string()
                .contains("cannot store TEXT")
        }
    };
    assert!(refused);
}

/// LIKE knows no case on SQLite; types are compared otherwise.
async fn patterns_keep_their_case(store: Store) {
    store.store(&[store.task(store.id(), None)]).await;
    store.log().await;
    for (types, found) in [("task.*", 1), ("Task.*", 0), ("TASK.CREATED", 0), ("t_sk.*", 0), ("%.*", 0)] {
        let filter = EventFilter { types: vec![types.to_owned()], project_id: None };
        let mut reader = store.reader().await;
        let (page, _) =
            events::visible_after(&mut reader, store.admin(), 0.into(), &filter, 10).await.unwrap();
        assert_eq!(page.len(), found, "{types}");
    }
}

async fn counts_are_whole_numbers(store: Store) {
    let user = store.user("ada").await;
    let target = endpoint(&store, user.id);
    let mut tx = store.begin().await;
    endpoints::insert(&mut tx, &target).await.unwrap();
    notifications::insert(&mut tx, &[item(&store, user.id), item(&store, user.id)]).await.unwrap();
    deliveries::insert(&mut tx, &[crate::deliveries::webhook(&store, target.id)], store.clock.now())
        .await
        .unwrap();
    tx.commit().await.unwrap();
    let mut reader = store.reader().await;
    assert_eq!(notifications::count(&mut reader, user.id, &InboxFilter::default()).await.unwrap(), 2);
    assert_eq!(deliveries::unfinished(&mut reader).await.unwrap(), [("webhook".to_owned(), 1)]);
    assert_eq!(
        deliveries::due(&mut reader, Channel::Webhook, store.clock.now(), 100).await.unwrap(),
        [(Class::Normal, 1)]
    );
    assert_eq!(taskpost_store::dead_letters::count_dead(&mut reader).await.unwrap(), 0);
    let backlog = events::outbox_backlog(&mut reader).await.unwrap();
    assert_eq!(backlog, if store.db.has_outbox() { (1, Some(store.clock.now())) } else { (0, None) });
}
