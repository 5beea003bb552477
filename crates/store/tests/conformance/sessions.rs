//! Sessions and refresh tokens.

use chrono::Duration;
use taskpost_common::{SessionId, user::User};
use taskpost_store::sessions::{self, Refresh};
use tokio::task::JoinSet;

use crate::harness::Store;

both!(
    a_session_ends_once,
    revoked_sessions_are_listed_from_a_moment_on,
    of_many_uses_of_a_token_one_is_good,
    a_used_token_that_comes_back_is_known,
    what_is_past_its_time_is_invalid,
);

async fn open(store: &Store, user: &User, digest: &str) -> SessionId {
    let (id, until) = (store.id(), store.clock.now() + Duration::days(30));
    let mut tx = store.begin().await;
    sessions::insert(&mut tx, store.change(), user, id, until, "a test").await.unwrap();
    let token_until = store.clock.now() + Duration::days(7);
    sessions::insert_refresh(&mut tx, store.change(), id, digest, token_until).await.unwrap();
    tx.commit().await.unwrap();
    id
}

async fn revoke(store: &Store, user: &User, id: SessionId) -> bool {
    let mut tx = store.begin().await;
    let event = sessions::revoke(&mut tx, store.change(), user, id).await.unwrap();
    tx.commit().await.unwrap();
    event.is_some()
}

async fn refresh(store: &Store, digest: &str) -> Refresh {
    let mut tx = store.begin().await;
    let outcome = sessions::use_refresh(&mut tx, digest, store.clock.now()).await.unwrap();
    tx.commit().await.unwrap();
    outcome
}

async fn a_session_ends_once(store: Store) {
    let (ada, bob) = (store.user("ada").await, store.user("bob").await);
    let id = open(&store, &ada, "d").await;
    assert!(!revoke(&store, &bob, id).await, "not bob's");
    assert!(revoke(&store, &ada, id).await);
    assert!(!revoke(&store, &ada, id).await, "already");
    assert!(!revoke(&store, &ada, store.id()).await, "unknown");
    assert_eq!(store.told_of(ada.id.0).await, ["user.registered", "user.logged_in", "user.logged_out"]);
}

async fn revoked_sessions_are_listed_from_a_moment_on(store: Store) {
    let ada = store.user("ada").await;
    let start = store.clock.now();
    let mut ids = Vec::new();
    for digest in ["a", "b", "c"] {
        let id = open(&store, &ada, digest).await;
        store.clock.advance(std::time::Duration::from_secs(1));
        if digest != "b" {
            revoke(&store, &ada, id).await;
            ids.push(id);
        }
    }
    let since = async |seconds| {
        let at = start + Duration::seconds(seconds);
        let mut found = sessions::revoked_since(&mut store.reader().await, at).await.unwrap();
        found.sort_unstable();
        found
    };
    assert_eq!(since(0).await, ids);
    assert_eq!(since(1).await, ids, "the moment itself counts");
    assert_eq!(since(2).await, ids[1..]);
    assert_eq!(since(4).await, []);
}

async fn of_many_uses_of_a_token_one_is_good(store: Store) {
    let ada = store.user("ada").await;
    let id = open(&store, &ada, "d").await;
    let mut crowd = JoinSet::new();
    for _ in 0..20 {
        let store = store.clone();
        crowd.spawn(async move { refresh(&store, "d").await });
    }
    let outcomes = crowd.join_all().await;
    let count = |wanted| outcomes.iter().filter(|outcome| **outcome == wanted).count();
    assert_eq!(count(Refresh::Used(id, ada.id)), 1, "{outcomes:?}");
    assert_eq!(count(Refresh::Reused(id, ada.id)), 19, "{outcomes:?}");
}

async fn a_used_token_that_comes_back_is_known(store: Store) {
    let ada = store.user("ada").await;
    let id = open(&store, &ada, "d").await;
    // One that is rolled back was not used.
    let mut tx = store.begin().await;
    assert_eq!(
        sessions::use_refresh(&mut tx, "d", store.clock.now()).await.unwrap(),
        Refresh::Used(id, ada.id)
    );
    tx.rollback().await.unwrap();
    assert_eq!(refresh(&store, "d").await, Refresh::Used(id, ada.id));
    assert_eq!(refresh(&store, "d").await, Refresh::Reused(id, ada.id));
    store.clock.advance(std::time::Duration::from_hours(6 * 24));
    assert_eq!(refresh(&store, "d").await, Refresh::Reused(id, ada.id), "as long as the session lasts");
    revoke(&store, &ada, id).await;
    assert_eq!(refresh(&store, "d").await, Refresh::Invalid, "its session has ended");
}

async fn what_is_past_its_time_is_invalid(store: Store) {
    let ada = store.user("ada").await;
    let ended = open(&store, &ada, "ended").await;
    revoke(&store, &ada, ended).await;
    let id = open(&store, &ada, "d").await;
    assert_eq!(refresh(&store, "ended").await, Refresh::Invalid);
    assert_eq!(refresh(&store, "unknown").await, Refresh::Invalid);
    assert_eq!(refresh(&store, "D").await, Refresh::Invalid, "digests keep their case");
    store.clock.advance(std::time::Duration::from_hours(7 * 24));
    assert_eq!(refresh(&store, "d").await, Refresh::Invalid, "the token has expired, to the microsecond");
    let late = store.clock.now() + Duration::days(30);
    let mut tx = store.begin().await;
    sessions::insert_refresh(&mut tx, store.change(), id, "late", late).await.unwrap();
    tx.commit().await.unwrap();
    store.clock.advance(std::time::Duration::from_hours(23 * 24));
    assert_eq!(
        refresh(&store, "late").await,
        Refresh::Used(id, ada.id),
        "a session lasts as long as its last token"
    );
    store.clock.advance(std::time::Duration::from_hours(7 * 24));
    assert_eq!(refresh(&store, "late").await, Refresh::Invalid, "the session has expired");
}
