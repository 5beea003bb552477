//! What goes with a project: its members are told of as far as a message holds them, and nobody
//! goes on watching it.

use taskpost_common::{
    Event,
    event::ProjectDeleted,
    project::Visibility,
    watch::{WatchLevel, WatchSubject},
};
use taskpost_store::{projects, users, watches};
use uuid::Uuid;

use crate::{
    events::project,
    harness::{Store, until},
};

both!(of_many_members_the_first_are_named, no_watch_outlives_what_is_watched,);

async fn of_many_members_the_first_are_named(store: Store) {
    const JOIN: &str = "
        INSERT INTO members (project_id, user_id, role, added_at)
        SELECT projects.id, users.id, 'viewer', projects.created_at FROM projects, users WHERE users.handle <> 'zoe'";
    let mut tx = store.begin().await;
    for number in 0..1_004 {
        let user = store.somebody(&format!("member-{number}"));
        users::insert(&mut tx, store.change(), &user, "hash").await.unwrap();
    }
    tx.commit().await.unwrap();
    // The last by her id, and the first by her role.
    let zoe = store.user("zoe").await.id;
    let project = project(&store, "OPS", Visibility::Private, zoe).await;
    store.execute(JOIN).await.unwrap();
    let known = store.log().await.len();
    let mut tx = store.begin().await;
    projects::delete(&mut tx, store.change(), &project).await.unwrap();
    tx.commit().await.unwrap();

    let mut told = store.log().await.split_off(known);
    let last = told.pop().unwrap();
    let Event::ProjectDeleted(data) = last.decode().unwrap() else { panic!("{last:?}") };
    assert_eq!((data.member_ids.len(), data.member_count), (ProjectDeleted::NAMED, 1_005));
    assert_eq!(data.member_ids[0], zoe);
    assert!(data.member_ids[1..].is_sorted());
    assert!(last.data.len() < 100_000, "{} bytes", last.data.len());
    assert_eq!(told.len(), 1_005, "each has an event of their own");
    for event in told {
        let Event::ProjectMemberRemoved(data) = event.decode().unwrap() else { panic!("{event:?}") };
        assert!(data.cascade && event.assignee_id == Some(data.user_id));
    }
}

async fn no_watch_outlives_what_is_watched(store: Store) {
    const WAITING: &str = "
        SELECT count(*) FROM pg_locks AS has JOIN pg_locks AS wants ON wants.pid = has.pid AND NOT wants.granted
        WHERE has.relation = 'projects'::regclass";
    let ada = store.user("ada").await.id;
    let level = WatchLevel::All;
    let mut tx = store.begin().await;
    for subject in WatchSubject::ALL {
        let gone: Uuid = store.id();
        assert!(!watches::set(&mut tx, store.change(), *subject, gone, &[ada], level, true).await.unwrap());
    }
    tx.commit().await.unwrap();

    let project = project(&store, "OPS", Visibility::Private, ada).await;
    let (subject, id) = (WatchSubject::Project, project.id.0);
    let mut watching = store.begin().await;
    assert!(watches::set(&mut watching, store.change(), subject, id, &[ada], level, true).await.unwrap());
    let other = store.clone();
    let deleting = tokio::spawn(async move {
        let mut tx = other.begin().await;
        projects::delete(&mut tx, other.change(), &project).await.unwrap();
        tx.commit().await.unwrap();
    });
    // SQLite's second writer waits for its turn to begin at all.
    if store.db.has_outbox() {
        until("the deletion waits", async || (store.number(WAITING).await > 0).then_some(())).await;
    }
    watching.commit().await.unwrap();
    deleting.await.unwrap();
    assert_eq!(store.number("SELECT count(*) FROM watches").await, 0);
}
