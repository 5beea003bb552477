//! Posts: updates of a project, or news of the whole organisation.

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{
    ids::{PostId, ProjectId, UserId},
    text_enum::text_enum,
};

text_enum! {
    /// How far a post is.
    PostStatus {
        /// Only its author and those who keep the project see it.
        Draft = "draft",
        /// Everyone who may read the project sees it.
        Published = "published",
        /// Taken back; seen as a draft is.
        Unpublished = "unpublished",
    }
}

/// A post.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Post {
    /// Its id.
    pub id: PostId,
    /// The project; absent on news of the organisation.
    pub project_id: Option<ProjectId>,
    /// Who wrote it.
    pub author_id: UserId,
    /// One line.
    pub title: String,
    /// Markdown.
    pub body: String,
    /// How far it is.
    pub status: PostStatus,
    /// How many comments it has.
    pub comment_count: i64,
    /// Raised by every change but comments.
    pub version: i64,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// When it last changed.
    pub updated_at: DateTime<Utc>,
    /// When it was last published.
    pub published_at: Option<DateTime<Utc>>,
}

impl Post {
    /// What events say of it.
    pub fn reference(&self) -> PostRef {
        PostRef {
            id: self.id,
            project_id: self.project_id,
            title: self.title.clone(),
            author_id: self.author_id,
            version: self.version,
        }
    }
}

/// A post as an event names it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PostRef {
    /// Its id.
    pub id: PostId,
    /// The project.
    pub project_id: Option<ProjectId>,
    /// Its title at that moment.
    pub title: String,
    /// Who wrote it.
    pub author_id: UserId,
    /// The version the event made.
    pub version: i64,
}
