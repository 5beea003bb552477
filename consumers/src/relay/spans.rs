//! What is under way to Kafka, as its traces see it.

use std::collections::VecDeque;

use taskpost_common::{Envelope, Position, trace};
use tracing::{Span, info_span};

/// The spans of what is under way, in order. While nobody collects traces, there are none.
#[derive(Debug, Default)]
pub(super) struct Spans(VecDeque<(Position, Span)>);

impl Spans {
    /// An event was sent.
    pub(super) fn begin(&mut self, event: &Envelope) {
        let span = info_span!(
            target: trace::TARGET,
            parent: None,
            "relay",
            otel.kind = "producer",
            event.id = %event.id,
            event.r#type = event.type_name,
            position = event.position.0,
        );
        if !span.is_disabled() {
            trace::child_of(&span, event.traceparent.as_deref());
            self.0.push_back((event.position, span));
        }
    }

    /// Kafka has everything up to there.
    pub(super) fn end(&mut self, cursor: Position) {
        while self.0.pop_front_if(|(position, _)| *position <= cursor).is_some() {}
    }
}
