//! The categories of a project: groups of its tasks, in an order.

use serde::Deserialize;
use taskpost_common::{
    CategoryId, EventId, ProjectId,
    project::{Category, Project},
};
use taskpost_store::{Change, Tx, categories, tasks};
use utoipa::ToSchema;

use crate::{
    Answered, Caller, Error, Once, Part, Tracker,
    projects::{hold_open, readable},
    tasks::present,
    validate::{Checks, Lines},
};

/// The most categories of a project.
const MOST: usize = 200;

/// A new category.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateCategory {
    /// One line of 1 to 50 characters, unique in the project.
    #[schema(example = "Backend", min_length = 1, max_length = 50)]
    pub name: String,
    /// Its place, from 0; the last when absent.
    #[serde(default)]
    pub position: Option<u32>,
}

/// A merge patch: what is absent stays.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PatchCategory {
    /// Another name.
    #[serde(default, deserialize_with = "present")]
    #[schema(nullable = false, min_length = 1, max_length = 50)]
    pub name: Option<String>,
    /// Another place, from 0.
    #[serde(default, deserialize_with = "present")]
    #[schema(nullable = false)]
    pub position: Option<u32>,
}

impl Tracker {
    /// The categories of a project, in their order.
    pub async fn categories(&self, caller: &Caller, id: ProjectId) -> Result<Vec<Category>, Error> {
        let mut reader = self.0.db.reader().await?;
        readable(&mut reader, caller.viewer(), id).await?;
        Ok(categories::list(&mut reader, id).await?)
    }

    /// Adds a category.
    pub async fn create_category(
        &self,
        caller: &Caller,
        id: ProjectId,
        input: CreateCategory,
        once: Once<Part<Category>>,
    ) -> Result<Answered, Error> {
        check_name(Some(&input.name))?;
        let viewer = caller.viewer();
        self.change_once(caller, once, move |tx, change| {
            Box::pin(async move {
                let project = hold_open(tx, viewer, id, None).await?;
                let others = categories::list(tx, id).await?;
                if others.len() >= MOST {
                    let detail = format!("a project may have at most {MOST} categories; delete one first");
                    return Err(Error::Conflict(detail));
                }
                check_free(&others, None, &input.name)?;
                let position = place(input.position, others.len());
                let category = Category { id: change.clock.id(), project_id: id, name: input.name, position };
                let (project, event) = categories::insert(tx, change, &project, &category).await?;
                Ok((Part::of(&project, category), Some(event)))
            })
        })
        .await
    }

    /// Renames a category or moves it.
    pub async fn update_category(
        &self,
        caller: &Caller,
        (id, category): (ProjectId, CategoryId),
        patch: PatchCategory,
        if_match: Option<i64>,
    ) -> Result<(Part<Category>, Option<EventId>), Error> {
        check_name(patch.name.as_deref())?;
        let viewer = caller.viewer();
        self.change(&caller.cause, move |tx, change| {
            Box::pin(async move {
                let project = hold_open(tx, viewer, id, if_match).await?;
                let all = categories::list(tx, id).await?;
                let before = find(&all, category)?;
                let mut after = before.clone();
                if let Some(name) = patch.name {
                    check_free(&all, Some(category), &name)?;
                    after.name = name;
                }
                if patch.position.is_some() {
                    after.position = place(patch.position, all.len() - 1);
                }
                if *before == after {
                    return Ok((Part::of(&project, after), None));
                }
                let (project, event) = categories::update(tx, change, &project, before, &after).await?;
                Ok((Part::of(&project, after), Some(event)))
            })
        })
        .await
    }

    /// Deletes a category; its tasks are in none then.
    pub async fn delete_category(
        &self,
        caller: &Caller,
        (id, category): (ProjectId, CategoryId),
        if_match: Option<i64>,
    ) -> Result<EventId, Error> {
        let viewer = caller.viewer();
        self.change_large(&caller.cause, move |tx, change| {
            Box::pin(async move {
                let project = hold_open(tx, viewer, id, if_match).await?;
                delete(tx, change, &project, category).await
            })
        })
        .await
    }
}

async fn delete(
    tx: &mut Tx,
    change: Change<'_>,
    project: &Project,
    id: CategoryId,
) -> Result<EventId, Error> {
    let all = categories::list(tx, project.id).await?;
    let category = find(&all, id)?;
    tasks::ungroup(tx, change, project.id, id).await?;
    Ok(categories::delete(tx, change, project, category).await?.1)
}

fn check_name(name: Option<&str>) -> Result<(), Error> {
    let mut checks = Checks::default();
    if let Some(name) = name {
        checks.text("/name", name, 1, 50, Lines::One);
    }
    checks.finish()
}

fn check_free(all: &[Category], own: Option<CategoryId>, name: &str) -> Result<(), Error> {
    match all.iter().find(|category| category.name == name && Some(category.id) != own) {
        Some(_) => Err(Error::Conflict(format!("there is a category {name}; name another one"))),
        None => Ok(()),
    }
}

fn find(all: &[Category], id: CategoryId) -> Result<&Category, Error> {
    all.iter().find(|category| category.id == id).ok_or(Error::NotFound("category"))
}

/// The place that is wanted, at most behind all others.
fn place(wanted: Option<u32>, others: usize) -> i64 {
    let last = i64::try_from(others).unwrap_or(i64::MAX);
    wanted.map_or(last, |wanted| i64::from(wanted).min(last))
}
