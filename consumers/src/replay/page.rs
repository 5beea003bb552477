//! A page of the log, and what it does to the board.

use taskpost_common::{Envelope, Position};
use taskpost_store::{Session, board::BoardChange, events};

use super::ReplayError;
use crate::{
    Group as _,
    groups::{Projections, projections},
};

/// Events read at once.
const EVENTS: i64 = 1_000;

/// How far events are read.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Reading {
    /// The last event.
    pub(super) at: Position,
    /// How many went into the board.
    pub(super) applied: u64,
    /// How many should have and cannot be understood.
    pub(super) unreadable: u64,
}

/// Events that follow one another, and what they do.
pub(super) struct Page {
    pub(super) changes: Vec<BoardChange>,
    pub(super) after: Reading,
}

impl Page {
    /// The next events, up to `goal` at most.
    pub(super) async fn read(
        session: &mut Session,
        before: Reading,
        goal: Position,
    ) -> Result<Self, ReplayError> {
        let limit = (goal.0 - before.at.0).min(EVENTS);
        let events = events::after(session, before.at, limit).await?;
        let next = before.at.0 + 1;
        if events.first().is_none_or(|event| event.position.0 != next) {
            return Err(ReplayError::Incomplete(next));
        }
        let mut page = Self { changes: Vec::new(), after: before };
        for event in &events {
            page.take(event);
        }
        Ok(page)
    }

    fn take(&mut self, envelope: &Envelope) {
        self.after.at = envelope.position;
        if !Projections.wants(envelope) {
            return;
        }
        let event = envelope.decode().ok();
        match event.map(|event| projections::change(envelope, &event)) {
            Some(Ok(change)) => {
                self.after.applied += u64::from(change.is_some());
                self.changes.extend(change);
            }
            Some(Err(_)) | None => self.after.unreadable += 1,
        }
    }
}
