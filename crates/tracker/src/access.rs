//! What somebody may do in a project.

use taskpost_common::{
    ProjectId,
    project::{Project, ProjectRole},
};
use taskpost_store::{Session, Viewer, projects};

use crate::Error;

/// The project and what the viewer may do there, if that is at least `least`. Who may not read it is told that there is
/// none; who may, that this needs more.
pub(crate) async fn in_project(
    session: &mut Session,
    viewer: Viewer,
    id: ProjectId,
    least: ProjectRole,
) -> Result<(Project, ProjectRole), Error> {
    let found = projects::seen(session, viewer, id).await?;
    let (project, member) = found.ok_or(Error::NotFound("project"))?;
    let role = role(viewer, member);
    require(role, least)?;
    Ok((project, role))
}

/// What somebody may do who may read the project, and is this in it.
pub(crate) fn role(viewer: Viewer, member: Option<ProjectRole>) -> ProjectRole {
    if viewer.admin { ProjectRole::Owner } else { member.unwrap_or(ProjectRole::Viewer) }
}

/// Refuses who may do less than `least`.
pub(crate) fn require(role: ProjectRole, least: ProjectRole) -> Result<(), Error> {
    if role >= least {
        return Ok(());
    }
    Err(Error::Forbidden(match least {
        ProjectRole::Viewer => "this needs a role in the project",
        ProjectRole::Member => "this needs the role member in the project",
        ProjectRole::Maintainer => "this needs the role maintainer in the project",
        ProjectRole::Owner => "this needs the role owner in the project",
    }))
}

/// Refuses changes inside a project that is put away.
pub(crate) fn require_open(project: &Project) -> Result<(), Error> {
    match project.archived_at {
        None => Ok(()),
        Some(_) => {
            Err(Error::Conflict(format!("the project {} is archived; bring it back first", project.key)))
        }
    }
}
