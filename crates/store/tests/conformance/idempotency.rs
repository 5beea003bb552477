//! Idempotency keys: one claim wins, its twin finds the answer.

use taskpost_common::UserId;
use taskpost_store::{
    StoreError,
    idempotency::{self, KeyId, KeyRow, StoredAnswer},
};
use tokio::task::JoinSet;

use crate::harness::{Store, run, until};

both!(
    a_key_is_claimed_once,
    a_twin_waits_and_finds_the_answer,
    after_a_rollback_the_twin_may_claim,
    claims_in_opposite_orders_end,
    an_answer_can_be_stored_later,
);

pub fn key_row(store: &Store, user_id: UserId, key: &str) -> KeyRow {
    KeyRow {
        id: KeyId { user_id, route: "POST /v1/tasks".to_owned(), key: key.to_owned() },
        body_hash: "0f".repeat(32),
        older_hashes: Vec::new(),
        answer: StoredAnswer {
            status: 201,
            location: Some("/v1/tasks/1".to_owned()),
            etag: None,
            event_id: Some(store.id()),
            body: "{\"a\": 1}".to_owned(),
        },
        created_at: store.clock.now(),
    }
}

async fn a_key_is_claimed_once(store: Store) {
    let (ada, bob) = (store.id(), store.id());
    let first = key_row(&store, ada, "k");
    let mut second = key_row(&store, ada, "k");
    second.answer.body = "{}".to_owned();
    let mut other_route = key_row(&store, ada, "k");
    other_route.id.route = "PATCH /v1/tasks/1".to_owned();
    let others = [key_row(&store, bob, "k"), key_row(&store, ada, "K"), other_route];

    let mut tx = store.begin().await;
    assert_eq!(idempotency::claim(&mut tx, &mut [&first]).await.unwrap(), 1);
    assert_eq!(idempotency::claim(&mut tx, &mut [&second]).await.unwrap(), 0, "taken by itself");
    tx.commit().await.unwrap();
    let mut tx = store.begin().await;
    assert_eq!(idempotency::claim(&mut tx, &mut [&second]).await.unwrap(), 0, "taken before");
    let mut many: Vec<_> = others.iter().chain([&second]).collect();
    assert_eq!(idempotency::claim(&mut tx, &mut many).await.unwrap(), 3, "user, route and key make one");
    let found = idempotency::get(&mut tx, &[&first.id]).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].id, first.id);
    assert_eq!(found[0].answer, first.answer, "what was there is left as it is");
    assert_eq!((&found[0].body_hash, found[0].created_at), (&first.body_hash, first.created_at));
}

/// Another transaction that claims the key, and then reads what is stored.
fn twin(store: &Store, row: &KeyRow) -> tokio::task::JoinHandle<(u64, Vec<KeyRow>)> {
    let (store, row) = (store.clone(), row.clone());
    tokio::spawn(async move {
        let mut tx = store.begin().await;
        let claimed = idempotency::claim(&mut tx, &mut [&row]).await.unwrap();
        let found = idempotency::get(&mut tx, &[&row.id]).await.unwrap();
        tx.commit().await.unwrap();
        (claimed, found)
    })
}

/// Until a transaction waits for another one's row. SQLite's twin waits for its turn to begin at all.
async fn until_a_claim_waits(store: &Store) {
    const WAITING: &str = "
        SELECT count(*) FROM pg_locks AS has JOIN pg_locks AS wants ON wants.pid = has.pid AND NOT wants.granted
        WHERE has.relation = 'idempotency_keys'::regclass";
    if store.db.has_outbox() {
        until("the twin waits", async || (store.number(WAITING).await > 0).then_some(())).await;
    }
}

async fn a_twin_waits_and_finds_the_answer(store: Store) {
    let user = store.id();
    let first = key_row(&store, user, "k");
    let mut tx = store.begin().await;
    idempotency::claim(&mut tx, &mut [&first]).await.unwrap();
    let mut other = key_row(&store, user, "k");
    other.answer.body = "{\"twin\": true}".to_owned();
    let twin = twin(&store, &other);
    until_a_claim_waits(&store).await;
    assert!(!twin.is_finished());
    tx.commit().await.unwrap();
    let (claimed, found) = twin.await.unwrap();
    assert_eq!((claimed, found.len()), (0, 1));
    assert_eq!(found[0].answer, first.answer);
}

async fn after_a_rollback_the_twin_may_claim(store: Store) {
    let row = key_row(&store, store.id(), "k");
    let mut tx = store.begin().await;
    idempotency::claim(&mut tx, &mut [&row]).await.unwrap();
    let twin = twin(&store, &row);
    until_a_claim_waits(&store).await;
    tx.rollback().await.unwrap();
    assert_eq!(twin.await.unwrap().0, 1);
}

/// The one case that takes its time: two seconds is how long Postgres waits for a lock.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_twin_that_takes_too_long_is_a_lock_on_postgres() {
    run(Store::postgres().await, async |store: Store| {
        let row = key_row(&store, store.id(), "k");
        let mut tx = store.begin().await;
        idempotency::claim(&mut tx, &mut [&row]).await.unwrap();
        let mut late = store.begin().await;
        let error = idempotency::claim(&mut late, &mut [&row]).await.unwrap_err();
        assert!(matches!(error, StoreError::Locked(_)) && error.is_transient(), "{error:?}");
        late.rollback().await.unwrap();
        tx.commit().await.unwrap();
    })
    .await;
}

async fn claims_in_opposite_orders_end(store: Store) {
    const ROUNDS: usize = 20;
    const KEYS: usize = 8;
    let user: UserId = store.id();
    let mut writers = JoinSet::new();
    for backwards in [false, true] {
        let store = store.clone();
        writers.spawn(async move {
            let mut claimed = 0;
            for round in 0..ROUNDS {
                let rows: Vec<KeyRow> =
                    (0..KEYS).map(|i| key_row(&store, user, &format!("{round}-{i}"))).collect();
                let mut rows: Vec<&KeyRow> = rows.iter().collect();
                if backwards {
                    rows.reverse();
                }
                let mut tx = store.begin().await;
                claimed += idempotency::claim(&mut tx, &mut rows).await.unwrap();
                tx.commit().await.unwrap();
            }
            claimed
        });
    }
    let claimed: u64 = writers.join_all().await.into_iter().sum();
    assert_eq!(claimed, u64::try_from(ROUNDS * KEYS).unwrap());
}

async fn an_answer_can_be_stored_later(store: Store) {
    let (row, other) = (key_row(&store, store.id(), "k"), key_row(&store, store.id(), "k"));
    let answer = StoredAnswer {
        status: 409,
        location: None,
        etag: Some("\"2\"".to_owned()),
        event_id: None,
        body: "{\"code\":\"x\"}".to_owned(),
    };
    let mut tx = store.begin().await;
    idempotency::claim(&mut tx, &mut [&row, &other]).await.unwrap();
    idempotency::answer(&mut tx, &row.id, &answer).await.unwrap();
    tx.commit().await.unwrap();
    let mut reader = store.reader().await;
    assert_eq!(idempotency::get(&mut reader, &[&row.id]).await.unwrap()[0].answer, answer);
    assert_eq!(idempotency::get(&mut reader, &[&other.id]).await.unwrap()[0].answer, other.answer);
}
