//! Users.

use taskpost_common::user::{Role, Roles, UserStatus};
use taskpost_store::{tasks, users};
use tokio::task::JoinSet;

use crate::harness::Store;

both!(
    a_user_comes_back_as_stored,
    an_email_is_found_as_it_is_stored,
    only_the_active_can_be_assigned,
    of_many_at_once_one_is_the_first,
);

async fn a_user_comes_back_as_stored(store: Store) {
    let mut user = store.somebody("ada");
    user.roles = Roles::from(vec![Role::Moderator, Role::Admin]);
    user.name = "Ada Ünï 😀".to_owned();
    let mut tx = store.begin().await;
    users::insert(&mut tx, store.change(), &user, "the hash").await.unwrap();
    tx.commit().await.unwrap();
    let mut reader = store.reader().await;
    let (back, hash) = users::by_email(&mut reader, &user.email).await.unwrap().unwrap();
    assert_eq!(serde_json::to_value(&back).unwrap(), serde_json::to_value(&user).unwrap());
    assert_eq!(hash, "the hash");
    assert!(users::get(&mut reader, user.id).await.unwrap().unwrap().roles.is_admin());
    assert!(users::get(&mut reader, store.id()).await.unwrap().is_none());
    assert_eq!(store.told_of(user.id.0).await, ["user.registered"]);
}

/// Callers make it lower case; the store compares what it is given, on both databases.
async fn an_email_is_found_as_it_is_stored(store: Store) {
    let user = store.user("ada").await;
    let mut reader = store.reader().await;
    for (email, found) in [("ada@example.org", true), ("ADA@example.org", false), ("ada@example.or_", false)]
    {
        assert_eq!(users::by_email(&mut reader, email).await.unwrap().is_some(), found, "{email}");
    }
    let handles = ["Ada", "ada", "bob"].map(str::to_owned);
    assert_eq!(users::taken_handles(&mut reader, &handles).await.unwrap(), ["ada"]);
    let found = users::by_ids(&mut reader, &[user.id, store.id(), user.id]).await.unwrap();
    assert_eq!(found.iter().map(|user| user.id).collect::<Vec<_>>(), [user.id]);
}

async fn only_the_active_can_be_assigned(store: Store) {
    let active = store.user("ada").await;
    let mut disabled = store.somebody("bob");
    disabled.status = UserStatus::Disabled;
    let mut tx = store.begin().await;
    users::insert(&mut tx, store.change(), &disabled, "hash").await.unwrap();
    tx.commit().await.unwrap();
    let asked = [disabled.id, store.id(), active.id];
    assert_eq!(tasks::assignable(&mut store.reader().await, &asked).await.unwrap(), [active.id]);
}

async fn of_many_at_once_one_is_the_first(store: Store) {
    let mut crowd = JoinSet::new();
    for i in 0..6 {
        let store = store.clone();
        crowd.spawn(async move {
            let mut tx = store.begin().await;
            let first = users::is_first(&mut tx).await.unwrap();
            users::insert(&mut tx, store.change(), &store.somebody(&format!("u{i}")), "hash").await.unwrap();
            tx.commit().await.unwrap();
            first
        });
    }
    let firsts = crowd.join_all().await;
    assert_eq!(firsts.iter().filter(|first| **first).count(), 1);
}
