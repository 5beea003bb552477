//! What is wrong with the database is said in words: what, what to do, and whether waiting may help.

use taskpost_store::{Db, StoreError, Trouble};
use tokio::net::TcpSocket;
use url::Url;

use crate::harness::{Store, in_schema, patiently, postgres_url, run, until};

/// Why nobody can connect by a URL that differs from the right one in a word.
async fn trouble(change: impl FnOnce(&mut Url)) -> Trouble {
    let mut url = Url::parse(&in_schema(&postgres_url(), "public")).unwrap();
    change(&mut url);
    let error = Db::postgres(url.as_str(), 1).await.unwrap_err();
    let trouble = error.trouble();
    assert!(trouble.mend.contains("DATABASE_URL"), "{error}: {trouble:?}");
    trouble
}

#[tokio::test]
async fn a_wrong_word_in_the_url_is_named_and_does_not_pass() {
    let password = trouble(|url| url.set_password(Some("wrong")).unwrap()).await;
    assert!(password.what.contains("password") && !password.passes, "{password:?}");
    let user = trouble(|url| url.set_username("nobody_of_this_name").unwrap()).await;
    assert!(!user.passes, "{user:?}");
    let database = trouble(|url| url.set_path("/no_database_of_this_name")).await;
    assert!(database.what.contains("does not exist") && !database.passes, "{database:?}");
}

#[tokio::test]
async fn a_server_that_is_away_or_silent_may_come_back() {
    let bound = |port: u16| {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_reuseaddr(true).unwrap();
        socket.bind(([127, 0, 0, 1], port).into()).unwrap();
        socket
    };
    // Holds the port, also when nobody listens on it any more.
    let held = bound(0);
    let port = held.local_addr().unwrap().port();
    let listener = bound(port).listen(64).unwrap();
    let here = |url: &mut Url| {
        url.set_host(Some("127.0.0.1")).unwrap();
        url.set_port(Some(port)).unwrap();
        url.query_pairs_mut().append_pair("pool_timeout", "1");
    };
    // It accepts, as the system does for it, and says nothing.
    let silent = trouble(here).await;
    assert!(silent.what.contains("does not answer") && silent.passes, "{silent:?}");
    drop(listener);
    let away = trouble(here).await;
    assert!(away.what.contains("refuses connections") && away.passes, "{away:?}");
    let nowhere = trouble(|url| url.set_host(Some("no-host-of-this-name.invalid")).unwrap()).await;
    assert!(nowhere.what.contains("cannot be reached") && nowhere.passes, "{nowhere:?}");
}

#[tokio::test]
async fn a_read_only_server_is_not_writable() {
    let url = in_schema(&postgres_url(), "public");
    let read_only = format!("{url}&options[default_transaction_read_only]=on");
    let db = Db::postgres(&read_only, 1).await.unwrap();
    let error = db.check_writable().await.unwrap_err();
    assert!(matches!(error, StoreError::ReadOnly) && error.trouble().what.contains("read-only"), "{error:?}");
    db.close().await;
}

/// A pool whose connections are all taken is not a server that is away.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_busy_store_is_there() {
    run(Store::postgres().await, async |store: Store| {
        let impatient =
            format!("{}&pool_timeout=1&connection_limit=1", in_schema(&postgres_url(), &store.place()));
        let db = Db::postgres_lazy(&impatient, 1).unwrap();
        let taken = until("a connection is free", async || patiently(db.begin().await)).await;
        let error = db.check_writable().await.unwrap_err();
        assert!(matches!(error, StoreError::Locked(_)) && error.trouble().what.contains("busy"), "{error:?}");
        drop(taken);
        db.close().await;
    })
    .await;
}

both!(what_it_says_of_itself_and_a_row_undone);

async fn what_it_says_of_itself_and_a_row_undone(store: Store) {
    let server = store.db.server().await.unwrap();
    assert_eq!(server.now.is_some(), matches!(store.db, Db::Postgres { .. }));
    assert!(server.version.starts_with(&server.major.to_string()), "{server:?}");
    store.db.try_write().await.unwrap();
    assert_eq!(store.number("SELECT count(*) FROM leases").await, 0);
    assert_eq!(store.db.backlog().await.unwrap(), (0, None));
    store.user("ada").await;
    let (waiting, since) = store.db.backlog().await.unwrap();
    assert_eq!((waiting > 0, since.is_some()), (store.db.has_outbox(), store.db.has_outbox()));
}
