//! New tasks on their way into the store. One outside projects is ready at once; one in a project gets what only the store
//! knows, its key before all, in the transaction that stores it.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use chrono::{DateTime, Utc};
use taskpost_common::{
    CategoryId, Cause, Clock, ProjectId, TaskId, UserId,
    project::{Project, ProjectRole},
    task::{Priority, Task},
    workflow::Workflow,
};
use taskpost_store::{
    Change, StoreError, Tx, Viewer, members, projects,
    tasks::{self, NewTask},
};

use crate::{
    CreateTask, Error,
    access::{require, require_open, role},
    auth::unknown_assignee,
    tasks::new_task,
    workflow,
};

/// A task that somebody asked for and that passed every check which needs no store.
#[derive(Debug)]
pub(crate) enum Draft {
    /// It is outside projects, and has its events.
    Ready(Box<NewTask>),
    /// It is in a project.
    InProject(Box<Wanted>),
}

/// A task that a project is to have.
#[derive(Debug)]
pub(crate) struct Wanted {
    task: Task,
    project: ProjectId,
    reporter: Viewer,
    task_type: Option<String>,
    priority: Option<Priority>,
    cause: Cause,
}

impl Draft {
    /// The task that an input asks for which was checked, made at this time.
    pub(crate) fn new(
        change: Change<'_>,
        (id, at): (TaskId, DateTime<Utc>),
        reporter: Viewer,
        input: CreateTask,
    ) -> Result<Self, StoreError> {
        let (project, task_type, priority) = (input.project_id, input.task_type.clone(), input.priority);
        let task = new_task(id, reporter.user_id, input, at);
        Ok(match project {
            None => Self::Ready(Box::new(NewTask::new(change, task)?)),
            Some(project) => {
                let cause = change.cause.clone();
                Self::InProject(Box::new(Wanted { task, project, reporter, task_type, priority, cause }))
            }
        })
    }

    /// The task as far as it is known.
    pub(crate) fn task(&self) -> &Task {
        match self {
            Self::Ready(new) => new.task(),
            Self::InProject(wanted) => &wanted.task,
        }
    }

    /// The task, if there is nothing to ask.
    pub(crate) fn ready(&self) -> Option<&NewTask> {
        match self {
            Self::Ready(new) => Some(new),
            Self::InProject(_) => None,
        }
    }
}

/// What the store says about the people and projects of drafts.
#[derive(Debug, Default)]
pub(crate) struct Facts {
    /// Who may be given a task.
    active: HashSet<UserId>,
    projects: HashMap<ProjectId, Project>,
    roles: HashMap<(ProjectId, UserId), ProjectRole>,
    categories: HashMap<CategoryId, ProjectId>,
}

impl Facts {
    /// Reads what a verdict on these depends on; nothing for tasks outside projects without an assignee. Projects that get a
    /// task are held until the transaction ends, so that neither their lists nor their members change before it is stored.
    pub(crate) async fn read<'a>(
        tx: &mut Tx,
        drafts: impl Iterator<Item = &'a Draft>,
    ) -> Result<Self, StoreError> {
        let (mut assignees, mut wanted) = (HashSet::new(), Vec::new());
        for draft in drafts {
            assignees.extend(draft.task().assignee_id);
            if let Draft::InProject(task) = draft {
                wanted.push(&**task);
            }
        }
        let mut facts = Self::default();
        if !assignees.is_empty() {
            let assignees: Vec<UserId> = assignees.into_iter().collect();
            facts.active = tasks::assignable(tx, &assignees).await?.into_iter().collect();
        }
        if !wanted.is_empty() {
            facts.read_projects(tx, &wanted).await?;
        }
        Ok(facts)
    }

    async fn read_projects(&mut self, tx: &mut Tx, wanted: &[&Wanted]) -> Result<(), StoreError> {
        let people = |task: &&Wanted| {
            let (project, assignee) = (task.project, task.task.assignee_id);
            [Some(task.reporter.user_id), assignee].into_iter().flatten().map(move |user| (project, user))
        };
        let people: HashSet<(ProjectId, UserId)> = wanted.iter().flat_map(people).collect();
        let people: Vec<(ProjectId, UserId)> = people.into_iter().collect();
        self.roles = members::roles(tx, &people).await?;
        // Nobody holds a project that they may not work in.
        let (held, seen): (Vec<&Wanted>, Vec<&Wanted>) = wanted.iter().partition(|task| {
            let role = self.roles.get(&(task.project, task.reporter.user_id));
            task.reporter.admin || role.is_some_and(|role| *role >= ProjectRole::Member)
        });
        let ids = |tasks: &[&Wanted]| tasks.iter().map(|task| task.project).collect::<BTreeSet<_>>();
        let seen: Vec<ProjectId> = ids(&seen).difference(&ids(&held)).copied().collect();
        let held: Vec<ProjectId> = ids(&held).into_iter().collect();
        let mut found = projects::by_ids(tx, &seen).await?;
        if !held.is_empty() {
            found.extend(projects::hold_all(tx, &held).await?);
            // Again, now that they stay as they are.
            self.roles = members::roles(tx, &people).await?;
        }
        self.projects = found.into_iter().map(|project| (project.id, project)).collect();
        let categories: HashSet<CategoryId> =
            wanted.iter().filter_map(|task| task.task.category_id).collect();
        self.categories = tasks::categories(tx, &Vec::from_iter(categories)).await?;
        Ok(())
    }

    /// Whether this task can be stored as things are.
    pub(crate) fn check(&self, draft: &Draft) -> Result<(), Error> {
        if let Some(stranger) = draft.task().assignee_id.filter(|id| !self.active.contains(id)) {
            return Err(unknown_assignee(stranger));
        }
        match draft {
            Draft::Ready(_) => Ok(()),
            Draft::InProject(wanted) => self.check_in_project(wanted),
        }
    }

    fn check_in_project(&self, wanted: &Wanted) -> Result<(), Error> {
        use taskpost_common::project::Visibility;
        let (reporter, id) = (wanted.reporter, wanted.project);
        let member = self.roles.get(&(id, reporter.user_id)).copied();
        let project = self.projects.get(&id).filter(|project| {
            reporter.admin || member.is_some() || project.visibility == Visibility::Internal
        });
        let project = project.ok_or_else(unknown_project)?;
        require(role(reporter, member), ProjectRole::Member)?;
        require_open(project)?;
        check_lists(&project.workflow, wanted.task_type.as_deref(), wanted.priority)?;
        if wanted.task.category_id.is_some_and(|category| self.categories.get(&category) != Some(&id)) {
            return Err(unknown_category());
        }
        match wanted.task.assignee_id.filter(|user| !self.roles.contains_key(&(id, *user))) {
            Some(_) => Err(not_a_member(project)),
            None => Ok(()),
        }
    }

    /// The task as the project wants it, under this number.
    fn make(&self, clock: &Clock, wanted: &Wanted, number: i64) -> Result<NewTask, Error> {
        let project = self.projects.get(&wanted.project).ok_or_else(unknown_project)?;
        let first = workflow::first(&project.workflow);
        let lists = &project.workflow;
        let mut task = wanted.task.clone();
        task.key = Some(format!("{}-{number}", project.key));
        task.status = first.name;
        task.status_category = first.category;
        task.state = first.category.state();
        if wanted.task_type.is_none()
            && let Some(task_type) = lists.task_types.first()
        {
            task.task_type.clone_from(task_type);
        }
        if wanted.priority.is_none()
            && !lists.priorities.contains(&task.priority)
            && let Some(priority) = lists.priorities.first()
        {
            task.priority = *priority;
        }
        Ok(NewTask::new(Change { clock, cause: &wanted.cause }, task)?)
    }
}

/// Makes tasks of those that are wanted in projects, each with the next number of its project, in the order they come.
pub(crate) async fn place(
    tx: &mut Tx,
    clock: &Clock,
    facts: &Facts,
    wanted: &[&Wanted],
) -> Result<Vec<Result<NewTask, Error>>, StoreError> {
    let mut counts = BTreeMap::<ProjectId, i64>::new();
    for task in wanted {
        *counts.entry(task.project).or_default() += 1;
    }
    let mut next = HashMap::new();
    for (project, count) in counts {
        if let Some(last) = tasks::take_numbers(tx, project, count).await? {
            next.insert(project, last - count);
        }
    }
    let make = |task: &&Wanted| {
        let number = next.get_mut(&task.project).ok_or_else(unknown_project)?;
        *number += 1;
        facts.make(clock, task, *number)
    };
    Ok(wanted.iter().map(make).collect())
}

/// Type and priority must be on the lists.
pub(crate) fn check_lists(
    lists: &Workflow,
    task_type: Option<&str>,
    priority: Option<Priority>,
) -> Result<(), Error> {
    if task_type.is_some_and(|given| lists.task_types.iter().all(|known| known != given)) {
        return Err(workflow::one_of("/type", "unknown_type", lists.task_types.iter().map(String::as_str)));
    }
    if priority.is_some_and(|given| !lists.priorities.contains(&given)) {
        let known = lists.priorities.iter().map(|priority| priority.as_str());
        return Err(workflow::one_of("/priority", "unknown_priority", known));
    }
    Ok(())
}

pub(crate) fn unknown_project() -> Error {
    Error::field("/project_id", "unknown_project", "there is no such project")
}

pub(crate) fn unknown_category() -> Error {
    Error::field("/category_id", "unknown_category", "the project has no such category")
}

pub(crate) fn not_a_member(project: &Project) -> Error {
    Error::Conflict(format!("the assignee is not a member of {}; add them first", project.key))
}
