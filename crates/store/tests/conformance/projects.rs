//! Projects: who keeps one, who changes one, and the changes of very many tasks of one at once.

use taskpost_common::{
    CategoryId, Envelope, Event, ProjectId, UserId,
    event::AssignCause,
    task::{Task, TaskRef},
};
use taskpost_store::{MAX_BATCH, StoreError, projects, tasks};
use uuid::Uuid;

use crate::harness::{Store, run, until};

both!(
    what_is_dealt_out_is_never_stale,
    a_kick_takes_all_tasks_in_portions,
    a_category_loses_all_tasks_in_portions,
    a_project_takes_all_tasks_in_portions,
);

/// More than two portions.
const MANY: usize = 2 * MAX_BATCH + 1;

/// So many tasks of a project, as they are stored.
async fn stored(store: &Store, count: usize, edit: impl Fn(&mut Task)) -> Vec<Task> {
    let reporter = store.id();
    let mut made = Vec::with_capacity(count);
    for _ in 0..count {
        let mut task = store.task(reporter, None);
        edit(&mut task);
        made.push(task);
    }
    for some in made.chunks(MAX_BATCH) {
        store.store(some).await;
    }
    made.sort_unstable_by_key(|task| task.id);
    made
}

/// What is told after the first so many events, which must be of these tasks, in their order.
async fn told_since(store: &Store, known: usize, of: &[Task]) -> Vec<Envelope> {
    let told = store.log().await.split_off(known);
    let aggregates: Vec<Uuid> = told.iter().map(|event| event.aggregate_id).collect();
    assert_eq!(aggregates, of.iter().map(|task| task.id.0).collect::<Vec<_>>());
    told
}

/// Until a transaction waits for another one's task. SQLite's second writer waits for its turn to begin at all.
async fn until_a_task_is_waited_for(store: &Store) {
    const WAITING: &str = "
        SELECT count(*) FROM pg_locks AS has JOIN pg_locks AS wants ON wants.pid = has.pid AND NOT wants.granted
        WHERE has.relation = 'tasks'::regclass";
    if store.db.has_outbox() {
        until("a task is waited for", async || (store.number(WAITING).await > 0).then_some(())).await;
    }
}

async fn what_is_dealt_out_is_never_stale(store: Store) {
    let (project, bob): (ProjectId, UserId) = (store.id(), store.id());
    let before = stored(&store, 1, |task| task.project_id = Some(project)).await.remove(0);
    let mut edit = store.begin().await;
    let titled = Task { title: "Other".to_owned(), ..before.clone() };
    tasks::update(&mut edit, store.change(), &before, titled).await.unwrap();
    let other = store.clone();
    let deal = tokio::spawn(async move {
        let mut tx = other.begin().await;
        let open = tasks::open_in_project(&mut tx, project, 10).await.unwrap();
        let given = |task: Task| (task.clone(), Task { assignee_id: Some(bob), ..task });
        let edits = open.into_iter().map(given).collect();
        tasks::change_many(&mut tx, other.change(), edits, AssignCause::Reassign).await.unwrap();
        tx.commit().await.unwrap();
    });
    until_a_task_is_waited_for(&store).await;
    edit.commit().await.unwrap();
    deal.await.unwrap();
    let after = store.stored(before.id).await.unwrap();
    assert_eq!((after.title.as_str(), after.assignee_id, after.version), ("Other", Some(bob), 3));
}

async fn a_kick_takes_all_tasks_in_portions(store: Store) {
    let (project, bob): (ProjectId, UserId) = (store.id(), store.id());
    let of_bob = stored(&store, MANY, |task| {
        (task.project_id, task.assignee_id) = (Some(project), Some(bob));
    })
    .await;
    stored(&store, 1, |task| task.assignee_id = Some(bob)).await;
    let known = store.log().await.len();
    let mut tx = store.begin().await;
    let last = tasks::unassign_in_project(&mut tx, store.change(), project, bob).await.unwrap();
    tx.commit().await.unwrap();
    let told = told_since(&store, known, &of_bob).await;
    assert_eq!(last, told.last().map(|event| event.id));
    for event in told {
        let Event::TaskUnassigned(data) = event.decode().unwrap() else { panic!("{event:?}") };
        assert_eq!((data.previous_assignee_id, data.cause), (bob, AssignCause::Removal));
    }
    let left = "SELECT count(*) FROM tasks WHERE assignee_id IS NOT NULL";
    assert_eq!(store.number(left).await, 1, "what is elsewhere stays");
}

async fn a_category_loses_all_tasks_in_portions(store: Store) {
    let (project, category): (ProjectId, CategoryId) = (store.id(), store.id());
    let grouped = stored(&store, MANY, |task| {
        (task.project_id, task.category_id) = (Some(project), Some(category));
    })
    .await;
    let known = store.log().await.len();
    let mut tx = store.begin().await;
    tasks::ungroup(&mut tx, store.change(), project, category).await.unwrap();
    tx.commit().await.unwrap();
    let told = told_since(&store, known, &grouped).await;
    assert!(told.iter().all(|event| event.type_name == "task.updated" && event.aggregate_version == 2));
    assert_eq!(store.number("SELECT count(*) FROM tasks WHERE category_id IS NOT NULL").await, 0);
}

async fn a_project_takes_all_tasks_in_portions(store: Store) {
    let (project, kept): (ProjectId, ProjectId) = (store.id(), store.id());
    let gone = stored(&store, MANY, |task| task.project_id = Some(project)).await;
    stored(&store, 1, |task| task.project_id = Some(kept)).await;
    let known = store.log().await.len();
    let mut tx = store.begin().await;
    let last = tasks::delete_in_project(&mut tx, store.change(), project).await.unwrap();
    tx.commit().await.unwrap();
    let told = told_since(&store, known, &gone).await;
    assert_eq!(last, told.last().map(|event| event.id));
    for (event, task) in told.iter().zip(&gone) {
        let Event::TaskDeleted(data) = event.decode().unwrap() else { panic!("{event:?}") };
        assert_eq!((data.task, data.cascade), (TaskRef { version: 2, ..task.reference() }, true));
        assert_eq!((event.project_id, event.owner_id), (task.project_id, Some(task.reporter_id)));
    }
    assert_eq!(store.number("SELECT count(*) FROM tasks").await, 1);
}

/// Takes its time: two seconds is how long Postgres waits for a lock.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_changes_a_project_waits_for_all_who_keep_it_on_postgres() {
    run(Store::postgres().await, async |store: Store| {
        let (project, other): (ProjectId, ProjectId) = (store.id(), store.id());
        let (mut one, mut two) = (store.begin().await, store.begin().await);
        projects::keep(&mut one, project).await.unwrap();
        projects::keep(&mut two, project).await.unwrap();
        one.commit().await.unwrap();
        let mut change = store.begin().await;
        projects::lock(&mut change, other).await.unwrap();
        let error = projects::lock(&mut change, project).await.unwrap_err();
        assert!(matches!(error, StoreError::Locked(_)), "{error:?}");
        change.rollback().await.unwrap();
        two.commit().await.unwrap();
        let mut change = store.begin().await;
        projects::lock(&mut change, project).await.unwrap();
        change.commit().await.unwrap();
    })
    .await;
}
