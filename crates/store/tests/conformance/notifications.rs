//! The inbox.

use taskpost_common::{
    NotificationId, UserId,
    notification::{Channel, Notification, NotificationType, Reason, Subject},
};
use taskpost_store::{
    Start,
    notifications::{self, Decision, InboxFilter, NewNotification},
};

use crate::{batches::decision, harness::Store};

both!(
    an_event_gives_a_user_one_item,
    the_first_decision_stays,
    marks_are_kept_and_counted,
    the_inbox_is_read_in_pages,
    the_inbox_is_filtered,
);

pub fn item(store: &Store, user_id: UserId) -> NewNotification {
    let subject = store.clock.id();
    NewNotification {
        user_id,
        item: Notification {
            id: store.id(),
            kind: NotificationType::TaskAssigned,
            reason: Reason::Assigned,
            title: "A task for you".to_owned(),
            body: "Water the plants".to_owned(),
            subject: Subject { kind: "task".to_owned(), id: subject, url: format!("/v1/tasks/{subject}") },
            event_id: store.id(),
            created_at: store.clock.now(),
            read_at: None,
            archived_at: None,
        },
    }
}

async fn insert(store: &Store, items: &[NewNotification]) {
    let mut tx = store.begin().await;
    notifications::insert(&mut tx, items).await.unwrap();
    tx.commit().await.unwrap();
}

async fn titles(
    store: &Store,
    user: UserId,
    filter: &InboxFilter,
    start: Start<NotificationId>,
    limit: usize,
) -> Vec<String> {
    let page = notifications::list(&mut store.reader().await, user, filter, start, limit).await.unwrap();
    page.into_iter().map(|item| item.title).collect()
}

async fn an_event_gives_a_user_one_item(store: Store) {
    let (ada, bob) = (store.id(), store.id());
    let first = item(&store, ada);
    let mut again = item(&store, ada);
    (again.item.event_id, again.item.title) = (first.item.event_id, "again".to_owned());
    let mut for_bob = item(&store, bob);
    for_bob.item.event_id = first.item.event_id;
    insert(&store, std::slice::from_ref(&first)).await;
    insert(&store, &[again, for_bob, first.clone()]).await;
    let mut reader = store.reader().await;
    let page =
        notifications::list(&mut reader, ada, &InboxFilter::default(), Start::Newest, 10).await.unwrap();
    assert_eq!(page.len(), 1);
    assert_eq!(serde_json::to_value(&page[0]).unwrap(), serde_json::to_value(&first.item).unwrap());
    assert_eq!(notifications::count(&mut reader, bob, &InboxFilter::default()).await.unwrap(), 1);
}

async fn the_first_decision_stays(store: Store) {
    let (event, user) = (store.id(), store.id());
    let first = decision(&store, event, user);
    let again = Decision { sent: false, rule: "quiet_hours", ..first.clone() };
    let by_mail = Decision { channel: Channel::Email, ..again.clone() };
    for _ in 0..2 {
        let mut tx = store.begin().await;
        notifications::insert_decisions(&mut tx, &[first.clone(), again.clone(), by_mail.clone()])
            .await
            .unwrap();
        tx.commit().await.unwrap();
    }
    assert_eq!(store.number("SELECT count(*) FROM decisions").await, 2);
    assert_eq!(
        store.number("SELECT count(*) FROM decisions WHERE outcome = 'sent' AND rule = 'default'").await,
        1
    );
    assert_eq!(store.number("SELECT count(*) FROM decisions WHERE outcome = 'suppressed'").await, 1);
}

async fn marks_are_kept_and_counted(store: Store) {
    let (ada, bob) = (store.id(), store.id());
    let rows: Vec<_> = (0..4).map(|_| item(&store, ada)).collect();
    insert(&store, &rows).await;
    insert(&store, &[item(&store, bob)]).await;
    let id = rows[0].item.id;
    let unread = InboxFilter { unread: Some(true), ..InboxFilter::default() };
    let count = async |user, filter: &InboxFilter| {
        notifications::count(&mut store.reader().await, user, filter).await.unwrap()
    };

    let first = store.clock.now();
    let table = [
        (Some(true), None, true, false, "read"),
        (Some(true), None, true, false, "read again, at the first time"),
        (None, Some(true), true, true, "put away"),
        (None, None, true, true, "nothing"),
        (Some(false), Some(false), false, false, "both undone"),
    ];
    for (read, archived, is_read, is_archived, what) in table {
        let mut tx = store.begin().await;
        let now = store.clock.now();
        let marked = notifications::mark(&mut tx, ada, id, read, archived, now).await.unwrap().unwrap();
        tx.commit().await.unwrap();
        assert_eq!(
            (marked.read_at.is_some(), marked.archived_at.is_some()),
            (is_read, is_archived),
            "{what}"
        );
        assert!(marked.read_at.is_none_or(|at| at == first), "{what}");
        assert_eq!(count(ada, &InboxFilter::default()).await, if is_archived { 3 } else { 4 }, "{what}");
        assert_eq!(count(ada, &unread).await, if is_read { 3 } else { 4 }, "{what}");
        store.clock.advance(std::time::Duration::from_secs(1));
    }

    let mut tx = store.begin().await;
    assert!(
        notifications::mark(&mut tx, bob, id, Some(true), None, first).await.unwrap().is_none(),
        "not bob's"
    );
    assert_eq!(notifications::mark_all_read(&mut tx, ada, first).await.unwrap(), 4);
    assert_eq!(notifications::mark_all_read(&mut tx, ada, first).await.unwrap(), 0);
    tx.commit().await.unwrap();
    assert_eq!((count(ada, &unread).await, count(bob, &unread).await), (0, 1));
}

async fn the_inbox_is_read_in_pages(store: Store) {
    let ada = store.id();
    let mut rows: Vec<_> = (0..7).map(|_| item(&store, ada)).collect();
    for (i, row) in rows.iter_mut().enumerate() {
        row.item.title = i.to_string();
    }
    insert(&store, &rows).await;
    insert(&store, &[item(&store, store.id())]).await;
    let id = |i: usize| rows[i].item.id;
    for (start, limit, wanted) in [
        (Start::Newest, 3, "654"),
        (Start::Newest, 100, "6543210"),
        (Start::OlderThan(id(4)), 2, "32"),
        (Start::OlderThan(id(0)), 2, ""),
        (Start::NewerThan(id(2)), 2, "43"),
        (Start::NewerThan(id(2)), 100, "6543"),
        (Start::NewerThan(id(6)), 2, ""),
        (Start::Offset(0), 2, "65"),
        (Start::Offset(5), 10, "10"),
        (Start::Offset(70), 10, ""),
    ] {
        let page = titles(&store, ada, &InboxFilter::default(), start, limit).await.concat();
        assert_eq!(page, wanted, "{start:?} {limit}");
    }
}

async fn the_inbox_is_filtered(store: Store) {
    let ada = store.id();
    let mut rows: Vec<_> = (0..3).map(|_| item(&store, ada)).collect();
    for (i, row) in rows.iter_mut().enumerate() {
        row.item.title = i.to_string();
    }
    (rows[1].item.kind, rows[1].item.reason) = (NotificationType::TaskCompleted, Reason::Author);
    insert(&store, &rows).await;
    let mut tx = store.begin().await;
    notifications::mark(&mut tx, ada, rows[2].item.id, Some(true), None, store.clock.now()).await.unwrap();
    tx.commit().await.unwrap();
    let all = InboxFilter::default;
    for (filter, wanted) in [
        (all(), "210"),
        (InboxFilter { unread: Some(true), ..all() }, "10"),
        (InboxFilter { unread: Some(false), ..all() }, "2"),
        (
            InboxFilter { kinds: vec![NotificationType::TaskCompleted, NotificationType::Welcome], ..all() },
            "1",
        ),
        (InboxFilter { reasons: vec![Reason::Assigned], ..all() }, "20"),
        (InboxFilter { unread: Some(true), reasons: vec![Reason::Assigned], ..all() }, "0"),
    ] {
        assert_eq!(titles(&store, ada, &filter, Start::Newest, 10).await.concat(), wanted, "{filter:?}");
        let count = notifications::count(&mut store.reader().await, ada, &filter).await.unwrap();
        assert_eq!(usize::try_from(count).unwrap(), wanted.len(), "{filter:?}");
    }
}
