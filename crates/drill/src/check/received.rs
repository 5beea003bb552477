//! I6 notification: who removes doubles by `webhook-id` sees each webhook once, who does not sees it at least
//! once; and every copy of a mail has the same Message-ID.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Findings,
    facts::{Delivery, Facts, Request},
};

/// What was to be sent against what came.
pub fn check(facts: &Facts) -> Findings {
    let mut found = Findings::default();
    webhooks(facts, &mut found);
    mails(facts, &mut found);
    found
}

fn webhooks(facts: &Facts, found: &mut Findings) {
    let sent: BTreeMap<&str, &Delivery> = facts
        .deliveries
        .iter()
        .filter(|delivery| delivery.channel == "webhook" && delivery.endpoint == facts.sink)
        .map(|delivery| (&*delivery.id, delivery))
        .collect();
    let mut came: BTreeMap<&str, Vec<&Request>> = BTreeMap::new();
    for request in &facts.requests {
        came.entry(&request.webhook_id).or_default().push(request);
    }
    let missing = sent.values().filter(|delivery| !came.contains_key(&*delivery.id));
    let missing = missing.map(|delivery| format!("{} of event {}", delivery.id, delivery.event));
    found.lost += found.blame("I6: webhooks never came", missing);
    let foreign = came.keys().filter(|id| !sent.contains_key(*id));
    found.blame("I6: webhooks came that nobody sent", foreign);
    let other = facts.requests.iter().filter(|request| {
        sent.get(&*request.webhook_id).is_some_and(|delivery| delivery.event != request.event)
    });
    let other = other.map(|request| format!("{} with event {}", request.webhook_id, request.event));
    found.blame("I6: webhooks came with another event than their own", other);
    let unasked = facts.requests.iter().filter(|request| request.kind != "task.created");
    let unasked = unasked.map(|request| format!("{} with {}", request.webhook_id, request.kind));
    found.blame("I6: webhooks came that the receiver did not ask for", unasked);
    let mut ids: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for request in &facts.requests {
        ids.entry(&request.event).or_default().insert(&request.webhook_id);
    }
    let titles = |event: &str| facts.requests.iter().find(|one| one.event == event).map(|one| &*one.title);
    let again = ids.iter().filter(|(_, ids)| ids.len() > 1);
    let again =
        again.map(|(event, ids)| format!("{} under {}", titles(event).unwrap_or_default(), ids.len()));
    found.doubled += found.blame("I6: events came under more than one webhook-id", again);
    found.repeats = facts.requests.len() - came.len();
}

fn mails(facts: &Facts, found: &mut Findings) {
    let sent: BTreeSet<&str> = facts
        .deliveries
        .iter()
        .filter(|delivery| delivery.channel == "email")
        .map(|delivery| &*delivery.id)
        .collect();
    let came: BTreeSet<&str> = facts.mails.iter().map(|mail| &*mail.id).collect();
    found.lost += found.blame("I6: mails never came", sent.difference(&came));
    found.blame("I6: mails came that nobody sent", came.difference(&sent));
    let mut ids: BTreeMap<(&str, &str), BTreeSet<&str>> = BTreeMap::new();
    for mail in &facts.mails {
        ids.entry((&mail.to, &mail.subject)).or_default().insert(&mail.id);
    }
    let again = ids.iter().filter(|(_, ids)| ids.len() > 1);
    let again = again.map(|((to, subject), ids)| format!("{subject} to {to} under {}", ids.len()));
    found.doubled += found.blame("I6: mails came under more than one Message-ID", again);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::{facts::Mail, sound::World};

    fn after(harm: impl FnOnce(&mut Facts)) -> Findings {
        let mut facts = World::sound().facts;
        assert_eq!(check(&facts), Findings { repeats: 1, ..Findings::default() });
        harm(&mut facts);
        check(&facts)
    }

    #[test]
    fn a_webhook_comes_under_one_id_however_often() {
        let found = after(|facts| facts.requests.push(facts.requests[0].clone()));
        assert_eq!(found, Findings { repeats: 2, ..Findings::default() });
        let found = after(|facts| {
            let other = Request { webhook_id: "w".to_owned(), ..facts.requests[0].clone() };
            facts.requests.push(other);
        });
        assert_eq!(found.doubled, 1);
        assert_eq!(
            found.violations,
            [
                "I6: webhooks came that nobody sent: 1 (w)",
                "I6: events came under more than one webhook-id: 1 (drill 0-1 under 2)",
            ]
        );
    }

    #[test]
    fn a_webhook_that_never_came_is_lost() {
        let found = after(|facts| facts.requests.retain(|request| request.title != "drill 0-2"));
        assert_eq!((found.lost, found.violations.len()), (1, 1));
        assert!(found.violations[0].starts_with("I6: webhooks never came: 1 ("), "{found:?}");
    }

    #[test]
    fn an_id_stands_for_one_event_that_was_asked_for() {
        let found = after(|facts| "other".clone_into(&mut facts.requests[0].event));
        assert!(found.violations[0].starts_with("I6: webhooks came with another event than their own: 1"));
        let found = after(|facts| "task.updated".clone_into(&mut facts.requests[0].kind));
        assert!(found.violations[0].starts_with("I6: webhooks came that the receiver did not ask for: 1"));
    }

    #[test]
    fn a_mail_has_one_id_in_all_its_copies() {
        let found = after(|facts| facts.mails.push(facts.mails[0].clone()));
        assert_eq!(found, Findings { repeats: 1, ..Findings::default() });
        let found = after(|facts| {
            let other = Mail { id: "m".to_owned(), ..facts.mails[0].clone() };
            facts.mails.push(other);
        });
        assert_eq!((found.doubled, found.violations.len()), (1, 2), "{found:?}");
        assert_eq!(found.violations[0], "I6: mails came that nobody sent: 1 (m)");
        let found = after(|facts| drop(facts.mails.remove(0)));
        assert_eq!(found.lost, 1);
        assert!(found.violations[0].starts_with("I6: mails never came: 1 ("), "{found:?}");
    }
}
