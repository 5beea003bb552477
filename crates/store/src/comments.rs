//! Comments on tasks and posts. Whoever changes one locks what it is on first, so that counts are right and events
//! come in the order of what happened.

use chrono::{DateTime, Utc};
use serde_json::json;
use sqlx::FromRow;
use taskpost_common::{
    CommentId, Event, EventId, UserId,
    comment::{Comment, Subject, SubjectType},
    page::Direction,
};
use uuid::Uuid;

use crate::{
    Change, Session, StoreError, Tx,
    db::on,
    dynamic::{Bind, Statement},
    events,
};

mod many;
mod root;

pub use many::{delete_in_project, delete_on};
pub use root::Root;

use root::{record, recount};

/// Stores a new comment with its event. None when what it is on is gone.
pub async fn insert(
    tx: &mut Tx,
    change: Change<'_>,
    root: &Root,
    comment: &Comment,
) -> Result<Option<EventId>, StoreError> {
    const SQL: &str = "
        INSERT INTO comments (id, subject_type, subject_id, project_id, author_id, body, mentions, version, created_at)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)";
    let Some(root) = recount(tx, root, 1).await? else { return Ok(None) };
    on!(tx, |c| sqlx::query(SQL)
        .bind(comment.id.0)
        .bind(comment.subject.kind.as_str())
        .bind(comment.subject.id)
        .bind(root.project_id().map(|id| id.0))
        .bind(comment.author_id.0)
        .bind(&comment.body)
        .bind(mentions_text(&comment.mentions))
        .bind(comment.version)
        .bind(comment.created_at)
        .execute(c)
        .await
        .map(drop)?);
    let event = record(change, Event::CommentCreated, comment, Vec::new(), &root)?;
    events::append(tx, &[&event]).await?;
    Ok(Some(event.id))
}

/// Stores `after` in place of `before`, as an edit; [`StoreError::Stale`] when the comment is no longer at
/// `before`'s version.
pub async fn update(
    tx: &mut Tx,
    change: Change<'_>,
    root: &Root,
    before: &Comment,
    mut after: Comment,
) -> Result<(Comment, EventId), StoreError> {
    const SQL: &str = "
        UPDATE comments SET body = $1, mentions = $2, version = $3, edited_at = $4 WHERE id = $5 AND version = $6";
    let root = recount(tx, root, 0).await?.ok_or(StoreError::Stale("the comment"))?;
    after.version = before.version + 1;
    after.edited_at = Some(change.clock.now());
    let rows = on!(tx, |c| sqlx::query(SQL)
        .bind(&after.body)
        .bind(mentions_text(&after.mentions))
        .bind(after.version)
        .bind(after.edited_at)
        .bind(after.id.0)
        .bind(before.version)
        .execute(c)
        .await?
        .rows_affected());
    if rows == 0 {
        return Err(StoreError::Stale("the comment"));
    }
    let new = after.mentions.iter().filter(|user| !before.mentions.contains(user)).copied().collect();
    let event = record(change, Event::CommentUpdated, &after, new, &root)?;
    events::append(tx, &[&event]).await?;
    Ok((after, event.id))
}

/// Deletes a comment and gives it as it was; [`StoreError::Stale`] when it is gone already.
pub async fn delete(
    tx: &mut Tx,
    change: Change<'_>,
    root: &Root,
    id: CommentId,
) -> Result<(Comment, EventId), StoreError> {
    const SQL: &str = "DELETE FROM comments WHERE id = $1 RETURNING *";
    let root = recount(tx, root, -1).await?.ok_or(StoreError::Stale("the comment"))?;
    let row: Option<CommentRow> = on!(tx, |c| sqlx::query_as(SQL).bind(id.0).fetch_optional(c).await?);
    let comment = Comment::try_from(row.ok_or(StoreError::Stale("the comment"))?)?;
    let event = record(change, Event::CommentDeleted, &comment, Vec::new(), &root)?;
    events::append(tx, &[&event]).await?;
    Ok((comment, event.id))
}

/// A comment by its id, whoever asks.
pub async fn get(session: &mut Session, id: CommentId) -> Result<Option<Comment>, StoreError> {
    const SQL: &str = "SELECT * FROM comments WHERE id = $1";
    let row: Option<CommentRow> = on!(session, |c| sqlx::query_as(SQL).bind(id.0).fetch_optional(c).await?);
    row.map(Comment::try_from).transpose()
}

/// Up to `limit` comments on a task or post, oldest first, from where a page starts.
pub async fn list(
    session: &mut Session,
    subject: Subject,
    start: Option<(Direction, CommentId)>,
    limit: usize,
) -> Result<Vec<Comment>, StoreError> {
    let mut statement = Statement::new("SELECT * FROM comments WHERE subject_id = ");
    statement.bind(Bind::Uuid(subject.id));
    match start {
        None => statement.push(" ORDER BY id LIMIT "),
        Some((Direction::Next, id)) => {
            statement.push(" AND id > ").bind(Bind::Uuid(id.0)).push(" ORDER BY id LIMIT ")
        }
        Some((Direction::Previous, id)) => {
            statement.push(" AND id < ").bind(Bind::Uuid(id.0)).push(" ORDER BY id DESC LIMIT ")
        }
    };
    statement.bind(Bind::Int(i64::try_from(limit).unwrap_or(i64::MAX)));
    let rows: Vec<CommentRow> = statement.fetch_all(session).await?;
    let mut comments = rows.into_iter().map(Comment::try_from).collect::<Result<Vec<_>, _>>()?;
    if matches!(start, Some((Direction::Previous, _))) {
        comments.reverse();
    }
    Ok(comments)
}

/// A JSON array in a text column.
fn mentions_text(mentions: &[UserId]) -> String {
    if mentions.is_empty() { "[]".to_owned() } else { json!(mentions).to_string() }
}

#[derive(FromRow)]
struct CommentRow {
    #[sqlx(try_from = "Uuid")]
    id: CommentId,
    #[sqlx(try_from = "String")]
    subject_type: SubjectType,
    subject_id: Uuid,
    #[sqlx(try_from = "Uuid")]
    author_id: UserId,
    body: String,
    mentions: String,
    version: i64,
    created_at: DateTime<Utc>,
    edited_at: Option<DateTime<Utc>>,
}

impl TryFrom<CommentRow> for Comment {
    type Error = StoreError;

    fn try_from(row: CommentRow) -> Result<Self, StoreError> {
        Ok(Self {
            id: row.id,
            subject: Subject { kind: row.subject_type, id: row.subject_id },
            author_id: row.author_id,
            body: row.body,
            mentions: serde_json::from_str(&row.mentions)?,
            version: row.version,
            created_at: row.created_at,
            edited_at: row.edited_at,
        })
    }
}
