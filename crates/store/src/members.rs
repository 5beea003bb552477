//! Who belongs to a project. A change of it is a change of the project.

use std::{cmp::Reverse, collections::HashMap};

use chrono::{DateTime, Utc};
use sqlx::FromRow;
use taskpost_common::{
    Event, EventId, ProjectId, UserId,
    event::{ProjectDeleted, ProjectMemberEvent, ProjectMemberRemoved, ProjectMemberRoleChanged},
    project::{Member, Project, ProjectRole},
};
use uuid::Uuid;

use crate::{
    Change, MAX_BATCH, Session, StoreError, Tx,
    db::on,
    dynamic::{Bind, Statement},
    events::{self, NewEvent, SeenBy},
    projects,
};

/// How many pairs are asked for at once; few texts of statements exist, and each stays prepared.
const CHUNK: usize = 64;

/// Where a page of members starts: behind (or, walking back, before) this one.
#[derive(Clone, Copy, Debug)]
pub struct MemberPlace {
    /// Since when they belong to it.
    pub at: DateTime<Utc>,
    /// Who.
    pub user_id: UserId,
    /// Walk against the order; the rows still come back in it.
    pub backwards: bool,
}

/// Up to `limit` members of a project, in the order they came.
pub async fn list(
    session: &mut Session,
    project: ProjectId,
    after: Option<MemberPlace>,
    limit: usize,
) -> Result<Vec<Member>, StoreError> {
    let backwards = after.is_some_and(|after| after.backwards);
    let mut statement = Statement::new(
        "SELECT m.user_id, users.handle, users.name, m.role, m.added_at
        FROM members AS m JOIN users ON users.id = m.user_id WHERE m.project_id = ",
    );
    statement.bind(Bind::Uuid(project.0));
    if let Some(after) = after {
        statement.push(if backwards {
            " AND (m.added_at, m.user_id) < ("
        } else {
            " AND (m.added_at, m.user_id) > ("
        });
        statement.bind(Bind::Time(after.at)).push(", ").bind(Bind::Uuid(after.user_id.0)).push(")");
    }
    statement.push(if backwards {
        " ORDER BY m.added_at DESC, m.user_id DESC LIMIT "
    } else {
        " ORDER BY m.added_at, m.user_id LIMIT "
    });
    statement.bind(Bind::Int(i64::try_from(limit).unwrap_or(i64::MAX)));
    let rows: Vec<Row> = statement.fetch_all(session).await?;
    let mut members: Vec<Member> = rows.into_iter().map(Member::from).collect();
    if backwards {
        members.reverse();
    }
    Ok(members)
}

/// One member of a project.
pub async fn get(
    session: &mut Session,
    project: ProjectId,
    user: UserId,
) -> Result<Option<Member>, StoreError> {
    const SQL: &str = "
        SELECT m.user_id, users.handle, users.name, m.role, m.added_at
        FROM members AS m JOIN users ON users.id = m.user_id WHERE m.project_id = $1 AND m.user_id = $2";
    let row: Option<Row> =
        on!(session, |c| sqlx::query_as(SQL).bind(project.0).bind(user.0).fetch_optional(c).await?);
    Ok(row.map(Member::from))
}

/// What these users may do in these projects as members; who is none is left out.
pub async fn roles(
    session: &mut Session,
    pairs: &[(ProjectId, UserId)],
) -> Result<HashMap<(ProjectId, UserId), ProjectRole>, StoreError> {
    let mut found = HashMap::with_capacity(pairs.len());
    for pairs in pairs.chunks(CHUNK) {
        let mut statement = Statement::new("SELECT m.project_id, m.user_id, m.role FROM (VALUES ");
        for (i, (project, user)) in pairs.iter().enumerate() {
            statement.push(if i == 0 { "(" } else { ", (" }).bind(Bind::Uuid(project.0)).push(", ");
            statement.bind(Bind::Uuid(user.0)).push(")");
        }
        statement.push(
            ") AS wanted, members AS m WHERE m.project_id = wanted.column1 AND m.user_id = wanted.column2",
        );
        let rows: Vec<(Uuid, Uuid, String)> = statement.fetch_all(session).await?;
        for (project, user, role) in rows {
            found.insert((ProjectId(project), UserId(user)), role_of(&role)?);
        }
    }
    Ok(found)
}

/// How many members a project has.
pub async fn count(session: &mut Session, project: ProjectId) -> Result<i64, StoreError> {
    const SQL: &str = "SELECT count(*) FROM members WHERE project_id = $1";
    let (count,): (i64,) = on!(session, |c| sqlx::query_as(SQL).bind(project.0).fetch_one(c).await?);
    Ok(count)
}

/// Whether a project has an owner besides this user whose account may be used.
pub async fn has_other_owner(
    session: &mut Session,
    project: ProjectId,
    user: UserId,
) -> Result<bool, StoreError> {
    const SQL: &str = "
        SELECT EXISTS (
            SELECT 1 FROM members AS m JOIN users ON users.id = m.user_id
            WHERE m.project_id = $1 AND m.user_id <> $2 AND m.role = 'owner' AND users.status = 'active')";
    let (exists,): (bool,) =
        on!(session, |c| sqlx::query_as(SQL).bind(project.0).bind(user.0).fetch_one(c).await?);
    Ok(exists)
}

/// Adds a member and appends `project.member_added`. [`StoreError::Constraint`] when they are one already,
/// [`StoreError::Stale`] when the project is no longer at `project`'s version.
pub async fn add(
    tx: &mut Tx,
    change: Change<'_>,
    project: &Project,
    user_id: UserId,
    role: ProjectRole,
) -> Result<(Project, EventId), StoreError> {
    let project = projects::raise(tx, change, project).await?;
    insert(tx, project.id, user_id, role, project.updated_at).await?;
    let fact = Event::ProjectMemberAdded(ProjectMemberEvent { project: project.reference(), user_id, role });
    let event = projects::record(tx, change, &project, &fact, Some(user_id)).await?;
    Ok((project, event))
}

/// Gives a member another role and appends `project.member_role_changed`. [`StoreError::Stale`] when the
/// project is no longer at `project`'s version.
pub async fn change_role(
    tx: &mut Tx,
    change: Change<'_>,
    project: &Project,
    member: &Member,
    role: ProjectRole,
) -> Result<(Project, EventId), StoreError> {
    const SQL: &str = "UPDATE members SET role = $1 WHERE project_id = $2 AND user_id = $3";
    let project = projects::raise(tx, change, project).await?;
    on!(tx, |c| sqlx::query(SQL)
        .bind(role.as_str())
        .bind(project.id.0)
        .bind(member.user_id.0)
        .execute(c)
        .await
        .map(drop)?);
    let fact = Event::ProjectMemberRoleChanged(ProjectMemberRoleChanged {
        project: project.reference(),
        user_id: member.user_id,
        role,
        previous_role: member.role,
    });
    let event = projects::record(tx, change, &project, &fact, Some(member.user_id)).await?;
    Ok((project, event))
}

/// Removes a member and appends `project.member_removed`. [`StoreError::Stale`] when the project is no longer
/// at `project`'s version.
pub async fn remove(
    tx: &mut Tx,
    change: Change<'_>,
    project: &Project,
    member: &Member,
) -> Result<(Project, EventId), StoreError> {
    const SQL: &str = "DELETE FROM members WHERE project_id = $1 AND user_id = $2";
    let project = projects::raise(tx, change, project).await?;
    on!(tx, |c| sqlx::query(SQL).bind(project.id.0).bind(member.user_id.0).execute(c).await.map(drop)?);
    let fact = removed(&project, member.user_id, member.role, false);
    let event = projects::record(tx, change, &project, &fact, Some(member.user_id)).await?;
    Ok((project, event))
}

/// Stores a member, without an event.
pub(crate) async fn insert(
    tx: &mut Tx,
    project: ProjectId,
    user: UserId,
    role: ProjectRole,
    at: DateTime<Utc>,
) -> Result<(), StoreError> {
    const SQL: &str = "INSERT INTO members (project_id, user_id, role, added_at) VALUES ($1, $2, $3, $4)";
    on!(tx, |c| sqlx::query(SQL)
        .bind(project.0)
        .bind(user.0)
        .bind(role.as_str())
        .bind(at)
        .execute(c)
        .await
        .map(drop)?);
    Ok(())
}

/// Removes all members of a project whose version is raised already, each with its event, and gives the first of them
/// by their roles and how many there were.
pub(crate) async fn delete_all(
    tx: &mut Tx,
    change: Change<'_>,
    project: &Project,
) -> Result<(Vec<UserId>, i64), StoreError> {
    const SQL: &str = "DELETE FROM members WHERE project_id = $1 RETURNING user_id, role";
    let rows: Vec<(Uuid, String)> = on!(tx, |c| sqlx::query_as(SQL).bind(project.id.0).fetch_all(c).await?);
    let mut members = Vec::with_capacity(rows.len());
    for (user, role) in rows {
        members.push((Reverse(role_of(&role)?), UserId(user)));
    }
    members.sort_unstable();
    for members in members.chunks(MAX_BATCH) {
        let mut gone = Vec::with_capacity(members.len());
        for (Reverse(role), user) in members {
            let fact = removed(project, *user, *role, true);
            let seen_by = SeenBy { assignee_id: Some(*user), ..projects::seen_by(project.id) };
            gone.push(NewEvent::new(change, &fact, project.id.0, project.version, seen_by)?);
        }
        events::append(tx, &gone.iter().collect::<Vec<_>>()).await?;
    }
    let count = i64::try_from(members.len()).unwrap_or(i64::MAX);
    Ok((members.into_iter().take(ProjectDeleted::NAMED).map(|(_, user)| user).collect(), count))
}

/// A role as it stands in its column.
pub(crate) fn role_of(word: &str) -> Result<ProjectRole, StoreError> {
    word.parse::<ProjectRole>().map_err(|error| StoreError::Corrupt(error.to_string()))
}

/// That somebody is out; `cascade` with the whole project.
fn removed(project: &Project, user_id: UserId, role: ProjectRole, cascade: bool) -> Event {
    Event::ProjectMemberRemoved(ProjectMemberRemoved { project: project.reference(), user_id, role, cascade })
}

#[derive(FromRow)]
struct Row {
    #[sqlx(try_from = "Uuid")]
    user_id: UserId,
    handle: String,
    name: String,
    #[sqlx(try_from = "String")]
    role: ProjectRole,
    added_at: DateTime<Utc>,
}

impl From<Row> for Member {
    fn from(row: Row) -> Self {
        Self {
            user_id: row.user_id,
            handle: row.handle,
            name: row.name,
            role: row.role,
            added_at: row.added_at,
        }
    }
}
