//! Posts: members write updates of their projects, admins write news of the organisation.

use chrono::{DateTime, Utc};
use serde::Deserialize;
use taskpost_common::{
    EventId, PostId, ProjectId,
    post::{Post, PostStatus},
    project::{Project, ProjectRole},
};
use taskpost_store::{
    Change, Session, StoreError, Tx, Viewer,
    posts::{self, PostFilter},
    projects,
};
use utoipa::ToSchema;

use crate::{
    Answered, Caller, Error, Once, Tracker,
    access::{require, require_open, role},
    change::TRIES,
    pages::{Cursors, Page, PageRequest},
    placing::unknown_project,
    projects::keep_any,
    tasks::present,
    validate::{Checks, Lines},
};

/// A new post, which begins as a draft.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreatePost {
    /// One line of 1 to 200 characters.
    #[schema(example = "The lift runs again", min_length = 1, max_length = 200)]
    pub title: String,
    /// Markdown, at most 50,000 characters.
    #[serde(default)]
    #[schema(max_length = 50_000)]
    pub body: Option<String>,
    /// The project; absent makes news of the organisation.
    #[serde(default)]
    pub project_id: Option<ProjectId>,
}

/// A merge patch (RFC 7396): what is absent stays, null empties.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PatchPost {
    /// One line of 1 to 200 characters.
    #[serde(default, deserialize_with = "present")]
    #[schema(nullable = false, min_length = 1, max_length = 200)]
    pub title: Option<Option<String>>,
    /// Markdown, at most 50,000 characters.
    #[serde(default, deserialize_with = "present")]
    #[schema(max_length = 50_000)]
    pub body: Option<Option<String>>,
}

impl Tracker {
    /// Makes a draft.
    pub async fn create_post(
        &self,
        caller: &Caller,
        input: CreatePost,
        once: Once<Post>,
    ) -> Result<Answered, Error> {
        check_texts(Some(&input.title), input.body.as_deref())?;
        let viewer = caller.viewer();
        self.change_once(caller, once, move |tx, change| {
            Box::pin(async move {
                may_post(tx, viewer, input.project_id).await?;
                keep_any(tx, input.project_id).await?;
                may_post(tx, viewer, input.project_id).await?;
                let now = change.clock.now();
                let post = Post {
                    id: change.clock.id(),
                    project_id: input.project_id,
                    author_id: viewer.user_id,
                    title: input.title,
                    body: input.body.unwrap_or_default(),
                    status: PostStatus::Draft,
                    comment_count: 0,
                    version: 1,
                    created_at: now,
                    updated_at: now,
                    published_at: None,
                };
                let event = posts::insert(tx, change, &post).await?;
                Ok((post, Some(event)))
            })
        })
        .await
    }

    /// A page of the posts that the caller may see, newest first.
    pub async fn posts(
        &self,
        caller: &Caller,
        filter: PostFilter,
        page: PageRequest,
    ) -> Result<Page<Post>, Error> {
        let cursors = Cursors {
            key: &self.0.cursors,
            scope: format!("posts {} {filter:?}", caller.user_id()),
            now: self.0.clock.now(),
        };
        let start = cursors.open::<PostId>(page.cursor.as_deref())?;
        let mut reader = self.0.db.reader().await?;
        let rows = posts::list(&mut reader, caller.viewer(), &filter, start.into(), page.limit + 1).await?;
        cursors.page(rows, page.limit, start.map(|(way, _)| way), |post| post.id)
    }

    /// One post.
    pub async fn post(&self, caller: &Caller, id: PostId) -> Result<Post, Error> {
        Ok(seen(&mut self.0.db.reader().await?, caller.viewer(), id).await?.post)
    }

    /// Changes a post's title or body.
    pub async fn update_post(
        &self,
        caller: &Caller,
        id: PostId,
        patch: PatchPost,
        if_match: Option<i64>,
    ) -> Result<(Post, Option<EventId>), Error> {
        if patch.title == Some(None) {
            return Err(Error::field("/title", "missing_field", "a post must have a title"));
        }
        let (title, body) = (patch.title.flatten(), patch.body.map(Option::unwrap_or_default));
        check_texts(title.as_deref(), body.as_deref())?;
        let viewer = caller.viewer();
        self.change(&caller.cause, move |tx, change| {
            Box::pin(async move {
                let edit = move |post: &mut Post| -> Result<(), Error> {
                    if let Some(title) = &title {
                        post.title.clone_from(title);
                    }
                    if let Some(body) = &body {
                        post.body.clone_from(body);
                    }
                    Ok(())
                };
                modify(tx, change, (viewer, id), if_match, &edit).await
            })
        })
        .await
    }

    /// Publishes a post, or takes it back.
    pub async fn set_post_published(
        &self,
        caller: &Caller,
        id: PostId,
        published: bool,
        once: Once<Post>,
    ) -> Result<Answered, Error> {
        let viewer = caller.viewer();
        self.change_once(caller, once, move |tx, change| {
            Box::pin(async move {
                let now = change.clock.now();
                let edit = move |post: &mut Post| set_published(post, published, now);
                modify(tx, change, (viewer, id), None, &edit).await
            })
        })
        .await
    }

    /// Deletes a post with its comments.
    pub async fn delete_post(
        &self,
        caller: &Caller,
        id: PostId,
        if_match: Option<i64>,
    ) -> Result<EventId, Error> {
        let viewer = caller.viewer();
        self.change(&caller.cause, move |tx, change| {
            Box::pin(async move {
                let before = writable(tx, viewer, id).await?;
                check_version(before.post.version, if_match)?;
                posts::delete(tx, change, &before.post).await.map_err(Error::from)
            })
        })
        .await
    }
}

/// A post that somebody may read, its project, and what they may do there.
pub(crate) struct SeenPost {
    pub(crate) post: Post,
    pub(crate) project: Option<Project>,
    pub(crate) role: ProjectRole,
}

impl SeenPost {
    /// Its author may change it as long as they may post there, and who keeps the project; news of the organisation
    /// only admins.
    fn require_writer(&self, viewer: Viewer) -> Result<(), Error> {
        let is_theirs = self.post.author_id == viewer.user_id;
        match self.project {
            None => require_admin(viewer),
            Some(_) if is_theirs => require(self.role, ProjectRole::Member),
            Some(_) => require(self.role, ProjectRole::Maintainer),
        }
    }
}

/// A post, if the viewer may read it. One that is not published is its author's, and theirs who keep the project.
pub(crate) async fn seen(session: &mut Session, viewer: Viewer, id: PostId) -> Result<SeenPost, Error> {
    let post = posts::get(session, id).await?.ok_or(Error::NotFound("post"))?;
    let around = surroundings(session, viewer, post.project_id).await?;
    let (project, role) = around.ok_or(Error::NotFound("post"))?;
    let is_shown = post.status == PostStatus::Published;
    if is_shown || post.author_id == viewer.user_id || role >= ProjectRole::Maintainer {
        return Ok(SeenPost { post, project, role });
    }
    Err(Error::NotFound("post"))
}

/// The project that something is in, and what the viewer may do there; none when they may not read it. Outside
/// projects everyone is as a member, and admins are as owners.
pub(crate) async fn surroundings(
    session: &mut Session,
    viewer: Viewer,
    project: Option<ProjectId>,
) -> Result<Option<(Option<Project>, ProjectRole)>, StoreError> {
    let Some(id) = project else {
        return Ok(Some((None, role(viewer, Some(ProjectRole::Member)))));
    };
    let found = projects::seen(session, viewer, id).await?;
    Ok(found.map(|(project, member)| (Some(project), role(viewer, member))))
}

/// Refuses when If-Match names another version.
pub(crate) fn check_version(current: i64, if_match: Option<i64>) -> Result<(), Error> {
    match if_match {
        Some(version) if version != current => Err(Error::Stale { current }),
        _ => Ok(()),
    }
}

/// A post that the viewer may change. Its project stays as it is until the transaction ends.
async fn writable(tx: &mut Tx, viewer: Viewer, id: PostId) -> Result<SeenPost, Error> {
    let before = seen(tx, viewer, id).await?;
    before.require_writer(viewer)?;
    keep_any(tx, before.post.project_id).await?;
    let kept = seen(tx, viewer, id).await?;
    kept.require_writer(viewer)?;
    Ok(kept)
}

async fn may_post(session: &mut Session, viewer: Viewer, project: Option<ProjectId>) -> Result<(), Error> {
    let around = surroundings(session, viewer, project).await?;
    match around.ok_or_else(unknown_project)? {
        (None, _) => require_admin(viewer),
        (Some(project), role) => {
            require(role, ProjectRole::Member)?;
            require_open(&project)
        }
    }
}

fn require_admin(viewer: Viewer) -> Result<(), Error> {
    if viewer.admin { Ok(()) } else { Err(Error::Forbidden("only admins write news of the organisation")) }
}

/// Reads, changes and stores a post; again when somebody else was faster, unless the caller named a version.
async fn modify(
    tx: &mut Tx,
    change: Change<'_>,
    (viewer, id): (Viewer, PostId),
    if_match: Option<i64>,
    edit: &(dyn Fn(&mut Post) -> Result<(), Error> + Send + Sync),
) -> Result<(Post, Option<EventId>), Error> {
    let mut left = TRIES;
    loop {
        let before = writable(tx, viewer, id).await?;
        before.project.as_ref().map_or(Ok(()), require_open)?;
        check_version(before.post.version, if_match)?;
        let mut after = before.post.clone();
        edit(&mut after)?;
        left -= 1;
        match posts::update(tx, change, &before.post, after).await {
            Err(StoreError::Stale(_)) if left > 0 => {}
            done => return done.map_err(Error::from),
        }
    }
}

fn set_published(post: &mut Post, published: bool, now: DateTime<Utc>) -> Result<(), Error> {
    let refused = match (published, post.status) {
        (true, PostStatus::Published) => "the post is published already; unpublish it to take it back",
        (false, PostStatus::Draft) => "the post is a draft; publish it first",
        (false, PostStatus::Unpublished) => "the post is unpublished already; publish it to show it again",
        (true, PostStatus::Draft | PostStatus::Unpublished) => {
            post.status = PostStatus::Published;
            post.published_at = Some(now);
            return Ok(());
        }
        (false, PostStatus::Published) => {
            post.status = PostStatus::Unpublished;
            return Ok(());
        }
    };
    Err(Error::Conflict(refused.to_owned()))
}

fn check_texts(title: Option<&str>, body: Option<&str>) -> Result<(), Error> {
    let mut checks = Checks::default();
    if let Some(title) = title {
        checks.text("/title", title, 1, 200, Lines::One);
    }
    if let Some(body) = body {
        checks.text("/body", body, 0, 50_000, Lines::Many);
    }
    checks.finish()
}
