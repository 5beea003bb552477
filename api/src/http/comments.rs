//! Comments on tasks and posts.

use axum::{
    extract::State,
    http::{HeaderMap, StatusCode, Uri},
    response::Response,
};
use serde::Deserialize;
use taskpost_common::{
    CommentId, EventId, PostId, TaskId,
    comment::{Comment, Subject, SubjectType},
};
use taskpost_store::idempotency::StoredAnswer;
use taskpost_tracker::{Caller, CreateComment, Once, OnceKey, PatchComment};
use utoipa::IntoParams;

use super::{
    app::Shared,
    conditions::{self, IfMatch},
    extract::{Id, Json, Key, Member, Query, TaskParam},
    pages::{self, Listed},
    problem::Result,
    query::Limit,
    reply::{self, Reply, version_tag},
};

/// Keys of a list of comments.
#[derive(Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub(crate) struct CommentKeys {
    /// How many, 50 when not said.
    #[param(value_type = Option<u32>, minimum = 1, maximum = 200)]
    limit: Limit,
    /// From an earlier page of the same list.
    cursor: Option<String>,
}

/// List the comments on a task
///
/// Oldest first.
#[utoipa::path(
    get, path = "/tasks/{id}/comments", tag = "comments",
    params(("id" = String, Path, description = "The task, by its id or its key."), CommentKeys),
    responses((status = 200, description = "A page of comments.", body = Listed<Comment>))
)]
pub(crate) async fn list_task_comments(
    State(api): State<Shared>,
    Member(caller): Member,
    TaskParam(name): TaskParam,
    Query(keys): Query<CommentKeys>,
    uri: Uri,
) -> Result<Response> {
    let id = api.app.tracker.find_task_id(&caller, &name).await?;
    list(&api, &caller, task(id), keys, &uri).await
}

/// Comment on a task
///
/// Members of its project may; on a personal task whoever sees it. `@handle` outside of code names a user.
#[utoipa::path(
    post, path = "/tasks/{id}/comments", tag = "comments",
    params(("id" = String, Path, description = "The task, by its id or its key.")),
    request_body = CreateComment, responses((status = 201, description = "The comment.", body = Comment))
)]
pub(crate) async fn comment_on_task(
    State(api): State<Shared>,
    Member(caller): Member,
    TaskParam(name): TaskParam,
    Key(key): Key,
    Json(input): Json<CreateComment>,
) -> Result<Response> {
    let id = api.app.tracker.find_task_id(&caller, &name).await?;
    create(&api, &caller, task(id), key, input).await
}

/// List the comments on a post
///
/// Oldest first.
#[utoipa::path(
    get, path = "/posts/{id}/comments", tag = "comments",
    params(("id" = PostId, Path, description = "The post."), CommentKeys),
    responses((status = 200, description = "A page of comments.", body = Listed<Comment>))
)]
pub(crate) async fn list_post_comments(
    State(api): State<Shared>,
    Member(caller): Member,
    Id(id): Id<PostId>,
    Query(keys): Query<CommentKeys>,
    uri: Uri,
) -> Result<Response> {
    list(&api, &caller, post(id), keys, &uri).await
}

/// Comment on a post
///
/// Members of its project may; on news of the organisation everyone. `@handle` outside of code names a user.
#[utoipa::path(
    post, path = "/posts/{id}/comments", tag = "comments",
    params(("id" = PostId, Path, description = "The post.")),
    request_body = CreateComment, responses((status = 201, description = "The comment.", body = Comment))
)]
pub(crate) async fn comment_on_post(
    State(api): State<Shared>,
    Member(caller): Member,
    Id(id): Id<PostId>,
    Key(key): Key,
    Json(input): Json<CreateComment>,
) -> Result<Response> {
    create(&api, &caller, post(id), key, input).await
}

/// Show a comment
#[utoipa::path(
    get, path = "/comments/{id}", tag = "comments",
    params(("id" = CommentId, Path, description = "The comment.")),
    responses(
        (status = 200, description = "The comment.", body = Comment),
        (status = 304, description = "It is as If-None-Match names it.")
    )
)]
pub(crate) async fn get_comment(
    State(api): State<Shared>,
    Member(caller): Member,
    Id(id): Id<CommentId>,
    headers: HeaderMap,
) -> Result<Response> {
    let comment = api.app.tracker.comment(&caller, id).await?;
    conditions::show(&headers, &version_tag(comment.version), &comment)
}

/// Edit a comment
///
/// A merge patch. Only who wrote it may.
#[utoipa::path(
    patch, path = "/comments/{id}", tag = "comments",
    params(("id" = CommentId, Path, description = "The comment.")),
    request_body(content((PatchComment = "application/merge-patch+json"), (PatchComment = "application/json"))),
    responses((status = 200, description = "The comment as it is now.", body = Comment))
)]
pub(crate) async fn edit_comment(
    State(api): State<Shared>,
    Member(caller): Member,
    Id(id): Id<CommentId>,
    IfMatch(version): IfMatch,
    Json(patch): Json<PatchComment>,
) -> Result<Response> {
    let (comment, event) = api.app.tracker.edit_comment(&caller, id, patch, version).await?;
    let tag = version_tag(comment.version);
    Ok(Reply::json(StatusCode::OK, &comment)?.event(event).etag(&tag).done())
}

/// Delete a comment
///
/// Who wrote it may, and maintainers of the project.
#[utoipa::path(
    delete, path = "/comments/{id}", tag = "comments",
    params(("id" = CommentId, Path, description = "The comment.")),
    responses((status = 204, description = "It is gone."))
)]
pub(crate) async fn delete_comment(
    State(api): State<Shared>,
    Member(caller): Member,
    Id(id): Id<CommentId>,
    IfMatch(version): IfMatch,
) -> Result<Response> {
    let event = api.app.tracker.delete_comment(&caller, id, version).await?;
    Ok(Reply::empty(StatusCode::NO_CONTENT).event(Some(event)).done())
}

const fn task(id: TaskId) -> Subject {
    Subject { kind: SubjectType::Task, id: id.0 }
}

const fn post(id: PostId) -> Subject {
    Subject { kind: SubjectType::Post, id: id.0 }
}

async fn list(
    api: &Shared,
    caller: &Caller,
    subject: Subject,
    keys: CommentKeys,
    uri: &Uri,
) -> Result<Response> {
    let page = pages::request(&keys.limit, keys.cursor);
    pages::by_cursor(uri, api.app.tracker.comments_on(caller, subject, page).await?)
}

async fn create(
    api: &Shared,
    caller: &Caller,
    subject: Subject,
    key: Option<OnceKey>,
    input: CreateComment,
) -> Result<Response> {
    let once = Once { key, render: created };
    Ok(Reply::answered(api.app.tracker.comment_on(caller, subject, input, once).await?).done())
}

fn created(
    comment: &Comment,
    event: Option<EventId>,
) -> std::result::Result<StoredAnswer, serde_json::Error> {
    let mut answer = reply::stored(StatusCode::CREATED, comment, event)?;
    answer.location = Some(format!("/v1/comments/{}", comment.id));
    answer.etag = Some(version_tag(comment.version));
    Ok(answer)
}
