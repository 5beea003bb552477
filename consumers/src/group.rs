//! What a consumer group is: the contract between [`crate::runner`] and [`crate::groups`].

use std::future::Future;

use taskpost_common::{Envelope, Event, event::DecodeError, trace};
use taskpost_store::{Session, StoreError, Tx};
use tracing::{Span, info_span};

/// A consumer group: turns events into effects in the store.
///
/// - Events come in the order of their positions, those of one aggregate in the order of their versions.
/// - What [`Group::apply`] writes commits together with the group's progress, so each event takes effect once,
///   however often it is handed over. A try that fails is rolled back whole and made again, at first for the same
///   events together and then for each alone.
/// - No network and no waiting in here: the one writer of SQLite is held while `apply` runs.
pub trait Group: Send + Sync + 'static {
    /// Names its progress, its dead letters and its metrics; never changes.
    const NAME: &'static str;

    /// What [`Group::plan`] decided.
    type Plan: Send;

    /// Whether an event concerns the group, by its envelope alone. The others are neither decoded nor handed over.
    fn wants(&self, envelope: &Envelope) -> bool;

    /// Reads what is needed and decides, before the transaction begins. `None` when there is nothing to write: then
    /// no transaction is needed, and the same events may be asked about again after a restart.
    fn plan(
        &self,
        reader: &mut Session,
        events: &[Decoded],
    ) -> impl Future<Output = Result<Option<Self::Plan>, ApplyError>> + Send;

    /// Writes what was decided for the same events.
    fn apply(
        &self,
        tx: &mut Tx,
        events: &[Decoded],
        plan: Self::Plan,
    ) -> impl Future<Output = Result<Applied, ApplyError>> + Send;
}

/// An event that was understood.
#[derive(Clone, Debug)]
pub struct Decoded {
    /// As it was recorded.
    pub envelope: Envelope,
    /// What it says.
    pub event: Event,
    /// The group's work on it, which lasts as long as this.
    span: Span,
}

impl Decoded {
    /// An event that `group` has in hand.
    pub fn new(group: &'static str, envelope: Envelope, event: Event) -> Self {
        let span = info_span!(
            target: trace::TARGET,
            parent: None,
            "consume",
            otel.kind = "consumer",
            group,
            event.id = %envelope.id,
            event.r#type = envelope.type_name,
            position = envelope.position.0,
        );
        trace::child_of(&span, envelope.traceparent.as_deref());
        Self { envelope, event, span }
    }

    /// What the group makes of it goes on from here: from its work, or where there are no spans, from the event's cause.
    pub fn traceparent(&self) -> Option<String> {
        trace::traceparent_of(&self.span).or_else(|| self.envelope.traceparent.clone())
    }
}

/// Which stages have something to do once the transaction is committed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// Deliveries were made.
    pub deliveries: bool,
    /// Events were appended.
    pub events: bool,
}

/// Why events could not be applied.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// The store failed. Whether that holds the group or refuses the event is for [`StoreError::is_transient`] to say.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// An event makes no sense to this group: after three times it is a dead letter.
    #[error("{0}")]
    Refused(String),
}

/// Decodes an event if the group wants it. A type that nobody has registered cannot be judged, so it is an error
/// for every group.
pub(crate) fn decode<G: Group>(group: &G, envelope: &Envelope) -> Result<Option<Event>, DecodeError> {
    let name = envelope.type_name.as_str();
    if !Event::TYPES.contains(&name) {
        return Err(DecodeError::UnknownType(name.to_owned()));
    }
    if group.wants(envelope) { envelope.decode().map(Some) } else { Ok(None) }
}

#[cfg(test)]
mod tests {
    use taskpost_common::{EventId, Position};
    use uuid::Uuid;

    use super::*;

    struct Logins;

    impl Group for Logins {
        const NAME: &'static str = "logins";
        type Plan = ();

        fn wants(&self, envelope: &Envelope) -> bool {
            envelope.type_name == "user.logged_in"
        }

        async fn plan(&self, _: &mut Session, _: &[Decoded]) -> Result<Option<()>, ApplyError> {
            Ok(None)
        }

        async fn apply(&self, _: &mut Tx, _: &[Decoded], (): ()) -> Result<Applied, ApplyError> {
            Ok(Applied::default())
        }
    }

    fn envelope(type_name: &str, data: &str) -> Envelope {
        Envelope {
            position: Position(1),
            id: EventId(Uuid::nil()),
            type_name: type_name.to_owned(),
            aggregate_id: Uuid::nil(),
            aggregate_version: 1,
            actor_id: None,
            project_id: None,
            owner_id: None,
            assignee_id: None,
            correlation_id: Uuid::nil(),
            causation_id: None,
            traceparent: None,
            at: chrono::DateTime::UNIX_EPOCH,
            data: data.to_owned(),
        }
    }

    #[test]
    fn an_event_is_wanted_or_not_or_cannot_be_read() {
        let nil = Uuid::nil();
        let login = format!(r#"{{"user":{{"id":"{nil}","roles":[]}},"session_id":"{nil}"}}"#);
        let read = |name: &str, data: &str| decode(&Logins, &envelope(name, data));
        assert!(matches!(read("user.logged_in", &login), Ok(Some(Event::UserLoggedIn(_)))));
        assert!(matches!(read("user.logged_out", &login), Ok(None)));
        // What is not wanted is not read either.
        assert!(matches!(read("user.logged_out", "{"), Ok(None)));
        for (name, data, expected) in [
            ("user.logged_in", "{", "malformed data of `user.logged_in`"),
            ("user.logged_in", "{}", "malformed data of `user.logged_in`"),
            ("user.abducted", "{}", "unknown event type `user.abducted`"),
        ] {
            let error = read(name, data).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }
}
