//! Endpoints and their health.

use taskpost_common::{EndpointId, Event, UserId, user::UserStatus};
use taskpost_store::{
    StoreError, deliveries,
    endpoints::{self, Endpoint},
};

use crate::{
    deliveries::webhook,
    harness::{Store, plain},
};

both!(
    an_endpoint_comes_back_as_stored,
    a_stale_endpoint_is_refused,
    health_keeps_the_first_failure,
    an_endpoint_is_disabled_once,
    deleting_calls_back_what_waits,
    an_endpoint_is_its_owners,
);

pub fn endpoint(store: &Store, user_id: UserId) -> Endpoint {
    let now = store.clock.now();
    Endpoint {
        id: store.id(),
        user_id,
        project_id: None,
        url: "https://example.org/hook".to_owned(),
        event_types: vec!["task.*".to_owned(), "user.registered".to_owned()],
        description: "mine".to_owned(),
        secret: "whsec_1".to_owned(),
        previous_secret: None,
        previous_until: None,
        enabled: true,
        disabled_reason: None,
        failing_since: None,
        version: 1,
        created_at: now,
        updated_at: now,
    }
}

async fn insert(store: &Store, user: UserId) -> Endpoint {
    let endpoint = endpoint(store, user);
    let mut tx = store.begin().await;
    endpoints::insert(&mut tx, &endpoint).await.unwrap();
    tx.commit().await.unwrap();
    endpoint
}

async fn get(store: &Store, id: EndpointId) -> Option<Endpoint> {
    endpoints::visible(&mut store.reader().await, store.admin(), id).await.unwrap()
}

/// All its fields; its Debug shows no secrets.
fn fields(e: &Endpoint) -> impl PartialEq + std::fmt::Debug + use<> {
    let texts = [&e.url, &e.description, &e.secret].map(Clone::clone);
    let options = (e.previous_secret.clone(), e.previous_until, e.disabled_reason.clone(), e.failing_since);
    (
        e.id,
        e.user_id,
        e.project_id,
        texts,
        e.event_types.clone(),
        options,
        e.enabled,
        (e.version, e.created_at, e.updated_at),
    )
}

async fn an_endpoint_comes_back_as_stored(store: Store) {
    let ada = store.user("ada").await;
    let mut endpoint = insert(&store, ada.id).await;
    assert_eq!(fields(&get(&store, endpoint.id).await.unwrap()), fields(&endpoint));
    store.clock.advance(std::time::Duration::from_secs(1));
    let now = store.clock.now();
    (endpoint.version, endpoint.updated_at) = (2, now);
    (endpoint.previous_secret, endpoint.previous_until) = (Some("whsec_0".to_owned()), Some(now));
    (endpoint.enabled, endpoint.disabled_reason) = (false, Some("by its owner".to_owned()));
    endpoint.event_types = vec!["*".to_owned()];
    let mut tx = store.begin().await;
    endpoints::update(&mut tx, &endpoint, false).await.unwrap();
    tx.commit().await.unwrap();
    let found = endpoints::by_ids(&mut store.reader().await, &[store.id(), endpoint.id]).await.unwrap();
    assert_eq!(found.iter().map(fields).collect::<Vec<_>>(), [fields(&endpoint)]);
    assert!(!format!("{:?}", found[0]).contains("whsec"));
}

async fn a_stale_endpoint_is_refused(store: Store) {
    let ada = store.user("ada").await;
    let first = insert(&store, ada.id).await;
    let mut tx = store.begin().await;
    endpoints::update(&mut tx, &Endpoint { version: 2, ..first.clone() }, false).await.unwrap();
    let error =
        endpoints::update(&mut tx, &Endpoint { version: 2, ..first.clone() }, false).await.unwrap_err();
    assert!(matches!(error, StoreError::Stale(_)), "{error:?}");
    tx.rollback().await.unwrap();
    assert_eq!(get(&store, first.id).await.unwrap().version, 1);
}

async fn health_keeps_the_first_failure(store: Store) {
    let ada = store.user("ada").await;
    let id = insert(&store, ada.id).await.id;
    let start = store.clock.now();
    let at = |second| Some(start + chrono::Duration::seconds(second));
    // At each second a try; and since when they fail after it.
    for (second, (healthy, since)) in (0..).zip([
        (true, None),
        (false, at(1)),
        (false, at(1)),
        (true, None),
        (true, None),
        (false, at(5)),
        (false, at(5)),
    ]) {
        let mut tx = store.begin().await;
        let noted = endpoints::note_health(&mut tx, id, healthy, at(second).unwrap()).await.unwrap();
        tx.commit().await.unwrap();
        assert_eq!(noted, since, "second {second}");
        let stored = get(&store, id).await.unwrap();
        assert_eq!((stored.failing_since, stored.version), (since, 1), "second {second}");
    }
    let mut tx = store.begin().await;
    assert_eq!(
        endpoints::note_health(&mut tx, store.id(), false, start).await.unwrap(),
        None,
        "one that is gone"
    );
    tx.rollback().await.unwrap();
}

async fn an_endpoint_is_disabled_once(store: Store) {
    let ada = store.user("ada").await;
    let endpoint = insert(&store, ada.id).await;
    store.clock.advance(std::time::Duration::from_secs(5));
    for reason in ["five days of failures", "again"] {
        let mut tx = store.begin().await;
        endpoints::disable(&mut tx, store.change(), endpoint.id, reason).await.unwrap();
        endpoints::disable(&mut tx, store.change(), store.id(), reason).await.unwrap();
        tx.commit().await.unwrap();
    }
    let now = get(&store, endpoint.id).await.unwrap();
    assert_eq!((now.enabled, now.version, now.updated_at), (false, 2, store.clock.now()));
    assert_eq!(now.disabled_reason.as_deref(), Some("five days of failures"));
    let log = store.log().await;
    let told: Vec<_> = log.iter().filter(|event| event.type_name == "endpoint.disabled").collect();
    assert_eq!(told.len(), 1);
    assert_eq!(
        (told[0].aggregate_id, told[0].aggregate_version, told[0].owner_id),
        (endpoint.id.0, 2, Some(ada.id))
    );
    assert!(
        matches!(told[0].decode().unwrap(), Event::EndpointDisabled(data) if data.reason == "five days of failures")
    );
}

async fn deleting_calls_back_what_waits(store: Store) {
    let ada = store.user("ada").await;
    let (gone, stays) = (insert(&store, ada.id).await, insert(&store, ada.id).await);
    let now = store.clock.now();
    let mut finished = webhook(&store, gone.id);
    finished.due_at = now - chrono::Duration::hours(1);
    let rows = [finished, webhook(&store, gone.id), webhook(&store, gone.id), webhook(&store, stays.id)];
    let mut tx = store.begin().await;
    deliveries::insert(&mut tx, &rows, now).await.unwrap();
    tx.commit().await.unwrap();
    store
        .execute(
            "UPDATE deliveries SET state = 'delivered', finished_at = created_at WHERE due_at < created_at",
        )
        .await
        .unwrap();

    let mut tx = store.begin().await;
    endpoints::delete(&mut tx, gone.id, now).await.unwrap();
    tx.commit().await.unwrap();
    assert!(get(&store, gone.id).await.is_none() && get(&store, stays.id).await.is_some());
    let cancelled = "SELECT count(*) FROM deliveries WHERE state = 'cancelled' AND finished_at IS NOT NULL";
    assert_eq!(store.number(cancelled).await, 2);
    assert_eq!(store.number("SELECT count(*) FROM deliveries WHERE state = 'delivered'").await, 1);
    let open = deliveries::unfinished(&mut store.reader().await).await.unwrap();
    assert_eq!(open, [("webhook".to_owned(), 1)]);
}

async fn an_endpoint_is_its_owners(store: Store) {
    let ada = store.user("ada").await;
    let mut bob = store.somebody("bob");
    bob.status = UserStatus::Disabled;
    let mut tx = store.begin().await;
    taskpost_store::users::insert(&mut tx, store.change(), &bob, "hash").await.unwrap();
    tx.commit().await.unwrap();
    let rows = [insert(&store, ada.id).await, insert(&store, ada.id).await, insert(&store, ada.id).await];
    insert(&store, bob.id).await;
    let mut reader = store.reader().await;
    for (viewer, sees) in [(plain(ada.id), true), (plain(bob.id), false), (store.admin(), true)] {
        assert_eq!(
            endpoints::visible(&mut reader, viewer, rows[0].id).await.unwrap().is_some(),
            sees,
            "{viewer:?}"
        );
    }
    let ids = |rows: &[Endpoint]| rows.iter().map(|row| row.id).collect::<Vec<_>>();
    let page = endpoints::list(&mut reader, ada.id, None, 2).await.unwrap();
    assert_eq!(ids(&page), [rows[2].id, rows[1].id]);
    let page = endpoints::list(&mut reader, ada.id, Some(rows[1].id), 2).await.unwrap();
    assert_eq!(ids(&page), [rows[0].id]);
    drop(reader);

    let mut tx = store.begin().await;
    endpoints::disable(&mut tx, store.change(), rows[1].id, "r").await.unwrap();
    tx.commit().await.unwrap();
    let enabled = endpoints::enabled(&mut store.reader().await).await.unwrap();
    let enabled: Vec<_> = enabled.iter().map(|(row, admin)| (row.id, *admin)).collect();
    assert_eq!(
        enabled,
        [(rows[0].id, false), (rows[2].id, false)],
        "neither the disabled nor those of the disabled"
    );
}
