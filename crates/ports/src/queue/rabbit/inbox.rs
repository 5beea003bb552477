//! What was received of one channel and waits to be claimed: bounded, as the broker sends no more than the prefetch.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
};

use lapin::Acker;
use taskpost_common::{
    DeliveryId,
    notification::{Channel, Class},
};
use tokio::{
    sync::Notify,
    time::{Instant, timeout, timeout_at},
};

use super::super::{POLL, shares};

/// A message: the id of a delivery, and how to acknowledge it.
#[derive(Debug)]
pub(super) struct Received {
    pub id: DeliveryId,
    pub class: Class,
    pub acker: Acker,
}

/// The messages of a channel.
#[derive(Debug)]
pub(super) struct Inbox {
    channel: Channel,
    lanes: Mutex<Lanes>,
    bell: Notify,
}

#[derive(Debug, Default)]
struct Lanes {
    /// By class, in their order.
    waiting: [VecDeque<Received>; 3],
    /// Put back, and not to be taken before their times.
    parked: Vec<(Instant, Received)>,
}

impl Inbox {
    pub(super) fn new(channel: Channel) -> Self {
        Self { channel, lanes: Mutex::default(), bell: Notify::new() }
    }

    /// Takes a message in.
    pub(super) fn push(&self, message: Received) {
        let mut lanes = self.lanes();
        lanes.lane(message.class).push_back(message);
        self.measure(&lanes);
        drop(lanes);
        self.bell.notify_one();
    }

    /// Takes up to `room` messages out, by classes in their shares.
    pub(super) fn take(&self, room: usize) -> Vec<Received> {
        let mut lanes = self.lanes();
        lanes.unpark();
        let count = |lane: &VecDeque<Received>| i64::try_from(lane.len()).unwrap_or(i64::MAX);
        let waiting = Class::ALL.iter().zip(&lanes.waiting).map(|(class, lane)| (*class, count(lane)));
        let places = shares(&waiting.collect::<Vec<_>>(), room);
        let mut taken = Vec::new();
        for (class, places) in places {
            taken.extend(lanes.lane(class).drain(..places));
        }
        self.measure(&lanes);
        taken
    }

    /// Puts messages back until a time.
    pub(super) fn park(&self, messages: impl IntoIterator<Item = Received>, until: Instant) {
        let mut lanes = self.lanes();
        lanes.parked.extend(messages.into_iter().map(|message| (until, message)));
        self.measure(&lanes);
    }

    /// Forgets everything: the broker sends it again.
    pub(super) fn clear(&self) {
        let mut lanes = self.lanes();
        *lanes = Lanes::default();
        self.measure(&lanes);
    }

    /// Waits until there is something to take, at most [`POLL`].
    pub(super) async fn announced(&self) {
        let something = async {
            loop {
                let ring = self.bell.notified();
                let ready = self.lanes().ready_at();
                match ready {
                    Some(at) if at <= Instant::now() => return,
                    // Whichever comes first is looked at.
                    Some(at) => drop(timeout_at(at, ring).await),
                    None => ring.await,
                }
            }
        };
        // The caller looks anyway.
        let _ = timeout(POLL, something).await;
    }

    fn lanes(&self) -> MutexGuard<'_, Lanes> {
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn measure(&self, lanes: &Lanes) {
        let buffered = lanes.parked.len() + lanes.waiting.iter().map(VecDeque::len).sum::<usize>();
        metrics::gauge!("taskpost_queue_buffered", "channel" => self.channel.as_str())
            .set(u32::try_from(buffered).unwrap_or(u32::MAX));
    }
}

impl Lanes {
    fn lane(&mut self, class: Class) -> &mut VecDeque<Received> {
        let [high, normal, low] = &mut self.waiting;
        match class {
            Class::High => high,
            Class::Normal => normal,
            Class::Low => low,
        }
    }

    /// When there is something to take.
    fn ready_at(&self) -> Option<Instant> {
        if self.waiting.iter().any(|lane| !lane.is_empty()) {
            return Some(Instant::now());
        }
        self.parked.iter().map(|(until, _)| *until).min()
    }

    fn unpark(&mut self) {
        let now = Instant::now();
        for (_, message) in self.parked.extract_if(.., |(until, _)| *until <= now).collect::<Vec<_>>() {
            self.lane(message.class).push_front(message);
        }
    }
}

#[cfg(test)]
mod tests {
    use lapin::message::Delivery;
    use taskpost_common::Clock;

    use super::*;

    fn message(class: Class) -> Received {
        let mock = Delivery::mock(1, "".into(), "".into(), false, Vec::new());
        Received { id: Clock::system().id(), class, acker: mock.acker }
    }

    fn classes(taken: &[Received]) -> [usize; 3] {
        [Class::High, Class::Normal, Class::Low]
            .map(|class| taken.iter().filter(|message| message.class == class).count())
    }

    #[test]
    fn messages_are_taken_by_shares_and_each_once() {
        let inbox = Inbox::new(Channel::Email);
        for class in [Class::Low, Class::Normal, Class::High] {
            (0..20).for_each(|_| inbox.push(message(class)));
        }
        assert_eq!(classes(&inbox.take(10)), [6, 3, 1]);
        assert_eq!(classes(&inbox.take(40)), [14, 17, 9]);
        assert_eq!(classes(&inbox.take(40)), [0, 0, 10]);
        assert!(inbox.take(40).is_empty());
    }

    #[tokio::test]
    async fn what_was_put_back_comes_again_and_what_is_forgotten_does_not() {
        let inbox = Inbox::new(Channel::Email);
        inbox.park([message(Class::Low)], Instant::now());
        inbox.announced().await;
        assert_eq!(inbox.take(1).len(), 1);
        inbox.park([message(Class::Low)], Instant::now());
        inbox.push(message(Class::High));
        inbox.clear();
        inbox.announced().await;
        assert!(inbox.take(9).is_empty());
    }
}
