//! One's own account, and the way back into it.

use axum::{
    extract::State,
    http::{HeaderMap, StatusCode, Uri},
    response::Response,
};
use taskpost_common::{SessionId, user::User};
use taskpost_tracker::{ChangePassword, Forgot, PatchMe, Reset, UserSession};

use super::{
    app::Shared,
    conditions::{self, IfMatch},
    extract::{Id, Json, Member, Query, Visitor},
    pages::{self, Listed, PageKeys},
    problem::Result,
    reply::{Reply, version_tag},
};

/// Ask for a way to set a new password
///
/// A mail with a token goes to the account of this e-mail, if there is one; the answer does not tell.
#[utoipa::path(
    post, path = "/auth/password/forgot", tag = "auth", request_body = Forgot,
    responses((status = 202, description = "If there is such an account, a mail is on its way."))
)]
pub(crate) async fn forgot_password(
    State(api): State<Shared>,
    Visitor(info): Visitor,
    Json(input): Json<Forgot>,
) -> Result<Response> {
    api.app.tracker.forgot_password(&info, input).await?;
    Ok(Reply::empty(StatusCode::ACCEPTED).done())
}

/// Set a new password by the token of a mail
///
/// The token works once, within 30 minutes. All sessions of the account end.
#[utoipa::path(
    post, path = "/auth/password/reset", tag = "auth", request_body = Reset,
    responses((status = 204, description = "The password is set."))
)]
pub(crate) async fn reset_password(
    State(api): State<Shared>,
    Visitor(info): Visitor,
    Json(input): Json<Reset>,
) -> Result<Response> {
    let event = api.app.tracker.reset_password(&info, input).await?;
    Ok(Reply::empty(StatusCode::NO_CONTENT).event(event).done())
}

/// Show one's own account
#[utoipa::path(get, path = "/me", tag = "account", responses(
    (status = 200, description = "The account.", body = User),
    (status = 304, description = "It is as If-None-Match names it.")
))]
pub(crate) async fn me(
    State(api): State<Shared>,
    Member(caller): Member,
    headers: HeaderMap,
) -> Result<Response> {
    let user = api.app.tracker.me(&caller).await?;
    conditions::show(&headers, &version_tag(user.version), &user)
}

/// Change one's own account
///
/// A merge patch: what is absent stays.
#[utoipa::path(
    patch, path = "/me", tag = "account",
    request_body(content((PatchMe = "application/merge-patch+json"), (PatchMe = "application/json"))),
    responses((status = 200, description = "The account as it is now.", body = User))
)]
pub(crate) async fn update_me(
    State(api): State<Shared>,
    Member(caller): Member,
    IfMatch(version): IfMatch,
    Json(patch): Json<PatchMe>,
) -> Result<Response> {
    let (user, event) = api.app.tracker.update_me(&caller, patch, version).await?;
    Ok(Reply::json(StatusCode::OK, &user)?.event(event).etag(&version_tag(user.version)).done())
}

/// Change one's own password
///
/// All other sessions end.
#[utoipa::path(
    put, path = "/me/password", tag = "account", request_body = ChangePassword,
    responses((status = 204, description = "The password is set."))
)]
pub(crate) async fn change_password(
    State(api): State<Shared>,
    Member(caller): Member,
    Json(input): Json<ChangePassword>,
) -> Result<Response> {
    let event = api.app.tracker.change_password(&caller, input).await?;
    Ok(Reply::empty(StatusCode::NO_CONTENT).event(event).done())
}

/// List one's sessions
///
/// Those that have not ended, newest first.
#[utoipa::path(
    get, path = "/me/sessions", tag = "account", params(PageKeys),
    responses((status = 200, description = "A page of sessions.", body = Listed<UserSession>))
)]
pub(crate) async fn list_sessions(
    State(api): State<Shared>,
    Member(caller): Member,
    Query(keys): Query<PageKeys>,
    uri: Uri,
) -> Result<Response> {
    let page = pages::request(&keys.limit, keys.cursor);
    pages::by_cursor(&uri, api.app.tracker.sessions(&caller, page).await?)
}

/// End all other sessions of one's own
#[utoipa::path(
    delete, path = "/me/sessions", tag = "account",
    responses((status = 204, description = "Only the session that asked is left."))
)]
pub(crate) async fn end_other_sessions(
    State(api): State<Shared>,
    Member(caller): Member,
) -> Result<Response> {
    let event = api.app.tracker.end_other_sessions(&caller).await?;
    Ok(Reply::empty(StatusCode::NO_CONTENT).event(event).done())
}

/// Show one of one's sessions
#[utoipa::path(
    get, path = "/me/sessions/{id}", tag = "account",
    params(("id" = SessionId, Path, description = "The session.")),
    responses((status = 200, description = "The session.", body = UserSession))
)]
pub(crate) async fn get_session(
    State(api): State<Shared>,
    Member(caller): Member,
    Id(id): Id<SessionId>,
) -> Result<Response> {
    Ok(Reply::json(StatusCode::OK, &api.app.tracker.session(&caller, id).await?)?.done())
}

/// End one of one's sessions
#[utoipa::path(
    delete, path = "/me/sessions/{id}", tag = "account",
    params(("id" = SessionId, Path, description = "The session.")),
    responses((status = 204, description = "The session has ended."))
)]
pub(crate) async fn end_session(
    State(api): State<Shared>,
    Member(caller): Member,
    Id(id): Id<SessionId>,
) -> Result<Response> {
    let event = api.app.tracker.end_session(&caller, id).await?;
    Ok(Reply::empty(StatusCode::NO_CONTENT).event(Some(event)).done())
}
