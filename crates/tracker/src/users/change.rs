//! How an account is changed: with its events, its row of the audit log, and the sessions that end by it.

use serde_json::{Value, json};
use taskpost_common::{
    EventId, SessionId, UserId,
    user::{Roles, User, UserStatus},
};
use taskpost_store::{
    Change, Tx,
    audit::{self, NewAudit},
    sessions, users,
};

use crate::Error;

/// What became of an account: as it is now, the last event, and the sessions that ended.
pub(super) type Changed = (User, Option<EventId>, Vec<SessionId>);

/// The user as it stands until the end of the transaction.
pub(super) async fn locked(tx: &mut Tx, id: UserId, if_match: Option<i64>) -> Result<User, Error> {
    let (user, _) = users::for_update(tx, id).await?.ok_or(Error::NotFound("user"))?;
    match if_match {
        Some(version) if version != user.version => Err(Error::Stale { current: user.version }),
        _ => Ok(user),
    }
}

/// Stores name, time zone, locale and status. Who may not log in any more is logged out everywhere.
pub(super) async fn store_fields(
    tx: &mut Tx,
    change: Change<'_>,
    before: &User,
    after: User,
) -> Result<Changed, Error> {
    let fields = users::changed_fields(before, &after);
    let disabled = before.status == UserStatus::Active && after.status == UserStatus::Disabled;
    if disabled {
        keep_an_admin(tx, before).await?;
    }
    let (user, event) = users::update(tx, change, before, after).await?;
    if event.is_none() {
        return Ok((user, None, Vec::new()));
    }
    let (ended, last) =
        if disabled { sessions::revoke_all(tx, change, &user, None).await? } else { (Vec::new(), None) };
    let action = if disabled { "user.disabled" } else { "user.updated" };
    record(tx, change, user.id, action, json!({"fields": fields})).await?;
    Ok((user, last.or(event), ended))
}

/// Stores the roles, and ends the sessions, whose tokens hold the old ones.
pub(crate) async fn store_roles(
    tx: &mut Tx,
    change: Change<'_>,
    before: &User,
    roles: Roles,
) -> Result<Changed, Error> {
    if !roles.is_admin() {
        keep_an_admin(tx, before).await?;
    }
    let (user, event) = users::set_roles(tx, change, before, roles).await?;
    if event.is_none() {
        return Ok((user, None, Vec::new()));
    }
    let (ended, last) = sessions::revoke_all(tx, change, &user, None).await?;
    let detail = json!({"from": before.roles, "to": user.roles});
    record(tx, change, user.id, "user.role_changed", detail).await?;
    Ok((user, last.or(event), ended))
}

/// Refuses to take its rights from the last one who could give them back.
async fn keep_an_admin(tx: &mut Tx, user: &User) -> Result<(), Error> {
    let is_one = user.roles.is_admin() && user.status == UserStatus::Active;
    if is_one && users::other_admins(tx, user.id).await? == 0 {
        let detail = format!("{} is the last active admin; make somebody else admin first", user.handle);
        return Err(Error::Conflict(detail));
    }
    Ok(())
}

async fn record(
    tx: &mut Tx,
    change: Change<'_>,
    user: UserId,
    action: &'static str,
    detail: Value,
) -> Result<(), Error> {
    let row = NewAudit { action, subject_type: "user", subject_id: user.0, project_id: None, detail };
    Ok(audit::record(tx, change, row).await?)
}
