//! How far a consumer group has applied a partition.

use chrono::{DateTime, Utc};
use taskpost_common::Position;

use crate::{Session, StoreError, Tx, db::on};

/// The highest position applied; zero before the first.
pub async fn get(session: &mut Session, group: &str, partition: &str) -> Result<Position, StoreError> {
    const SQL: &str = "SELECT position FROM group_progress WHERE group_name = $1 AND partition = $2";
    let row: Option<(i64,)> =
        on!(session, |c| sqlx::query_as(SQL).bind(group).bind(partition).fetch_optional(c).await?);
    Ok(row.map_or(Position(0), |(position,)| Position(position)))
}

/// Moves a group's progress in the transaction of its effects, only if it still is where the caller believes it to be.
/// `false` means fenced: somebody else has moved it, and the caller must roll back.
pub async fn advance(
    tx: &mut Tx,
    group: &str,
    partition: &str,
    from: Position,
    to: Position,
    now: DateTime<Utc>,
) -> Result<bool, StoreError> {
    const FIRST: &str = "
        INSERT INTO group_progress (group_name, partition, position, updated_at) VALUES ($1, $2, $3, $4)
        ON CONFLICT DO NOTHING";
    const NEXT: &str = "
        UPDATE group_progress SET position = $1, updated_at = $2
        WHERE group_name = $3 AND partition = $4 AND position = $5";
    let moved = on!(tx, |c| sqlx::query(NEXT)
        .bind(to.0)
        .bind(now)
        .bind(group)
        .bind(partition)
        .bind(from.0)
        .execute(c)
        .await?
        .rows_affected());
    if moved == 1 || from.0 > 0 {
        return Ok(moved == 1);
    }
    let inserted = on!(tx, |c| sqlx::query(FIRST)
        .bind(group)
        .bind(partition)
        .bind(to.0)
        .bind(now)
        .execute(c)
        .await?
        .rows_affected());
    Ok(inserted == 1)
}
