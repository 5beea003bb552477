//! The same board computed from the tasks themselves, which is never behind.

use taskpost_common::{ProjectId, TaskId};

use super::{Card, CardRow, below, cards, most};
use crate::{Session, StoreError, db::on};

pub(super) const COLUMN: &str = "
    SELECT id AS task_id, project_id, category_id, key, title, task_type, status, priority, assignee_id, labels,
           due_at, comment_count, version, CAST(0 AS BIGINT) AS position, FALSE AS gone
    FROM tasks WHERE project_id = $1 AND status = $2 AND id < $3 ORDER BY id DESC LIMIT $4";

/// As [`super::column`].
pub async fn column(
    session: &mut Session,
    project: ProjectId,
    status: &str,
    limit: usize,
    after: Option<TaskId>,
) -> Result<Vec<Card>, StoreError> {
    let rows: Vec<CardRow> = on!(session, |c| sqlx::query_as(COLUMN)
        .bind(project.0)
        .bind(status)
        .bind(below(after))
        .bind(most(limit))
        .fetch_all(c)
        .await?);
    cards(rows)
}

/// As [`super::counts`].
pub async fn counts(session: &mut Session, project: ProjectId) -> Result<Vec<(String, i64)>, StoreError> {
    const SQL: &str =
        "SELECT status, count(*) FROM tasks WHERE project_id = $1 GROUP BY status ORDER BY status";
    Ok(on!(session, |c| sqlx::query_as(SQL).bind(project.0).fetch_all(c).await?))
}
