//! Who is told of an event, on which channel, in which words. Every decision is kept, sent or not.

mod text;
mod who;

use std::collections::{BTreeSet, HashMap};

use taskpost_common::{
    Clock, Envelope, TaskId, UserId,
    delivery::EmailPayload,
    notification::{Channel, Class, Notification, Subject},
    user::{User, UserStatus},
};
use taskpost_store::{
    MAX_BATCH, Session, StoreError, Tx,
    deliveries::{self, NewDelivery},
    notifications::{self, Decision, NewNotification},
    tasks, users,
};

use crate::{Applied, ApplyError, Decoded, Group};
use who::{About, Candidate};

/// The group that fills inboxes and sends e-mails.
#[derive(Debug)]
pub struct Notifier {
    clock: Clock,
}

impl Notifier {
    /// A notifier with this clock.
    pub const fn new(clock: Clock) -> Self {
        Self { clock }
    }
}

impl Group for Notifier {
    const NAME: &'static str = "notifier";
    type Plan = Plan;

    fn wants(&self, type_name: &str) -> bool {
        who::CONCERNED.contains(&type_name)
    }

    async fn plan(&self, reader: &mut Session, events: &[Decoded]) -> Result<Option<Plan>, ApplyError> {
        let mut asked: Vec<(&Decoded, Candidate)> = Vec::new();
        for decoded in events {
            asked.extend(who::candidates(&decoded.event).into_iter().map(|candidate| (decoded, candidate)));
        }
        if asked.is_empty() {
            return Ok(None);
        }
        let facts = Facts::read(reader, &asked).await?;
        let mut plan = Plan::default();
        for (decoded, candidate) in &asked {
            plan.decide(&self.clock, decoded, candidate, facts.judge(&decoded.envelope, candidate))?;
        }
        Ok(Some(plan))
    }

    async fn apply(&self, tx: &mut Tx, _events: &[Decoded], plan: Plan) -> Result<Applied, ApplyError> {
        for items in plan.items.chunks(MAX_BATCH) {
            notifications::insert(tx, items).await?;
        }
        for mails in plan.mails.chunks(MAX_BATCH) {
            deliveries::insert(tx, mails, self.clock.now()).await?;
        }
        for decisions in plan.decisions.chunks(MAX_BATCH) {
            notifications::insert_decisions(tx, decisions).await?;
        }
        Ok(Applied { deliveries: !plan.mails.is_empty(), events: false })
    }
}

/// What becomes of a batch.
#[derive(Debug, Default)]
pub struct Plan {
    items: Vec<NewNotification>,
    mails: Vec<NewDelivery>,
    decisions: Vec<Decision>,
}

impl Plan {
    /// Adds a decision for each channel, and what goes out if it is to be sent.
    fn decide(
        &mut self,
        clock: &Clock,
        decoded: &Decoded,
        candidate: &Candidate,
        verdict: Verdict,
    ) -> Result<(), StoreError> {
        let envelope = &decoded.envelope;
        let (sent, rule) = match verdict {
            Verdict::Send => (true, "default"),
            Verdict::Suppress(rule) => (false, rule),
        };
        let (subject, now) = (subject(candidate), clock.now());
        let notification_id = clock.id();
        for &channel in who::channels(candidate.kind) {
            let mut decision = Decision {
                event_id: envelope.id,
                user_id: candidate.user_id,
                channel,
                sent,
                reason: candidate.reason,
                rule,
                delivery_id: None,
                at: now,
            };
            if sent && channel == Channel::Email {
                let payload = EmailPayload {
                    user_id: candidate.user_id,
                    kind: candidate.kind,
                    notification_id,
                    title: candidate.text.title.clone(),
                    body: candidate.text.body.clone(),
                    url: subject.url.clone(),
                };
                let mail = NewDelivery {
                    id: clock.id(),
                    channel,
                    class: Class::High,
                    event_id: envelope.id,
                    user_id: Some(candidate.user_id),
                    endpoint_id: None,
                    notification_id: Some(notification_id),
                    payload: serde_json::to_string(&payload)?,
                    traceparent: decoded.traceparent(),
                    due_at: now,
                };
                decision.delivery_id = Some(mail.id);
                self.mails.push(mail);
            }
            self.decisions.push(decision);
        }
        if sent {
            let item = Notification {
                id: notification_id,
                kind: candidate.kind,
                reason: candidate.reason,
                title: candidate.text.title.clone(),
                body: candidate.text.body.clone(),
                subject,
                event_id: envelope.id,
                created_at: now,
                read_at: None,
                archived_at: None,
            };
            self.items.push(NewNotification { user_id: candidate.user_id, item });
        }
        Ok(())
    }
}

/// What to open: the task, or one's own account.
fn subject(candidate: &Candidate) -> Subject {
    let (kind, id) = match candidate.about {
        About::Task(id) => ("task", id.0),
        About::Account => ("user", candidate.user_id.0),
    };
    Subject::new(kind.to_owned(), id)
}

/// Whether a candidate is told; if not, by which rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Send,
    Suppress(&'static str),
}

/// What the store says now about the people and tasks of a batch.
#[derive(Debug, Default)]
struct Facts {
    users: HashMap<UserId, User>,
    /// Reporter and assignee of each task that still exists.
    readers: HashMap<TaskId, [Option<UserId>; 2]>,
}

impl Facts {
    /// Reads only what a verdict depends on.
    async fn read(reader: &mut Session, asked: &[(&Decoded, Candidate)]) -> Result<Self, StoreError> {
        let is_open =
            |(decoded, candidate): &&(&Decoded, Candidate)| by_table(&decoded.envelope, candidate).is_none();
        let open = || asked.iter().filter(is_open);
        let ids: BTreeSet<UserId> = open().map(|(_, candidate)| candidate.user_id).collect();
        let to_read: BTreeSet<TaskId> = open().filter_map(|(_, candidate)| must_read(candidate)).collect();
        let mut facts = Self::default();
        for ids in Vec::from_iter(ids).chunks(MAX_BATCH) {
            let found = users::by_ids(reader, ids).await?;
            facts.users.extend(found.into_iter().map(|user| (user.id, user)));
        }
        let found = tasks::by_ids(reader, &Vec::from_iter(to_read)).await?;
        facts
            .readers
            .extend(found.into_iter().map(|task| (task.id, [Some(task.reporter_id), task.assignee_id])));
        Ok(facts)
    }

    /// The rules in the order of `who`; the first that speaks decides.
    fn judge(&self, envelope: &Envelope, candidate: &Candidate) -> Verdict {
        if let Some(rule) = by_table(envelope, candidate) {
            return Verdict::Suppress(rule);
        }
        let Some(user) = self.users.get(&candidate.user_id) else { return Verdict::Suppress("unknown user") };
        let may_read = must_read(candidate).is_none_or(|task| {
            self.readers
                .get(&task)
                .is_some_and(|readers| user.roles.is_admin() || readers.contains(&Some(user.id)))
        });
        if !may_read {
            return Verdict::Suppress("cannot read");
        }
        match user.status {
            UserStatus::Active => Verdict::Send,
            UserStatus::Disabled => Verdict::Suppress("disabled"),
        }
    }
}

/// The rules that need nothing from the store.
fn by_table(envelope: &Envelope, candidate: &Candidate) -> Option<&'static str> {
    let by_actor = envelope.actor_id == Some(candidate.user_id) && !who::tells_the_actor(candidate.kind);
    candidate.veto.or_else(|| by_actor.then_some("actor"))
}

/// The task that a candidate must be able to read to be told.
fn must_read(candidate: &Candidate) -> Option<TaskId> {
    match candidate.about {
        About::Task(id) if who::tells_only_readers(candidate.kind) => Some(id),
        About::Task(_) | About::Account => None,
    }
}
