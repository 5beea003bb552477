//! The board: whatever comes twice or late changes nothing, and two builds stand side by side.

use taskpost_common::{
    Position, ProjectId, TaskId,
    task::{Priority, StatusCategory, Task},
};
use taskpost_store::{
    MAX_BATCH, StoreError,
    board::{self, BoardChange, Card, Field, What, from_store, rebuild},
    leases,
    progress::{self, Step},
};

use crate::harness::Store;

both!(
    a_card_takes_only_what_is_newer,
    counts_follow_what_really_changed,
    many_changes_are_taken_at_once,
    an_end_without_a_beginning_is_remembered,
    a_deleted_project_is_empty,
    what_is_gone_leaves_no_texts,
    the_tasks_themselves_show_the_same,
    a_column_is_read_page_by_page,
    two_builds_stand_side_by_side,
    the_live_board_stands_where_its_group_does,
);

/// The build that is shown at first.
const LIVE: i64 = 1;

fn task(store: &Store, project: ProjectId) -> Task {
    Task { project_id: Some(project), key: Some("OPS-1".to_owned()), ..store.task(store.id(), None) }
}

fn change(project: ProjectId, position: i64, what: What) -> BoardChange {
    BoardChange { position: Position(position), project_id: project, what }
}

fn made(task: &Task, project: ProjectId, position: i64) -> BoardChange {
    change(project, position, What::Made(Box::new(Card::new(task, project, Position(position)))))
}

fn set(task: &Task, project: ProjectId, position: i64, fields: Vec<Field>) -> BoardChange {
    change(project, position, What::Changed { task_id: task.id, version: position, fields })
}

fn moved(task: &Task, project: ProjectId, position: i64, to: &str) -> BoardChange {
    set(task, project, position, vec![Field::Status(to.to_owned())])
}

fn deleted(task: &Task, project: ProjectId, position: i64) -> BoardChange {
    change(project, position, What::Deleted { task_id: task.id, version: position })
}

async fn apply(store: &Store, build: i64, changes: &[BoardChange]) {
    let mut tx = store.begin().await;
    board::apply(&mut tx, build, changes).await.unwrap();
    tx.commit().await.unwrap();
}

async fn column(store: &Store, build: i64, project: ProjectId, status: &str) -> Vec<Card> {
    board::column(&mut store.reader().await, build, project, status, MAX_BATCH, None).await.unwrap()
}

async fn counts(store: &Store, build: i64, project: ProjectId) -> Vec<(String, i64)> {
    board::counts(&mut store.reader().await, build, project).await.unwrap()
}

fn counted(counts: &[(&str, i64)]) -> Vec<(String, i64)> {
    counts.iter().map(|(status, tasks)| ((*status).to_owned(), *tasks)).collect()
}

async fn a_card_takes_only_what_is_newer(store: Store) {
    let project = store.id();
    let mut task = task(&store, project);
    task.labels = vec!["a\"b".to_owned(), "Ü".to_owned()];
    task.due_at = Some(store.clock.now());
    apply(&store, LIVE, &[made(&task, project, 5)]).await;
    let mut expected = Card::new(&task, project, Position(5));
    assert_eq!(column(&store, LIVE, project, "todo").await, [expected.clone()]);

    let category = store.id();
    let assignee = store.id();
    let fields = vec![
        Field::Title("b".to_owned()),
        Field::TaskType("bug".to_owned()),
        Field::Priority(Priority::Urgent),
        Field::Category(Some(category)),
        Field::Assignee(Some(assignee)),
        Field::Labels(Vec::new()),
        Field::DueAt(None),
    ];
    apply(&store, LIVE, &[set(&task, project, 7, fields)]).await;
    (expected.title, expected.task_type) = ("b".to_owned(), "bug".to_owned());
    (expected.priority, expected.category_id) = (Priority::Urgent, Some(category));
    (expected.assignee_id, expected.labels, expected.due_at) = (Some(assignee), Vec::new(), None);
    (expected.version, expected.position) = (7, Position(7));
    assert_eq!(column(&store, LIVE, project, "todo").await, [expected.clone()]);

    let commented = |position, comment_count| {
        change(project, position, What::Commented { task_id: task.id, comment_count })
    };
    // All of them came before what the card shows.
    for late in [made(&task, project, 5), moved(&task, project, 6, "done"), commented(7, 9)] {
        apply(&store, LIVE, &[late]).await;
        assert_eq!(column(&store, LIVE, project, "todo").await, [expected.clone()]);
    }
    apply(&store, LIVE, &[commented(8, 3)]).await;
    (expected.comment_count, expected.position) = (3, Position(8));
    assert_eq!(column(&store, LIVE, project, "todo").await, [expected]);
    assert_eq!(counts(&store, LIVE, project).await, counted(&[("todo", 1)]));
    assert_eq!(
        board::position(&mut store.reader().await, LIVE, project).await.unwrap(),
        Position(8),
        "the highest, though lower ones came after it"
    );
    assert_eq!(board::position(&mut store.reader().await, LIVE, store.id()).await.unwrap(), Position(0));
}

async fn counts_follow_what_really_changed(store: Store) {
    let (project, other): (ProjectId, ProjectId) = (store.id(), store.id());
    let [one, two, three] = [(); 3].map(|()| task(&store, project));
    let foreign = task(&store, other);
    let changes = [
        made(&one, project, 1),
        made(&two, project, 2),
        made(&foreign, other, 3),
        made(&three, project, 4),
        moved(&one, project, 5, "done"),
        moved(&two, project, 6, "done"),
        moved(&one, project, 7, "todo"),
        deleted(&two, project, 8),
        moved(&foreign, other, 9, "done"),
    ];
    let expected = [counted(&[("todo", 2)]), counted(&[("done", 1)])];
    // At once, one by one and in pieces, each into a build of its own; then once more, and once more backwards.
    for (build, pieces) in (LIVE..).zip([changes.len(), 1, 2, 4]) {
        for some in changes.chunks(pieces).chain(changes.chunks(pieces)) {
            apply(&store, build, some).await;
        }
        for late in changes.iter().rev() {
            apply(&store, build, std::slice::from_ref(late)).await;
        }
        let found = [counts(&store, build, project).await, counts(&store, build, other).await];
        assert_eq!(found, expected, "in pieces of {pieces}");
    }
    let shown: Vec<TaskId> =
        column(&store, LIVE, project, "todo").await.iter().map(|card| card.task_id).collect();
    assert_eq!(shown, [three.id, one.id], "newest first, and none that is gone");
}

async fn many_changes_are_taken_at_once(store: Store) {
    let project = store.id();
    let tasks: Vec<Task> = (0..MAX_BATCH + 300).map(|_| task(&store, project)).collect();
    let mut changes: Vec<BoardChange> =
        (1..).zip(&tasks).map(|(position, task)| made(task, project, position)).collect();
    let next = i64::try_from(changes.len()).unwrap() + 1;
    changes.extend((next..).zip(&tasks[..250]).map(|(at, task)| moved(task, project, at, "done")));
    apply(&store, LIVE, &changes).await;
    apply(&store, LIVE, &changes).await;
    let expected = counted(&[("done", 250), ("todo", 550)]);
    assert_eq!(counts(&store, LIVE, project).await, expected);
    assert_eq!(store.number("SELECT count(*) FROM board_cards WHERE NOT gone").await, 800);
    apply(&store, LIVE, &[]).await;
}

async fn an_end_without_a_beginning_is_remembered(store: Store) {
    let project = store.id();
    let task = task(&store, project);
    apply(&store, LIVE, &[moved(&task, project, 4, "done"), deleted(&task, project, 6)]).await;
    apply(&store, LIVE, &[made(&task, project, 2), moved(&task, project, 3, "done")]).await;
    assert!(counts(&store, LIVE, project).await.is_empty());
    assert_eq!(store.number("SELECT count(*) FROM board_cards WHERE gone").await, 1);
}

async fn a_deleted_project_is_empty(store: Store) {
    let (project, other): (ProjectId, ProjectId) = (store.id(), store.id());
    let tasks: Vec<Task> = (0..MAX_BATCH + 20).map(|_| task(&store, project)).collect();
    let mut changes: Vec<BoardChange> =
        (1..).zip(&tasks).map(|(position, task)| made(task, project, position)).collect();
    let after = i64::try_from(changes.len()).unwrap() + 2;
    changes.push(change(project, after, What::ProjectDeleted));
    let foreign = task(&store, other);
    changes.push(made(&foreign, other, after + 1));
    apply(&store, LIVE, &changes).await;
    // Told of it after the project was, which happens on Kafka.
    apply(&store, LIVE, &[deleted(&tasks[0], project, after - 1)]).await;
    assert!(counts(&store, LIVE, project).await.is_empty());
    assert!(column(&store, LIVE, project, "todo").await.is_empty());
    assert_eq!(counts(&store, LIVE, other).await, counted(&[("todo", 1)]));
}

async fn what_is_gone_leaves_no_texts(store: Store) {
    const TEXTS: &str = "
        SELECT count(*) FROM board_cards WHERE title <> '' OR task_type <> '' OR status <> '' OR labels <> '[]'
            OR key IS NOT NULL OR category_id IS NOT NULL OR assignee_id IS NOT NULL OR due_at IS NOT NULL";
    let project = store.id();
    let [one, two] = [(); 2].map(|()| Task {
        labels: vec!["a".to_owned()],
        due_at: Some(store.clock.now()),
        assignee_id: Some(store.id()),
        ..task(&store, project)
    });
    apply(&store, LIVE, &[made(&one, project, 1), made(&two, project, 2), deleted(&one, project, 3)]).await;
    assert_eq!(store.number(TEXTS).await, 1);
    apply(&store, LIVE, &[change(project, 4, What::ProjectDeleted)]).await;
    // What comes late does not bring them back.
    apply(&store, LIVE, &[made(&one, project, 1), moved(&two, project, 3, "done")]).await;
    assert_eq!(store.number(TEXTS).await, 0);
    let gone = rebuild::by_ids(&mut store.reader().await, LIVE, &[one.id, two.id]).await.unwrap();
    let places: Vec<_> = gone.values().map(|card| (card.gone, card.version, card.position.0)).collect();
    assert_eq!(places, [(true, 3, 3), (true, 1, 4)]);
    assert!(counts(&store, LIVE, project).await.is_empty());
}

async fn the_tasks_themselves_show_the_same(store: Store) {
    let (project, other): (ProjectId, ProjectId) = (store.id(), store.id());
    let mut tasks: Vec<Task> = (0..6).map(|_| task(&store, project)).collect();
    for (i, task) in tasks.iter_mut().enumerate() {
        task.key = Some(format!("OPS-{i}"));
        task.labels = vec![format!("{i}")];
    }
    tasks[1].status = "in_review".to_owned();
    tasks[1].status_category = StatusCategory::InProgress;
    tasks[2].assignee_id = Some(store.id());
    tasks[3].due_at = Some(store.clock.now());
    let foreign = Task { key: Some("X-1".to_owned()), ..task(&store, other) };
    store.store(&tasks).await;
    store.store(&[foreign, store.task(store.id(), None)]).await;
    let changes: Vec<BoardChange> =
        (1..).zip(&tasks).map(|(position, task)| made(task, project, position)).collect();
    apply(&store, LIVE, &changes).await;
    let mut reader = store.reader().await;
    assert_eq!(
        from_store::counts(&mut reader, project).await.unwrap(),
        board::counts(&mut reader, LIVE, project).await.unwrap()
    );
    for (status, found) in [("todo", 5), ("in_review", 1), ("done", 0)] {
        let view = board::column(&mut reader, LIVE, project, status, 9, None).await.unwrap();
        let mut same = from_store::column(&mut reader, project, status, 9, None).await.unwrap();
        assert!(same.iter().all(|card| card.position == Position(0)));
        for (card, shown) in same.iter_mut().zip(&view) {
            card.position = shown.position;
        }
        assert_eq!((same.len(), same), (found, view), "{status}");
    }
}

async fn a_column_is_read_page_by_page(store: Store) {
    let project = store.id();
    let tasks: Vec<Task> =
        (0..5).map(|i| Task { key: Some(format!("OPS-{i}")), ..task(&store, project) }).collect();
    store.store(&tasks).await;
    let changes: Vec<BoardChange> =
        (1..).zip(&tasks).map(|(position, task)| made(task, project, position)).collect();
    apply(&store, LIVE, &changes).await;
    let mut reader = store.reader().await;
    let (mut view, mut same) = (Vec::new(), Vec::new());
    for _ in 0..3 {
        let (of_view, of_same) = (view.last().copied(), same.last().copied());
        let page = board::column(&mut reader, LIVE, project, "todo", 2, of_view).await.unwrap();
        view.extend(page.iter().map(|card| card.task_id));
        let page = from_store::column(&mut reader, project, "todo", 2, of_same).await.unwrap();
        same.extend(page.iter().map(|card| card.task_id));
    }
    let newest_first: Vec<TaskId> = tasks.iter().rev().map(|task| task.id).collect();
    assert_eq!((view, same), (newest_first.clone(), newest_first));
}

async fn two_builds_stand_side_by_side(store: Store) {
    let project = store.id();
    let [one, two] = [(); 2].map(|()| task(&store, project));
    let changes = [made(&one, project, 1), made(&two, project, 2)];
    apply(&store, LIVE, &changes).await;
    apply(&store, LIVE + 1, &changes).await;
    apply(&store, LIVE + 1, &[moved(&two, project, 3, "done")]).await;

    let mut reader = store.reader().await;
    assert_eq!(board::live_build(&mut reader, board::NAME).await.unwrap(), LIVE);
    let first = rebuild::page(&mut reader, LIVE, None, 1).await.unwrap();
    let rest = rebuild::page(&mut reader, LIVE, Some(first[0].task_id), 9).await.unwrap();
    let ids: Vec<TaskId> = first.iter().chain(&rest).map(|card| card.task_id).collect();
    assert_eq!(ids, [one.id, two.id]);
    let found = rebuild::by_ids(&mut reader, LIVE + 1, &[two.id, store.id()]).await.unwrap();
    assert_eq!((found.len(), found[&two.id].status.as_str()), (1, "done"));
    let differences = rebuild::count_differences(&mut reader, LIVE, LIVE + 1).await.unwrap();
    let differences: Vec<_> =
        differences.iter().map(|row| (row.status.as_str(), row.live, row.rebuilt)).collect();
    assert_eq!(differences, [("done", 0, 1), ("todo", 2, 1)]);
    assert!(rebuild::count_differences(&mut reader, LIVE, LIVE).await.unwrap().is_empty());
    drop(reader);

    let mut tx = store.begin().await;
    let refused = rebuild::remove(&mut tx, LIVE, 9).await.unwrap_err();
    assert!(matches!(refused, StoreError::Stale(_)), "{refused}");
    tx.rollback().await.unwrap();
    let mut tx = store.begin().await;
    assert_eq!(rebuild::lock(&mut tx).await.unwrap(), LIVE);
    rebuild::show(&mut tx, LIVE + 1, store.clock.now()).await.unwrap();
    tx.commit().await.unwrap();
    let mut tx = store.begin().await;
    assert_eq!(board::hold(&mut tx).await.unwrap(), LIVE + 1);
    let mut removed = 0;
    loop {
        let some = rebuild::remove(&mut tx, LIVE, 1).await.unwrap();
        if some == 0 {
            break;
        }
        removed += some;
    }
    assert_eq!(removed, 2 + 1 + 1, "cards, a count, and how far the project was");
    tx.commit().await.unwrap();
    assert_eq!(counts(&store, LIVE + 1, project).await, counted(&[("done", 1), ("todo", 1)]));
}

async fn the_live_board_stands_where_its_group_does(store: Store) {
    let standing = async || rebuild::standing(&mut store.reader().await).await.unwrap();
    assert_eq!((standing().await.applied, standing().await.highest), (Position(0), Position(0)));
    let mut tx = store.begin().await;
    let step = Step { partition: "", from: Position(0), to: Position(9) };
    assert!(progress::advance(&mut tx, board::GROUP, &[step], store.clock.now()).await.unwrap());
    tx.commit().await.unwrap();
    assert_eq!((standing().await.applied, standing().await.highest), (Position(9), Position(9)));
    // A partition of Kafka may be ahead of what is known of the others.
    let mut tx = store.begin().await;
    let step = Step { partition: "work/1", from: Position(0), to: Position(12) };
    assert!(progress::advance(&mut tx, board::GROUP, &[step], store.clock.now()).await.unwrap());
    tx.commit().await.unwrap();
    assert_eq!((standing().await.applied, standing().await.highest), (Position(9), Position(12)));

    let (holder, now) = (store.id(), store.clock.now());
    let until = now + chrono::Duration::seconds(30);
    assert!(leases::take(&store.db, "replay.board", holder, now, until).await.unwrap());
    let mut reader = store.reader().await;
    assert!(leases::holds(&mut reader, "replay.board", holder).await.unwrap());
    assert!(!leases::holds(&mut reader, "replay.board", store.id()).await.unwrap());
    assert!(!leases::holds(&mut reader, "another", holder).await.unwrap());
}
