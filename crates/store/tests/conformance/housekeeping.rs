//! What is kept for a while only.

use chrono::{DateTime, Duration, Utc};
use taskpost_common::{
    delivery::AttemptOutcome,
    notification::{Channel, Class},
};
use taskpost_store::{
    deliveries::{self, Attempt, Settlement},
    housekeeping, idempotency, sessions,
};

use crate::{deliveries::webhook, harness::Store, idempotency::key_row};

both!(only_what_is_past_its_time_goes, a_sweep_takes_no_more_than_its_limit);

/// One key, one try and one refresh token of the present moment.
async fn leave_traces(store: &Store, name: &str) {
    let now = store.clock.now();
    let user = store.user(name).await;
    let session = store.id();
    let key = key_row(store, user.id, name);
    let mut tx = store.begin().await;
    idempotency::claim(&mut tx, &mut [&key]).await.unwrap();
    let until = now + Duration::days(90);
    sessions::insert(&mut tx, store.change(), &user, session, until, "a test").await.unwrap();
    sessions::insert_refresh(&mut tx, store.change(), session, name, now).await.unwrap();
    deliveries::insert(&mut tx, &[webhook(store, store.id())], now).await.unwrap();
    tx.commit().await.unwrap();

    let claimed = deliveries::claim(
        &store.db,
        Channel::Webhook,
        &[(Class::Normal, 1)],
        now,
        now + Duration::minutes(1),
    )
    .await
    .unwrap();
    let tried = Attempt {
        outcome: AttemptOutcome::Delivered,
        status_code: Some(200),
        error: None,
        excerpt: None,
        started_at: now,
        duration_ms: 1,
    };
    let mut tx = store.begin().await;
    deliveries::settle(&mut tx, store.change(), &claimed[0], &Settlement::Delivered(tried)).await.unwrap();
    tx.commit().await.unwrap();
}

async fn left(store: &Store) -> [i64; 3] {
    [
        store.number("SELECT count(*) FROM idempotency_keys").await,
        store.number("SELECT count(*) FROM refresh_tokens").await,
        store.number("SELECT count(*) FROM attempts").await,
    ]
}

async fn only_what_is_past_its_time_goes(store: Store) {
    let start = store.clock.now();
    leave_traces(&store, "old").await;
    store.clock.advance(std::time::Duration::from_secs(1));
    leave_traces(&store, "young").await;
    let (day, tick) = (Duration::days(1), Duration::microseconds(1));
    let table: [(DateTime<Utc>, u64, [i64; 3]); 7] = [
        (start, 0, [2, 2, 2]),
        (start + day, 0, [2, 2, 2]),
        (start + day + tick, 1, [1, 2, 2]),
        (start + day * 7, 1, [0, 2, 2]),
        (start + day * 7 + tick, 1, [0, 1, 2]),
        (start + day * 30 + tick, 2, [0, 0, 1]),
        (start + day * 31, 1, [0, 0, 0]),
    ];
    for (now, gone, rest) in table {
        assert_eq!(housekeeping::sweep(&store.db, now, 100).await.unwrap(), gone, "{now}");
        assert_eq!(left(&store).await, rest, "{now}");
    }
    assert_eq!(store.number("SELECT count(*) FROM users").await, 2);
    assert_eq!(store.number("SELECT count(*) FROM sessions").await, 2);
    assert_eq!(store.number("SELECT count(*) FROM deliveries").await, 2);
}

async fn a_sweep_takes_no_more_than_its_limit(store: Store) {
    for name in ["a", "b", "c", "d", "e"] {
        leave_traces(&store, name).await;
        store.clock.advance(std::time::Duration::from_secs(1));
    }
    let now = store.clock.now() + Duration::days(60);
    for (gone, rest) in [(6, [3, 3, 3]), (6, [1, 1, 1]), (3, [0, 0, 0]), (0, [0, 0, 0])] {
        assert_eq!(housekeeping::sweep(&store.db, now, 2).await.unwrap(), gone);
        assert_eq!(left(&store).await, rest);
    }
}
