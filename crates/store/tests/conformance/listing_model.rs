//! Every list beside a plain model of it: walking all pages shows every wanted task once, in its place, however little a
//! page may look at.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, SubsecRound as _, TimeDelta, Utc};
use taskpost_common::{
    CategoryId, Clock, ProjectId, TaskId, UserId,
    project::{ProjectRole, Visibility},
    task::{Priority, StatusCategory, Task, TaskState},
};
use taskpost_store::{
    members,
    tasks::{self, After, Place, Reach, TaskFilter, TaskOrder, Within},
};
use uuid::Uuid;

use crate::{events::project, harness::Store};

both!(every_list_is_as_its_model, many_projects_are_read_together);

const WORDS: [&str; 5] = ["lift", "stairs", "paint", "garden", "roof"];
const ORDERS: [TaskOrder; 3] = [TaskOrder::CreatedAt, TaskOrder::UpdatedAt, TaskOrder::DueAt];

/// Pages that see all, that look words up, and that meet them on the way.
const REACHES: [Reach; 3] =
    [Reach::USUAL, Reach { rows: 9, glance: 3, rare: 1_000 }, Reach { rows: 6, glance: 2, rare: 2 }];

async fn every_list_is_as_its_model(store: Store) {
    let mut dice = Dice(1);
    let world = World::new(&store, &mut dice, 6, 45).await;
    let asked = &world.projects[..4];
    let viewers = [
        Within::Everything,
        Within::Seen(world.users[0]),
        Within::Seen(world.users[1]),
        Within::Projects(&asked[..1]),
        Within::Projects(asked),
    ];
    for filter in world.filters() {
        for within in viewers {
            world.check(&store, &mut dice, within, &filter, 4).await;
        }
    }
}

async fn many_projects_are_read_together(store: Store) {
    let mut dice = Dice(2);
    let world = World::new(&store, &mut dice, 72, 90).await;
    let readable = |user| world.projects.iter().filter(|project| world.may_read(**project, user)).count();
    assert!(readable(world.users[0]) > 50 && readable(world.users[1]) < 50);
    let (words, state) = (vec![WORDS[0].to_owned()], Some(TaskState::Open));
    for filter in [
        TaskFilter::default(),
        TaskFilter { words, ..TaskFilter::default() },
        TaskFilter { state, ..TaskFilter::default() },
        TaskFilter { reporter_id: vec![world.users[2]], ..TaskFilter::default() },
    ] {
        for user in &world.users[..2] {
            world.check(&store, &mut dice, Within::Seen(*user), &filter, 12).await;
        }
    }
}

/// Chance that is the same each time.
struct Dice(u64);

impl Dice {
    /// A number below `sides`.
    fn roll(&mut self, sides: usize) -> usize {
        // The steps of SplitMix64.
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
        usize::try_from(mixed % u64::try_from(sides).unwrap()).unwrap()
    }

    fn one_of<T: Clone>(&mut self, of: &[T]) -> T {
        of[self.roll(of.len())].clone()
    }

    fn minutes(&mut self, below: usize) -> TimeDelta {
        TimeDelta::minutes(i64::try_from(self.roll(below)).unwrap())
    }
}

struct World {
    start: DateTime<Utc>,
    /// The first belongs to half of the projects, the last to all.
    users: Vec<UserId>,
    projects: Vec<ProjectId>,
    /// Who may read a project; everyone those that are not in it.
    readers: BTreeMap<ProjectId, BTreeSet<UserId>>,
    category: CategoryId,
    tasks: Vec<Task>,
}

impl World {
    async fn new(store: &Store, dice: &mut Dice, projects: usize, tasks: usize) -> Self {
        let mut users = Vec::new();
        for handle in ["ada", "bob", "eve", "root"] {
            users.push(store.user(handle).await.id);
        }
        let mut world = Self {
            // An id knows the millisecond of its making, and no more.
            start: store.clock.now().trunc_subsecs(3),
            users,
            projects: Vec::new(),
            readers: BTreeMap::new(),
            category: store.id(),
            tasks: Vec::new(),
        };
        for number in 0..projects {
            world.add_project(store, number).await;
        }
        for number in 0..tasks {
            let task = world.task(store, dice, number);
            world.tasks.push(task);
        }
        store.store(&world.tasks).await;
        world
    }

    async fn add_project(&mut self, store: &Store, number: usize) {
        let (ada, root) = (self.users[0], self.users[3]);
        let visibility = if number % 3 == 1 { Visibility::Private } else { Visibility::Internal };
        let project = project(store, &format!("P{number}"), visibility, root).await;
        let mut readers = BTreeSet::from([root]);
        if number.is_multiple_of(2) {
            let mut tx = store.begin().await;
            members::add(&mut tx, store.change(), &project, ada, ProjectRole::Viewer).await.unwrap();
            tx.commit().await.unwrap();
            readers.insert(ada);
        }
        self.projects.push(project.id);
        if visibility == Visibility::Private {
            self.readers.insert(project.id, readers);
        }
    }

    fn task(&self, store: &Store, dice: &mut Dice, number: usize) -> Task {
        let made = self.start + dice.minutes(30);
        let changed = if dice.roll(2) == 0 { made } else { made + dice.minutes(20) };
        let category = dice.one_of(&[StatusCategory::Todo, StatusCategory::InProgress, StatusCategory::Done]);
        let closed = category == StatusCategory::Done;
        let project = (dice.roll(5) > 1).then(|| dice.one_of(&self.projects));
        let labels = [vec![], vec!["a"], vec!["a\"b"], vec!["b", "[\"a"]];
        Task {
            id: Clock::manual(made).id(),
            project_id: project,
            category_id: project
                .filter(|id| *id == self.projects[0] && number.is_multiple_of(2))
                .map(|_| self.category),
            task_type: dice.one_of(&["task", "bug"]).to_owned(),
            title: format!("{} and {}", dice.one_of(&WORDS).to_uppercase(), dice.one_of(&WORDS)),
            description: dice.one_of(&["", WORDS[0]]).to_owned(),
            status: category.as_str().to_owned(),
            status_category: category,
            state: category.state(),
            priority: dice.one_of(&[Priority::None, Priority::High]),
            resolution: closed.then(|| "done".to_owned()),
            assignee_id: (dice.roll(2) == 0).then(|| dice.one_of(&self.users)),
            labels: dice.one_of(&labels).into_iter().map(str::to_owned).collect(),
            due_at: (dice.roll(3) > 0).then(|| self.start + dice.minutes(60)),
            created_at: made,
            updated_at: changed,
            completed_at: closed.then_some(changed),
            ..store.task(dice.one_of(&self.users), None)
        }
    }

    /// Each thing that can be asked for, and some together.
    fn filters(&self) -> Vec<TaskFilter> {
        let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        let after = |minutes| Some(self.start + TimeDelta::minutes(minutes));
        let (ada, bob, eve) = (self.users[0], self.users[1], self.users[2]);
        vec![
            TaskFilter::default(),
            TaskFilter { status: words(&["done"]), ..TaskFilter::default() },
            TaskFilter { status: words(&["todo", "in_progress", "todo"]), ..TaskFilter::default() },
            TaskFilter { state: Some(TaskState::Open), ..TaskFilter::default() },
            TaskFilter { state: Some(TaskState::Closed), label: words(&["b"]), ..TaskFilter::default() },
            TaskFilter { priority: vec![Priority::High], ..TaskFilter::default() },
            TaskFilter { task_type: words(&["bug"]), ..TaskFilter::default() },
            TaskFilter { label: words(&["a", "a\"b"]), ..TaskFilter::default() },
            TaskFilter { assignee_id: vec![ada], ..TaskFilter::default() },
            TaskFilter { assignee_id: vec![bob, eve], words: words(&["lift"]), ..TaskFilter::default() },
            TaskFilter { reporter_id: vec![ada], ..TaskFilter::default() },
            TaskFilter {
                reporter_id: vec![eve, bob, eve],
                status: words(&["todo"]),
                ..TaskFilter::default()
            },
            TaskFilter { reporter_id: vec![bob], assignee_id: vec![ada, bob], ..TaskFilter::default() },
            TaskFilter { category_id: vec![self.category], ..TaskFilter::default() },
            TaskFilter { words: words(&["lift"]), ..TaskFilter::default() },
            TaskFilter { words: words(&["garden", "lift"]), reporter_id: vec![ada], ..TaskFilter::default() },
            TaskFilter { words: words(&["nothing"]), ..TaskFilter::default() },
            TaskFilter { due_from: after(10), due_before: after(40), ..TaskFilter::default() },
            TaskFilter { created_from: after(5), created_before: after(20), ..TaskFilter::default() },
        ]
    }

    /// Walks the list in every order.
    async fn check(
        &self,
        store: &Store,
        dice: &mut Dice,
        within: Within<'_>,
        filter: &TaskFilter,
        limit: usize,
    ) {
        for order in ORDERS {
            let (descending, backwards) = (dice.roll(2) == 0, dice.roll(2) == 0);
            let filter = TaskFilter { order, descending, ..filter.clone() };
            let reach = dice.one_of(&REACHES);
            let walked = walk(store, within, &filter, reach, limit, backwards).await;
            let wanted = self.model(within, &filter);
            assert_eq!(walked, wanted, "{within:?} {filter:?} {reach:?} backwards: {backwards}");
        }
    }

    fn model(&self, within: Within<'_>, filter: &TaskFilter) -> Vec<TaskId> {
        let mut wanted: Vec<&Task> =
            self.tasks.iter().filter(|task| self.sees(within, task) && fits(filter, task)).collect();
        wanted.sort_by_key(|task| match filter.order {
            TaskOrder::CreatedAt => (task.created_at, task.id),
            TaskOrder::UpdatedAt => (task.updated_at, task.id),
            TaskOrder::DueAt => (task.due_at.unwrap(), task.id),
        });
        if filter.descending {
            wanted.reverse();
        }
        wanted.into_iter().map(|task| task.id).collect()
    }

    fn sees(&self, within: Within<'_>, task: &Task) -> bool {
        match (within, task.project_id) {
            (Within::Everything, _) => true,
            (Within::Projects(asked), project) => project.is_some_and(|project| asked.contains(&project)),
            (Within::Seen(me), None) => task.reporter_id == me || task.assignee_id == Some(me),
            (Within::Seen(me), Some(project)) => self.may_read(project, me),
        }
    }

    fn may_read(&self, project: ProjectId, user: UserId) -> bool {
        self.readers.get(&project).is_none_or(|readers| readers.contains(&user))
    }
}

fn fits(filter: &TaskFilter, task: &Task) -> bool {
    fn among<T: PartialEq>(wanted: &[T], value: Option<&T>) -> bool {
        wanted.is_empty() || value.is_some_and(|value| wanted.contains(value))
    }
    let text = format!("{} {}", task.title, task.description).to_lowercase();
    let words: Vec<&str> = text.split_whitespace().collect();
    let between =
        |time: Option<DateTime<Utc>>, from: Option<DateTime<Utc>>, before: Option<DateTime<Utc>>| {
            from.is_none_or(|from| time.is_some_and(|time| time >= from))
                && before.is_none_or(|before| time.is_some_and(|time| time < before))
        };
    among(&filter.status, Some(&task.status))
        && filter.state.is_none_or(|state| task.state == state)
        && among(&filter.priority, Some(&task.priority))
        && among(&filter.task_type, Some(&task.task_type))
        && among(&filter.assignee_id, task.assignee_id.as_ref())
        && among(&filter.reporter_id, Some(&task.reporter_id))
        && among(&filter.category_id, task.category_id.as_ref())
        && (filter.label.is_empty() || task.labels.iter().any(|label| filter.label.contains(label)))
        && filter.words.iter().all(|word| words.contains(&word.as_str()))
        && between(task.due_at, filter.due_from, filter.due_before)
        && between(Some(task.created_at), filter.created_from, filter.created_before)
        && (filter.order != TaskOrder::DueAt || task.due_at.is_some())
}

/// All pages, from one end to the other.
async fn walk(
    store: &Store,
    within: Within<'_>,
    filter: &TaskFilter,
    reach: Reach,
    limit: usize,
    backwards: bool,
) -> Vec<TaskId> {
    let mut reader = store.reader().await;
    let (mut walked, mut pages) = (Vec::new(), 0);
    let mut start = backwards.then(|| behind_all(filter.descending));
    loop {
        let found = tasks::list_in_reach(&mut reader, within, filter, start, limit, reach).await.unwrap();
        let ids = found.tasks.iter().map(|task| task.id);
        let at = if backwards { 0 } else { walked.len() };
        walked.splice(at..at, ids);
        let full = found.tasks.len() == limit;
        assert!(!full || found.end.is_none(), "a full page ends at its last task");
        let last = if backwards { found.tasks.first() } else { found.tasks.last() };
        let last = last.filter(|_| full).map(|task| filter.order.place(task));
        let Some(Place { at, id }) = found.end.or(last) else { return walked };
        start = Some(After { at, id, backwards });
        pages += 1;
        assert!(pages < 500, "the walk does not end: {within:?} {filter:?} {reach:?}");
    }
}

/// From where one walks back over the whole list.
fn behind_all(descending: bool) -> After {
    let (seconds, id) = if descending { (0, Uuid::nil()) } else { (4_000_000_000, Uuid::max()) };
    After { at: DateTime::from_timestamp(seconds, 0).unwrap(), id: TaskId(id), backwards: true }
}
