//! Who belongs to a project.

use axum::{
    extract::State,
    http::{StatusCode, Uri},
    response::Response,
};
use taskpost_common::{EventId, ProjectId, UserId, project::Member};
use taskpost_store::idempotency::StoredAnswer;
use taskpost_tracker::{AddMember, ChangeRole, Once, Part};

use super::{
    app::Shared,
    conditions::IfMatch,
    extract::{self, Id, Ids, Json, Key, Query},
    pages::{self, Listed, PageKeys},
    problem::Result,
    projects::{changed, gone, made},
    reply::{Reply, version_tag},
};

/// List the members of a project
///
/// In the order they came.
#[utoipa::path(
    get, path = "/projects/{id}/members", tag = "projects",
    params(("id" = ProjectId, Path, description = "The project."), PageKeys),
    responses((status = 200, description = "A page of members.", body = Listed<Member>))
)]
pub(crate) async fn list_members(
    State(api): State<Shared>,
    extract::Member(caller): extract::Member,
    Id(id): Id<ProjectId>,
    Query(keys): Query<PageKeys>,
    uri: Uri,
) -> Result<Response> {
    let page = pages::request(&keys.limit, keys.cursor);
    pages::by_cursor(&uri, api.app.tracker.members(&caller, id, page).await?)
}

/// Add a member to a project
///
/// Only owners make others owners.
#[utoipa::path(
    post, path = "/projects/{id}/members", tag = "projects",
    params(("id" = ProjectId, Path, description = "The project.")),
    request_body = AddMember, responses((status = 201, description = "The member.", body = Member))
)]
pub(crate) async fn add_member(
    State(api): State<Shared>,
    extract::Member(caller): extract::Member,
    Id(id): Id<ProjectId>,
    Key(key): Key,
    Json(input): Json<AddMember>,
) -> Result<Response> {
    let once = Once { key, render: added };
    Ok(Reply::answered(api.app.tracker.add_member(&caller, id, input, once).await?).done())
}

fn added(
    member: &Part<Member>,
    event: Option<EventId>,
) -> std::result::Result<StoredAnswer, serde_json::Error> {
    made(member, &format!("members/{}", member.part.user_id), event)
}

/// Show a member of a project
#[utoipa::path(
    get, path = "/projects/{id}/members/{user_id}", tag = "projects",
    params(
        ("id" = ProjectId, Path, description = "The project."),
        ("user_id" = UserId, Path, description = "Who.")
    ),
    responses((status = 200, description = "The member.", body = Member))
)]
pub(crate) async fn get_member(
    State(api): State<Shared>,
    extract::Member(caller): extract::Member,
    Ids(id, user): Ids<ProjectId, UserId>,
) -> Result<Response> {
    let member = api.app.tracker.member(&caller, id, user).await?;
    Ok(Reply::json(StatusCode::OK, &member.part)?.etag(&version_tag(member.version)).done())
}

/// Give a member of a project another role
///
/// Only owners give and take the role owner, and one owner stays.
#[utoipa::path(
    patch, path = "/projects/{id}/members/{user_id}", tag = "projects",
    params(
        ("id" = ProjectId, Path, description = "The project."),
        ("user_id" = UserId, Path, description = "Who.")
    ),
    request_body(content((ChangeRole = "application/merge-patch+json"), (ChangeRole = "application/json"))),
    responses((status = 200, description = "The member as they are now.", body = Member))
)]
pub(crate) async fn change_member_role(
    State(api): State<Shared>,
    extract::Member(caller): extract::Member,
    Ids(id, user): Ids<ProjectId, UserId>,
    IfMatch(version): IfMatch,
    Json(input): Json<ChangeRole>,
) -> Result<Response> {
    changed(&api.app.tracker.change_member_role(&caller, (id, user), input, version).await?)
}

/// Take a member out of a project
///
/// Their tasks there are nobody's then. Everybody may leave, but for the last owner. With very many tasks the answer is
/// 503, whose `detail` says that it goes on.
#[utoipa::path(
    delete, path = "/projects/{id}/members/{user_id}", tag = "projects",
    params(
        ("id" = ProjectId, Path, description = "The project."),
        ("user_id" = UserId, Path, description = "Who.")
    ),
    responses((status = 204, description = "They are a member no more."))
)]
pub(crate) async fn remove_member(
    State(api): State<Shared>,
    extract::Member(caller): extract::Member,
    Ids(id, user): Ids<ProjectId, UserId>,
    IfMatch(version): IfMatch,
) -> Result<Response> {
    Ok(gone(Some(api.app.tracker.remove_member(&caller, (id, user), version).await?)))
}
