//! What schemathesis says of its run, and the tables for people.

use std::fmt::Write;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde::Deserialize;

use super::counts::Counts;

/// How many operations a finding names.
const NAMED: usize = 3;

/// The JSON report of schemathesis, as far as it matters here.
#[derive(Deserialize)]
pub struct Report {
    /// 0 and 1 tell of a run that did its work; 1 is one with findings.
    pub exit_code: i32,
    /// Such as `max_time`.
    pub stop_reason: String,
    operations: Option<Operations>,
    test_cases: Cases,
    failures: Vec<Finding>,
    errors: Vec<Trouble>,
}

#[derive(Deserialize)]
struct Operations {
    selected: u64,
    tested: u64,
}

#[derive(Deserialize)]
struct Cases {
    generated: u64,
}

#[derive(Deserialize)]
struct Finding {
    #[serde(rename = "type")]
    kind: String,
    title: String,
    count: u64,
    operations: Vec<String>,
}

#[derive(Deserialize)]
struct Trouble {
    title: String,
    count: u64,
}

/// How one part went.
pub struct Row {
    /// Its name.
    pub part: &'static str,
    /// How long it took.
    pub seconds: u64,
    /// What the product answered meanwhile.
    pub counts: Counts,
    /// What schemathesis made of it.
    pub report: Report,
}

impl Report {
    /// Reads it from its file.
    pub fn read(path: &Path) -> Result<Self> {
        let json = fs::read_to_string(path).with_context(|| format!("there is no {}", path.display()))?;
        serde_json::from_str(&json).with_context(|| format!("{} is not what was expected", path.display()))
    }

    /// Whether it asked anything at all, and came to an end by itself.
    pub fn is_whole(&self) -> bool {
        [0, 1].contains(&self.exit_code) && self.test_cases.generated > 0
    }

    /// How many of its findings are answers of 5xx.
    pub fn server_errors(&self) -> u64 {
        self.failures.iter().filter(|found| found.kind == "ServerError").map(|found| found.count).sum()
    }

    fn findings(&self) -> u64 {
        self.failures.iter().map(|found| found.count).sum()
    }

    /// A line for each kind of finding, and of what kept it from asking.
    fn lines(&self, part: &str) -> String {
        let mut text = String::new();
        for Finding { title, count, operations, .. } in &self.failures {
            let more = match operations.len().saturating_sub(NAMED) {
                0 => String::new(),
                more => format!(" and {more} more"),
            };
            let named = operations.iter().take(NAMED).cloned().collect::<Vec<_>>().join(", ");
            let _infallible = writeln!(text, "{part:<10} {count:>5}  {title}: {named}{more}");
        }
        for Trouble { title, count } in &self.errors {
            let _infallible = writeln!(text, "{part:<10} {count:>5}  could not ask: {title}");
        }
        text
    }
}

/// What was asked and answered, one line for each part; below it the findings.
pub fn table(rows: &[Row]) -> String {
    let mut text = "\n".to_owned() + &line("part", &HEAD.map(str::to_owned));
    for Row { part, seconds, counts, report } in rows {
        let shed = counts.shed();
        let [all, good, moved, refused, limited] = ["", "2", "3", "4", "429"].map(|status| counts.of(status));
        let failed = counts.of("5") - shed;
        let covered = match &report.operations {
            Some(some) => format!("{}/{}", some.tested, some.selected),
            None => "-".to_owned(),
        };
        let numbers = [*seconds, all, good, moved, refused, limited, failed, shed];
        let ends = [covered, report.test_cases.generated.to_string(), report.findings().to_string()];
        let cells: Vec<String> = numbers.iter().map(u64::to_string).chain(ends).collect();
        text += &line(part, &cells);
    }
    let findings: String = rows.iter().map(|row| row.report.lines(row.part)).collect();
    if !findings.is_empty() {
        text += "\nfindings, of which only server errors fail this command:\n";
        text += &findings;
    }
    text
}

const HEAD: [&str; 11] =
    ["seconds", "requests", "2xx", "3xx", "4xx", "429", "5xx", "503", "operations", "cases", "findings"];
const WIDTHS: [usize; 11] = [7, 9, 8, 6, 8, 6, 6, 6, 10, 8, 8];

fn line(part: &str, cells: &[String]) -> String {
    let mut text = format!("{part:<10}");
    for (cell, width) in cells.iter().zip(WIDTHS) {
        let _infallible = write!(text, " {cell:>width$}");
    }
    text + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    const JSON: &str = r#"{
        "schemathesis_version": "4.32.5", "exit_code": 1, "stop_reason": "max_time", "complete": true,
        "operations": {"total": 9, "selected": 8, "tested": 7, "errored": 0, "skipped": 1},
        "test_cases": {"generated": 120, "with_failures": 4, "unique_failures": 3},
        "failures": [
            {"type": "ServerError", "title": "Server error", "count": 2, "operations": ["GET /v1/a"]},
            {"type": "UndefinedStatusCode", "title": "Undocumented HTTP status code", "count": 5,
             "operations": ["GET /v1/a", "GET /v1/b", "GET /v1/c", "GET /v1/d"]}
        ],
        "errors": [{"title": "Network Error", "count": 1}],
        "warnings": {}
    }"#;

    #[test]
    fn the_report_says_what_was_found() {
        let report: Report = serde_json::from_str(JSON).unwrap();
        assert!(report.is_whole());
        assert_eq!((report.server_errors(), report.findings()), (2, 7));
        let interrupted = Report { exit_code: 130, ..report };
        assert!(!interrupted.is_whole());
    }

    #[test]
    fn the_table_tells_refusals_from_errors() {
        let metrics = "\
taskpost_http_requests_total{method=\"GET\",route=\"/a\",status=\"200\"} 70
taskpost_http_requests_total{method=\"GET\",route=\"/a\",status=\"429\"} 3
taskpost_http_requests_total{method=\"GET\",route=\"/a\",status=\"500\"} 2
taskpost_http_requests_total{method=\"GET\",route=\"/a\",status=\"503\"} 1
";
        let report = serde_json::from_str(JSON).unwrap();
        let text = table(&[Row { part: "admin", seconds: 60, counts: Counts::read(metrics), report }]);
        assert!(text.contains("admin           60        76       70      0        3"), "{text}");
        assert!(text.contains("      3      2      1        7/8      120        7\n"), "{text}");
        assert!(text.contains("2  Server error: GET /v1/a\n"), "{text}");
        assert!(text.contains("code: GET /v1/a, GET /v1/b, GET /v1/c and 1 more\n"), "{text}");
        assert!(text.contains("1  could not ask: Network Error\n"), "{text}");
    }
}
