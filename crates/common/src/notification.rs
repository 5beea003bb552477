//! What people are told, and why.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::{
    ids::{EventId, NotificationId},
    text_enum::text_enum,
};

text_enum! {
    /// What a notification is about.
    NotificationType {
        /// An account was made.
        Welcome = "welcome",
        /// A task was given to the recipient.
        TaskAssigned = "task_assigned",
        /// A task was taken from the recipient.
        TaskUnassigned = "task_unassigned",
        /// A task moved to another status.
        TaskStatusChanged = "task_status_changed",
        /// A task was done or cancelled.
        TaskCompleted = "task_completed",
        /// A closed task was opened again.
        TaskReopened = "task_reopened",
        /// A task's title, priority or due date changed.
        TaskUpdated = "task_updated",
        /// A task is due within a day.
        TaskDueSoon = "task_due_soon",
        /// A task is past its due date.
        TaskOverdue = "task_overdue",
        /// A comment was written.
        CommentCreated = "comment_created",
        /// A comment names the recipient.
        Mention = "mention",
        /// A post was published.
        PostPublished = "post_published",
        /// The recipient made a project.
        ProjectCreated = "project_created",
        /// A project that the recipient belonged to was deleted.
        ProjectDeleted = "project_deleted",
        /// The recipient belongs to a project now.
        ProjectMemberAdded = "project_member_added",
        /// The recipient belongs to a project no more.
        ProjectMemberRemoved = "project_member_removed",
        /// The recipient's password or roles changed.
        Security = "security",
    }
}

text_enum! {
    /// Why this recipient is told. The first that holds is kept.
    Reason {
        /// It is or was assigned to them.
        Assigned = "assigned",
        /// A comment names them.
        Mentioned = "mentioned",
        /// They made it.
        Author = "author",
        /// They took part in it.
        Participant = "participant",
        /// They belong, or belonged, to the project, or to the organisation that it is news of.
        Member = "member",
        /// It is about their account.
        Account = "account",
    }
}

text_enum! {
    /// A way to reach somebody.
    Channel {
        /// The inbox.
        InApp = "in_app",
        /// E-mail.
        Email = "email",
        /// An HTTP request to an endpoint.
        Webhook = "webhook",
    }
}

text_enum! {
    /// Which deliveries go first: they share a worker 6 : 3 : 1, so none starves.
    Class {
        /// Somebody waits for it. Mandatory mail counts as high.
        High = "high",
        /// The ordinary.
        Normal = "normal",
        /// Digests and the like.
        Low = "low",
    }
}

/// An inbox item.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Notification {
    /// Its id.
    pub id: NotificationId,
    /// What it is about.
    #[serde(rename = "type")]
    pub kind: NotificationType,
    /// Why this user is told.
    pub reason: Reason,
    /// One line.
    pub title: String,
    /// A sentence.
    pub body: String,
    /// What to open.
    pub subject: Subject,
    /// The event that caused it.
    pub event_id: EventId,
    /// When it came.
    pub created_at: DateTime<Utc>,
    /// When it was read.
    pub read_at: Option<DateTime<Utc>>,
    /// When it was put away.
    pub archived_at: Option<DateTime<Utc>>,
}

/// The thing a notification is about.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Subject {
    /// `task`, `post`, `project` or `user`; of a comment, what that is on.
    #[serde(rename = "type")]
    pub kind: String,
    /// Its id.
    pub id: Uuid,
    /// Its path in the API.
    pub url: String,
}

impl Subject {
    /// A thing of a kind, with its path; an account is seen at `/v1/me` by its holder.
    pub fn new(kind: String, id: Uuid) -> Self {
        let url = match kind.as_str() {
            "user" => "/v1/me".to_owned(),
            kind => format!("/v1/{kind}s/{id}"),
        };
        Self { kind, id, url }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subject_is_found_at_its_path() {
        let id = Uuid::from_u128(7);
        for (kind, url) in [
            ("task", format!("/v1/tasks/{id}")),
            ("post", format!("/v1/posts/{id}")),
            ("project", format!("/v1/projects/{id}")),
            ("user", "/v1/me".to_owned()),
        ] {
            assert_eq!(Subject::new(kind.to_owned(), id).url, url);
        }
    }
}
