//! Lists of tasks. Each branch of the statement walks one index and stops at the limit; an OR would read all and sort.

use chrono::{DateTime, Utc};
use taskpost_common::{
    CategoryId, ProjectId, TaskId, UserId,
    task::{Priority, Task, TaskState},
};

use super::TaskRow;
use crate::{
    Session, StoreError,
    dynamic::{Bind, Statement},
};

/// The most branches of one statement; SQLite takes 500.
const BRANCHES: usize = 100;
/// The most values of one statement; SQLite takes 32,766.
const BINDS: usize = 30_000;

/// What a list of tasks is ordered by; the id makes it total.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TaskOrder {
    /// By the time they were made.
    CreatedAt,
    /// By the time they last changed.
    UpdatedAt,
    /// By the time they are due; tasks without one are left out.
    DueAt,
}

/// Which tasks are wanted. An empty list asks for nothing in particular.
#[derive(Clone, Debug)]
pub struct TaskFilter {
    /// One of these statuses.
    pub status: Vec<String>,
    /// Open or closed.
    pub state: Option<TaskState>,
    /// One of these priorities.
    pub priority: Vec<Priority>,
    /// One of these types.
    pub task_type: Vec<String>,
    /// Of one of these assignees.
    pub assignee_id: Vec<UserId>,
    /// Of one of these reporters.
    pub reporter_id: Vec<UserId>,
    /// In one of these categories.
    pub category_id: Vec<CategoryId>,
    /// Carrying one of these labels.
    pub label: Vec<String>,
    /// All of these words are in the title or description.
    pub words: Vec<String>,
    /// Due at or after.
    pub due_from: Option<DateTime<Utc>>,
    /// Due before.
    pub due_before: Option<DateTime<Utc>>,
    /// Made at or after.
    pub created_from: Option<DateTime<Utc>>,
    /// Made before.
    pub created_before: Option<DateTime<Utc>>,
    /// Their order.
    pub order: TaskOrder,
    /// From high to low.
    pub descending: bool,
}

/// Where a page starts: behind (or, walking back, before) this row.
#[derive(Clone, Copy, Debug)]
pub struct After {
    /// The row's value of the order.
    pub at: DateTime<Utc>,
    /// Its id.
    pub id: TaskId,
    /// Walk against the order; the rows still come back in it.
    pub backwards: bool,
}

/// Among which tasks to look.
#[derive(Clone, Copy, Debug)]
pub enum Within<'a> {
    /// All there are.
    Everything,
    /// The personal tasks that a user made or has, and those of projects.
    Own(UserId, &'a [ProjectId]),
    /// Those of projects.
    Projects(&'a [ProjectId]),
}

/// Up to `limit` tasks, in the filter's order.
pub async fn list(
    session: &mut Session,
    within: Within<'_>,
    filter: &TaskFilter,
    after: Option<After>,
    limit: usize,
) -> Result<Vec<Task>, StoreError> {
    let backwards = after.is_some_and(|after| after.backwards);
    let page = Page {
        filter,
        after,
        limit,
        descending: filter.descending != backwards,
        postgres: session.is_postgres(),
    };
    let mut tasks = Vec::new();
    let branches = branches(within);
    let together = BRANCHES.min(BINDS / page.binds());
    for branches in branches.chunks(together) {
        let rows: Vec<TaskRow> = page.statement(branches).fetch_all(session).await?;
        for row in rows {
            tasks.push(Task::try_from(row)?);
        }
    }
    if branches.len() > together {
        page.merge(&mut tasks);
    }
    if backwards {
        tasks.reverse();
    }
    Ok(tasks)
}

/// Tasks that one index leads to.
#[derive(Clone, Copy, Debug)]
enum Branch {
    All,
    Reporter(UserId),
    Assignee(UserId),
    Project(ProjectId),
}

fn branches(within: Within<'_>) -> Vec<Branch> {
    let of = |projects: &[ProjectId]| projects.iter().copied().map(Branch::Project).collect::<Vec<_>>();
    match within {
        Within::Everything => vec![Branch::All],
        Within::Own(user, projects) => {
            let mut branches = vec![Branch::Reporter(user), Branch::Assignee(user)];
            branches.extend(of(projects));
            branches
        }
        Within::Projects(projects) => of(projects),
    }
}

struct Page<'a> {
    filter: &'a TaskFilter,
    after: Option<After>,
    limit: usize,
    descending: bool,
    postgres: bool,
}

impl Page<'_> {
    /// How many values a branch binds at most.
    fn binds(&self) -> usize {
        let filter = self.filter;
        let people = filter.assignee_id.len() + filter.reporter_id.len();
        let words = filter.status.len() + filter.task_type.len() + filter.label.len() + filter.words.len();
        people + words + filter.priority.len() + filter.category_id.len() + 10
    }

    fn statement(&self, branches: &[Branch]) -> Statement {
        if let [branch] = branches {
            let mut statement = Statement::new("SELECT * FROM tasks WHERE ");
            self.branch(&mut statement, *branch);
            return statement;
        }
        let mut statement = Statement::new("SELECT * FROM tasks WHERE id IN (");
        for (i, branch) in branches.iter().enumerate() {
            statement.push(if i == 0 { "SELECT id FROM (" } else { " UNION SELECT id FROM (" });
            statement.push("SELECT id FROM tasks WHERE ");
            self.branch(&mut statement, *branch);
            statement.push(") AS branch");
        }
        statement.push(")");
        self.order(&mut statement);
        statement
    }

    /// The conditions of a branch, the filter, the starting point, the order and the limit.
    fn branch(&self, statement: &mut Statement, branch: Branch) {
        match branch {
            Branch::All => statement.push("TRUE"),
            Branch::Reporter(user) => {
                statement.push("project_id IS NULL AND reporter_id = ").bind(Bind::Uuid(user.0))
            }
            Branch::Assignee(user) => {
                statement.push("project_id IS NULL AND assignee_id = ").bind(Bind::Uuid(user.0))
            }
            Branch::Project(project) => statement.push("project_id = ").bind(Bind::Uuid(project.0)),
        };
        self.narrow(statement);
        self.search(statement, branch);
        self.start(statement);
        self.order(statement);
    }

    fn narrow(&self, statement: &mut Statement) {
        let filter = self.filter;
        let texts = |values: &[String]| values.iter().cloned().map(Bind::Text).collect::<Vec<_>>();
        let people = |values: &[UserId]| values.iter().map(|id| Bind::Uuid(id.0)).collect::<Vec<_>>();
        let categories = filter.category_id.iter().map(|id| Bind::Uuid(id.0)).collect();
        let priorities = filter.priority.iter().map(|p| Bind::Text(p.as_str().to_owned())).collect();
        for (sql, values) in [
            (" AND status IN ", texts(&filter.status)),
            (" AND priority IN ", priorities),
            (" AND task_type IN ", texts(&filter.task_type)),
            (" AND category_id IN ", categories),
            (" AND assignee_id IN ", people(&filter.assignee_id)),
            (" AND reporter_id IN ", people(&filter.reporter_id)),
        ] {
            if !values.is_empty() {
                statement.push(sql).list(values);
            }
        }
        match filter.state {
            Some(TaskState::Open) => statement.push(" AND completed_at IS NULL"),
            Some(TaskState::Closed) => statement.push(" AND completed_at IS NOT NULL"),
            None => statement,
        };
        for (sql, time) in [
            (" AND created_at >= ", filter.created_from),
            (" AND created_at < ", filter.created_before),
            (" AND due_at >= ", filter.due_from),
            (" AND due_at < ", filter.due_before),
        ] {
            if let Some(time) = time {
                statement.push(sql).bind(Bind::Time(time));
            }
        }
        if filter.order == TaskOrder::DueAt {
            statement.push(" AND due_at IS NOT NULL");
        }
        self.labelled(statement);
    }

    /// Labels are a JSON array in a text: one of them is in it as it would be written there.
    fn labelled(&self, statement: &mut Statement) {
        for (i, label) in self.filter.label.iter().enumerate() {
            let written = serde_json::Value::from(label.as_str()).to_string();
            statement.push(if i == 0 { " AND (" } else { " OR " });
            statement.push(if self.postgres { "strpos(labels, " } else { "instr(labels, " });
            statement.bind(Bind::Text(written)).push(") > 0");
        }
        if !self.filter.label.is_empty() {
            statement.push(")");
        }
    }

    /// The words of projects are in an index; personal tasks of one user are few, and looked through.
    fn search(&self, statement: &mut Statement, branch: Branch) {
        let words = &self.filter.words;
        if words.is_empty() {
            return;
        }
        if self.postgres {
            statement
                .push(" AND to_tsvector('simple', title || ' ' || description) @@ plainto_tsquery('simple', ")
                .bind(Bind::Text(words.join(" ")))
                .push(")");
            return;
        }
        if let Branch::Project(_) = branch {
            let quoted: Vec<String> = words.iter().map(|word| format!("\"{word}\"")).collect();
            statement
                .push(" AND id IN (SELECT task_id FROM task_text JOIN task_numbers ON number = task_text.rowid WHERE task_text MATCH ")
                .bind(Bind::Text(quoted.join(" ")))
                .push(")");
            return;
        }
        for word in words {
            statement
                .push(" AND instr(lower(title || ' ' || description), ")
                .bind(Bind::Text(word.clone()))
                .push(") > 0");
        }
    }

    fn start(&self, statement: &mut Statement) {
        let Some(after) = self.after else { return };
        let (at, id) = (Bind::Time(after.at), Bind::Uuid(after.id.0));
        let sql = match (self.filter.order, self.descending) {
            // UUIDv7 grow with time, so the id alone is the order of creation.
            (TaskOrder::CreatedAt, false) => " AND id > ",
            (TaskOrder::CreatedAt, true) => " AND id < ",
            (TaskOrder::UpdatedAt, false) => " AND (updated_at, id) > (",
            (TaskOrder::UpdatedAt, true) => " AND (updated_at, id) < (",
            (TaskOrder::DueAt, false) => " AND (due_at, id) > (",
            (TaskOrder::DueAt, true) => " AND (due_at, id) < (",
        };
        statement.push(sql);
        match self.filter.order {
            TaskOrder::CreatedAt => statement.bind(id),
            TaskOrder::UpdatedAt | TaskOrder::DueAt => statement.bind(at).push(", ").bind(id).push(")"),
        };
    }

    fn order(&self, statement: &mut Statement) {
        statement.push(match (self.filter.order, self.descending) {
            (TaskOrder::CreatedAt, false) => " ORDER BY id LIMIT ",
            (TaskOrder::CreatedAt, true) => " ORDER BY id DESC LIMIT ",
            (TaskOrder::UpdatedAt, false) => " ORDER BY updated_at, id LIMIT ",
            (TaskOrder::UpdatedAt, true) => " ORDER BY updated_at DESC, id DESC LIMIT ",
            (TaskOrder::DueAt, false) => " ORDER BY due_at, id LIMIT ",
            (TaskOrder::DueAt, true) => " ORDER BY due_at DESC, id DESC LIMIT ",
        });
        statement.bind(Bind::Int(i64::try_from(self.limit).unwrap_or(i64::MAX)));
    }

    /// The same order over what several statements gave.
    fn merge(&self, tasks: &mut Vec<Task>) {
        tasks.sort_by_key(|task| match self.filter.order {
            TaskOrder::CreatedAt => (None, task.id),
            TaskOrder::UpdatedAt => (Some(task.updated_at), task.id),
            TaskOrder::DueAt => (task.due_at, task.id),
        });
        if self.descending {
            tasks.reverse();
        }
        tasks.truncate(self.limit);
    }
}
