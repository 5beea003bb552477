//! How much of a project or task one wants to hear.

use axum::{extract::State, http::StatusCode, response::Response};
use taskpost_common::{EventId, ProjectId, watch::Watch};
use taskpost_store::idempotency::StoredAnswer;
use taskpost_tracker::{AddWatchers, Once, SetWatch, Watchers};

use super::{
    app::Shared,
    extract::{Id, Json, Key, Member, OptionalJson, TaskParam},
    problem::Result,
    projects::gone,
    reply::{self, Reply},
};

/// Watch a project
///
/// The body may be left out: then one hears of everything.
#[utoipa::path(
    put, path = "/projects/{id}/watch", tag = "projects",
    params(("id" = ProjectId, Path, description = "The project.")),
    request_body = SetWatch, responses((status = 200, description = "The watch as it is now.", body = Watch))
)]
pub(crate) async fn watch_project(
    State(api): State<Shared>,
    Member(caller): Member,
    Id(id): Id<ProjectId>,
    OptionalJson(input): OptionalJson<SetWatch>,
) -> Result<Response> {
    let watch = api.app.tracker.watch_project(&caller, id, input).await?;
    Ok(Reply::json(StatusCode::OK, &watch)?.done())
}

/// Stop to watch a project
///
/// No rule brings it back.
#[utoipa::path(
    delete, path = "/projects/{id}/watch", tag = "projects",
    params(("id" = ProjectId, Path, description = "The project.")),
    responses((status = 204, description = "One hears nothing of it."))
)]
pub(crate) async fn unwatch_project(
    State(api): State<Shared>,
    Member(caller): Member,
    Id(id): Id<ProjectId>,
) -> Result<Response> {
    api.app.tracker.unwatch_project(&caller, id).await?;
    Ok(gone(None))
}

/// Watch a task
///
/// The body may be left out: then one hears of everything.
#[utoipa::path(
    put, path = "/tasks/{id}/watch", tag = "tasks",
    params(("id" = String, Path, description = "The task, by id or key.")),
    request_body = SetWatch, responses((status = 200, description = "The watch as it is now.", body = Watch))
)]
pub(crate) async fn watch_task(
    State(api): State<Shared>,
    Member(caller): Member,
    TaskParam(name): TaskParam,
    OptionalJson(input): OptionalJson<SetWatch>,
) -> Result<Response> {
    let id = api.app.tracker.find_task_id(&caller, &name).await?;
    let watch = api.app.tracker.watch_task(&caller, id, input).await?;
    Ok(Reply::json(StatusCode::OK, &watch)?.done())
}

/// Stop to watch a task
///
/// No rule brings it back.
#[utoipa::path(
    delete, path = "/tasks/{id}/watch", tag = "tasks",
    params(("id" = String, Path, description = "The task, by id or key.")),
    responses((status = 204, description = "One hears nothing of it."))
)]
pub(crate) async fn unwatch_task(
    State(api): State<Shared>,
    Member(caller): Member,
    TaskParam(name): TaskParam,
) -> Result<Response> {
    let id = api.app.tracker.find_task_id(&caller, &name).await?;
    api.app.tracker.unwatch_task(&caller, id).await?;
    Ok(gone(None))
}

/// Let others hear of a task
///
/// Who chose otherwise hears what they chose.
#[utoipa::path(
    post, path = "/tasks/{id}/watchers", tag = "tasks",
    params(("id" = String, Path, description = "The task, by id or key.")),
    request_body = AddWatchers, responses((status = 200, description = "Who was asked for.", body = Watchers))
)]
pub(crate) async fn add_watchers(
    State(api): State<Shared>,
    Member(caller): Member,
    TaskParam(name): TaskParam,
    Key(key): Key,
    Json(input): Json<AddWatchers>,
) -> Result<Response> {
    let id = api.app.tracker.find_task_id(&caller, &name).await?;
    let once = Once { key, render: asked };
    Ok(Reply::answered(api.app.tracker.add_watchers(&caller, id, input, once).await?).done())
}

fn asked(
    watchers: &Watchers,
    event: Option<EventId>,
) -> std::result::Result<StoredAnswer, serde_json::Error> {
    reply::stored(StatusCode::OK, watchers, event)
}
