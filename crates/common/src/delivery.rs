//! Deliveries: one notification or event on one channel.

use serde::{Deserialize, Serialize};

use crate::{
    ids::{EndpointId, EventId, NotificationId, UserId},
    notification::NotificationType,
    secret::SealedToken,
    text_enum::text_enum,
};

/// Where a mail's token goes, in its text and its path.
pub const TOKEN: &str = "{token}";

text_enum! {
    /// Where a delivery stands. The row is the truth; the queue carries ids.
    DeliveryState {
        /// Waits for its time.
        Scheduled = "scheduled",
        /// Handed to the queue.
        Queued = "queued",
        /// A worker holds its lease.
        Sending = "sending",
        /// The receiver took it.
        Delivered = "delivered",
        /// Failed; waits for the next try.
        Retrying = "retrying",
        /// Given up; a dead letter keeps it.
        Dead = "dead",
        /// Called back before it left.
        Cancelled = "cancelled",
        /// Never meant to leave.
        Suppressed = "suppressed",
    }
}

text_enum! {
    /// How one try ended.
    AttemptOutcome {
        /// The receiver took it.
        Delivered = "delivered",
        /// Failed in a way that may pass.
        Failed = "failed",
        /// The receiver will never take it.
        Rejected = "rejected",
        /// Its target is one we do not dial.
        Blocked = "blocked",
        /// No answer in time.
        TimedOut = "timed_out",
        /// Our own code failed.
        Panicked = "panicked",
    }
}

/// What an e-mail delivery carries. The address is looked up when it is sent, so that the queue holds no personal data.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EmailPayload {
    /// Who gets it.
    pub user_id: UserId,
    /// What it is about.
    #[serde(rename = "type")]
    pub kind: NotificationType,
    /// The inbox item it belongs to.
    pub notification_id: NotificationId,
    /// The subject line.
    pub title: String,
    /// The text.
    pub body: String,
    /// The path of what to open.
    pub url: String,
    /// What takes the place of [`TOKEN`] when it is sent, so that no row holds a secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<SealedToken>,
}

/// What a webhook delivery carries.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WebhookPayload {
    /// Who gets it; URL and secret are read when it is sent.
    pub endpoint_id: EndpointId,
    /// The event, as its CloudEvent in JSON: the request's body to the byte.
    pub body: String,
    /// The event's id.
    pub event_id: EventId,
}
