//! Lists and boards of a large project are read by indexes: no statement goes through all tasks there are.

use std::time::Duration;

use taskpost_common::{
    Position, ProjectId, UserId,
    task::{Priority, StatusCategory, Task, TaskState},
};
use taskpost_store::{
    MAX_BATCH, Plan,
    board::{self, BoardChange, Card, What},
    tasks::{self, After, Reach, TaskFilter, TaskOrder, Within},
};

use crate::harness::Store;

both!(a_large_project_is_read_by_indexes);

/// How many tasks the project has, and each of those before and behind it.
const LARGE: usize = 5_000;
const OTHERS: usize = 1_500;
/// Rows that a page asks for.
const PAGE: usize = 21;
/// So much less than the project holds that an index pays on Postgres.
const REACH: Reach = Reach { rows: 200, ..Reach::USUAL };
/// The build that is shown at first.
const LIVE: i64 = 1;

async fn a_large_project_is_read_by_indexes(store: Store) {
    let people: Vec<UserId> = (0..5).map(|_| store.id()).collect();
    fill(&store, &people, OTHERS).await;
    let tasks = fill(&store, &people, LARGE).await;
    fill(&store, &people, OTHERS).await;
    let middle = &tasks[LARGE / 2];
    let large = middle.project_id.unwrap();

    // SQLite never counts its rows by itself; a server does after a while.
    if !store.db.has_outbox() {
        check(&store, people[2], middle).await;
    }
    for sql in ["ANALYZE tasks", "ANALYZE board_cards"] {
        store.execute(sql).await.unwrap();
    }
    check(&store, people[2], middle).await;

    // That they are missing is seen.
    for sql in [
        "DROP INDEX tasks_project",
        "DROP INDEX tasks_project_status",
        "DROP INDEX tasks_project_updated",
        "DROP INDEX tasks_project_due",
        "DROP INDEX tasks_updated",
        "DROP INDEX tasks_in_projects",
    ] {
        store.execute(sql).await.unwrap();
    }
    let filter = TaskFilter { order: TaskOrder::UpdatedAt, ..TaskFilter::default() };
    let mut reader = store.reader().await;
    // A connection to SQLite learns of it when it reads.
    tasks::list(&mut reader, Within::Projects(&[large]), &filter, None, PAGE).await.unwrap();
    let plans =
        tasks::explain(&mut reader, Within::Projects(&[large]), &filter, None, PAGE, REACH).await.unwrap();
    assert!(plans.iter().any(|plan| !plan.faults().is_empty()), "{plans:?}");
}

/// Every list of the project, in every order, from its beginning and from this task on, is read by an index, and so
/// is its board.
async fn check(store: &Store, assignee: UserId, from: &Task) {
    let project = from.project_id.unwrap();
    let mut reader = store.reader().await;
    for (order, at) in [
        (TaskOrder::CreatedAt, from.created_at),
        (TaskOrder::UpdatedAt, from.updated_at),
        (TaskOrder::DueAt, from.due_at.unwrap()),
    ] {
        let behind = After { at, id: from.id, backwards: false };
        let starts = [(false, None), (true, None), (false, Some(behind)), (true, Some(behind))];
        for (descending, after) in starts {
            for filter in filters(assignee) {
                let filter = TaskFilter { order, descending, ..filter };
                let within = [project];
                let within = Within::Projects(&within);
                by_indexes(&tasks::explain(&mut reader, within, &filter, after, PAGE, REACH).await.unwrap());
            }
        }
    }
    by_indexes(&board::explain(&mut reader, LIVE, project, "in_progress", PAGE).await.unwrap());
    by_indexes(&[tasks::explain_waiting(&mut reader, store.clock.now()).await.unwrap()]);
}

fn by_indexes(plans: &[Plan]) {
    assert!(!plans.is_empty());
    for plan in plans {
        assert!(!plan.steps.is_empty() && plan.faults().is_empty(), "{:?} of {plan}", plan.faults());
    }
}

/// Each selects something of what [`task`] makes.
fn filters(assignee: UserId) -> Vec<TaskFilter> {
    let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
    vec![
        TaskFilter::default(),
        TaskFilter { status: words(&["in_progress"]), ..TaskFilter::default() },
        TaskFilter { status: words(&["in_progress", "done"]), ..TaskFilter::default() },
        TaskFilter { state: Some(TaskState::Closed), ..TaskFilter::default() },
        TaskFilter { priority: vec![Priority::High, Priority::Urgent], ..TaskFilter::default() },
        TaskFilter { task_type: words(&["bug"]), ..TaskFilter::default() },
        TaskFilter { assignee_id: vec![assignee], ..TaskFilter::default() },
        TaskFilter { label: words(&["label-3"]), ..TaskFilter::default() },
        TaskFilter { words: words(&["work"]), ..TaskFilter::default() },
        TaskFilter { words: words(&["part", "1234"]), ..TaskFilter::default() },
    ]
}

/// Stores so many tasks of a project of their own, with their cards on its board.
async fn fill(store: &Store, people: &[UserId], count: usize) -> Vec<Task> {
    let project = store.id();
    let tasks: Vec<Task> = (0..count).map(|number| task(store, project, people, number)).collect();
    for tasks in tasks.chunks(MAX_BATCH) {
        store.store(tasks).await;
        let made = |(task, position)| BoardChange {
            position: Position(position),
            project_id: project,
            what: What::Made(Box::new(Card::new(task, project, Position(position)))),
        };
        let changes: Vec<BoardChange> = tasks.iter().zip(1..).map(made).collect();
        let mut tx = store.begin().await;
        board::apply(&mut tx, LIVE, &changes).await.unwrap();
        tx.commit().await.unwrap();
    }
    tasks
}

fn task(store: &Store, project: ProjectId, people: &[UserId], number: usize) -> Task {
    store.clock.advance(Duration::from_secs(1));
    let now = store.clock.now();
    let (status, status_category) = match number % 3 {
        0 => ("todo", StatusCategory::Todo),
        1 => ("in_progress", StatusCategory::InProgress),
        _ => ("done", StatusCategory::Done),
    };
    let closed = status_category == StatusCategory::Done;
    Task {
        project_id: Some(project),
        task_type: ["task", "bug", "feature", "chore"][number / 5 % 4].to_owned(),
        title: format!("Part {number} of the work"),
        status: status.to_owned(),
        status_category,
        state: status_category.state(),
        priority: Priority::ALL[number % Priority::ALL.len()],
        resolution: closed.then(|| "done".to_owned()),
        labels: vec![format!("label-{}", number % 10)],
        due_at: number.is_multiple_of(2).then(|| now + Duration::from_hours(24)),
        completed_at: closed.then_some(now),
        ..store.task(people[0], people.get(number % 25).copied())
    }
}
