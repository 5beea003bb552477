//! Another build beside the live one: compared with it, shown in its place, and the old one removed.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use sqlx::FromRow;
use taskpost_common::{Position, ProjectId, TaskId};
use uuid::Uuid;

use super::{Card, CardRow, GROUP, NAME, cards, hold, live_build, most};
use crate::{
    Session, StoreError, Tx,
    db::on,
    dynamic::{Bind, Statement},
    progress,
};

/// How far the live board is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Every event up to here went in.
    pub applied: Position,
    /// No event behind this one did. Higher than `applied` only on Kafka, whose partitions are read side by side.
    pub highest: Position,
}

/// How far the live board is. It stays there while the caller holds [`lock`].
pub async fn standing(session: &mut Session) -> Result<Standing, StoreError> {
    const SQL: &str = "SELECT COALESCE(max(position), 0) FROM group_progress WHERE group_name = $1";
    let applied = progress::applied(session, GROUP).await?;
    let (highest,): (i64,) = on!(session, |c| sqlx::query_as(SQL).bind(GROUP).fetch_one(c).await?);
    Ok(Standing { applied, highest: Position(highest).max(applied) })
}

/// Waits until nobody writes into the live build, keeps everybody from it until the transaction ends, and gives it.
pub async fn lock(tx: &mut Tx) -> Result<i64, StoreError> {
    const POSTGRES: &str = "SELECT build FROM projections WHERE name = $1 FOR UPDATE";
    if !tx.is_postgres() {
        // There is one writer.
        return live_build(tx, NAME).await;
    }
    let (build,): (i64,) = on!(tx, |c| sqlx::query_as(POSTGRES).bind(NAME).fetch_one(c).await?);
    Ok(build)
}

/// Shows this build from the transaction's end on.
pub async fn show(tx: &mut Tx, build: i64, now: DateTime<Utc>) -> Result<(), StoreError> {
    const SQL: &str = "UPDATE projections SET build = $1, rebuilt_at = $2 WHERE name = $3";
    on!(tx, |c| sqlx::query(SQL).bind(build).bind(now).bind(NAME).execute(c).await.map(drop)?);
    Ok(())
}

/// Removes some rows of a build, about `limit` of each kind, and gives how many; none are left once that is zero. One
/// that is shown is [`StoreError::Stale`].
pub async fn remove(tx: &mut Tx, build: i64, limit: usize) -> Result<u64, StoreError> {
    const SOME: [&str; 3] = [
        "DELETE FROM board_cards WHERE build = $1 AND task_id IN
             (SELECT task_id FROM board_cards WHERE build = $1 LIMIT $2)",
        "DELETE FROM board_counts WHERE build = $1 AND project_id IN
             (SELECT project_id FROM board_counts WHERE build = $1 LIMIT $2)",
        "DELETE FROM board_projects WHERE build = $1 AND project_id IN
             (SELECT project_id FROM board_projects WHERE build = $1 LIMIT $2)",
    ];
    if hold(tx).await? == build {
        return Err(StoreError::Stale("the live build"));
    }
    let mut removed = 0;
    for sql in SOME {
        removed +=
            on!(tx, |c| sqlx::query(sql).bind(build).bind(most(limit)).execute(c).await?.rows_affected());
    }
    Ok(removed)
}

/// Up to `limit` cards of a build behind `after` by the ids of their tasks, those that are gone included.
pub async fn page(
    session: &mut Session,
    build: i64,
    after: Option<TaskId>,
    limit: usize,
) -> Result<Vec<Card>, StoreError> {
    const SQL: &str = "SELECT * FROM board_cards WHERE build = $1 AND task_id > $2 ORDER BY task_id LIMIT $3";
    let rows: Vec<CardRow> = on!(session, |c| sqlx::query_as(SQL)
        .bind(build)
        .bind(after.map_or(Uuid::nil(), |id| id.0))
        .bind(most(limit))
        .fetch_all(c)
        .await?);
    cards(rows)
}

/// Cards of a build by the ids of their tasks, at most [`crate::MAX_BATCH`], those that are gone included.
pub async fn by_ids(
    session: &mut Session,
    build: i64,
    ids: &[TaskId],
) -> Result<BTreeMap<TaskId, Card>, StoreError> {
    let mut statement = Statement::new("SELECT * FROM board_cards WHERE build = ");
    statement.bind(Bind::Int(build)).push(" AND task_id IN ").list(ids.iter().map(|id| Bind::Uuid(id.0)));
    let rows: Vec<CardRow> = statement.fetch_all(session).await?;
    Ok(cards(rows)?.into_iter().map(|card| (card.task_id, card)).collect())
}

/// A count that two builds do not have in common.
#[derive(Clone, Debug, PartialEq, Eq, FromRow)]
pub struct CountDifference {
    /// The project.
    #[sqlx(try_from = "Uuid")]
    pub project_id: ProjectId,
    /// The status.
    pub status: String,
    /// How many tasks the live build counts.
    pub live: i64,
    /// How many the rebuilt one does.
    pub rebuilt: i64,
}

/// The counts that differ between two builds.
pub async fn count_differences(
    session: &mut Session,
    live: i64,
    rebuilt: i64,
) -> Result<Vec<CountDifference>, StoreError> {
    const SQL: &str = "
        SELECT project_id, status,
               CAST(SUM(CASE WHEN build = $1 THEN tasks ELSE 0 END) AS BIGINT) AS live,
               CAST(SUM(CASE WHEN build = $2 THEN tasks ELSE 0 END) AS BIGINT) AS rebuilt
        FROM board_counts WHERE build IN ($1, $2)
        GROUP BY project_id, status
        HAVING SUM(CASE WHEN build = $1 THEN tasks ELSE 0 END) <> SUM(CASE WHEN build = $2 THEN tasks ELSE 0 END)
        ORDER BY project_id, status";
    Ok(on!(session, |c| sqlx::query_as(SQL).bind(live).bind(rebuilt).fetch_all(c).await?))
}
