//! Events: immutable facts, and the envelope that carries them (CloudEvents 1.0).

use chrono::{DateTime, SecondsFormat, Utc};
use schemars::{Schema, schema_for};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use uuid::Uuid;

use crate::{
    comment::{Subject, SubjectType},
    ids::{EventId, Position, ProjectId, UserId},
    text_enum::text_enum,
};

mod data;
mod older;

pub use data::*;
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
    ProjectMemberRemoved(ProjectMemberRemoved) = "project.member_removed" in Work;
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
