//! What each type of event says.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    comment::CommentRef,
    ids::{DeliveryId, EndpointId, SessionId, UserId},
    notification::Channel,
    post::PostRef,
    project::{ProjectRef, ProjectRole},
    task::{StatusCategory, Task, TaskRef},
    text_enum::text_enum,
    user::Roles,
};

/// Who a user is, without personal data: the log is immutable.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct UserData {
    /// Its id.
    pub id: UserId,
    /// Its roles.
    pub roles: Roles,
}

/// Data of an event about an account.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct UserEvent {
    /// The account.
    pub user: UserData,
}

/// Data of an event about a session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SessionEvent {
    /// Whose session.
    pub user: UserData,
    /// Which session.
    pub session_id: SessionId,
}

/// Data of `user.updated`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct UserUpdated {
    /// The account.
    pub user: UserData,
    /// Which fields changed.
    pub fields: Vec<String>,
}

/// Data of `user.role_changed`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct UserRoleChanged {
    /// The account.
    pub user: UserData,
    /// The roles before.
    pub from: Roles,
    /// The roles now.
    pub to: Roles,
}

/// Data of `project.created`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ProjectEvent {
    /// The project.
    pub project: ProjectRef,
}

/// Data of `project.updated`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ProjectUpdated {
    /// The project.
    pub project: ProjectRef,
    /// Field → [old, new].
    pub changes: BTreeMap<String, [Value; 2]>,
}

/// Data of `project.deleted`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ProjectDeleted {
    /// The project.
    pub project: ProjectRef,
    /// Who belonged to it at that moment: the first 1,000 by their roles, owners first.
    pub member_ids: Vec<UserId>,
    /// How many belonged to it.
    #[serde(default)]
    pub member_count: i64,
}

impl ProjectDeleted {
    /// The most members that it names: an event must fit into a message of Kafka's.
    pub const NAMED: usize = 1_000;
}

/// Data of `project.member_added`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ProjectMemberEvent {
    /// The project.
    pub project: ProjectRef,
    /// Who.
    pub user_id: UserId,
    /// What they may do.
    pub role: ProjectRole,
}

/// Data of `project.member_removed`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ProjectMemberRemoved {
    /// The project.
    pub project: ProjectRef,
    /// Who.
    pub user_id: UserId,
    /// What they might do.
    pub role: ProjectRole,
    /// Whether the whole project was deleted.
    #[serde(default)]
    pub cascade: bool,
}

/// Data of `project.member_role_changed`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ProjectMemberRoleChanged {
    /// The project.
    pub project: ProjectRef,
    /// Who.
    pub user_id: UserId,
    /// What they may do now.
    pub role: ProjectRole,
    /// What they might do before.
    pub previous_role: ProjectRole,
}

/// Data of `task.created`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TaskCreated {
    /// The task as it was made.
    pub task: Task,
}

/// Data of `task.updated`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TaskUpdated {
    /// The task.
    pub task: TaskRef,
    /// Field → [old, new].
    pub changes: BTreeMap<String, [Value; 2]>,
}

/// Data of `task.deleted`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TaskDeleted {
    /// The task.
    pub task: TaskRef,
    /// Whether it went with something larger.
    pub cascade: bool,
}

text_enum! {
    /// What changed who works on a task.
    #[derive(Default)]
    AssignCause {
        /// The task was made with an assignee.
        Create = "create",
        /// The assignee was changed.
        #[default]
        Update = "update",
        /// The open tasks of a project were dealt out again.
        Reassign = "reassign",
        /// Who had it left the project, or was taken out of it.
        Removal = "removal",
    }
}

/// Data of `task.assigned`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TaskAssigned {
    /// The task.
    pub task: TaskRef,
    /// Who has it now.
    pub assignee_id: UserId,
    /// Who had it.
    pub previous_assignee_id: Option<UserId>,
    /// What brought it about.
    pub cause: AssignCause,
}

/// Data of `task.unassigned`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TaskUnassigned {
    /// The task.
    pub task: TaskRef,
    /// Who had it.
    pub previous_assignee_id: UserId,
    /// What brought it about; older events do not say.
    #[serde(default)]
    pub cause: AssignCause,
}

/// Data of `task.status_changed`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TaskStatusChanged {
    /// The task.
    pub task: TaskRef,
    /// The status before.
    pub from: String,
    /// The status now.
    pub to: String,
    /// What the status means.
    pub category: StatusCategory,
    /// What the status before meant; older events do not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from_category: Option<StatusCategory>,
}

/// Data of `task.completed`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TaskCompleted {
    /// The task.
    pub task: TaskRef,
    /// Who had it at that moment.
    pub assignee_id: Option<UserId>,
    /// Why it was closed.
    pub resolution: String,
}

/// Data of `task.reopened`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TaskReopened {
    /// The task.
    pub task: TaskRef,
    /// Who had it at that moment.
    pub assignee_id: Option<UserId>,
}

/// Data of `task.due_soon` and `task.overdue`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TaskDue {
    /// The task.
    pub task: TaskRef,
    /// When it is, or was, due.
    pub due_at: DateTime<Utc>,
    /// How often it has been told for this due date, from 1.
    pub number: i64,
}

/// Data of events about comments.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CommentEvent {
    /// The comment.
    pub comment: CommentRef,
    /// How many comments its subject has now.
    pub comment_count: i64,
    /// The task it is on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task: Option<TaskRef>,
    /// The post it is on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub post: Option<PostRef>,
    /// Whom an edit names that the comment did not name before.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub new_mentions: Vec<UserId>,
}

/// Data of events about posts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PostEvent {
    /// The post.
    pub post: PostRef,
}

/// Data of `delivery.exhausted`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DeliveryExhausted {
    /// The delivery.
    pub delivery_id: DeliveryId,
    /// Its channel.
    pub channel: Channel,
    /// The endpoint, of a webhook.
    pub endpoint_id: Option<EndpointId>,
    /// The recipient, of an e-mail.
    pub user_id: Option<UserId>,
    /// How the last try failed.
    pub reason: String,
}

/// Data of `endpoint.disabled`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct EndpointDisabled {
    /// The endpoint.
    pub endpoint_id: EndpointId,
    /// Why.
    pub reason: String,
}
