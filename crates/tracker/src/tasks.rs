//! Step 1 of 7, inner half: what may be done with tasks. Before: `api/src/http/tasks.rs`. Next: `committer.rs`.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Deserializer, Serialize};
use taskpost_common::{
    CategoryId, Cause, EventId, ProjectId, TaskId, UserId,
    page::Direction,
    problem::Problem,
    task::{Priority, StatusCategory, Task},
};
use taskpost_store::{
    Change, MAX_BATCH, StoreError, Tx, Viewer,
    tasks::{self, After, NewTask, TaskFilter, TaskOrder},
};
use utoipa::ToSchema;

use crate::{
    Answered, Caller, Error, Once, Tracker,
    auth::unknown_assignee,
    committer::{Refused, Submission},
    pages::{Cursors, Page, PageRequest},
    validate::{Checks, Lines},
    workflow,
};

/// How often a change is tried when others change the same task.
const TRIES: u32 = 5;

/// A new task; a title suffices.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateTask {
    /// One line of 1 to 200 characters.
    #[schema(example = "Fix the lift", min_length = 1, max_length = 200)]
    pub title: String,
    /// Markdown, at most 20,000 characters.
    #[serde(default)]
    #[schema(max_length = 20_000)]
    pub description: Option<String>,
    /// The project; absent makes a personal task.
    #[serde(default)]
    pub project_id: Option<ProjectId>,
    /// The project's category.
    #[serde(default)]
    pub category_id: Option<CategoryId>,
    /// task, bug, feature or chore.
    #[serde(default, rename = "type")]
    #[schema(example = "bug")]
    pub task_type: Option<String>,
    /// How much it matters.
    #[serde(default)]
    pub priority: Option<Priority>,
    /// Who works on it.
    #[serde(default)]
    pub assignee_id: Option<UserId>,
    /// At most 20 words.
    #[serde(default)]
    #[schema(max_items = 20)]
    pub labels: Option<Vec<String>>,
    /// When it should be done.
    #[serde(default)]
    pub due_at: Option<DateTime<Utc>>,
}

/// A merge patch (RFC 7396): what is absent stays, null empties.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PatchTask {
    /// One line of 1 to 200 characters.
    #[serde(default, deserialize_with = "present")]
    pub title: Option<Option<String>>,
    /// Markdown.
    #[serde(default, deserialize_with = "present")]
    pub description: Option<Option<String>>,
    /// task, bug, feature or chore.
    #[serde(default, rename = "type", deserialize_with = "present")]
    pub task_type: Option<Option<String>>,
    /// How much it matters.
    #[serde(default, deserialize_with = "present")]
    pub priority: Option<Option<Priority>>,
    /// Who works on it.
    #[serde(default, deserialize_with = "present")]
    pub assignee_id: Option<Option<UserId>>,
    /// At most 20 words.
    #[serde(default, deserialize_with = "present")]
    pub labels: Option<Option<Vec<String>>>,
    /// When it should be done.
    #[serde(default, deserialize_with = "present")]
    pub due_at: Option<Option<DateTime<Utc>>>,
}

/// A move to another status.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Transition {
    /// The new status.
    #[schema(example = "done")]
    pub to: String,
    /// Why; required on entering done or cancelled.
    #[serde(default)]
    #[schema(example = "done")]
    pub resolution: Option<String>,
}

/// What became of one task of a batch.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct BatchItem {
    /// 201, or the problem's status.
    pub status: u16,
    /// The task, if it is stored.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub task: Option<Task>,
    /// Why it is not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<Problem>,
}

impl Tracker {
    /// Stores a task; it and its events are durable when this returns.
    pub async fn create_task(
        &self,
        caller: &Caller,
        input: CreateTask,
        once: Once<Task>,
    ) -> Result<Answered, Error> {
        let task = self.prepare(caller, input)?;
        let answer = (once.render)(task.task(), task.last_event())?;
        let key = once.row(caller, answer.clone(), self.0.clock.now());
        self.0.committer.commit(Submission { tasks: vec![task], answer, key, refused: Refused::Whole }).await
    }

    /// Stores up to 500 tasks, each of which fails alone; an item that could not be read comes as its problem. The
    /// results keep the order.
    pub async fn create_tasks(
        &self,
        caller: &Caller,
        inputs: Vec<Result<CreateTask, Problem>>,
        once: Once<Vec<BatchItem>>,
    ) -> Result<Answered, Error> {
        if inputs.is_empty() || inputs.len() > MAX_BATCH {
            let detail = format!("must have 1 to {MAX_BATCH} tasks, has {}", inputs.len());
            return Err(Error::field("/tasks", "invalid_length", detail));
        }
        let mut items = Vec::with_capacity(inputs.len());
        let mut new = Vec::with_capacity(inputs.len());
        let mut places = Vec::with_capacity(inputs.len());
        for input in inputs {
            match input.map(|input| self.prepare(caller, input)) {
                Ok(Ok(task)) => {
                    places.push(items.len());
                    items.push(BatchItem { status: 201, task: Some(task.task().clone()), problem: None });
                    new.push(task);
                }
                Ok(Err(error)) => items.push(failed(error.problem())),
                Err(problem) => items.push(failed(problem)),
            }
        }
        let events: Vec<Option<EventId>> = new.iter().map(NewTask::last_event).collect();
        let answer = (once.render)(&items, events.last().copied().flatten())?;
        let key = once.row(caller, answer.clone(), self.0.clock.now());
        let render = once.render;
        let refused = move |bad: &[(usize, Error)]| {
            let mut items = items.clone();
            for (place, error) in bad {
                if let Some(item) = places.get(*place).and_then(|place| items.get_mut(*place)) {
                    *item = failed(error.problem());
                }
            }
            // Only what is stored has happened.
            let is_stored = |place: usize| bad.iter().all(|(refused, _)| *refused != place);
            let last = (0..events.len()).rfind(|place| is_stored(*place)).and_then(|place| events[place]);
            Ok(render(&items, last)?)
        };
        self.0
            .committer
            .commit(Submission { tasks: new, answer, key, refused: Refused::Apart(Box::new(refused)) })
            .await
    }

    /// A task that the caller may see.
    pub async fn task(&self, caller: &Caller, id: TaskId) -> Result<Task, Error> {
        self.0.lookup.task(caller.viewer(), id).await?.ok_or(Error::NotFound("task"))
    }

    /// A page of the tasks that the caller may see.
    pub async fn tasks(
        &self,
        caller: &Caller,
        filter: TaskFilter,
        page: PageRequest,
    ) -> Result<Page<Task>, Error> {
        let cursors = Cursors {
            key: &self.0.cursors,
            scope: format!("tasks {} {filter:?}", caller.user_id()),
            now: self.0.clock.now(),
        };
        let start = cursors.open::<(DateTime<Utc>, TaskId)>(page.cursor.as_deref())?;
        let after = start.map(|(way, (at, id))| After { at, id, backwards: way == Direction::Previous });
        let mut reader = self.0.db.reader().await?;
        let rows = tasks::list(&mut reader, caller.viewer(), &filter, after, page.limit + 1).await?;
        let order = filter.order;
        cursors.page(rows, page.limit, start.map(|(way, _)| way), |task| match order {
            TaskOrder::CreatedAt => (task.created_at, task.id),
            TaskOrder::UpdatedAt => (task.updated_at, task.id),
        })
    }

    /// Changes fields of a task.
    pub async fn update_task(
        &self,
        caller: &Caller,
        id: TaskId,
        patch: PatchTask,
        if_match: Option<i64>,
    ) -> Result<(Task, Option<EventId>), Error> {
        check_patch(&patch)?;
        self.edit(caller, id, if_match, move |task| {
            apply(task, &patch);
            Ok(())
        })
        .await
    }

    /// Gives a task to somebody, or to nobody.
    pub async fn assign(
        &self,
        caller: &Caller,
        id: TaskId,
        assignee: Option<UserId>,
        if_match: Option<i64>,
    ) -> Result<(Task, Option<EventId>), Error> {
        self.edit(caller, id, if_match, move |task| {
            task.assignee_id = assignee;
            Ok(())
        })
        .await
    }

    /// Moves a task to another status.
    pub async fn transition(
        &self,
        caller: &Caller,
        id: TaskId,
        input: Transition,
        if_match: Option<i64>,
        once: Once<Task>,
    ) -> Result<Answered, Error> {
        let viewer = caller.viewer();
        self.change_once(caller, once, move |tx, change| {
            Box::pin(async move {
                let now = change.clock.now();
                modify(tx, change, (viewer, id), if_match, &move |task| move_to(task, &input, now)).await
            })
        })
        .await
    }

    /// Deletes a task. Only its reporter and admins may.
    pub async fn delete_task(
        &self,
        caller: &Caller,
        id: TaskId,
        if_match: Option<i64>,
    ) -> Result<EventId, Error> {
        let viewer = caller.viewer();
        self.change(&caller.cause, move |tx, change| {
            Box::pin(async move {
                let before = tasks::visible(tx, viewer, id).await?.ok_or(Error::NotFound("task"))?;
                if !viewer.admin && before.reporter_id != viewer.user_id {
                    return Err(Error::Forbidden("only the reporter of a personal task may delete it"));
                }
                check_version(&before, if_match)?;
                tasks::delete(tx, change, &before).await.map_err(Error::from)
            })
        })
        .await
    }

    async fn edit(
        &self,
        caller: &Caller,
        id: TaskId,
        if_match: Option<i64>,
        edit: impl Fn(&mut Task) -> Result<(), Error> + Send + Sync + 'static,
    ) -> Result<(Task, Option<EventId>), Error> {
        let viewer = caller.viewer();
        self.change(&caller.cause, move |tx, change| {
            Box::pin(async move { modify(tx, change, (viewer, id), if_match, &edit).await })
        })
        .await
    }

    /// Checks the input and makes the task with its events, ready to be stored.
    fn prepare(&self, caller: &Caller, input: CreateTask) -> Result<NewTask, Error> {
        check_new(&input)?;
        let task = new_task(self.0.clock.id(), caller.user_id(), input, self.0.clock.now());
        Ok(NewTask::new(self.as_change(&caller.cause), task)?)
    }

    fn as_change<'a>(&'a self, cause: &'a Cause) -> Change<'a> {
        Change { clock: &self.0.clock, cause }
    }
}

/// Reads, changes and stores a task; again when somebody else was faster, unless the caller named a version.
async fn modify(
    tx: &mut Tx,
    change: Change<'_>,
    (viewer, id): (Viewer, TaskId),
    if_match: Option<i64>,
    edit: &(dyn Fn(&mut Task) -> Result<(), Error> + Send + Sync),
) -> Result<(Task, Option<EventId>), Error> {
    let mut left = TRIES;
    loop {
        let before = tasks::visible(tx, viewer, id).await?.ok_or(Error::NotFound("task"))?;
        check_version(&before, if_match)?;
        let mut after = before.clone();
        edit(&mut after)?;
        if let Some(assignee) = after.assignee_id.filter(|id| before.assignee_id != Some(*id))
            && tasks::assignable(tx, &[assignee]).await?.is_empty()
        {
            return Err(unknown_assignee(assignee));
        }
        left -= 1;
        match tasks::update(tx, change, &before, after).await {
            Err(StoreError::Stale(_)) if left > 0 => {}
            done => return done.map_err(Error::from),
        }
    }
}

/// The task that an input which was checked asks for.
pub(crate) fn new_task(id: TaskId, reporter_id: UserId, input: CreateTask, now: DateTime<Utc>) -> Task {
    let now = micros(now);
    Task {
        id,
        key: None,
        project_id: None,
        category_id: None,
        task_type: input.task_type.unwrap_or_else(|| workflow::TASK_TYPES[0].to_owned()),
        title: input.title,
        description: input.description.unwrap_or_default(),
        status: workflow::FIRST_STATUS.to_owned(),
        status_category: StatusCategory::Todo,
        state: StatusCategory::Todo.state(),
        priority: input.priority.unwrap_or(Priority::None),
        resolution: None,
        assignee_id: input.assignee_id,
        reporter_id,
        labels: input.labels.unwrap_or_default(),
        due_at: input.due_at.map(micros),
        comment_count: 0,
        version: 1,
        created_at: now,
        updated_at: now,
        completed_at: None,
    }
}

fn failed(problem: Problem) -> BatchItem {
    BatchItem { status: problem.status, task: None, problem: Some(problem) }
}

/// Checks what can be checked without the store.
pub(crate) fn check_new(input: &CreateTask) -> Result<(), Error> {
    let mut checks = Checks::default();
    checks.text("/title", &input.title, 1, 200, Lines::One);
    if let Some(description) = &input.description {
        checks.text("/description", description, 0, 20_000, Lines::Many);
    }
    check_type(&mut checks, input.task_type.as_deref());
    check_labels(&mut checks, input.labels.as_deref());
    // Projects come with a later version; until then nobody belongs to one.
    if input.project_id.is_some() {
        checks.fault("/project_id", "unknown_project", "there is no such project");
    }
    if input.category_id.is_some() {
        checks.fault("/category_id", "unknown_category", "a personal task has no category");
    }
    check_due(&mut checks, input.due_at);
    checks.finish()
}

fn check_patch(patch: &PatchTask) -> Result<(), Error> {
    let mut checks = Checks::default();
    match &patch.title {
        Some(Some(title)) => checks.text("/title", title, 1, 200, Lines::One),
        Some(None) => checks.fault("/title", "missing_field", "a task must have a title"),
        None => {}
    }
    if let Some(Some(description)) = &patch.description {
        checks.text("/description", description, 0, 20_000, Lines::Many);
    }
    check_type(&mut checks, patch.task_type.as_ref().and_then(|given| given.as_deref()));
    check_labels(&mut checks, patch.labels.as_ref().and_then(|given| given.as_deref()));
    check_due(&mut checks, patch.due_at.flatten());
    checks.finish()
}

fn check_type(checks: &mut Checks, given: Option<&str>) {
    if given.is_some_and(|given| !workflow::TASK_TYPES.contains(&given)) {
        checks.fault("/type", "unknown_type", format!("must be one of {}", workflow::TASK_TYPES.join(", ")));
    }
}

fn check_labels(checks: &mut Checks, labels: Option<&[String]>) {
    let Some(labels) = labels else { return };
    if labels.len() > 20 {
        checks.fault("/labels", "too_long", "must have at most 20 labels");
    }
    for (i, label) in labels.iter().take(20).enumerate() {
        checks.text(&format!("/labels/{i}"), label, 1, 50, Lines::One);
    }
}

/// RFC 3339 has four digits for the year; Postgres and SQLite sort those alike.
fn check_due(checks: &mut Checks, due_at: Option<DateTime<Utc>>) {
    use chrono::Datelike as _;
    if due_at.is_some_and(|due| !(1970..=9999).contains(&due.year())) {
        checks.fault("/due_at", "out_of_range", "must lie between 1970 and 9999");
    }
}

fn apply(task: &mut Task, patch: &PatchTask) {
    if let Some(title) = patch.title.clone().flatten() {
        task.title = title;
    }
    if let Some(description) = &patch.description {
        task.description = description.clone().unwrap_or_default();
    }
    if let Some(task_type) = &patch.task_type {
        task.task_type = task_type.clone().unwrap_or_else(|| workflow::TASK_TYPES[0].to_owned());
    }
    if let Some(priority) = patch.priority {
        task.priority = priority.unwrap_or(Priority::None);
    }
    if let Some(assignee) = patch.assignee_id {
        task.assignee_id = assignee;
    }
    if let Some(labels) = &patch.labels {
        task.labels = labels.clone().unwrap_or_default();
    }
    if let Some(due_at) = patch.due_at {
        task.due_at = due_at.map(micros);
    }
}

fn move_to(task: &mut Task, input: &Transition, now: DateTime<Utc>) -> Result<(), Error> {
    let step = workflow::check_move(&task.status, &input.to, input.resolution.as_deref())?;
    step.to.clone_into(&mut task.status);
    task.status_category = step.category;
    task.state = step.category.state();
    task.resolution = step.resolution.map(str::to_owned);
    task.completed_at = step.resolution.map(|_| now);
    Ok(())
}

fn check_version(task: &Task, if_match: Option<i64>) -> Result<(), Error> {
    match if_match {
        Some(version) if version != task.version => Err(Error::Stale { current: task.version }),
        _ => Ok(()),
    }
}

/// The store keeps microseconds.
fn micros(time: DateTime<Utc>) -> DateTime<Utc> {
    DateTime::from_timestamp_micros(time.timestamp_micros()).unwrap_or(time)
}

/// Tells a null from an absent field.
fn present<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}
