//! The statuses and task types of a project.

use axum::{extract::State, response::Response};
use taskpost_common::{EventId, ProjectId, workflow::Status};
use taskpost_store::idempotency::StoredAnswer;
use taskpost_tracker::{CreateStatus, CreateTaskType, Once, Part, PatchStatus, PatchTaskType, TaskType};

use super::{
    app::Shared,
    conditions::IfMatch,
    extract::{Id, Json, Key, Member, Named},
    pages::{self, Listed},
    problem::Result,
    projects::{changed, gone, made},
    reply::Reply,
};

/// List the statuses of a project
///
/// In their order, all on one page; new tasks get the first.
#[utoipa::path(
    get, path = "/projects/{id}/statuses", tag = "projects",
    params(("id" = ProjectId, Path, description = "The project.")),
    responses((status = 200, description = "The statuses.", body = Listed<Status>))
)]
pub(crate) async fn list_statuses(
    State(api): State<Shared>,
    Member(caller): Member,
    Id(id): Id<ProjectId>,
) -> Result<Response> {
    pages::whole(api.app.tracker.statuses(&caller, id).await?)
}

/// Add a status to a project
#[utoipa::path(
    post, path = "/projects/{id}/statuses", tag = "projects",
    params(("id" = ProjectId, Path, description = "The project.")),
    request_body = CreateStatus, responses((status = 201, description = "The status.", body = Status))
)]
pub(crate) async fn create_status(
    State(api): State<Shared>,
    Member(caller): Member,
    Id(id): Id<ProjectId>,
    Key(key): Key,
    Json(input): Json<CreateStatus>,
) -> Result<Response> {
    let once = Once { key, render: status_made };
    Ok(Reply::answered(api.app.tracker.create_status(&caller, id, input, once).await?).done())
}

fn status_made(
    status: &Part<Status>,
    event: Option<EventId>,
) -> std::result::Result<StoredAnswer, serde_json::Error> {
    made(status, &format!("statuses/{}", status.part.name), event)
}

/// Change a status
///
/// While tasks have it, it can be moved, but keeps its name and its category.
#[utoipa::path(
    patch, path = "/projects/{id}/statuses/{name}", tag = "projects",
    params(
        ("id" = ProjectId, Path, description = "The project."),
        ("name" = String, Path, description = "The status.")
    ),
    request_body(content((PatchStatus = "application/merge-patch+json"), (PatchStatus = "application/json"))),
    responses((status = 200, description = "The status as it is now.", body = Status))
)]
pub(crate) async fn update_status(
    State(api): State<Shared>,
    Member(caller): Member,
    Named(id, name): Named<ProjectId>,
    IfMatch(version): IfMatch,
    Json(patch): Json<PatchStatus>,
) -> Result<Response> {
    changed(&api.app.tracker.update_status(&caller, (id, name), patch, version).await?)
}

/// Delete a status
///
/// No task may have it.
#[utoipa::path(
    delete, path = "/projects/{id}/statuses/{name}", tag = "projects",
    params(
        ("id" = ProjectId, Path, description = "The project."),
        ("name" = String, Path, description = "The status.")
    ),
    responses((status = 204, description = "It is gone."))
)]
pub(crate) async fn delete_status(
    State(api): State<Shared>,
    Member(caller): Member,
    Named(id, name): Named<ProjectId>,
    IfMatch(version): IfMatch,
) -> Result<Response> {
    Ok(gone(api.app.tracker.delete_status(&caller, (id, name), version).await?))
}

/// List the task types of a project
///
/// In their order, all on one page; a new task that names none is the first.
#[utoipa::path(
    get, path = "/projects/{id}/task-types", tag = "projects",
    params(("id" = ProjectId, Path, description = "The project.")),
    responses((status = 200, description = "The task types.", body = Listed<TaskType>))
)]
pub(crate) async fn list_task_types(
    State(api): State<Shared>,
    Member(caller): Member,
    Id(id): Id<ProjectId>,
) -> Result<Response> {
    pages::whole(api.app.tracker.task_types(&caller, id).await?)
}

/// Add a task type to a project
#[utoipa::path(
    post, path = "/projects/{id}/task-types", tag = "projects",
    params(("id" = ProjectId, Path, description = "The project.")),
    request_body = CreateTaskType, responses((status = 201, description = "The task type.", body = TaskType))
)]
pub(crate) async fn create_task_type(
    State(api): State<Shared>,
    Member(caller): Member,
    Id(id): Id<ProjectId>,
    Key(key): Key,
    Json(input): Json<CreateTaskType>,
) -> Result<Response> {
    let once = Once { key, render: task_type_made };
    Ok(Reply::answered(api.app.tracker.create_task_type(&caller, id, input, once).await?).done())
}

fn task_type_made(
    task_type: &Part<TaskType>,
    event: Option<EventId>,
) -> std::result::Result<StoredAnswer, serde_json::Error> {
    made(task_type, &format!("task-types/{}", task_type.part.name), event)
}

/// Change a task type
///
/// While tasks have it, it can be moved, but keeps its name.
#[utoipa::path(
    patch, path = "/projects/{id}/task-types/{name}", tag = "projects",
    params(
        ("id" = ProjectId, Path, description = "The project."),
        ("name" = String, Path, description = "The task type.")
    ),
    request_body(content((PatchTaskType = "application/merge-patch+json"), (PatchTaskType = "application/json"))),
    responses((status = 200, description = "The task type as it is now.", body = TaskType))
)]
pub(crate) async fn update_task_type(
    State(api): State<Shared>,
    Member(caller): Member,
    Named(id, name): Named<ProjectId>,
    IfMatch(version): IfMatch,
    Json(patch): Json<PatchTaskType>,
) -> Result<Response> {
    changed(&api.app.tracker.update_task_type(&caller, (id, name), patch, version).await?)
}

/// Delete a task type
///
/// No task may have it.
#[utoipa::path(
    delete, path = "/projects/{id}/task-types/{name}", tag = "projects",
    params(
        ("id" = ProjectId, Path, description = "The project."),
        ("name" = String, Path, description = "The task type.")
    ),
    responses((status = 204, description = "It is gone."))
)]
pub(crate) async fn delete_task_type(
    State(api): State<Shared>,
    Member(caller): Member,
    Named(id, name): Named<ProjectId>,
    IfMatch(version): IfMatch,
) -> Result<Response> {
    Ok(gone(api.app.tracker.delete_task_type(&caller, (id, name), version).await?))
}
