//! The labels of a project: what words among the labels of its tasks mean.

use serde::Deserialize;
use taskpost_common::{EventId, LabelId, ProjectId, project::Label};
use taskpost_store::labels;
use utoipa::ToSchema;

use crate::{
    Answered, Caller, Error, Once, Part, Tracker,
    projects::{hold_open, readable},
    tasks::present,
    validate::{Checks, Lines},
};

/// The most labels of a project.
const MOST: usize = 200;
/// The color of a label that names none: grey.
const COLOR: &str = "#808080";

/// A new label.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateLabel {
    /// One line of 1 to 50 characters, unique in the project.
    #[schema(example = "security", min_length = 1, max_length = 50)]
    pub name: String,
    /// `#` and six hexadecimal digits; grey when absent.
    #[serde(default)]
    #[schema(example = "#d73a4a")]
    pub color: Option<String>,
    /// What it means, in a line of at most 200 characters.
    #[serde(default)]
    #[schema(max_length = 200)]
    pub description: Option<String>,
}

/// A merge patch: what is absent stays, null goes back to what a new label has.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PatchLabel {
    /// Another name; tasks keep the old word.
    #[serde(default, deserialize_with = "present")]
    #[schema(nullable = false, min_length = 1, max_length = 50)]
    pub name: Option<String>,
    /// Another color.
    #[serde(default, deserialize_with = "present")]
    #[schema(example = "#0e8a16")]
    pub color: Option<Option<String>>,
    /// Another meaning.
    #[serde(default, deserialize_with = "present")]
    #[schema(max_length = 200)]
    pub description: Option<Option<String>>,
}

impl Tracker {
    /// The labels of a project, in the order they were made.
    pub async fn labels(&self, caller: &Caller, id: ProjectId) -> Result<Vec<Label>, Error> {
        let mut reader = self.0.db.reader().await?;
        readable(&mut reader, caller.viewer(), id).await?;
        Ok(labels::list(&mut reader, id).await?)
    }

    /// Adds a label.
    pub async fn create_label(
        &self,
        caller: &Caller,
        id: ProjectId,
        input: CreateLabel,
        once: Once<Part<Label>>,
    ) -> Result<Answered, Error> {
        check(Some(&input.name), input.color.as_deref(), input.description.as_deref())?;
        let viewer = caller.viewer();
        self.change_once(caller, once, move |tx, change| {
            Box::pin(async move {
                let project = hold_open(tx, viewer, id, None).await?;
                let others = labels::list(tx, id).await?;
                if others.len() >= MOST {
                    let detail = format!("a project may have at most {MOST} labels; delete one first");
                    return Err(Error::Conflict(detail));
                }
                check_free(&others, None, &input.name)?;
                let label = Label {
                    id: change.clock.id(),
                    project_id: id,
                    name: input.name,
                    color: input.color.as_deref().unwrap_or(COLOR).to_ascii_lowercase(),
                    description: input.description.unwrap_or_default(),
                };
                let (project, event) = labels::insert(tx, change, &project, &label).await?;
                Ok((Part::of(&project, label), Some(event)))
            })
        })
        .await
    }

    /// Changes a label.
    pub async fn update_label(
        &self,
        caller: &Caller,
        (id, label): (ProjectId, LabelId),
        patch: PatchLabel,
        if_match: Option<i64>,
    ) -> Result<(Part<Label>, Option<EventId>), Error> {
        let color = patch.color.as_ref().and_then(|given| given.as_deref());
        let description = patch.description.as_ref().and_then(|given| given.as_deref());
        check(patch.name.as_deref(), color, description)?;
        let viewer = caller.viewer();
        self.change(&caller.cause, move |tx, change| {
            Box::pin(async move {
                let project = hold_open(tx, viewer, id, if_match).await?;
                let all = labels::list(tx, id).await?;
                let before = find(&all, label)?;
                let mut after = before.clone();
                if let Some(name) = patch.name {
                    check_free(&all, Some(label), &name)?;
                    after.name = name;
                }
                if let Some(color) = patch.color {
                    after.color = color.as_deref().unwrap_or(COLOR).to_ascii_lowercase();
                }
                if let Some(description) = patch.description {
                    after.description = description.unwrap_or_default();
                }
                if *before == after {
                    return Ok((Part::of(&project, after), None));
                }
                let (project, event) = labels::update(tx, change, &project, &after).await?;
                Ok((Part::of(&project, after), Some(event)))
            })
        })
        .await
    }

    /// Deletes a label; tasks keep the word.
    pub async fn delete_label(
        &self,
        caller: &Caller,
        (id, label): (ProjectId, LabelId),
        if_match: Option<i64>,
    ) -> Result<EventId, Error> {
        let viewer = caller.viewer();
        self.change(&caller.cause, move |tx, change| {
            Box::pin(async move {
                let project = hold_open(tx, viewer, id, if_match).await?;
                find(&labels::list(tx, id).await?, label)?;
                Ok(labels::delete(tx, change, &project, label).await?.1)
            })
        })
        .await
    }
}

fn check(name: Option<&str>, color: Option<&str>, description: Option<&str>) -> Result<(), Error> {
    let mut checks = Checks::default();
    if let Some(name) = name {
        checks.text("/name", name, 1, 50, Lines::One);
    }
    if color.is_some_and(|color| !is_color(color)) {
        checks.fault("/color", "invalid_color", "must be # and six hexadecimal digits, such as #d73a4a");
    }
    if let Some(description) = description {
        checks.text("/description", description, 0, 200, Lines::One);
    }
    checks.finish()
}

fn is_color(color: &str) -> bool {
    let digits = color.strip_prefix('#').unwrap_or_default();
    digits.len() == 6 && digits.bytes().all(|c| c.is_ascii_hexdigit())
}

fn check_free(all: &[Label], own: Option<LabelId>, name: &str) -> Result<(), Error> {
    match all.iter().find(|label| label.name == name && Some(label.id) != own) {
        Some(_) => Err(Error::Conflict(format!("there is a label {name}; name another one"))),
        None => Ok(()),
    }
}

fn find(all: &[Label], id: LabelId) -> Result<&Label, Error> {
    all.iter().find(|label| label.id == id).ok_or(Error::NotFound("label"))
}
