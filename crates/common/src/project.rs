//! Projects and who belongs to them.

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{
    ids::{CategoryId, LabelId, ProjectId, UserId},
    text_enum::text_enum,
    workflow::Workflow,
};

text_enum! {
    /// What somebody may do in a project; each may do what those before it may.
    ProjectRole {
        /// May read.
        Viewer = "viewer",
        /// May work on tasks, comment and post.
        Member = "member",
        /// May change the project, its lists and its members.
        Maintainer = "maintainer",
        /// May delete it and make others owners.
        Owner = "owner",
    }
}

text_enum! {
    /// Who may read a project without belonging to it.
    Visibility {
        /// Nobody.
        Private = "private",
        /// Everyone with an account.
        Internal = "internal",
    }
}

/// A project.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Project {
    /// Its id.
    pub id: ProjectId,
    /// Begins the keys of its tasks; never changes.
    #[schema(example = "OPS")]
    pub key: String,
    /// One line.
    pub title: String,
    /// Markdown.
    pub description: String,
    /// Who may read it without belonging to it.
    pub visibility: Visibility,
    /// What its tasks may be.
    #[serde(flatten)]
    pub workflow: Workflow,
    /// Since when it takes no new tasks, comments and posts.
    pub archived_at: Option<DateTime<Utc>>,
    /// Raised by every change.
    pub version: i64,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// When it last changed.
    pub updated_at: DateTime<Utc>,
}

impl Project {
    /// What events say of it.
    pub fn reference(&self) -> ProjectRef {
        ProjectRef { id: self.id, key: self.key.clone(), title: self.title.clone() }
    }
}

/// A project as an event names it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ProjectRef {
    /// Its id.
    pub id: ProjectId,
    /// Its key.
    pub key: String,
    /// Its title at that moment.
    pub title: String,
}

/// Somebody who belongs to a project.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Member {
    /// Who.
    pub user_id: UserId,
    /// Their handle.
    pub handle: String,
    /// Their name.
    pub name: String,
    /// What they may do.
    pub role: ProjectRole,
    /// Since when.
    pub added_at: DateTime<Utc>,
}

/// A group of tasks in a project.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Category {
    /// Its id.
    pub id: CategoryId,
    /// The project.
    pub project_id: ProjectId,
    /// Unique in the project.
    pub name: String,
    /// Its place among the others, from 0.
    pub position: i64,
}

/// What a word among the labels of tasks means in a project. Tasks may carry other words too.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Label {
    /// Its id.
    pub id: LabelId,
    /// The project.
    pub project_id: ProjectId,
    /// The word, unique in the project.
    pub name: String,
    /// `#` and six hexadecimal digits.
    #[schema(example = "#d73a4a")]
    pub color: String,
    /// What it means.
    pub description: String,
}
