//! The history of recorded runs, a line of JSON for each, so that a slide is seen.

use std::{collections::BTreeMap, fs, io::Write as _, path::Path};

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use crate::figure::Unit;

/// A figure over the rounds of a run.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Over {
    /// The middle of the rounds.
    pub median: f64,
    /// The lowest.
    pub low: f64,
    /// The highest.
    pub high: f64,
    /// What it counts.
    pub unit: Unit,
}

/// What is kept of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// When it ended.
    pub at: String,
    /// The commit that was checked out; there may have been changes besides.
    pub commit: Option<String>,
    /// How many rounds it had.
    pub rounds: u32,
    /// How long each row was loaded.
    pub seconds: u64,
    /// Whether the machine did nothing else worth mentioning.
    pub quiet: bool,
    /// By `row.figure`.
    pub figures: BTreeMap<String, Over>,
}

/// What was measured last of each figure, over all recorded runs. A history that is not there is empty.
pub fn last(path: &Path) -> Result<BTreeMap<String, Over>> {
    let text = match fs::read_to_string(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
        read => read.with_context(|| format!("could not read {}", path.display()))?,
    };
    let mut last = BTreeMap::new();
    for (place, line) in text.lines().enumerate().filter(|(_, line)| !line.is_empty()) {
        let record: Record =
            serde_json::from_str(line).with_context(|| format!("{}:{}", path.display(), place + 1))?;
        last.extend(record.figures);
    }
    Ok(last)
}

/// Appends a run.
pub fn append(path: &Path, record: &Record) -> Result<()> {
    let line = serde_json::to_string(record)? + "\n";
    let file = fs::File::options().create(true).append(true).open(path);
    let written = file.and_then(|mut file| file.write_all(line.as_bytes()));
    written.with_context(|| format!("could not write {}", path.display()))
}

/// How a figure has changed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Change {
    /// In percent of the old value.
    pub percent: f64,
    /// Whether it is worse by more than both runs' rounds differed among themselves.
    pub slid: bool,
}

impl Change {
    /// None where the old value says nothing.
    pub fn between(old: Over, new: Over) -> Option<Self> {
        if old.median.abs() < f64::EPSILON {
            return None;
        }
        let percent = 100.0 * (new.median - old.median) / old.median;
        let slid = match new.unit.more_is_better() {
            Some(true) => new.high < old.low,
            Some(false) => new.low > old.high,
            None => false,
        };
        Some(Self { percent, slid })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn over(low: f64, median: f64, high: f64, unit: Unit) -> Over {
        Over { median, low, high, unit }
    }

    fn record(figures: &[(&str, Over)]) -> Record {
        let figures = figures.iter().map(|(name, over)| ((*name).to_owned(), *over)).collect();
        let at = "2026-01-01T00:00:00Z".to_owned();
        Record { at, commit: None, rounds: 3, seconds: 6, quiet: true, figures }
    }

    #[test]
    fn the_last_value_of_each_figure_counts() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("history.jsonl");
        assert_eq!(last(&path).unwrap(), BTreeMap::new());
        let (one, two) = (over(1.0, 2.0, 3.0, Unit::PerSecond), over(4.0, 5.0, 6.0, Unit::PerSecond));
        append(&path, &record(&[("a.x", one), ("b.x", one)])).unwrap();
        append(&path, &record(&[("a.x", two)])).unwrap();
        let last = last(&path).unwrap();
        assert_eq!((last["a.x"], last["b.x"]), (two, one));
        fs::write(&path, "nonsense\n").unwrap();
        assert!(super::last(&path).is_err());
    }

    #[test]
    fn only_what_is_worse_beyond_the_spread_has_slid() {
        let between = |unit, new: [f64; 3]| {
            let [low, median, high] = new;
            Change::between(over(90.0, 100.0, 110.0, unit), over(low, median, high, unit)).unwrap()
        };
        let rate = |new| between(Unit::PerSecond, new);
        assert!(
            rate([70.0, 80.0, 89.0]).slid
                && !rate([70.0, 80.0, 95.0]).slid
                && !rate([120.0, 130.0, 140.0]).slid
        );
        let time = |new| between(Unit::Millis, new);
        assert!(time([111.0, 120.0, 130.0]).slid && !time([70.0, 80.0, 89.0]).slid);
        assert_eq!(rate([70.0, 80.0, 89.0]).percent.round().to_string(), "-20");
        let nothing = over(0.0, 0.0, 0.0, Unit::Count);
        assert_eq!(Change::between(nothing, nothing), None);
    }
}
