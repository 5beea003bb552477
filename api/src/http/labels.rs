//! The labels of a project.

use axum::{extract::State, response::Response};
use taskpost_common::{EventId, LabelId, ProjectId, project::Label};
use taskpost_store::idempotency::StoredAnswer;
use taskpost_tracker::{CreateLabel, Once, Part, PatchLabel};

use super::{
    app::Shared,
    conditions::IfMatch,
    extract::{Id, Ids, Json, Key, Member},
    pages::{self, Listed},
    problem::Result,
    projects::{changed, gone, made},
    reply::Reply,
};

/// List the labels of a project
///
/// In the order they were made, all on one page.
#[utoipa::path(
    get, path = "/projects/{id}/labels", tag = "projects",
    params(("id" = ProjectId, Path, description = "The project.")),
    responses((status = 200, description = "The labels.", body = Listed<Label>))
)]
pub(crate) async fn list_labels(
    State(api): State<Shared>,
    Member(caller): Member,
    Id(id): Id<ProjectId>,
) -> Result<Response> {
    pages::whole(api.app.tracker.labels(&caller, id).await?)
}

/// Add a label to a project
#[utoipa::path(
    post, path = "/projects/{id}/labels", tag = "projects",
    params(("id" = ProjectId, Path, description = "The project.")),
    request_body = CreateLabel, responses((status = 201, description = "The label.", body = Label))
)]
pub(crate) async fn create_label(
    State(api): State<Shared>,
    Member(caller): Member,
    Id(id): Id<ProjectId>,
    Key(key): Key,
    Json(input): Json<CreateLabel>,
) -> Result<Response> {
    let once = Once { key, render: created };
    Ok(Reply::answered(api.app.tracker.create_label(&caller, id, input, once).await?).done())
}

fn created(
    label: &Part<Label>,
    event: Option<EventId>,
) -> std::result::Result<StoredAnswer, serde_json::Error> {
    made(label, &format!("labels/{}", label.part.id), event)
}

/// Change a label
///
/// Tasks keep the word that they carry.
#[utoipa::path(
    patch, path = "/projects/{id}/labels/{label_id}", tag = "projects",
    params(
        ("id" = ProjectId, Path, description = "The project."),
        ("label_id" = LabelId, Path, description = "The label.")
    ),
    request_body(content((PatchLabel = "application/merge-patch+json"), (PatchLabel = "application/json"))),
    responses((status = 200, description = "The label as it is now.", body = Label))
)]
pub(crate) async fn update_label(
    State(api): State<Shared>,
    Member(caller): Member,
    Ids(id, label): Ids<ProjectId, LabelId>,
    IfMatch(version): IfMatch,
    Json(patch): Json<PatchLabel>,
) -> Result<Response> {
    changed(&api.app.tracker.update_label(&caller, (id, label), patch, version).await?)
}

/// Delete a label
///
/// Tasks keep the word that they carry.
#[utoipa::path(
    delete, path = "/projects/{id}/labels/{label_id}", tag = "projects",
    params(
        ("id" = ProjectId, Path, description = "The project."),
        ("label_id" = LabelId, Path, description = "The label.")
    ),
    responses((status = 204, description = "It is gone."))
)]
pub(crate) async fn delete_label(
    State(api): State<Shared>,
    Member(caller): Member,
    Ids(id, label): Ids<ProjectId, LabelId>,
    IfMatch(version): IfMatch,
) -> Result<Response> {
    Ok(gone(Some(api.app.tracker.delete_label(&caller, (id, label), version).await?)))
}
