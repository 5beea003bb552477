//! Projects. Every change of one, of who belongs to it and of its parts raises its version, which keeps other
//! changes of it out until the transaction ends.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde_json::{Value, json};
use sqlx::FromRow;
use taskpost_common::{
    Event, EventId, ProjectId, UserId,
    event::{ProjectDeleted, ProjectEvent, ProjectUpdated},
    project::{Project, ProjectRole, Visibility},
    watch::WatchSubject,
    workflow::Workflow,
};
use uuid::Uuid;

use crate::{
    Change, StoreError, Tx, categories, comments,
    db::on,
    events::{self, NewEvent, SeenBy},
    labels, members, posts, tasks, watches,
};

mod read;

pub use read::{
    ProjectFilter, Readers, by_ids, count, get, hold_all, list, readable_among, readable_ids, readers,
    readers_among, seen, taken_keys,
};

/// Stores a new project with its first owner, and appends `project.created`. A taken key is
/// [`StoreError::Constraint`].
pub async fn insert(
    tx: &mut Tx,
    change: Change<'_>,
    project: &Project,
    owner: UserId,
) -> Result<EventId, StoreError> {
    const SQL: &str = "
        INSERT INTO projects (id, key, title, description, visibility, statuses, task_types, priorities, resolutions,
            last_number, archived_at, version, created_at, updated_at)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, 0, $10, $11, $12, $13)";
    let lists = Lists::of(&project.workflow)?;
    on!(tx, |c| sqlx::query(SQL)
        .bind(project.id.0)
        .bind(&project.key)
        .bind(&project.title)
        .bind(&project.description)
        .bind(project.visibility.as_str())
        .bind(&lists.statuses)
        .bind(&lists.task_types)
        .bind(&lists.priorities)
        .bind(&lists.resolutions)
        .bind(project.archived_at)
        .bind(project.version)
        .bind(project.created_at)
        .bind(project.updated_at)
        .execute(c)
        .await
        .map(drop)?);
    members::insert(tx, project.id, owner, ProjectRole::Owner, project.created_at).await?;
    let fact = Event::ProjectCreated(ProjectEvent { project: project.reference() });
    record(tx, change, project, &fact, None).await
}

/// Keeps other changes of a project out until the transaction ends, those inside of it too, so that what is read of
/// it from now on stays true. On SQLite, which has one writer, that is so already. To be held before tasks are
/// locked; held by others for longer than we wait, it is [`StoreError::Locked`].
pub async fn lock(tx: &mut Tx, id: ProjectId) -> Result<(), StoreError> {
    const INSIDE: &str = "SELECT pg_advisory_xact_lock($1)";
    const SQL: &str = "SELECT id FROM projects WHERE id = $1 FOR NO KEY UPDATE";
    if tx.is_postgres() {
        on!(tx, |c| sqlx::query(INSIDE).bind(number(id)).execute(c).await.map(drop)?);
        on!(tx, |c| sqlx::query(SQL).bind(id.0).execute(c).await.map(drop)?);
    }
    Ok(())
}

/// Keeps a project as it is until the transaction ends, beside others who do: for changes inside of it, which must fit
/// its members and lists. In the same order as [`lock`], with the same error.
pub async fn keep(tx: &mut Tx, id: ProjectId) -> Result<(), StoreError> {
    // Not the row: shared locks of rows pass by who waits to change it, for ever where much goes on, and the intake,
    // which counts in the row, need not wait for these, nor they for it.
    const SQL: &str = "SELECT pg_advisory_xact_lock_shared($1)";
    if tx.is_postgres() {
        on!(tx, |c| sqlx::query(SQL).bind(number(id)).execute(c).await.map(drop)?);
    }
    Ok(())
}

/// What an advisory lock calls a project. Two of the same number would only wait for each other.
const fn number(id: ProjectId) -> i64 {
    let (high, low) = id.0.as_u64_pair();
    (high ^ low).cast_signed()
}

/// Stores `after` in place of `before` and appends `project.updated`. Nothing differs: nothing is stored, and
/// the project comes back as it was. [`StoreError::Stale`] when the row is no longer at `before`'s version.
pub async fn update(
    tx: &mut Tx,
    change: Change<'_>,
    before: &Project,
    mut after: Project,
) -> Result<(Project, Option<EventId>), StoreError> {
    const SQL: &str = "
        UPDATE projects SET title = $1, description = $2, visibility = $3, statuses = $4, task_types = $5,
            priorities = $6, resolutions = $7, archived_at = $8, version = $9, updated_at = $10
        WHERE id = $11 AND version = $12";
    let changes = changed_fields(before, &after);
    if changes.is_empty() {
        return Ok((before.clone(), None));
    }
    after.version = before.version + 1;
    after.updated_at = change.clock.now();
    let lists = Lists::of(&after.workflow)?;
    let rows = on!(tx, |c| sqlx::query(SQL)
        .bind(&after.title)
        .bind(&after.description)
        .bind(after.visibility.as_str())
        .bind(&lists.statuses)
        .bind(&lists.task_types)
        .bind(&lists.priorities)
        .bind(&lists.resolutions)
        .bind(after.archived_at)
        .bind(after.version)
        .bind(after.updated_at)
        .bind(after.id.0)
        .bind(before.version)
        .execute(c)
        .await?
        .rows_affected());
    if rows == 0 {
        return Err(StoreError::Stale("the project"));
    }
    let fact = Event::ProjectUpdated(ProjectUpdated { project: after.reference(), changes });
    let event = record(tx, change, &after, &fact, None).await?;
    Ok((after, Some(event)))
}

/// Deletes a project with everything in it, and appends an event for each; `project.deleted`
/// is the last. [`StoreError::Stale`] when it is no longer at `before`'s version.
pub async fn delete(tx: &mut Tx, change: Change<'_>, before: &Project) -> Result<EventId, StoreError> {
    // A single statement may meet all tasks there are.
    const PATIENCE: &str = "SET LOCAL statement_timeout = '60s'";
    const SQL: &str = "DELETE FROM projects WHERE id = $1";
    if tx.is_postgres() {
        on!(tx, |c| sqlx::query(PATIENCE).execute(c).await.map(drop)?);
    }
    let project = raise(tx, change, before).await?;
    comments::delete_in_project(tx, change, project.id).await?;
    tasks::delete_in_project(tx, change, project.id).await?;
    posts::delete_in_project(tx, change, project.id).await?;
    let mut changes = BTreeMap::new();
    for (field, names) in [
        ("categories", categories::delete_all(tx, project.id).await?),
        ("labels", labels::delete_all(tx, project.id).await?),
    ] {
        if !names.is_empty() {
            changes.insert(field.to_owned(), [json!(names), json!([])]);
        }
    }
    if !changes.is_empty() {
        let fact = Event::ProjectUpdated(ProjectUpdated { project: project.reference(), changes });
        record(tx, change, &project, &fact, None).await?;
    }
    let (member_ids, member_count) = members::delete_all(tx, change, &project).await?;
    on!(tx, |c| sqlx::query(SQL).bind(project.id.0).execute(c).await.map(drop)?);
    // After the row, which waits for who sets a watch.
    watches::forget(tx, WatchSubject::Project, project.id.0).await?;
    let reference = project.reference();
    let fact = Event::ProjectDeleted(ProjectDeleted { project: reference, member_ids, member_count });
    record(tx, change, &project, &fact, None).await
}

/// Events about a project are for whoever may read it.
pub(crate) fn seen_by(project: ProjectId) -> SeenBy {
    SeenBy { project_id: Some(project), ..SeenBy::default() }
}

/// Raises the version of a project; [`StoreError::Stale`] when it is no longer at `before`'s.
pub(crate) async fn raise(tx: &mut Tx, change: Change<'_>, before: &Project) -> Result<Project, StoreError> {
    const SQL: &str = "UPDATE projects SET version = $1, updated_at = $2 WHERE id = $3 AND version = $4";
    let after = Project { version: before.version + 1, updated_at: change.clock.now(), ..before.clone() };
    let rows = on!(tx, |c| sqlx::query(SQL)
        .bind(after.version)
        .bind(after.updated_at)
        .bind(after.id.0)
        .bind(before.version)
        .execute(c)
        .await?
        .rows_affected());
    if rows == 0 { Err(StoreError::Stale("the project")) } else { Ok(after) }
}

/// Raises the version for a change of the project's categories or labels, and appends `project.updated` with
/// their names.
pub(crate) async fn note(
    tx: &mut Tx,
    change: Change<'_>,
    before: &Project,
    field: &'static str,
    names: [Vec<String>; 2],
) -> Result<(Project, EventId), StoreError> {
    let after = raise(tx, change, before).await?;
    let [old, new] = names;
    let changes = BTreeMap::from([(field.to_owned(), [json!(old), json!(new)])]);
    let fact = Event::ProjectUpdated(ProjectUpdated { project: after.reference(), changes });
    let event = record(tx, change, &after, &fact, None).await?;
    Ok((after, event))
}

/// Appends an event about a project as it stands; `user`, whom it is about, sees it too.
pub(crate) async fn record(
    tx: &mut Tx,
    change: Change<'_>,
    project: &Project,
    fact: &Event,
    user: Option<UserId>,
) -> Result<EventId, StoreError> {
    let seen_by = SeenBy { assignee_id: user, ..seen_by(project.id) };
    let event = NewEvent::new(change, fact, project.id.0, project.version, seen_by)?;
    events::append(tx, &[&event]).await?;
    Ok(event.id)
}

fn changed_fields(before: &Project, after: &Project) -> BTreeMap<String, [Value; 2]> {
    let (old, new) = (&before.workflow, &after.workflow);
    let fields = [
        ("title", json!(before.title), json!(after.title)),
        ("description", json!(before.description), json!(after.description)),
        ("visibility", json!(before.visibility), json!(after.visibility)),
        ("statuses", json!(old.statuses), json!(new.statuses)),
        ("task_types", json!(old.task_types), json!(new.task_types)),
        ("priorities", json!(old.priorities), json!(new.priorities)),
        ("resolutions", json!(old.resolutions), json!(new.resolutions)),
        ("archived_at", json!(before.archived_at), json!(after.archived_at)),
    ];
    let changed = fields.into_iter().filter(|(_, old, new)| old != new);
    changed.map(|(name, old, new)| (name.to_owned(), [old, new])).collect()
}

/// The lists of a workflow as they stand in their columns.
struct Lists {
    statuses: String,
    task_types: String,
    priorities: String,
    resolutions: String,
}

impl Lists {
    fn of(workflow: &Workflow) -> Result<Self, StoreError> {
        Ok(Self {
            statuses: serde_json::to_string(&workflow.statuses)?,
            task_types: serde_json::to_string(&workflow.task_types)?,
            priorities: serde_json::to_string(&workflow.priorities)?,
            resolutions: serde_json::to_string(&workflow.resolutions)?,
        })
    }
}

#[derive(FromRow)]
struct ProjectRow {
    #[sqlx(try_from = "Uuid")]
    id: ProjectId,
    key: String,
    title: String,
    description: String,
    #[sqlx(try_from = "String")]
    visibility: Visibility,
    statuses: String,
    task_types: String,
    priorities: String,
    resolutions: String,
    archived_at: Option<DateTime<Utc>>,
    version: i64,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
}

impl TryFrom<ProjectRow> for Project {
    type Error = StoreError;

    fn try_from(row: ProjectRow) -> Result<Self, StoreError> {
        Ok(Self {
            id: row.id,
            key: row.key,
            title: row.title,
            description: row.description,
            visibility: row.visibility,
            workflow: Workflow {
                statuses: serde_json::from_str(&row.statuses)?,
                task_types: serde_json::from_str(&row.task_types)?,
                priorities: serde_json::from_str(&row.priorities)?,
                resolutions: serde_json::from_str(&row.resolutions)?,
            },
            archived_at: row.archived_at,
            version: row.version,
            created_at: row.created_at,
            updated_at: row.updated_at,
        })
    }
}
