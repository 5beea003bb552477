//! I7 no silent drop: what was to be delivered is delivered, a dead letter, or called back for a reason that
//! can be seen; and nothing is left in the broker's queues.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Findings,
    facts::{Delivery, Facts, plain},
    once::FINAL,
    queues::Queues,
};
use crate::expect::Expect;

/// The deliveries and what became of them.
pub fn check(facts: &Facts) -> Findings {
    let mut found = Findings::default();
    let mut totals: BTreeMap<&str, usize> = BTreeMap::new();
    for delivery in &facts.deliveries {
        *totals.entry(&delivery.state).or_default() += 1;
    }
    let others = totals.iter().filter(|(state, _)| !FINAL.contains(*state));
    let others: Vec<String> = others.map(|(state, count)| format!("{count} {state}")).collect();
    let accounted: usize = FINAL.iter().filter_map(|state| totals.get(state)).sum();
    let rest = facts.deliveries.len() - accounted;
    found.blame(&format!("I7: {rest} deliveries are unaccounted for, by state"), others);
    let letters: BTreeSet<&str> = facts.letters.iter().map(|letter| &*letter.delivery).collect();
    let dead = |delivery: &&Delivery| delivery.state == "dead";
    let silent = facts.deliveries.iter().filter(dead).filter(|delivery| !letters.contains(&*delivery.id));
    let silent = silent.map(|delivery| &delivery.id);
    found.lost += found.blame("I7: deliveries were given up without a dead letter", silent);
    let dead: BTreeSet<&str> = facts.deliveries.iter().filter(dead).map(|delivery| &*delivery.id).collect();
    let alive = facts.letters.iter().filter(|letter| letter.source == "queue");
    let alive = alive.filter(|letter| !dead.contains(&*letter.delivery)).map(|letter| &letter.delivery);
    found.blame("I7: dead letters stand for deliveries that were not given up", alive);
    let enabled = |delivery: &&Delivery| {
        let endpoint = facts.endpoints.iter().find(|endpoint| endpoint.id == delivery.endpoint);
        delivery.channel != "webhook" || endpoint.is_some_and(|endpoint| endpoint.enabled)
    };
    let cancelled = facts.deliveries.iter().filter(|delivery| delivery.state == "cancelled").filter(enabled);
    let cancelled = cancelled.map(|delivery| &delivery.id);
    found.lost += found.blame("I7: deliveries were called back though their receiver is there", cancelled);
    found
}

/// What the broker still has. Its copies of dead letters may be fewer than these, as the row is the truth.
pub fn queues(facts: &Facts, queues: &Queues, expect: Expect) -> Findings {
    let mut found = Findings::default();
    let left = queues.left.iter().map(|(queue, count)| format!("{count} in {queue}"));
    found.blame("I7: queues of RabbitMQ are not empty", left);
    found.blame("I7: queues of RabbitMQ are not there", &queues.gone);
    let dead: BTreeSet<&str> = facts
        .deliveries
        .iter()
        .filter(|delivery| delivery.state == "dead")
        .map(|delivery| &*delivery.id)
        .collect();
    let ours: BTreeSet<&str> = facts.deliveries.iter().map(|delivery| &*delivery.id).collect();
    let wrong = queues.set_aside.iter().filter(|body| {
        let id = plain(body);
        let poison = !ours.contains(&*id);
        if poison { !expect.dead_letters } else { !dead.contains(&*id) }
    });
    found.blame("I7: RabbitMQ has set messages aside that are no dead letters", wrong);
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::{facts::Letter, sound::World};

    fn after(harm: impl FnOnce(&mut Facts)) -> Findings {
        World::after(check, harm)
    }

    fn letter(delivery: &str) -> Letter {
        Letter { source: "queue".to_owned(), delivery: delivery.to_owned(), reason: "no".to_owned() }
    }

    fn webhook(facts: &mut Facts) -> &mut Delivery {
        facts.deliveries.iter_mut().find(|delivery| delivery.channel == "webhook").unwrap()
    }

    #[test]
    fn every_delivery_is_accounted_for() {
        let found = after(|facts| {
            "queued".clone_into(&mut facts.deliveries[0].state);
            "retrying".clone_into(&mut facts.deliveries[1].state);
            "queued".clone_into(&mut facts.deliveries[2].state);
        });
        assert_eq!(
            found.violations,
            ["I7: 3 deliveries are unaccounted for, by state: 2 (2 queued, 1 retrying)"]
        );
    }

    #[test]
    fn what_is_given_up_has_its_letter_and_nothing_else_has() {
        let found = after(|facts| "dead".clone_into(&mut facts.deliveries[0].state));
        assert_eq!(found.lost, 1);
        assert!(found.violations[0].starts_with("I7: deliveries were given up without a dead letter: 1"));
        let found = after(|facts| {
            "dead".clone_into(&mut facts.deliveries[0].state);
            facts.letters.push(letter(&facts.deliveries[0].id));
        });
        assert_eq!(found, Findings::default());
        let found = after(|facts| facts.letters.push(letter(&facts.deliveries[0].id)));
        assert!(
            found.violations[0]
                .starts_with("I7: dead letters stand for deliveries that were not given up: 1")
        );
    }

    #[test]
    fn only_a_receiver_that_is_gone_or_off_has_deliveries_called_back() {
        let cancel = |facts: &mut Facts| "cancelled".clone_into(&mut webhook(facts).state);
        assert_eq!(after(cancel).lost, 1);
        let off = |facts: &mut Facts| {
            cancel(facts);
            facts.endpoints[0].enabled = false;
        };
        assert_eq!(after(off), Findings::default());
        assert_eq!(after(|facts| (cancel(facts), facts.endpoints.clear()).1), Findings::default());
        assert_eq!(after(|facts| "cancelled".clone_into(&mut facts.deliveries[0].state)).lost, 1, "a mail");
    }

    #[test]
    fn the_broker_keeps_nothing_but_dead_letters() {
        let mut facts = World::sound().facts;
        let (alive, dead) = (facts.deliveries[0].id.clone(), facts.deliveries[1].id.clone());
        "dead".clone_into(&mut facts.deliveries[1].state);
        let (calm, poison) = (Expect::default(), Expect { dead_letters: true, ..Expect::default() });
        let check = |queues: Queues, expect| super::queues(&facts, &queues, expect).violations;
        let none: [&str; 0] = [];
        let aside = |body: &str| Queues { set_aside: vec![body.to_owned()], ..Queues::default() };
        assert_eq!(check(Queues::default(), calm), none);
        assert_eq!(check(aside(&dead), calm), none);
        assert_eq!(check(aside("nonsense"), poison), none);
        let wrong = "I7: RabbitMQ has set messages aside that are no dead letters: 1";
        assert_eq!(check(aside("nonsense"), calm), [format!("{wrong} (nonsense)")]);
        assert_eq!(check(aside(&alive), poison), [format!("{wrong} ({alive})")]);
        let left = Queues { left: vec![("t.notify.email.high".to_owned(), 3)], ..Queues::default() };
        assert_eq!(check(left, calm), ["I7: queues of RabbitMQ are not empty: 1 (3 in t.notify.email.high)"]);
        let gone = Queues { gone: vec!["t.notify.dlq".to_owned()], ..Queues::default() };
        assert_eq!(check(gone, calm), ["I7: queues of RabbitMQ are not there: 1 (t.notify.dlq)"]);
    }
}
