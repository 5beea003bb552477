//! I3 at least once: every event has reached every consumer group, and what follows from it, in time.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use super::{
    Findings,
    facts::{Facts, Request},
    fold::{Fold, delivered},
};
use crate::history::{Mark, Operation, Wish};

/// The groups that read the log.
const GROUPS: [&str; 3] = ["notifier", "projections", "webhooks"];
/// How long after the last fault a webhook may still come.
const IN_TIME_MS: u64 = 60_000;

/// How far the groups are, and what came of the events.
pub fn check(operations: &[Operation], marks: &[(Duration, Mark)], facts: &Facts) -> Findings {
    let mut found = Findings::default();
    found.blame("I3: groups are not at the head of the log", behind(&facts.progress, facts.head));
    let fold = Fold::of(facts);
    let notified = facts.notifications.iter().map(|one| (&*one.event, &*one.user)).collect();
    let decided: BTreeSet<_> =
        facts.decisions.iter().map(|one| (&*one.event, &*one.user, &*one.channel)).collect();
    let mut missing = |what: &str, wanted: &BTreeSet<_>, there: &BTreeSet<_>| {
        let absent = wanted.difference(there).map(|(event, to)| format!("of event {event} to {to}"));
        found.lost += found.blame(&format!("I3: {what} were never made"), absent);
    };
    missing("inbox items", &fold.notifications, &notified);
    missing("mails", &fold.mails, &delivered(facts, "email").collect());
    missing("webhooks", &fold.webhooks, &delivered(facts, "webhook").collect());
    let undecided = fold.decisions.keys().filter(|decision| !decided.contains(*decision));
    let undecided = undecided.map(|(event, user, channel)| format!("of event {event}, {user} by {channel}"));
    found.blame("I3: decisions were never made", undecided);
    let late = late(operations, marks, &facts.requests);
    found.late = found.blame("I3: webhooks came more than 60 s after they could", late);
    found
}

/// The groups that have yet to apply something. On Kafka the relay's rows say where each partition ends.
fn behind(progress: &BTreeMap<(String, String), i64>, head: i64) -> Vec<String> {
    let at = |group: &str, partition: &str| {
        progress.get(&(group.to_owned(), partition.to_owned())).copied().unwrap_or_default()
    };
    let ends: Vec<(&str, i64)> = progress
        .iter()
        .filter(|((group, partition), _)| group == "relay" && !partition.is_empty())
        .map(|((_, partition), end)| (&**partition, *end))
        .collect();
    let mut behind = Vec::new();
    for group in GROUPS {
        let local = at(group, "");
        if ends.is_empty() && local < head {
            behind.push(format!("{group} at {local} of {head}"));
        }
        for (partition, end) in &ends {
            let at = at(group, partition).max(local);
            if at < *end {
                behind.push(format!("{group} at {at} of {end} in {partition}"));
            }
        }
    }
    if !ends.is_empty() && at("relay", "") < head {
        behind.push(format!("the relay at {} of {head}", at("relay", "")));
    }
    behind
}

/// The tasks whose first webhook came too long after both their client's last word and the last fault.
fn late(operations: &[Operation], marks: &[(Duration, Mark)], requests: &[Request]) -> Vec<String> {
    let ends = marks.iter().filter(|(_, mark)| matches!(mark, Mark::Healed | Mark::Back(_) | Mark::Up(_)));
    let healed = ends.map(|(at, _)| *at).max().unwrap_or_default();
    let healed_ms = u64::try_from(healed.as_millis()).unwrap_or(u64::MAX);
    let mut first: BTreeMap<&str, u64> = BTreeMap::new();
    for request in requests {
        let at = first.entry(&request.title).or_insert(request.at_ms);
        *at = request.at_ms.min(*at);
    }
    let created = operations.iter().filter(|operation| operation.wish == Wish::Create);
    let late = created.filter_map(|operation| {
        let good = operation.answers.iter().find(|answer| answer.task.is_some());
        let told_ms = good.or(operation.answers.last()).map_or(0, |answer| answer.at_ms);
        let came_ms = *first.get(&*operation.key)?;
        let wait_ms = came_ms.saturating_sub(told_ms.max(healed_ms));
        (wait_ms > IN_TIME_MS).then(|| format!("{} after {} s", operation.key, wait_ms / 1_000))
    });
    late.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::sound::World;

    fn after(harm: impl FnOnce(&mut World)) -> Findings {
        let mut world = World::sound();
        assert_eq!(check(&world.operations, &world.marks, &world.facts), Findings::default());
        harm(&mut world);
        check(&world.operations, &world.marks, &world.facts)
    }

    #[test]
    fn every_event_reaches_its_inbox_its_mail_and_its_webhook() {
        for (harm, violation) in [
            (
                (|facts| drop(facts.notifications.pop())) as fn(&mut Facts),
                "I3: inbox items were never made: 1 (of event e",
            ),
            (|facts| remove(facts, "email"), "I3: mails were never made: 1 (of event e"),
            (|facts| remove(facts, "webhook"), "I3: webhooks were never made: 1 (of event e"),
        ] {
            let found = after(|world| harm(&mut world.facts));
            assert_eq!((found.lost, found.violations.len()), (1, 1), "{found:?}");
            assert!(found.violations[0].starts_with(violation), "{found:?}");
        }
        let found = after(|world| drop(world.facts.decisions.pop()));
        assert!(found.violations[0].starts_with("I3: decisions were never made: 1"), "{found:?}");
    }

    fn remove(facts: &mut Facts, channel: &str) {
        let place = facts.deliveries.iter().position(|delivery| delivery.channel == channel).unwrap();
        facts.deliveries.remove(place);
    }

    #[test]
    fn a_webhook_to_somebody_else_does_not_count() {
        let found = after(|world| {
            for delivery in world.facts.deliveries.iter_mut().filter(|one| one.channel == "webhook") {
                "another".clone_into(&mut delivery.endpoint);
            }
        });
        assert_eq!(found.lost, 3);
    }

    #[test]
    fn a_group_behind_its_log_is_named() {
        let progress = |rows: &[(&str, &str, i64)]| -> BTreeMap<(String, String), i64> {
            rows.iter().map(|(group, part, at)| (((*group).to_owned(), (*part).to_owned()), *at)).collect()
        };
        let none: [&str; 0] = [];
        for (rows, expected) in [
            (&[("notifier", "", 9), ("projections", "", 9), ("webhooks", "", 9)][..], &none[..]),
            (&[("notifier", "", 9), ("projections", "", 9), ("webhooks", "", 7)], &["webhooks at 7 of 9"]),
            (&[("notifier", "", 9), ("webhooks", "", 9)], &["projections at 0 of 9"]),
            // What came before Kafka counts for every partition; an idle partition ends early.
            (
                &[
                    ("relay", "", 9),
                    ("relay", "work/0", 9),
                    ("relay", "work/1", 4),
                    ("notifier", "", 4),
                    ("notifier", "work/0", 9),
                    ("projections", "", 9),
                    ("webhooks", "work/0", 9),
                    ("webhooks", "work/1", 4),
                ],
                &[],
            ),
            (
                &[
                    ("relay", "", 9),
                    ("relay", "work/0", 9),
                    ("notifier", "work/0", 9),
                    ("projections", "work/0", 9),
                    ("webhooks", "work/0", 8),
                ],
                &["webhooks at 8 of 9 in work/0"],
            ),
            (
                &[
                    ("relay", "", 8),
                    ("relay", "work/0", 8),
                    ("notifier", "work/0", 8),
                    ("projections", "work/0", 8),
                    ("webhooks", "work/0", 8),
                ],
                &["the relay at 8 of 9"],
            ),
        ] {
            assert_eq!(behind(&progress(rows), 9), expected, "{rows:?}");
        }
    }

    #[test]
    fn late_is_what_came_a_minute_after_it_could() {
        let came = |at_ms: u64, healed_ms: u64| {
            after(|world| {
                world.marks.push((Duration::from_millis(healed_ms), Mark::Healed));
                world.marks.push((Duration::from_millis(healed_ms + 1), Mark::Fault("no end".to_owned())));
                let first = world.facts.requests.iter_mut().find(|one| one.title == "drill 0-2").unwrap();
                first.at_ms = at_ms;
            })
        };
        assert_eq!(came(61_000, 1_000), Findings::default());
        let found = came(61_001, 1_000);
        assert_eq!(found.late, 1);
        assert_eq!(
            found.violations,
            ["I3: webhooks came more than 60 s after they could: 1 (drill 0-2 after 60 s)"]
        );
        assert_eq!(came(61_001, 2_000), Findings::default(), "the fault lasted longer");
        assert_eq!(came(200_000, 0).late, 1);
    }
}
