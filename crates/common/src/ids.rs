//! Identifiers. Each is a UUIDv7 in a type of its own, so that a task's id cannot be passed for a user's.

use std::{fmt, str::FromStr};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

macro_rules! ids {
    ($($(#[$doc:meta])+ $name:ident;)+) => {$(
        $(#[$doc])+
        #[derive(
            Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema, ToSchema,
        )]
        #[serde(transparent)]
        pub struct $name(pub Uuid);

        impl From<Uuid> for $name {
            fn from(id: Uuid) -> Self {
                Self(id)
            }
        }

        impl From<$name> for Uuid {
            fn from(id: $name) -> Self {
                id.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = uuid::Error;
            fn from_str(text: &str) -> Result<Self, Self::Err> {
                text.parse().map(Self)
            }
        }
    )+};
}

ids! {
    /// A person or machine with an account.
    UserId;
    /// One login of a user; the `sid` of its access tokens.
    SessionId;
    /// A refresh token, of which only the digest is stored.
    RefreshTokenId;
    /// A project.
    ProjectId;
    /// A group of tasks inside a project.
    CategoryId;
    /// A label of a project.
    LabelId;
    /// A task.
    TaskId;
    /// A comment on a task or post.
    CommentId;
    /// A post.
    PostId;
    /// A token for machines.
    ApiTokenId;
    /// A row of the audit log.
    AuditId;
    /// An event; the `id` of its CloudEvent.
    EventId;
    /// An inbox item.
    NotificationId;
    /// One notification or event on one channel; the receiver's key for removing duplicates.
    DeliveryId;
    /// One try of a delivery.
    AttemptId;
    /// A webhook's receiver.
    EndpointId;
    /// Something that could not be handled, kept whole.
    DeadLetterId;
}

/// A place in the event store: dense, from 1. Zero is "before everything".
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    JsonSchema,
    ToSchema,
)]
#[serde(transparent)]
pub struct Position(pub i64);

impl From<i64> for Position {
    fn from(position: i64) -> Self {
        Self(position)
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
