//! What comments are on: the thing that their events are about.

use taskpost_common::{
    Event, ProjectId, UserId,
    comment::{Comment, Subject, SubjectType},
    event::CommentEvent,
    post::Post,
    task::Task,
};

use crate::{
    Change, StoreError, Tx,
    db::on,
    events::{NewEvent, SeenBy},
    posts, tasks,
};

/// A task or post with its comments, as it was read.
#[derive(Clone, Debug)]
pub enum Root {
    /// A task.
    Task(Task),
    /// A post.
    Post(Post),
}

impl Root {
    /// How comments name it.
    pub const fn subject(&self) -> Subject {
        match self {
            Self::Task(task) => Subject { kind: SubjectType::Task, id: task.id.0 },
            Self::Post(post) => Subject { kind: SubjectType::Post, id: post.id.0 },
        }
    }

    /// The project it is in.
    pub const fn project_id(&self) -> Option<ProjectId> {
        match self {
            Self::Task(task) => task.project_id,
            Self::Post(post) => post.project_id,
        }
    }

    /// How many comments it has.
    pub const fn comment_count(&self) -> i64 {
        match self {
            Self::Task(task) => task.comment_count,
            Self::Post(post) => post.comment_count,
        }
    }

    pub(super) const fn set_comment_count(&mut self, count: i64) {
        match self {
            Self::Task(task) => task.comment_count = count,
            Self::Post(post) => post.comment_count = count,
        }
    }

    const fn version(&self) -> i64 {
        match self {
            Self::Task(task) => task.version,
            Self::Post(post) => post.version,
        }
    }

    fn seen_by(&self) -> SeenBy {
        match self {
            Self::Task(task) => SeenBy {
                project_id: task.project_id,
                owner_id: Some(task.reporter_id),
                assignee_id: task.assignee_id,
            },
            Self::Post(post) => posts::seen_by(post, post.status),
        }
    }
}

/// Adds `by` to the number of comments, which locks the root until the transaction ends, and gives it as it is then.
/// None when it is gone.
pub(super) async fn recount(tx: &mut Tx, root: &Root, by: i64) -> Result<Option<Root>, StoreError> {
    let sql = match root {
        Root::Task(_) => {
            "UPDATE tasks SET comment_count = comment_count + $1 WHERE id = $2 RETURNING comment_count, version"
        }
        Root::Post(_) => {
            "UPDATE posts SET comment_count = comment_count + $1 WHERE id = $2 RETURNING comment_count, version"
        }
    };
    let id = root.subject().id;
    let row: Option<(i64, i64)> =
        on!(tx, |c| sqlx::query_as(sql).bind(by).bind(id).fetch_optional(c).await?);
    let Some((count, version)) = row else { return Ok(None) };
    if version == root.version() {
        let mut root = root.clone();
        root.set_comment_count(count);
        return Ok(Some(root));
    }
    // Somebody changed it since it was read.
    Ok(match root {
        Root::Task(task) => tasks::by_ids(tx, &[task.id]).await?.pop().map(Root::Task),
        Root::Post(post) => posts::by_ids(tx, &[post.id]).await?.pop().map(Root::Post),
    })
}

/// What happened to a comment. Comments do not raise the version of what they are on.
pub(super) fn record(
    change: Change<'_>,
    fact: fn(CommentEvent) -> Event,
    comment: &Comment,
    new_mentions: Vec<UserId>,
    root: &Root,
) -> Result<NewEvent, StoreError> {
    let (task, post) = match root {
        Root::Task(task) => (Some(task.reference()), None),
        Root::Post(post) => (None, Some(post.reference())),
    };
    let (comment, comment_count) = (comment.reference(), root.comment_count());
    let fact = fact(CommentEvent { comment, comment_count, task, post, new_mentions });
    NewEvent::new(change, &fact, root.subject().id, root.version(), root.seen_by())
}
