//! When each request of an open loop is due.

use std::time::Duration;

/// So many requests in a second, evenly spread, for so many seconds.
#[derive(Clone, Copy, Debug)]
pub struct Schedule {
    rate: u32,
    seconds: u32,
}

impl Schedule {
    /// A rate of 0 is taken as 1.
    pub fn new(rate: u32, seconds: u32) -> Self {
        Self { rate: rate.max(1), seconds }
    }

    /// How many requests in all.
    pub fn total(self) -> u64 {
        u64::from(self.rate) * u64::from(self.seconds)
    }

    /// When the request of this number is due, from the start on. Counted from the start each time, so that nothing
    /// adds up.
    pub fn due(self, number: u64) -> Duration {
        let rate = u64::from(self.rate);
        let rest = (number % rate) * 1_000_000_000 / rate;
        Duration::from_secs(number / rate) + Duration::from_nanos(rest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrivals_are_evenly_spread_and_do_not_drift() {
        let schedule = Schedule::new(3, 100);
        assert_eq!(schedule.total(), 300);
        assert_eq!(schedule.due(0), Duration::ZERO);
        assert_eq!(schedule.due(1), Duration::from_nanos(333_333_333));
        assert_eq!(schedule.due(2), Duration::from_nanos(666_666_666));
        assert_eq!(schedule.due(299), Duration::new(99, 666_666_666));
        assert_eq!(schedule.due(300), Duration::from_secs(100));
    }

    #[test]
    fn the_largest_rate_does_not_overflow() {
        let schedule = Schedule::new(1_000_000, 600);
        assert_eq!(schedule.due(schedule.total()), Duration::from_mins(10));
        assert_eq!(schedule.due(1), Duration::from_micros(1));
    }
}
