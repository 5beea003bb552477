//! Users.

use std::str::FromStr;

use axum::{
    extract::State,
    http::{HeaderMap, StatusCode, Uri},
    response::Response,
};
use serde::Deserialize;
use taskpost_common::{EventId, UserId, user::User};
use taskpost_store::{idempotency::StoredAnswer, users::UserFilter};
use taskpost_tracker::{CreateUser, Once, PatchUser, SeenUser, SetRoles};
use utoipa::IntoParams;

use super::{
    app::Shared,
    conditions::{self, IfMatch},
    extract::{Admin, Id, Json, Key, Member, Query},
    pages::{self, Listed, Numbering, PageNumber},
    problem::Result,
    query::{Limit, Parsed},
    reply::{self, Reply, version_tag},
};

/// Part of a name.
struct NamePart(String);

impl FromStr for NamePart {
    type Err = &'static str;

    fn from_str(text: &str) -> std::result::Result<Self, &'static str> {
        let good = (1..=100).contains(&text.chars().count()) && !text.chars().any(char::is_control);
        if good { Ok(Self(text.to_owned())) } else { Err("must have 1 to 100 characters, on one line") }
    }
}

/// Keys of a list of users.
#[derive(Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub(crate) struct UserKeys {
    /// Whose name or handle has this in it, whatever its case.
    #[param(value_type = Option<String>, min_length = 1, max_length = 100, example = "lovelace")]
    name: Option<Parsed<NamePart>>,
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

/// List users
///
/// Newest first. Only admins see more of others than their profile.
#[utoipa::path(
    get, path = "/users", tag = "users", params(UserKeys),
    responses((status = 200, description = "A page of users.", body = Listed<SeenUser>))
)]
pub(crate) async fn list_users(
    State(api): State<Shared>,
    Member(caller): Member,
    Query(keys): Query<UserKeys>,
    uri: Uri,
) -> Result<Response> {
    let UserKeys { name, limit, cursor, page, per_page } = keys;
    let paging = Numbering { limit, cursor, page, per_page }.paging()?;
    let filter = UserFilter { name: name.map(|Parsed(NamePart(name))| name) };
    let found = api.app.tracker.users(&caller, filter, paging.clone()).await?;
    pages::as_asked(&uri, &paging, found)
}

/// Make an account for somebody
#[utoipa::path(
    post, path = "/users", tag = "users", request_body = CreateUser,
    responses((status = 201, description = "The account.", body = User))
)]
pub(crate) async fn create_user(
    State(api): State<Shared>,
    Admin(caller): Admin,
    Key(key): Key,
    Json(input): Json<CreateUser>,
) -> Result<Response> {
    let once = Once { key, render: created };
    Ok(Reply::answered(api.app.tracker.create_user(&caller, input, once).await?).done())
}

fn created(user: &User, event: Option<EventId>) -> std::result::Result<StoredAnswer, serde_json::Error> {
    let mut answer = reply::stored(StatusCode::CREATED, user, event)?;
    answer.location = Some(format!("/v1/users/{}", user.id));
    answer.etag = Some(version_tag(user.version));
    Ok(answer)
}

/// Show a user
///
/// Oneself and, for admins, everybody whole; others by their profile.
#[utoipa::path(
    get, path = "/users/{id}", tag = "users", params(("id" = UserId, Path, description = "The user.")),
    responses(
        (status = 200, description = "The user.", body = SeenUser),
        (status = 304, description = "It is as If-None-Match names it.")
    )
)]
pub(crate) async fn get_user(
    State(api): State<Shared>,
    Member(caller): Member,
    Id(id): Id<UserId>,
    headers: HeaderMap,
) -> Result<Response> {
    let (user, version) = api.app.tracker.user(&caller, id).await?;
    conditions::show(&headers, &version_tag(version), &user)
}

/// Change a user
///
/// A merge patch: what is absent stays. Everybody may change themselves; admins may change everybody, and only they
/// the status. Who is disabled is logged out everywhere.
#[utoipa::path(
    patch, path = "/users/{id}", tag = "users", params(("id" = UserId, Path, description = "The user.")),
    request_body(content((PatchUser = "application/merge-patch+json"), (PatchUser = "application/json"))),
    responses((status = 200, description = "The user as it is now.", body = User))
)]
pub(crate) async fn update_user(
    State(api): State<Shared>,
    Member(caller): Member,
    Id(id): Id<UserId>,
    IfMatch(version): IfMatch,
    Json(patch): Json<PatchUser>,
) -> Result<Response> {
    let (user, event) = api.app.tracker.update_user(&caller, id, patch, version).await?;
    Ok(Reply::json(StatusCode::OK, &user)?.event(event).etag(&version_tag(user.version)).done())
}

/// Disable a user
///
/// Nothing is deleted: the account may not be used any more, and is logged out everywhere.
#[utoipa::path(
    delete, path = "/users/{id}", tag = "users", params(("id" = UserId, Path, description = "The user.")),
    responses((status = 204, description = "The account is disabled."))
)]
pub(crate) async fn disable_user(
    State(api): State<Shared>,
    Admin(caller): Admin,
    Id(id): Id<UserId>,
    IfMatch(version): IfMatch,
) -> Result<Response> {
    let event = api.app.tracker.disable_user(&caller, id, version).await?;
    Ok(Reply::empty(StatusCode::NO_CONTENT).event(event).done())
}

/// Set a user's roles
///
/// The user is logged out everywhere: the tokens hold the old roles.
#[utoipa::path(
    put, path = "/users/{id}/roles", tag = "users", params(("id" = UserId, Path, description = "The user.")),
    request_body = SetRoles,
    responses((status = 200, description = "The user as it is now.", body = User))
)]
pub(crate) async fn set_roles(
    State(api): State<Shared>,
    Admin(caller): Admin,
    Id(id): Id<UserId>,
    IfMatch(version): IfMatch,
    Json(input): Json<SetRoles>,
) -> Result<Response> {
    let (user, event) = api.app.tracker.set_roles(&caller, id, input, version).await?;
    Ok(Reply::json(StatusCode::OK, &user)?.event(event).etag(&version_tag(user.version)).done())
}
