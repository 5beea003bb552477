//! Projects: what may be done with them, and how changes of one keep out of each other's way.

mod input;
mod keys;

use serde_json::json;
use taskpost_common::{
    EventId, ProjectId,
    project::{Project, ProjectRole, Visibility},
    watch::{WatchLevel, WatchSubject},
    workflow::Workflow,
};
use taskpost_store::{
    Session, StoreError, Tx, Viewer,
    audit::{self, NewAudit},
    projects::{self, ProjectFilter},
    watches,
};

pub use input::{CreateProject, PatchProject};

use crate::{
    Answered, Caller, Error, Once, Tracker,
    access::{in_project, require_open},
    change::TRIES,
    pages::{Cursors, Page, Paging},
};
use input::{apply, check_new, check_patch};
use keys::{free_key, unless_taken};

/// Something that belongs to a project, with the version that the project has.
#[derive(Clone, Debug)]
pub struct Part<T> {
    /// The project.
    pub project_id: ProjectId,
    /// Its version.
    pub version: i64,
    /// What belongs to it.
    pub part: T,
}

impl<T> Part<T> {
    pub(crate) fn of(project: &Project, part: T) -> Self {
        Self { project_id: project.id, version: project.version, part }
    }
}

impl Tracker {
    /// Makes a project, which its maker owns and watches.
    pub async fn create_project(
        &self,
        caller: &Caller,
        input: CreateProject,
        once: Once<Project>,
    ) -> Result<Answered, Error> {
        check_new(&input)?;
        for attempt in 0..TRIES {
            let again = Once { key: once.key.clone(), render: once.render };
            match self.try_create(caller, input.clone(), attempt, again).await {
                // Somebody took the key meanwhile; looking again tells.
                Err(Error::Store(StoreError::Constraint(_))) => {}
                done => return done,
            }
        }
        Err(Error::Conflict(
            "others make projects of this title at once; try again, or name a key".to_owned(),
        ))
    }

    async fn try_create(
        &self,
        caller: &Caller,
        input: CreateProject,
        attempt: u32,
        once: Once<Project>,
    ) -> Result<Answered, Error> {
        let user = caller.user_id();
        self.change_once(caller, once, move |tx, change| {
            Box::pin(async move {
                let key = match input.key {
                    Some(key) => unless_taken(tx, key).await?,
                    None => free_key(tx, &input.title, attempt).await?,
                };
                let now = change.clock.now();
                let project = Project {
                    id: change.clock.id(),
                    key,
                    title: input.title,
                    description: input.description.unwrap_or_default(),
                    visibility: input.visibility.unwrap_or(Visibility::Private),
                    workflow: Workflow::standard().clone(),
                    archived_at: None,
                    version: 1,
                    created_at: now,
                    updated_at: now,
                };
                let event = projects::insert(tx, change, &project, user).await?;
                let (subject, level) = (WatchSubject::Project, WatchLevel::All);
                watches::set(tx, change, subject, project.id.0, &[user], level, false).await?;
                Ok((project, Some(event)))
            })
        })
        .await
    }

    /// A project that the caller may read.
    pub async fn project(&self, caller: &Caller, id: ProjectId) -> Result<Project, Error> {
        let mut reader = self.0.db.reader().await?;
        readable(&mut reader, caller.viewer(), id).await
    }

    /// A page of the projects that the caller may read, newest first.
    pub async fn projects(
        &self,
        caller: &Caller,
        filter: ProjectFilter,
        page: Paging,
    ) -> Result<Page<Project>, Error> {
        let viewer = caller.viewer();
        let cursors = Cursors {
            key: &self.0.cursors,
            scope: format!("projects {} {filter:?}", viewer.user_id),
            now: self.0.clock.now(),
        };
        let (start, came, limit) = page.start(&cursors)?;
        let mut reader = self.0.db.reader().await?;
        let rows = projects::list(&mut reader, viewer, &filter, start, limit).await?;
        match page {
            Paging::Numbered { .. } => {
                Ok(Page::numbered(rows, projects::count(&mut reader, viewer, &filter).await?))
            }
            Paging::Cursor(page) => cursors.page(rows, page.limit, came, |project| project.id),
        }
    }

    /// Changes a project.
    pub async fn update_project(
        &self,
        caller: &Caller,
        id: ProjectId,
        patch: PatchProject,
        if_match: Option<i64>,
    ) -> Result<(Project, Option<EventId>), Error> {
        check_patch(&patch)?;
        let viewer = caller.viewer();
        self.change(&caller.cause, move |tx, change| {
            Box::pin(async move {
                let (before, _) = hold(tx, viewer, id, ProjectRole::Maintainer, if_match).await?;
                let mut after = before.clone();
                apply(&mut after, patch, change.clock.now());
                let (after, event) = projects::update(tx, change, &before, after).await?;
                if before.visibility != after.visibility {
                    let detail = json!({"from": before.visibility, "to": after.visibility});
                    let row = of_project(&after, "project.visibility_changed", detail);
                    audit::record(tx, change, row).await?;
                }
                Ok((after, event))
            })
        })
        .await
    }

    /// Deletes a project with everything in it; the outcome is the last event.
    pub async fn delete_project(
        &self,
        caller: &Caller,
        id: ProjectId,
        if_match: Option<i64>,
    ) -> Result<EventId, Error> {
        let viewer = caller.viewer();
        self.change_large(&caller.cause, move |tx, change| {
            Box::pin(async move {
                let (project, _) = hold(tx, viewer, id, ProjectRole::Owner, if_match).await?;
                let event = projects::delete(tx, change, &project).await?;
                let detail = json!({"key": project.key, "title": project.title});
                audit::record(tx, change, of_project(&project, "project.deleted", detail)).await?;
                Ok(event)
            })
        })
        .await
    }
}

/// The project, kept from other changes until the transaction ends, and what the viewer may do there, if that
/// is at least `least` and the project is at the version that If-Match names.
pub(crate) async fn hold(
    tx: &mut Tx,
    viewer: Viewer,
    id: ProjectId,
    least: ProjectRole,
    if_match: Option<i64>,
) -> Result<(Project, ProjectRole), Error> {
    // Looked at before as well, so that nobody waits for those who may not change it.
    in_project(tx, viewer, id, least).await?;
    projects::lock(tx, id).await.map_err(held)?;
    let (project, role) = in_project(tx, viewer, id, least).await?;
    match if_match {
        Some(version) if version != project.version => Err(Error::Stale { current: project.version }),
        _ => Ok((project, role)),
    }
}

/// As [`hold`], for maintainers who change what a project has in it; it must not be put away.
pub(crate) async fn hold_open(
    tx: &mut Tx,
    viewer: Viewer,
    id: ProjectId,
    if_match: Option<i64>,
) -> Result<Project, Error> {
    let (project, _) = hold(tx, viewer, id, ProjectRole::Maintainer, if_match).await?;
    require_open(&project)?;
    Ok(project)
}

/// The project, which stays as it is until the transaction ends, beside others who keep it so, if the viewer may do at
/// least `least` there: for changes inside of it, which must fit its members and lists.
pub(crate) async fn keep(
    tx: &mut Tx,
    viewer: Viewer,
    id: ProjectId,
    least: ProjectRole,
) -> Result<Project, Error> {
    in_project(tx, viewer, id, least).await?;
    keep_any(tx, Some(id)).await?;
    Ok(in_project(tx, viewer, id, least).await?.0)
}

/// As [`keep`], whoever asks; nothing where there is no project. What was read of it before is to be read again.
pub(crate) async fn keep_any(tx: &mut Tx, id: Option<ProjectId>) -> Result<(), Error> {
    match id {
        Some(id) => projects::keep(tx, id).await.map_err(held),
        None => Ok(()),
    }
}

/// Who waits in vain for a project has changed nothing.
fn held(error: StoreError) -> Error {
    match error {
        StoreError::Locked(_) => Error::Held,
        error => error.into(),
    }
}

/// The project, if the viewer may read it.
pub(crate) async fn readable(session: &mut Session, viewer: Viewer, id: ProjectId) -> Result<Project, Error> {
    Ok(in_project(session, viewer, id, ProjectRole::Viewer).await?.0)
}

fn of_project(project: &Project, action: &'static str, detail: serde_json::Value) -> NewAudit {
    NewAudit {
        action,
        subject_type: "project",
        subject_id: project.id.0,
        project_id: Some(project.id),
        detail,
    }
}
