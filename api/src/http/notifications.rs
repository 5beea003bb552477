//! The inbox.

use axum::{
    extract::State,
    http::{StatusCode, Uri},
    response::Response,
};
use serde::{Deserialize, Serialize};
use taskpost_common::{
    EventId, NotificationId,
    notification::{Notification, NotificationType, Reason},
};
use taskpost_store::{idempotency::StoredAnswer, notifications::InboxFilter};
use taskpost_tracker::{MarkNotification, Once};
use utoipa::{IntoParams, ToSchema};

use super::{
    app::Shared,
    extract::{Id, Json, Key, Member, Query},
    pages::{self, Listed, Numbering, PageNumber},
    problem::Result,
    query::{AnyOf, Limit, Parsed},
    reply::{self, Reply},
};

/// Keys of the inbox.
#[derive(Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub(crate) struct InboxKeys {
    /// `true` for what is unread, `false` for what is read.
    #[param(value_type = Option<bool>)]
    unread: Option<Parsed<bool>>,
    /// One of these types; commas between them.
    #[serde(rename = "type")]
    #[param(value_type = Option<String>, example = "task_assigned")]
    types: AnyOf<NotificationType>,
    /// For one of these reasons.
    #[param(value_type = Option<String>, example = "assigned,author")]
    reason: AnyOf<Reason>,
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

/// List one's notifications
///
/// Newest first, without those that are put away.
#[utoipa::path(
    get, path = "/notifications", tag = "notifications", params(InboxKeys),
    responses((status = 200, description = "A page of notifications.", body = Listed<Notification>))
)]
pub(crate) async fn list_notifications(
    State(api): State<Shared>,
    Member(caller): Member,
    Query(keys): Query<InboxKeys>,
    uri: Uri,
) -> Result<Response> {
    let InboxKeys { unread, types, reason, limit, cursor, page, per_page } = keys;
    let paging = Numbering { limit, cursor, page, per_page }.paging()?;
    let filter =
        InboxFilter { unread: unread.map(|Parsed(unread)| unread), kinds: types.0, reasons: reason.0 };
    let found = api.app.tracker.inbox(&caller, filter, paging.clone()).await?;
    pages::as_asked(&uri, &paging, found)
}

/// A count.
#[derive(Serialize, ToSchema)]
pub(crate) struct UnreadCount {
    /// How many notifications are unread.
    unread: i64,
}

/// Count what is unread
#[utoipa::path(
    get, path = "/notifications/unread-count", tag = "notifications",
    responses((status = 200, description = "The count.", body = UnreadCount))
)]
pub(crate) async fn count_unread(State(api): State<Shared>, Member(caller): Member) -> Result<Response> {
    let unread = api.app.tracker.unread_count(&caller).await?;
    Ok(Reply::json(StatusCode::OK, &UnreadCount { unread })?.done())
}

/// Mark a notification
#[utoipa::path(
    patch, path = "/notifications/{id}", tag = "notifications",
    params(("id" = NotificationId, Path, description = "The notification.")),
    request_body(content((MarkNotification = "application/merge-patch+json"), (MarkNotification = "application/json"))),
    responses((status = 200, description = "The notification as it is now.", body = Notification))
)]
pub(crate) async fn mark_notification(
    State(api): State<Shared>,
    Member(caller): Member,
    Id(id): Id<NotificationId>,
    Json(input): Json<MarkNotification>,
) -> Result<Response> {
    Ok(Reply::json(StatusCode::OK, &api.app.tracker.mark(&caller, id, input).await?)?.done())
}

/// A count.
#[derive(Serialize, ToSchema)]
pub(crate) struct ReadCount {
    /// How many notifications were unread.
    read: u64,
}

/// Mark everything read
#[utoipa::path(
    post, path = "/notifications/read-all", tag = "notifications",
    responses((status = 200, description = "How many were unread.", body = ReadCount))
)]
pub(crate) async fn mark_all_read(
    State(api): State<Shared>,
    Member(caller): Member,
    Key(key): Key,
) -> Result<Response> {
    let once = Once { key, render: read_all };
    Ok(Reply::answered(api.app.tracker.mark_all_read(&caller, once).await?).done())
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the tracker hands every outcome by reference")]
fn read_all(read: &u64, event: Option<EventId>) -> std::result::Result<StoredAnswer, serde_json::Error> {
    reply::stored(StatusCode::OK, &ReadCount { read: *read }, event)
}
