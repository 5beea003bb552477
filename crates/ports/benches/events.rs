//! Events as JSON: what the relay does for each that goes to Kafka, and a consumer for each that comes from there.
//!
//! A record has a little more beside its CloudEvent, which only the log itself writes and reads; that is not in here.
#![expect(clippy::unwrap_used, reason = "a bench may stop at the first surprise")]

use std::hint::black_box;

use chrono::DateTime;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use taskpost_common::{
    Clock, Envelope, Event, Position, TaskId, UserId,
    event::{CloudEvent, TaskCreated},
    task::{Priority, StatusCategory, Task},
};
use taskpost_ports::log::envelope_of;

/// The product's.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn events(c: &mut Criterion) {
    let envelope = task_created();
    let value = serialize(&envelope);
    let read = Envelope { owner_id: envelope.owner_id, ..deserialize(&value) };
    assert_eq!(read, envelope, "only who sees it is not in a CloudEvent");

    let mut group = c.benchmark_group("events");
    group.throughput(one_of(&value));
    group.bench_function("serialize", |b| b.iter(|| serialize(black_box(&envelope))));
    group.bench_function("deserialize", |b| b.iter(|| deserialize(black_box(&value))));
    group.throughput(one_of(envelope.data.as_bytes()));
    group.bench_function("deserialize_data", |b| b.iter(|| black_box(&envelope).decode().unwrap()));
    group.finish();
}

fn serialize(envelope: &Envelope) -> Vec<u8> {
    serde_json::to_vec(&envelope.to_cloudevent().unwrap()).unwrap()
}

/// The data stays text until a group wants it.
fn deserialize(value: &[u8]) -> Envelope {
    envelope_of(&serde_json::from_slice::<CloudEvent>(value).unwrap()).unwrap()
}

fn one_of(json: &[u8]) -> Throughput {
    Throughput::ElementsAndBytes { elements: 1, bytes: json.len() as u64 }
}

/// What `POST /tasks` records, whole.
fn task_created() -> Envelope {
    let at = DateTime::from_timestamp_micros(1_800_000_000_123_456).unwrap();
    let clock = Clock::manual(at);
    let (id, reporter_id) = (clock.id::<TaskId>(), clock.id::<UserId>());
    let task = Task {
        id,
        key: None,
        project_id: None,
        category_id: None,
        task_type: "bug".to_owned(),
        title: "Fix the lift in house 7".to_owned(),
        description:
            "It stops between the second and the third floor.\n\n- the doors stay shut\n- the alarm works"
                .to_owned(),
        status: "todo".to_owned(),
        status_category: StatusCategory::Todo,
        state: StatusCategory::Todo.state(),
        priority: Priority::High,
        resolution: None,
        assignee_id: None,
        reporter_id,
        labels: vec!["lift".to_owned(), "house-7".to_owned()],
        due_at: None,
        comment_count: 0,
        version: 1,
        created_at: at,
        updated_at: at,
        completed_at: None,
    };
    let event = Event::TaskCreated(TaskCreated { task });
    Envelope {
        position: Position(1_234_567),
        id: clock.id(),
        type_name: event.type_name().to_owned(),
        aggregate_id: id.0,
        aggregate_version: 1,
        actor_id: Some(reporter_id),
        project_id: None,
        owner_id: Some(reporter_id),
        assignee_id: None,
        correlation_id: clock.id(),
        causation_id: None,
        traceparent: Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".to_owned()),
        at,
        data: event.data().unwrap(),
    }
}

criterion_group!(benches, events);
criterion_main!(benches);
