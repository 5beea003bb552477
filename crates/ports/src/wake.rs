//! Waking a stage that waits: in process now, by one coalesced NOTIFY between processes.

use std::time::Duration;

use tokio::sync::watch;

/// A bell. Rings are coalesced, and one that comes while nobody waits is heard at the next wait.
#[derive(Clone, Debug)]
pub struct Wake(watch::Sender<u64>);

impl Wake {
    /// Wakes everybody who listens.
    pub fn ring(&self) {
        self.0.send_modify(|count| *count = count.wrapping_add(1));
    }

    /// Listens from now on.
    pub fn listen(&self) -> Listener {
        Listener(self.0.subscribe())
    }
}

impl Default for Wake {
    fn default() -> Self {
        Self(watch::Sender::new(0))
    }
}

/// One who waits for a bell.
#[derive(Debug)]
pub struct Listener(watch::Receiver<u64>);

impl Listener {
    /// Waits for the next ring since the last wait, at most `longest`: a missed ring costs that much, never more.
    pub async fn wait(&mut self, longest: Duration) {
        // A closed bell rings no more; the time-out alone paces the caller then.
        let rung = tokio::time::timeout(longest, self.0.changed()).await;
        if matches!(rung, Ok(Err(_))) {
            tokio::time::sleep(longest).await;
        }
    }
}

/// The bells of one process.
#[derive(Clone, Debug, Default)]
pub struct Wakes {
    /// Something was committed to the outbox.
    pub outbox: Wake,
    /// Events have got positions.
    pub log: Wake,
    /// Deliveries were made, or are due sooner.
    pub deliveries: Wake,
}

impl Wakes {
    /// After a commit that appended events: to the sequencer where there is an outbox, else straight to the log.
    pub fn committed(&self, has_outbox: bool) {
        if has_outbox { self.outbox.ring() } else { self.log.ring() }
    }
}
