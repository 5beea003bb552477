//! Which parts of which indexes a list is made of.

use std::mem;

use taskpost_common::{CategoryId, ProjectId, TaskId, UserId};

use super::{TaskFilter, TaskOrder, Walk, Within};
use crate::dynamic::{Bind, Statement};

/// The most projects that are read each by itself; the tasks of more are read together, and looked through.
pub(super) const MOST: usize = 50;

/// Ranges that have all tasks of a list, each of them once, and what is left to ask of a task in them.
#[derive(Clone, Debug)]
pub(super) struct Choice {
    pub(super) ranges: Vec<Range>,
    pub(super) sight: Sight,
    /// The filter without what the ranges know.
    pub(super) rest: TaskFilter,
}

/// Tasks that an index leads to, in every order that they were chosen for.
#[derive(Clone, Debug)]
pub(super) struct Range {
    pub(super) by: By,
    /// All of it is in sight.
    pub(super) sure: bool,
}

/// What leads to tasks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum By {
    /// Nothing: all tasks.
    All,
    /// Nothing: personal tasks.
    Personal,
    /// Nothing: tasks of projects.
    InProjects,
    /// The reporter of personal tasks.
    Reporter(UserId),
    /// The reporter of tasks of projects; in the order of their making only.
    InProjectsReporter(UserId),
    /// The assignee.
    Assignee(UserId),
    /// The assignee of personal tasks.
    PersonalAssignee(UserId),
    /// The assignee of personal tasks that somebody else made.
    Given(UserId),
    /// The project.
    Project(ProjectId),
    /// The project and the status; in the order of their making only.
    Status(ProjectId, String),
    /// The category; in the order of their making only.
    Category(CategoryId),
    /// The ids of tasks of projects.
    Ids(Vec<TaskId>),
}

/// Whose eyes a list is for.
#[derive(Clone, Debug)]
pub(super) enum Sight {
    /// Who sees all.
    All,
    /// A user's.
    Of(UserId),
    /// Whoever sees all of these projects.
    In(Vec<ProjectId>),
}

impl Choice {
    /// `readable` are the projects that the viewer may read, as far as there are not more than [`MOST`].
    pub(super) fn new(within: Within<'_>, readable: &[ProjectId], filter: &TaskFilter) -> Self {
        let mut rest = filter.clone();
        let bys = leading(within, readable, &mut rest);
        let sight = match within {
            Within::Everything => Sight::All,
            Within::Seen(user) => Sight::Of(user),
            Within::Projects(projects) => Sight::In(unique(projects)),
        };
        Self { ranges: sight.over(bys), sight, rest }
    }

    /// The same list, of which no tasks of projects but these have the words.
    pub(super) fn looked_up(&self, filter: &TaskFilter, ids: Vec<TaskId>) -> Self {
        let personal = self.ranges.iter().filter(|_| !self.in_projects());
        let mut bys: Vec<By> = personal.filter_map(|range| range.by.personal()).collect();
        if !ids.is_empty() {
            bys.push(By::Ids(ids));
        }
        Self { ranges: self.sight.over(bys), sight: self.sight.clone(), rest: filter.clone() }
    }

    /// Whether a range may have tasks on this walk.
    pub(super) fn walks(&self, walk: Walk, range: &Range) -> bool {
        walk != Walk::Fresh || (!self.in_projects() && range.by.personal().is_some())
    }

    const fn in_projects(&self) -> bool {
        matches!(self.sight, Sight::In(_))
    }
}

impl Sight {
    fn over(&self, bys: Vec<By>) -> Vec<Range> {
        bys.into_iter().map(|by| Range { sure: self.covers(&by), by }).collect()
    }

    fn covers(&self, by: &By) -> bool {
        match (self, by) {
            // These are chosen among those in sight.
            (Self::All, _) | (_, By::Project(_) | By::Status(..)) => true,
            (Self::Of(me), By::Reporter(user) | By::Given(user) | By::PersonalAssignee(user)) => me == user,
            _ => false,
        }
    }
}

impl By {
    /// The personal tasks among these, if there can be any.
    pub(super) fn personal(&self) -> Option<Self> {
        match self {
            Self::All | Self::Personal => Some(Self::Personal),
            Self::Assignee(user) | Self::PersonalAssignee(user) => Some(Self::PersonalAssignee(*user)),
            Self::Reporter(_) | Self::Given(_) => Some(self.clone()),
            Self::InProjects
            | Self::InProjectsReporter(_)
            | Self::Project(_)
            | Self::Status(..)
            | Self::Category(_)
            | Self::Ids(_) => None,
        }
    }

    /// Whether there are only personal ones.
    pub(super) fn is_personal(&self) -> bool {
        self.personal().as_ref() == Some(self)
    }

    /// Begins a statement that selects them; conditions follow.
    pub(super) fn select(&self, statement: &mut Statement, postgres: bool) {
        let Self::Ids(ids) = self else {
            statement.push("SELECT * FROM tasks WHERE ");
            return;
        };
        // One value, so that one text does for any number.
        if postgres {
            let ids: Vec<String> = ids.iter().map(ToString::to_string).collect();
            statement.push("SELECT * FROM tasks WHERE id = ANY(CAST(");
            statement.bind(Bind::Text(format!("{{{}}}", ids.join(",")))).push(" AS uuid[])) AND ");
            return;
        }
        // Its tables are joined in the order they are named in, so that each task is looked up by its id.
        let ids: Vec<String> = ids.iter().map(|id| id.0.simple().to_string()).collect();
        statement.push("SELECT tasks.* FROM (SELECT unhex(value) AS task_id FROM json_each(");
        statement.bind(Bind::Text(serde_json::Value::from(ids).to_string()));
        statement.push(")) AS listed CROSS JOIN tasks ON tasks.id = listed.task_id WHERE ");
    }

    /// Adds the conditions that an index fulfils.
    pub(super) fn index(&self, statement: &mut Statement, walk: Walk) {
        match self {
            Self::InProjects if walk == Walk::Made => statement.push("project_id IS NOT NULL"),
            Self::Ids(_) => statement.push("project_id IS NOT NULL"),
            Self::All | Self::Personal | Self::InProjects => statement.push("TRUE"),
            Self::Reporter(user) => {
                statement.push("project_id IS NULL AND reporter_id = ").bind(Bind::Uuid(user.0))
            }
            Self::InProjectsReporter(user) => {
                statement.push("project_id IS NOT NULL AND reporter_id = ").bind(Bind::Uuid(user.0))
            }
            Self::Assignee(user) | Self::PersonalAssignee(user) | Self::Given(user) => {
                statement.push("assignee_id = ").bind(Bind::Uuid(user.0))
            }
            Self::Project(project) => statement.push("project_id = ").bind(Bind::Uuid(project.0)),
            Self::Status(project, status) => statement
                .push("project_id = ")
                .bind(Bind::Uuid(project.0))
                .push(" AND status = ")
                .bind(Bind::Text(status.clone())),
            Self::Category(category) => statement.push("category_id = ").bind(Bind::Uuid(category.0)),
        };
        match (walk, self) {
            (Walk::Due, _) => statement.push(" AND due_at IS NOT NULL"),
            (Walk::Changed, Self::Reporter(_)) => statement.push(" AND updated_at > created_at"),
            (
                Walk::Changed,
                Self::All
                | Self::Personal
                | Self::InProjects
                | Self::Assignee(_)
                | Self::PersonalAssignee(_)
                | Self::Given(_),
            ) => statement.push(" AND (project_id IS NOT NULL OR updated_at > created_at)"),
            _ => statement,
        };
    }

    /// Adds the conditions that tell these tasks from others in that part of the index.
    pub(super) fn apart(&self, statement: &mut Statement, walk: Walk) {
        match self {
            Self::Personal | Self::PersonalAssignee(_) => statement.push(" AND project_id IS NULL"),
            Self::InProjects => statement.push(" AND project_id IS NOT NULL"),
            Self::Given(user) => {
                statement.push(" AND project_id IS NULL AND reporter_id <> ").bind(Bind::Uuid(user.0))
            }
            _ => statement,
        };
        if walk == Walk::Fresh {
            statement.push(" AND project_id IS NULL AND updated_at <= created_at");
        }
    }
}

/// What leads to the tasks of a list; takes out of the filter what need not be asked any more. Somebody's tasks are few
/// beside those of a project; what a machine reported need not be.
fn leading(within: Within<'_>, readable: &[ProjectId], rest: &mut TaskFilter) -> Vec<By> {
    if !rest.assignee_id.is_empty() {
        return unique(&mem::take(&mut rest.assignee_id)).into_iter().map(By::Assignee).collect();
    }
    if rest.order == TaskOrder::CreatedAt && !rest.category_id.is_empty() {
        return unique(&mem::take(&mut rest.category_id)).into_iter().map(By::Category).collect();
    }
    match within {
        Within::Projects(projects) => of_projects(&unique(projects), rest),
        Within::Everything if rest.reporter_id.is_empty() => vec![By::All],
        Within::Everything => reported(vec![By::InProjects], rest),
        Within::Seen(user) if rest.reporter_id.is_empty() => {
            let mut bys = vec![By::Reporter(user), By::Given(user)];
            bys.extend(each(readable));
            bys
        }
        Within::Seen(_) => reported(each(readable), rest),
    }
}

fn of_projects(projects: &[ProjectId], rest: &mut TaskFilter) -> Vec<By> {
    let statuses = unique(&rest.status);
    let both = projects.len() * statuses.len();
    if rest.order != TaskOrder::CreatedAt || both == 0 || both > MOST {
        return each(projects);
    }
    rest.status.clear();
    let pairs = projects.iter().flat_map(|project| statuses.iter().map(|status| (*project, status.clone())));
    pairs.map(|(project, status)| By::Status(project, status)).collect()
}

/// By reporters; `projects` have the tasks of projects in those orders in which no index knows who reported them.
fn reported(projects: Vec<By>, rest: &mut TaskFilter) -> Vec<By> {
    let people = unique(&rest.reporter_id);
    let mut bys: Vec<By> = people.iter().copied().map(By::Reporter).collect();
    if rest.order == TaskOrder::CreatedAt {
        rest.reporter_id.clear();
        bys.extend(people.into_iter().map(By::InProjectsReporter));
    } else {
        bys.extend(projects);
    }
    bys
}

fn each(projects: &[ProjectId]) -> Vec<By> {
    if projects.len() > MOST {
        return vec![By::InProjects];
    }
    projects.iter().copied().map(By::Project).collect()
}

fn unique<T: Ord + Clone>(values: &[T]) -> Vec<T> {
    let mut values = values.to_vec();
    values.sort_unstable();
    values.dedup();
    values
}
