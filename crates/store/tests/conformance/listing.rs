//! Lists of tasks, and pages of them that neither skip nor repeat.

use std::{collections::BTreeSet, time::Duration};

use proptest::{
    prelude::*,
    test_runner::{Config, TestRunner},
};
use taskpost_common::{
    Clock, TaskId, UserId,
    task::{Priority, StatusCategory, Task, TaskState},
};
use taskpost_store::{
    Viewer,
    tasks::{self, After, Place, TaskFilter, TaskOrder, Within},
};

use crate::harness::{Store, plain};

both!(
    filters_narrow,
    pages_join_into_the_whole_in_both_directions,
    a_task_of_two_reasons_is_listed_once,
    walking_pages_beside_writers_misses_and_repeats_nothing,
);

/// Where somebody looks.
pub fn within(viewer: Viewer) -> Within<'static> {
    if viewer.admin { Within::Everything } else { Within::Seen(viewer.user_id) }
}

/// All tasks, from the oldest.
async fn filters_narrow(store: Store) {
    let (ada, bob): (UserId, UserId) = (store.id(), store.id());
    let mut rows = Vec::new();
    for i in 0..4 {
        let mut task = store.task(ada, (i == 3).then_some(bob));
        (task.created_at, task.updated_at) = (store.clock.now(), store.clock.now());
        rows.push(task);
        store.clock.advance(Duration::from_secs(1));
    }
    rows[1].priority = Priority::High;
    rows[1].task_type = "bug".to_owned();
    rows[2].status = "done".to_owned();
    (rows[2].status_category, rows[2].state) = (StatusCategory::Done, TaskState::Closed);
    (rows[2].resolution, rows[2].completed_at) = (Some("done".to_owned()), Some(store.clock.now()));
    rows[3].reporter_id = bob;
    store.store(&rows).await;

    let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
    let table: Vec<(&str, TaskFilter, &[usize])> = vec![
        ("all", TaskFilter::default(), &[0, 1, 2, 3]),
        ("descending", TaskFilter { descending: true, ..TaskFilter::default() }, &[3, 2, 1, 0]),
        ("status", TaskFilter { status: words(&["done", "backlog"]), ..TaskFilter::default() }, &[2]),
        ("statuses", TaskFilter { status: words(&["done", "todo"]), ..TaskFilter::default() }, &[0, 1, 2, 3]),
        ("open", TaskFilter { state: Some(TaskState::Open), ..TaskFilter::default() }, &[0, 1, 3]),
        ("closed", TaskFilter { state: Some(TaskState::Closed), ..TaskFilter::default() }, &[2]),
        (
            "priority",
            TaskFilter { priority: vec![Priority::High, Priority::Low], ..TaskFilter::default() },
            &[1],
        ),
        ("type", TaskFilter { task_type: words(&["bug"]), ..TaskFilter::default() }, &[1]),
        ("type, other case", TaskFilter { task_type: words(&["BUG"]), ..TaskFilter::default() }, &[]),
        ("assignee", TaskFilter { assignee_id: vec![bob, ada], ..TaskFilter::default() }, &[3]),
        ("reporter", TaskFilter { reporter_id: vec![ada], ..TaskFilter::default() }, &[0, 1, 2]),
        ("from", TaskFilter { created_from: Some(rows[2].created_at), ..TaskFilter::default() }, &[2, 3]),
        ("before", TaskFilter { created_before: Some(rows[2].created_at), ..TaskFilter::default() }, &[0, 1]),
        (
            "many at once",
            TaskFilter {
                state: Some(TaskState::Open),
                reporter_id: vec![ada],
                descending: true,
                ..TaskFilter::default()
            },
            &[1, 0],
        ),
    ];
    for (what, filter, wanted) in table {
        for order in [TaskOrder::CreatedAt, TaskOrder::UpdatedAt] {
            let filter = TaskFilter { order, ..filter.clone() };
            let wanted: Vec<&Task> = wanted.iter().map(|i| &rows[*i]).collect();
            let found = tasks::list(&mut store.reader().await, within(store.admin()), &filter, None, 50)
                .await
                .unwrap()
                .tasks;
            assert_eq!(found.iter().collect::<Vec<_>>(), wanted, "{what} by {order:?} as admin");
            let own: Vec<&Task> = wanted.into_iter().filter(|task| task.reporter_id == ada).collect();
            let found = tasks::list(&mut store.reader().await, within(plain(ada)), &filter, None, 50)
                .await
                .unwrap()
                .tasks;
            assert_eq!(found.iter().collect::<Vec<_>>(), own, "{what} by {order:?} as reporter");
        }
    }
}

fn page_start(task: &Task, order: TaskOrder, backwards: bool) -> After {
    let Place { at, id } = order.place(task);
    After { at, id, backwards }
}

async fn pages_join_into_the_whole_in_both_directions(store: Store) {
    let ada = store.id();
    let mut rows = Vec::new();
    for i in 0..11 {
        let mut task = store.task(ada, None);
        // Several share a time, and the order by change is not that of creation.
        task.created_at = store.clock.now() - chrono::Duration::milliseconds(1);
        task.updated_at = store.clock.now() - chrono::Duration::microseconds(i / 3);
        rows.push(task);
    }
    store.store(&rows).await;
    for viewer in [plain(ada), store.admin()] {
        for (order, descending) in
            [TaskOrder::CreatedAt, TaskOrder::UpdatedAt].map(|order| [(order, false), (order, true)]).concat()
        {
            let filter = TaskFilter { order, descending, ..TaskFilter::default() };
            let mut reader = store.reader().await;
            let whole = tasks::list(&mut reader, within(viewer), &filter, None, 50).await.unwrap().tasks;
            let mut wanted = rows.clone();
            wanted.sort_by_key(|task| {
                (if order == TaskOrder::UpdatedAt { task.updated_at } else { task.created_at }, task.id)
            });
            if descending {
                wanted.reverse();
            }
            assert_eq!(whole, wanted, "{filter:?}");
            for size in [1, 4, 11] {
                let first = tasks::list(&mut reader, within(viewer), &filter, None, size).await.unwrap();
                let mut joined = first.tasks;
                while let Some(last) = joined.last().filter(|_| joined.len() < rows.len()) {
                    let start = page_start(last, order, false);
                    let page = tasks::list(&mut reader, within(viewer), &filter, Some(start), size).await;
                    joined.extend(page.unwrap().tasks);
                }
                assert_eq!(joined, whole, "forwards by {size}: {filter:?}");
                let mut joined = vec![whole[10].clone()];
                while joined.len() < rows.len() {
                    let start = page_start(&joined[0], order, true);
                    let page = tasks::list(&mut reader, within(viewer), &filter, Some(start), size).await;
                    joined.splice(0..0, page.unwrap().tasks);
                }
                assert_eq!(joined, whole, "backwards by {size}: {filter:?}");
            }
            for (end, backwards) in [(&whole[10], false), (&whole[0], true)] {
                let start = Some(page_start(end, order, backwards));
                let beyond = tasks::list(&mut reader, within(viewer), &filter, start, 5).await.unwrap();
                assert!(beyond.tasks.is_empty() && beyond.end.is_none());
            }
        }
    }
}

async fn a_task_of_two_reasons_is_listed_once(store: Store) {
    let ada = store.id();
    let rows = [store.task(ada, Some(ada)), store.task(store.id(), Some(ada)), store.task(ada, None)];
    store.store(&rows).await;
    store.store(&[store.task(store.id(), None)]).await;
    let found = tasks::list(&mut store.reader().await, within(plain(ada)), &TaskFilter::default(), None, 50)
        .await
        .unwrap();
    assert_eq!(found.tasks, rows);
    let first = tasks::list(&mut store.reader().await, within(plain(ada)), &TaskFilter::default(), None, 2)
        .await
        .unwrap();
    assert_eq!(first.tasks, rows[..2]);
}

/// A walk through pages, and what others insert before each of them.
#[derive(Clone, Debug)]
struct Walk {
    size: usize,
    order: TaskOrder,
    descending: bool,
    backwards: bool,
    /// Seconds around the middle, for the ids and for the times of the last change: what is there before.
    there: Vec<(i64, i64)>,
    /// And what comes during the walk.
    coming: Vec<Vec<(i64, i64)>>,
}

fn walks() -> impl Strategy<Value = Walk> {
    let row = || (-9_i64..9, -3_i64..3);
    let order = prop_oneof![Just(TaskOrder::CreatedAt), Just(TaskOrder::UpdatedAt)];
    let coming = prop::collection::vec(prop::collection::vec(row(), 0..4), 0..6);
    (1_usize..6, order, any::<bool>(), any::<bool>(), prop::collection::vec(row(), 1..14), coming).prop_map(
        |(size, order, descending, backwards, there, coming)| Walk {
            size,
            order,
            descending,
            backwards,
            there,
            coming,
        },
    )
}

async fn walking_pages_beside_writers_misses_and_repeats_nothing(store: Store) {
    let config = Config { cases: 16, failure_persistence: None, ..Config::default() };
    tokio::task::block_in_place(|| {
        TestRunner::new(config)
            .run(&walks(), |plan| tokio::runtime::Handle::current().block_on(walk(&store, plan)))
            .unwrap();
    });
}

async fn walk(store: &Store, plan: Walk) -> Result<(), TestCaseError> {
    let ada = store.id();
    let make = |(made, changed): (i64, i64)| {
        let at = store.clock.now() + chrono::Duration::seconds(made);
        let mut task = store.task(ada, None);
        task.id = Clock::manual(at).id();
        task.created_at = at;
        task.updated_at = store.clock.now() + chrono::Duration::seconds(changed);
        task
    };
    let there: Vec<Task> = plan.there.iter().copied().map(make).collect();
    store.store(&there).await;
    let filter = TaskFilter { order: plan.order, descending: plan.descending, ..TaskFilter::default() };
    let list = async |start, size| {
        let found = tasks::list(&mut store.reader().await, within(plain(ada)), &filter, start, size).await;
        found.unwrap().tasks
    };

    let mut wanted: BTreeSet<TaskId> = there.iter().map(|task| task.id).collect();
    let mut seen: Vec<TaskId> = Vec::new();
    let mut start = None;
    if plan.backwards {
        let end = list(None, 50).await.pop().unwrap();
        wanted.remove(&end.id);
        start = Some(page_start(&end, plan.order, true));
    }
    let mut coming = plan.coming.into_iter();
    loop {
        if let Some(rows) = coming.next() {
            store.store(&rows.into_iter().map(make).collect::<Vec<_>>()).await;
        }
        let page = list(start, plan.size).await;
        seen.extend(page.iter().map(|task| task.id));
        let next = if plan.backwards { page.first() } else { page.last() };
        let Some(next) = next else { break };
        start = Some(page_start(next, plan.order, plan.backwards));
    }
    let once: BTreeSet<TaskId> = seen.iter().copied().collect();
    prop_assert_eq!(once.len(), seen.len(), "a row came twice");
    prop_assert!(wanted.is_subset(&once), "a row that was there is missing");
    Ok(())
}
