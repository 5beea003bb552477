//! Tasks, and the events that each change appends by itself.

use chrono::Duration;
use taskpost_common::{
    Event,
    event::AssignCause,
    task::{Priority, StatusCategory, Task, TaskState},
};
use taskpost_store::{
    StoreError,
    tasks::{self, NewTask, TaskFilter, Unstored},
};

use crate::harness::{Store, plain};

both!(
    a_task_comes_back_as_stored,
    a_new_task_is_told_with_its_transaction,
    a_change_tells_what_differs,
    a_close_and_a_reopening_carry_what_they_need,
    a_stale_change_is_refused,
    a_deleted_task_is_gone_and_told,
    a_task_is_seen_by_its_own,
    a_broken_task_is_refused,
    alone_tasks_are_stored_and_told_or_not_at_all,
);

async fn a_task_comes_back_as_stored(store: Store) {
    let mut task = store.task(store.id(), Some(store.id()));
    task.key = Some("OPS-1".to_owned());
    task.project_id = Some(store.id());
    task.category_id = Some(store.id());
    task.title = "Ü".repeat(200);
    task.description = "\"quoted\" \\ $1 ? '; -- 😀\n\t".to_owned();
    task.labels = vec!["a,b".to_owned(), "\"c\"".to_owned(), String::new()];
    task.priority = Priority::Urgent;
    task.due_at = Some(store.clock.now() + Duration::days(400));
    let task = closed(task, "done", StatusCategory::Done, &store);
    store.store(std::slice::from_ref(&task)).await;
    assert_eq!(store.stored(task.id).await.unwrap(), task);
}

async fn a_new_task_is_told_with_its_transaction(store: Store) {
    let (free, given) = (store.task(store.id(), None), store.task(store.id(), Some(store.id())));
    for commit in [false, true] {
        let rows = [&free, &given].map(|task| NewTask::new(store.change(), task.clone()).unwrap());
        let mut tx = store.begin().await;
        tasks::insert(&mut tx, &rows.iter().collect::<Vec<_>>()).await.unwrap();
        assert!(store.log().await.is_empty(), "nothing before the commit");
        if commit {
            tx.commit().await.unwrap();
        } else {
            tx.rollback().await.unwrap();
        }
        let log = store.log().await;
        if !commit {
            assert!(log.is_empty() && store.stored(free.id).await.is_none(), "nothing after a rollback");
            continue;
        }
        let told: Vec<_> = log.iter().map(|event| (event.aggregate_id, event.type_name.as_str())).collect();
        let (free, given) = (&free, &given);
        assert_eq!(
            told,
            [(free.id.0, "task.created"), (given.id.0, "task.created"), (given.id.0, "task.assigned")]
        );
        assert_eq!(rows[0].last_event(), Some(log[0].id));
        assert_eq!(rows[1].last_event(), Some(log[2].id));
        assert!(matches!(log[1].decode().unwrap(), Event::TaskCreated(data) if data.task == *given));
        let Event::TaskAssigned(data) = log[2].decode().unwrap() else { panic!("{:?}", log[2]) };
        assert_eq!((data.previous_assignee_id, data.cause), (None, AssignCause::Create));
        for event in &log[1..] {
            assert_eq!((event.owner_id, event.assignee_id), (Some(given.reporter_id), given.assignee_id));
            assert_eq!(event.aggregate_version, 1);
        }
    }
}

pub fn closed(mut task: Task, status: &str, category: StatusCategory, store: &Store) -> Task {
    task.status = status.to_owned();
    (task.status_category, task.state) = (category, category.state());
    task.resolution = Some("duplicate".to_owned());
    task.completed_at = Some(store.clock.now());
    task
}

pub fn opened(mut task: Task) -> Task {
    task.status = "in_progress".to_owned();
    (task.status_category, task.state) = (StatusCategory::InProgress, TaskState::Open);
    (task.resolution, task.completed_at) = (None, None);
    task
}

/// What is changed, from what, to what, and the events that must tell of it.
type Row = (&'static str, Task, Task, &'static [&'static str]);

fn row(what: &'static str, before: Task, edit: impl FnOnce(&mut Task), told: &'static [&'static str]) -> Row {
    let mut after = before.clone();
    edit(&mut after);
    (what, before, after, told)
}

async fn a_change_tells_what_differs(store: Store) {
    let (ada, bob) = (store.id(), store.id());
    let free = || store.task(store.id(), None);
    let given = || store.task(store.id(), Some(ada));
    let close = |task: &mut Task| *task = closed(task.clone(), "done", StatusCategory::Done, &store);
    let open = |task: &mut Task| *task = opened(task.clone());
    let mut done = given();
    close(&mut done);
    let table = [
        row("nothing", given(), |_| {}, &[]),
        row("title", free(), |t| t.title = "Other".to_owned(), &["task.updated"]),
        row("description", free(), |t| t.description = "D".to_owned(), &["task.updated"]),
        row("type", free(), |t| t.task_type = "bug".to_owned(), &["task.updated"]),
        row("priority", free(), |t| t.priority = Priority::High, &["task.updated"]),
        row("category", free(), |t| t.category_id = Some(store.id()), &["task.updated"]),
        row("labels", free(), |t| t.labels = vec!["x".to_owned()], &["task.updated"]),
        row("due", free(), |t| t.due_at = Some(store.clock.now()), &["task.updated"]),
        row("assign", free(), |t| t.assignee_id = Some(ada), &["task.assigned"]),
        row("reassign", given(), |t| t.assignee_id = Some(bob), &["task.assigned"]),
        row("unassign", given(), |t| t.assignee_id = None, &["task.unassigned"]),
        row("status", given(), open, &["task.status_changed"]),
        row("close", given(), close, &["task.status_changed", "task.completed"]),
        row("reopen", done, open, &["task.status_changed", "task.reopened"]),
        row(
            "several",
            given(),
            |t| {
                close(t);
                (t.title, t.assignee_id) = ("Other".to_owned(), Some(bob));
            },
            &["task.updated", "task.assigned", "task.status_changed", "task.completed"],
        ),
    ];
    for (what, before, wished, wanted) in table {
        store.store(std::slice::from_ref(&before)).await;
        let made = store.told_of(before.id.0).await.len();
        store.clock.advance(std::time::Duration::from_secs(1));
        let mut tx = store.begin().await;
        let (after, last) = tasks::update(&mut tx, store.change(), &before, wished).await.unwrap();
        assert_eq!(store.told_of(before.id.0).await.len(), made, "{what}: nothing before the commit");
        tx.commit().await.unwrap();

        let log: Vec<_> = store
            .log()
            .await
            .into_iter()
            .filter(|event| event.aggregate_id == before.id.0)
            .skip(made)
            .collect();
        let told: Vec<_> = log.iter().map(|event| event.type_name.as_str()).collect();
        assert_eq!(told, wanted, "{what}");
        assert_eq!(last, log.last().map(|event| event.id), "{what}");
        assert!(
            log.iter().all(|event| event.aggregate_version == 2 && event.assignee_id == after.assignee_id),
            "{what}"
        );
        assert_eq!(store.stored(before.id).await.unwrap(), after, "{what}");
        let moved = !wanted.is_empty();
        assert_eq!(after.version, 1 + i64::from(moved), "{what}");
        assert_eq!(after.updated_at, if moved { store.clock.now() } else { before.updated_at }, "{what}");
        for event in log {
            if let Event::TaskUpdated(data) = event.decode().unwrap() {
                assert_eq!(data.changes.len(), 1, "{what}: {:?}", data.changes);
            }
        }
    }
}

async fn a_close_and_a_reopening_carry_what_they_need(store: Store) {
    let before = store.task(store.id(), Some(store.id()));
    store.store(std::slice::from_ref(&before)).await;
    let mut tx = store.begin().await;
    let done = closed(before.clone(), "cancelled", StatusCategory::Cancelled, &store);
    let (done, _) = tasks::update(&mut tx, store.change(), &before, done).await.unwrap();
    tasks::update(&mut tx, store.change(), &done, opened(done.clone())).await.unwrap();
    tx.commit().await.unwrap();
    let log = store.log().await;
    let [
        Event::TaskStatusChanged(first),
        Event::TaskCompleted(completed),
        Event::TaskStatusChanged(second),
        Event::TaskReopened(reopened),
    ] = &log[2..].iter().map(|event| event.decode().unwrap()).collect::<Vec<_>>()[..]
    else {
        panic!("{log:?}")
    };
    assert_eq!(
        (first.from.as_str(), first.to.as_str(), first.category),
        ("todo", "cancelled", StatusCategory::Cancelled)
    );
    assert_eq!((completed.assignee_id, completed.resolution.as_str()), (before.assignee_id, "duplicate"));
    assert_eq!((second.from.as_str(), second.to.as_str()), ("cancelled", "in_progress"));
    let before_each = [StatusCategory::Todo, StatusCategory::Cancelled].map(Some);
    assert_eq!([first.from_category, second.from_category], before_each);
    assert_eq!((reopened.assignee_id, reopened.task.version), (before.assignee_id, 3));
}

async fn a_stale_change_is_refused(store: Store) {
    let before = store.task(store.id(), None);
    store.store(std::slice::from_ref(&before)).await;
    let titled = |title: &str| Task { title: title.to_owned(), ..before.clone() };
    let mut tx = store.begin().await;
    tasks::update(&mut tx, store.change(), &before, titled("first")).await.unwrap();
    tx.commit().await.unwrap();

    let mut tx = store.begin().await;
    let error = tasks::update(&mut tx, store.change(), &before, titled("second")).await.unwrap_err();
    assert!(matches!(error, StoreError::Stale(_)) && error.is_transient(), "{error:?}");
    let error = tasks::delete(&mut tx, store.change(), &before).await.unwrap_err();
    assert!(matches!(error, StoreError::Stale(_)), "{error:?}");
    tx.rollback().await.unwrap();
    assert_eq!(store.stored(before.id).await.unwrap().title, "first");
    assert_eq!(store.told_of(before.id.0).await, ["task.created", "task.updated"]);
}

async fn a_deleted_task_is_gone_and_told(store: Store) {
    let task = store.task(store.id(), Some(store.id()));
    store.store(std::slice::from_ref(&task)).await;
    let mut tx = store.begin().await;
    let event = tasks::delete(&mut tx, store.change(), &task).await.unwrap();
    let again = tasks::delete(&mut tx, store.change(), &task).await.unwrap_err();
    assert!(matches!(again, StoreError::Stale(_)), "{again:?}");
    tx.commit().await.unwrap();
    assert!(store.stored(task.id).await.is_none());
    let log = store.log().await;
    let last = log.last().unwrap();
    assert_eq!((last.id, last.type_name.as_str(), last.aggregate_version), (event, "task.deleted", 2));
    assert_eq!((last.owner_id, last.assignee_id), (Some(task.reporter_id), task.assignee_id));
    assert!(
        matches!(last.decode().unwrap(), Event::TaskDeleted(data) if data.task.version == 2 && !data.cascade)
    );
}

async fn a_task_is_seen_by_its_own(store: Store) {
    let mut task = store.task(store.id(), Some(store.id()));
    task.key = Some("OPS-1".to_owned());
    store.store(std::slice::from_ref(&task)).await;
    let viewers = [
        (plain(task.reporter_id), true),
        (plain(task.assignee_id.unwrap()), true),
        (plain(store.id()), false),
        (store.admin(), true),
    ];
    for (viewer, sees) in viewers {
        let mut reader = store.reader().await;
        assert_eq!(tasks::visible(&mut reader, viewer, task.id).await.unwrap().is_some(), sees, "{viewer:?}");
        let named = tasks::id_of_key(&mut reader, viewer, "OPS-1").await.unwrap();
        assert_eq!(named, sees.then_some(task.id), "{viewer:?}");
        assert_eq!(tasks::id_of_key(&mut reader, viewer, "OPS-2").await.unwrap(), None);
        let listed =
            tasks::list(&mut reader, crate::listing::within(viewer), &TaskFilter::default(), None, 10)
                .await
                .unwrap()
                .tasks;
        assert_eq!(listed.len(), usize::from(sees), "{viewer:?}");
    }
    assert!(store.stored(store.id()).await.is_none());
}

/// The last line of defence: both databases refuse what no rule should have let through.
async fn a_broken_task_is_refused(store: Store) {
    let good = store.task(store.id(), None);
    let untitled = Task { title: String::new(), ..good.clone() };
    let long = Task { title: "ü".repeat(201), ..good.clone() };
    let unresolved = Task { completed_at: Some(store.clock.now()), ..good.clone() };
    for broken in [untitled, long, unresolved] {
        let row = NewTask::new(store.change(), broken).unwrap();
        let mut tx = store.begin().await;
        let error = tasks::insert(&mut tx, &[&row]).await.unwrap_err();
        assert!(matches!(&error, StoreError::Constraint(name) if name.contains("tasks_")), "{error:?}");
        tx.rollback().await.unwrap();
    }
    assert!(store.log().await.is_empty());
}

async fn alone_tasks_are_stored_and_told_or_not_at_all(store: Store) {
    let new = |task: &Task| NewTask::new(store.change(), task.clone()).unwrap();
    let good = [store.task(store.id(), None), store.task(store.id(), Some(store.id()))];
    let rows = good.each_ref().map(new);
    tasks::insert_alone(&store.db, &rows.iter().collect::<Vec<_>>()).await.unwrap();
    for task in &good {
        assert_eq!(store.stored(task.id).await.as_ref(), Some(task));
    }
    let told = store.log().await;
    let types: Vec<&str> = told.iter().map(|event| event.type_name.as_str()).collect();
    assert_eq!(types, ["task.created", "task.created", "task.assigned"]);
    assert_eq!(told[2].assignee_id, good[1].assignee_id);

    // The second is there already, so the first is not stored either.
    let fresh = store.task(store.id(), None);
    let rows = [&fresh, &good[0]].map(new);
    let error = tasks::insert_alone(&store.db, &rows.iter().collect::<Vec<_>>()).await.unwrap_err();
    assert!(matches!(error, Unstored::Surely(StoreError::Constraint(_))), "{error:?}");
    assert!(store.stored(fresh.id).await.is_none());
    assert_eq!(store.log().await.len(), 3);
}
