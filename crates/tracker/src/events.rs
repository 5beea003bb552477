//! Reading the log, as far as the caller may see it.

use taskpost_common::{EventId, Position, event::CloudEvent};
use taskpost_store::events::{self, EventFilter};

use crate::{Caller, Error, Tracker};

impl Tracker {
    /// Events after a position, and the position to go on from, which moves over hidden ones too.
    pub async fn events(
        &self,
        caller: &Caller,
        after: Position,
        filter: EventFilter,
        limit: usize,
    ) -> Result<(Vec<CloudEvent>, Position), Error> {
        let mut reader = self.0.db.reader().await?;
        let (found, next) =
            events::visible_after(&mut reader, caller.viewer(), after, &filter, limit).await?;
        let events = found.iter().map(taskpost_common::Envelope::to_cloudevent).collect::<Result<_, _>>()?;
        Ok((events, next))
    }

    /// One event.
    pub async fn event(&self, caller: &Caller, id: EventId) -> Result<CloudEvent, Error> {
        let found = events::visible(&mut self.0.db.reader().await?, caller.viewer(), id).await?;
        Ok(found.ok_or(Error::NotFound("event"))?.to_cloudevent()?)
    }
}
