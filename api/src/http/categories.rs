//! The categories of a project.

use axum::{extract::State, response::Response};
use taskpost_common::{CategoryId, EventId, ProjectId, project::Category};
use taskpost_store::idempotency::StoredAnswer;
use taskpost_tracker::{CreateCategory, Once, Part, PatchCategory};

use super::{
    app::Shared,
    conditions::IfMatch,
    extract::{Id, Ids, Json, Key, Member},
    pages::{self, Listed},
    problem::Result,
    projects::{changed, gone, made},
    reply::Reply,
};

/// List the categories of a project
///
/// In their order, all on one page.
#[utoipa::path(
    get, path = "/projects/{id}/categories", tag = "projects",
    params(("id" = ProjectId, Path, description = "The project.")),
    responses((status = 200, description = "The categories.", body = Listed<Category>))
)]
pub(crate) async fn list_categories(
    State(api): State<Shared>,
    Member(caller): Member,
    Id(id): Id<ProjectId>,
) -> Result<Response> {
    pages::whole(api.app.tracker.categories(&caller, id).await?)
}

/// Add a category to a project
#[utoipa::path(
    post, path = "/projects/{id}/categories", tag = "projects",
    params(("id" = ProjectId, Path, description = "The project.")),
    request_body = CreateCategory, responses((status = 201, description = "The category.", body = Category))
)]
pub(crate) async fn create_category(
    State(api): State<Shared>,
    Member(caller): Member,
    Id(id): Id<ProjectId>,
    Key(key): Key,
    Json(input): Json<CreateCategory>,
) -> Result<Response> {
    let once = Once { key, render: created };
    Ok(Reply::answered(api.app.tracker.create_category(&caller, id, input, once).await?).done())
}

fn created(
    category: &Part<Category>,
    event: Option<EventId>,
) -> std::result::Result<StoredAnswer, serde_json::Error> {
    made(category, &format!("categories/{}", category.part.id), event)
}

/// Rename a category or move it
#[utoipa::path(
    patch, path = "/projects/{id}/categories/{category_id}", tag = "projects",
    params(
        ("id" = ProjectId, Path, description = "The project."),
        ("category_id" = CategoryId, Path, description = "The category.")
    ),
    request_body(content((PatchCategory = "application/merge-patch+json"), (PatchCategory = "application/json"))),
    responses((status = 200, description = "The category as it is now.", body = Category))
)]
pub(crate) async fn update_category(
    State(api): State<Shared>,
    Member(caller): Member,
    Ids(id, category): Ids<ProjectId, CategoryId>,
    IfMatch(version): IfMatch,
    Json(patch): Json<PatchCategory>,
) -> Result<Response> {
    changed(&api.app.tracker.update_category(&caller, (id, category), patch, version).await?)
}

/// Delete a category
///
/// Its tasks are in none then. With very many of them the answer is 503, whose `detail` says that it goes on.
#[utoipa::path(
    delete, path = "/projects/{id}/categories/{category_id}", tag = "projects",
    params(
        ("id" = ProjectId, Path, description = "The project."),
        ("category_id" = CategoryId, Path, description = "The category.")
    ),
    responses((status = 204, description = "It is gone."))
)]
pub(crate) async fn delete_category(
    State(api): State<Shared>,
    Member(caller): Member,
    Ids(id, category): Ids<ProjectId, CategoryId>,
    IfMatch(version): IfMatch,
) -> Result<Response> {
    Ok(gone(Some(api.app.tracker.delete_category(&caller, (id, category), version).await?)))
}
