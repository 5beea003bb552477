//! By which plans a board is read.

use taskpost_common::ProjectId;

use super::{COLUMN, COUNTS, POSITION, below, from_store, most};
use crate::{
    Plan, Session, StoreError,
    dynamic::{Bind, Statement},
};

/// The plans behind the first `limit` cards of a column, in the view and in the tasks themselves, and behind the
/// view's counts and position: for benchmarks and tests. Postgres runs the statements.
pub async fn explain(
    session: &mut Session,
    build: i64,
    project: ProjectId,
    status: &str,
    limit: usize,
) -> Result<Vec<Plan>, StoreError> {
    let of_project = vec![Bind::Int(build), Bind::Uuid(project.0)];
    let stored = vec![
        Bind::Uuid(project.0),
        Bind::Text(status.to_owned()),
        Bind::Uuid(below(None)),
        Bind::Int(most(limit)),
    ];
    let mut shown = vec![Bind::Int(build)];
    shown.extend(stored.iter().cloned());
    let mut plans = Vec::new();
    for statement in [
        Statement::of(COLUMN, shown),
        Statement::of(from_store::COLUMN, stored),
        Statement::of(COUNTS, of_project.clone()),
        Statement::of(POSITION, of_project),
    ] {
        plans.push(statement.explain(session).await?);
    }
    Ok(plans)
}
