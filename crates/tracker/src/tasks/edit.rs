//! Changes of a task: whoever may, in the state it is in, in one transaction.

use chrono::{DateTime, Utc};
use taskpost_common::{
    EventId, TaskId, UserId,
    project::{Project, ProjectRole},
    task::Task,
    workflow::Workflow,
};
use taskpost_store::{Change, Session, StoreError, Tx, Viewer, members, tasks};

use super::input::{PatchTask, Transition, apply, check_patch};
use crate::{
    Answered, Caller, Error, Once, Tracker,
    access::require_open,
    auth::unknown_assignee,
    change::TRIES,
    placing::{check_lists, not_a_member, unknown_category},
    projects::keep,
    workflow,
};

impl Tracker {
    /// Changes fields of a task.
    pub async fn update_task(
        &self,
        caller: &Caller,
        id: TaskId,
        patch: PatchTask,
        if_match: Option<i64>,
    ) -> Result<(Task, Option<EventId>), Error> {
        check_patch(&patch)?;
        self.edit(caller, id, if_match, move |task, workflow| {
            apply(task, &patch, workflow);
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
        self.edit(caller, id, if_match, move |task, _| {
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
                let edit = move |task: &mut Task, workflow: &Workflow| move_to(task, &input, workflow, now);
                modify(tx, change, (viewer, id), if_match, &edit).await
            })
        })
        .await
    }

    /// Deletes a task. Its reporter may, and in a project its maintainers.
    pub async fn delete_task(
        &self,
        caller: &Caller,
        id: TaskId,
        if_match: Option<i64>,
    ) -> Result<EventId, Error> {
        let viewer = caller.viewer();
        self.change_again(&caller.cause, move |tx, change| {
            Box::pin(async move {
                let before = tasks::visible(tx, viewer, id).await?.ok_or(Error::NotFound("task"))?;
                check_deletable(tx, viewer, &before).await?;
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
        edit: impl Fn(&mut Task, &Workflow) -> Result<(), Error> + Send + Sync + 'static,
    ) -> Result<(Task, Option<EventId>), Error> {
        let viewer = caller.viewer();
        self.change(&caller.cause, move |tx, change| {
            Box::pin(async move { modify(tx, change, (viewer, id), if_match, &edit).await })
        })
        .await
    }
}

/// Reads, changes and stores a task; again when somebody else was faster, unless the caller named a version.
async fn modify(
    tx: &mut Tx,
    change: Change<'_>,
    (viewer, id): (Viewer, TaskId),
    if_match: Option<i64>,
    edit: &(dyn Fn(&mut Task, &Workflow) -> Result<(), Error> + Send + Sync),
) -> Result<(Task, Option<EventId>), Error> {
    let mut left = TRIES;
    loop {
        let before = tasks::visible(tx, viewer, id).await?.ok_or(Error::NotFound("task"))?;
        let project = workplace(tx, viewer, &before).await?;
        check_version(&before, if_match)?;
        let mut after = before.clone();
        edit(&mut after, lists(project.as_ref()))?;
        check_change(tx, project.as_ref(), &before, &after).await?;
        left -= 1;
        match tasks::update(tx, change, &before, after).await {
            Err(StoreError::Stale(_)) if left > 0 => {}
            done => return done.map_err(Error::from),
        }
    }
}

/// The project of a task that the viewer may see, if they may change the task there. It stays as it is until the
/// transaction ends, so that what is checked by it holds.
async fn workplace(tx: &mut Tx, viewer: Viewer, task: &Task) -> Result<Option<Project>, Error> {
    let Some(id) = task.project_id else { return Ok(None) };
    let project = keep(tx, viewer, id, ProjectRole::Member).await?;
    require_open(&project)?;
    Ok(Some(project))
}

async fn check_deletable(tx: &mut Tx, viewer: Viewer, task: &Task) -> Result<(), Error> {
    let is_theirs = task.reporter_id == viewer.user_id;
    match task.project_id {
        None if is_theirs || viewer.admin => Ok(()),
        None => Err(Error::Forbidden("only the reporter of a personal task may delete it")),
        Some(id) => {
            let least = if is_theirs { ProjectRole::Member } else { ProjectRole::Maintainer };
            keep(tx, viewer, id, least).await.map(drop)
        }
    }
}

/// What a task may be there.
fn lists(project: Option<&Project>) -> &Workflow {
    match project {
        Some(project) => &project.workflow,
        None => Workflow::standard(),
    }
}

/// What differs must be something the task can have.
async fn check_change(
    session: &mut Session,
    project: Option<&Project>,
    before: &Task,
    after: &Task,
) -> Result<(), Error> {
    let task_type = (before.task_type != after.task_type).then_some(after.task_type.as_str());
    let priority = (before.priority != after.priority).then_some(after.priority);
    check_lists(lists(project), task_type, priority)?;
    if let Some(category) = after.category_id.filter(|id| before.category_id != Some(*id)) {
        let known = tasks::categories(session, &[category]).await?;
        if project.is_none() || known.get(&category) != after.project_id.as_ref() {
            return Err(unknown_category());
        }
    }
    let Some(assignee) = after.assignee_id.filter(|id| before.assignee_id != Some(*id)) else {
        return Ok(());
    };
    if tasks::assignable(session, &[assignee]).await?.is_empty() {
        return Err(unknown_assignee(assignee));
    }
    match project {
        Some(project) if members::roles(session, &[(project.id, assignee)]).await?.is_empty() => {
            Err(not_a_member(project))
        }
        _ => Ok(()),
    }
}

fn move_to(
    task: &mut Task,
    input: &Transition,
    workflow: &Workflow,
    now: DateTime<Utc>,
) -> Result<(), Error> {
    let step = workflow::check_move(workflow, &task.status, &input.to, input.resolution.as_deref())?;
    task.status = step.to.name;
    task.status_category = step.to.category;
    task.state = step.to.category.state();
    task.completed_at = step.resolution.as_ref().map(|_| now);
    task.resolution = step.resolution;
    Ok(())
}

fn check_version(task: &Task, if_match: Option<i64>) -> Result<(), Error> {
    match if_match {
        Some(version) if version != task.version => Err(Error::Stale { current: task.version }),
        _ => Ok(()),
    }
}
