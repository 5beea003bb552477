//! Waking a stage that waits: in process here, between processes by `notify.rs`.

use std::time::Duration;

use tokio::sync::watch;

/// A bell. Rings are coalesced, and one that comes while nobody waits is heard at the next wait.
#[derive(Clone, Debug)]
pub struct Wake {
    all: watch::Sender<u64>,
    /// Of these the other processes are told.
    own: watch::Sender<u64>,
}

impl Wake {
    /// Wakes everybody who listens, in every process.
    pub fn ring(&self) {
        self.ring_here();
        count(&self.own);
    }

    /// Wakes who listens in this process: what came from another one is not passed on.
    pub(crate) fn ring_here(&self) {
        count(&self.all);
    }

    /// Listens from now on.
    pub fn listen(&self) -> Listener {
        Listener(self.all.subscribe())
    }

    /// Listens from now on to what rang in this process.
    pub(crate) fn listen_here(&self) -> Listener {
        Listener(self.own.subscribe())
    }
}

impl Default for Wake {
    fn default() -> Self {
        Self { all: watch::Sender::new(0), own: watch::Sender::new(0) }
    }
}

fn count(bell: &watch::Sender<u64>) {
    bell.send_modify(|count| *count = count.wrapping_add(1));
}

/// One who waits for a bell.
#[derive(Debug)]
pub struct Listener(watch::Receiver<u64>);

impl Listener {
    /// Waits for the next ring since the last wait, at most `longest`: a missed ring costs that much, never more.
    pub async fn wait(&mut self, longest: Duration) {
        // Without a ring the time-out alone paces the caller.
        let _ = tokio::time::timeout(longest, self.rung()).await;
    }

    /// Waits for the next ring since the last wait; may be dropped, and hears it the next time then.
    pub async fn rung(&mut self) {
        if self.0.changed().await.is_err() {
            // A closed bell rings no more.
            std::future::pending::<()>().await;
        }
    }

    /// Whether it rang since the last wait.
    pub(crate) fn has_rung(&mut self) -> bool {
        let rung = self.0.has_changed().unwrap_or(false);
        if rung {
            self.0.mark_unchanged();
        }
        rung
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

    /// Every bell, by the letter that names it between processes.
    pub(crate) fn by_letter(&self) -> [(char, &Wake); 3] {
        [('o', &self.outbox), ('l', &self.log), ('d', &self.deliveries)]
    }
}
