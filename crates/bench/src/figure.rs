//! What a row gives: figures with names and units, and what is worth saying beside them.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What a figure counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    /// Of something in a second.
    PerSecond,
    /// Milliseconds.
    Millis,
    /// Seconds.
    Seconds,
    /// Mebibytes.
    Mib,
    /// Bytes.
    Bytes,
    /// Of anything.
    Count,
}

impl Unit {
    /// Whether more of it is better; none is neither.
    pub const fn more_is_better(self) -> Option<bool> {
        match self {
            Self::PerSecond => Some(true),
            Self::Millis | Self::Seconds | Self::Mib | Self::Bytes => Some(false),
            Self::Count => None,
        }
    }

    const fn text(self) -> &'static str {
        match self {
            Self::PerSecond => "/s",
            Self::Millis => " ms",
            Self::Seconds => " s",
            Self::Mib => " MiB",
            Self::Bytes => " B",
            Self::Count => "",
        }
    }

    /// A value of it as people read it.
    pub fn show(self, value: f64) -> String {
        let digits = match value.abs() {
            large if large >= 100.0 => 0,
            some if some >= 10.0 => 1,
            _ if self == Self::Count && value.fract() == 0.0 => 0,
            _ => 2,
        };
        format!("{value:.digits$}{}", self.text())
    }
}

/// A number that was measured.
#[derive(Clone, Debug, PartialEq)]
pub struct Figure {
    /// Its name within the row.
    pub name: String,
    /// The number.
    pub value: f64,
    /// What it counts.
    pub unit: Unit,
}

/// What one measurement of a row gave.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Outcome {
    /// In the order they are shown.
    pub figures: Vec<Figure>,
    /// What is worth saying besides.
    pub notes: Vec<String>,
}

impl Outcome {
    /// With one more figure.
    #[must_use]
    pub fn with(mut self, name: impl Into<String>, value: f64, unit: Unit) -> Self {
        self.add(name, value, unit);
        self
    }

    /// Adds a figure.
    pub fn add(&mut self, name: impl Into<String>, value: f64, unit: Unit) {
        self.figures.push(Figure { name: name.into(), value, unit });
    }

    /// Says something besides.
    pub fn note(&mut self, what: impl Into<String>) {
        self.notes.push(what.into());
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, figure) in self.figures.iter().enumerate() {
            let comma = if place == 0 { "" } else { ", " };
            write!(out, "{comma}{} {}", figure.name, figure.unit.show(figure.value))?;
        }
        self.notes.iter().try_for_each(|note| write!(out, "; {note}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_has_as_many_digits_as_one_can_use() {
        for (unit, value, expected) in [
            (Unit::PerSecond, 18_234.56, "18235/s"),
            (Unit::Millis, 3.306, "3.31 ms"),
            (Unit::Millis, 12.34, "12.3 ms"),
            (Unit::Count, 0.0, "0"),
            (Unit::Mib, 38.25, "38.2 MiB"),
        ] {
            assert_eq!(unit.show(value), expected);
        }
    }

    #[test]
    fn an_outcome_is_one_line() {
        let mut outcome =
            Outcome::default().with("per_second", 100.0, Unit::PerSecond).with("p99_ms", 1.5, Unit::Millis);
        outcome.note("late");
        assert_eq!(outcome.to_string(), "per_second 100/s, p99_ms 1.50 ms; late");
    }
}
