//! One's tokens for machines.

use axum::{
    extract::State,
    http::{StatusCode, Uri},
    response::Response,
};
use taskpost_common::{ApiTokenId, token::ApiToken};
use taskpost_tracker::{ApiTokenWithSecret, CreateApiToken, RenameApiToken};

use super::{
    app::Shared,
    extract::{Id, Json, Member, Query},
    pages::{self, Listed, PageKeys},
    problem::Result,
    reply::Reply,
};

/// List one's tokens
///
/// Those that are not revoked, newest first.
#[utoipa::path(
    get, path = "/me/tokens", tag = "account", params(PageKeys),
    responses((status = 200, description = "A page of tokens.", body = Listed<ApiToken>))
)]
pub(crate) async fn list_tokens(
    State(api): State<Shared>,
    Member(caller): Member,
    Query(keys): Query<PageKeys>,
    uri: Uri,
) -> Result<Response> {
    let page = pages::request(&keys.limit, keys.cursor);
    pages::by_cursor(&uri, api.app.tracker.api_tokens(&caller, page).await?)
}

/// Make a token
///
/// The answer has its secret, which is shown only here.
#[utoipa::path(
    post, path = "/me/tokens", tag = "account", request_body = CreateApiToken,
    responses((status = 201, description = "The token with its secret.", body = ApiTokenWithSecret))
)]
pub(crate) async fn create_token(
    State(api): State<Shared>,
    Member(caller): Member,
    Json(input): Json<CreateApiToken>,
) -> Result<Response> {
    let made = api.app.tracker.create_api_token(&caller, input).await?;
    let path = format!("/v1/me/tokens/{}", made.token.id);
    Ok(Reply::json(StatusCode::CREATED, &made)?.location(&path).done())
}

/// Show a token
#[utoipa::path(
    get, path = "/me/tokens/{id}", tag = "account", params(("id" = ApiTokenId, Path, description = "The token.")),
    responses((status = 200, description = "The token.", body = ApiToken))
)]
pub(crate) async fn get_token(
    State(api): State<Shared>,
    Member(caller): Member,
    Id(id): Id<ApiTokenId>,
) -> Result<Response> {
    Ok(Reply::json(StatusCode::OK, &api.app.tracker.api_token(&caller, id).await?)?.done())
}

/// Give a token another name
#[utoipa::path(
    patch, path = "/me/tokens/{id}", tag = "account", params(("id" = ApiTokenId, Path, description = "The token.")),
    request_body(content(
        (RenameApiToken = "application/merge-patch+json"), (RenameApiToken = "application/json")
    )),
    responses((status = 200, description = "The token as it is now.", body = ApiToken))
)]
pub(crate) async fn rename_token(
    State(api): State<Shared>,
    Member(caller): Member,
    Id(id): Id<ApiTokenId>,
    Json(input): Json<RenameApiToken>,
) -> Result<Response> {
    Ok(Reply::json(StatusCode::OK, &api.app.tracker.rename_api_token(&caller, id, input).await?)?.done())
}

/// Revoke a token
#[utoipa::path(
    delete, path = "/me/tokens/{id}", tag = "account", params(("id" = ApiTokenId, Path, description = "The token.")),
    responses((status = 204, description = "It works no more."))
)]
pub(crate) async fn revoke_token(
    State(api): State<Shared>,
    Member(caller): Member,
    Id(id): Id<ApiTokenId>,
) -> Result<Response> {
    api.app.tracker.revoke_api_token(&caller, id).await?;
    Ok(Reply::empty(StatusCode::NO_CONTENT).done())
}
