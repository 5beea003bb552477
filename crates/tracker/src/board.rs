//! The board of a project: from the view that follows the log, or from the tasks where the view is behind the reader.

use chrono::{DateTime, Utc};
use serde::Serialize;
use taskpost_common::{
    CategoryId, EventId, Position, ProjectId, TaskId, UserId,
    page::Direction,
    problem::FieldError,
    project::{Project, ProjectRole},
    task::{Priority, StatusCategory},
    workflow::Status,
};
use taskpost_store::{
    Session, Viewer,
    board::{self, Card, from_store},
    events, progress,
};
use utoipa::ToSchema;

use crate::{
    Caller, Error, Tracker,
    access::in_project,
    pages::{Cursors, PageRequest},
};

/// How often a board is read again because another build was shown meanwhile.
const TRIES: usize = 3;

/// What of a board is wanted.
#[derive(Clone, Debug)]
pub struct BoardRequest {
    /// This column only.
    pub status: Option<String>,
    /// How many cards of each column; a cursor goes on in the one column that is asked for.
    pub page: PageRequest,
}

/// A project's tasks by their status.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Board {
    /// The project.
    pub project_id: ProjectId,
    /// Of a view, the last event of the project that is in it; of the store, the last of the whole log.
    pub as_of: Position,
    /// Where it comes from.
    pub source: BoardSource,
    /// A column for each status, in the order of the project.
    pub columns: Vec<BoardColumn>,
}

/// Where a board comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum BoardSource {
    /// The view that follows the log.
    View,
    /// The tasks themselves.
    Store,
}

/// A column of a board.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct BoardColumn {
    /// The status.
    pub status: String,
    /// What it means.
    pub category: StatusCategory,
    /// How many tasks stand in it.
    pub count: i64,
    /// The first of them, newest first.
    pub cards: Vec<BoardCard>,
    /// Give it as `cursor`, with `status`, for the next cards; null at the end.
    pub next_cursor: Option<String>,
}

/// A task on a board.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct BoardCard {
    /// The task.
    pub id: TaskId,
    /// Its key.
    pub key: Option<String>,
    /// The project's category.
    pub category_id: Option<CategoryId>,
    /// What it is.
    #[serde(rename = "type")]
    pub task_type: String,
    /// One line.
    pub title: String,
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
}

impl From<Card> for BoardCard {
    fn from(card: Card) -> Self {
        Self {
            id: card.task_id,
            key: card.key,
            category_id: card.category_id,
            task_type: card.task_type,
            title: card.title,
            priority: card.priority,
            assignee_id: card.assignee_id,
            labels: card.labels,
            due_at: card.due_at,
            comment_count: card.comment_count,
            version: card.version,
        }
    }
}

impl Tracker {
    /// The board of a project. With an event, one that holds it: the view if that has it already, else the store.
    pub async fn board(
        &self,
        caller: &Caller,
        project: ProjectId,
        request: &BoardRequest,
        after_event: Option<EventId>,
    ) -> Result<Board, Error> {
        let mut reader = self.0.db.reader().await?;
        let (project, _) = in_project(&mut reader, caller.viewer(), project, ProjectRole::Viewer).await?;
        let plan = self.board_plan(caller, &project, request)?;
        let current = match after_event {
            Some(event) => holds(&mut reader, caller, event).await?,
            None => true,
        };
        if current {
            for _ in 0..TRIES {
                let build = board::live_build(&mut reader, board::NAME).await?;
                let as_of = board::position(&mut reader, build, project.id).await?;
                let columns = plan.columns(&mut reader, Source::View(build)).await?;
                // The rows of a build that is shown no more are being removed.
                if board::live_build(&mut reader, board::NAME).await? == build {
                    return Ok(Board { project_id: project.id, as_of, source: BoardSource::View, columns });
                }
            }
        }
        let as_of = events::head(&mut reader).await?;
        let columns = plan.columns(&mut reader, Source::Store).await?;
        Ok(Board { project_id: project.id, as_of, source: BoardSource::Store, columns })
    }

    fn board_plan<'a>(
        &'a self,
        caller: &Caller,
        project: &'a Project,
        request: &BoardRequest,
    ) -> Result<Plan<'a>, Error> {
        let statuses = match &request.status {
            None => project.workflow.statuses.iter().collect(),
            Some(name) => {
                let detail = || format!("there is no `{name}` here");
                let unknown = || Error::Query(FieldError::new("?status", "unknown_status", detail()));
                vec![project.workflow.status(name).ok_or_else(unknown)?]
            }
        };
        if request.page.cursor.is_some() && request.status.is_none() {
            let detail = "goes with the status of its column";
            return Err(Error::Query(FieldError::new("?cursor", "invalid_value", detail)));
        }
        let status = request.status.as_deref().unwrap_or_default();
        let scope = |status: &str| format!("board {} {} {status}", caller.user_id(), project.id);
        let start = self.cursors_of(scope(status)).open::<TaskId>(request.page.cursor.as_deref())?;
        let columns = statuses.into_iter().map(|status| (status, self.cursors_of(scope(&status.name))));
        Ok(Plan {
            project: project.id,
            columns: columns.collect(),
            limit: request.page.limit,
            after: start.map(|(_, id): (Direction, TaskId)| id),
        })
    }

    fn cursors_of(&self, scope: String) -> Cursors<'_> {
        Cursors { key: &self.0.cursors, scope, now: self.0.clock.now() }
    }
}

/// Whether the view holds an event and all before it. Of one that has no position yet nobody can tell.
async fn holds(reader: &mut Session, caller: &Caller, event: EventId) -> Result<bool, Error> {
    // Whoever names an event that they may not see learns nothing of it.
    let anybody = Viewer { user_id: caller.user_id(), admin: true };
    let Some(event) = events::visible(reader, anybody, event).await? else { return Ok(false) };
    // Not by the last event of the project that went in: a write may tell of many tasks, and on Kafka partitions are
    // read side by side.
    Ok(progress::applied(reader, board::GROUP).await? >= event.position)
}

#[derive(Clone, Copy)]
enum Source {
    View(i64),
    Store,
}

/// Which columns are read, and from where in them.
struct Plan<'a> {
    project: ProjectId,
    columns: Vec<(&'a Status, Cursors<'a>)>,
    limit: usize,
    after: Option<TaskId>,
}

impl Plan<'_> {
    async fn columns(&self, reader: &mut Session, source: Source) -> Result<Vec<BoardColumn>, Error> {
        let counts = match source {
            Source::View(build) => board::counts(reader, build, self.project).await?,
            Source::Store => from_store::counts(reader, self.project).await?,
        };
        let mut columns = Vec::with_capacity(self.columns.len());
        for (status, cursors) in &self.columns {
            let (name, most) = (status.name.as_str(), self.limit + 1);
            let cards = match source {
                Source::View(build) => {
                    board::column(reader, build, self.project, name, most, self.after).await?
                }
                Source::Store => from_store::column(reader, self.project, name, most, self.after).await?,
            };
            let page = cursors.page(cards, self.limit, None, |card| card.task_id)?;
            columns.push(BoardColumn {
                status: status.name.clone(),
                category: status.category,
                count: counts.iter().find(|(of, _)| of == name).map_or(0, |(_, tasks)| *tasks),
                cards: page.data.into_iter().map(BoardCard::from).collect(),
                next_cursor: page.next_cursor,
            });
        }
        Ok(columns)
    }
}
