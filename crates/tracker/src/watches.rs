//! How much of a project or task somebody wants to hear.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};
use taskpost_common::{
    ProjectId, TaskId, UserId,
    project::ProjectRole,
    task::Task,
    user::UserStatus,
    watch::{Watch, WatchLevel, WatchSubject},
};
use taskpost_store::{Session, projects, tasks, users, watches};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::{
    Answered, Caller, Error, Once, Tracker,
    projects::{keep, readable},
    validate::Checks,
};

/// The most people that are added at once.
const MOST: usize = 50;

/// How much the caller wants to hear.
#[derive(Clone, Copy, Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SetWatch {
    /// How much; all when absent.
    #[serde(default)]
    pub level: Option<WatchLevel>,
}

/// People who are to hear of a task.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AddWatchers {
    /// Who: 1 to 50 people who may read it. What they chose themselves stays.
    #[schema(min_items = 1, max_items = 50)]
    pub user_ids: Vec<UserId>,
}

/// The people who were asked for.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Watchers {
    /// Each once; who chose otherwise hears what they chose.
    pub user_ids: Vec<UserId>,
}

impl Tracker {
    /// Sets how much of a project the caller hears.
    pub async fn watch_project(
        &self,
        caller: &Caller,
        id: ProjectId,
        input: SetWatch,
    ) -> Result<Watch, Error> {
        readable(&mut self.0.db.reader().await?, caller.viewer(), id).await?;
        self.choose(caller, (WatchSubject::Project, id.0), input.level.unwrap_or(WatchLevel::All)).await
    }

    /// The caller hears nothing of a project any more, whatever happens there.
    pub async fn unwatch_project(&self, caller: &Caller, id: ProjectId) -> Result<(), Error> {
        readable(&mut self.0.db.reader().await?, caller.viewer(), id).await?;
        self.choose(caller, (WatchSubject::Project, id.0), WatchLevel::Muted).await.map(drop)
    }

    /// Sets how much of a task the caller hears.
    pub async fn watch_task(&self, caller: &Caller, id: TaskId, input: SetWatch) -> Result<Watch, Error> {
        self.task(caller, id).await?;
        self.choose(caller, (WatchSubject::Task, id.0), input.level.unwrap_or(WatchLevel::All)).await
    }

    /// The caller hears nothing of a task any more, whatever happens to it.
    pub async fn unwatch_task(&self, caller: &Caller, id: TaskId) -> Result<(), Error> {
        self.task(caller, id).await?;
        self.choose(caller, (WatchSubject::Task, id.0), WatchLevel::Muted).await.map(drop)
    }

    /// Lets others hear of a task, as far as they did not choose otherwise.
    pub async fn add_watchers(
        &self,
        caller: &Caller,
        id: TaskId,
        input: AddWatchers,
        once: Once<Watchers>,
    ) -> Result<Answered, Error> {
        if input.user_ids.is_empty() || input.user_ids.len() > MOST {
            let detail = format!("must have 1 to {MOST} users, has {}", input.user_ids.len());
            return Err(Error::field("/user_ids", "invalid_length", detail));
        }
        let viewer = caller.viewer();
        self.change_once(caller, once, move |tx, change| {
            Box::pin(async move {
                let task = tasks::visible(tx, viewer, id).await?.ok_or(Error::NotFound("task"))?;
                if let Some(project) = task.project_id {
                    keep(tx, viewer, project, ProjectRole::Member).await?;
                }
                check_readers(tx, &task, &input.user_ids).await?;
                let mut user_ids = input.user_ids;
                user_ids.sort_unstable();
                user_ids.dedup();
                let (subject, level) = (WatchSubject::Task, WatchLevel::All);
                if !watches::set(tx, change, subject, id.0, &user_ids, level, false).await? {
                    return Err(Error::NotFound("task"));
                }
                Ok((Watchers { user_ids }, None))
            })
        })
        .await
    }

    async fn choose(
        &self,
        caller: &Caller,
        (subject, id): (WatchSubject, Uuid),
        level: WatchLevel,
    ) -> Result<Watch, Error> {
        let user = caller.user_id();
        self.change(&caller.cause, move |tx, change| {
            Box::pin(async move {
                if !watches::set(tx, change, subject, id, &[user], level, true).await? {
                    return Err(Error::NotFound(subject.as_str()));
                }
                watches::get(tx, subject, id, user).await?.ok_or(Error::NotFound("watch"))
            })
        })
        .await
    }
}

/// Each of these must have an account that may be used, and be able to read the task.
async fn check_readers(session: &mut Session, task: &Task, ids: &[UserId]) -> Result<(), Error> {
    let users = users::by_ids(session, ids).await?;
    let active = users.into_iter().filter(|user| user.status == UserStatus::Active);
    let readers = match task.project_id {
        Some(project) => projects::readers_among(session, &[project], ids).await?.remove(&project),
        None => None,
    };
    let may_read = |id: UserId| match &readers {
        Some(readers) => readers.may_read(id),
        None => id == task.reporter_id || task.assignee_id == Some(id),
    };
    let able: HashSet<UserId> =
        active.filter(|user| user.roles.is_admin() || may_read(user.id)).map(|user| user.id).collect();
    let mut checks = Checks::default();
    for (i, id) in ids.iter().enumerate().filter(|(_, id)| !able.contains(*id)) {
        let detail = format!("there is no active user {id} who may read the task");
        checks.fault(&format!("/user_ids/{i}"), "unknown_user", detail);
    }
    checks.finish()
}
