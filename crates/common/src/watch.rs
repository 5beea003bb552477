//! How much of a project or task somebody wants to hear.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::text_enum::text_enum;

text_enum! {
    /// How much.
    WatchLevel {
        /// Whatever happens there.
        All = "all",
        /// What one takes part in.
        Participating = "participating",
        /// Nothing; no rule brings it back.
        Muted = "muted",
    }
}

text_enum! {
    /// What can be watched.
    WatchSubject {
        /// A project.
        Project = "project",
        /// A task.
        Task = "task",
    }
}

/// Somebody's watch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Watch {
    /// What is watched.
    pub subject_type: WatchSubject,
    /// Its id.
    pub subject_id: Uuid,
    /// How much they hear.
    pub level: WatchLevel,
    /// Whether they said so themselves.
    pub chosen: bool,
    /// Since when.
    pub updated_at: DateTime<Utc>,
}
