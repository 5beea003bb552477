//! What clients say of projects.

use chrono::{DateTime, Utc};
use serde::Deserialize;
use taskpost_common::{
    project::{Project, Visibility},
    task::Priority,
    workflow::Workflow,
};
use utoipa::ToSchema;

use super::keys::is_key;
use crate::{
    Error,
    lists::{MOST, check_word},
    tasks::present,
    validate::{Checks, Lines},
};

/// A new project; a title suffices.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateProject {
    /// One line of 1 to 200 characters.
    #[schema(example = "Operations", min_length = 1, max_length = 200)]
    pub title: String,
    /// Begins the keys of its tasks: 2 to 10 of A to Z and 0 to 9, a letter first. Made from the title when
    /// absent.
    #[serde(default)]
    #[schema(example = "OPS", min_length = 2, max_length = 10)]
    pub key: Option<String>,
    /// Markdown, at most 20,000 characters.
    #[serde(default)]
    #[schema(max_length = 20_000)]
    pub description: Option<String>,
    /// Who may read it without belonging to it; nobody when absent.
    #[serde(default)]
    pub visibility: Option<Visibility>,
}

/// A merge patch (RFC 7396): what is absent stays, null goes back to how a new project has it.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PatchProject {
    /// One line of 1 to 200 characters.
    #[serde(default, deserialize_with = "present")]
    #[schema(nullable = false, min_length = 1, max_length = 200)]
    pub title: Option<Option<String>>,
    /// Markdown, at most 20,000 characters.
    #[serde(default, deserialize_with = "present")]
    #[schema(max_length = 20_000)]
    pub description: Option<Option<String>>,
    /// Who may read it without belonging to it.
    #[serde(default, deserialize_with = "present")]
    pub visibility: Option<Option<Visibility>>,
    /// Whether it is put away: then it takes no new tasks, comments and posts.
    #[serde(default, deserialize_with = "present")]
    pub archived: Option<Option<bool>>,
    /// How much tasks may matter; at least one, each once.
    #[serde(default, deserialize_with = "present")]
    #[schema(min_items = 1)]
    pub priorities: Option<Option<Vec<Priority>>>,
    /// Why tasks are closed: 1 to 30 words, each once.
    #[serde(default, deserialize_with = "present")]
    #[schema(min_items = 1, max_items = 30)]
    pub resolutions: Option<Option<Vec<String>>>,
}

/// Checks what can be checked without the store.
pub(super) fn check_new(input: &CreateProject) -> Result<(), Error> {
    let mut checks = Checks::default();
    checks.text("/title", &input.title, 1, 200, Lines::One);
    if let Some(key) = &input.key
        && !is_key(key)
    {
        checks.fault("/key", "invalid_key", "must be 2 to 10 of A to Z and 0 to 9, a letter first");
    }
    if let Some(description) = &input.description {
        checks.text("/description", description, 0, 20_000, Lines::Many);
    }
    checks.finish()
}

pub(super) fn check_patch(patch: &PatchProject) -> Result<(), Error> {
    let mut checks = Checks::default();
    match &patch.title {
        Some(Some(title)) => checks.text("/title", title, 1, 200, Lines::One),
        Some(None) => checks.fault("/title", "missing_field", "a project must have a title"),
        None => {}
    }
    if let Some(Some(description)) = &patch.description {
        checks.text("/description", description, 0, 20_000, Lines::Many);
    }
    if let Some(Some(priorities)) = &patch.priorities {
        check_list(&mut checks, "/priorities", priorities, Priority::ALL.len());
    }
    if let Some(Some(resolutions)) = &patch.resolutions {
        check_list(&mut checks, "/resolutions", resolutions, MOST);
        for (i, word) in resolutions.iter().take(MOST).enumerate() {
            check_word(&mut checks, &format!("/resolutions/{i}"), word);
        }
    }
    checks.finish()
}

/// At least one item, at most so many, each once.
fn check_list<T: PartialEq>(checks: &mut Checks, pointer: &str, items: &[T], most: usize) {
    let repeated = (1..items.len().min(most + 1)).find(|&i| items[..i].contains(&items[i]));
    if let Some(i) = repeated {
        checks.fault(&format!("{pointer}/{i}"), "repeated_value", "must be there once");
    } else if items.is_empty() || items.len() > most {
        checks.fault(pointer, "invalid_length", format!("must have 1 to {most} items"));
    }
}

/// Changes the project as the patch says.
pub(super) fn apply(project: &mut Project, patch: PatchProject, now: DateTime<Utc>) {
    let standard = Workflow::standard();
    if let Some(title) = patch.title.flatten() {
        project.title = title;
    }
    if let Some(description) = patch.description {
        project.description = description.unwrap_or_default();
    }
    if let Some(visibility) = patch.visibility {
        project.visibility = visibility.unwrap_or(Visibility::Private);
    }
    if let Some(archived) = patch.archived {
        let since = project.archived_at.unwrap_or(now);
        project.archived_at = archived.unwrap_or(false).then_some(since);
    }
    if let Some(priorities) = patch.priorities {
        project.workflow.priorities = priorities.unwrap_or_else(|| standard.priorities.clone());
    }
    if let Some(resolutions) = patch.resolutions {
        project.workflow.resolutions = resolutions.unwrap_or_else(|| standard.resolutions.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_has_each_item_once() {
        let faults = |items: &[&str], most| {
            let mut checks = Checks::default();
            check_list(&mut checks, "/list", items, most);
            checks.finish().is_err()
        };
        assert!(!faults(&["a", "b"], 2));
        for items in [&["a", "a"][..], &["a", "b", "c"], &[]] {
            assert!(faults(items, 2), "{items:?}");
        }
    }
}
