//! Reading projects, for those who may: members, everyone when it is internal, and admins.

use std::collections::HashMap;

use sqlx::FromRow;
use taskpost_common::{
    ProjectId, UserId,
    project::{Project, ProjectRole, Visibility},
};
use uuid::Uuid;

use super::ProjectRow;
use crate::{
    MAX_BATCH, Session, Start, StoreError, Tx, Viewer,
    db::{Raw, on},
    dynamic::{Bind, Statement, containing},
    members,
};

/// A project, whoever asks: for what the system does itself.
pub async fn get(session: &mut Session, id: ProjectId) -> Result<Option<Project>, StoreError> {
    const SQL: &str = "SELECT * FROM projects WHERE id = $1";
    let row: Option<ProjectRow> = on!(session, |c| sqlx::query_as(SQL).bind(id.0).fetch_optional(c).await?);
    row.map(Project::try_from).transpose()
}

/// Projects by their ids, whoever asks, in no order; those that do not exist are left out.
pub async fn by_ids(session: &mut Session, ids: &[ProjectId]) -> Result<Vec<Project>, StoreError> {
    let mut projects = Vec::with_capacity(ids.len());
    for ids in ids.chunks(MAX_BATCH) {
        let mut statement = Statement::new("SELECT * FROM projects WHERE id IN ");
        statement.list(ids.iter().map(|id| Bind::Uuid(id.0)));
        let rows: Vec<ProjectRow> = statement.fetch_all(session).await?;
        projects.extend(rows.into_iter().map(Project::try_from).collect::<Result<Vec<_>, _>>()?);
    }
    Ok(projects)
}

/// As [`by_ids`], at most [`MAX_BATCH`] and in the order of their ids, each kept from other changes until the
/// transaction ends. Where somebody else keeps one for longer than a moment, [`StoreError::Locked`].
pub async fn hold_all(tx: &mut Tx, ids: &[ProjectId]) -> Result<Vec<Project>, StoreError> {
    const IMPATIENT: &str = "SET LOCAL lock_timeout = '200ms'";
    const PATIENT: &str = "SET LOCAL lock_timeout = '2s'";
    if !tx.is_postgres() {
        // There is one writer.
        return by_ids(tx, ids).await;
    }
    let mut statement = Statement::new("SELECT * FROM projects WHERE id IN ");
    statement.list(ids.iter().map(|id| Bind::Uuid(id.0))).push(" ORDER BY id FOR NO KEY UPDATE");
    on!(tx, |c| sqlx::query(IMPATIENT).execute(c).await.map(drop)?);
    let rows: Vec<ProjectRow> = statement.fetch_all(tx).await?;
    on!(tx, |c| sqlx::query(PATIENT).execute(c).await.map(drop)?);
    rows.into_iter().map(Project::try_from).collect()
}

/// A project, if the viewer may read it, and the viewer's own role as a member.
pub async fn seen(
    session: &mut Session,
    viewer: Viewer,
    id: ProjectId,
) -> Result<Option<(Project, Option<ProjectRole>)>, StoreError> {
    const SQL: &str = "
        SELECT projects.*, members.role AS member_role FROM projects
        LEFT JOIN members ON members.project_id = projects.id AND members.user_id = $1
        WHERE projects.id = $2 AND ($3 OR projects.visibility = 'internal' OR members.role IS NOT NULL)";
    #[derive(FromRow)]
    struct Seen {
        #[sqlx(flatten)]
        project: ProjectRow,
        member_role: Option<String>,
    }
    let found: Option<Seen> = on!(session, |c| sqlx::query_as(SQL)
        .bind(viewer.user_id.0)
        .bind(id.0)
        .bind(viewer.admin)
        .fetch_optional(c)
        .await?);
    let Some(found) = found else { return Ok(None) };
    let role = found.member_role.as_deref().map(members::role_of).transpose()?;
    Ok(Some((found.project.try_into()?, role)))
}

/// Which of these keys are taken.
pub async fn taken_keys(session: &mut Session, keys: &[String]) -> Result<Vec<String>, StoreError> {
    let mut statement = Statement::new("SELECT key FROM projects WHERE key IN ");
    statement.list(keys.iter().cloned().map(Bind::Text));
    let rows: Vec<(String,)> = statement.fetch_all(session).await?;
    Ok(rows.into_iter().map(|(key,)| key).collect())
}

/// Up to `limit` of the projects that a user who is no admin may read, in no order.
pub async fn readable_ids(
    session: &mut Session,
    user: UserId,
    limit: usize,
) -> Result<Vec<ProjectId>, StoreError> {
    const SQL: &str = "
        SELECT id FROM projects WHERE visibility = 'internal'
        UNION SELECT project_id FROM members WHERE user_id = $1 LIMIT $2";
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let rows: Vec<(Uuid,)> =
        on!(session, |c| sqlx::query_as(SQL).bind(user.0).bind(limit).fetch_all(c).await?);
    Ok(rows.into_iter().map(|(id,)| ProjectId(id)).collect())
}

/// Those of these projects that a user who is no admin may read, in no order.
pub async fn readable_among(
    session: &mut Session,
    user: UserId,
    ids: &[ProjectId],
) -> Result<Vec<ProjectId>, StoreError> {
    let mut readable = Vec::with_capacity(ids.len());
    for ids in ids.chunks(MAX_BATCH) {
        let mut statement = Statement::new("SELECT id FROM projects WHERE id IN ");
        statement.list(ids.iter().map(|id| Bind::Uuid(id.0)));
        statement
            .push(" AND (visibility = 'internal' OR id IN (SELECT project_id FROM members WHERE user_id = ");
        statement.bind(Bind::Uuid(user.0)).push("))");
        let rows: Vec<(Uuid,)> = statement.fetch_all(session).await?;
        readable.extend(rows.into_iter().map(|(id,)| ProjectId(id)));
    }
    Ok(readable)
}

/// Who may read a project, apart from admins.
#[derive(Clone, Debug, Default)]
pub struct Readers {
    /// Whether everyone may.
    pub internal: bool,
    /// Who belongs to it, of those who were asked about.
    pub members: HashMap<UserId, ProjectRole>,
}

impl Readers {
    /// Whether this user, who is no admin, may.
    pub fn may_read(&self, user: UserId) -> bool {
        self.internal || self.members.contains_key(&user)
    }
}

/// Who may read these projects; those that do not exist are left out.
pub async fn readers(
    session: &mut Session,
    ids: &[ProjectId],
) -> Result<HashMap<ProjectId, Readers>, StoreError> {
    let mut found: HashMap<ProjectId, Readers> = HashMap::with_capacity(ids.len());
    for ids in ids.chunks(MAX_BATCH) {
        let mut statement = Statement::new("SELECT id, visibility FROM projects WHERE id IN ");
        statement.list(ids.iter().map(|id| Bind::Uuid(id.0)));
        let rows: Vec<(Uuid, String)> = statement.fetch_all(session).await?;
        for (id, visibility) in rows {
            let internal = visibility == Visibility::Internal.as_str();
            found.insert(ProjectId(id), Readers { internal, members: HashMap::new() });
        }
        let mut statement =
            Statement::new("SELECT project_id, user_id, role FROM members WHERE project_id IN ");
        statement.list(ids.iter().map(|id| Bind::Uuid(id.0)));
        let rows: Vec<(Uuid, Uuid, String)> = statement.fetch_all(session).await?;
        for (project, user, role) in rows {
            if let Some(readers) = found.get_mut(&ProjectId(project)) {
                readers.members.insert(UserId(user), members::role_of(&role)?);
            }
        }
    }
    Ok(found)
}

/// As [`readers`], of these users alone: a project may have many members. One statement for up to [`MAX_BATCH`] of each.
pub async fn readers_among(
    session: &mut Session,
    ids: &[ProjectId],
    users: &[UserId],
) -> Result<HashMap<ProjectId, Readers>, StoreError> {
    // One text for any number, so that its plan is kept.
    const POSTGRES: &str = "
        SELECT p.id, p.visibility, m.user_id, m.role FROM projects AS p
        LEFT JOIN members AS m ON m.project_id = p.id AND m.user_id = ANY($2) WHERE p.id = ANY($1)";
    let mut found: HashMap<ProjectId, Readers> = HashMap::with_capacity(ids.len());
    for ids in ids.chunks(MAX_BATCH) {
        // Without any user, whether everyone may read it is told all the same.
        for users in users.chunks(MAX_BATCH).chain(users.is_empty().then_some(users)) {
            let projects: Vec<Uuid> = ids.iter().map(|id| id.0).collect();
            let people: Vec<Uuid> = users.iter().map(|id| id.0).collect();
            let rows: Vec<ReaderRow> = match session.0.raw() {
                Raw::Pg(c) => sqlx::query_as(POSTGRES).bind(projects).bind(people).fetch_all(c).await?,
                Raw::Lite(_) => among(projects, people).fetch_all(session).await?,
            };
            for (project, visibility, user, role) in rows {
                let internal = visibility == Visibility::Internal.as_str();
                let readers = found
                    .entry(ProjectId(project))
                    .or_insert_with(|| Readers { internal, members: HashMap::new() });
                if let (Some(user), Some(role)) = (user, role) {
                    readers.members.insert(UserId(user), members::role_of(&role)?);
                }
            }
        }
    }
    Ok(found)
}

/// A project, who may read it, and one of its members with the role.
type ReaderRow = (Uuid, String, Option<Uuid>, Option<String>);

fn among(projects: Vec<Uuid>, people: Vec<Uuid>) -> Statement {
    let mut statement = Statement::new(
        "SELECT p.id, p.visibility, m.user_id, m.role FROM projects AS p
        LEFT JOIN members AS m ON m.project_id = p.id AND m.user_id IN ",
    );
    statement.list(people.into_iter().map(Bind::Uuid)).push(" WHERE p.id IN ");
    statement.list(projects.into_iter().map(Bind::Uuid));
    statement
}

/// Which projects are wanted.
#[derive(Clone, Debug, Default)]
pub struct ProjectFilter {
    /// The title has this in it, whatever the case. SQLite knows the case of ASCII letters only.
    pub title: Option<String>,
    /// `true`: archived only; `false`: those that are not.
    pub archived: Option<bool>,
}

impl ProjectFilter {
    fn narrow(&self, statement: &mut Statement, viewer: Viewer) {
        statement.push(" WHERE TRUE");
        if !viewer.admin {
            statement.push(
                " AND (visibility = 'internal' OR id IN (SELECT project_id FROM members WHERE user_id = ",
            );
            statement.bind(Bind::Uuid(viewer.user_id.0)).push("))");
        }
        match self.archived {
            Some(true) => statement.push(" AND archived_at IS NOT NULL"),
            Some(false) => statement.push(" AND archived_at IS NULL"),
            None => statement,
        };
        if let Some(title) = &self.title {
            statement.push(" AND (lower(title) LIKE ").bind(Bind::Text(containing(&title.to_lowercase())));
            statement.push(" ESCAPE '\\' OR title LIKE ").bind(Bind::Text(containing(title)));
            statement.push(" ESCAPE '\\')");
        }
    }
}

/// A page of the projects that the viewer may read, newest first.
pub async fn list(
    session: &mut Session,
    viewer: Viewer,
    filter: &ProjectFilter,
    start: Start<ProjectId>,
    limit: usize,
) -> Result<Vec<Project>, StoreError> {
    let mut statement = Statement::new("SELECT * FROM projects");
    filter.narrow(&mut statement, viewer);
    start.page(&mut statement, limit);
    let rows: Vec<ProjectRow> = statement.fetch_all(session).await?;
    Ok(start.newest_first(rows.into_iter().map(Project::try_from).collect::<Result<_, _>>()?))
}

/// How many projects the filter matches of those that the viewer may read.
pub async fn count(session: &mut Session, viewer: Viewer, filter: &ProjectFilter) -> Result<i64, StoreError> {
    let mut statement = Statement::new("SELECT count(*) FROM projects");
    filter.narrow(&mut statement, viewer);
    let rows: Vec<(i64,)> = statement.fetch_all(session).await?;
    Ok(rows.first().map_or(0, |(count,)| *count))
}
