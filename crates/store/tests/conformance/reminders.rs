//! Reminders of due dates: each is given once, of a task as it stands, by one of those who look.

use std::time::Duration;

use taskpost_common::{
    Event,
    task::{StatusCategory, Task},
};
use taskpost_store::tasks::{self, Reminded};

use crate::{
    harness::Store,
    tasks::{closed, opened},
};

both!(
    a_task_is_told_of_day_by_day,
    a_due_date_is_told_of_once,
    many_at_once_tell_of_each_once,
    a_task_is_told_of_as_it_stands,
);

/// A task that is due so many hours from now.
fn due(store: &Store, hours: u64) -> Task {
    Task { due_at: Some(store.clock.now() + Duration::from_hours(hours)), ..store.task(store.id(), None) }
}

async fn remind(store: &Store) -> u64 {
    tasks::remind(&store.db, store.change()).await.unwrap().told
}

/// Tasks that somebody will look at again.
async fn left(store: &Store) -> i64 {
    store.number("SELECT count(*) FROM tasks WHERE next_reminder_at IS NOT NULL").await
}

async fn change(store: &Store, before: &Task, after: Task) -> Task {
    let mut tx = store.begin().await;
    let (after, _) = tasks::update(&mut tx, store.change(), before, after).await.unwrap();
    tx.commit().await.unwrap();
    after
}

async fn close(store: &Store, task: &Task) -> Task {
    change(store, task, closed(task.clone(), "done", StatusCategory::Done, store)).await
}

async fn a_task_is_told_of_day_by_day(store: Store) {
    let task = due(&store, 60);
    store.store(std::slice::from_ref(&task)).await;
    // Hours that go by, and whether it is told of then: a day before it is due, when it is, and on the next two days.
    for (hours, told) in [(35, 0), (2, 1), (22, 0), (2, 1), (22, 0), (2, 1), (24, 1), (24, 0)] {
        store.clock.advance(Duration::from_hours(hours));
        assert_eq!(remind(&store).await, told, "{}", store.clock.now());
        assert_eq!(remind(&store).await, 0, "again");
    }
    let mut told = Vec::new();
    for event in store.log().await {
        if let Event::TaskDueSoon(data) | Event::TaskOverdue(data) = event.decode().unwrap() {
            assert_eq!((Some(data.due_at), event.aggregate_version), (task.due_at, 1));
            told.push((event.type_name, data.number));
        }
    }
    let expected = [("task.due_soon", 1), ("task.overdue", 1), ("task.overdue", 2), ("task.overdue", 3)];
    assert_eq!(told, expected.map(|(name, number)| (name.to_owned(), number)));
    assert_eq!(left(&store).await, 0);
}

async fn a_due_date_is_told_of_once(store: Store) {
    let task = due(&store, 2);
    store.store(std::slice::from_ref(&task)).await;
    assert_eq!(remind(&store).await, 1);
    let retitled = change(&store, &task, Task { title: "Feed the fish".to_owned(), ..task.clone() }).await;
    let done = close(&store, &retitled).await;
    let again = change(&store, &done, opened(done.clone())).await;
    assert_eq!(remind(&store).await, 0, "neither an edit nor a reopening is a new due date");
    let later = Task { due_at: due(&store, 3).due_at, ..again.clone() };
    let later = change(&store, &again, later).await;
    assert_eq!(remind(&store).await, 1, "a new one is");

    // One that is closed is told of when it is open again, and one that has no date any more not at all.
    let done = close(&store, &later).await;
    store.clock.advance(Duration::from_hours(4));
    assert_eq!(remind(&store).await, 0);
    let open = change(&store, &done, opened(done.clone())).await;
    assert_eq!(remind(&store).await, 1);
    change(&store, &open, Task { due_at: None, ..open.clone() }).await;
    // What is long past when it comes is told of to nobody.
    let past = Some(store.clock.now() - Duration::from_hours(100));
    store.store(&[Task { due_at: past, ..due(&store, 0) }]).await;
    store.clock.advance(Duration::from_hours(24));
    assert_eq!((remind(&store).await, left(&store).await), (0, 0));
}

async fn many_at_once_tell_of_each_once(store: Store) {
    let rows: Vec<Task> = (0..450).map(|_| due(&store, 1)).collect();
    store.store(&rows).await;
    let all = async || {
        let mut all = 0;
        loop {
            let Reminded { told, more } = tasks::remind(&store.db, store.change()).await.unwrap();
            all += told;
            if told == 0 && !more {
                return all;
            }
        }
    };
    let (one, two, three) = tokio::join!(all(), all(), all());
    assert_eq!(one + two + three, 450);
    let told = store.log().await.into_iter().filter(|event| event.type_name == "task.due_soon");
    assert_eq!(told.count(), 450);
}

async fn a_task_is_told_of_as_it_stands(store: Store) {
    let task = due(&store, 1);
    store.store(std::slice::from_ref(&task)).await;
    let mut tx = store.begin().await;
    let edited = Task { title: "Feed the fish".to_owned(), ..task.clone() };
    tasks::update(&mut tx, store.change(), &task, edited).await.unwrap();
    // On SQLite it would wait for the one writer.
    if store.db.has_outbox() {
        assert_eq!(remind(&store).await, 0, "somebody has it in hand");
    }
    tx.commit().await.unwrap();
    assert_eq!(remind(&store).await, 1);
    let log = store.log().await;
    let told = log.last().unwrap();
    assert_eq!((told.type_name.as_str(), told.aggregate_version), ("task.due_soon", 2));
    let Event::TaskDueSoon(data) = told.decode().unwrap() else { panic!("{told:?}") };
    assert_eq!((data.task.title.as_str(), data.task.version), ("Feed the fish", 2));
}
