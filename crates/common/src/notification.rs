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
    }
}

text_enum! {
    /// Why this recipient is told. The first that holds is kept.
    Reason {
        /// It is or was assigned to them.
        Assigned = "assigned",
        /// They made it.
        Author = "author",
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
    /// `task` or `user`.
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
