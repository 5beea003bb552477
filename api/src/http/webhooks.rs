//! Webhooks.

use axum::{
    extract::State,
    http::{HeaderMap, StatusCode, Uri},
    response::Response,
};
use taskpost_common::{EndpointId, EventId};
use taskpost_store::idempotency::StoredAnswer;
use taskpost_tracker::{
    CreateWebhook, Once, PatchWebhook, TestDelivery, Webhook, WebhookAttempt, WebhookWithSecret,
};

use super::{
    app::Shared,
    conditions::{self, IfMatch},
    extract::{Id, Json, Key, Member, Query},
    pages::{self, Listed, PageKeys},
    problem::Result,
    reply::{self, Reply, version_tag},
};

/// List one's webhooks
#[utoipa::path(
    get, path = "/webhooks", tag = "webhooks", params(PageKeys),
    responses((status = 200, description = "A page of webhooks.", body = Listed<Webhook>))
)]
pub(crate) async fn list_webhooks(
    State(api): State<Shared>,
    Member(caller): Member,
    Query(keys): Query<PageKeys>,
    uri: Uri,
) -> Result<Response> {
    let page = pages::request(&keys.limit, keys.cursor);
    pages::by_cursor(&uri, api.app.tracker.webhooks(&caller, page).await?)
}

/// Make a webhook
///
/// The answer has its secret, which is shown only here and on rotation.
#[utoipa::path(
    post, path = "/webhooks", tag = "webhooks", request_body = CreateWebhook,
    responses((status = 201, description = "The webhook with its secret.", body = WebhookWithSecret))
)]
pub(crate) async fn create_webhook(
    State(api): State<Shared>,
    Member(caller): Member,
    Json(input): Json<CreateWebhook>,
) -> Result<Response> {
    let made = api.app.tracker.create_webhook(&caller, input).await?;
    let path = format!("/v1/webhooks/{}", made.webhook.id);
    Ok(with_secret(StatusCode::CREATED, &made)?.location(&path).done())
}

/// Show a webhook
#[utoipa::path(
    get, path = "/webhooks/{id}", tag = "webhooks", params(("id" = EndpointId, Path, description = "The webhook.")),
    responses(
        (status = 200, description = "The webhook.", body = Webhook),
        (status = 304, description = "It is as If-None-Match names it.")
    )
)]
pub(crate) async fn get_webhook(
    State(api): State<Shared>,
    Member(caller): Member,
    Id(id): Id<EndpointId>,
    headers: HeaderMap,
) -> Result<Response> {
    let webhook = api.app.tracker.webhook(&caller, id).await?;
    conditions::show(&headers, &version_tag(webhook.version), &webhook)
}

/// Change a webhook
///
/// A merge patch: what is absent stays.
#[utoipa::path(
    patch, path = "/webhooks/{id}", tag = "webhooks", params(("id" = EndpointId, Path, description = "The webhook.")),
    request_body(content((PatchWebhook = "application/merge-patch+json"), (PatchWebhook = "application/json"))),
    responses((status = 200, description = "The webhook as it is now.", body = Webhook))
)]
pub(crate) async fn update_webhook(
    State(api): State<Shared>,
    Member(caller): Member,
    Id(id): Id<EndpointId>,
    IfMatch(version): IfMatch,
    Json(patch): Json<PatchWebhook>,
) -> Result<Response> {
    show(&api.app.tracker.update_webhook(&caller, id, patch, version).await?)
}

/// Delete a webhook
///
/// What waits for it is called back.
#[utoipa::path(
    delete, path = "/webhooks/{id}", tag = "webhooks", params(("id" = EndpointId, Path, description = "The webhook.")),
    responses((status = 204, description = "It is gone."))
)]
pub(crate) async fn delete_webhook(
    State(api): State<Shared>,
    Member(caller): Member,
    Id(id): Id<EndpointId>,
    IfMatch(version): IfMatch,
) -> Result<Response> {
    api.app.tracker.delete_webhook(&caller, id, version).await?;
    Ok(Reply::empty(StatusCode::NO_CONTENT).done())
}

/// Send a test event to a webhook
#[utoipa::path(
    post, path = "/webhooks/{id}/test", tag = "webhooks", params(("id" = EndpointId, Path, description = "The webhook.")),
    responses((status = 202, description = "The delivery, which is under way.", body = TestDelivery))
)]
pub(crate) async fn test_webhook(
    State(api): State<Shared>,
    Member(caller): Member,
    Id(id): Id<EndpointId>,
    Key(key): Key,
) -> Result<Response> {
    let once = Once { key, render: under_way };
    Ok(Reply::answered(api.app.tracker.test_webhook(&caller, id, once).await?).done())
}

fn under_way(
    test: &TestDelivery,
    event: Option<EventId>,
) -> std::result::Result<StoredAnswer, serde_json::Error> {
    reply::stored(StatusCode::ACCEPTED, test, event)
}

/// Give a webhook a new secret
///
/// The old one signs beside it for 24 hours.
#[utoipa::path(
    post, path = "/webhooks/{id}/rotate-secret", tag = "webhooks",
    params(("id" = EndpointId, Path, description = "The webhook.")),
    responses((status = 200, description = "The webhook with its new secret.", body = WebhookWithSecret))
)]
pub(crate) async fn rotate_webhook_secret(
    State(api): State<Shared>,
    Member(caller): Member,
    Id(id): Id<EndpointId>,
) -> Result<Response> {
    let rotated = api.app.tracker.rotate_webhook_secret(&caller, id).await?;
    Ok(with_secret(StatusCode::OK, &rotated)?.done())
}

/// Switch a webhook on
#[utoipa::path(
    post, path = "/webhooks/{id}/enable", tag = "webhooks", params(("id" = EndpointId, Path, description = "The webhook.")),
    responses((status = 200, description = "The webhook as it is now.", body = Webhook))
)]
pub(crate) async fn enable_webhook(
    State(api): State<Shared>,
    Member(caller): Member,
    Id(id): Id<EndpointId>,
    Key(key): Key,
) -> Result<Response> {
    let once = Once { key, render: switched };
    Ok(Reply::answered(api.app.tracker.set_webhook_enabled(&caller, id, true, once).await?).done())
}

/// Switch a webhook off
#[utoipa::path(
    post, path = "/webhooks/{id}/disable", tag = "webhooks", params(("id" = EndpointId, Path, description = "The webhook.")),
    responses((status = 200, description = "The webhook as it is now.", body = Webhook))
)]
pub(crate) async fn disable_webhook(
    State(api): State<Shared>,
    Member(caller): Member,
    Id(id): Id<EndpointId>,
    Key(key): Key,
) -> Result<Response> {
    let once = Once { key, render: switched };
    Ok(Reply::answered(api.app.tracker.set_webhook_enabled(&caller, id, false, once).await?).done())
}

fn switched(
    webhook: &Webhook,
    event: Option<EventId>,
) -> std::result::Result<StoredAnswer, serde_json::Error> {
    let mut answer = reply::stored(StatusCode::OK, webhook, event)?;
    answer.etag = Some(version_tag(webhook.version));
    Ok(answer)
}

/// List the tries at a webhook
///
/// Newest first.
#[utoipa::path(
    get, path = "/webhooks/{id}/attempts", tag = "webhooks",
    params(("id" = EndpointId, Path, description = "The webhook."), PageKeys),
    responses((status = 200, description = "A page of tries.", body = Listed<WebhookAttempt>))
)]
pub(crate) async fn list_webhook_attempts(
    State(api): State<Shared>,
    Member(caller): Member,
    Id(id): Id<EndpointId>,
    Query(keys): Query<PageKeys>,
    uri: Uri,
) -> Result<Response> {
    let page = pages::request(&keys.limit, keys.cursor);
    pages::by_cursor(&uri, api.app.tracker.webhook_attempts(&caller, id, page).await?)
}

fn show(webhook: &Webhook) -> Result<Response> {
    Ok(Reply::json(StatusCode::OK, webhook)?.etag(&version_tag(webhook.version)).done())
}

/// With a tag, but not for any cache.
fn with_secret(status: StatusCode, webhook: &WebhookWithSecret) -> Result<Reply> {
    let tag = version_tag(webhook.webhook.version);
    Ok(Reply::json(status, webhook)?.with(axum::http::header::ETAG, &tag))
}
