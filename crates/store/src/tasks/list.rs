//! Lists of tasks, page by page.
//!
//! A list is made of ranges of indexes, each read in the list's order from where the page begins. What an index does not
//! know is asked of so many rows only: then a page may come short, or empty, and says where the next one is to go on.

use chrono::{DateTime, Utc};
use sqlx::{FromRow, postgres::PgRow, sqlite::SqliteRow};
use taskpost_common::{
    CategoryId, ProjectId, TaskId, UserId,
    task::{Priority, Task, TaskState},
};
use uuid::Uuid;

use super::TaskRow;
use crate::{Plan, Session, StoreError, dynamic::Statement, projects};

mod conditions;
mod order;
mod page;
mod range;

pub use order::{Place, TaskOrder};

use order::Walk;
use page::Page;
use range::{Choice, MOST, Range};

/// Which tasks are wanted. An empty list asks for nothing in particular.
#[derive(Clone, Debug, Default)]
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

/// Where a page starts: behind (or, walking back, before) this place.
#[derive(Clone, Copy, Debug)]
pub struct After {
    /// The time of the place; see [`TaskOrder::place`].
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
    /// What a user who is no admin may see: personal tasks that they made or have, and those of projects they may read.
    Seen(UserId),
    /// Those of projects.
    Projects(&'a [ProjectId]),
}

/// A page of a list.
#[derive(Clone, Debug, Default)]
pub struct Found {
    /// Its tasks, in the list's order.
    pub tasks: Vec<Task>,
    /// Where it ended before it was full: there may be more behind.
    pub end: Option<Place>,
}

/// How far a page looks for what no index leads to.
#[derive(Clone, Copy, Debug)]
pub struct Reach {
    /// Through so many rows, and of each range through as many as a page holds.
    pub rows: usize,
    /// Through so many for words, before they are looked up.
    pub glance: usize,
    /// Words that more tasks of projects have are not looked up, but met on the way.
    pub rare: usize,
}

impl Reach {
    /// The reach of lists.
    pub const USUAL: Self = Self { rows: 5_000, glance: 500, rare: 2_000 };
}

/// Up to `limit` tasks, in the filter's order.
pub async fn list(
    session: &mut Session,
    within: Within<'_>,
    filter: &TaskFilter,
    after: Option<After>,
    limit: usize,
) -> Result<Found, StoreError> {
    list_in_reach(session, within, filter, after, limit, Reach::USUAL).await
}

/// As [`list`], with another reach: for tests.
pub async fn list_in_reach(
    session: &mut Session,
    within: Within<'_>,
    filter: &TaskFilter,
    after: Option<After>,
    limit: usize,
    reach: Reach,
) -> Result<Found, StoreError> {
    look(Reader { session, plans: None }, within, filter, after, limit, reach).await
}

/// The plan of each statement behind [`list_in_reach`]: for benchmarks and tests. Postgres runs the statements once more.
pub async fn explain(
    session: &mut Session,
    within: Within<'_>,
    filter: &TaskFilter,
    after: Option<After>,
    limit: usize,
    reach: Reach,
) -> Result<Vec<Plan>, StoreError> {
    let mut plans = Vec::new();
    let reader = Reader { session, plans: Some(&mut plans) };
    look(reader, within, filter, after, limit, reach).await?;
    Ok(plans)
}

/// Asks statements, and notes their plans if they are wanted.
struct Reader<'a> {
    session: &'a mut Session,
    plans: Option<&'a mut Vec<Plan>>,
}

impl Reader<'_> {
    async fn ask<T>(&mut self, statement: Statement) -> Result<Vec<T>, StoreError>
    where
        T: for<'r> FromRow<'r, PgRow> + for<'r> FromRow<'r, SqliteRow> + Send + Unpin,
    {
        if let Some(plans) = &mut self.plans {
            plans.push(statement.clone().explain(self.session).await?);
        }
        statement.fetch_all(self.session).await
    }

    async fn place(&mut self, walk: Walk, statement: Statement) -> Result<Option<Place>, StoreError> {
        if walk.is_by_id() {
            let rows: Vec<(Uuid,)> = self.ask(statement).await?;
            return Ok(rows.first().map(|(id,)| Place::made(TaskId(*id))));
        }
        let rows: Vec<(DateTime<Utc>, Uuid)> = self.ask(statement).await?;
        Ok(rows.first().map(|(at, id)| Place { at: *at, id: TaskId(*id) }))
    }
}

async fn look(
    mut reader: Reader<'_>,
    within: Within<'_>,
    filter: &TaskFilter,
    after: Option<After>,
    limit: usize,
    reach: Reach,
) -> Result<Found, StoreError> {
    let readable = match within {
        Within::Seen(user) => projects::readable_ids(reader.session, user, MOST + 1).await?,
        Within::Everything | Within::Projects(_) => Vec::new(),
    };
    let choice = Choice::new(within, &readable, filter);
    let backwards = after.is_some_and(|after| after.backwards);
    let page = Page {
        choice: &choice,
        from: after.map(|After { at, id, .. }| Place { at, id }),
        descending: filter.descending != backwards,
        limit,
        postgres: reader.session.is_postgres(),
    };
    let mut found = search(&mut reader, page, filter, reach).await?;
    if backwards {
        found.tasks.reverse();
    }
    Ok(found)
}

/// Reads the page. Words that many tasks have are met on the way; where they are not, they are looked up.
async fn search(
    reader: &mut Reader<'_>,
    page: Page<'_>,
    filter: &TaskFilter,
    reach: Reach,
) -> Result<Found, StoreError> {
    let choice = page.choice;
    let personal = choice.ranges.iter().all(|range| range.by.is_personal());
    if filter.words.is_empty() || personal {
        return read(reader, page, reach.rows).await;
    }
    let glance = read(reader, page, reach.glance).await?;
    if glance.end.is_none() {
        return Ok(glance);
    }
    let found: Vec<(Uuid,)> = reader.ask(page.having_words(reach.rare + 1)).await?;
    if found.len() > reach.rare {
        return read(reader, page, reach.rows).await;
    }
    let choice = choice.looked_up(filter, found.into_iter().map(|(id,)| TaskId(id)).collect());
    read(reader, Page { choice: &choice, ..page }, reach.rows).await
}

/// The first tasks of the page, having looked through so many rows at most where a range has others too.
async fn read(reader: &mut Reader<'_>, page: Page<'_>, reach: usize) -> Result<Found, StoreError> {
    let choice = page.choice;
    let (mut tasks, mut end): (Vec<Task>, Option<Place>) = (Vec::new(), None);
    for walk in choice.rest.order.walks().iter().copied() {
        let walked: Vec<&Range> = choice.ranges.iter().filter(|range| choice.walks(walk, range)).collect();
        if walked.is_empty() {
            continue;
        }
        let mut up_to = page.nearer(end, page.filled(&tasks));
        let loose: Vec<&Range> = walked.iter().copied().filter(|range| page.is_loose(walk, range)).collect();
        if !loose.is_empty() {
            let each = (reach / loose.len()).max(page.limit).max(1);
            let found = reader.place(walk, page.end(walk, &loose, up_to, each)).await?;
            end = page.nearer(end, found);
            up_to = page.nearer(up_to, end);
        }
        let rows: Vec<TaskRow> = reader.ask(page.rows(walk, &walked, up_to)).await?;
        for row in rows {
            tasks.push(Task::try_from(row)?);
        }
        page.merge(&mut tasks, end);
    }
    let end = end.filter(|_| tasks.len() < page.limit);
    Ok(Found { tasks, end })
}
