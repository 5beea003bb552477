//! What librdkafka says: to the debug log, for the stages say themselves, once, what lasts.

use std::sync::{Arc, Mutex, PoisonError};

use rdkafka::{ClientContext, config::RDKafkaLogLevel, error::KafkaError};

/// What is wrong with Kafka, as far as this process knows.
#[derive(Debug, Default)]
pub(super) struct Trouble {
    /// What a client said last.
    last: Mutex<Option<String>>,
    /// Why the relay gets no further.
    stuck: Mutex<Option<String>>,
}

impl Trouble {
    pub(super) fn note(&self, what: String) {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(what);
    }

    pub(super) fn last(&self) -> Option<String> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn stuck(&self, why: Option<String>) {
        *self.stuck.lock().unwrap_or_else(PoisonError::into_inner) = why;
    }

    pub(super) fn why_stuck(&self) -> Option<String> {
        self.stuck.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// The context of every client: keeps what goes wrong for the health report.
#[derive(Clone, Debug)]
pub(super) struct Quiet(Arc<Trouble>);

impl Quiet {
    pub(super) fn new(trouble: &Arc<Trouble>) -> Self {
        Self(Arc::clone(trouble))
    }
}

impl ClientContext for Quiet {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(target: "librdkafka", %error, reason);
        self.0.note(reason.to_owned());
    }
}

pub(super) fn log(level: RDKafkaLogLevel, facility: &str, message: &str) {
    tracing::debug!(target: "librdkafka", ?level, facility, "{message}");
}
