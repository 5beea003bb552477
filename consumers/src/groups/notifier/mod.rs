//! Who is told of an event, on which channel, in which words. Every decision is kept, sent or not.

mod facts;
mod kinds;
mod news;
mod text;
mod who;

use taskpost_common::{
    Clock, Envelope,
    delivery::EmailPayload,
    notification::{Channel, Notification, Subject},
};
use taskpost_store::{
    MAX_BATCH, Session, StoreError, Tx,
    deliveries::{self, NewDelivery},
    notifications::{self, Decision, NewNotification},
};

use crate::{Applied, ApplyError, Decoded, Group};
use facts::{Facts, Verdict};
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

    fn wants(&self, envelope: &Envelope) -> bool {
        who::CONCERNED.contains(&envelope.type_name.as_str())
    }

    async fn plan(&self, reader: &mut Session, events: &[Decoded]) -> Result<Option<Plan>, ApplyError> {
        let mut asked: Vec<(&Decoded, Candidate)> = Vec::new();
        for decoded in events {
            let candidates = who::candidates(decoded.envelope.actor_id, &decoded.event);
            asked.extend(candidates.into_iter().map(|candidate| (decoded, candidate)));
        }
        let news = news::places(reader, events).await?;
        if asked.is_empty() && news.is_empty() {
            return Ok(None);
        }
        let facts = Facts::read(reader, &asked).await?;
        let mut plan = Plan { news, ..Plan::default() };
        for (decoded, candidate) in &asked {
            plan.decide(&self.clock, decoded, candidate, facts.judge(&decoded.envelope, candidate))?;
        }
        Ok(Some(plan))
    }

    async fn apply(&self, tx: &mut Tx, events: &[Decoded], plan: Plan) -> Result<Applied, ApplyError> {
        plan.store(tx, &self.clock).await?;
        for place in &plan.news {
            if let Some(decoded) = events.get(*place) {
                news::tell(tx, &self.clock, decoded).await?;
            }
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
    /// Where in the batch the events are that many are told of.
    news: Vec<usize>,
}

impl Plan {
    async fn store(&self, tx: &mut Tx, clock: &Clock) -> Result<(), StoreError> {
        for items in self.items.chunks(MAX_BATCH) {
            notifications::insert(tx, items).await?;
        }
        for mails in self.mails.chunks(MAX_BATCH) {
            deliveries::insert(tx, mails, clock.now()).await?;
        }
        for decisions in self.decisions.chunks(MAX_BATCH) {
            notifications::insert_decisions(tx, decisions).await?;
        }
        Ok(())
    }

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
        for &channel in kinds::channels(candidate.kind) {
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
                    token: None,
                };
                let mail = NewDelivery {
                    id: clock.id(),
                    channel,
                    class: kinds::class(candidate.kind),
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

/// What to open: the task, post or project, or one's own account.
fn subject(candidate: &Candidate) -> Subject {
    let (kind, id) = match candidate.about {
        About::Task(id) => ("task", id.0),
        About::Post(id) => ("post", id.0),
        About::Project(id) => ("project", id.0),
        About::Account => ("user", candidate.user_id.0),
    };
    Subject::new(kind.to_owned(), id)
}
