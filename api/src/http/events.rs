//! The log.

use axum::{
    extract::State,
    http::{StatusCode, Uri},
    response::Response,
};
use serde::{Deserialize, Serialize};
use taskpost_common::{Event, EventId, ProjectId, event::CloudEvent};
use taskpost_store::events::EventFilter;
use utoipa::{IntoParams, ToSchema};

use super::{
    app::Shared,
    extract::{Id, Member, Query},
    pages::{self, Listed},
    problem::Result,
    query::{After, AnyOf, EventType, Limit, Parsed},
    reply::Reply,
};

/// Keys of a list of events.
#[derive(Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub(crate) struct EventKeys {
    /// Events after this position; 0, which is before all, when not said.
    #[param(value_type = Option<i64>, minimum = 0)]
    after: Option<Parsed<After>>,
    /// One of these types or families; commas between them.
    #[serde(rename = "type")]
    #[param(value_type = Option<String>, example = "task.*")]
    types: AnyOf<EventType>,
    /// Of this project.
    #[param(inline)]
    project_id: Option<ProjectId>,
    /// How many, 50 when not said.
    #[param(value_type = Option<u32>, minimum = 1, maximum = 200)]
    limit: Limit,
}

/// Read the log
///
/// In order and without gaps, as far as one may see it. `next_cursor` is the position to go on from, also over events
/// that one may not see; it is always there.
#[utoipa::path(
    get, path = "/events", tag = "events", params(EventKeys),
    responses((status = 200, description = "Events.", body = Listed<CloudEvent>))
)]
pub(crate) async fn list_events(
    State(api): State<Shared>,
    Member(caller): Member,
    Query(keys): Query<EventKeys>,
    uri: Uri,
) -> Result<Response> {
    let after = keys.after.map(|Parsed(After(position))| position).unwrap_or_default();
    let types = keys.types.0.into_iter().map(|EventType(name)| name).collect();
    let filter = EventFilter { types, project_id: keys.project_id };
    let (events, next) = api.app.tracker.events(&caller, after, filter, keys.limit.get()).await?;
    pages::by_position(&uri, events, next.to_string())
}

/// Show an event
#[utoipa::path(
    get, path = "/events/{id}", tag = "events", params(("id" = EventId, Path, description = "The event.")),
    responses((status = 200, description = "The event.", body = CloudEvent))
)]
pub(crate) async fn get_event(
    State(api): State<Shared>,
    Member(caller): Member,
    Id(id): Id<EventId>,
) -> Result<Response> {
    Ok(Reply::json(StatusCode::OK, &api.app.tracker.event(&caller, id).await?)?.done())
}

/// A type of events.
#[derive(Serialize, ToSchema)]
pub(crate) struct EventTypeInfo {
    /// Its name.
    #[serde(rename = "type")]
    name: &'static str,
    /// The JSON Schema of its data.
    #[schema(value_type = Object)]
    schema: Option<serde_json::Value>,
}

/// All types of events.
#[derive(Serialize, ToSchema)]
pub(crate) struct EventTypes {
    /// By name.
    data: Vec<EventTypeInfo>,
}

/// List the types of events
///
/// Each with the JSON Schema of its data. Types are only ever added.
#[utoipa::path(
    get, path = "/event-types", tag = "events",
    responses((status = 200, description = "The types.", body = EventTypes))
)]
pub(crate) async fn list_event_types(Member(_caller): Member) -> Result<Response> {
    let data = Event::TYPES
        .iter()
        .map(|name| EventTypeInfo {
            name,
            schema: Event::schema(name).and_then(|schema| serde_json::to_value(schema).ok()),
        })
        .collect();
    Ok(Reply::json(StatusCode::OK, &EventTypes { data })?.done())
}
