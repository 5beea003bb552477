//! Registering, logging in and out.

use axum::{extract::State, http::StatusCode, response::Response};
use taskpost_tracker::{LoggedIn, Login, RefreshInput, Register};

use super::{
    app::Shared,
    extract::{Json, Member, Visitor},
    problem::Result,
    reply::Reply,
};

/// Make an account
///
/// It is logged in at once. The first account of an empty instance is admin, unless that is switched off.
#[utoipa::path(
    post, path = "/auth/register", tag = "auth", request_body = Register,
    responses((status = 201, description = "The account, logged in.", body = LoggedIn))
)]
pub(crate) async fn register(
    State(api): State<Shared>,
    Visitor(info): Visitor,
    Json(input): Json<Register>,
) -> Result<Response> {
    let (session, event) = api.app.tracker.register(&info, input).await?;
    Ok(Reply::json(StatusCode::CREATED, &session)?.event(Some(event)).location("/v1/me").done())
}

/// Log in
#[utoipa::path(
    post, path = "/auth/login", tag = "auth", request_body = Login,
    responses((status = 200, description = "A new session.", body = LoggedIn))
)]
pub(crate) async fn login(
    State(api): State<Shared>,
    Visitor(info): Visitor,
    Json(input): Json<Login>,
) -> Result<Response> {
    let (session, event) = api.app.tracker.login(&info, input).await?;
    Ok(Reply::json(StatusCode::OK, &session)?.event(Some(event)).done())
}

/// Exchange a refresh token
///
/// Each works once. One that comes back ends its session, because somebody else has it too.
#[utoipa::path(
    post, path = "/auth/refresh", tag = "auth", request_body = RefreshInput,
    responses((status = 200, description = "New tokens of the same session.", body = LoggedIn))
)]
pub(crate) async fn refresh(
    State(api): State<Shared>,
    Visitor(info): Visitor,
    Json(input): Json<RefreshInput>,
) -> Result<Response> {
    let session = api.app.tracker.refresh(&info, input).await?;
    Ok(Reply::json(StatusCode::OK, &session)?.done())
}

/// Log out
///
/// Ends the session of the token.
#[utoipa::path(post, path = "/auth/logout", tag = "auth", responses((status = 204, description = "The session has ended.")))]
pub(crate) async fn logout(State(api): State<Shared>, Member(caller): Member) -> Result<Response> {
    let event = api.app.tracker.logout(&caller).await?;
    Ok(Reply::empty(StatusCode::NO_CONTENT).event(event).done())
}
