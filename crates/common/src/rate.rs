//! A rate and a burst, as `RATE_LIMIT_*` spell them.

use std::{fmt, num::NonZeroU32, str::FromStr, time::Duration};

/// `rate/unit[,burst]`: so many in a unit of time, and so many at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// How many in `unit`.
    pub count: NonZeroU32,
    /// One second, minute or hour.
    pub unit: Duration,
    /// How many at once; `count` when not said.
    pub burst: NonZeroU32,
}

/// Why a text is no rate.
#[derive(Debug, thiserror::Error)]
#[error("expected rate/unit[,burst] with whole numbers above 0 and unit s, m or h, such as 200/s,400")]
pub struct InvalidRate;

impl Rate {
    /// The time one takes to become free again.
    pub fn period(self) -> Duration {
        self.unit / self.count.get()
    }

    /// The time an emptied burst takes to fill, in whole seconds, at least 1: the `w` of RateLimit-Policy.
    pub fn window_seconds(self) -> u64 {
        let nanos = self.period().as_nanos() * u128::from(self.burst.get());
        u64::try_from(nanos.div_ceil(1_000_000_000)).unwrap_or(u64::MAX).max(1)
    }
}

impl FromStr for Rate {
    type Err = InvalidRate;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (rate, burst) = match text.split_once(',') {
            Some((rate, burst)) => (rate, Some(burst)),
            None => (text, None),
        };
        let (count, unit) = rate.split_once('/').ok_or(InvalidRate)?;
        let count: NonZeroU32 = count.trim().parse().map_err(|_| InvalidRate)?;
        let unit = Duration::from_secs(match unit.trim() {
            "s" => 1,
            "m" => 60,
            "h" => 3600,
            _ => return Err(InvalidRate),
        });
        let burst = match burst {
            Some(burst) => burst.trim().parse().map_err(|_| InvalidRate)?,
            None => count,
        };
        // A period below a nanosecond cannot be counted.
        if unit.as_nanos() < u128::from(count.get()) {
            return Err(InvalidRate);
        }
        Ok(Self { count, unit, burst })
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = match self.unit.as_secs() {
            1 => "s",
            60 => "m",
            _ => "h",
        };
        write!(f, "{}/{unit},{}", self.count, self.burst)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_and_prints_rates() {
        for (text, shown, window) in [
            ("200/s,400", "200/s,400", 2),
            ("60/m,30", "60/m,30", 30),
            ("5/h", "5/h,5", 3600),
            (" 7 / s , 1", "7/s,1", 1),
        ] {
            let rate: Rate = text.parse().unwrap();
            assert_eq!((rate.to_string().as_str(), rate.window_seconds()), (shown, window), "{text}");
        }
        for text in ["", "5", "0/s", "5/d", "5/s,0", "-1/s", "5/s,", "5/s,1,2", "4000000000/h,x"] {
            assert!(text.parse::<Rate>().is_err(), "{text}");
        }
    }
}
