//! Step 1 of 7, inner half: what may be done with tasks. Before: `api/src/http/tasks.rs`. Next: `committer.rs`.

mod edit;
mod input;
mod reassign;

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::value::RawValue;
use taskpost_common::{
    EventId, ProjectId, TaskId, UserId, page::Direction, problem::Problem, project::ProjectRole, task::Task,
};
use taskpost_store::{
    Change, MAX_BATCH, history, projects,
    tasks::{self, After, NewTask, Place, TaskFilter, Within},
};
use utoipa::ToSchema;

pub use input::{CreateTask, PatchTask, TaskName, Transition};
pub(crate) use input::{check_new, new_task, present};
pub use reassign::{Reassign, Reassigned};

use crate::{
    Answered, Caller, Error, Once, Tracker,
    access::in_project,
    change::PENDING,
    committer::{Submission, Tell},
    pages::{Cursors, Page, PageRequest},
    placing::Draft,
};

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

/// Something that happened to a task.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct HistoryItem {
    /// Its event; absent of the making, whose event is on the log only.
    pub event_id: Option<EventId>,
    /// The event's type.
    #[serde(rename = "type")]
    #[schema(example = "task.status_changed")]
    pub type_name: String,
    /// Who did it; absent when the system did.
    pub actor_id: Option<UserId>,
    /// The version of the task that it made.
    pub version: i64,
    /// When.
    pub at: DateTime<Utc>,
    /// The event's data; absent of the making.
    #[schema(value_type = Option<Object>)]
    pub data: Option<Box<RawValue>>,
}

impl HistoryItem {
    fn creation(task: &Task) -> Self {
        Self {
            event_id: None,
            type_name: "task.created".to_owned(),
            actor_id: Some(task.reporter_id),
            version: 1,
            at: task.created_at,
            data: None,
        }
    }
}

impl TryFrom<history::HistoryItem> for HistoryItem {
    type Error = Error;

    fn try_from(item: history::HistoryItem) -> Result<Self, Error> {
        Ok(Self {
            event_id: Some(item.event_id),
            type_name: item.type_name,
            actor_id: item.actor_id,
            version: item.version,
            at: item.at,
            data: Some(RawValue::from_string(item.data)?),
        })
    }
}

impl Tracker {
    /// [`Error::Busy`] when a new task would be refused anyhow, whoever asks: the sooner that is said, the more is left
    /// for those that are not.
    pub fn check_room(&self) -> Result<(), Error> {
        self.0.committer.check()
    }

    /// Stores a task; it and its events are durable when this returns.
    pub async fn create_task(
        &self,
        caller: &Caller,
        input: CreateTask,
        once: Once<Task>,
    ) -> Result<Answered, Error> {
        let draft = self.draft(caller, input)?;
        let render = once.render;
        let ready = draft.ready().map(|new| render(new.task(), new.last_event())).transpose()?;
        let tell = ready.is_none().then(|| {
            let tell = move |told: &[Result<&Task, &Error>], event| match told {
                [Ok(task)] => Ok(render(task, event)?),
                _ => Err(Error::Unknown),
            };
            Box::new(tell) as Box<Tell>
        });
        let key = once.row(caller, PENDING, self.0.clock.now());
        let submission = Submission { drafts: vec![draft], ready, tell, key, apart: false };
        self.0.committer.commit(submission).await
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
        let (mut drafts, mut unread) = (Vec::with_capacity(inputs.len()), Vec::with_capacity(inputs.len()));
        for input in inputs {
            match input.map(|input| self.draft(caller, input)) {
                Ok(Ok(draft)) => {
                    drafts.push(draft);
                    unread.push(None);
                }
                Ok(Err(error)) => unread.push(Some(failed(error.problem()))),
                Err(problem) => unread.push(Some(failed(problem))),
            }
        }
        let render = once.render;
        let tell = move |told: &[Result<&Task, &Error>], event| {
            let mut told = told.iter().map(|told| match told {
                Ok(task) => BatchItem { status: 201, task: Some((*task).clone()), problem: None },
                Err(error) => failed(error.problem()),
            });
            let next = |item: &Option<BatchItem>| item.clone().or_else(|| told.next());
            Ok(render(&unread.iter().filter_map(next).collect(), event)?)
        };
        let ready: Option<Vec<&NewTask>> = drafts.iter().map(Draft::ready).collect();
        let ready = ready.map(|new| {
            let told: Vec<Result<&Task, &Error>> = new.iter().map(|new| Ok(new.task())).collect();
            tell(&told, new.last().and_then(|new| new.last_event()))
        });
        let ready = ready.transpose()?;
        let key = once.row(caller, PENDING, self.0.clock.now());
        let submission = Submission { drafts, ready, tell: Some(Box::new(tell)), key, apart: true };
        self.0.committer.commit(submission).await
    }

    /// The id of the task that is named. A key is looked up, as far as the caller may see its task; an id is taken as it is.
    pub async fn find_task_id(&self, caller: &Caller, name: &TaskName) -> Result<TaskId, Error> {
        let key = match name {
            TaskName::Id(id) => return Ok(*id),
            TaskName::Key(key) => key,
        };
        let found = tasks::id_of_key(&mut self.0.db.reader().await?, caller.viewer(), key).await?;
        found.ok_or(Error::NotFound("task"))
    }

    /// A task that the caller may see.
    pub async fn task(&self, caller: &Caller, id: TaskId) -> Result<Task, Error> {
        self.0.lookup.task(caller.viewer(), id).await?.ok_or(Error::NotFound("task"))
    }

    /// A page of the tasks that the caller may see; of these projects, if there are any. Where no index leads to what the
    /// filter asks for, a page may come short, or empty, and have another one behind it.
    pub async fn tasks(
        &self,
        caller: &Caller,
        projects: &[ProjectId],
        filter: TaskFilter,
        page: PageRequest,
    ) -> Result<Page<Task>, Error> {
        let cursors = Cursors {
            key: &self.0.cursors,
            scope: format!("tasks {} {projects:?} {filter:?}", caller.user_id()),
            now: self.0.clock.now(),
        };
        let start = cursors.open::<(DateTime<Utc>, TaskId)>(page.cursor.as_deref())?;
        let after = start.map(|(way, (at, id))| After { at, id, backwards: way == Direction::Previous });
        let viewer = caller.viewer();
        let mut reader = self.0.db.reader().await?;
        let readable;
        let within = match (projects, viewer.admin) {
            ([], true) => Within::Everything,
            ([], false) => Within::Seen(viewer.user_id),
            (asked, true) => Within::Projects(asked),
            (asked, false) => {
                readable = projects::readable_among(&mut reader, viewer.user_id, asked).await?;
                Within::Projects(&readable)
            }
        };
        let found = tasks::list(&mut reader, within, &filter, after, page.limit + 1).await?;
        let key = |Place { at, id }| (at, id);
        let (end, came) = (found.end.map(key), start.map(|(way, _)| way));
        cursors.page_to(end, found.tasks, page.limit, came, |task| key(filter.order.place(task)))
    }

    /// A page of a project's tasks.
    pub async fn project_tasks(
        &self,
        caller: &Caller,
        project: ProjectId,
        filter: TaskFilter,
        page: PageRequest,
    ) -> Result<Page<Task>, Error> {
        let least = ProjectRole::Viewer;
        in_project(&mut self.0.db.reader().await?, caller.viewer(), project, least).await?;
        self.tasks(caller, &[project], filter, page).await
    }

    /// A page of what happened to a task, oldest first: that it was made, then each change.
    pub async fn task_history(
        &self,
        caller: &Caller,
        id: TaskId,
        page: PageRequest,
    ) -> Result<Page<HistoryItem>, Error> {
        let mut reader = self.0.db.reader().await?;
        let task = tasks::visible(&mut reader, caller.viewer(), id).await?.ok_or(Error::NotFound("task"))?;
        let scope = format!("history {} {id}", caller.user_id());
        let cursors = Cursors { key: &self.0.cursors, scope, now: self.0.clock.now() };
        let start = cursors.open::<Option<EventId>>(page.cursor.as_deref())?;
        let after = start.and_then(|(_, id)| id);
        let mut items = Vec::new();
        if start.is_none() {
            items.push(HistoryItem::creation(&task));
        }
        for item in history::list(&mut reader, id, after, page.limit + 1).await? {
            items.push(HistoryItem::try_from(item)?);
        }
        let mut page = cursors.page(items, page.limit, None, |item| item.event_id)?;
        page.prev_cursor = None;
        Ok(page)
    }

    /// Checks the input and makes a draft of the task.
    fn draft(&self, caller: &Caller, input: CreateTask) -> Result<Draft, Error> {
        check_new(&input)?;
        let clock = &self.0.clock;
        let change = Change { clock, cause: &caller.cause };
        Ok(Draft::new(change, (clock.id(), clock.now()), caller.viewer(), input)?)
    }
}

fn failed(problem: Problem) -> BatchItem {
    BatchItem { status: problem.status, task: None, problem: Some(problem) }
}
