//! How many deliveries may go to one endpoint at once, and how many may wait for that.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use taskpost_common::EndpointId;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// What waits in memory should be gone within this time.
const HORIZON: Duration = Duration::from_millis(250);
/// The snooze of a delivery that finds no place.
const SNOOZE: Duration = Duration::from_secs(1);
/// The longest snooze, for one that finds many before it.
const LONG_SNOOZE: Duration = Duration::from_secs(30);
/// Above so many endpoints, those without anything to do are forgotten.
const REMEMBERED: usize = 1_024;

/// How long a try takes, as a moving average; at first it is taken to be short.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace(Duration);

impl Default for Pace {
    fn default() -> Self {
        Self(Duration::from_millis(10))
    }
}

impl Pace {
    /// Notes a try.
    pub(crate) fn note(&mut self, took: Duration) {
        self.0 = (self.0 * 7 + took) / 8;
    }

    /// How many tries `places` get through soon.
    pub(crate) fn soon(self, places: usize) -> usize {
        let rounds = HORIZON.as_micros() / self.0.as_micros().max(1);
        places.saturating_mul(usize::try_from(rounds).unwrap_or(usize::MAX))
    }
}

/// The seats of every endpoint that has something to do.
#[derive(Debug)]
pub(crate) struct Seats {
    each: usize,
    endpoints: HashMap<EndpointId, Row>,
}

#[derive(Debug)]
struct Row {
    seats: Arc<Semaphore>,
    waiting: usize,
    /// How many were turned away and have yet to come back, and when the last of them should have.
    turned_away: u32,
    back_by: Option<Instant>,
    pace: Pace,
}

/// A seat; given back when dropped, also by a panic. A delivery without an endpoint needs none.
pub(crate) type Seat = Option<OwnedSemaphorePermit>;

impl Seats {
    /// `each` seats for every endpoint.
    pub(crate) fn new(each: usize) -> Self {
        Self { each, endpoints: HashMap::new() }
    }

    /// Lets a delivery wait for a seat; otherwise gives how long it is to be snoozed. While others have yet to come back,
    /// a new one only takes a seat that would be empty: otherwise it would overtake them, again and again.
    pub(crate) fn queue(&mut self, endpoint: Option<EndpointId>, comes_back: bool) -> Result<(), Duration> {
        let Some(id) = endpoint else { return Ok(()) };
        let each = self.each;
        self.forget_idle();
        let row = self.endpoints.entry(id).or_insert_with(|| Row::new(each));
        if comes_back {
            row.turned_away = row.turned_away.saturating_sub(1);
        }
        if row.back_by.is_some_and(|by| by.elapsed() > SNOOZE) {
            // Those who are missing have gone to another process, or were called back.
            (row.turned_away, row.back_by) = (0, None);
        }
        let soon = row.pace.soon(each).max(each);
        let most = if comes_back || row.turned_away == 0 { soon } else { row.seats.available_permits() };
        if row.waiting < most {
            row.waiting += 1;
            return Ok(());
        }
        Err(row.turn_away(each, comes_back))
    }

    /// A seat for a waiting delivery, if one is free.
    pub(crate) fn take(&mut self, endpoint: Option<EndpointId>) -> Option<Seat> {
        let Some(row) = endpoint.and_then(|id| self.endpoints.get_mut(&id)) else { return Some(None) };
        let seat = Arc::clone(&row.seats).try_acquire_owned().ok()?;
        row.waiting = row.waiting.saturating_sub(1);
        Some(Some(seat))
    }

    /// Sends a waiting delivery away; gives how long it is to be snoozed.
    pub(crate) fn give_up(&mut self, endpoint: Option<EndpointId>) -> Duration {
        let each = self.each;
        endpoint.and_then(|id| self.endpoints.get_mut(&id)).map_or(SNOOZE, |row| {
            row.waiting = row.waiting.saturating_sub(1);
            row.turn_away(each, true)
        })
    }

    /// Notes a try that ended.
    pub(crate) fn note(&mut self, endpoint: Option<EndpointId>, took: Duration) {
        if let Some(row) = endpoint.and_then(|id| self.endpoints.get_mut(&id)) {
            row.pace.note(took);
        }
    }

    fn forget_idle(&mut self) {
        if self.endpoints.len() > REMEMBERED {
            let each = self.each;
            self.endpoints.retain(|_, row| row.waiting > 0 || row.seats.available_permits() < each);
        }
    }
}

impl Row {
    fn new(seats: usize) -> Self {
        Self {
            seats: Arc::new(Semaphore::new(seats)),
            waiting: 0,
            turned_away: 0,
            back_by: None,
            pace: Pace::default(),
        }
    }

    /// About the time until all those before it are through: looking sooner would only cost writes. One that has waited
    /// already does not go to the end of the line again.
    fn turn_away(&mut self, seats: usize, has_waited: bool) -> Duration {
        let seats = u32::try_from(seats).unwrap_or(u32::MAX).max(1);
        let before = self.turned_away.saturating_add(u32::try_from(self.waiting).unwrap_or(u32::MAX));
        let before = if has_waited { before / 4 } else { before };
        let wait = self.pace.0.saturating_mul(before) / seats;
        let wait = wait.clamp(SNOOZE, LONG_SNOOZE);
        self.turned_away = self.turned_away.saturating_add(1);
        self.back_by = self.back_by.max(Some(Instant::now() + wait));
        wait
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    const ENDPOINT: Option<EndpointId> = Some(EndpointId(Uuid::nil()));

    #[test]
    fn an_endpoint_has_its_seats_and_no_more() {
        let mut seats = Seats::new(2);
        for _ in 0..3 {
            seats.queue(ENDPOINT, false).unwrap();
        }
        let first = seats.take(ENDPOINT).unwrap();
        let _second = seats.take(ENDPOINT).unwrap();
        assert!(seats.take(ENDPOINT).is_none());
        drop(first);
        assert!(seats.take(ENDPOINT).is_some());
        assert!(seats.take(None).is_some() && seats.queue(None, false).is_ok());
    }

    #[test]
    fn a_slow_endpoint_lets_few_wait_and_sends_the_others_away_for_longer() {
        let mut seats = Seats::new(2);
        let fast = (0..1_000).filter(|_| seats.queue(ENDPOINT, false).is_ok()).count();
        assert_eq!(fast, 50);
        for _ in 0..100 {
            seats.note(ENDPOINT, Duration::from_secs(15));
        }
        for _ in 0..49 {
            seats.give_up(ENDPOINT);
        }
        assert!(seats.queue(ENDPOINT, true).is_ok());
        let wait = seats.queue(ENDPOINT, true).unwrap_err();
        assert_eq!(wait, LONG_SNOOZE);
        let mut empty = Seats::new(2);
        assert_eq!(empty.give_up(ENDPOINT), SNOOZE);
    }

    /// The drill's first runs had webhooks that newer ones overtook for more than a minute.
    #[test]
    fn whoever_comes_back_goes_before_those_who_are_new() {
        let mut seats = Seats::new(2);
        let away = (0..150).filter(|_| seats.queue(ENDPOINT, false).is_err()).count();
        assert_eq!(away, 100);
        let (_first, _second) = (seats.take(ENDPOINT).unwrap(), seats.take(ENDPOINT).unwrap());
        assert!(seats.queue(ENDPOINT, false).is_err(), "no seat is empty");
        assert!(seats.queue(ENDPOINT, true).is_ok() && seats.queue(ENDPOINT, true).is_ok());
    }

    #[test]
    fn the_snooze_is_about_what_those_before_it_take() {
        let mut seats = Seats::new(2);
        let away: Vec<Duration> = (0..1_050).filter_map(|_| seats.queue(ENDPOINT, false).err()).collect();
        // Two at a time, 10 ms each, behind 50 that wait.
        assert_eq!((away[0], away[999]), (SNOOZE, Duration::from_millis(5_245)));
        // However often they come back, there are no more of them.
        for _ in 0..10 {
            let again: Vec<Duration> = (0..1_000).filter_map(|_| seats.queue(ENDPOINT, true).err()).collect();
            assert!(again.iter().all(|wait| *wait <= Duration::from_millis(1_312)), "{again:?}");
        }
    }
}
