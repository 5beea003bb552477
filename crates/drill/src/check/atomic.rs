//! I2 atomic: a task is there exactly with its events, and the log has no holes.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Findings,
    facts::{Event, Facts, Task},
};

/// What the drill's users do, and what the product says of itself.
const KINDS: &[&str] = &[
    "user.registered",
    "user.logged_in",
    "task.created",
    "task.assigned",
    "task.status_changed",
    "delivery.exhausted",
    "endpoint.disabled",
];
/// The events of a new task: each has an assignee.
const NEW: &[&str] = &["task.assigned", "task.created"];
/// Those of a move.
const MOVED: &[&str] = &["task.status_changed"];

/// The tasks against the log.
pub fn check(facts: &Facts) -> Findings {
    let mut found = Findings::default();
    let events = facts.events.iter().filter(|event| event.kind.starts_with("task."));
    let mut of_tasks: BTreeMap<&str, Vec<&Event>> = BTreeMap::new();
    for event in events {
        of_tasks.entry(&event.aggregate).or_default().push(event);
    }
    of_rows(&facts.tasks, &of_tasks, &mut found);
    let rows: BTreeSet<&str> = facts.tasks.iter().map(|task| &*task.id).collect();
    let rowless = of_tasks.iter().filter(|(task, _)| !rows.contains(*task));
    let rowless = rowless.flat_map(|(_, events)| events).map(|event| named(event));
    found.blame("I2: events are there without their task", rowless);
    of_log(facts, &mut found);
    found
}

/// A task at version n has the events of each version up to n, once.
fn of_rows(tasks: &[Task], of_tasks: &BTreeMap<&str, Vec<&Event>>, found: &mut Findings) {
    let (mut missing, mut beyond, mut twice) = (Vec::new(), Vec::new(), Vec::new());
    for task in tasks {
        let events = of_tasks.get(&*task.id).map_or(&[][..], Vec::as_slice);
        for version in 1..=task.version {
            for kind in if version == 1 { NEW } else { MOVED } {
                let same = events.iter().filter(|event| event.version == version && event.kind == *kind);
                match same.count() {
                    0 => missing.push(format!("{kind} {version} of {}", task.title)),
                    1 => {}
                    _ => twice.push(format!("{kind} {version} of {}", task.title)),
                }
            }
        }
        let fits = |event: &Event| {
            let of_version = if event.version == 1 { NEW } else { MOVED };
            (1..=task.version).contains(&event.version) && of_version.contains(&&*event.kind)
        };
        beyond.extend(events.iter().filter(|event| !fits(event)).map(|event| named(event)));
    }
    found.lost += found.blame("I2: tasks are there without their event", missing);
    found.doubled += found.blame("I2: events of a task are there more than once", twice);
    found.blame("I2: events tell of what their task is not", beyond);
}

fn of_log(facts: &Facts, found: &mut Findings) {
    let unknown = facts.events.iter().filter(|event| !KINDS.contains(&&*event.kind));
    found.blame("I2: events are there that nobody caused", unknown.map(named));
    let mut ids = BTreeSet::new();
    let again = facts.events.iter().filter(|event| !ids.insert(&event.id));
    found.doubled += found.blame("I2: events have more than one position", again.map(named));
    let dense = facts.events.iter().zip(1..).find(|(event, position)| event.position != *position);
    let hole = dense.map(|(event, position)| format!("{} stands where {position} is due", event.position));
    found.blame("I2: the positions are not dense", hole);
    let last = facts.events.last().map_or(0, |event| event.position);
    let beyond = (last != facts.head).then(|| format!("the last is {last}, the head says {}", facts.head));
    found.blame("I2: the head of the log is not its last position", beyond);
    let waiting = (facts.outbox != 0).then(|| format!("{} events", facts.outbox));
    found.blame("I2: the outbox is not empty", waiting);
}

fn named(event: &Event) -> String {
    format!("{} {} of {} at {}", event.kind, event.version, event.aggregate, event.position)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::sound::World;

    fn after(harm: impl FnOnce(&mut Facts)) -> Findings {
        World::after(check, harm)
    }

    fn place(facts: &Facts, kind: &str) -> usize {
        facts.events.iter().position(|event| event.kind == kind).unwrap()
    }

    /// Takes an event out and closes the gap that it leaves.
    fn remove(facts: &mut Facts, kind: &str) {
        facts.events.remove(place(facts, kind));
        renumber(facts);
    }

    fn renumber(facts: &mut Facts) {
        for (event, position) in facts.events.iter_mut().zip(1..) {
            event.position = position;
        }
        facts.head = i64::try_from(facts.events.len()).unwrap();
    }

    #[test]
    fn a_task_has_each_of_its_events() {
        for (kind, missing) in [
            ("task.created", "task.created 1 of drill 0-1"),
            ("task.assigned", "task.assigned 1 of drill 0-1"),
            ("task.status_changed", "task.status_changed 2 of drill 0-2"),
        ] {
            let found = after(|facts| remove(facts, kind));
            assert_eq!(found.lost, 1);
            assert_eq!(found.violations, [format!("I2: tasks are there without their event: 1 ({missing})")]);
        }
    }

    #[test]
    fn an_event_has_its_task() {
        let found = after(|facts| drop(facts.tasks.remove(0)));
        assert_eq!(found.violations.len(), 1);
        assert!(
            found.violations[0].starts_with("I2: events are there without their task: 2 (task.created 1 of ")
        );
        // A move that was rolled back.
        let found = after(|facts| {
            let task = facts.tasks.iter_mut().find(|task| task.version == 2).unwrap();
            task.version = 1;
        });
        assert_eq!(found.violations.len(), 1);
        assert!(found.violations[0].starts_with("I2: events tell of what their task is not: 1"), "{found:?}");
    }

    #[test]
    fn an_event_is_there_once() {
        let found = after(|facts| {
            let twin = facts.events[place(facts, "task.created")].clone();
            facts.events.push(twin);
            renumber(facts);
        });
        assert_eq!(found.doubled, 2, "by its id and by its version");
        assert_eq!(found.violations.len(), 2);
        let found = after(|facts| {
            let twin = facts.events[place(facts, "task.created")].clone();
            facts.events.push(Event { id: "another".to_owned(), ..twin });
            renumber(facts);
        });
        assert_eq!((found.doubled, found.violations.len()), (1, 1));
    }

    #[test]
    fn the_log_has_neither_holes_nor_leftovers() {
        let found = after(|facts| facts.outbox = 2);
        assert_eq!(found.violations, ["I2: the outbox is not empty: 1 (2 events)"]);
        let found = after(|facts| facts.head += 1);
        assert!(found.violations[0].starts_with("I2: the head of the log is not its last position: 1"));
        let found = after(|facts| {
            for event in facts.events.iter_mut().skip(3) {
                event.position += 1;
            }
            facts.head += 1;
        });
        assert_eq!(found.violations, ["I2: the positions are not dense: 1 (5 stands where 4 is due)"]);
        let found = after(|facts| {
            let strange =
                Event { id: "x".to_owned(), kind: "task.moved".to_owned(), ..facts.events[2].clone() };
            facts.events.push(strange);
            renumber(facts);
        });
        assert!(
            found
                .violations
                .iter()
                .any(|said| said.starts_with("I2: events are there that nobody caused: 1"))
        );
    }
}
