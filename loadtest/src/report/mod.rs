//! The results: a table, a file for programs and a page for people.

mod page;
mod plots;
mod table;

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context as _, Result};
use serde::Serialize;

use crate::{options::Options, row::Row};
pub use table::table;

/// What `results.json` holds. Times are in microseconds.
#[derive(Serialize)]
struct Results<'a> {
    /// Seconds since 1970.
    at: u64,
    host: &'a str,
    seconds: u32,
    connections: u16,
    rows: &'a [Row],
}

/// Writes `results.json` and `index.html`, and returns where the page is.
pub fn write(folder: &Path, options: &Options, rows: &[Row]) -> Result<PathBuf> {
    let at = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let Options { host, seconds, connections, .. } = options;
    let results = Results { at, host, seconds: *seconds, connections: *connections, rows };
    save(&folder.join("results.json"), &serde_json::to_string_pretty(&results)?)?;
    let path = folder.join("index.html");
    let about = format!("{host}, {connections} connections, {seconds} s for each scenario");
    save(&path, &page::page(&about, &reports(folder, rows), rows)?)?;
    Ok(path)
}

/// The reports that goose has written, by their names.
fn reports(folder: &Path, rows: &[Row]) -> Vec<String> {
    let names = rows.iter().map(|row| format!("goose-{}.html", row.name));
    names.filter(|name| folder.join(name).is_file()).collect()
}

fn save(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).with_context(|| format!("could not write {}", path.display()))
}

/// Milliseconds with two digits after the point.
fn millis(micros: u64) -> String {
    format!("{:.2}", milliseconds(micros))
}

fn milliseconds(micros: u64) -> f64 {
    Duration::from_micros(micros).as_secs_f64() * 1_000.0
}

/// The statuses and how often each came.
fn statuses(row: &Row) -> String {
    let statuses = row.statuses.iter().map(|(status, count)| format!("{status} × {count}"));
    statuses.collect::<Vec<_>>().join(", ")
}

/// What must not be and what else is to be told, a line for each.
fn remarks(row: &Row) -> Vec<String> {
    let problems = row.problems.iter().map(|(what, count)| format!("{count} × {what}"));
    problems.chain(row.notes.iter().cloned()).collect()
}

/// Rows as a measurement would give them.
#[cfg(test)]
fn sample() -> Vec<Row> {
    use std::time::Instant;

    use crate::{record::Recorder, row::Loop};

    let start = Instant::now();
    let names = ["burst", "oha-closed", "oha-open", "arrival", "arrival, as sent", "delivered"];
    let row = |(place, name): (usize, &&str)| {
        let recorder = Recorder::new().unwrap();
        for number in 1..=3_000u64 {
            let at = start + Duration::from_millis(number);
            recorder.good_at(201, at.checked_sub(Duration::from_micros(number % 900 + 100)).unwrap(), at);
        }
        recorder.refused(429);
        recorder.row(name, if place < 2 { Loop::Closed } else { Loop::Open })
    };
    let mut rows: Vec<Row> = names.iter().enumerate().map(row).collect();
    rows.push(Row::failed("webhooks", Loop::Closed, "no <receiver> & no luck").note("run it again"));
    rows
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;
    use serde_json::Value;

    use super::*;

    #[test]
    fn both_files_are_written_and_hold_every_row() {
        let name = format!("taskpost-loadtest-{}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("goose-burst.html"), "").unwrap();
        let path = write(&folder, &Options::parse_from(["loadtest"]), &sample()).unwrap();
        let page = fs::read_to_string(path).unwrap();
        let results = fs::read_to_string(folder.join("results.json")).unwrap();
        fs::remove_dir_all(&folder).unwrap();

        let results: Value = serde_json::from_str(&results).unwrap();
        assert_eq!(results["rows"].as_array().unwrap().len(), sample().len());
        let row = &results["rows"][0];
        assert_eq!((&row["name"], &row["loop"]), (&"burst".into(), &"closed".into()));
        assert!(row["latency"]["p99.9"].is_u64() && row["seconds"].is_f64(), "{row}");
        assert_eq!(row["statuses"]["429"], 1);
        assert!(page.contains("href=\"goose-burst.html\"") && page.contains("arrival, as sent"));
        assert!(!page.contains("goose-arrival.html"));
    }

    #[test]
    fn milliseconds_have_two_digits() {
        assert_eq!(millis(1_234), "1.23");
        assert_eq!(millis(0), "0.00");
    }
}
