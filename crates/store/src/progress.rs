//! How far a consumer group has applied a partition, and how far the relay has put events into Kafka.
//!
//! Two kinds of rows say what a group has applied, and both stay true whatever log is read later:
//!
//! - a group's row of the partition '' at P: it has applied every event up to P;
//! - its row of a partition such as `work/3` at P: it has applied every event of that partition up to P.

mod place;
pub mod relay;

use chrono::{DateTime, Utc};
use taskpost_common::Position;

use crate::{
    Db, Session, StoreError, Tx,
    db::{Raw, on},
};
use place::Rows;

/// The highest position applied; zero before the first.
pub async fn get(session: &mut Session, group: &str, partition: &str) -> Result<Position, StoreError> {
    const SQL: &str = "SELECT position FROM group_progress WHERE group_name = $1 AND partition = $2";
    let row: Option<(i64,)> =
        on!(session, |c| sqlx::query_as(SQL).bind(group).bind(partition).fetch_optional(c).await?);
    Ok(row.map_or(Position(0), |(position,)| Position(position)))
}

/// Where a group begins to read a partition: its row, which this makes or raises when the other log was read since.
///
/// - A partition of Kafka begins at the higher of its own row and that of ''. Both say that everything in it up to
///   there is applied, so nothing is skipped that is not.
/// - '' begins at the higher of its own row and [`applied`], of which the same is true.
///
/// It never falls: a lower row would have applied events applied once more. Raising it fences whoever still reads the
/// other log with the old value.
pub async fn open(db: &Db, group: &str, partition: &str, now: DateTime<Utc>) -> Result<Position, StoreError> {
    let rows = Rows::read(&mut db.reader().await?, group).await?;
    let (row, start) = (rows.row(partition), rows.start(partition));
    if row >= start {
        return Ok(row);
    }
    let mut tx = db.begin().await?;
    raise(&mut tx, group, partition, start, now).await?;
    // Somebody may have moved it further meanwhile.
    let row = get(&mut tx, group, partition).await?;
    tx.commit().await?;
    Ok(row)
}

/// Up to where a group has applied every event, whichever log it read them from. At the head of the log it has caught up.
///
/// Higher than its row of '' only by what it read from Kafka: the relay's cursor C says that every event up to C is in
/// some partition, at or below the head that the relay recorded for it. So what the group has yet to apply of those lies
/// in a partition whose row is below its head, and above that row; the lowest such row, and C, bound it. A partition
/// where nothing came for long has its row at its head and holds nobody back.
pub async fn applied(session: &mut Session, group: &str) -> Result<Position, StoreError> {
    Ok(Rows::read(session, group).await?.applied())
}

/// Where a group is in each partition that the relay has put events into. Empty without Kafka.
pub async fn places(session: &mut Session, group: &str) -> Result<Vec<Place>, StoreError> {
    Ok(Rows::read(session, group).await?.places())
}

/// Where a group is in a partition of Kafka.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The partition.
    pub partition: String,
    /// The group has applied everything in it up to here.
    pub applied: Position,
    /// The last event that the relay has put there.
    pub head: Position,
}

impl Place {
    /// How far the group is behind, in positions.
    pub fn lag(&self) -> i64 {
        (self.head.0 - self.applied.0).max(0)
    }
}

/// A move of a group's progress in one partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step<'a> {
    /// The partition.
    pub partition: &'a str,
    /// The progress before.
    pub from: Position,
    /// The progress after.
    pub to: Position,
}

/// Moves a group's progress in the transaction of its effects, only if it still is where the caller believes it to be in
/// each of these partitions. `false` means fenced: somebody else has moved it, and the caller must roll back.
pub async fn advance(
    tx: &mut Tx,
    group: &str,
    steps: &[Step<'_>],
    now: DateTime<Utc>,
) -> Result<bool, StoreError> {
    const ALL: &str = "
        UPDATE group_progress SET position = step.after, updated_at = $1
        FROM UNNEST($2::text[], $3::bigint[], $4::bigint[]) AS step (partition, before, after)
        WHERE group_name = $5 AND group_progress.partition = step.partition AND position = step.before";
    // A partition that was never read may have no row yet.
    let (known, new): (Vec<&Step<'_>>, Vec<&Step<'_>>) = steps.iter().partition(|step| step.from.0 > 0);
    let mut single = new;
    match tx.0.raw() {
        Raw::Pg(c) if known.len() > 1 => {
            let moved = sqlx::query(ALL)
                .bind(now)
                .bind(known.iter().map(|step| step.partition).collect::<Vec<_>>())
                .bind(known.iter().map(|step| step.from.0).collect::<Vec<_>>())
                .bind(known.iter().map(|step| step.to.0).collect::<Vec<_>>())
                .bind(group)
                .execute(c)
                .await?
                .rows_affected();
            if usize::try_from(moved) != Ok(known.len()) {
                return Ok(false);
            }
        }
        _ => single.extend(known),
    }
    for step in single {
        if !advance_one(tx, group, *step, now).await? {
            return Ok(false);
        }
    }
    Ok(true)
}

async fn advance_one(
    tx: &mut Tx,
    group: &str,
    Step { partition, from, to }: Step<'_>,
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

/// Makes a row, or raises it if it is lower.
async fn raise(
    tx: &mut Tx,
    group: &str,
    partition: &str,
    to: Position,
    now: DateTime<Utc>,
) -> Result<(), StoreError> {
    const SQL: &str = "
        INSERT INTO group_progress (group_name, partition, position, updated_at) VALUES ($1, $2, $3, $4)
        ON CONFLICT (group_name, partition) DO UPDATE SET position = excluded.position, updated_at = excluded.updated_at
        WHERE group_progress.position < excluded.position";
    on!(tx, |c| sqlx::query(SQL)
        .bind(group)
        .bind(partition)
        .bind(to.0)
        .bind(now)
        .execute(c)
        .await
        .map(drop)?);
    Ok(())
}
