//! The event store as people read it.

use taskpost_common::{
    Event, Position, ProjectId, UserId,
    event::TaskDeleted,
    project::{Project, ProjectRole, Visibility},
    workflow::Workflow,
};
use taskpost_store::{
    Change,
    events::{self, EventFilter, NewEvent, SeenBy},
    members, projects,
};

use crate::harness::{Store, plain};

both!(
    an_event_is_seen_by_those_it_concerns,
    what_happens_in_a_project_is_for_who_may_read_it_now,
    a_page_moves_over_hidden_events,
    types_and_families_are_filtered,
    a_page_ends_with_its_window,
);

/// Appends events of a type each, in one transaction.
async fn append(store: &Store, rows: &[(Event, SeenBy)]) {
    let rows: Vec<NewEvent> = rows
        .iter()
        .map(|(event, seen_by)| NewEvent::new(store.change(), event, store.id(), 1, *seen_by).unwrap())
        .collect();
    let mut tx = store.begin().await;
    events::append(&mut tx, &rows.iter().collect::<Vec<_>>()).await.unwrap();
    tx.commit().await.unwrap();
    while events::sequence(&store.db, 500).await.unwrap() > 0 {}
}

fn deleted(store: &Store) -> Event {
    Event::TaskDeleted(TaskDeleted { task: store.task(store.id(), None).reference(), cascade: false })
}

async fn page(
    store: &Store,
    viewer: taskpost_store::Viewer,
    from: i64,
    filter: &EventFilter,
    limit: usize,
) -> (Vec<i64>, i64) {
    let mut reader = store.reader().await;
    let (page, next) =
        events::visible_after(&mut reader, viewer, Position(from), filter, limit).await.unwrap();
    (page.iter().map(|event| event.position.0).collect(), next.0)
}

async fn an_event_is_seen_by_those_it_concerns(store: Store) {
    let [owner, assignee, actor]: [UserId; 3] = [store.id(), store.id(), store.id()];
    let cause = taskpost_common::Cause { actor_id: Some(actor), ..store.cause.clone() };
    let change = Change { cause: &cause, ..store.change() };
    let seen_by = SeenBy { project_id: None, owner_id: Some(owner), assignee_id: Some(assignee) };
    let event = NewEvent::new(change, &deleted(&store), store.id(), 3, seen_by).unwrap();
    let mut tx = store.begin().await;
    events::append(&mut tx, &[&event]).await.unwrap();
    tx.commit().await.unwrap();
    let log = store.log().await;
    for (viewer, sees) in [
        (plain(owner), true),
        (plain(assignee), true),
        (plain(actor), true),
        (plain(store.id()), false),
        (store.admin(), true),
    ] {
        let found = events::visible(&mut store.reader().await, viewer, event.id).await.unwrap();
        assert_eq!(found.as_ref(), sees.then_some(&log[0]), "{viewer:?}");
        let (page, next) = page(&store, viewer, 0, &EventFilter::default(), 10).await;
        assert_eq!((page.len(), next), (usize::from(sees), 1), "{viewer:?}");
    }
    assert!(events::visible(&mut store.reader().await, store.admin(), store.id()).await.unwrap().is_none());
}

pub async fn project(store: &Store, key: &str, visibility: Visibility, owner: UserId) -> Project {
    let now = store.clock.now();
    let project = Project {
        id: store.id(),
        key: key.to_owned(),
        title: key.to_owned(),
        description: String::new(),
        visibility,
        workflow: Workflow::standard().clone(),
        archived_at: None,
        version: 1,
        created_at: now,
        updated_at: now,
    };
    let mut tx = store.begin().await;
    projects::insert(&mut tx, store.change(), &project, owner).await.unwrap();
    tx.commit().await.unwrap();
    project
}

async fn what_happens_in_a_project_is_for_who_may_read_it_now(store: Store) {
    let (ada, bob) = (store.user("ada").await.id, store.user("bob").await.id);
    let eve = store.user("eve").await.id;
    let private = project(&store, "OPS", Visibility::Private, ada).await;
    let internal = project(&store, "ALL", Visibility::Internal, ada).await;
    let from = i64::try_from(store.log().await.len()).unwrap();
    let seen = async |viewer| {
        let (found, _) = page(&store, viewer, from, &EventFilter::default(), 10).await;
        found.iter().map(|position| position - from).collect::<Vec<_>>()
    };

    let mut tx = store.begin().await;
    let (private, added) =
        members::add(&mut tx, store.change(), &private, bob, ProjectRole::Viewer).await.unwrap();
    tx.commit().await.unwrap();
    // 1 is that bob came. Eve made the tasks of 2 and 3, but belongs to neither project.
    let of = |project: &Project| SeenBy {
        project_id: Some(project.id),
        owner_id: Some(eve),
        assignee_id: Some(eve),
    };
    append(&store, &[(deleted(&store), of(&private)), (deleted(&store), of(&internal))]).await;
    for (viewer, wanted) in [
        (plain(ada), vec![1, 2, 3]),
        (plain(bob), vec![1, 2, 3]),
        (plain(eve), vec![3]),
        (store.admin(), vec![1, 2, 3]),
    ] {
        assert_eq!(seen(viewer).await, wanted, "{viewer:?}");
    }

    let mut tx = store.begin().await;
    let member = members::get(&mut tx, private.id, bob).await.unwrap().unwrap();
    members::remove(&mut tx, store.change(), &private, &member).await.unwrap();
    tx.commit().await.unwrap();
    let log = store.log().await;
    assert_eq!(seen(plain(bob)).await, [1, 3, 4], "what is about him he sees from outside, too");
    let mut reader = store.reader().await;
    for (event, sees) in [(added, true), (log[log.len() - 3].id, false)] {
        let found = events::visible(&mut reader, plain(bob), event).await.unwrap();
        assert_eq!(found.is_some(), sees, "{event}");
    }
}

async fn a_page_moves_over_hidden_events(store: Store) {
    let (ada, project): (UserId, ProjectId) = (store.id(), store.id());
    let mine = SeenBy { owner_id: Some(ada), ..SeenBy::default() };
    let in_project = SeenBy { project_id: Some(project), ..mine };
    let others = SeenBy { owner_id: Some(store.id()), ..SeenBy::default() };
    // Positions 3 and 7 are ada's. So was 6, but it is of a project that she may not read.
    let rows = [others, others, mine, others, others, in_project, mine, others];
    append(&store, &rows.map(|seen_by| (deleted(&store), seen_by))).await;
    let all = EventFilter::default();
    for (from, limit, wanted) in [
        (0, 10, (vec![3, 7], 8)),
        (0, 1, (vec![3], 3)),
        (0, 2, (vec![3, 7], 7)),
        (3, 1, (vec![7], 7)),
        (6, 1, (vec![7], 7)),
        (7, 1, (vec![], 8)),
        (8, 5, (vec![], 8)),
        (99, 5, (vec![], 99)),
    ] {
        assert_eq!(page(&store, plain(ada), from, &all, limit).await, wanted, "from {from}, {limit}");
    }
    let filter = EventFilter { project_id: Some(project), ..EventFilter::default() };
    assert_eq!(page(&store, plain(ada), 0, &filter, 10).await, (vec![], 8));
    assert_eq!(page(&store, store.admin(), 0, &filter, 10).await, (vec![6], 8));
    assert_eq!(page(&store, store.admin(), 0, &all, 3).await, (vec![1, 2, 3], 3));
    assert_eq!(page(&store, plain(store.id()), 0, &all, 10).await, (vec![], 8), "a stranger moves on, too");
}

async fn types_and_families_are_filtered(store: Store) {
    let user = store.user("ada").await;
    let task = store.task(user.id, Some(user.id));
    store.store(&[task]).await;
    store.log().await;
    // 1 user.registered, 2 task.created, 3 task.assigned
    for (types, wanted) in [
        (vec![], vec![1, 2, 3]),
        (vec!["task.created"], vec![2]),
        (vec!["task.*"], vec![2, 3]),
        (vec!["user.*", "task.assigned"], vec![1, 3]),
        (vec!["user.*", "task.*"], vec![1, 2, 3]),
        (vec!["user.registered", "task.created"], vec![1, 2]),
        (vec!["task.create"], vec![]),
        (vec!["tas.*"], vec![]),
        (vec!["delivery.*"], vec![]),
        (vec!["task.created.*"], vec![]),
    ] {
        let filter =
            EventFilter { types: types.iter().map(|name| (*name).to_owned()).collect(), project_id: None };
        for viewer in [store.admin(), plain(user.id)] {
            assert_eq!(page(&store, viewer, 0, &filter, 10).await, (wanted.clone(), 3), "{types:?}");
        }
    }
}

/// A page looks at ten thousand positions at most, and says from where to go on.
async fn a_page_ends_with_its_window(store: Store) {
    store.execute("UPDATE log_head SET position = 25000").await.unwrap();
    append(&store, &[(deleted(&store), SeenBy::default())]).await;
    let all = EventFilter::default();
    let (mut from, mut pages) = (0, Vec::new());
    for _ in 0..4 {
        let (found, next) = page(&store, store.admin(), from, &all, 10).await;
        pages.push((found, next));
        from = next;
    }
    assert_eq!(pages, [(vec![], 10_000), (vec![], 20_000), (vec![25_001], 25_001), (vec![], 25_001)]);
}
