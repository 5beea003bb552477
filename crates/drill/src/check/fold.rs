//! What must follow from the log: a fold of its events, apart from the code that it checks.

use std::collections::{BTreeMap, BTreeSet};

use super::facts::{Event, Facts};

/// An event and a user, or an event and an endpoint.
pub type Pair<'a> = (&'a str, &'a str);

/// Everything that the events ask for.
#[derive(Debug, Default)]
pub struct Fold<'a> {
    /// Event and user of each inbox item.
    pub notifications: BTreeSet<Pair<'a>>,
    /// Event and user of each mail.
    pub mails: BTreeSet<Pair<'a>>,
    /// Event and endpoint of each webhook that goes to the stack's own receiver.
    pub webhooks: BTreeSet<Pair<'a>>,
    /// By event, user and channel, what was decided.
    pub decisions: BTreeMap<(&'a str, &'a str, &'static str), &'static str>,
}

impl<'a> Fold<'a> {
    /// Of these events.
    pub fn of(facts: &'a Facts) -> Self {
        let mut fold = Self::default();
        for event in &facts.events {
            match &*event.kind {
                "user.registered" => fold.tell(event, &event.aggregate, true),
                "task.assigned" => fold.tell(event, &event.assignee, true),
                "task.status_changed" => {
                    for user in BTreeSet::from([&event.owner, &event.assignee]) {
                        fold.tell(event, user, false);
                    }
                }
                "task.created" => drop(fold.webhooks.insert((&event.id, &facts.sink))),
                _ => {}
            }
        }
        fold
    }

    /// A user is told of an event, unless they did it; with a mail or without.
    fn tell(&mut self, event: &'a Event, user: &'a str, mail: bool) {
        let by_actor = event.actor == user && event.kind != "user.registered";
        let outcome = if by_actor { "suppressed" } else { "sent" };
        self.decisions.insert((&event.id, user, "in_app"), outcome);
        if mail {
            self.decisions.insert((&event.id, user, "email"), outcome);
        }
        if !by_actor {
            self.notifications.insert((&event.id, user));
            if mail {
                self.mails.insert((&event.id, user));
            }
        }
    }
}

/// The pairs of deliveries on a channel.
pub fn delivered<'a>(facts: &'a Facts, channel: &'a str) -> impl Iterator<Item = Pair<'a>> {
    let deliveries = facts.deliveries.iter().filter(move |delivery| delivery.channel == channel);
    deliveries.map(move |delivery| {
        let receiver = if channel == "email" { &delivery.user } else { &delivery.endpoint };
        (&*delivery.event, &**receiver)
    })
}
