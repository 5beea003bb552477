//! Read models: what pages show, kept ready beside the log.

use axum::{
    extract::{FromRequestParts, State},
    http::{HeaderName, StatusCode, request::Parts},
    response::Response,
};
use serde::Deserialize;
use taskpost_common::{EventId, ProjectId};
use taskpost_tracker::{Board, BoardRequest, PageRequest};
use utoipa::IntoParams;

use super::{
    app::Shared,
    extract::{Id, Member, Query},
    problem::{ApiError, Result},
    query::{Limit, Parsed, Word},
    reply::Reply,
};

const AFTER_EVENT: HeaderName = HeaderName::from_static("after-event");

/// The event that an answer must hold: the `Event-Id` of the client's own write.
pub(crate) struct AfterEvent(Option<EventId>);

impl FromRequestParts<Shared> for AfterEvent {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &Shared) -> Result<Self> {
        let mut lines = parts.headers.get_all(AFTER_EVENT).iter();
        let Some(line) = lines.next() else { return Ok(Self(None)) };
        let text = line.to_str().ok().filter(|text| text.len() == 36 && lines.next().is_none());
        let id = text.and_then(|text| text.parse().ok());
        id.map(|id| Self(Some(id)))
            .ok_or_else(|| ApiError::bad_request("After-Event must be one Event-Id, as a write answers it"))
    }
}

/// Keys of a board.
#[derive(Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub(crate) struct BoardKeys {
    /// The column of this status only.
    #[param(value_type = Option<String>, min_length = 1, max_length = 64, example = "todo")]
    status: Option<Parsed<Word>>,
    /// How many cards of each column, 50 when not said.
    #[param(value_type = Option<u32>, minimum = 1, maximum = 200)]
    limit: Limit,
    /// From the same column of an earlier answer; goes with `status`.
    cursor: Option<String>,
}

/// Show the board of a project
///
/// It follows the log, and may be a moment behind. With `After-Event` it holds what the client wrote.
#[utoipa::path(
    get, path = "/views/projects/{id}/board", tag = "projects",
    params(
        ("id" = ProjectId, Path, description = "The project."),
        BoardKeys,
    ),
    responses((status = 200, description = "The board.", body = Board))
)]
pub(crate) async fn board(
    State(api): State<Shared>,
    Member(caller): Member,
    Id(id): Id<ProjectId>,
    Query(keys): Query<BoardKeys>,
    AfterEvent(event): AfterEvent,
) -> Result<Response> {
    let page = PageRequest { limit: keys.limit.get(), cursor: keys.cursor };
    let request = BoardRequest { status: keys.status.map(|Parsed(Word(status))| status), page };
    let board = api.app.tracker.board(&caller, id, &request, event).await?;
    Ok(Reply::json(StatusCode::OK, &board)?.done())
}
