//! I4 effect once: whatever came twice, the effects are those of a fold of the log.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Findings,
    facts::{Attempt, Delivery, Facts, Letter},
    fold::{Fold, Pair, delivered},
};
use crate::expect::Expect;

/// The states in which a delivery is finished.
pub const FINAL: [&str; 3] = ["delivered", "dead", "cancelled"];

/// The effects against the fold.
pub fn check(facts: &Facts, expect: Expect) -> Findings {
    let mut found = Findings::default();
    let fold = Fold::of(facts);
    let notified = facts.notifications.iter().map(|one| (&*one.event, &*one.user));
    extra("inbox items", notified, &fold.notifications, &mut found);
    extra("mails", delivered(facts, "email"), &fold.mails, &mut found);
    let (own, others): (Vec<Pair<'_>>, Vec<Pair<'_>>) =
        delivered(facts, "webhook").partition(|(_, endpoint)| *endpoint == facts.sink);
    extra("webhooks", own.into_iter(), &fold.webhooks, &mut found);
    // Of receivers that a case adds it is known only that none gets an event twice.
    let events: BTreeSet<&str> = facts.events.iter().map(|event| &*event.id).collect();
    let possible = others.iter().copied().filter(|(event, _)| events.contains(event)).collect();
    extra("webhooks of other receivers", others.iter().copied(), &possible, &mut found);
    decisions(facts, &fold, &mut found);
    deliveries(facts, &mut found);
    let unexpected = facts.letters.iter().filter(|letter| !expect.dead_letters || is_own(letter, facts));
    let reasons = unexpected.map(|letter| format!("{}: {}", letter.source, letter.reason));
    found.blame("I4: there are dead letters", reasons);
    found
}

/// Whether it is of a mail, or of the receiver that takes everything in the end.
fn is_own(letter: &Letter, facts: &Facts) -> bool {
    let delivery = facts.deliveries.iter().find(|delivery| delivery.id == letter.delivery);
    delivery.is_some_and(|delivery| delivery.channel == "email" || delivery.endpoint == facts.sink)
}

/// What is there beyond the fold, or more than once.
fn extra<'a>(
    what: &str,
    there: impl Iterator<Item = Pair<'a>>,
    wanted: &BTreeSet<Pair<'a>>,
    found: &mut Findings,
) {
    let mut seen = BTreeSet::new();
    let extra = there.filter(|pair| !wanted.contains(pair) || !seen.insert(*pair));
    let extra = extra.map(|(event, to)| format!("of event {event} to {to}"));
    found.doubled += found.blame(&format!("I4: {what} are there once too often"), extra);
}

fn decisions(facts: &Facts, fold: &Fold<'_>, found: &mut Findings) {
    let mut seen = BTreeSet::new();
    let (mut wrong, mut twice) = (Vec::new(), Vec::new());
    for one in &facts.decisions {
        let key = (&*one.event, &*one.user, &*one.channel);
        if !seen.insert(key) {
            twice.push(format!("of event {}, {} by {}", one.event, one.user, one.channel));
        }
        let wanted = fold.decisions.get(&key).copied();
        if wanted != Some(&*one.outcome) {
            let wanted = wanted.unwrap_or("nothing");
            wrong.push(format!("{} instead of {wanted} of event {}", one.outcome, one.event));
        }
    }
    found.doubled += found.blame("I4: decisions are there more than once", twice);
    found.blame("I4: decisions are not what the events ask for", wrong);
}

/// A delivery and its tries tell the same story.
fn deliveries(facts: &Facts, found: &mut Findings) {
    let mut tries: BTreeMap<&str, Vec<&Attempt>> = BTreeMap::new();
    for attempt in &facts.attempts {
        tries.entry(&attempt.delivery).or_default().push(attempt);
    }
    let (mut state, mut numbers, mut outcome, mut twice) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for delivery in &facts.deliveries {
        let tries = tries.remove(&*delivery.id).unwrap_or_default();
        if delivery.finished != FINAL.contains(&&*delivery.state) {
            state.push(format!("{} is {}", delivery.id, delivery.state));
        }
        let is_dense = tries.iter().zip(1..).all(|(attempt, number)| attempt.number == number);
        if !is_dense || i64::try_from(tries.len()) != Ok(delivery.tries) {
            let there: Vec<i64> = tries.iter().map(|attempt| attempt.number).collect();
            numbers.push(format!("{} has {there:?} of {}", delivery.id, delivery.tries));
        }
        let taken = tries.iter().filter(|attempt| attempt.outcome == "delivered").count();
        if taken > 1 {
            twice.push(&delivery.id);
        } else if is_taken(&tries) != (delivery.state == "delivered") || (taken == 1 && !is_taken(&tries)) {
            outcome.push(told(delivery, &tries));
        }
    }
    found.blame("I4: deliveries are finished without a final state, or have one unfinished", state);
    found.blame("I4: the tries of deliveries are not numbered one by one", numbers);
    found.blame("I4: deliveries do not end as their last try", outcome);
    found.doubled += found.blame("I4: deliveries were recorded as taken more than once", twice);
    found.blame("I4: tries are there without their delivery", tries.keys());
}

fn is_taken(tries: &[&Attempt]) -> bool {
    tries.last().is_some_and(|last| last.outcome == "delivered")
}

fn told(delivery: &Delivery, tries: &[&Attempt]) -> String {
    let last = tries.last().map_or("not tried", |last| &last.outcome);
    format!("{} is {}, its last try {last}", delivery.id, delivery.state)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::sound::World;

    fn after(harm: impl FnOnce(&mut Facts)) -> Findings {
        World::after(|facts| check(facts, Expect::default()), harm)
    }

    fn first<'a>(facts: &'a mut Facts, channel: &str) -> &'a mut Delivery {
        facts.deliveries.iter_mut().find(|delivery| delivery.channel == channel).unwrap()
    }

    #[test]
    fn nothing_is_there_twice() {
        for (harm, what) in [
            (
                (|facts| facts.notifications.push(facts.notifications[0].clone())) as fn(&mut Facts),
                "I4: inbox items are there once too often: 1",
            ),
            (|facts| again(facts, "email"), "I4: mails are there once too often: 1"),
            (|facts| again(facts, "webhook"), "I4: webhooks are there once too often: 1"),
            (
                |facts| facts.decisions.push(facts.decisions[0].clone()),
                "I4: decisions are there more than once: 1",
            ),
        ] {
            let found = after(harm);
            assert_eq!((found.doubled, found.violations.len()), (1, 1), "{found:?}");
            assert!(found.violations[0].starts_with(what), "{found:?}");
        }
    }

    /// One more delivery of the same event to the same receiver.
    fn again(facts: &mut Facts, channel: &str) {
        let twin = Delivery { id: "twin".to_owned(), tries: 0, ..first(facts, channel).clone() };
        let attempt = Attempt { delivery: "twin".to_owned(), outcome: "delivered".to_owned(), number: 1 };
        facts.deliveries.push(Delivery { tries: 1, ..twin });
        facts.attempts.push(attempt);
    }

    #[test]
    fn nothing_is_there_that_no_event_asked_for() {
        let found = after(|facts| "nobody".clone_into(&mut facts.notifications[0].user));
        assert_eq!(found.doubled, 1);
        let found = after(|facts| "nothing".clone_into(&mut first(facts, "email").event));
        assert!(
            found.violations[0].starts_with("I4: mails are there once too often: 1 (of event nothing to")
        );
        let stray = |facts: &mut Facts, event: &str| {
            again(facts, "webhook");
            let last = facts.deliveries.last_mut().unwrap();
            (last.endpoint, last.event) = ("another".to_owned(), event.to_owned());
        };
        let found = after(|facts| stray(facts, "nothing"));
        assert!(
            found.violations[0].starts_with("I4: webhooks of other receivers are there once too often: 1")
        );
        let known = World::sound().facts.events[0].id.clone();
        assert_eq!(after(|facts| stray(facts, &known)), Findings::default());
    }

    #[test]
    fn decisions_follow_the_events() {
        let found = after(|facts| "suppressed".clone_into(&mut facts.decisions[0].outcome));
        assert!(found.violations[0].contains("(suppressed instead of sent of event e"), "{found:?}");
        let own = |facts: &mut Facts| {
            let own = facts.decisions.iter_mut().find(|one| one.outcome == "suppressed").unwrap();
            "sent".clone_into(&mut own.outcome);
        };
        assert_eq!(after(own).violations.len(), 1, "nobody is told of what they did");
    }

    #[test]
    fn a_delivery_ends_as_its_tries_do() {
        let found = after(|facts| "sending".clone_into(&mut first(facts, "email").state));
        assert_eq!(found.violations.len(), 2, "{found:?}");
        let found = after(|facts| first(facts, "email").finished = false);
        assert!(found.violations[0].starts_with("I4: deliveries are finished without a final state"));
        let found = after(|facts| first(facts, "email").tries = 2);
        assert!(found.violations[0].contains("has [1] of 2"), "{found:?}");
        let found = after(|facts| facts.attempts[0].number = 2);
        assert!(found.violations[0].contains("has [2] of 1"), "{found:?}");
        let found = after(|facts| "failed".clone_into(&mut facts.attempts[0].outcome));
        assert!(found.violations[0].ends_with("is delivered, its last try failed)"), "{found:?}");
        let found = after(|facts| {
            let twin = Attempt { number: 2, ..facts.attempts[0].clone() };
            let delivery = facts.deliveries.iter_mut().find(|one| one.id == twin.delivery).unwrap();
            delivery.tries = 2;
            facts.attempts.insert(1, twin);
        });
        assert_eq!((found.doubled, found.violations.len()), (1, 1), "{found:?}");
        let found = after(|facts| {
            let stray = Attempt { delivery: "stray".to_owned(), ..facts.attempts[0].clone() };
            facts.attempts.push(stray);
        });
        assert_eq!(found.violations, ["I4: tries are there without their delivery: 1 (stray)"]);
    }

    #[test]
    fn dead_letters_must_be_expected_and_never_of_who_takes_everything() {
        let letter = |delivery: &str| Letter {
            source: "queue".to_owned(),
            delivery: delivery.to_owned(),
            reason: "gave up".to_owned(),
        };
        let found = after(|facts| facts.letters.push(letter("another")));
        assert_eq!(found.violations, ["I4: there are dead letters: 1 (queue: gave up)"]);
        let expect = Expect { dead_letters: true, ..Expect::default() };
        let mut facts = World::sound().facts;
        facts.letters.push(letter("another"));
        assert_eq!(check(&facts, expect), Findings::default());
        let own = first(&mut facts, "webhook").id.clone();
        facts.letters.push(letter(&own));
        assert_eq!(check(&facts, expect).violations.len(), 1);
    }
}
