//! Watches: how much of a project or task somebody wants to hear. They are a person's own affair, so no event
//! tells of them.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use sqlx::FromRow;
use taskpost_common::{
    UserId,
    watch::{Watch, WatchLevel, WatchSubject},
};
use uuid::Uuid;

use crate::{
    Change, MAX_BATCH, Session, StoreError, Tx,
    db::on,
    dynamic::{Bind, Statement},
};

/// Sets the watches of these users; false when what they are to watch is gone. One that its user chose is changed
/// only when `chosen` says that this one is chosen too.
pub async fn set(
    tx: &mut Tx,
    change: Change<'_>,
    watch: WatchSubject,
    id: Uuid,
    users: &[UserId],
    level: WatchLevel,
    chosen: bool,
) -> Result<bool, StoreError> {
    const SQL: &str = "
        INSERT INTO watches (subject_type, subject_id, user_id, level, chosen, updated_at)
        VALUES ($1, $2, $3, $4, $5, $6)
        ON CONFLICT (subject_type, subject_id, user_id) DO UPDATE
        SET level = excluded.level, chosen = excluded.chosen, updated_at = excluded.updated_at
        WHERE excluded.chosen OR (NOT watches.chosen AND watches.level <> excluded.level)";
    if !hold(tx, watch, id).await? {
        return Ok(false);
    }
    for user in users {
        on!(tx, |c| sqlx::query(SQL)
            .bind(watch.as_str())
            .bind(id)
            .bind(user.0)
            .bind(level.as_str())
            .bind(chosen)
            .bind(change.clock.now())
            .execute(c)
            .await
            .map(drop)?);
    }
    Ok(true)
}

/// Keeps what is watched from being deleted until the transaction ends, so that no watch outlives it; false when it is
/// gone. On SQLite the one writer keeps it.
async fn hold(tx: &mut Tx, watch: WatchSubject, id: Uuid) -> Result<bool, StoreError> {
    let sql = match (watch, tx.is_postgres()) {
        (WatchSubject::Project, true) => "SELECT id FROM projects WHERE id = $1 FOR KEY SHARE",
        (WatchSubject::Project, false) => "SELECT id FROM projects WHERE id = $1",
        (WatchSubject::Task, true) => "SELECT id FROM tasks WHERE id = $1 FOR KEY SHARE",
        (WatchSubject::Task, false) => "SELECT id FROM tasks WHERE id = $1",
    };
    let held: Option<(Uuid,)> = on!(tx, |c| sqlx::query_as(sql).bind(id).fetch_optional(c).await?);
    Ok(held.is_some())
}

/// A user's watch, if there is one.
pub async fn get(
    session: &mut Session,
    watch: WatchSubject,
    id: Uuid,
    user: UserId,
) -> Result<Option<Watch>, StoreError> {
    const SQL: &str = "SELECT * FROM watches WHERE subject_type = $1 AND subject_id = $2 AND user_id = $3";
    let row: Option<Row> = on!(session, |c| sqlx::query_as(SQL)
        .bind(watch.as_str())
        .bind(id)
        .bind(user.0)
        .fetch_optional(c)
        .await?);
    Ok(row.map(Watch::from))
}

/// Who watches each of these, and how much they want to hear.
pub async fn levels(
    session: &mut Session,
    watch: WatchSubject,
    ids: &[Uuid],
) -> Result<HashMap<Uuid, Vec<(UserId, WatchLevel)>>, StoreError> {
    let mut found: HashMap<Uuid, Vec<(UserId, WatchLevel)>> = HashMap::new();
    for ids in ids.chunks(MAX_BATCH) {
        let mut statement =
            Statement::new("SELECT subject_id, user_id, level FROM watches WHERE subject_type = ");
        statement.bind(Bind::Text(watch.as_str().to_owned())).push(" AND subject_id IN ");
        statement.list(ids.iter().map(|id| Bind::Uuid(*id)));
        let rows: Vec<(Uuid, Uuid, String)> = statement.fetch_all(session).await?;
        for (id, user, level) in rows {
            let level =
                level.parse::<WatchLevel>().map_err(|error| StoreError::Corrupt(error.to_string()))?;
            found.entry(id).or_default().push((UserId(user), level));
        }
    }
    Ok(found)
}

/// Forgets a user's watch, unless they chose it.
pub async fn forget_given(
    tx: &mut Tx,
    watch: WatchSubject,
    id: Uuid,
    user: UserId,
) -> Result<(), StoreError> {
    const SQL: &str = "
        DELETE FROM watches WHERE subject_type = $1 AND subject_id = $2 AND user_id = $3 AND NOT chosen";
    on!(tx, |c| sqlx::query(SQL).bind(watch.as_str()).bind(id).bind(user.0).execute(c).await.map(drop)?);
    Ok(())
}

/// Forgets every watch of what was deleted before in this transaction: nobody can set one any more.
pub(crate) async fn forget(tx: &mut Tx, watch: WatchSubject, id: Uuid) -> Result<(), StoreError> {
    const SQL: &str = "DELETE FROM watches WHERE subject_type = $1 AND subject_id = $2";
    on!(tx, |c| sqlx::query(SQL).bind(watch.as_str()).bind(id).execute(c).await.map(drop)?);
    Ok(())
}

#[derive(FromRow)]
struct Row {
    #[sqlx(try_from = "String")]
    subject_type: WatchSubject,
    subject_id: Uuid,
    #[sqlx(try_from = "String")]
    level: WatchLevel,
    chosen: bool,
    updated_at: DateTime<Utc>,
}

impl From<Row> for Watch {
    fn from(row: Row) -> Self {
        Self {
            subject_type: row.subject_type,
            subject_id: row.subject_id,
            level: row.level,
            chosen: row.chosen,
            updated_at: row.updated_at,
        }
    }
}
