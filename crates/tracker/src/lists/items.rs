//! What both lists have in common.

use taskpost_common::{
    EventId, ProjectId,
    project::Project,
    task::{StatusCategory, TaskState},
    workflow::{Status, Workflow},
};
use taskpost_store::{
    Change, Session, Tx, Viewer, projects,
    tasks::{self, TaskColumn},
};

use super::MOST;
use crate::{Error, projects::hold_open};

/// An item of one of the two lists.
pub(super) trait Item: Clone + PartialEq + Send + Sync + 'static {
    /// What it is called.
    const WHAT: &'static str;
    /// Which column of tasks holds its name.
    const COLUMN: TaskColumn;
    fn list(workflow: &mut Workflow) -> &mut Vec<Self>;
    fn name(&self) -> &str;
    /// Whether a project can do with this list.
    fn check(list: &[Self]) -> Result<(), Error>;
}

impl Item for Status {
    const WHAT: &'static str = "status";
    const COLUMN: TaskColumn = TaskColumn::Status;

    fn list(workflow: &mut Workflow) -> &mut Vec<Self> {
        &mut workflow.statuses
    }

    fn name(&self) -> &str {
        &self.name
    }

    fn check(list: &[Self]) -> Result<(), Error> {
        let is_open = |status: &Self| status.category.state() == TaskState::Open;
        let fault = if !list.iter().any(is_open) {
            "a project needs a status that is open; add one first"
        } else if !list.iter().any(|status| status.category == StatusCategory::Done) {
            "a project needs a status that means done; add one first"
        } else if !list.first().is_some_and(is_open) {
            "the first status is that of new tasks and must be open; put another one first"
        } else {
            return Ok(());
        };
        Err(Error::Conflict(fault.to_owned()))
    }
}

impl Item for String {
    const WHAT: &'static str = "task type";
    const COLUMN: TaskColumn = TaskColumn::Type;

    fn list(workflow: &mut Workflow) -> &mut Vec<Self> {
        &mut workflow.task_types
    }

    fn name(&self) -> &str {
        self
    }

    fn check(list: &[Self]) -> Result<(), Error> {
        if list.is_empty() {
            return Err(Error::Conflict("a project needs a task type; add another one first".to_owned()));
        }
        Ok(())
    }
}

/// Adds an item to its list.
pub(super) async fn add<I: Item>(
    tx: &mut Tx,
    change: Change<'_>,
    viewer: Viewer,
    (id, position): (ProjectId, Option<u32>),
    item: I,
) -> Result<(Project, Option<EventId>), Error> {
    let before = hold_open(tx, viewer, id, None).await?;
    let mut after = before.clone();
    let list = I::list(&mut after.workflow);
    if list.len() >= MOST {
        let detail = format!("a project may have at most {MOST} of each list; delete a {} first", I::WHAT);
        return Err(Error::Conflict(detail));
    }
    put(list, list.len(), position, item)?;
    Ok(projects::update(tx, change, &before, after).await?)
}

/// Puts the second item in place of the first, where it is wanted or else where that stood.
pub(super) async fn replace<I: Item>(
    tx: &mut Tx,
    change: Change<'_>,
    before: &Project,
    (old, new): (&I, &I),
    position: Option<u32>,
) -> Result<(Project, Option<EventId>), Error> {
    if old != new {
        unused(tx, before, old).await?;
    }
    let mut after = before.clone();
    let list = I::list(&mut after.workflow);
    let place = list.iter().position(|item| item == old).ok_or(Error::NotFound(I::WHAT))?;
    list.remove(place);
    put(list, place, position, new.clone())?;
    Ok(projects::update(tx, change, before, after).await?)
}

/// Takes the item of this name, which no task has, out of its list.
pub(super) async fn remove<I: Item>(
    tx: &mut Tx,
    change: Change<'_>,
    before: &Project,
    name: &str,
) -> Result<Option<EventId>, Error> {
    let old = find::<I>(before, name)?;
    unused(tx, before, &old).await?;
    let mut after = before.clone();
    let list = I::list(&mut after.workflow);
    list.retain(|item| *item != old);
    I::check(list)?;
    Ok(projects::update(tx, change, before, after).await?.1)
}

/// The item of this name.
pub(super) fn find<I: Item>(project: &Project, name: &str) -> Result<I, Error> {
    let mut workflow = project.workflow.clone();
    let found = I::list(&mut workflow).iter().find(|item| item.name() == name);
    found.cloned().ok_or(Error::NotFound(I::WHAT))
}

/// Puts an item where it is wanted, else at `place`.
fn put<I: Item>(list: &mut Vec<I>, place: usize, wanted: Option<u32>, item: I) -> Result<(), Error> {
    if list.iter().any(|other| other.name() == item.name()) {
        let detail = format!("the project has a {} {}; name another one", I::WHAT, item.name());
        return Err(Error::Conflict(detail));
    }
    let wanted = wanted.map_or(place, |wanted| usize::try_from(wanted).unwrap_or(usize::MAX));
    list.insert(wanted.min(list.len()), item);
    I::check(list)
}

/// Refuses to take from tasks what they have.
async fn unused<I: Item>(session: &mut Session, project: &Project, item: &I) -> Result<(), Error> {
    match tasks::count_with(session, project.id, I::COLUMN, item.name()).await? {
        0 => Ok(()),
        1 => Err(Error::Conflict(format!("a task has the {} {}; change it first", I::WHAT, item.name()))),
        many => Err(Error::Conflict(format!(
            "{many} tasks have the {} {}; change them first",
            I::WHAT,
            item.name()
        ))),
    }
}
