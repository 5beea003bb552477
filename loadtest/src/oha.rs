//! Runs oha and reads what it found.

use std::{collections::BTreeMap, ffi::OsString, process::Stdio, time::Duration};

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;
use tokio::{process::Command, time::timeout};

use crate::{
    row::{Latency, Loop, Row, per_second},
    run::Context,
    scenarios::Scenario,
    target::{Account, PATIENCE, task},
};

/// How long oha may take beyond its time.
const ENDING: Duration = Duration::from_mins(1);
/// Its percentiles for the plot.
const QUANTILES: [(&str, f64); 8] = [
    ("p25", 0.25),
    ("p50", 0.5),
    ("p75", 0.75),
    ("p90", 0.9),
    ("p95", 0.95),
    ("p99", 0.99),
    ("p99.9", 0.999),
    ("p99.99", 0.9999),
];

/// Lets oha post tasks: as fast as answers come, or at this rate.
pub async fn run(context: &Context, scenario: Scenario, rate: Option<u32>) -> Result<Row> {
    let account = context.target.one(scenario.name()).await?;
    let program = context.options.oha.clone().unwrap_or_else(|| "oha".into());
    let mut oha = Command::new(&program);
    oha.args(arguments(context, &account, rate)).arg(context.target.url("/v1/tasks"));
    oha.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let limit = Duration::from_secs(context.options.seconds.into()) + PATIENCE + ENDING;
    let output = timeout(limit, oha.output()).await.context("oha does not come to an end")?;
    let output = output.with_context(|| {
        format!(
            "could not run {}; `cargo xtask loadtest` builds it, --oha says where it is",
            program.display()
        )
    })?;
    if !output.status.success() {
        bail!("oha failed ({}): {}", output.status, String::from_utf8_lossy(&output.stderr).trim());
    }
    read(&output.stdout, scenario.name(), rate)
}

fn arguments(context: &Context, account: &Account, rate: Option<u32>) -> Vec<OsString> {
    let options = &context.options;
    let mut arguments: Vec<OsString> = Vec::new();
    arguments
        .extend(["--no-tui", "--output-format", "json", "--stats-success-breakdown"].map(OsString::from));
    // What is under way at the end is waited for: the slowest would be missing otherwise.
    arguments.push("-w".into());
    for (option, value) in [
        ("-z", format!("{}s", options.seconds)),
        ("-c", options.connections.to_string()),
        ("-t", format!("{}s", PATIENCE.as_secs())),
        ("-m", "POST".to_owned()),
        ("-T", "application/json".to_owned()),
        ("-d", task("Measure the load").to_string()),
        ("-H", format!("Authorization: Bearer {}", account.token)),
    ] {
        arguments.extend([OsString::from(option), OsString::from(value)]);
    }
    if let Some(rate) = rate {
        arguments.extend(["-q", &rate.to_string(), "--latency-correction"].map(OsString::from));
    }
    arguments
}

/// What is read of oha's report. A time is null where there was no answer.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Report {
    summary: Summary,
    latency_percentiles: BTreeMap<String, Option<f64>>,
    latency_percentiles_successful: Option<BTreeMap<String, Option<f64>>>,
    status_code_distribution: BTreeMap<u16, u64>,
    error_distribution: BTreeMap<String, u64>,
}

#[derive(Deserialize)]
struct Summary {
    total: f64,
    slowest: Option<f64>,
}

fn read(json: &[u8], name: &str, rate: Option<u32>) -> Result<Row> {
    let report: Report = serde_json::from_slice(json).context("oha's report cannot be read")?;
    let elapsed = Duration::try_from_secs_f64(report.summary.total).context("oha's time cannot be read")?;
    // Who sets the rate may set it too high: then the instance may say 503.
    let refusals: &[u16] = if rate.is_some() { &[429, 503] } else { &[429] };
    let statuses = report.status_code_distribution;
    let unexpected = statuses.iter().filter(|(status, _)| **status != 201 && !refusals.contains(status));
    let mut problems: BTreeMap<String, u64> =
        unexpected.map(|(status, count)| (format!("status {status}"), *count)).collect();
    let errors = report.error_distribution;
    let requests = statuses.values().chain(errors.values()).sum();
    problems.extend(errors);
    let good = statuses.get(&201).copied().unwrap_or(0);
    let times = report.latency_percentiles_successful.unwrap_or(report.latency_percentiles);
    let slowest = report.summary.slowest.and_then(micros);
    Ok(Row {
        name: name.to_owned(),
        kind: if rate.is_some() { Loop::Open } else { Loop::Closed },
        requests,
        good,
        elapsed,
        per_second: per_second(good, elapsed),
        latency: latency(&times, slowest),
        curve: QUANTILES
            .into_iter()
            .filter_map(|(percentile, quantile)| Some((quantile, time(&times, percentile)?)))
            .collect(),
        over_time: Vec::new(),
        statuses,
        problems,
        notes: Vec::new(),
    })
}

fn latency(times: &BTreeMap<String, Option<f64>>, slowest: Option<u64>) -> Option<Latency> {
    let at = |percentile| time(times, percentile);
    let (p50, p90, p99) = (at("p50")?, at("p90")?, at("p99")?);
    let p999 = at("p99.9")?;
    Some(Latency { p50, p90, p99, p999, max: slowest.unwrap_or(p999).max(p999) })
}

fn time(times: &BTreeMap<String, Option<f64>>, percentile: &str) -> Option<u64> {
    micros(times.get(percentile).copied().flatten()?)
}

fn micros(seconds: f64) -> Option<u64> {
    u64::try_from(Duration::try_from_secs_f64(seconds).ok()?.as_micros()).ok()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn report() -> Value {
        json!({
            "summary": {"successRate": 1.0, "total": 2.0, "slowest": 0.05, "fastest": 0.001, "requestsPerSec": 1005.0},
            "latencyPercentiles": {"p50": 0.5, "p90": 0.5, "p99": 0.5, "p99.9": 0.5},
            "latencyPercentilesSuccessful": {
                "p10": 0.001, "p25": 0.002, "p50": 0.003, "p75": 0.004, "p90": 0.005, "p95": 0.006, "p99": 0.007,
                "p99.9": 0.008, "p99.99": null
            },
            "statusCodeDistribution": {"201": 2000, "429": 10},
            "errorDistribution": {}
        })
    }

    fn row(report: &Value, rate: Option<u32>) -> Row {
        read(report.to_string().as_bytes(), "oha-closed", rate).unwrap()
    }

    #[test]
    fn times_are_those_of_good_answers() {
        let row = row(&report(), None);
        assert_eq!((row.kind, row.requests, row.good, row.per_second), (Loop::Closed, 2_010, 2_000, 1_000));
        let expected = Latency { p50: 3_000, p90: 5_000, p99: 7_000, p999: 8_000, max: 50_000 };
        assert_eq!(row.latency, Some(expected));
        assert_eq!(row.curve.first(), Some(&(0.25, 2_000)));
        assert_eq!(row.curve.len(), QUANTILES.len() - 1);
        assert!(row.is_fine());
    }

    #[test]
    fn what_must_not_be_is_a_problem() {
        let mut report = report();
        report["statusCodeDistribution"]["503"] = json!(3);
        assert_eq!(row(&report, None).problems, BTreeMap::from([("status 503".to_owned(), 3)]));
        assert!(row(&report, Some(5_000)).is_fine());
        report["errorDistribution"]["Connection refused"] = json!(2);
        let row = row(&report, Some(5_000));
        assert_eq!((row.kind, row.requests, row.problem_count()), (Loop::Open, 2_015, 2));
    }

    #[test]
    fn a_run_without_an_answer_is_not_fine() {
        let none = json!({
            "summary": {"total": 2.0, "slowest": null},
            "latencyPercentiles": {"p50": null},
            "statusCodeDistribution": {},
            "errorDistribution": {"Connection refused": 7}
        });
        let row = row(&none, None);
        assert_eq!((row.latency, row.good, row.problem_count()), (None, 0, 7));
        assert!(!row.is_fine());
        assert!(read(b"oha: no such option", "oha-closed", None).is_err());
    }
}
