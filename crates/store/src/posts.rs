//! Posts: updates of projects, and news of the organisation.

use chrono::{DateTime, Utc};
use sqlx::FromRow;
use taskpost_common::{
    Event, EventId, PostId, ProjectId, UserId,
    event::PostEvent,
    post::{Post, PostStatus},
};
use uuid::Uuid;

use crate::{
    Change, MAX_BATCH, Session, Start, StoreError, Tx, Viewer, comments,
    db::on,
    dynamic::{Bind, Statement},
    events::{self, NewEvent, SeenBy},
};

/// Stores a new post with its event. [`StoreError::Stale`] when its project is gone.
pub async fn insert(tx: &mut Tx, change: Change<'_>, post: &Post) -> Result<EventId, StoreError> {
    const SQL: &str = "
        INSERT INTO posts (id, project_id, author_id, title, body, status, comment_count, version, created_at,
            updated_at, published_at)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)";
    if let Some(project) = post.project_id {
        hold_project(tx, project).await?;
    }
    on!(tx, |c| sqlx::query(SQL)
        .bind(post.id.0)
        .bind(post.project_id.map(|id| id.0))
        .bind(post.author_id.0)
        .bind(&post.title)
        .bind(&post.body)
        .bind(post.status.as_str())
        .bind(post.comment_count)
        .bind(post.version)
        .bind(post.created_at)
        .bind(post.updated_at)
        .bind(post.published_at)
        .execute(c)
        .await
        .map(drop)?);
    let fact = Event::PostCreated(PostEvent { post: post.reference() });
    let event = NewEvent::new(change, &fact, post.id.0, post.version, seen_by(post, post.status))?;
    events::append(tx, &[&event]).await?;
    Ok(event.id)
}

/// Stores `after` in place of `before` and appends an event for what differs. Nothing differs: nothing is stored, and
/// the post comes back as it is. [`StoreError::Stale`] when the row is no longer at `before`'s version.
pub async fn update(
    tx: &mut Tx,
    change: Change<'_>,
    before: &Post,
    mut after: Post,
) -> Result<(Post, Option<EventId>), StoreError> {
    const SQL: &str = "
        UPDATE posts SET title = $1, body = $2, status = $3, published_at = $4, version = $5, updated_at = $6
        WHERE id = $7 AND version = $8";
    if *before == after {
        return Ok((after, None));
    }
    after.version = before.version + 1;
    after.updated_at = change.clock.now();
    let rows = on!(tx, |c| sqlx::query(SQL)
        .bind(&after.title)
        .bind(&after.body)
        .bind(after.status.as_str())
        .bind(after.published_at)
        .bind(after.version)
        .bind(after.updated_at)
        .bind(after.id.0)
        .bind(before.version)
        .execute(c)
        .await?
        .rows_affected());
    if rows == 0 {
        return Err(StoreError::Stale("the post"));
    }
    let seen_by = seen_by(&after, before.status);
    let mut told = Vec::new();
    for fact in differences(before, &after) {
        told.push(NewEvent::new(change, &fact, after.id.0, after.version, seen_by)?);
    }
    events::append(tx, &told.iter().collect::<Vec<_>>()).await?;
    Ok((after, told.last().map(|event| event.id)))
}

/// Deletes the post as it stands at `before`'s version, after its comments.
pub async fn delete(tx: &mut Tx, change: Change<'_>, before: &Post) -> Result<EventId, StoreError> {
    const SQL: &str = "DELETE FROM posts WHERE id = $1 AND version = $2";
    comments::delete_on(tx, change, &comments::Root::Post(before.clone())).await?;
    let rows = on!(tx, |c| sqlx::query(SQL)
        .bind(before.id.0)
        .bind(before.version)
        .execute(c)
        .await?
        .rows_affected());
    if rows == 0 {
        return Err(StoreError::Stale("the post"));
    }
    let event = deletion(change, before)?;
    events::append(tx, &[&event]).await?;
    Ok(event.id)
}

/// Deletes the posts of a project, each with its event; their comments are gone already.
pub async fn delete_in_project(
    tx: &mut Tx,
    change: Change<'_>,
    project: ProjectId,
) -> Result<(), StoreError> {
    // Without the bodies, which may be long and of which nothing is told.
    const SOME: &str = "
        DELETE FROM posts WHERE id IN (SELECT id FROM posts WHERE project_id = $1 ORDER BY id LIMIT 500)
        RETURNING id, project_id, author_id, title, '' AS body, status, comment_count, version, created_at, updated_at,
            published_at";
    loop {
        let rows: Vec<PostRow> = on!(tx, |c| sqlx::query_as(SOME).bind(project.0).fetch_all(c).await?);
        if rows.is_empty() {
            return Ok(());
        }
        let mut told = Vec::with_capacity(rows.len());
        for row in rows {
            told.push(deletion(change, &Post::from(row))?);
        }
        events::append(tx, &told.iter().collect::<Vec<_>>()).await?;
    }
}

/// A post by its id, whoever asks.
pub async fn get(session: &mut Session, id: PostId) -> Result<Option<Post>, StoreError> {
    const SQL: &str = "SELECT * FROM posts WHERE id = $1";
    let row: Option<PostRow> = on!(session, |c| sqlx::query_as(SQL).bind(id.0).fetch_optional(c).await?);
    Ok(row.map(Post::from))
}

/// Posts by their ids, in no order, whoever asks.
pub async fn by_ids(session: &mut Session, ids: &[PostId]) -> Result<Vec<Post>, StoreError> {
    let mut posts = Vec::with_capacity(ids.len());
    for ids in ids.chunks(MAX_BATCH) {
        let mut statement = Statement::new("SELECT * FROM posts WHERE id IN ");
        statement.list(ids.iter().map(|id| Bind::Uuid(id.0)));
        let rows: Vec<PostRow> = statement.fetch_all(session).await?;
        posts.extend(rows.into_iter().map(Post::from));
    }
    Ok(posts)
}

/// Which posts are wanted. An empty list asks for nothing in particular.
#[derive(Clone, Debug, Default)]
pub struct PostFilter {
    /// In one of these projects; `None` is news of the organisation.
    pub projects: Vec<Option<ProjectId>>,
    /// As far as one of these.
    pub statuses: Vec<PostStatus>,
}

/// Up to `limit` posts that the viewer may see, newest first, from where a page starts. Those that are not published
/// are for their authors and who keeps the project.
pub async fn list(
    session: &mut Session,
    viewer: Viewer,
    filter: &PostFilter,
    start: Start<PostId>,
    limit: usize,
) -> Result<Vec<Post>, StoreError> {
    let mut statement = Statement::new("SELECT * FROM posts WHERE TRUE");
    if !viewer.admin {
        only_visible(&mut statement, viewer.user_id);
    }
    filter.narrow(&mut statement);
    start.page(&mut statement, limit);
    let rows: Vec<PostRow> = statement.fetch_all(session).await?;
    Ok(start.newest_first(rows.into_iter().map(Post::from).collect()))
}

/// Who sees an event about a post: the readers of its project only if it is published, or was until now; before that who
/// did it, for its author may belong to the project no more.
pub(crate) fn seen_by(post: &Post, was: PostStatus) -> SeenBy {
    let shown = post.status == PostStatus::Published || was == PostStatus::Published;
    SeenBy {
        project_id: post.project_id.filter(|_| shown),
        owner_id: (shown || post.project_id.is_none()).then_some(post.author_id),
        ..SeenBy::default()
    }
}

/// Keeps the project from being deleted until the transaction ends. On SQLite the one writer does.
async fn hold_project(tx: &mut Tx, project: ProjectId) -> Result<(), StoreError> {
    const SQL: &str = "SELECT id FROM projects WHERE id = $1 FOR SHARE";
    if !tx.is_postgres() {
        return Ok(());
    }
    let held: Option<(Uuid,)> = on!(tx, |c| sqlx::query_as(SQL).bind(project.0).fetch_optional(c).await?);
    if held.is_some() { Ok(()) } else { Err(StoreError::Stale("the project")) }
}

/// What happened between two states of a post.
fn differences(before: &Post, after: &Post) -> Vec<Event> {
    let data = || PostEvent { post: after.reference() };
    let mut facts = Vec::new();
    if (&before.title, &before.body) != (&after.title, &after.body) {
        facts.push(Event::PostUpdated(data()));
    }
    match (before.status == PostStatus::Published, after.status == PostStatus::Published) {
        (false, true) => facts.push(Event::PostPublished(data())),
        (true, false) => facts.push(Event::PostUnpublished(data())),
        _ => {}
    }
    facts
}

fn deletion(change: Change<'_>, before: &Post) -> Result<NewEvent, StoreError> {
    let mut post = before.reference();
    post.version += 1;
    let version = post.version;
    let fact = Event::PostDeleted(PostEvent { post });
    NewEvent::new(change, &fact, before.id.0, version, seen_by(before, before.status))
}

fn only_visible(statement: &mut Statement, user: UserId) {
    let user = Bind::Uuid(user.0);
    statement
        .push(" AND (project_id IS NULL OR project_id IN (SELECT project_id FROM members WHERE user_id = ")
        .bind(user.clone())
        .push(") OR project_id IN (SELECT id FROM projects WHERE visibility = 'internal'))")
        .push(" AND (status = 'published' OR author_id = ")
        .bind(user.clone())
        .push(" OR project_id IN (SELECT project_id FROM members WHERE role IN ('maintainer', 'owner') AND user_id = ")
        .bind(user)
        .push("))");
}

impl PostFilter {
    fn narrow(&self, statement: &mut Statement) {
        if !self.projects.is_empty() {
            let projects = self.projects.iter().flatten().map(|id| Bind::Uuid(id.0));
            statement.push(" AND (project_id IN ").list(projects);
            statement.push(if self.projects.contains(&None) { " OR project_id IS NULL)" } else { ")" });
        }
        if !self.statuses.is_empty() {
            let statuses = self.statuses.iter().map(|status| Bind::Text(status.as_str().to_owned()));
            statement.push(" AND status IN ").list(statuses);
        }
    }
}

#[derive(FromRow)]
struct PostRow {
    #[sqlx(try_from = "Uuid")]
    id: PostId,
    project_id: Option<Uuid>,
    #[sqlx(try_from = "Uuid")]
    author_id: UserId,
    title: String,
    body: String,
    #[sqlx(try_from = "String")]
    status: PostStatus,
    comment_count: i64,
    version: i64,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
    published_at: Option<DateTime<Utc>>,
}

impl From<PostRow> for Post {
    fn from(row: PostRow) -> Self {
        Self {
            id: row.id,
            project_id: row.project_id.map(ProjectId),
            author_id: row.author_id,
            title: row.title,
            body: row.body,
            status: row.status,
            comment_count: row.comment_count,
            version: row.version,
            created_at: row.created_at,
            updated_at: row.updated_at,
            published_at: row.published_at,
        }
    }
}
