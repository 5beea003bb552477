//! The AsyncAPI document: what stands on the topics of Kafka, and the same at /events and in webhooks.

use std::sync::LazyLock;

use axum::body::Bytes;
use serde_json::{Map, Value, json};
use taskpost_common::event::{CloudEvent, Event, OLDER_NAMES, Topic};
use utoipa::{PartialSchema as _, ToSchema as _};

const ABOUT: &str = "Every fact is a CloudEvent 1.0, in order for each thing that it is about. Where the \
                     log is Kafka, other systems read it from these topics; without Kafka the same events are \
                     at GET /v1/events and in webhooks. Types and fields are only ever added.";

/// The document as it is served; it is built once.
pub(super) fn document() -> Bytes {
    static DOCUMENT: LazyLock<Bytes> =
        LazyLock::new(|| serde_json::to_vec(&build()).unwrap_or_default().into());
    DOCUMENT.clone()
}

fn build() -> Value {
    let (mut schemas, mut messages) = (envelope(), Map::new());
    for name in Event::TYPES {
        add_data(&mut schemas, name);
        messages.insert((*name).to_owned(), message(name));
    }
    let (mut channels, mut operations) = (Map::new(), Map::new());
    for topic in Topic::ALL {
        channels.insert(topic.to_string(), channel(*topic));
        operations.insert(format!("receive_{topic}"), operation(*topic));
    }
    json!({
        "asyncapi": "3.0.0",
        "info": {"title": "Taskpost", "version": env!("CARGO_PKG_VERSION"), "description": ABOUT},
        "defaultContentType": "application/cloudevents+json",
        "channels": channels,
        "operations": operations,
        "components": {"messages": messages, "schemas": schemas},
    })
}

/// The types on a topic. Those of comments are on two, by what the comment is on.
fn types_on(topic: Topic) -> impl Iterator<Item = &'static str> {
    Event::TYPES.iter().copied().filter(move |name| {
        let on_posts = topic == Topic::Content && name.starts_with("comment.");
        on_posts || Event::topic_of(name) == Some(topic)
    })
}

const fn family(topic: Topic) -> &'static str {
    match topic {
        Topic::Identity => "Accounts and sessions.",
        Topic::Work => "Projects, tasks, and comments on tasks.",
        Topic::Content => "Posts, and comments on posts.",
        Topic::Delivery => "What became of deliveries.",
    }
}

fn channel(topic: Topic) -> Value {
    let message = |name: &str| (name.to_owned(), json!({"$ref": format!("#/components/messages/{name}")}));
    let messages: Map<String, Value> = types_on(topic).map(message).collect();
    json!({
        "address": format!("{{prefix}}.{topic}"),
        "description": family(topic),
        "parameters": {
            "prefix": {"default": "taskpost", "description": "KAFKA_TOPIC_PREFIX, or else INSTANCE."},
        },
        "messages": messages,
    })
}

fn operation(topic: Topic) -> Value {
    let message = |name: &str| json!({"$ref": format!("#/channels/{topic}/messages/{name}")});
    let messages: Vec<Value> = types_on(topic).map(message).collect();
    json!({
        "action": "receive",
        "channel": {"$ref": format!("#/channels/{topic}")},
        "summary": format!("Read {topic}, as a consumer group of one's own."),
        "messages": messages,
    })
}

fn message(name: &str) -> Value {
    let older = OLDER_NAMES.iter().filter(|(_, types)| types.contains(&name));
    let older: Vec<&str> = older.map(|(older, _)| *older).collect();
    json!({
        "name": name,
        "title": name,
        "summary": Event::meaning(name),
        "correlationId": {
            "description": "Names all that one request brought about.",
            "location": "$message.payload#/correlationid",
        },
        "headers": {
            "type": "object",
            "required": ["ce_type", "ce_id"],
            "properties": {
                "ce_type": {"const": name},
                "ce_id": {"type": "string", "format": "uuid", "description": "The event's id."},
                "traceparent": {"type": "string", "description": "W3C Trace Context of the request."},
            },
        },
        "payload": {
            "allOf": [
                {"$ref": "#/components/schemas/CloudEvent"},
                {
                    "type": "object",
                    "properties": {
                        "type": {"const": name},
                        "data": {"$ref": format!("#/components/schemas/{name}")},
                    },
                },
            ],
        },
        "bindings": {
            "kafka": {
                "key": {
                    "type": "string",
                    "format": "uuid",
                    "description": "The thing it is about; of a comment, the task or post that it is on.",
                },
            },
        },
        "x-older-names": older,
    })
}

/// The schema of the envelope and what it refers to.
fn envelope() -> Map<String, Value> {
    let mut named = vec![(CloudEvent::name().into_owned(), CloudEvent::schema())];
    CloudEvent::schemas(&mut named);
    let parts = named.into_iter().map(|(name, schema)| (name, serde_json::to_value(schema)));
    parts.filter_map(|(name, schema)| Some((name, schema.ok()?))).collect()
}

/// Adds the schema of a type's data under its name, and what it refers to beside it.
fn add_data(schemas: &mut Map<String, Value>, name: &str) {
    let Some(Ok(mut schema)) = Event::schema(name).map(serde_json::to_value) else { return };
    relocate(&mut schema);
    if let Some(fields) = schema.as_object_mut() {
        fields.remove("$schema");
        if let Some(Value::Object(parts)) = fields.remove("$defs") {
            schemas.extend(parts);
        }
    }
    schemas.insert(name.to_owned(), schema);
}

/// Lets references lead to the place where [`add_data`] puts what they name.
fn relocate(schema: &mut Value) {
    match schema {
        Value::Object(fields) => {
            if let Some(Value::String(reference)) = fields.get_mut("$ref") {
                *reference = reference.replace("#/$defs/", "#/components/schemas/");
            }
            fields.values_mut().for_each(relocate);
        }
        Value::Array(items) => items.iter_mut().for_each(relocate),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn every_type_is_a_message_on_its_topic() {
        let document: Value = serde_json::from_slice(&super::document()).unwrap();
        for name in Event::TYPES {
            assert!(document["components"]["messages"][name]["summary"].is_string(), "{name}");
            assert!(document["components"]["schemas"][name]["properties"].is_object(), "{name}");
            let topic = Event::topic_of(name).unwrap().as_str();
            assert!(document["channels"][topic]["messages"].get(name).is_some(), "{name}");
        }
        assert!(document["channels"]["content"]["messages"].get("comment.created").is_some());
        assert_eq!(document["channels"]["work"]["address"], "{prefix}.work");
        assert_eq!(document["operations"]["receive_work"]["action"], "receive");
        let created = &document["components"]["messages"]["task.created"];
        assert_eq!(created["x-older-names"], json!(["newCard"]));
    }

    #[test]
    fn references_lead_somewhere() {
        let document = build();
        let mut references = Vec::new();
        walk(&document, &mut references);
        assert!(references.len() > 100, "only {}", references.len());
        for reference in references {
            let pointer = reference.trim_start_matches('#');
            assert!(document.pointer(pointer).is_some(), "{reference} leads nowhere");
        }
    }

    fn walk<'a>(value: &'a Value, found: &mut Vec<&'a str>) {
        match value {
            Value::Object(fields) => {
                found.extend(fields.get("$ref").and_then(Value::as_str));
                for value in fields.values() {
                    walk(value, found);
                }
            }
            Value::Array(items) => {
                for value in items {
                    walk(value, found);
                }
            }
            _ => {}
        }
    }

    #[test]
    fn a_name_means_the_same_in_every_schema() {
        let mut known: BTreeMap<String, Value> = BTreeMap::new();
        for name in Event::TYPES {
            let schema = serde_json::to_value(Event::schema(name).unwrap()).unwrap();
            let parts = schema.get("$defs").and_then(Value::as_object).cloned().unwrap_or_default();
            for (part, schema) in parts {
                let first = known.entry(part.clone()).or_insert_with(|| schema.clone());
                assert_eq!(*first, schema, "{part}");
            }
        }
    }
}
