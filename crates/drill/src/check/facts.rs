//! What is there once everything is at rest: the rows of the store, and what came to the receivers. Ids have
//! small letters and no dashes; an empty one is none.

use std::{collections::BTreeMap, time::Instant};

use taskpost_testkit::Received;

use crate::stack::{Setup, Stack};

/// Everything that is there.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// What SQLite says of its file; `ok` of Postgres.
    pub integrity: Vec<String>,
    pub tasks: Vec<Task>,
    /// In the order of their positions.
    pub events: Vec<Event>,
    /// The last position given out.
    pub head: i64,
    /// How many events have no position yet.
    pub outbox: i64,
    /// By group and partition.
    pub progress: BTreeMap<(String, String), i64>,
    pub notifications: Vec<Notification>,
    pub decisions: Vec<Decision>,
    pub deliveries: Vec<Delivery>,
    /// By delivery, in the order of their numbers.
    pub attempts: Vec<Attempt>,
    pub letters: Vec<Letter>,
    pub endpoints: Vec<Endpoint>,
    /// The endpoint that the stack's own receiver is.
    pub sink: String,
    /// What came to it.
    pub requests: Vec<Request>,
    pub mails: Vec<Mail>,
}

#[derive(Clone, Debug)]
pub struct Task {
    pub id: String,
    pub status: String,
    pub title: String,
    pub version: i64,
}

#[derive(Clone, Debug)]
pub struct Event {
    pub position: i64,
    pub id: String,
    pub kind: String,
    pub aggregate: String,
    pub version: i64,
    pub actor: String,
    pub owner: String,
    pub assignee: String,
}

#[derive(Clone, Debug)]
pub struct Notification {
    pub event: String,
    pub user: String,
}

#[derive(Clone, Debug)]
pub struct Decision {
    pub event: String,
    pub user: String,
    pub channel: String,
    pub outcome: String,
}

#[derive(Clone, Debug)]
pub struct Delivery {
    pub id: String,
    pub channel: String,
    pub state: String,
    pub event: String,
    /// Of a mail.
    pub user: String,
    /// Of a webhook.
    pub endpoint: String,
    pub finished: bool,
    /// How many tries it had.
    pub tries: i64,
}

#[derive(Clone, Debug)]
pub struct Attempt {
    pub delivery: String,
    pub outcome: String,
    pub number: i64,
}

#[derive(Clone, Debug)]
pub struct Letter {
    /// `log` or `queue`.
    pub source: String,
    /// None of what a group could not handle.
    pub delivery: String,
    pub reason: String,
}

#[derive(Clone, Debug)]
pub struct Endpoint {
    pub id: String,
    pub enabled: bool,
    pub url: String,
}

/// A request that came to the receiver.
#[derive(Clone, Debug)]
pub struct Request {
    pub webhook_id: String,
    pub kind: String,
    pub event: String,
    /// The task's title, which is the key of its creation.
    pub title: String,
    /// Milliseconds since the case began.
    pub at_ms: u64,
}

/// A mail that was written.
#[derive(Clone, Debug)]
pub struct Mail {
    /// The first part of its Message-ID.
    pub id: String,
    pub to: String,
    pub subject: String,
}

impl Facts {
    /// Reads all of it.
    pub async fn read(stack: &Stack, began: Instant) -> Self {
        let store = Store(stack);
        let full = stack.setup == Setup::Full;
        let mut facts = Self {
            integrity: store.integrity().await,
            head: stack.number("SELECT position FROM log_head").await,
            outbox: if full { stack.number("SELECT count(*) FROM outbox").await } else { 0 },
            requests: stack.sink.received().iter().map(|received| Request::of(received, began)).collect(),
            mails: stack.api().mails().iter().map(Mail::of).collect(),
            ..Self::default()
        };
        facts.read_log(&store).await;
        facts.read_effects(&store).await;
        let own = format!(":{}/", stack.sink.port());
        let sink = facts.endpoints.iter().find(|endpoint| endpoint.url.contains(&own));
        facts.sink = sink.map(|endpoint| endpoint.id.clone()).unwrap_or_default();
        facts
    }

    async fn read_log(&mut self, store: &Store<'_>) {
        let id = |column: &str| store.0.id_text(column);
        let tasks = store.select([&id("id"), "status", "title"], "version", "tasks").await;
        self.tasks = tasks
            .into_iter()
            .map(|([id, status, title], version)| Task { id, status, title, version })
            .collect();
        let (own, about) = (id("id"), id("aggregate_id"));
        let (actor, owner, assignee) = (id("actor_id"), id("owner_id"), id("assignee_id"));
        let columns = ["CAST(position AS TEXT)", &own, "type", &about, &actor, &owner, &assignee];
        let events = store.select(columns, "aggregate_version", "events ORDER BY position").await;
        self.events = events
            .into_iter()
            .map(|([position, id, kind, aggregate, actor, owner, assignee], version)| {
                let position = position.parse().expect("a position is a number");
                Event { position, id, kind, aggregate, version, actor, owner, assignee }
            })
            .collect();
        let progress = store.select(["group_name", "partition"], "position", "group_progress").await;
        self.progress =
            progress.into_iter().map(|([group, partition], at)| ((group, partition), at)).collect();
    }

    async fn read_effects(&mut self, store: &Store<'_>) {
        let id = |column: &str| store.0.id_text(column);
        let (own, event, user) = (id("id"), id("event_id"), id("user_id"));
        let (endpoint, delivery) = (id("endpoint_id"), id("delivery_id"));
        let rows = store.select([&event, &user], "1", "notifications").await;
        self.notifications =
            rows.into_iter().map(|([event, user], _)| Notification { event, user }).collect();
        let rows = store.select([&event, &user, "channel", "outcome"], "1", "decisions").await;
        self.decisions = rows
            .into_iter()
            .map(|([event, user, channel, outcome], _)| Decision { event, user, channel, outcome })
            .collect();
        let ended = "CASE WHEN finished_at IS NULL THEN 'no' ELSE 'yes' END";
        let columns = [&*own, "channel", "state", &event, &user, &endpoint, ended];
        let rows = store.select(columns, "attempt", "deliveries").await;
        self.deliveries = rows
            .into_iter()
            .map(|([id, channel, state, event, user, endpoint, ended], tries)| Delivery {
                id,
                channel,
                state,
                event,
                user,
                endpoint,
                finished: ended == "yes",
                tries,
            })
            .collect();
        let from = "attempts ORDER BY delivery_id, number, id";
        let rows = store.select([&delivery, "outcome"], "number", from).await;
        self.attempts = rows
            .into_iter()
            .map(|([delivery, outcome], number)| Attempt { delivery, outcome, number })
            .collect();
        let rows = store.select(["source", &delivery, "reason"], "1", "dead_letters").await;
        self.letters = rows
            .into_iter()
            .map(|([source, delivery, reason], _)| Letter { source, delivery, reason })
            .collect();
        let enabled = "CASE WHEN enabled THEN 'yes' ELSE 'no' END";
        let rows = store.select([&own, enabled, "url"], "1", "endpoints").await;
        self.endpoints = rows
            .into_iter()
            .map(|([id, enabled, url], _)| Endpoint { id, enabled: enabled == "yes", url })
            .collect();
    }
}

impl Request {
    fn of(received: &Received, began: Instant) -> Self {
        let (event, at) = (received.event(), received.at.saturating_duration_since(began));
        let text = |pointer: &str| event.pointer(pointer).and_then(|text| text.as_str()).unwrap_or_default();
        Self {
            webhook_id: plain(received.webhook_id()),
            kind: text("/type").to_owned(),
            event: plain(text("/id")),
            title: text("/data/task/title").to_owned(),
            at_ms: u64::try_from(at.as_millis()).unwrap_or(u64::MAX),
        }
    }
}

impl Mail {
    fn of(mail: &taskpost_testkit::Mail) -> Self {
        let message = mail.header("Message-ID").trim_start_matches('<');
        let id = plain(message.split('@').next().unwrap_or_default());
        Self { id, to: mail.to().to_owned(), subject: mail.subject().to_owned() }
    }
}

/// An id without its dashes.
pub fn plain(id: &str) -> String {
    id.replace('-', "")
}

/// The store of a stack.
struct Store<'a>(&'a Stack);

impl Store<'_> {
    /// The rows of a table: columns of text, of which only the last may hold blanks, and a number.
    async fn select<const N: usize>(
        &self,
        columns: [&str; N],
        number: &str,
        from: &str,
    ) -> Vec<([String; N], i64)> {
        let columns = columns.map(|column| format!("coalesce({column}, '')")).join(" || ' ' || ");
        let number = format!("CAST({number} AS BIGINT)");
        let rows = self.0.rows(&format!("SELECT {columns}, {number} FROM {from}")).await;
        rows.iter().map(|(text, number)| (split(text), *number)).collect()
    }

    async fn integrity(&self) -> Vec<String> {
        if self.0.setup == Setup::Full {
            return vec!["ok".to_owned()];
        }
        let rows = self.0.rows("SELECT integrity_check, 1 FROM pragma_integrity_check").await;
        rows.into_iter().map(|(said, _)| said).collect()
    }
}

fn split<const N: usize>(text: &str) -> [String; N] {
    let mut parts = text.splitn(N, ' ').map(str::to_owned);
    std::array::from_fn(|_| parts.next().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_last_column_has_blanks() {
        assert_eq!(split("a  c d e"), ["a", "", "c d e"]);
        assert_eq!(split("a"), ["a", "", ""]);
        assert_eq!(plain("01-ab-2"), "01ab2");
    }
}
