//! What a task needs to know of its project before it is stored there.

use std::collections::HashMap;

use taskpost_common::{CategoryId, ProjectId};
use uuid::Uuid;

use crate::{
    Session, StoreError, Tx,
    db::on,
    dynamic::{Bind, Statement},
};

/// Takes the next `count` numbers of a project and gives the last of them. None when the project is gone or archived. The
/// project's row stays locked until the transaction ends, so numbers are in the order of commits.
pub async fn take_numbers(tx: &mut Tx, project: ProjectId, count: i64) -> Result<Option<i64>, StoreError> {
    const SQL: &str = "
        UPDATE projects SET last_number = last_number + $1 WHERE id = $2 AND archived_at IS NULL RETURNING last_number";
    let last: Option<(i64,)> =
        on!(tx, |c| sqlx::query_as(SQL).bind(count).bind(project.0).fetch_optional(c).await?);
    Ok(last.map(|(last,)| last))
}

/// Which project each of these categories belongs to.
pub async fn categories(
    session: &mut Session,
    ids: &[CategoryId],
) -> Result<HashMap<CategoryId, ProjectId>, StoreError> {
    if ids.is_empty() {
        return Ok(HashMap::new());
    }
    let mut statement = Statement::new("SELECT id, project_id FROM categories WHERE id IN ");
    statement.list(ids.iter().map(|id| Bind::Uuid(id.0)));
    let rows: Vec<(Uuid, Uuid)> = statement.fetch_all(session).await?;
    Ok(rows.into_iter().map(|(id, project)| (CategoryId(id), ProjectId(project))).collect())
}
