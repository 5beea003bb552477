//! The statuses and task types of a project: lists in their order, in which what tasks have stays as it is.

mod items;

use serde::{Deserialize, Serialize};
use taskpost_common::{EventId, ProjectId, task::StatusCategory, workflow::Status};
use utoipa::ToSchema;

use crate::{
    Answered, Caller, Error, Once, Part, Tracker,
    projects::{hold_open, readable},
    tasks::present,
    validate::Checks,
};
use items::{add, find, remove, replace};

/// The most items of a list.
pub(crate) const MOST: usize = 30;

/// A new status.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateStatus {
    /// 1 to 40 of a to z, 0 to 9, _ and -; unique in the list.
    #[schema(example = "in_review", min_length = 1, max_length = 40)]
    pub name: String,
    /// What it means.
    pub category: StatusCategory,
    /// Its place, from 0; the last when absent.
    #[serde(default)]
    pub position: Option<u32>,
}

/// A merge patch: what is absent stays.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PatchStatus {
    /// Another name.
    #[serde(default, deserialize_with = "present")]
    #[schema(nullable = false, min_length = 1, max_length = 40)]
    pub name: Option<String>,
    /// Another meaning.
    #[serde(default, deserialize_with = "present")]
    #[schema(nullable = false)]
    pub category: Option<StatusCategory>,
    /// Another place, from 0.
    #[serde(default, deserialize_with = "present")]
    #[schema(nullable = false)]
    pub position: Option<u32>,
}

/// A new task type.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateTaskType {
    /// 1 to 40 of a to z, 0 to 9, _ and -; unique in the list.
    #[schema(example = "incident", min_length = 1, max_length = 40)]
    pub name: String,
    /// Its place, from 0; the last when absent.
    #[serde(default)]
    pub position: Option<u32>,
}

/// A merge patch: what is absent stays.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PatchTaskType {
    /// Another name.
    #[serde(default, deserialize_with = "present")]
    #[schema(nullable = false, min_length = 1, max_length = 40)]
    pub name: Option<String>,
    /// Another place, from 0.
    #[serde(default, deserialize_with = "present")]
    #[schema(nullable = false)]
    pub position: Option<u32>,
}

/// A task type of a project.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct TaskType {
    /// Its name, unique in the list.
    #[schema(example = "bug")]
    pub name: String,
}

impl Tracker {
    /// The statuses of a project, in their order.
    pub async fn statuses(&self, caller: &Caller, id: ProjectId) -> Result<Vec<Status>, Error> {
        let mut reader = self.0.db.reader().await?;
        Ok(readable(&mut reader, caller.viewer(), id).await?.workflow.statuses)
    }

    /// Adds a status.
    pub async fn create_status(
        &self,
        caller: &Caller,
        id: ProjectId,
        input: CreateStatus,
        once: Once<Part<Status>>,
    ) -> Result<Answered, Error> {
        check_name(Some(&input.name))?;
        let viewer = caller.viewer();
        self.change_once(caller, once, move |tx, change| {
            Box::pin(async move {
                let status = Status { name: input.name, category: input.category };
                let place = (id, input.position);
                let (project, event) = add(tx, change, viewer, place, status.clone()).await?;
                Ok((Part::of(&project, status), event))
            })
        })
        .await
    }

    /// Changes a status.
    pub async fn update_status(
        &self,
        caller: &Caller,
        (id, name): (ProjectId, String),
        patch: PatchStatus,
        if_match: Option<i64>,
    ) -> Result<(Part<Status>, Option<EventId>), Error> {
        check_name(patch.name.as_deref())?;
        let viewer = caller.viewer();
        self.change(&caller.cause, move |tx, change| {
            Box::pin(async move {
                let before = hold_open(tx, viewer, id, if_match).await?;
                let old = find::<Status>(&before, &name)?;
                let new = Status {
                    name: patch.name.unwrap_or_else(|| old.name.clone()),
                    category: patch.category.unwrap_or(old.category),
                };
                let (project, event) = replace(tx, change, &before, (&old, &new), patch.position).await?;
                Ok((Part::of(&project, new), event))
            })
        })
        .await
    }

    /// Deletes a status that no task has.
    pub async fn delete_status(
        &self,
        caller: &Caller,
        (id, name): (ProjectId, String),
        if_match: Option<i64>,
    ) -> Result<Option<EventId>, Error> {
        let viewer = caller.viewer();
        self.change(&caller.cause, move |tx, change| {
            Box::pin(async move {
                let before = hold_open(tx, viewer, id, if_match).await?;
                remove::<Status>(tx, change, &before, &name).await
            })
        })
        .await
    }

    /// The task types of a project, in their order.
    pub async fn task_types(&self, caller: &Caller, id: ProjectId) -> Result<Vec<TaskType>, Error> {
        let mut reader = self.0.db.reader().await?;
        let names = readable(&mut reader, caller.viewer(), id).await?.workflow.task_types;
        Ok(names.into_iter().map(|name| TaskType { name }).collect())
    }

    /// Adds a task type.
    pub async fn create_task_type(
        &self,
        caller: &Caller,
        id: ProjectId,
        input: CreateTaskType,
        once: Once<Part<TaskType>>,
    ) -> Result<Answered, Error> {
        check_name(Some(&input.name))?;
        let viewer = caller.viewer();
        self.change_once(caller, once, move |tx, change| {
            Box::pin(async move {
                let place = (id, input.position);
                let (project, event) = add(tx, change, viewer, place, input.name.clone()).await?;
                Ok((Part::of(&project, TaskType { name: input.name }), event))
            })
        })
        .await
    }

    /// Changes a task type.
    pub async fn update_task_type(
        &self,
        caller: &Caller,
        (id, name): (ProjectId, String),
        patch: PatchTaskType,
        if_match: Option<i64>,
    ) -> Result<(Part<TaskType>, Option<EventId>), Error> {
        check_name(patch.name.as_deref())?;
        let viewer = caller.viewer();
        self.change(&caller.cause, move |tx, change| {
            Box::pin(async move {
                let before = hold_open(tx, viewer, id, if_match).await?;
                let old = find::<String>(&before, &name)?;
                let new = patch.name.unwrap_or_else(|| old.clone());
                let (project, event) = replace(tx, change, &before, (&old, &new), patch.position).await?;
                Ok((Part::of(&project, TaskType { name: new }), event))
            })
        })
        .await
    }

    /// Deletes a task type that no task has.
    pub async fn delete_task_type(
        &self,
        caller: &Caller,
        (id, name): (ProjectId, String),
        if_match: Option<i64>,
    ) -> Result<Option<EventId>, Error> {
        let viewer = caller.viewer();
        self.change(&caller.cause, move |tx, change| {
            Box::pin(async move {
                let before = hold_open(tx, viewer, id, if_match).await?;
                remove::<String>(tx, change, &before, &name).await
            })
        })
        .await
    }
}

/// 1 to 40 of a to z, 0 to 9, _ and -.
pub(crate) fn check_word(checks: &mut Checks, pointer: &str, word: &str) {
    let plain = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, b'_' | b'-');
    if !(1..=40).contains(&word.len()) || !word.bytes().all(plain) {
        checks.fault(pointer, "invalid_name", "must be 1 to 40 of a to z, 0 to 9, _ and -");
    }
}

fn check_name(name: Option<&str>) -> Result<(), Error> {
    let mut checks = Checks::default();
    if let Some(name) = name {
        check_word(&mut checks, "/name", name);
    }
    checks.finish()
}
