//! Categories: the groups of tasks in a project, in their order. A change of them is a change of the project.

use sqlx::FromRow;
use taskpost_common::{
    CategoryId, EventId, ProjectId,
    project::{Category, Project},
};
use uuid::Uuid;

use crate::{Change, Session, StoreError, Tx, db::on, projects};

/// The categories of a project, in their order.
pub async fn list(session: &mut Session, project: ProjectId) -> Result<Vec<Category>, StoreError> {
    const SQL: &str = "SELECT * FROM categories WHERE project_id = $1 ORDER BY position, id";
    let rows: Vec<Row> = on!(session, |c| sqlx::query_as(SQL).bind(project.0).fetch_all(c).await?);
    Ok(rows.into_iter().map(Category::from).collect())
}

/// Stores a new category at its position, which those from there on make free. [`StoreError::Stale`] when the
/// project is no longer at `project`'s version.
pub async fn insert(
    tx: &mut Tx,
    change: Change<'_>,
    project: &Project,
    category: &Category,
) -> Result<(Project, EventId), StoreError> {
    const SQL: &str = "INSERT INTO categories (id, project_id, name, position) VALUES ($1, $2, $3, $4)";
    let old = names(tx, project.id).await?;
    shift(tx, project.id, category.position, 1).await?;
    on!(tx, |c| sqlx::query(SQL)
        .bind(category.id.0)
        .bind(project.id.0)
        .bind(&category.name)
        .bind(category.position)
        .execute(c)
        .await
        .map(drop)?);
    note(tx, change, project, old).await
}

/// Stores `after` in place of `before`; the others close its old place and make its new one free.
/// [`StoreError::Stale`] when the project is no longer at `project`'s version.
pub async fn update(
    tx: &mut Tx,
    change: Change<'_>,
    project: &Project,
    before: &Category,
    after: &Category,
) -> Result<(Project, EventId), StoreError> {
    const SQL: &str = "UPDATE categories SET name = $1, position = $2 WHERE id = $3 AND project_id = $4";
    let old = names(tx, project.id).await?;
    shift(tx, project.id, before.position + 1, -1).await?;
    shift(tx, project.id, after.position, 1).await?;
    on!(tx, |c| sqlx::query(SQL)
        .bind(&after.name)
        .bind(after.position)
        .bind(after.id.0)
        .bind(project.id.0)
        .execute(c)
        .await
        .map(drop)?);
    note(tx, change, project, old).await
}

/// Deletes a category that no task is in. [`StoreError::Stale`] when the project is no longer at `project`'s
/// version.
pub async fn delete(
    tx: &mut Tx,
    change: Change<'_>,
    project: &Project,
    category: &Category,
) -> Result<(Project, EventId), StoreError> {
    const SQL: &str = "DELETE FROM categories WHERE id = $1 AND project_id = $2";
    let old = names(tx, project.id).await?;
    on!(tx, |c| sqlx::query(SQL).bind(category.id.0).bind(project.id.0).execute(c).await.map(drop)?);
    shift(tx, project.id, category.position + 1, -1).await?;
    note(tx, change, project, old).await
}

/// Deletes all categories of a project, without an event, and gives their names.
pub(crate) async fn delete_all(tx: &mut Tx, project: ProjectId) -> Result<Vec<String>, StoreError> {
    const SQL: &str = "DELETE FROM categories WHERE project_id = $1";
    let old = names(tx, project).await?;
    on!(tx, |c| sqlx::query(SQL).bind(project.0).execute(c).await.map(drop)?);
    Ok(old)
}

/// Moves the categories from a position on by one place, up or down.
async fn shift(tx: &mut Tx, project: ProjectId, from: i64, by: i64) -> Result<(), StoreError> {
    const SQL: &str =
        "UPDATE categories SET position = position + $1 WHERE project_id = $2 AND position >= $3";
    on!(tx, |c| sqlx::query(SQL).bind(by).bind(project.0).bind(from).execute(c).await.map(drop)?);
    Ok(())
}

async fn names(session: &mut Session, project: ProjectId) -> Result<Vec<String>, StoreError> {
    Ok(list(session, project).await?.into_iter().map(|category| category.name).collect())
}

async fn note(
    tx: &mut Tx,
    change: Change<'_>,
    project: &Project,
    old: Vec<String>,
) -> Result<(Project, EventId), StoreError> {
    let new = names(tx, project.id).await?;
    projects::note(tx, change, project, "categories", [old, new]).await
}

#[derive(FromRow)]
struct Row {
    #[sqlx(try_from = "Uuid")]
    id: CategoryId,
    #[sqlx(try_from = "Uuid")]
    project_id: ProjectId,
    name: String,
    position: i64,
}

impl From<Row> for Category {
    fn from(row: Row) -> Self {
        Self { id: row.id, project_id: row.project_id, name: row.name, position: row.position }
    }
}
