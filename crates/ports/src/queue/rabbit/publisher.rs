//! The connection that publishes: kept up by a task of its own, and dropped whole on any error.
//!
//! A message counts as published only when the broker confirmed that it is in a queue: `Ack` without a returned message,
//! on a channel in confirm mode, of a mandatory message. While the broker blocks the connection nothing is given to
//! lapin, which would keep it in memory.

use std::{
    collections::HashSet,
    pin::pin,
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::Duration,
};

use futures::{Stream, StreamExt, stream::FuturesUnordered};
use lapin::{
    BasicProperties, Channel as Amqp, Confirmation, Event,
    options::{BasicPublishOptions, ConfirmSelectOptions},
    types::{AMQPValue, FieldTable, ShortString},
};
use taskpost_common::DeliveryId;
use tokio::{
    sync::{Semaphore, watch},
    time::{Instant, interval, sleep, timeout_at},
};
use tokio_util::sync::CancellationToken;

use super::{
    closing::Closing,
    condition::{Attempts, Condition},
    link::{Address, Link, answered},
    topology::Topology,
    trouble::Trouble,
};

/// How long the broker may take to confirm.
const CONFIRM: Duration = Duration::from_secs(5);
/// How many messages may wait for their confirms.
const UNCONFIRMED: usize = 4_096;
/// How often the connection is looked at.
const LOOK: Duration = Duration::from_secs(1);
/// After so many looks what is declared is declared again, in case somebody deleted it.
const LOOKS_PER_DECLARATION: u32 = 60;

/// A message: the id of a delivery, and where it goes.
#[derive(Clone, Debug)]
pub(super) struct Message {
    pub id: DeliveryId,
    pub exchange: ShortString,
    pub key: ShortString,
    /// Which try it is for, from 1.
    pub attempt: i64,
    /// When it may be tried, if that is later.
    pub not_before: Option<String>,
    pub traceparent: Option<String>,
}

pub(super) struct Publisher {
    address: Address,
    pub topology: Topology,
    pub condition: Condition,
    session: watch::Sender<Option<Arc<Session>>>,
}

impl Publisher {
    pub(super) fn new(address: Address, topology: Topology) -> Self {
        Self { address, topology, condition: Condition::new("publish"), session: watch::Sender::new(None) }
    }

    /// The session, if messages can be published now.
    pub(super) fn session(&self) -> Option<Arc<Session>> {
        self.session.borrow().clone().filter(|session| session.is_open())
    }

    /// Publishes; gives for each message whether the broker is known to have it.
    pub(super) async fn publish(&self, messages: &[Message]) -> Vec<bool> {
        match self.session() {
            Some(session) => session.publish(messages).await,
            None => vec![false; messages.len()],
        }
    }

    /// Keeps the connection up until the end.
    pub(super) async fn keep_up(self: Arc<Self>, closing: Closing) {
        let mut attempts = Attempts::default();
        while !closing.begun() {
            let since = Instant::now();
            let (trouble, stood) = match closing.unless_begun(self.open()).await {
                None => break,
                Some(Ok(session)) => {
                    // Listening before anything is published, so that no word is missed.
                    let events = session.link.events();
                    self.session.send_replace(Some(Arc::clone(&session)));
                    self.condition.up();
                    let trouble = self.watch(&session, events, &closing).await;
                    self.session.send_replace(None);
                    session.end().await;
                    (trouble, Some(since))
                }
                Some(Err(trouble)) => (Some(trouble), None),
            };
            if let Some(trouble) = trouble {
                self.condition.down(trouble);
                closing.unless_begun(sleep(attempts.wait(stood))).await;
            }
        }
    }

    async fn open(&self) -> Result<Arc<Session>, Trouble> {
        let link = self.address.connect("publish").await?;
        let control = link.channel().await?;
        self.topology.declare(&control).await?;
        Ok(Arc::new(Session::new(link, control)))
    }

    /// Watches a session to its end; gives what ended it, or nothing when the process stops.
    async fn watch(
        &self,
        session: &Session,
        events: impl Stream<Item = Event>,
        closing: &Closing,
    ) -> Option<Trouble> {
        let mut events = pin!(events);
        let mut looks = interval(LOOK);
        let mut seen: u32 = 0;
        loop {
            tokio::select! {
                () = closing.done() => return None,
                () = session.failed.cancelled() => return session.trouble.get().cloned(),
                event = events.next() => match event {
                    Some(Event::ConnectionBlocked(reason)) => self.condition.down(Trouble::Blocked(reason)),
                    Some(Event::ConnectionUnblocked) => self.condition.up(),
                    Some(Event::Error(error)) => return Some(Trouble::of_work(&error)),
                    Some(_) => {}
                    None => return Some(Trouble::closed()),
                },
                _ = looks.tick() => {
                    if !session.link.stands() {
                        return Some(Trouble::closed());
                    }
                    seen += 1;
                    if seen.is_multiple_of(LOOKS_PER_DECLARATION) && !session.link.blocked() {
                        match closing.unless_done(self.topology.declare(&session.control)).await {
                            Some(Ok(())) => {}
                            Some(Err(trouble)) => return Some(trouble),
                            None => return None,
                        }
                    }
                }
            }
        }
    }
}

/// A connection that stands, with its channels.
pub(super) struct Session {
    link: Link,
    /// For questions; nothing is published on it.
    pub control: Amqp,
    /// Channels in confirm mode that nobody uses now. Each is used by one at a time, as lapin counts a message and sends
    /// it in two steps.
    idle: Mutex<Vec<Amqp>>,
    room: Semaphore,
    failed: CancellationToken,
    trouble: OnceLock<Trouble>,
}

impl Session {
    fn new(link: Link, control: Amqp) -> Self {
        Self {
            link,
            control,
            idle: Mutex::new(Vec::new()),
            room: Semaphore::new(UNCONFIRMED),
            failed: CancellationToken::new(),
            trouble: OnceLock::new(),
        }
    }

    /// Whether messages can be published on it now.
    fn is_open(&self) -> bool {
        !self.failed.is_cancelled() && self.link.stands() && !self.link.blocked()
    }

    /// Gives it up, with all that is under way on it.
    pub(super) fn fail(&self, trouble: Trouble) {
        // The first trouble is the cause, the others follow from it.
        let _ = self.trouble.set(trouble);
        self.failed.cancel();
    }

    async fn end(&self) {
        self.failed.cancel();
        self.link.close().await;
    }

    async fn publish(&self, messages: &[Message]) -> Vec<bool> {
        let deadline = Instant::now() + CONFIRM;
        let mut confirmed = vec![false; messages.len()];
        let room = u32::try_from(messages.len().min(UNCONFIRMED)).unwrap_or(u32::MAX);
        let Ok(Ok(_room)) = timeout_at(deadline, self.room.acquire_many(room)).await else {
            return confirmed;
        };
        let late = || Err(Trouble::Late("confirming messages"));
        let amqp = timeout_at(deadline, self.publishing_channel()).await;
        let all_known = match amqp.unwrap_or_else(|_| late()) {
            Err(trouble) => Err(trouble),
            Ok(amqp) if self.confirm(&amqp, messages, &mut confirmed, deadline).await => Ok(amqp),
            Ok(_) => late(),
        };
        match all_known {
            Ok(amqp) => self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(amqp),
            // It goes on when the broker reads again; what was sent is confirmed to nobody then.
            Err(_) if self.link.blocked() => {}
            Err(trouble) => self.fail(trouble),
        }
        confirmed
    }

    /// Publishes on a channel, and notes what is confirmed until the deadline; whether the broker answered to all.
    async fn confirm(
        &self,
        amqp: &Amqp,
        messages: &[Message],
        confirmed: &mut [bool],
        deadline: Instant,
    ) -> bool {
        let began = Instant::now();
        let seconds = metrics::histogram!("taskpost_queue_confirm_seconds");
        let mut answers: FuturesUnordered<_> = messages
            .iter()
            .enumerate()
            .map(|(place, message)| async move { (place, send(amqp, message).await) })
            .collect();
        let mut unroutable = HashSet::new();
        while let Ok(answer) = timeout_at(deadline, answers.next()).await {
            let Some((place, answer)) = answer else { break };
            match answer {
                Ok(Confirmation::Ack(None)) => {
                    confirmed[place] = true;
                    seconds.record(began.elapsed());
                }
                // One confirm may be for many messages; then lapin gives a returned message to any of them.
                Ok(Confirmation::Ack(Some(returned)) | Confirmation::Nack(Some(returned))) => {
                    unroutable.extend(returned.properties.message_id().as_ref().map(ToString::to_string));
                    self.fail(Trouble::Unroutable);
                }
                // The queue is full.
                Ok(Confirmation::Nack(None)) => {}
                Ok(Confirmation::NotRequested) => {
                    self.fail(Trouble::Broken("confirms were not asked for".to_owned()));
                }
                Err(error) => self.fail(Trouble::of_work(&error)),
            }
        }
        for (message, confirmed) in messages.iter().zip(confirmed.iter_mut()) {
            *confirmed &= unroutable.is_empty() || !unroutable.contains(&message.id.to_string());
        }
        metrics::counter!("taskpost_queue_unroutable_total").increment(unroutable.len() as u64);
        let published = confirmed.iter().filter(|confirmed| **confirmed).count();
        metrics::counter!("taskpost_queue_published_total").increment(published as u64);
        answers.is_empty()
    }

    async fn publishing_channel(&self) -> Result<Amqp, Trouble> {
        if let Some(amqp) = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop() {
            return Ok(amqp);
        }
        let amqp = self.link.channel().await?;
        answered("opening a channel", amqp.confirm_select(ConfirmSelectOptions::default())).await?;
        Ok(amqp)
    }
}

/// Publishes one message and waits for its confirm. Everything up to sending is done at the first poll, so that many of
/// these go out in one burst.
async fn send(amqp: &Amqp, message: &Message) -> lapin::Result<Confirmation> {
    let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
    let id = message.id.to_string();
    let confirm = amqp.basic_publish(
        message.exchange.clone(),
        message.key.clone(),
        options,
        id.as_bytes(),
        properties(message, &id),
    );
    confirm.await?.await
}

fn properties(message: &Message, id: &str) -> BasicProperties {
    const PERSISTENT: u8 = 2;
    let mut headers = FieldTable::default();
    headers.insert("attempt".into(), AMQPValue::LongLongInt(message.attempt));
    let texts = [("traceparent", &message.traceparent), ("not_before", &message.not_before)];
    for (name, value) in texts {
        if let Some(value) = value {
            headers.insert(name.into(), AMQPValue::LongString(value.as_str().into()));
        }
    }
    BasicProperties::default()
        .with_delivery_mode(PERSISTENT)
        .with_message_id(id.into())
        .with_type("delivery".into())
        .with_headers(headers)
}
