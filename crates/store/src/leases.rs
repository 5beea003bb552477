//! Which process does what only one needs to do. A lease saves work; what must not happen twice is fenced elsewhere.

use chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::{Db, Session, StoreError, db::on};

/// Takes or renews a lease until `until`; `false` while somebody else holds it, which costs a look and no write.
///
/// On Postgres the server's clock decides and `now` tells only how long the lease lasts: processes whose clocks differ
/// would take it from one another, or leave it to the dead.
pub async fn take(
    db: &Db,
    name: &str,
    holder: Uuid,
    now: DateTime<Utc>,
    until: DateTime<Utc>,
) -> Result<bool, StoreError> {
    const SQLITE: &str = "
        INSERT INTO leases (name, holder, until)
        SELECT $1, $2, $3 WHERE NOT EXISTS (SELECT 1 FROM leases WHERE name = $1 AND holder <> $2 AND until > $4)
        ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, until = excluded.until
        WHERE leases.holder = excluded.holder OR leases.until <= $4";
    const POSTGRES: &str = "
        INSERT INTO leases (name, holder, until)
        SELECT $1, $2, clock_timestamp() + ($3 - $4)
        WHERE NOT EXISTS (SELECT 1 FROM leases WHERE name = $1 AND holder <> $2 AND until > clock_timestamp())
        ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, until = excluded.until
        WHERE leases.holder = excluded.holder OR leases.until <= clock_timestamp()";
    let mut tx = db.begin().await?;
    let sql = if tx.is_postgres() { POSTGRES } else { SQLITE };
    let rows = on!(tx, |c| sqlx::query(sql)
        .bind(name)
        .bind(holder)
        .bind(until)
        .bind(now)
        .execute(c)
        .await?
        .rows_affected());
    tx.commit().await?;
    Ok(rows == 1)
}

/// Whether the lease is still this holder's: nobody has taken it since.
pub async fn holds(session: &mut Session, name: &str, holder: Uuid) -> Result<bool, StoreError> {
    const SQL: &str = "SELECT count(*) FROM leases WHERE name = $1 AND holder = $2";
    let (rows,): (i64,) = on!(session, |c| sqlx::query_as(SQL).bind(name).bind(holder).fetch_one(c).await?);
    Ok(rows == 1)
}

/// Gives a lease back, so that the next one need not wait for its end.
pub async fn give_back(db: &Db, name: &str, holder: Uuid) -> Result<(), StoreError> {
    const SQL: &str = "DELETE FROM leases WHERE name = $1 AND holder = $2";
    let mut tx = db.begin().await?;
    on!(tx, |c| sqlx::query(SQL).bind(name).bind(holder).execute(c).await.map(drop)?);
    tx.commit().await
}
