//! Of many who ask for a lease one has it, and after its end another.

use std::time::Duration;

use taskpost_store::{Db, leases};
use uuid::Uuid;

use crate::harness::{Store, until};

both!(one_holds_it_until_it_gives_it_back, of_many_at_once_one_gets_it, its_end_frees_it);

/// Longer than any case takes, for on Postgres it is the server's time that passes.
const LASTS: chrono::TimeDelta = chrono::TimeDelta::hours(1);

async fn take(store: &Store, holder: Uuid) -> bool {
    let now = store.clock.now();
    leases::take(&store.db, "relay", holder, now, now + LASTS).await.unwrap()
}

async fn one_holds_it_until_it_gives_it_back(store: Store) {
    let (one, other) = (store.clock.id::<Uuid>(), store.clock.id::<Uuid>());
    assert!(take(&store, one).await);
    assert!(take(&store, one).await, "it may be renewed");
    assert!(!take(&store, other).await);
    leases::give_back(&store.db, "relay", other).await.unwrap();
    assert!(!take(&store, other).await, "only its holder gives it back");
    leases::give_back(&store.db, "relay", one).await.unwrap();
    assert!(take(&store, other).await);
    assert!(!take(&store, one).await);
}

async fn of_many_at_once_one_gets_it(store: Store) {
    let asked = (0..8).map(|_| {
        let store = store.clone();
        tokio::spawn(async move {
            let holder = store.clock.id();
            until("a connection is free", async || leases_take(&store, holder).await).await
        })
    });
    let mut had = 0;
    for asked in asked.collect::<Vec<_>>() {
        had += u32::from(asked.await.unwrap());
    }
    assert_eq!(had, 1);
}

/// None while no connection is free.
async fn leases_take(store: &Store, holder: Uuid) -> Option<bool> {
    let now = store.clock.now();
    leases::take(&store.db, "relay", holder, now, now + LASTS).await.ok()
}

/// On Postgres by the server's clock: a process whose own is years ahead takes nothing from anybody.
async fn its_end_frees_it(store: Store) {
    let (one, other) = (store.clock.id::<Uuid>(), store.clock.id::<Uuid>());
    assert!(take(&store, one).await);
    store.clock.advance(Duration::from_hours(2));
    match store.db {
        Db::Sqlite { .. } => assert!(take(&store, other).await),
        Db::Postgres { .. } => {
            assert!(!take(&store, other).await);
            store.execute("UPDATE leases SET until = clock_timestamp()").await.unwrap();
            assert!(take(&store, other).await);
        }
    }
    assert!(!take(&store, one).await, "who comes back late has lost it");
}
