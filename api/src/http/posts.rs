//! Posts.

use std::str::FromStr;

use axum::{
    extract::State,
    http::{HeaderMap, StatusCode, Uri},
    response::Response,
};
use serde::Deserialize;
use taskpost_common::{
    EventId, PostId, ProjectId,
    post::{Post, PostStatus},
};
use taskpost_store::{idempotency::StoredAnswer, posts::PostFilter};
use taskpost_tracker::{CreatePost, Once, PatchPost};
use utoipa::IntoParams;

use super::{
    app::Shared,
    conditions::{self, IfMatch},
    extract::{Id, Json, Key, Member, Query},
    pages::{self, Listed},
    problem::Result,
    query::{AnyOf, Limit},
    reply::{self, Reply},
};

/// Keys of a list of posts.
#[derive(Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub(crate) struct PostKeys {
    /// In one of these projects, commas between them; `none` is news of the organisation.
    #[param(value_type = Option<String>, example = "none")]
    project_id: AnyOf<Within>,
    /// As far as one of these: `draft`, `published` or `unpublished`.
    #[param(value_type = Option<String>, example = "published")]
    status: AnyOf<PostStatus>,
    /// How many, 50 when not said.
    #[param(value_type = Option<u32>, minimum = 1, maximum = 200)]
    limit: Limit,
    /// From an earlier page of the same list.
    cursor: Option<String>,
}

/// Where posts are: in a project, or outside of all.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Within(Option<ProjectId>);

impl FromStr for Within {
    type Err = &'static str;

    fn from_str(text: &str) -> std::result::Result<Self, &'static str> {
        match text {
            "none" => Ok(Self(None)),
            id => id.parse().map(|id| Self(Some(id))).map_err(|_| "must be ids of projects, or `none`"),
        }
    }
}

/// List posts
///
/// Newest first: what is published in the projects one may read, and what one may edit.
#[utoipa::path(
    get, path = "/posts", tag = "posts", params(PostKeys),
    responses((status = 200, description = "A page of posts.", body = Listed<Post>))
)]
pub(crate) async fn list_posts(
    State(api): State<Shared>,
    Member(caller): Member,
    Query(keys): Query<PostKeys>,
    uri: Uri,
) -> Result<Response> {
    let page = pages::request(&keys.limit, keys.cursor);
    let projects = keys.project_id.0.into_iter().map(|Within(project)| project).collect();
    let filter = PostFilter { projects, statuses: keys.status.0 };
    pages::by_cursor(&uri, api.app.tracker.posts(&caller, filter, page).await?)
}

/// Write a post
///
/// It is a draft until it is published. Members post in their projects; only admins write news of the
/// organisation.
#[utoipa::path(
    post, path = "/posts", tag = "posts", request_body = CreatePost,
    responses((status = 201, description = "The post.", body = Post))
)]
pub(crate) async fn create_post(
    State(api): State<Shared>,
    Member(caller): Member,
    Key(key): Key,
    Json(input): Json<CreatePost>,
) -> Result<Response> {
    let once = Once { key, render: created };
    Ok(Reply::answered(api.app.tracker.create_post(&caller, input, once).await?).done())
}

/// Show a post
#[utoipa::path(
    get, path = "/posts/{id}", tag = "posts", params(("id" = PostId, Path, description = "The post.")),
    responses(
        (status = 200, description = "The post.", body = Post),
        (status = 304, description = "It is as If-None-Match names it.")
    )
)]
pub(crate) async fn get_post(
    State(api): State<Shared>,
    Member(caller): Member,
    Id(id): Id<PostId>,
    headers: HeaderMap,
) -> Result<Response> {
    let post = api.app.tracker.post(&caller, id).await?;
    conditions::show(&headers, &post_tag(&post), &post)
}

/// Change a post
///
/// A merge patch: what is absent stays, null empties. Its author may, and maintainers of the project.
#[utoipa::path(
    patch, path = "/posts/{id}", tag = "posts", params(("id" = PostId, Path, description = "The post.")),
    request_body(content((PatchPost = "application/merge-patch+json"), (PatchPost = "application/json"))),
    responses((status = 200, description = "The post as it is now.", body = Post))
)]
pub(crate) async fn update_post(
    State(api): State<Shared>,
    Member(caller): Member,
    Id(id): Id<PostId>,
    IfMatch(version): IfMatch,
    Json(patch): Json<PatchPost>,
) -> Result<Response> {
    let (post, event) = api.app.tracker.update_post(&caller, id, patch, version).await?;
    Ok(Reply::json(StatusCode::OK, &post)?.event(event).etag(&post_tag(&post)).done())
}

/// Delete a post
///
/// With its comments.
#[utoipa::path(
    delete, path = "/posts/{id}", tag = "posts", params(("id" = PostId, Path, description = "The post.")),
    responses((status = 204, description = "It is gone."))
)]
pub(crate) async fn delete_post(
    State(api): State<Shared>,
    Member(caller): Member,
    Id(id): Id<PostId>,
    IfMatch(version): IfMatch,
) -> Result<Response> {
    let event = api.app.tracker.delete_post(&caller, id, version).await?;
    Ok(Reply::empty(StatusCode::NO_CONTENT).event(Some(event)).done())
}

/// Publish a post
///
/// From then on whoever may read the project sees it; news of the organisation everyone.
#[utoipa::path(
    post, path = "/posts/{id}/publish", tag = "posts",
    params(("id" = PostId, Path, description = "The post.")),
    responses((status = 200, description = "The post as it is now.", body = Post))
)]
pub(crate) async fn publish_post(
    State(api): State<Shared>,
    Member(caller): Member,
    Id(id): Id<PostId>,
    Key(key): Key,
) -> Result<Response> {
    let once = Once { key, render: changed };
    Ok(Reply::answered(api.app.tracker.set_post_published(&caller, id, true, once).await?).done())
}

/// Take a post back
///
/// From then on it is seen as a draft is.
#[utoipa::path(
    post, path = "/posts/{id}/unpublish", tag = "posts",
    params(("id" = PostId, Path, description = "The post.")),
    responses((status = 200, description = "The post as it is now.", body = Post))
)]
pub(crate) async fn unpublish_post(
    State(api): State<Shared>,
    Member(caller): Member,
    Id(id): Id<PostId>,
    Key(key): Key,
) -> Result<Response> {
    let once = Once { key, render: changed };
    Ok(Reply::answered(api.app.tracker.set_post_published(&caller, id, false, once).await?).done())
}

/// `"v7.12"`: a comment changes what is shown, but not the version.
fn post_tag(post: &Post) -> String {
    format!("\"v{}.{}\"", post.version, post.comment_count)
}

fn created(post: &Post, event: Option<EventId>) -> std::result::Result<StoredAnswer, serde_json::Error> {
    let mut answer = reply::stored(StatusCode::CREATED, post, event)?;
    answer.location = Some(format!("/v1/posts/{}", post.id));
    answer.etag = Some(post_tag(post));
    Ok(answer)
}

fn changed(post: &Post, event: Option<EventId>) -> std::result::Result<StoredAnswer, serde_json::Error> {
    let mut answer = reply::stored(StatusCode::OK, post, event)?;
    answer.etag = Some(post_tag(post));
    Ok(answer)
}
