//! I5 order: a lower version of a thing never stands behind a higher one, in the store's log and in Kafka's.

use std::collections::BTreeMap;

use super::{
    Findings,
    facts::Event,
    kafka::{Record, Topics},
};
use crate::expect::Expect;

/// The versions by position.
pub fn in_store(events: &[Event]) -> Findings {
    let mut found = Findings::default();
    let mut highest: BTreeMap<&str, i64> = BTreeMap::new();
    let falls = events.iter().filter_map(|event| {
        let highest = highest.entry(&event.aggregate).or_insert(event.version);
        let falls = event.version < *highest;
        let words = format!("{} {} behind {highest} at {}", event.kind, event.version, event.position);
        *highest = event.version.max(*highest);
        falls.then_some(words)
    });
    let falls: Vec<String> = falls.collect();
    found.inversions = found.blame("I5: lower versions stand behind higher ones in the store", falls);
    found
}

/// What the groups read from Kafka once they skip what they had: all of the store's log, in order.
pub fn in_kafka(events: &[Event], topics: &Topics, expect: Expect) -> Findings {
    let mut found = Findings::default();
    let table: BTreeMap<i64, &Event> = events.iter().map(|event| (event.position, event)).collect();
    let (mut behind, mut falls, mut strange, mut twice) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let mut seen: BTreeMap<i64, &str> = BTreeMap::new();
    let (mut last, mut versions) = (BTreeMap::new(), BTreeMap::new());
    for record in &topics.records {
        if !fits(record, table.get(&record.position)) {
            strange.push(named(record));
        }
        if let Some(partition) = seen.get(&record.position) {
            if *partition != record.partition {
                twice.push(format!("{} as in {partition}", named(record)));
            }
            continue;
        }
        seen.insert(record.position, &record.partition);
        let last = last.entry(&record.partition).or_insert(record.position);
        if record.position < *last {
            behind.push(format!("{} behind {last}", named(record)));
        }
        *last = record.position.max(*last);
        let version = versions.entry((&record.partition, &record.aggregate)).or_insert(record.version);
        if record.version < *version {
            falls.push(format!("{} behind {version}", named(record)));
        }
        *version = record.version.max(*version);
    }
    found.inversions += found.blame("I5: records of Kafka stand behind later ones", behind);
    found.inversions += found.blame("I5: lower versions stand behind higher ones in Kafka", falls);
    found.blame("I5: records of Kafka are not as the store has their events", strange);
    found.blame("I5: events are in two partitions of Kafka", twice);
    let missing = missing(&table, &seen, topics.lost);
    found.lost +=
        found.blame("I5: events never came to Kafka", missing.iter().map(|event| named_event(event)));
    if !expect.dead_letters {
        found.blame("I5: records of Kafka are no events", &topics.broken);
    }
    found
}

fn fits(record: &Record, event: Option<&&Event>) -> bool {
    event.is_some_and(|event| event.aggregate == record.aggregate && event.version == record.version)
}

/// The events that are not in Kafka. Where Kafka is known to have lost records, the relay puts those there
/// again that some group has yet to apply: of each topic the oldest may be missing, and none behind them.
fn missing<'a>(table: &BTreeMap<i64, &'a Event>, seen: &BTreeMap<i64, &str>, lost: bool) -> Vec<&'a Event> {
    let topic = |event: &Event| taskpost_common::Event::topic_of(&event.kind);
    let mut first = BTreeMap::new();
    for (position, event) in table.iter().filter(|(position, _)| seen.contains_key(*position)) {
        first.entry(topic(event)).or_insert(*position);
    }
    let excused =
        |event: &Event| lost && first.get(&topic(event)).is_none_or(|first| event.position < *first);
    let absent = table.iter().filter(|(position, _)| !seen.contains_key(*position)).map(|(_, event)| *event);
    absent.filter(|event| !excused(event)).collect()
}

fn named(record: &Record) -> String {
    format!("{} {} of {}", record.partition, record.position, record.aggregate)
}

fn named_event(event: &Event) -> String {
    format!("{} at {}", event.kind, event.position)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::sound::World;

    #[test]
    fn versions_rise_in_the_store() {
        let mut events = World::sound().facts.events;
        assert_eq!(in_store(&events), Findings::default());
        let moved = events.iter().position(|event| event.version == 2).unwrap();
        let made = events.iter().position(|event| event.aggregate == events[moved].aggregate).unwrap();
        events.swap(made, moved);
        let found = in_store(&events);
        assert_eq!((found.inversions, found.violations.len()), (2, 1), "{found:?}");
    }

    /// What is found after the topics were harmed.
    fn after(harm: impl FnOnce(&mut Topics)) -> Findings {
        let events = World::sound().facts.events;
        let records = events.iter().map(|event| Record {
            partition: format!("{}/{}", &event.kind[..4], event.aggregate.len() % 2),
            position: event.position,
            aggregate: event.aggregate.clone(),
            version: event.version,
        });
        let mut topics = Topics { records: records.collect(), ..Topics::default() };
        assert_eq!(in_kafka(&events, &topics, Expect::default()), Findings::default());
        harm(&mut topics);
        in_kafka(&events, &topics, Expect::default())
    }

    #[test]
    fn what_came_again_is_skipped() {
        let found = after(|topics| {
            let again: Vec<Record> = topics.records[2..6].to_vec();
            topics.records.splice(6..6, again);
        });
        assert_eq!(found, Findings::default());
    }

    #[test]
    fn what_came_first_must_be_in_order() {
        let found = after(|topics| {
            let (last, one_before) = (topics.records.len() - 1, topics.records.len() - 2);
            topics.records.swap(last, one_before);
        });
        assert_eq!((found.inversions, found.violations.len()), (1, 1), "{found:?}");
        // A version that falls although the positions rise.
        let mut events = World::sound().facts.events;
        let moved = events.iter().position(|event| event.version == 2).unwrap();
        let made = events.iter().position(|event| event.aggregate == events[moved].aggregate).unwrap();
        (events[made].version, events[moved].version) = (2, 1);
        let records = events.iter().map(|event| Record {
            partition: "work/0".to_owned(),
            position: event.position,
            aggregate: event.aggregate.clone(),
            version: event.version,
        });
        let topics = Topics { records: records.collect(), ..Topics::default() };
        let found = in_kafka(&events, &topics, Expect::default());
        assert!(found.inversions > 0 && found.violations.len() == 1, "{found:?}");
    }

    #[test]
    fn every_event_comes_and_nothing_else() {
        let found = after(|topics| drop(topics.records.pop()));
        assert_eq!((found.lost, found.violations.len()), (1, 1), "{found:?}");
        let found = after(|topics| topics.records[3].version += 1);
        assert_eq!(found.violations.len(), 1, "{found:?}");
        let found = after(|topics| {
            let phantom = Record { position: 999, ..topics.records[3].clone() };
            topics.records.push(phantom);
        });
        assert!(
            found.violations[0].starts_with("I5: records of Kafka are not as the store has their events: 1")
        );
        let found = after(|topics| {
            let astray = Record { partition: "work/7".to_owned(), ..topics.records[3].clone() };
            topics.records.push(astray);
        });
        assert!(found.violations[0].starts_with("I5: events are in two partitions of Kafka: 1"));
        let found = after(|topics| topics.broken.push("work/0 at 7: it is no event".to_owned()));
        assert_eq!(found.violations, ["I5: records of Kafka are no events: 1 (work/0 at 7: it is no event)"]);
    }

    #[test]
    fn of_a_lost_topic_the_oldest_may_be_missing() {
        let remove = |topics: &mut Topics, positions: &[i64]| {
            topics.records.retain(|record| !positions.contains(&record.position));
        };
        // 3 is the first event of a task.
        assert_eq!(after(|topics| remove(topics, &[3, 4])).lost, 2);
        let lost = |positions: &[i64]| {
            after(|topics| {
                remove(topics, positions);
                topics.lost = true;
            })
        };
        assert_eq!(lost(&[3, 4]), Findings::default());
        assert_eq!(lost(&[1, 2]), Findings::default(), "a topic that has nothing any more");
        assert_eq!(lost(&[3, 5]).lost, 1, "a hole behind what is there again");
    }
}
