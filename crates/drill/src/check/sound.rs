//! A small world in which everything holds, for the tests of the checkers: each breaks one thing in it.

use std::{collections::BTreeMap, time::Duration};

use super::{
    Findings,
    facts::{Attempt, Decision, Delivery, Endpoint, Event, Facts, Mail, Notification, Request, Task},
};
use crate::history::{Answer, Mark, Operation, Wish};

const ADA: &str = "ada";
const BOB: &str = "bob";
const SINK: &str = "sink";

/// What the clients were told, and what is there. `drill 0-1` to `0-3` are tasks; the client of `0-3` never
/// knew that, and `0-4` came to nothing. `0-5` was refused, `0-6` was bad, and `0-7` started the task `0-2`.
pub struct World {
    pub operations: Vec<Operation>,
    pub marks: Vec<(Duration, Mark)>,
    pub facts: Facts,
}

/// What a client was told.
pub fn answer(at_ms: u64, status: Option<u16>, task: Option<(&str, i64)>) -> Answer {
    let (task, version) = task.map(|(id, version)| (id.to_owned(), version)).unzip();
    Answer { at_ms, took_ms: 1, status, task, version }
}

impl World {
    /// What a checker finds after one thing was made wrong, where it found nothing before.
    pub fn after(check: impl Fn(&Facts) -> Findings, harm: impl FnOnce(&mut Facts)) -> Findings {
        let mut facts = Self::sound().facts;
        assert_eq!(check(&facts), Findings::default());
        harm(&mut facts);
        check(&facts)
    }

    /// One in which everything holds.
    pub fn sound() -> Self {
        let mut world = Self { operations: Vec::new(), marks: Vec::new(), facts: Facts::default() };
        world.asks(
            "0-1",
            Wish::Create,
            vec![answer(10, None, None), answer(20, Some(201), Some(("a-1", 1)))],
        );
        world.asks("0-2", Wish::Create, vec![answer(30, Some(201), Some(("a-2", 1)))]);
        world.asks("0-3", Wish::Create, vec![answer(40, Some(503), None)]);
        world.asks("0-4", Wish::Create, vec![answer(50, None, None)]);
        world.asks("0-5", Wish::Create, vec![answer(60, Some(422), None)]);
        world.asks("0-6", Wish::CreateBadly, vec![answer(70, Some(503), None), answer(80, Some(422), None)]);
        let start = Wish::Start("a-2".to_owned());
        world.asks(
            "0-7",
            start,
            vec![answer(90, Some(200), Some(("a-2", 2))), answer(95, Some(200), Some(("a-2", 2)))],
        );
        world.registers(ADA);
        world.registers(BOB);
        for (id, title) in [("a1", "drill 0-1"), ("a2", "drill 0-2"), ("a3", "drill 0-3")] {
            world.makes(id, title);
        }
        world.starts("a2");
        let facts = &mut world.facts;
        facts.integrity = vec!["ok".to_owned()];
        facts.head = i64::try_from(facts.events.len()).unwrap();
        let groups = ["notifier", "projections", "webhooks"];
        let progress = groups.map(|group| ((group.to_owned(), String::new()), facts.head));
        facts.progress = BTreeMap::from(progress);
        let url = "http://127.0.0.1:1/hook".to_owned();
        facts.endpoints = vec![Endpoint { id: SINK.to_owned(), enabled: true, url }];
        SINK.clone_into(&mut facts.sink);
        // One of them came twice, which is allowed.
        facts.requests.push(facts.requests[0].clone());
        world
    }

    /// The answers to an operation.
    pub fn answers(&mut self, key: &str) -> &mut Vec<Answer> {
        let found = self.operations.iter_mut().find(|operation| operation.key == key);
        &mut found.unwrap().answers
    }

    /// The task of this title.
    pub fn task(&self, title: &str) -> &Task {
        self.facts.tasks.iter().find(|task| task.title == title).unwrap()
    }

    /// The same, to be changed.
    pub fn task_mut(&mut self, title: &str) -> &mut Task {
        self.facts.tasks.iter_mut().find(|task| task.title == title).unwrap()
    }

    fn asks(&mut self, key: &str, wish: Wish, answers: Vec<Answer>) {
        self.operations.push(Operation { key: format!("drill {key}"), wish, answers });
    }

    fn registers(&mut self, user: &str) {
        let event = self.appends("user.registered", user, 1, "");
        self.tells(&event, user, &format!("Welcome, {user}"));
    }

    fn makes(&mut self, id: &str, title: &str) {
        let (status, title) = ("todo".to_owned(), title.to_owned());
        self.facts.tasks.push(Task { id: id.to_owned(), status, title: title.clone(), version: 1 });
        let created = self.appends("task.created", id, 1, ADA);
        let delivery = self.delivers("webhook", &created, "", SINK);
        let kind = "task.created".to_owned();
        let subject = format!("{title} was assigned to you");
        let request = Request { webhook_id: delivery, kind, event: created, title, at_ms: 100 };
        self.facts.requests.push(request);
        let assigned = self.appends("task.assigned", id, 1, ADA);
        self.tells(&assigned, BOB, &subject);
    }

    fn starts(&mut self, id: &str) {
        let task = self.facts.tasks.iter_mut().find(|task| task.id == id).unwrap();
        (task.version, task.status) = (2, "in_progress".to_owned());
        let event = self.appends("task.status_changed", id, 2, ADA);
        self.decides(&event, ADA, "in_app", "suppressed");
        self.decides(&event, BOB, "in_app", "sent");
        self.facts.notifications.push(Notification { event, user: BOB.to_owned() });
    }

    /// Gives the event's id.
    fn appends(&mut self, kind: &str, aggregate: &str, version: i64, actor: &str) -> String {
        let position = i64::try_from(self.facts.events.len()).unwrap() + 1;
        let id = format!("e{position}");
        let of_task = |user: &str| if kind.starts_with("task.") { user.to_owned() } else { String::new() };
        self.facts.events.push(Event {
            position,
            id: id.clone(),
            kind: kind.to_owned(),
            aggregate: aggregate.to_owned(),
            version,
            actor: actor.to_owned(),
            owner: of_task(ADA),
            assignee: of_task(BOB),
        });
        id
    }

    /// An inbox item and a mail.
    fn tells(&mut self, event: &str, user: &str, subject: &str) {
        self.decides(event, user, "in_app", "sent");
        self.decides(event, user, "email", "sent");
        self.facts.notifications.push(Notification { event: event.to_owned(), user: user.to_owned() });
        let id = self.delivers("email", event, user, "");
        let to = format!("{user}@example.org");
        self.facts.mails.push(Mail { id, to, subject: subject.to_owned() });
    }

    fn decides(&mut self, event: &str, user: &str, channel: &str, outcome: &str) {
        let [event, user, channel, outcome] = [event, user, channel, outcome].map(str::to_owned);
        self.facts.decisions.push(Decision { event, user, channel, outcome });
    }

    /// Gives the delivery's id.
    fn delivers(&mut self, channel: &str, event: &str, user: &str, endpoint: &str) -> String {
        let id = format!("d{}", self.facts.deliveries.len() + 1);
        let outcome = "delivered".to_owned();
        self.facts.attempts.push(Attempt { delivery: id.clone(), outcome: outcome.clone(), number: 1 });
        self.facts.deliveries.push(Delivery {
            id: id.clone(),
            channel: channel.to_owned(),
            state: outcome,
            event: event.to_owned(),
            user: user.to_owned(),
            endpoint: endpoint.to_owned(),
            finished: true,
            tries: 1,
        });
        id
    }
}
