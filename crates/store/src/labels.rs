//! Labels: what words among the labels of tasks mean in a project. A change of them is a change of the
//! project.

use sqlx::FromRow;
use taskpost_common::{
    EventId, LabelId, ProjectId,
    project::{Label, Project},
};
use uuid::Uuid;

use crate::{Change, Session, StoreError, Tx, db::on, projects};

/// The labels of a project, in the order they were made.
pub async fn list(session: &mut Session, project: ProjectId) -> Result<Vec<Label>, StoreError> {
    const SQL: &str = "SELECT * FROM labels WHERE project_id = $1 ORDER BY id";
    let rows: Vec<Row> = on!(session, |c| sqlx::query_as(SQL).bind(project.0).fetch_all(c).await?);
    Ok(rows.into_iter().map(Label::from).collect())
}

/// Stores a new label. [`StoreError::Stale`] when the project is no longer at `project`'s version.
pub async fn insert(
    tx: &mut Tx,
    change: Change<'_>,
    project: &Project,
    label: &Label,
) -> Result<(Project, EventId), StoreError> {
    const SQL: &str =
        "INSERT INTO labels (id, project_id, name, color, description) VALUES ($1, $2, $3, $4, $5)";
    let old = names(tx, project.id).await?;
    on!(tx, |c| sqlx::query(SQL)
        .bind(label.id.0)
        .bind(project.id.0)
        .bind(&label.name)
        .bind(&label.color)
        .bind(&label.description)
        .execute(c)
        .await
        .map(drop)?);
    note(tx, change, project, old).await
}

/// Stores a label as it is now. [`StoreError::Stale`] when the project is no longer at `project`'s version.
pub async fn update(
    tx: &mut Tx,
    change: Change<'_>,
    project: &Project,
    label: &Label,
) -> Result<(Project, EventId), StoreError> {
    const SQL: &str =
        "UPDATE labels SET name = $1, color = $2, description = $3 WHERE id = $4 AND project_id = $5";
    let old = names(tx, project.id).await?;
    on!(tx, |c| sqlx::query(SQL)
        .bind(&label.name)
        .bind(&label.color)
        .bind(&label.description)
        .bind(label.id.0)
        .bind(project.id.0)
        .execute(c)
        .await
        .map(drop)?);
    note(tx, change, project, old).await
}

/// Deletes a label; tasks keep the word. [`StoreError::Stale`] when the project is no longer at `project`'s
/// version.
pub async fn delete(
    tx: &mut Tx,
    change: Change<'_>,
    project: &Project,
    label: LabelId,
) -> Result<(Project, EventId), StoreError> {
    const SQL: &str = "DELETE FROM labels WHERE id = $1 AND project_id = $2";
    let old = names(tx, project.id).await?;
    on!(tx, |c| sqlx::query(SQL).bind(label.0).bind(project.id.0).execute(c).await.map(drop)?);
    note(tx, change, project, old).await
}

/// Deletes all labels of a project, without an event, and gives their names.
pub(crate) async fn delete_all(tx: &mut Tx, project: ProjectId) -> Result<Vec<String>, StoreError> {
    const SQL: &str = "DELETE FROM labels WHERE project_id = $1";
    let old = names(tx, project).await?;
    on!(tx, |c| sqlx::query(SQL).bind(project.0).execute(c).await.map(drop)?);
    Ok(old)
}

async fn names(session: &mut Session, project: ProjectId) -> Result<Vec<String>, StoreError> {
    Ok(list(session, project).await?.into_iter().map(|label| label.name).collect())
}

async fn note(
    tx: &mut Tx,
    change: Change<'_>,
    project: &Project,
    old: Vec<String>,
) -> Result<(Project, EventId), StoreError> {
    let new = names(tx, project.id).await?;
    projects::note(tx, change, project, "labels", [old, new]).await
}

#[derive(FromRow)]
struct Row {
    #[sqlx(try_from = "Uuid")]
    id: LabelId,
    #[sqlx(try_from = "Uuid")]
    project_id: ProjectId,
    name: String,
    color: String,
    description: String,
}

impl From<Row> for Label {
    fn from(row: Row) -> Self {
        Self {
            id: row.id,
            project_id: row.project_id,
            name: row.name,
            color: row.color,
            description: row.description,
        }
    }
}
