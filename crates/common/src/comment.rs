//! Comments.

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::{
    ids::{CommentId, UserId},
    text_enum::text_enum,
};

/// The longest excerpt in an event, in characters.
const EXCERPT: usize = 200;

text_enum! {
    /// What can be commented on.
    SubjectType {
        /// A task.
        Task = "task",
        /// A post.
        Post = "post",
    }
}

/// What a comment is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema, ToSchema)]
#[schema(as = CommentSubject)]
pub struct Subject {
    /// Task or post.
    #[serde(rename = "type")]
    pub kind: SubjectType,
    /// Its id.
    pub id: Uuid,
}

/// A comment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Comment {
    /// Its id.
    pub id: CommentId,
    /// What it is on.
    pub subject: Subject,
    /// Who wrote it.
    pub author_id: UserId,
    /// Markdown.
    pub body: String,
    /// Whom it names as `@handle`, as far as there are such users.
    pub mentions: Vec<UserId>,
    /// Raised by every edit.
    pub version: i64,
    /// When it was written.
    pub created_at: DateTime<Utc>,
    /// When it was last edited.
    pub edited_at: Option<DateTime<Utc>>,
}

impl Comment {
    /// What events say of it.
    pub fn reference(&self) -> CommentRef {
        CommentRef {
            id: self.id,
            subject: self.subject,
            author_id: self.author_id,
            excerpt: self.body.chars().take(EXCERPT).collect(),
            mentions: self.mentions.clone(),
        }
    }
}

/// A comment as an event names it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CommentRef {
    /// Its id.
    pub id: CommentId,
    /// What it is on.
    pub subject: Subject,
    /// Who wrote it.
    pub author_id: UserId,
    /// How it begins.
    pub excerpt: String,
    /// Whom it names.
    pub mentions: Vec<UserId>,
}
