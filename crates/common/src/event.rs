//! Events: immutable facts, and the envelope that carries them (CloudEvents 1.0).

use std::collections::BTreeMap;

use chrono::{DateTime, SecondsFormat, Utc};
use schemars::{JsonSchema, Schema, schema_for};
use serde::{Deserialize, Serialize};
use serde_json::{Value, value::RawValue};
use uuid::Uuid;

use crate::{
    comment::{CommentRef, Subject, SubjectType},
    ids::{DeliveryId, EndpointId, EventId, Position, ProjectId, SessionId, UserId},
    notification::Channel,
    post::PostRef,
    project::{ProjectRef, ProjectRole},
    task::{StatusCategory, Task, TaskRef},
    text_enum::text_enum,
    user::Roles,
};

mod older;

pub use older::OLDER_NAMES;

text_enum! {
    /// A family of events; each has a topic of its own.
    Topic {
        /// Accounts and sessions.
        Identity = "identity",
        /// Projects and tasks.
        Work = "work",
        /// Posts.
        Content = "content",
        /// What became of deliveries.
        Delivery = "delivery",
    }
}

macro_rules! events {
    ($($(#[doc = $doc:literal])+ $variant:ident($data:ty) = $name:literal in $topic:ident;)+) => {
        /// Everything that can happen. Types are only ever added, and no `match` on them has a catch-all arm.
        #[derive(Clone, Debug, PartialEq)]
        pub enum Event { $($(#[doc = $doc])+ $variant($data),)+ }

        impl Event {
            /// The names of all types.
            pub const TYPES: &[&str] = &[$($name),+];

            /// Its type, such as `task.created`.
            pub const fn type_name(&self) -> &'static str {
                match self { $(Self::$variant(_) => $name,)+ }
            }

            /// The topic it belongs to.
            pub const fn topic(&self) -> Topic {
                match self { $(Self::$variant(_) => Topic::$topic,)+ }
            }

            /// The topic of the named type; none of a type that is not registered here.
            pub fn topic_of(type_name: &str) -> Option<Topic> {
                match type_name {
                    $($name => Some(Topic::$topic),)+
                    _ => None,
                }
            }

            /// What the named type means, in a sentence.
            pub fn meaning(type_name: &str) -> Option<&'static str> {
                match type_name {
                    $($name => Some(concat!($($doc),+).trim_ascii()),)+
                    _ => None,
                }
            }

            /// Its data as JSON.
            pub fn data(&self) -> Result<String, serde_json::Error> {
                match self { $(Self::$variant(data) => serde_json::to_string(data),)+ }
            }

            /// Reads the data of an event of the named type.
            pub fn decode(type_name: &str, data: &str) -> Result<Self, DecodeError> {
                match type_name {
                    $($name => serde_json::from_str(data)
                        .map(Self::$variant)
                        .map_err(|source| DecodeError::Malformed { type_name: type_name.to_owned(), source }),)+
                    _ => Err(DecodeError::UnknownType(type_name.to_owned())),
                }
            }

            /// The JSON Schema of a type's data.
            pub fn schema(type_name: &str) -> Option<Schema> {
                match type_name {
                    $($name => Some(schema_for!($data)),)+
                    _ => None,
                }
            }
        }
    };
}

events! {
    /// An account was made.
    UserRegistered(UserEvent) = "user.registered" in Identity;
    /// Somebody logged in.
    UserLoggedIn(SessionEvent) = "user.logged_in" in Identity;
    /// A session was ended by its user.
    UserLoggedOut(SessionEvent) = "user.logged_out" in Identity;
    /// Fields of an account changed; its values are personal, so only their names are told.
    UserUpdated(UserUpdated) = "user.updated" in Identity;
    /// Somebody's roles changed; their sessions have ended.
    UserRoleChanged(UserRoleChanged) = "user.role_changed" in Identity;
    /// An account may not be used any more; its sessions have ended.
    UserDisabled(UserEvent) = "user.disabled" in Identity;
    /// A password was changed; other sessions have ended.
    UserPasswordChanged(UserEvent) = "user.password_changed" in Identity;
    /// A project was made.
    ProjectCreated(ProjectEvent) = "project.created" in Work;
    /// A project, its lists, categories or labels changed.
    ProjectUpdated(ProjectUpdated) = "project.updated" in Work;
    /// A project was deleted, after everything in it.
    ProjectDeleted(ProjectDeleted) = "project.deleted" in Work;
    /// Somebody belongs to a project now.
    ProjectMemberAdded(ProjectMemberEvent) = "project.member_added" in Work;
    /// Somebody belongs to a project no more.
    ProjectMemberRemoved(ProjectMemberEvent) = "project.member_removed" in Work;
    /// Somebody may do more or less in a project.
    ProjectMemberRoleChanged(ProjectMemberRoleChanged) = "project.member_role_changed" in Work;
    /// A task was made.
    TaskCreated(TaskCreated) = "task.created" in Work;
    /// Fields of a task changed.
    TaskUpdated(TaskUpdated) = "task.updated" in Work;
    /// A task was deleted.
    TaskDeleted(TaskDeleted) = "task.deleted" in Work;
    /// A task was given to somebody, also when it was made.
    TaskAssigned(TaskAssigned) = "task.assigned" in Work;
    /// A task was taken from somebody and given to nobody.
    TaskUnassigned(TaskUnassigned) = "task.unassigned" in Work;
    /// A task moved to another status.
    TaskStatusChanged(TaskStatusChanged) = "task.status_changed" in Work;
    /// A task was done or cancelled.
    TaskCompleted(TaskCompleted) = "task.completed" in Work;
    /// A closed task was opened again.
    TaskReopened(TaskReopened) = "task.reopened" in Work;
    /// A task is due within a day.
    TaskDueSoon(TaskDue) = "task.due_soon" in Work;
    /// A task is past its due date; told once a day, three times at most.
    TaskOverdue(TaskDue) = "task.overdue" in Work;
    /// A comment was written. On a post it belongs to the content.
    CommentCreated(CommentEvent) = "comment.created" in Work;
    /// A comment was edited.
    CommentUpdated(CommentEvent) = "comment.updated" in Work;
    /// A comment was deleted.
    CommentDeleted(CommentEvent) = "comment.deleted" in Work;
    /// A post was made, as a draft.
    PostCreated(PostEvent) = "post.created" in Content;
    /// A post's title or body changed.
    PostUpdated(PostEvent) = "post.updated" in Content;
    /// A post was published.
    PostPublished(PostEvent) = "post.published" in Content;
    /// A post was taken back.
    PostUnpublished(PostEvent) = "post.unpublished" in Content;
    /// A post was deleted.
    PostDeleted(PostEvent) = "post.deleted" in Content;
    /// A delivery was given up.
    DeliveryExhausted(DeliveryExhausted) = "delivery.exhausted" in Delivery;
    /// An endpoint gets nothing more until its owner enables it.
    EndpointDisabled(EndpointDisabled) = "endpoint.disabled" in Delivery;
}

/// Why an event cannot be understood.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// No such type is registered.
    #[error("unknown event type `{0}`")]
    UnknownType(String),
    /// The data does not fit the type.
    #[error("malformed data of `{type_name}`: {source}")]
    Malformed {
        /// The event's type.
        type_name: String,
        /// What does not fit.
        source: serde_json::Error,
    },
}

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
    /// Who belonged to it at that moment.
    pub member_ids: Vec<UserId>,
}

/// Data of `project.member_added` and `project.member_removed`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ProjectMemberEvent {
    /// The project.
    pub project: ProjectRef,
    /// Who.
    pub user_id: UserId,
    /// What they may, or might, do.
    pub role: ProjectRole,
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
    /// What made somebody the assignee.
    AssignCause {
        /// The task was made with an assignee.
        Create = "create",
        /// The assignee was changed.
        Update = "update",
        /// The open tasks of a project were dealt out again.
        Reassign = "reassign",
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

/// What brought a change about: who, in which request, after which event.
#[derive(Clone, Debug, Default)]
pub struct Cause {
    /// Who did it; absent when the system did.
    pub actor_id: Option<UserId>,
    /// Names all that one request brought about.
    pub correlation_id: Uuid,
    /// The event this follows from.
    pub causation_id: Option<EventId>,
    /// W3C Trace Context of the request.
    pub traceparent: Option<String>,
}

/// A recorded event: what the store keeps, and what travels.
#[derive(Clone, Debug, PartialEq)]
pub struct Envelope {
    /// Its place in the event store.
    pub position: Position,
    /// Its id.
    pub id: EventId,
    /// Its type. Text, so that a reader older than the type can still pass it on or bury it.
    pub type_name: String,
    /// The thing it is about: the key that orders it.
    pub aggregate_id: Uuid,
    /// The version of the thing that it made.
    pub aggregate_version: i64,
    /// Who did it.
    pub actor_id: Option<UserId>,
    /// The project, which decides who sees it.
    pub project_id: Option<ProjectId>,
    /// The reporter or account holder at that moment, who sees it.
    pub owner_id: Option<UserId>,
    /// The assignee at that moment, who sees it.
    pub assignee_id: Option<UserId>,
    /// Names all that one request brought about.
    pub correlation_id: Uuid,
    /// The event it follows from.
    pub causation_id: Option<EventId>,
    /// W3C Trace Context of the request.
    pub traceparent: Option<String>,
    /// When it happened.
    pub at: DateTime<Utc>,
    /// Its data as JSON text.
    pub data: String,
}

impl Envelope {
    /// Reads the data.
    pub fn decode(&self) -> Result<Event, DecodeError> {
        Event::decode(&self.type_name, &self.data)
    }

    /// What follows from this event carries its correlation and its trace.
    pub fn cause(&self) -> Cause {
        Cause {
            actor_id: None,
            correlation_id: self.correlation_id,
            causation_id: Some(self.id),
            traceparent: self.traceparent.clone(),
        }
    }

    /// What kind of thing it is about: the first word of its type, and for a comment what that is on.
    pub fn root(&self) -> &str {
        match self.type_name.split('.').next().unwrap_or_default() {
            "comment" => commented(&self.data).map_or("comment", SubjectType::as_str),
            family => family,
        }
    }

    /// The topic it belongs to; none of a type that is not registered here.
    pub fn topic(&self) -> Option<Topic> {
        match Event::topic_of(&self.type_name) {
            Some(Topic::Work) if self.root() == SubjectType::Post.as_str() => Some(Topic::Content),
            topic => topic,
        }
    }

    /// The event as a CloudEvent (CloudEvents 1.0 JSON format, structured mode).
    pub fn to_cloudevent(&self) -> Result<CloudEvent, serde_json::Error> {
        Ok(CloudEvent {
            specversion: "1.0".to_owned(),
            id: self.id,
            source: "/taskpost".to_owned(),
            type_name: self.type_name.clone(),
            subject: format!("{}/{}", self.root(), self.aggregate_id),
            time: self.at.to_rfc3339_opts(SecondsFormat::AutoSi, true),
            dataschema: format!("/event-types/{}", self.type_name),
            data: RawValue::from_string(self.data.clone())?,
            position: self.position,
            aggregateversion: self.aggregate_version,
            actorid: self.actor_id,
            projectid: self.project_id,
            correlationid: self.correlation_id,
            causationid: self.causation_id,
            traceparent: self.traceparent.clone(),
        })
    }
}

/// What the comment of an event is on.
fn commented(data: &str) -> Option<SubjectType> {
    #[derive(Deserialize)]
    struct Data {
        comment: CommentPart,
    }
    #[derive(Deserialize)]
    struct CommentPart {
        subject: Subject,
    }
    serde_json::from_str::<Data>(data).ok().map(|data| data.comment.subject.kind)
}

/// The envelope as clients, webhooks and Kafka carry it.
#[derive(Clone, Debug, Serialize, Deserialize, utoipa::ToSchema)]
pub struct CloudEvent {
    /// Always `1.0`.
    pub specversion: String,
    /// Its id.
    pub id: EventId,
    /// Which instance it comes from.
    pub source: String,
    /// Its type.
    #[serde(rename = "type")]
    pub type_name: String,
    /// Family and id of the thing it is about.
    pub subject: String,
    /// When it happened.
    pub time: String,
    /// Where the JSON Schema of the data is.
    pub dataschema: String,
    /// The facts.
    #[schema(value_type = Object)]
    pub data: Box<RawValue>,
    /// Its place in the event store.
    pub position: Position,
    /// The version of the thing that it made.
    pub aggregateversion: i64,
    /// Who did it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub actorid: Option<UserId>,
    /// The project.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub projectid: Option<ProjectId>,
    /// Names all that one request brought about.
    pub correlationid: Uuid,
    /// The event it follows from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub causationid: Option<EventId>,
    /// W3C Trace Context of the request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub traceparent: Option<String>,
}
