//! Comments on tasks and posts: whoever may read the thing reads them, and members of its project write them.

use serde::Deserialize;
use taskpost_common::{
    CommentId, EventId, PostId, TaskId,
    comment::{Comment, Subject, SubjectType},
    project::{Project, ProjectRole},
};
use taskpost_store::{
    Change, Session, StoreError, Tx, Viewer,
    comments::{self, Root},
    tasks,
};
use utoipa::ToSchema;

use crate::{
    Answered, Caller, Error, Once, Tracker,
    access::{require, require_open},
    change::TRIES,
    mentions,
    pages::{Cursors, Page, PageRequest},
    posts::{self, SeenPost, check_version, surroundings},
    projects::keep_any,
    tasks::present,
    validate::{Checks, Lines},
};

/// A new comment.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateComment {
    /// Markdown of 1 to 20,000 characters; `@handle` names a user.
    #[schema(example = "The part is here, @bob can fit it.", min_length = 1, max_length = 20_000)]
    pub body: String,
}

/// A merge patch (RFC 7396): what is absent stays.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PatchComment {
    /// Markdown of 1 to 20,000 characters.
    #[serde(default, deserialize_with = "present")]
    #[schema(nullable = false, min_length = 1, max_length = 20_000)]
    pub body: Option<Option<String>>,
}

impl Tracker {
    /// Writes a comment on a task or post.
    pub async fn comment_on(
        &self,
        caller: &Caller,
        subject: Subject,
        input: CreateComment,
        once: Once<Comment>,
    ) -> Result<Answered, Error> {
        check_body(&input.body)?;
        let viewer = caller.viewer();
        self.change_once(caller, once, move |tx, change| {
            Box::pin(async move {
                let (comment, event) = write(tx, change, viewer, subject, input.body).await?;
                Ok((comment, Some(event)))
            })
        })
        .await
    }

    /// A page of the comments on a task or post, oldest first.
    pub async fn comments_on(
        &self,
        caller: &Caller,
        subject: Subject,
        page: PageRequest,
    ) -> Result<Page<Comment>, Error> {
        let mut reader = self.0.db.reader().await?;
        place(&mut reader, caller.viewer(), subject).await?;
        let cursors = Cursors {
            key: &self.0.cursors,
            scope: format!("comments {} {}", caller.user_id(), subject.id),
            now: self.0.clock.now(),
        };
        let start = cursors.open::<CommentId>(page.cursor.as_deref())?;
        let rows = comments::list(&mut reader, subject, start, page.limit + 1).await?;
        cursors.page(rows, page.limit, start.map(|(way, _)| way), |comment| comment.id)
    }

    /// One comment.
    pub async fn comment(&self, caller: &Caller, id: CommentId) -> Result<Comment, Error> {
        let (comment, _) = found(&mut self.0.db.reader().await?, caller.viewer(), id).await?;
        Ok(comment)
    }

    /// Changes a comment's body. Only its author may.
    pub async fn edit_comment(
        &self,
        caller: &Caller,
        id: CommentId,
        patch: PatchComment,
        if_match: Option<i64>,
    ) -> Result<(Comment, Option<EventId>), Error> {
        let body = match patch.body {
            Some(None) => return Err(Error::field("/body", "missing_field", "a comment must have a body")),
            given => given.flatten(),
        };
        if let Some(body) = &body {
            check_body(body)?;
        }
        let viewer = caller.viewer();
        self.change(&caller.cause, move |tx, change| {
            Box::pin(async move { edit(tx, change, (viewer, id), body, if_match).await })
        })
        .await
    }

    /// Deletes a comment. Its author may, and who keeps the project.
    pub async fn delete_comment(
        &self,
        caller: &Caller,
        id: CommentId,
        if_match: Option<i64>,
    ) -> Result<EventId, Error> {
        let viewer = caller.viewer();
        self.change(&caller.cause, move |tx, change| {
            Box::pin(async move { delete(tx, change, (viewer, id), if_match).await })
        })
        .await
    }
}

async fn write(
    tx: &mut Tx,
    change: Change<'_>,
    viewer: Viewer,
    subject: Subject,
    body: String,
) -> Result<(Comment, EventId), Error> {
    let seen = place(tx, viewer, subject).await?;
    let place = keep(tx, viewer, seen, Place::require_writer).await?;
    let comment = Comment {
        id: change.clock.id(),
        subject,
        author_id: viewer.user_id,
        mentions: mentions::named(tx, &body).await?,
        body,
        version: 1,
        created_at: change.clock.now(),
        edited_at: None,
    };
    let event = comments::insert(tx, change, &place.root, &comment).await?;
    let event = event.ok_or(Error::NotFound(subject.kind.as_str()))?;
    Ok((comment, event))
}

/// Reads, changes and stores a comment; again when it was changed meanwhile, unless the caller named a version.
async fn edit(
    tx: &mut Tx,
    change: Change<'_>,
    (viewer, id): (Viewer, CommentId),
    body: Option<String>,
    if_match: Option<i64>,
) -> Result<(Comment, Option<EventId>), Error> {
    let mut left = TRIES;
    loop {
        let (before, place) = found(tx, viewer, id).await?;
        if before.author_id != viewer.user_id {
            return Err(Error::Forbidden("only who wrote a comment may edit it"));
        }
        let place = keep(tx, viewer, place, Place::require_writer).await?;
        check_version(before.version, if_match)?;
        let Some(body) = body.clone().filter(|body| *body != before.body) else {
            return Ok((before, None));
        };
        let mentions = mentions::named(tx, &body).await?;
        let after = Comment { body, mentions, ..before.clone() };
        left -= 1;
        match comments::update(tx, change, &place.root, &before, after).await {
            Err(StoreError::Stale(_)) if left > 0 => {}
            done => return done.map(|(comment, event)| (comment, Some(event))).map_err(Error::from),
        }
    }
}

async fn delete(
    tx: &mut Tx,
    change: Change<'_>,
    (viewer, id): (Viewer, CommentId),
    if_match: Option<i64>,
) -> Result<EventId, Error> {
    let (comment, place) = found(tx, viewer, id).await?;
    let is_theirs = comment.author_id == viewer.user_id;
    let least = if is_theirs { ProjectRole::Member } else { ProjectRole::Maintainer };
    let may_delete = move |place: &Place| {
        if place.role >= least {
            return Ok(());
        }
        Err(Error::Forbidden("only who wrote a comment and who keeps the project may delete it"))
    };
    let place = keep(tx, viewer, place, may_delete).await?;
    check_version(comment.version, if_match)?;
    match comments::delete(tx, change, &place.root, id).await {
        Ok((gone, event)) => {
            // It may have been edited since it was read; an error takes the deletion back.
            check_version(gone.version, if_match)?;
            Ok(event)
        }
        Err(StoreError::Stale(_)) => Err(Error::NotFound("comment")),
        Err(error) => Err(error.into()),
    }
}

/// What comments are on, and what somebody may do there who may read it.
struct Place {
    root: Root,
    project: Option<Project>,
    role: ProjectRole,
}

impl Place {
    fn require_writer(&self) -> Result<(), Error> {
        require(self.role, ProjectRole::Member)?;
        self.project.as_ref().map_or(Ok(()), require_open)
    }
}

/// The place of a comment, if the viewer may read it.
async fn place(session: &mut Session, viewer: Viewer, subject: Subject) -> Result<Place, Error> {
    match subject.kind {
        SubjectType::Task => {
            let task = tasks::visible(session, viewer, TaskId(subject.id)).await?;
            let task = task.ok_or(Error::NotFound("task"))?;
            let around = surroundings(session, viewer, task.project_id).await?;
            let (project, role) = around.ok_or(Error::NotFound("task"))?;
            Ok(Place { root: Root::Task(task), project, role })
        }
        SubjectType::Post => {
            let SeenPost { post, project, role } = posts::seen(session, viewer, PostId(subject.id)).await?;
            Ok(Place { root: Root::Post(post), project, role })
        }
    }
}

/// The same place as it stays until the transaction ends. Who fails `check` is refused, before they wait and after.
async fn keep(
    tx: &mut Tx,
    viewer: Viewer,
    seen: Place,
    check: impl Fn(&Place) -> Result<(), Error> + Send,
) -> Result<Place, Error> {
    check(&seen)?;
    let Some(project) = &seen.project else { return Ok(seen) };
    keep_any(tx, Some(project.id)).await?;
    let kept = place(tx, viewer, seen.root.subject()).await?;
    check(&kept)?;
    Ok(kept)
}

/// A comment and its place. Who may not read the place is told that there is no such comment.
async fn found(session: &mut Session, viewer: Viewer, id: CommentId) -> Result<(Comment, Place), Error> {
    let comment = comments::get(session, id).await?.ok_or(Error::NotFound("comment"))?;
    match place(session, viewer, comment.subject).await {
        Err(Error::NotFound(_)) => Err(Error::NotFound("comment")),
        place => Ok((comment, place?)),
    }
}

fn check_body(body: &str) -> Result<(), Error> {
    let mut checks = Checks::default();
    checks.text("/body", body, 1, 20_000, Lines::Many);
    checks.finish()
}
