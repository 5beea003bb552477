//! An event as a record of Kafka, and back.
//!
//! The value is the CloudEvent in JSON, structured mode, with what decides who sees the event beside it as the extension
//! attributes `ownerid` and `assigneeid`: whoever reads a record has the whole envelope. Data that is no JSON, which
//! only a damaged row has, travels as text with `datacontenttype: text/plain` and comes back to the byte.

use chrono::{DateTime, Utc};
use rdkafka::message::{BorrowedHeaders, Header, Headers as _, OwnedHeaders};
use serde::{Deserialize, Serialize};
use taskpost_common::{
    Envelope, Position, UserId,
    event::{CloudEvent, Topic},
};

const TEXT: &str = "text/plain";
const PREVIOUS: &str = "previous";

/// What travels beside the CloudEvent.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Beside {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    datacontenttype: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ownerid: Option<UserId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    assigneeid: Option<UserId>,
}

#[derive(Serialize)]
struct Value<'a> {
    #[serde(flatten)]
    event: &'a CloudEvent,
    #[serde(flatten)]
    beside: &'a Beside,
}

/// The topic of an event. A type that is not registered here, as of a newer version, goes where its family goes.
pub(super) fn topic(envelope: &Envelope) -> Topic {
    envelope.topic().unwrap_or_else(|| match envelope.root() {
        "user" => Topic::Identity,
        "post" => Topic::Content,
        "delivery" | "endpoint" | "queue" | "cache" => Topic::Delivery,
        _ => Topic::Work,
    })
}

/// The value of an event's record.
pub(super) fn value(envelope: &Envelope) -> Result<Vec<u8>, serde_json::Error> {
    let mut beside =
        Beside { datacontenttype: None, ownerid: envelope.owner_id, assigneeid: envelope.assignee_id };
    let event = if let Ok(event) = envelope.to_cloudevent() {
        event
    } else {
        beside.datacontenttype = Some(TEXT.to_owned());
        let text = serde_json::to_string(&envelope.data)?;
        Envelope { data: text, ..envelope.clone() }.to_cloudevent()?
    };
    serde_json::to_vec(&Value { event: &event, beside: &beside })
}

/// The headers of an event's record. `previous` is the position up to which every event of its partition comes before it.
pub(super) fn headers(envelope: &Envelope, previous: Option<Position>) -> OwnedHeaders {
    let id = envelope.id.to_string();
    let mut headers = OwnedHeaders::new_with_capacity(4)
        .insert(Header { key: "ce_type", value: Some(&envelope.type_name) })
        .insert(Header { key: "ce_id", value: Some(&id) });
    if let Some(trace) = &envelope.traceparent {
        headers = headers.insert(Header { key: "traceparent", value: Some(trace) });
    }
    if let Some(previous) = previous {
        headers = headers.insert(Header { key: PREVIOUS, value: Some(&previous.to_string()) });
    }
    headers
}

/// Up to where every event of a record's partition comes before it, if the relay knew.
pub(super) fn previous(headers: Option<&BorrowedHeaders>) -> Option<Position> {
    let mut headers = headers?.iter();
    let value = headers.find(|header| header.key == PREVIOUS)?.value?;
    std::str::from_utf8(value).ok()?.parse().ok().map(Position)
}

/// The event in a record's value, or why there is none.
pub(super) fn read(value: Option<&[u8]>) -> Result<Envelope, String> {
    let value = value.ok_or("the record has no value")?;
    let not = |error: serde_json::Error| format!("the record is no event: {error}");
    let event: CloudEvent = serde_json::from_slice(value).map_err(not)?;
    let beside: Beside = serde_json::from_slice(value).map_err(not)?;
    if event.position.0 <= 0 {
        return Err(format!("the record is no event: there is no position {}", event.position));
    }
    let mut envelope = envelope_of(&event).map_err(|reason| format!("the record is no event: {reason}"))?;
    if beside.datacontenttype.as_deref() == Some(TEXT) {
        envelope.data = serde_json::from_str(&envelope.data).map_err(not)?;
    }
    Ok(Envelope { owner_id: beside.ownerid, assignee_id: beside.assigneeid, ..envelope })
}

/// The envelope that a CloudEvent tells of. Who sees the event is not in it.
pub fn envelope_of(event: &CloudEvent) -> Result<Envelope, String> {
    let (_, aggregate) = event.subject.split_once('/').ok_or("its subject is not family/id")?;
    let at = DateTime::parse_from_rfc3339(&event.time).map_err(|error| format!("its time: {error}"))?;
    Ok(Envelope {
        position: event.position,
        id: event.id,
        type_name: event.type_name.clone(),
        aggregate_id: aggregate.parse().map_err(|error| format!("its subject: {error}"))?,
        aggregate_version: event.aggregateversion,
        actor_id: event.actorid,
        project_id: event.projectid,
        owner_id: None,
        assignee_id: None,
        correlation_id: event.correlationid,
        causation_id: event.causationid,
        traceparent: event.traceparent.clone(),
        at: at.with_timezone(&Utc),
        data: event.data.get().to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use taskpost_common::{Event, EventId, ProjectId};
    use uuid::Uuid;

    use super::*;

    fn envelope(data: &str) -> Envelope {
        let id = |n| Uuid::from_u128(n);
        Envelope {
            position: Position(7),
            id: EventId(id(1)),
            type_name: "task.abducted".to_owned(),
            aggregate_id: id(2),
            aggregate_version: 3,
            actor_id: Some(UserId(id(4))),
            project_id: Some(ProjectId(id(5))),
            owner_id: Some(UserId(id(6))),
            assignee_id: None,
            correlation_id: id(8),
            causation_id: None,
            traceparent: Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".to_owned()),
            at: DateTime::from_timestamp_micros(1_800_000_000_123_456).unwrap(),
            data: data.to_owned(),
        }
    }

    fn of_type(name: &str, data: &str) -> Envelope {
        Envelope { type_name: name.to_owned(), ..envelope(data) }
    }

    #[test]
    fn an_event_comes_back_whole_whatever_its_data() {
        for data in [r#"{"a": 1,"b":"ü"}"#, "{}", "{", "", "no \"json\"\u{1}", "null"] {
            let sent = envelope(data);
            assert_eq!(read(Some(&value(&sent).unwrap())), Ok(sent), "{data}");
        }
        let sent = Envelope { owner_id: None, assignee_id: Some(UserId(Uuid::nil())), ..envelope("{}") };
        assert_eq!(read(Some(&value(&sent).unwrap())), Ok(sent));
    }

    #[test]
    fn a_record_tells_what_comes_before_it() {
        for told in [None, Some(Position(0)), Some(Position(41))] {
            assert_eq!(previous(Some(headers(&envelope("{}"), told).as_borrowed())), told);
        }
        assert_eq!(previous(None), None);
        let nonsense = OwnedHeaders::new().insert(Header { key: PREVIOUS, value: Some("x") });
        assert_eq!(previous(Some(nonsense.as_borrowed())), None);
    }

    #[test]
    fn the_value_is_a_cloudevent_that_tells_who_sees_it() {
        let value: serde_json::Value = serde_json::from_slice(&value(&envelope("{}")).unwrap()).unwrap();
        assert_eq!(value["specversion"], "1.0");
        assert_eq!(value["ownerid"], Uuid::from_u128(6).to_string());
        assert!(value.get("assigneeid").is_none() && value.get("datacontenttype").is_none(), "{value}");
    }

    #[test]
    fn what_is_no_event_says_why() {
        let good = String::from_utf8(value(&envelope("{}")).unwrap()).unwrap();
        for (bad, reason) in [
            (String::new(), "EOF"),
            ("[1]".to_owned(), "invalid"),
            (good.replace(r#""position":7"#, r#""position":0"#), "no position 0"),
            (good.replace(r#""position":7,"#, ""), "missing field `position`"),
            (good.replace("task/", "task "), "its subject is not family/id"),
            (good.replace("2027-", "2027/"), "its time"),
            (good.replace(r#""ownerid":""#, r#""ownerid":"x"#), "UUID"),
        ] {
            let said = read(Some(bad.as_bytes())).unwrap_err();
            assert!(said.contains(reason), "{said}");
        }
        assert!(read(Some(&[0xff, 0xfe])).is_err());
        assert_eq!(read(None), Err("the record has no value".to_owned()));
    }

    #[test]
    fn an_unknown_type_goes_where_its_family_goes() {
        for (name, expected) in [
            ("user.abducted", Topic::Identity),
            ("delivery.lost", Topic::Delivery),
            ("endpoint.failing", Topic::Delivery),
            ("task.abducted", Topic::Work),
            ("nonsense", Topic::Work),
            ("", Topic::Work),
        ] {
            assert_eq!(topic(&of_type(name, "{}")), expected, "{name}");
        }
        for name in Event::TYPES {
            assert_eq!(Some(topic(&of_type(name, "{}"))), Event::topic_of(name));
        }
    }

    #[test]
    fn a_comment_goes_where_what_it_is_on_goes() {
        for (subject, expected) in [("task", Topic::Work), ("post", Topic::Content), ("page", Topic::Work)] {
            let id = Uuid::from_u128(2);
            let data =
                format!(r#"{{"comment":{{"id":"{id}","subject":{{"type":"{subject}","id":"{id}"}}}}}}"#);
            for name in ["comment.created", "comment.updated", "comment.deleted", "comment.abducted"] {
                assert_eq!(topic(&of_type(name, &data)), expected, "{name} on a {subject}");
            }
        }
        assert_eq!(topic(&of_type("post.created", "{}")), Topic::Content);
    }
}
