//! Who belongs to a project, and what they may do there.

use chrono::{DateTime, Utc};
use serde::Deserialize;
use serde_json::json;
use taskpost_common::{
    EventId, ProjectId, UserId,
    page::Direction,
    project::{Member, ProjectRole},
    user::UserStatus,
    watch::{WatchLevel, WatchSubject},
};
use taskpost_store::{
    Change, Session, Tx, Viewer,
    audit::{self, NewAudit},
    members::{self, MemberPlace},
    tasks, users, watches,
};
use utoipa::ToSchema;

use crate::{
    Answered, Caller, Error, Once, Part, Tracker,
    access::{in_project, require},
    pages::{Cursors, Page, PageRequest},
    projects::hold,
};

/// In a project of so many people, new ones are not told of everything.
const CROWD: i64 = 20;

/// Somebody who is to belong to a project.
#[derive(Clone, Copy, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AddMember {
    /// Who.
    pub user_id: UserId,
    /// What they may do; member when absent.
    #[serde(default)]
    pub role: Option<ProjectRole>,
}

/// What a member is to be allowed.
#[derive(Clone, Copy, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ChangeRole {
    /// The new role.
    pub role: ProjectRole,
}

impl Tracker {
    /// A page of the members of a project, in the order they came.
    pub async fn members(
        &self,
        caller: &Caller,
        id: ProjectId,
        page: PageRequest,
    ) -> Result<Page<Member>, Error> {
        let mut reader = self.0.db.reader().await?;
        in_project(&mut reader, caller.viewer(), id, ProjectRole::Viewer).await?;
        let scope = format!("members {} {id}", caller.user_id());
        let cursors = Cursors { key: &self.0.cursors, scope, now: self.0.clock.now() };
        let start = cursors.open::<(DateTime<Utc>, UserId)>(page.cursor.as_deref())?;
        let after = start.map(|(way, (at, user_id))| MemberPlace {
            at,
            user_id,
            backwards: way == Direction::Previous,
        });
        let rows = members::list(&mut reader, id, after, page.limit + 1).await?;
        cursors.page(rows, page.limit, start.map(|(way, _)| way), |member| (member.added_at, member.user_id))
    }

    /// One member of a project.
    pub async fn member(&self, caller: &Caller, id: ProjectId, user: UserId) -> Result<Part<Member>, Error> {
        let mut reader = self.0.db.reader().await?;
        let (project, _) = in_project(&mut reader, caller.viewer(), id, ProjectRole::Viewer).await?;
        Ok(Part::of(&project, found(&mut reader, id, user).await?))
    }

    /// Adds a member, who watches the project from now on.
    pub async fn add_member(
        &self,
        caller: &Caller,
        id: ProjectId,
        input: AddMember,
        once: Once<Part<Member>>,
    ) -> Result<Answered, Error> {
        let viewer = caller.viewer();
        self.change_once(caller, once, move |tx, change| {
            Box::pin(async move {
                let (project, own) = hold(tx, viewer, id, ProjectRole::Maintainer, None).await?;
                let (user, role) = (input.user_id, input.role.unwrap_or(ProjectRole::Member));
                may_give(own, role)?;
                require_active(tx, user).await?;
                if members::get(tx, id, user).await?.is_some() {
                    return Err(Error::Conflict(
                        "they belong to the project already; change their role instead".to_owned(),
                    ));
                }
                let (project, event) = members::add(tx, change, &project, user, role).await?;
                let crowded = members::count(tx, id).await? >= CROWD;
                let level = if crowded { WatchLevel::Participating } else { WatchLevel::All };
                watches::set(tx, change, WatchSubject::Project, id.0, &[user], level, false).await?;
                record(tx, change, (id, user), "member.added", json!({"role": role})).await?;
                Ok((Part::of(&project, found(tx, id, user).await?), Some(event)))
            })
        })
        .await
    }

    /// Gives a member another role.
    pub async fn change_member_role(
        &self,
        caller: &Caller,
        (id, user): (ProjectId, UserId),
        input: ChangeRole,
        if_match: Option<i64>,
    ) -> Result<(Part<Member>, Option<EventId>), Error> {
        let viewer = caller.viewer();
        self.change(&caller.cause, move |tx, change| {
            Box::pin(async move {
                let (project, own) = hold(tx, viewer, id, ProjectRole::Maintainer, if_match).await?;
                let mut member = found(tx, id, user).await?;
                may_give(own, input.role)?;
                may_give(own, member.role)?;
                if member.role == input.role {
                    return Ok((Part::of(&project, member), None));
                }
                if member.role == ProjectRole::Owner {
                    keep_an_owner(tx, id, user).await?;
                }
                let (project, event) =
                    members::change_role(tx, change, &project, &member, input.role).await?;
                let detail = json!({"from": member.role, "to": input.role});
                record(tx, change, (id, user), "member.role_changed", detail).await?;
                member.role = input.role;
                Ok((Part::of(&project, member), Some(event)))
            })
        })
        .await
    }

    /// Takes a member out of a project and their tasks there from them; everybody may leave.
    pub async fn remove_member(
        &self,
        caller: &Caller,
        (id, user): (ProjectId, UserId),
        if_match: Option<i64>,
    ) -> Result<EventId, Error> {
        let viewer = caller.viewer();
        self.change_large(&caller.cause, move |tx, change| {
            Box::pin(async move { remove(tx, change, viewer, (id, user), if_match).await })
        })
        .await
    }
}

async fn remove(
    tx: &mut Tx,
    change: Change<'_>,
    viewer: Viewer,
    (id, user): (ProjectId, UserId),
    if_match: Option<i64>,
) -> Result<EventId, Error> {
    let leaves = user == viewer.user_id;
    let least = if leaves { ProjectRole::Viewer } else { ProjectRole::Maintainer };
    let (project, own) = hold(tx, viewer, id, least, if_match).await?;
    let member = found(tx, id, user).await?;
    if !leaves {
        may_give(own, member.role)?;
    }
    if member.role == ProjectRole::Owner {
        keep_an_owner(tx, id, user).await?;
    }
    tasks::unassign_in_project(tx, change, id, user).await?;
    let (_, event) = members::remove(tx, change, &project, &member).await?;
    watches::forget_given(tx, WatchSubject::Project, id.0, user).await?;
    record(tx, change, (id, user), "member.removed", json!({"role": member.role})).await?;
    Ok(event)
}

async fn found(session: &mut Session, id: ProjectId, user: UserId) -> Result<Member, Error> {
    members::get(session, id, user).await?.ok_or(Error::NotFound("member"))
}

/// Only owners give and take the role owner.
fn may_give(own: ProjectRole, role: ProjectRole) -> Result<(), Error> {
    if role == ProjectRole::Owner { require(own, ProjectRole::Owner) } else { Ok(()) }
}

/// A project must not be left without an owner who can log in.
async fn keep_an_owner(session: &mut Session, id: ProjectId, user: UserId) -> Result<(), Error> {
    if members::has_other_owner(session, id, user).await? {
        return Ok(());
    }
    Err(Error::Conflict("this is the project's last owner; make somebody else an owner first".to_owned()))
}

async fn require_active(session: &mut Session, user: UserId) -> Result<(), Error> {
    match users::get(session, user).await? {
        Some(found) if found.status == UserStatus::Active => Ok(()),
        _ => Err(Error::field("/user_id", "unknown_user", format!("there is no active user {user}"))),
    }
}

async fn record(
    tx: &mut Tx,
    change: Change<'_>,
    (project, user): (ProjectId, UserId),
    action: &'static str,
    detail: serde_json::Value,
) -> Result<(), Error> {
    let row =
        NewAudit { action, subject_type: "user", subject_id: user.0, project_id: Some(project), detail };
    Ok(audit::record(tx, change, row).await?)
}
