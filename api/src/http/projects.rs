//! Projects.

use std::str::FromStr;

use axum::{
    extract::State,
    http::{HeaderMap, StatusCode, Uri},
    response::Response,
};
use serde::{Deserialize, Serialize};
use taskpost_common::{EventId, ProjectId, project::Project};
use taskpost_store::{idempotency::StoredAnswer, projects::ProjectFilter};
use taskpost_tracker::{CreateProject, Once, Part, PatchProject};
use utoipa::IntoParams;

use super::{
    app::Shared,
    conditions::{self, IfMatch},
    extract::{Id, Json, Key, Member, Query},
    pages::{self, Listed, Numbering, PageNumber},
    problem::Result,
    query::{Limit, Parsed},
    reply::{self, Reply, version_tag},
};

/// Keys of a list of projects.
#[derive(Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub(crate) struct ProjectKeys {
    /// The title has this in it, whatever the case.
    #[param(value_type = Option<String>, min_length = 1, max_length = 200, example = "lift")]
    title: Option<Parsed<Words>>,
    /// `true` for what is put away, `false` for what is not.
    #[param(value_type = Option<bool>)]
    archived: Option<Parsed<bool>>,
    /// How many, 50 when not said.
    #[param(value_type = Option<u32>, minimum = 1, maximum = 200)]
    limit: Option<Limit>,
    /// From an earlier page of the same list.
    cursor: Option<String>,
    /// A page by its number, from 1, in place of a cursor; the answer has `total`.
    #[param(value_type = Option<i64>, minimum = 1, maximum = 4_294_967_295_i64)]
    page: Option<PageNumber>,
    /// How many are on a numbered page, 50 when not said.
    #[param(value_type = Option<u32>, minimum = 1, maximum = 200)]
    per_page: Option<Limit>,
}

/// What a title may have in it.
#[derive(Clone, Debug)]
pub(crate) struct Words(String);

impl FromStr for Words {
    type Err = &'static str;

    fn from_str(text: &str) -> std::result::Result<Self, &'static str> {
        let good = (1..=200).contains(&text.chars().count()) && !text.chars().any(char::is_control);
        if good { Ok(Self(text.to_owned())) } else { Err("must be 1 to 200 characters of a title") }
    }
}

/// List projects
///
/// Those one may read, newest first: where one is a member, what is internal, and for admins every one.
#[utoipa::path(
    get, path = "/projects", tag = "projects", params(ProjectKeys),
    responses((status = 200, description = "A page of projects.", body = Listed<Project>))
)]
pub(crate) async fn list_projects(
    State(api): State<Shared>,
    Member(caller): Member,
    Query(keys): Query<ProjectKeys>,
    uri: Uri,
) -> Result<Response> {
    let ProjectKeys { title, archived, limit, cursor, page, per_page } = keys;
    let paging = Numbering { limit, cursor, page, per_page }.paging()?;
    let filter = ProjectFilter {
        title: title.map(|Parsed(Words(title))| title),
        archived: archived.map(|Parsed(archived)| archived),
    };
    let found = api.app.tracker.projects(&caller, filter, paging.clone()).await?;
    pages::as_asked(&uri, &paging, found)
}

/// Make a project
///
/// `title` suffices. Whoever makes it owns it.
#[utoipa::path(
    post, path = "/projects", tag = "projects", request_body = CreateProject,
    responses((status = 201, description = "The project.", body = Project))
)]
pub(crate) async fn create_project(
    State(api): State<Shared>,
    Member(caller): Member,
    Key(key): Key,
    Json(input): Json<CreateProject>,
) -> Result<Response> {
    let once = Once { key, render: created };
    Ok(Reply::answered(api.app.tracker.create_project(&caller, input, once).await?).done())
}

fn created(
    project: &Project,
    event: Option<EventId>,
) -> std::result::Result<StoredAnswer, serde_json::Error> {
    let mut answer = reply::stored(StatusCode::CREATED, project, event)?;
    answer.location = Some(format!("/v1/projects/{}", project.id));
    answer.etag = Some(version_tag(project.version));
    Ok(answer)
}

/// Show a project
#[utoipa::path(
    get, path = "/projects/{id}", tag = "projects",
    params(("id" = ProjectId, Path, description = "The project.")),
    responses(
        (status = 200, description = "The project.", body = Project),
        (status = 304, description = "It is as If-None-Match names it.")
    )
)]
pub(crate) async fn get_project(
    State(api): State<Shared>,
    Member(caller): Member,
    Id(id): Id<ProjectId>,
    headers: HeaderMap,
) -> Result<Response> {
    let project = api.app.tracker.project(&caller, id).await?;
    conditions::show(&headers, &version_tag(project.version), &project)
}

/// Change a project
///
/// A merge patch: what is absent stays, null goes back to how a new project has it.
#[utoipa::path(
    patch, path = "/projects/{id}", tag = "projects",
    params(("id" = ProjectId, Path, description = "The project.")),
    request_body(content((PatchProject = "application/merge-patch+json"), (PatchProject = "application/json"))),
    responses((status = 200, description = "The project as it is now.", body = Project))
)]
pub(crate) async fn update_project(
    State(api): State<Shared>,
    Member(caller): Member,
    Id(id): Id<ProjectId>,
    IfMatch(version): IfMatch,
    Json(patch): Json<PatchProject>,
) -> Result<Response> {
    let (project, event) = api.app.tracker.update_project(&caller, id, patch, version).await?;
    let reply = Reply::json(StatusCode::OK, &project)?;
    Ok(reply.event(event).etag(&version_tag(project.version)).done())
}

/// Delete a project
///
/// With everything in it. Where that is very much the answer is 503, whose `detail` says that it goes on; look again after
/// Retry-After, as one that cannot be finished within a minute is as it was.
#[utoipa::path(
    delete, path = "/projects/{id}", tag = "projects",
    params(("id" = ProjectId, Path, description = "The project.")),
    responses(
        (status = 204, description = "It is gone."),
        (status = 503, description = "Nothing has happened, or it goes on: `detail` says which.",
            headers(("Retry-After" = u32, description = "When to come back, in whole seconds.")))
    )
)]
pub(crate) async fn delete_project(
    State(api): State<Shared>,
    Member(caller): Member,
    Id(id): Id<ProjectId>,
    IfMatch(version): IfMatch,
) -> Result<Response> {
    Ok(gone(Some(api.app.tracker.delete_project(&caller, id, version).await?)))
}

/// What belongs to a project, as it is now.
pub(super) fn changed<T: Serialize>((part, event): &(Part<T>, Option<EventId>)) -> Result<Response> {
    let reply = Reply::json(StatusCode::OK, &part.part)?;
    Ok(reply.event(*event).etag(&version_tag(part.version)).done())
}

/// The answer to the making of what belongs to a project, which is at `path` below it.
pub(super) fn made<T: Serialize>(
    part: &Part<T>,
    path: &str,
    event: Option<EventId>,
) -> std::result::Result<StoredAnswer, serde_json::Error> {
    let mut answer = reply::stored(StatusCode::CREATED, &part.part, event)?;
    answer.location = Some(format!("/v1/projects/{}/{path}", part.project_id));
    answer.etag = Some(version_tag(part.version));
    Ok(answer)
}

/// Nothing is left of it.
pub(super) fn gone(event: Option<EventId>) -> Response {
    Reply::empty(StatusCode::NO_CONTENT).event(event).done()
}
