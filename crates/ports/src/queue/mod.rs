//! The delivery queue: which due deliveries a worker takes next.

mod local;
mod rabbit;

use std::time::Duration;

use chrono::{DateTime, Utc};
use taskpost_common::{
    Clock,
    notification::{Channel, Class},
};
use taskpost_store::{Db, StoreError, deliveries::Delivery};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::PortHealth;
use local::LocalQueue;
use rabbit::RabbitQueue;

pub use rabbit::{InvalidRabbitmqUrl, RabbitSettings};

/// What a lost announcement costs at most, on the store's own queue.
const POLL: Duration = Duration::from_secs(1);

/// The queue. Contract, whatever the backend:
///
/// - the `deliveries` row is the truth and its `due_at` decides; the queue only says which rows to look at. Whatever
///   becomes of the queue, a due delivery is claimed in the end;
/// - a claimed delivery is leased: unless its outcome is recorded before the lease ends, it falls due again;
/// - what is due is claimed by classes in shares of 6 : 3 : 1, so a high one never waits behind a backlog of low and
///   low never starves;
/// - an id that is early, late, doubled or unknown is claimed by nobody.
#[derive(Clone, Debug)]
pub enum Queue {
    /// The store's own `deliveries` table.
    Local(LocalQueue),
    /// RabbitMQ.
    Rabbit(RabbitQueue),
}

/// What became of a claimed delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// There is no more to do for now: delivered, called back, snoozed, or its lease passed to another.
    Settled,
    /// It is tried again.
    Retry {
        /// After this wait, counted from when it was decided.
        wait: Duration,
        /// Which is then.
        due_at: DateTime<Utc>,
    },
    /// It is a dead letter.
    Buried,
}

impl Queue {
    /// The queue in the store.
    pub fn local(db: Db, clock: Clock) -> Self {
        Self::Local(LocalQueue::new(db, clock))
    }

    /// The queue on RabbitMQ, kept up by `tasks` until `stop` and a little longer, for the last acknowledgements. Never waits
    /// for the broker: without one nothing is announced, and everything waits in the store.
    ///
    /// # Errors
    /// [`InvalidRabbitmqUrl`] when `RABBITMQ_URL` is no URL of a broker.
    pub fn rabbitmq(
        settings: &RabbitSettings<'_>,
        db: Db,
        clock: Clock,
        tasks: &mut JoinSet<()>,
        stop: CancellationToken,
    ) -> Result<Self, InvalidRabbitmqUrl> {
        RabbitQueue::start(settings, db, clock, tasks, stop).map(Self::Rabbit)
    }

    /// Announces what is due now to the workers; gives when the first of what is not due yet will be. The dispatcher
    /// calls it after each change of what is due, and once a second. May be dropped at any point.
    pub async fn publish_due(&self, channel: Channel) -> Result<Option<DateTime<Utc>>, StoreError> {
        match self {
            Self::Local(queue) => queue.publish_due(channel).await,
            Self::Rabbit(queue) => queue.publish_due(channel).await,
        }
    }

    /// Waits until deliveries of a channel were announced, at most a second. May be dropped: what it waits for is kept
    /// for the next call.
    pub async fn announced(&self, channel: Channel) {
        match self {
            Self::Local(queue) => queue.announced(channel).await,
            Self::Rabbit(queue) => queue.announced(channel).await,
        }
    }

    /// Claims up to `room` deliveries of a channel that are due, under a lease until `lease` from now; empty when nothing
    /// is due, or others were faster. Call it until it comes back empty, then wait for [`Queue::announced`].
    ///
    /// Must not be dropped half-way: what it claimed would wait for the end of its lease.
    pub async fn claim(
        &self,
        channel: Channel,
        room: usize,
        lease: chrono::Duration,
    ) -> Result<Vec<Delivery>, StoreError> {
        match self {
            Self::Local(queue) => queue.claim(channel, room, lease).await,
            Self::Rabbit(queue) => queue.claim(channel, room, lease).await,
        }
    }

    /// Says what became of claimed deliveries, after that is stored; also of those whose outcome could not be stored.
    /// Waits for nothing, and nothing depends on it but how soon the queue forgets them.
    pub fn settled<'a>(&self, fates: impl IntoIterator<Item = (&'a Delivery, Fate)>) {
        match self {
            Self::Local(_) => {}
            Self::Rabbit(queue) => queue.settled(fates.into_iter()),
        }
    }

    /// Whether what one process announces is announced to all, so that one is enough.
    pub const fn is_shared(&self) -> bool {
        matches!(self, Self::Rabbit(_))
    }

    /// Whether something can be announced now.
    pub fn is_ready(&self) -> bool {
        match self {
            Self::Local(_) => true,
            Self::Rabbit(queue) => queue.is_ready(),
        }
    }

    /// How it is, within 2 seconds.
    pub async fn check(&self) -> PortHealth {
        match self {
            Self::Local(_) => PortHealth::well(self.name()),
            Self::Rabbit(queue) => queue.check().await,
        }
    }

    /// `local` or `rabbitmq`.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Local(_) => "local",
            Self::Rabbit(_) => "rabbitmq",
        }
    }
}

/// Deals `room` places out to the classes 6 : 3 : 1; what one class does not need goes to the others, high first.
///
/// Gives (class, places) with the sum at most `room`, and never more for a class than are due.
fn shares(due: &[(Class, i64)], room: usize) -> Vec<(Class, usize)> {
    let want = |class| {
        let count = due.iter().find(|(c, _)| *c == class).map_or(0, |(_, count)| *count);
        usize::try_from(count).unwrap_or(0)
    };
    let mut places: Vec<(Class, usize)> = Vec::new();
    let mut left = room;
    for (class, share) in [(Class::High, 6), (Class::Normal, 3), (Class::Low, 1)] {
        let fair = (room * share).div_ceil(10);
        let taken = want(class).min(fair).min(left);
        left -= taken;
        places.push((class, taken));
    }
    for (class, taken) in &mut places {
        let more = (want(*class) - *taken).min(left);
        *taken += more;
        left -= more;
    }
    places.retain(|(_, taken)| *taken > 0);
    places
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_dealt_by_shares_and_none_is_wasted() {
        let all = |high, normal, low| [(Class::High, high), (Class::Normal, normal), (Class::Low, low)];
        for (due, room, expected) in [
            (all(100, 100, 100), 10, vec![(Class::High, 6), (Class::Normal, 3), (Class::Low, 1)]),
            (all(0, 0, 100), 10, vec![(Class::Low, 10)]),
            (all(2, 100, 0), 10, vec![(Class::High, 2), (Class::Normal, 8)]),
            (all(100, 0, 1), 10, vec![(Class::High, 9), (Class::Low, 1)]),
            (all(0, 0, 0), 10, vec![]),
            (all(5, 5, 5), 1, vec![(Class::High, 1)]),
        ] {
            assert_eq!(shares(&due, room), expected, "{due:?} in {room}");
        }
    }
}
