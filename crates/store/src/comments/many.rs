//! Comments that go with what they are on.

use std::collections::HashMap;

use taskpost_common::{Event, PostId, ProjectId, TaskId, comment::Comment};
use uuid::Uuid;

use super::{CommentRow, Root, record, recount};
use crate::{
    Change, MAX_BATCH, StoreError, Tx,
    db::on,
    dynamic::{Bind, Statement},
    events, posts, tasks,
};

/// Deletes the comments on a root that is itself to be deleted next, each with its event. The root is locked from
/// here on, so that no comment comes in between.
pub async fn delete_on(tx: &mut Tx, change: Change<'_>, root: &Root) -> Result<(), StoreError> {
    match recount(tx, root, 0).await? {
        Some(root) if root.comment_count() > 0 => delete_all(tx, change, vec![root]).await,
        _ => Ok(()),
    }
}

/// Deletes the comments on all tasks and posts of a project that are to be deleted next, each with its event. They are
/// locked from here on, so that no comment comes in between.
pub async fn delete_in_project(
    tx: &mut Tx,
    change: Change<'_>,
    project: ProjectId,
) -> Result<(), StoreError> {
    // SQLite has one writer, who needs no locks.
    const LOCKS: [&str; 2] = [
        "SELECT count(*) FROM (SELECT 1 FROM tasks WHERE project_id = $1 ORDER BY id FOR UPDATE) AS locked",
        "SELECT count(*) FROM (SELECT 1 FROM posts WHERE project_id = $1 ORDER BY id FOR UPDATE) AS locked",
    ];
    const TASKS: &str = "SELECT id FROM tasks WHERE project_id = $1 AND comment_count > 0 ORDER BY id";
    const POSTS: &str = "SELECT id FROM posts WHERE project_id = $1 AND comment_count > 0 ORDER BY id";
    if tx.is_postgres() {
        for sql in LOCKS {
            on!(tx, |c| sqlx::query(sql).bind(project.0).execute(c).await.map(drop)?);
        }
    }
    for ids in commented(tx, TASKS, project).await?.chunks(MAX_BATCH) {
        let ids: Vec<TaskId> = ids.iter().copied().map(TaskId).collect();
        let roots = tasks::by_ids(tx, &ids).await?.into_iter().map(Root::Task).collect();
        delete_all(tx, change, roots).await?;
    }
    for ids in commented(tx, POSTS, project).await?.chunks(MAX_BATCH) {
        let ids: Vec<PostId> = ids.iter().copied().map(PostId).collect();
        let roots = posts::by_ids(tx, &ids).await?.into_iter().map(Root::Post).collect();
        delete_all(tx, change, roots).await?;
    }
    Ok(())
}

async fn commented(tx: &mut Tx, sql: &'static str, project: ProjectId) -> Result<Vec<Uuid>, StoreError> {
    let rows: Vec<(Uuid,)> = on!(tx, |c| sqlx::query_as(sql).bind(project.0).fetch_all(c).await?);
    Ok(rows.into_iter().map(|(id,)| id).collect())
}

/// Deletes the comments on these roots, which are locked: up to [`MAX_BATCH`] of them by one statement. How many are
/// left is told, and not stored.
async fn delete_all(tx: &mut Tx, change: Change<'_>, roots: Vec<Root>) -> Result<(), StoreError> {
    let mut roots: HashMap<Uuid, Root> = roots.into_iter().map(|root| (root.subject().id, root)).collect();
    let most = i64::try_from(MAX_BATCH).unwrap_or(i64::MAX);
    loop {
        let mut statement =
            Statement::new("DELETE FROM comments WHERE id IN (SELECT id FROM comments WHERE subject_id IN ");
        statement.list(roots.keys().map(|id| Bind::Uuid(*id)));
        statement.push(" ORDER BY subject_id, id LIMIT ").bind(Bind::Int(most)).push(") RETURNING *");
        let rows: Vec<CommentRow> = statement.fetch_all(tx).await?;
        let mut comments = rows.into_iter().map(Comment::try_from).collect::<Result<Vec<_>, _>>()?;
        // RETURNING has no order.
        comments.sort_unstable_by_key(|comment| (comment.subject.id, comment.id));
        let mut events = Vec::with_capacity(comments.len());
        for comment in &comments {
            if let Some(root) = roots.get_mut(&comment.subject.id) {
                root.set_comment_count(root.comment_count() - 1);
                events.push(record(change, Event::CommentDeleted, comment, Vec::new(), root)?);
            }
        }
        events::append(tx, &events.iter().collect::<Vec<_>>()).await?;
        if comments.len() < MAX_BATCH {
            return Ok(());
        }
    }
}
