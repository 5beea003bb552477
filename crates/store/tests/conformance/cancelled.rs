//! F5: a `begin()` that is dropped half-way must not leave its connection inside an open transaction, or what the next
//! borrower commits is seen by nobody. To be checked again at each upgrade of sqlx.

use std::{future::Future, pin::Pin, str::FromStr, task::Poll};

use sqlx::{
    Connection as _, PgPool, SqliteConnection,
    postgres::{PgConnectOptions, PgPoolOptions},
    sqlite::SqliteConnectOptions,
};
use taskpost_store::{Db, users};

use crate::{
    harness::{Store, in_schema, run, until},
    proxy::Proxy,
};

/// How often calls are dropped.
const ROUNDS: usize = 40;
/// How many are dropped together, on fewer connections.
const CROWD: usize = 3;
const CONNECTIONS: u32 = 2;

type Begin = Pin<Box<dyn Future<Output = ()> + Send>>;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dropped_begin_leaves_no_transaction_on_postgres() {
    run(Store::postgres().await, async |store: Store| {
        let proxy = Proxy::start().await;
        let db = Db::postgres(&in_schema(&proxy.url, &store.place()), CONNECTIONS).await.unwrap();
        let Db::Postgres { write, .. } = &db else { panic!("a case for Postgres") };
        let begin = || -> Begin {
            let db = db.clone();
            Box::pin(async move { drop(db.begin().await) })
        };
        let (lost, _) = drop_and_borrow(&store, &proxy, write, begin).await;
        assert_eq!(lost, 0, "inserts that said they succeeded");
        until("no connection is inside a transaction", async || {
            (inside_transactions(&store, &proxy).await == 0).then_some(())
        })
        .await;

        let user = store.somebody("ada");
        let mut tx = db.begin().await.unwrap();
        users::insert(&mut tx, store.change(), &user, "hash").await.unwrap();
        tx.commit().await.unwrap();
        assert!(users::get(&mut store.reader().await, user.id).await.unwrap().is_some());
        db.close().await;
    })
    .await;
}

/// Without the store's guards the same procedure must find the fault, or the case above proves nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_check_finds_the_fault_in_an_unguarded_pool() {
    run(Store::postgres().await, async |store: Store| {
        let proxy = Proxy::start().await;
        let options = PgConnectOptions::from_str(&proxy.url)
            .unwrap()
            .options([("search_path", store.place().as_str())]);
        let pool = PgPoolOptions::new().max_connections(CONNECTIONS).connect_with(options).await.unwrap();
        let begin = || -> Begin {
            let pool = pool.clone();
            Box::pin(async move { drop(pool.begin().await) })
        };
        let (lost, inside) = drop_and_borrow(&store, &proxy, &pool, begin).await;
        assert!(
            lost > 0 && inside > 0,
            "this sqlx has F5 no longer ({lost} lost, {inside} open): Db::begin may be simpler"
        );
        pool.close().await;
    })
    .await;
}

/// Drops calls, every second time exactly while their BEGIN is under way, and lets others borrow the connections;
/// gives how many of their inserts nobody else can see, and the most connections found inside a transaction after one.
async fn drop_and_borrow(
    store: &Store,
    proxy: &Proxy,
    pool: &PgPool,
    begin: impl Fn() -> Begin,
) -> (i64, i64) {
    store.execute("CREATE TABLE probe (n BIGINT NOT NULL)").await.unwrap();
    let (mut inserted, mut inside) = (0, 0);
    for round in 0..ROUNDS {
        let mut crowd: Vec<Option<Begin>> = (0..CROWD).map(|_| Some(begin())).collect();
        if round % 2 == 0 {
            proxy.arm();
            tokio::select! {
                () = proxy.holds() => {}
                () = drive(&mut crowd, usize::MAX) => {}
            }
        } else {
            drive(&mut crowd, round / 2).await;
        }
        drop(crowd);
        proxy.release();
        for _ in 0..CONNECTIONS {
            inserted += 1;
            sqlx::query("INSERT INTO probe VALUES ($1)").bind(inserted).execute(pool).await.unwrap();
        }
        inside = inside_transactions(store, proxy).await.max(inside);
    }
    (inserted - store.number("SELECT count(*) FROM probe").await, inside)
}

/// Polls every call so many times, at most until all have ended.
async fn drive(crowd: &mut [Option<Begin>], times: usize) {
    for _ in 0..times {
        let all_ended = std::future::poll_fn(|context| {
            for call in crowd.iter_mut() {
                if call.as_mut().is_some_and(|call| call.as_mut().poll(context).is_ready()) {
                    *call = None;
                }
            }
            Poll::Ready(crowd.iter().all(Option::is_none))
        });
        if all_ended.await {
            return;
        }
        tokio::task::yield_now().await;
    }
}

/// How many connections of the proxy's Postgres sees inside a transaction while they do nothing.
async fn inside_transactions(store: &Store, proxy: &Proxy) -> i64 {
    const SQL: &str = "
        SELECT count(*) FROM pg_stat_activity WHERE client_port = ANY ($1) AND state LIKE 'idle in transaction%'";
    sqlx::query_scalar(SQL).bind(proxy.ports()).fetch_one(store.pg()).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dropped_begin_leaves_no_transaction_on_sqlite() {
    run(Store::sqlite().await, async |store: Store| {
        let options = SqliteConnectOptions::new().filename(store.place());
        let mut other = SqliteConnection::connect_with(&options).await.unwrap();
        for round in 0..ROUNDS / 4 {
            // While another process holds the lock, BEGIN IMMEDIATE waits inside SQLite.
            sqlx::query("BEGIN IMMEDIATE").execute(&mut other).await.unwrap();
            let mut crowd: Vec<Option<Begin>> = (0..CROWD)
                .map(|_| {
                    let db = store.db.clone();
                    Some(Box::pin(async move { drop(db.begin().await) }) as Begin)
                })
                .collect();
            drive(&mut crowd, round * 20).await;
            drop(crowd);
            sqlx::query("ROLLBACK").execute(&mut other).await.unwrap();
            let user = store.user(&format!("u{round}")).await;
            assert!(users::get(&mut store.reader().await, user.id).await.unwrap().is_some());
            store.execute("UPDATE users SET version = version + 1").await.unwrap();
            let (sum,): (i64,) = sqlx::query_as("SELECT SUM(version) FROM users WHERE handle = 'u0'")
                .fetch_one(&mut other)
                .await
                .unwrap();
            assert_eq!(
                sum,
                i64::try_from(round).unwrap() + 2,
                "an update outside transactions is seen by others"
            );
        }
        other.close().await.unwrap();
    })
    .await;
}
