//! How far the relay has put events into Kafka, and whether Kafka still is as the relay left it.
//!
//! In `group_progress`: of the group `relay` the row '' is the cursor, up to which everything is acknowledged, and
//! `work/3` the last position put into that partition, at first the one that Kafka began behind. `relay.offsets` keeps the
//! offset it got there, `relay.partitions` how many partitions a topic had.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use taskpost_common::Position;

use super::{Step, advance, get, place::Rows, raise};
use crate::{Db, MAX_BATCH, Session, StoreError, Tx, bulk::insert_many, db::on};

pub(super) const RELAY: &str = "relay";
const OFFSETS: &str = "relay.offsets";
const PARTITIONS: &str = "relay.partitions";

/// What is in Kafka when the relay begins.
#[derive(Clone, Copy, Debug)]
pub struct Found<'a> {
    /// By topic, how many partitions it has.
    pub partitions: &'a BTreeMap<String, i64>,
    /// By partition, the offset that its next record gets.
    pub ends: &'a BTreeMap<String, i64>,
    /// It is known that records are gone.
    pub lost: bool,
}

/// Where the relay begins, and why there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Begin {
    /// For the first time: where the group that is furthest behind stands.
    First(Position),
    /// Where it was.
    GoesOn(Position),
    /// Kafka has lost records it had acknowledged, or is another one: where the group that is furthest behind stands.
    Lost(Position),
    /// A topic has another number of partitions than the places of the groups were recorded for, and not everything is
    /// applied: read with other partitions, some of it would be skipped. Nothing is changed.
    Repartitioned {
        /// The topic.
        topic: String,
        /// How many partitions it had.
        had: i64,
        /// How many it has.
        has: i64,
    },
}

/// The last record of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// The event's position.
    pub position: Position,
    /// Its offset, if it is known.
    pub offset: Option<i64>,
}

/// Begins: reads where the relay was, or settles where it begins, for these groups.
pub async fn begin(
    db: &Db,
    groups: &[&str],
    found: Found<'_>,
    now: DateTime<Utc>,
) -> Result<Begin, StoreError> {
    let mut tx = db.begin().await?;
    let begin = settle(&mut tx, groups, found, now).await?;
    tx.commit().await?;
    Ok(begin)
}

async fn settle(
    tx: &mut Tx,
    groups: &[&str],
    found: Found<'_>,
    now: DateTime<Utc>,
) -> Result<Begin, StoreError> {
    let mut places = Places::read(tx, groups).await?;
    let changed = found.partitions.iter().find_map(|(topic, has)| {
        let had = *places.partitions.get(topic)?;
        (had != *has).then(|| Begin::Repartitioned { topic: topic.clone(), had, has: *has })
    });
    if let Some(changed) = changed {
        if !places.all_applied() {
            return Ok(changed);
        }
        // Everything is applied, so '' says it all, and the rows of partitions that are no more hold nobody up.
        for (group, applied) in &places.applied {
            raise(tx, group, "", *applied, now).await?;
        }
        places.offsets.clear();
        forget(tx, OFFSETS).await?;
        forget_heads(tx).await?;
    }
    for (topic, count) in found.partitions {
        put(tx, PARTITIONS, topic, *count, now).await?;
    }
    let Some(cursor) = places.cursor else {
        let first = places.lowest();
        put(tx, RELAY, "", first.0, now).await?;
        if first.0 > 0 {
            // What came before is in no partition; a group that needs it must see that.
            for partition in found.ends.keys() {
                put(tx, RELAY, partition, first.0, now).await?;
            }
        }
        return Ok(Begin::First(first));
    };
    let end = |partition: &str| found.ends.get(partition).copied().unwrap_or_default();
    if !found.lost && !places.offsets.iter().any(|(partition, offset)| end(partition) <= *offset) {
        return Ok(Begin::GoesOn(cursor));
    }
    let lowest = places.lowest().min(cursor);
    put(tx, RELAY, "", lowest.0, now).await?;
    forget(tx, OFFSETS).await?;
    Ok(Begin::Lost(lowest))
}

/// Records how far everything is acknowledged, only if the cursor still is where the caller believes it to be. `false`
/// means that another relay is at work.
pub async fn advance_to(
    db: &Db,
    from: Position,
    to: Position,
    heads: &BTreeMap<String, Head>,
    now: DateTime<Utc>,
) -> Result<bool, StoreError> {
    let mut tx = db.begin().await?;
    if !advance(&mut tx, RELAY, &[Step { partition: "", from, to }], now).await? {
        tx.rollback().await?;
        return Ok(false);
    }
    let positions = heads.iter().map(|(partition, head)| (RELAY, partition.as_str(), head.position.0));
    let offsets =
        heads.iter().filter_map(|(partition, head)| Some((OFFSETS, partition.as_str(), head.offset?)));
    let rows: Vec<(&str, &str, i64)> = positions.chain(offsets).collect();
    for rows in rows.chunks(MAX_BATCH) {
        insert_many!(
            tx,
            "group_progress",
            rows,
            "ON CONFLICT (group_name, partition) DO UPDATE SET position = excluded.position, updated_at = excluded.updated_at
             WHERE group_progress.position < excluded.position",
            |row| {
                group_name: text = row.0,
                partition: text = row.1,
                position: bigint = row.2,
                updated_at: timestamptz = now,
            }
        );
    }
    tx.commit().await?;
    Ok(true)
}

/// Up to where everything is in Kafka; zero before the relay began.
pub async fn cursor(session: &mut Session) -> Result<Position, StoreError> {
    get(session, RELAY, "").await
}

/// By partition, the last position put there.
pub async fn heads(session: &mut Session) -> Result<BTreeMap<String, Position>, StoreError> {
    const SQL: &str =
        "SELECT partition, position FROM group_progress WHERE group_name = $1 AND partition <> ''";
    let rows: Vec<(String, i64)> = on!(session, |c| sqlx::query_as(SQL).bind(RELAY).fetch_all(c).await?);
    Ok(rows.into_iter().map(|(partition, position)| (partition, Position(position))).collect())
}

/// How many partitions a topic has, of those that events are put into; none before the relay began.
pub async fn partitions(session: &mut Session, topic: &str) -> Result<Option<i64>, StoreError> {
    const SQL: &str = "SELECT position FROM group_progress WHERE group_name = $1 AND partition = $2";
    let row: Option<(i64,)> =
        on!(session, |c| sqlx::query_as(SQL).bind(PARTITIONS).bind(topic).fetch_optional(c).await?);
    Ok(row.map(|(count,)| count))
}

/// What is recorded when the relay begins.
#[derive(Debug, Default)]
struct Places {
    cursor: Option<Position>,
    heads: Vec<Position>,
    offsets: BTreeMap<String, i64>,
    partitions: BTreeMap<String, i64>,
    /// By group, up to where it has applied everything.
    applied: Vec<(String, Position)>,
    /// The highest row of each group.
    highest: Vec<Position>,
}

impl Places {
    async fn read(tx: &mut Tx, groups: &[&str]) -> Result<Self, StoreError> {
        const SQL: &str =
            "SELECT group_name, partition, position FROM group_progress WHERE group_name IN ($1, $2, $3)";
        const HIGHEST: &str = "SELECT COALESCE(max(position), 0) FROM group_progress WHERE group_name = $1";
        let rows: Vec<(String, String, i64)> =
            on!(tx, |c| sqlx::query_as(SQL).bind(RELAY).bind(OFFSETS).bind(PARTITIONS).fetch_all(c).await?);
        let mut places = Self::default();
        for (group, partition, position) in rows {
            match (group.as_str(), partition.as_str()) {
                (OFFSETS, _) => drop(places.offsets.insert(partition, position)),
                (PARTITIONS, _) => drop(places.partitions.insert(partition, position)),
                (_, "") => places.cursor = Some(Position(position)),
                _ => places.heads.push(Position(position)),
            }
        }
        for group in groups {
            let applied = Rows::read(tx, group).await?.applied();
            places.applied.push(((*group).to_owned(), applied));
            let (highest,): (i64,) = on!(tx, |c| sqlx::query_as(HIGHEST).bind(*group).fetch_one(c).await?);
            places.highest.push(Position(highest));
        }
        Ok(places)
    }

    /// Where the group that is furthest behind stands; zero without any.
    fn lowest(&self) -> Position {
        self.applied.iter().map(|(_, applied)| *applied).min().unwrap_or_default()
    }

    /// Whether every group has applied all that Kafka was given.
    fn all_applied(&self) -> bool {
        let given = self.cursor.iter().chain(&self.heads).chain(&self.highest).max();
        given.is_none_or(|given| self.applied.iter().all(|(_, applied)| applied >= given))
    }
}

/// Makes a row, or sets it.
async fn put(
    tx: &mut Tx,
    group: &str,
    partition: &str,
    to: i64,
    now: DateTime<Utc>,
) -> Result<(), StoreError> {
    const SQL: &str = "
        INSERT INTO group_progress (group_name, partition, position, updated_at) VALUES ($1, $2, $3, $4)
        ON CONFLICT (group_name, partition) DO UPDATE SET position = excluded.position, updated_at = excluded.updated_at";
    on!(tx, |c| sqlx::query(SQL)
        .bind(group)
        .bind(partition)
        .bind(to)
        .bind(now)
        .execute(c)
        .await
        .map(drop)?);
    Ok(())
}

async fn forget(tx: &mut Tx, group: &str) -> Result<(), StoreError> {
    const SQL: &str = "DELETE FROM group_progress WHERE group_name = $1";
    on!(tx, |c| sqlx::query(SQL).bind(group).execute(c).await.map(drop)?);
    Ok(())
}

async fn forget_heads(tx: &mut Tx) -> Result<(), StoreError> {
    const SQL: &str = "DELETE FROM group_progress WHERE group_name = $1 AND partition <> ''";
    on!(tx, |c| sqlx::query(SQL).bind(RELAY).execute(c).await.map(drop)?);
    Ok(())
}
