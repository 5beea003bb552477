//! The board: tasks of projects as cards in columns, folded from events.
//!
//! Every row belongs to a build. The live one is named in `projections`; a rebuild fills another one beside it.

mod apply;
mod explain;
pub mod from_store;
pub mod rebuild;

use chrono::{DateTime, Utc};
use sqlx::FromRow;
use taskpost_common::{
    CategoryId, Position, ProjectId, TaskId, UserId,
    task::{Priority, Task},
};
use uuid::Uuid;

use crate::{Session, StoreError, Tx, db::on};

pub use apply::apply;
pub use explain::explain;

/// Its name in `projections`.
pub const NAME: &str = "board";
/// The consumer group that keeps it.
pub const GROUP: &str = "projections";

const COLUMN: &str = "
    SELECT * FROM board_cards
    WHERE build = $1 AND project_id = $2 AND status = $3 AND NOT gone AND task_id < $4
    ORDER BY task_id DESC LIMIT $5";
const COUNTS: &str = "
    SELECT status, tasks FROM board_counts WHERE build = $1 AND project_id = $2 AND tasks <> 0 ORDER BY status";
const POSITION: &str = "SELECT position FROM board_projects WHERE build = $1 AND project_id = $2";

/// A task as a board shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Card {
    /// The task.
    pub task_id: TaskId,
    /// Its project.
    pub project_id: ProjectId,
    /// The project's category.
    pub category_id: Option<CategoryId>,
    /// Its key in the project.
    pub key: Option<String>,
    /// One line.
    pub title: String,
    /// What it is.
    pub task_type: String,
    /// The column it stands in.
    pub status: String,
    /// How much it matters.
    pub priority: Priority,
    /// Who works on it.
    pub assignee_id: Option<UserId>,
    /// Free words.
    pub labels: Vec<String>,
    /// When it should be done.
    pub due_at: Option<DateTime<Utc>>,
    /// How many comments it has.
    pub comment_count: i64,
    /// The task's version.
    pub version: i64,
    /// The last event that went in; zero when it was read from the tasks themselves.
    pub position: Position,
    /// Deleted: shown no more, and kept without its texts so that an older event does not bring it back.
    pub gone: bool,
}

impl Card {
    /// A task as the event at `position` made it.
    pub fn new(task: &Task, project_id: ProjectId, position: Position) -> Self {
        Self {
            task_id: task.id,
            project_id,
            category_id: task.category_id,
            key: task.key.clone(),
            title: task.title.clone(),
            task_type: task.task_type.clone(),
            status: task.status.clone(),
            priority: task.priority,
            assignee_id: task.assignee_id,
            labels: task.labels.clone(),
            due_at: task.due_at,
            comment_count: task.comment_count,
            version: task.version,
            position,
            gone: false,
        }
    }
}

/// What an event does to the board.
#[derive(Clone, Debug)]
pub struct BoardChange {
    /// The event's position.
    pub position: Position,
    /// The project whose board it is.
    pub project_id: ProjectId,
    /// What it does.
    pub what: What,
}

impl BoardChange {
    /// The task whose card it is about, if it is about one.
    pub const fn task_id(&self) -> Option<TaskId> {
        match &self.what {
            What::Made(card) => Some(card.task_id),
            What::Changed { task_id, .. }
            | What::Commented { task_id, .. }
            | What::Deleted { task_id, .. } => Some(*task_id),
            What::ProjectDeleted => None,
        }
    }
}

/// What an event does to a card, or to all of a project.
#[derive(Clone, Debug)]
pub enum What {
    /// A task was made.
    Made(Box<Card>),
    /// A task changed.
    Changed {
        /// The task.
        task_id: TaskId,
        /// Its version now.
        version: i64,
        /// What is different; may be empty.
        fields: Vec<Field>,
    },
    /// A comment came or went.
    Commented {
        /// The task.
        task_id: TaskId,
        /// How many comments it has now.
        comment_count: i64,
    },
    /// A task was deleted.
    Deleted {
        /// The task.
        task_id: TaskId,
        /// The version that the deletion made.
        version: i64,
    },
    /// The project was deleted, after its tasks.
    ProjectDeleted,
}

/// A field of a card with its new value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Field {
    /// The title.
    Title(String),
    /// The type.
    TaskType(String),
    /// The status.
    Status(String),
    /// The priority.
    Priority(Priority),
    /// The category.
    Category(Option<CategoryId>),
    /// The assignee.
    Assignee(Option<UserId>),
    /// The labels.
    Labels(Vec<String>),
    /// The due date.
    DueAt(Option<DateTime<Utc>>),
}

/// The build of a projection that is shown.
pub async fn live_build(session: &mut Session, name: &str) -> Result<i64, StoreError> {
    const SQL: &str = "SELECT build FROM projections WHERE name = $1";
    let (build,): (i64,) = on!(session, |c| sqlx::query_as(SQL).bind(name).fetch_one(c).await?);
    Ok(build)
}

/// The build that is shown, and stays so until the transaction ends: what is written into it is not lost by a swap.
pub async fn hold(tx: &mut Tx) -> Result<i64, StoreError> {
    const POSTGRES: &str = "SELECT build FROM projections WHERE name = $1 FOR SHARE";
    if !tx.is_postgres() {
        return live_build(tx, NAME).await;
    }
    let (build,): (i64,) = on!(tx, |c| sqlx::query_as(POSTGRES).bind(NAME).fetch_one(c).await?);
    Ok(build)
}

/// Up to `limit` cards of a column, newest first, behind the card of `after`.
pub async fn column(
    session: &mut Session,
    build: i64,
    project: ProjectId,
    status: &str,
    limit: usize,
    after: Option<TaskId>,
) -> Result<Vec<Card>, StoreError> {
    let rows: Vec<CardRow> = on!(session, |c| sqlx::query_as(COLUMN)
        .bind(build)
        .bind(project.0)
        .bind(status)
        .bind(below(after))
        .bind(most(limit))
        .fetch_all(c)
        .await?);
    cards(rows)
}

/// How many tasks stand in each status of a project, as far as there are any.
pub async fn counts(
    session: &mut Session,
    build: i64,
    project: ProjectId,
) -> Result<Vec<(String, i64)>, StoreError> {
    Ok(on!(session, |c| sqlx::query_as(COUNTS).bind(build).bind(project.0).fetch_all(c).await?))
}

/// The highest event of a project that went into its board; zero before the first. On Kafka, whose partitions are read
/// side by side, a lower one may still be missing.
pub async fn position(session: &mut Session, build: i64, project: ProjectId) -> Result<Position, StoreError> {
    let row: Option<(i64,)> =
        on!(session, |c| sqlx::query_as(POSITION).bind(build).bind(project.0).fetch_optional(c).await?);
    Ok(row.map_or(Position(0), |(position,)| Position(position)))
}

/// A bound above every task, or the task to go on behind.
fn below(after: Option<TaskId>) -> Uuid {
    after.map_or(Uuid::max(), |id| id.0)
}

fn most(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}

fn cards(rows: Vec<CardRow>) -> Result<Vec<Card>, StoreError> {
    rows.into_iter().map(Card::try_from).collect()
}

#[derive(FromRow)]
struct CardRow {
    #[sqlx(try_from = "Uuid")]
    task_id: TaskId,
    #[sqlx(try_from = "Uuid")]
    project_id: ProjectId,
    category_id: Option<Uuid>,
    key: Option<String>,
    title: String,
    task_type: String,
    status: String,
    #[sqlx(try_from = "String")]
    priority: Priority,
    assignee_id: Option<Uuid>,
    labels: String,
    due_at: Option<DateTime<Utc>>,
    comment_count: i64,
    version: i64,
    position: i64,
    gone: bool,
}

impl TryFrom<CardRow> for Card {
    type Error = StoreError;

    fn try_from(row: CardRow) -> Result<Self, StoreError> {
        Ok(Self {
            task_id: row.task_id,
            project_id: row.project_id,
            category_id: row.category_id.map(CategoryId),
            key: row.key,
            title: row.title,
            task_type: row.task_type,
            status: row.status,
            priority: row.priority,
            assignee_id: row.assignee_id.map(UserId),
            labels: serde_json::from_str(&row.labels)?,
            due_at: row.due_at,
            comment_count: row.comment_count,
            version: row.version,
            position: Position(row.position),
            gone: row.gone,
        })
    }
}
