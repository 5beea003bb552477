//! Medians, percentiles, slopes, and the way from whole numbers to fractions.

use std::time::Duration;

/// The middle of some values; of an even number of them, the middle between two. None of none.
pub fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    let upper = *sorted.get(middle)?;
    if sorted.len().is_multiple_of(2) {
        Some(f64::midpoint(*sorted.get(middle - 1)?, upper))
    } else {
        Some(upper)
    }
}

/// The lowest and the highest of some values; none of none.
pub fn spread(values: &[f64]) -> Option<(f64, f64)> {
    let first = *values.first()?;
    Some(values.iter().fold((first, first), |(low, high), value| (low.min(*value), high.max(*value))))
}

/// The time within which so many of a hundred were, in milliseconds; zero of none. Sorts the times.
pub fn percentile(times: &mut [Duration], of_100: usize) -> f64 {
    times.sort_unstable();
    let place = (times.len() * of_100).div_ceil(100).saturating_sub(1);
    times.get(place).map_or(0.0, |time| millis(*time))
}

/// How much a value grows in each unit of its place, by least squares; zero when nothing can be said.
pub fn slope(points: &[(f64, f64)]) -> f64 {
    let count = float(points.len());
    let (sum_x, sum_y) = points.iter().fold((0.0, 0.0), |(x, y), point| (x + point.0, y + point.1));
    let (mean_x, mean_y) = (sum_x / count, sum_y / count);
    let (over, under) = points.iter().fold((0.0, 0.0), |(over, under), (x, y)| {
        (over + (x - mean_x) * (y - mean_y), under + (x - mean_x).powi(2))
    });
    if under > 0.0 { over / under } else { 0.0 }
}

/// A time in milliseconds.
pub fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1_000.0
}

/// So many in this time, for each second.
pub fn per_second(count: usize, time: Duration) -> f64 {
    float(count) / time.as_secs_f64().max(1e-9)
}

/// A count as a fraction. Above 2^53 the last digits do not matter.
#[expect(clippy::cast_precision_loss, reason = "a measured count is far below 2^53")]
pub const fn float(count: usize) -> f64 {
    count as f64
}

/// The whole part of what is not negative.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "`as` saturates, which is meant")]
pub const fn whole(value: f64) -> u64 {
    value as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle() {
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[3.0]), Some(3.0));
        assert_eq!(median(&[9.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[4.0, 1.0, 2.0, 9.0]), Some(3.0));
        assert_eq!(spread(&[4.0, 1.0, 9.0]), Some((1.0, 9.0)));
        assert_eq!(spread(&[]), None);
    }

    #[test]
    fn a_percentile_is_a_time_that_was_measured() {
        let mut times: Vec<Duration> = (1..=200).rev().map(Duration::from_millis).collect();
        let within = |times: &mut [Duration], of_100| whole(percentile(times, of_100).round());
        assert_eq!(within(&mut times, 50), 100);
        assert_eq!(within(&mut times, 99), 198);
        assert_eq!(within(&mut times, 100), 200);
        assert_eq!(within(&mut [], 99), 0);
    }

    #[test]
    fn a_slope_is_the_growth_of_each_step() {
        let near = |value: f64, expected: f64| (value - expected).abs() < 1e-9;
        assert!(near(slope(&[(0.0, 1.0), (1.0, 3.0), (2.0, 5.0)]), 2.0));
        assert!(near(slope(&[(0.0, 4.0), (1.0, 4.0)]), 0.0));
        assert!(near(slope(&[(1.0, 4.0)]), 0.0));
        assert!(near(slope(&[]), 0.0));
    }
}
