//! I8 bounded: memory stays below its cap, and what is counted while it is under way is back at zero.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use super::Findings;
use crate::{
    expect::Expect,
    stack::{Setup, Stack},
};

/// The most memory of a process in MiB, of the debug build.
const MEMORY: u64 = 200;
/// Gauges are refreshed every five seconds at the latest.
const SETTLING: Duration = Duration::from_secs(15);
const PAUSE: Duration = Duration::from_millis(250);

/// What a gauge may show at rest, by its name.
const LIMITS: &[(&str, f64)] = &[
    ("taskpost_group_held", 0.0),
    ("taskpost_group_lag", 0.0),
    ("taskpost_deliveries_in_flight", 0.0),
    ("taskpost_http_connections", 1_024.0),
];
/// Those of the full product.
const LIMITS_FULL: &[(&str, f64)] = &[
    ("taskpost_outbox_rows", 0.0),
    ("taskpost_outbox_oldest_seconds", 0.0),
    ("taskpost_relay_lag", 0.0),
    ("taskpost_relay_in_flight", 0.0),
    ("taskpost_relay_stuck", 0.0),
    ("taskpost_group_partition_lag", 0.0),
    ("taskpost_queue_buffered", 0.0),
    ("taskpost_ingestion_lag", 0.0),
];

/// By process, what its gauges show; none if it does not answer.
pub type Gauges = BTreeMap<&'static str, Option<String>>;

/// The most memory that each process had.
pub fn memory(most: &BTreeMap<&'static str, u64>, expect: Expect) -> Findings {
    let mut found = Findings::default();
    let cap = expect.memory.unwrap_or(MEMORY);
    let too_much = most.iter().filter(|(_, mib)| **mib > cap).map(|(name, mib)| format!("{name} had {mib}"));
    found.blame(&format!("I8: processes took more than {cap} MiB"), too_much);
    let unknown = most.iter().filter(|(_, mib)| **mib == 0).map(|(name, _)| name);
    found.blame("I8: processes could not be weighed", unknown);
    if most.is_empty() {
        found.blame("I8: processes could not be weighed", ["none"]);
    }
    found
}

/// What the gauges show at rest.
pub fn gauges(shown: &Gauges, setup: Setup) -> Findings {
    let mut found = Findings::default();
    let silent = shown.iter().filter(|(_, text)| text.is_none()).map(|(name, _)| name);
    found.blame("I8: processes do not show their gauges", silent);
    let full = if setup == Setup::Full { LIMITS_FULL } else { &[] };
    let (mut over, mut nowhere) = (Vec::new(), Vec::new());
    for (gauge, limit) in LIMITS.iter().chain(full) {
        let mut is_there = false;
        for (process, text) in shown {
            for (labels, value) in samples(text.as_deref().unwrap_or_default(), gauge) {
                is_there = true;
                if value.is_none_or(|value| value > *limit) {
                    over.push(format!("{gauge}{labels} of {process}"));
                }
            }
        }
        if !is_there {
            nowhere.push(gauge);
        }
    }
    found.blame("I8: gauges are above their limits at rest", over);
    // One that was renamed would never be above its limit.
    found.blame("I8: gauges are nowhere", nowhere);
    found
}

/// Labels and value of each sample of a metric in the text format of Prometheus.
fn samples<'a>(text: &'a str, metric: &'a str) -> impl Iterator<Item = (&'a str, Option<f64>)> {
    text.lines().filter_map(move |line| {
        let (labels, value) = line.strip_prefix(metric)?.rsplit_once(' ')?;
        (labels.is_empty() || labels.starts_with('{')).then(|| (labels, value.parse().ok()))
    })
}

/// Looks until everything is as it should be or nothing more can be hoped for.
pub async fn read(stack: &Stack) -> Gauges {
    let began = Instant::now();
    loop {
        let mut shown = Gauges::new();
        for (name, server) in stack.servers() {
            let answer = server.get("/metrics").try_send().await.ok();
            let text = answer.filter(|answer| answer.status == 200).map(|answer| answer.text());
            shown.insert(name, text);
        }
        if gauges(&shown, stack.setup) == Findings::default() || began.elapsed() > SETTLING {
            return shown;
        }
        tokio::time::sleep(PAUSE).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_has_a_cap() {
        let usual = |rows: &[(&'static str, u64)]| memory(&rows.iter().copied().collect(), Expect::default());
        assert_eq!(usual(&[("api", 200), ("workers", 1)]), Findings::default());
        assert_eq!(
            usual(&[("api", 201), ("workers", 300)]).violations,
            ["I8: processes took more than 200 MiB: 2 (api had 201, workers had 300)"]
        );
        assert_eq!(usual(&[("api", 0)]).violations, ["I8: processes could not be weighed: 1 (api)"]);
        assert_eq!(usual(&[]).violations.len(), 1);
        let expect = Expect { memory: Some(400), ..Expect::default() };
        assert_eq!(memory(&BTreeMap::from([("api", 400)]), expect), Findings::default());
        assert_eq!(memory(&BTreeMap::from([("api", 401)]), expect).violations.len(), 1);
    }

    /// Every gauge at its limit, in one process.
    fn calm(setup: Setup) -> String {
        let full = if setup == Setup::Full { LIMITS_FULL } else { &[] };
        let lines = LIMITS.iter().chain(full).map(|(gauge, limit)| {
            format!("# TYPE {gauge} gauge\n{gauge}{{group=\"a b\"}} {limit}\n{gauge} {limit}\n")
        });
        lines.collect()
    }

    #[test]
    fn gauges_come_to_rest() {
        for setup in [Setup::Embedded, Setup::Full] {
            let calm = calm(setup);
            let shown = Gauges::from([("api", Some(calm.clone())), ("workers", Some(String::new()))]);
            assert_eq!(gauges(&shown, setup), Findings::default());
            for (gauge, limit) in LIMITS {
                let line = format!("{gauge} {limit}");
                let high = calm.replace(&line, &format!("{gauge} {}", limit + 1.0));
                let found = gauges(&Gauges::from([("api", Some(high))]), setup);
                let said = format!("I8: gauges are above their limits at rest: 1 ({gauge} of api)");
                assert_eq!(found.violations, [said]);
                let renamed =
                    calm.replace(&format!("{gauge} "), "other ").replace(&format!("{gauge}{{"), "other{");
                let found = gauges(&Gauges::from([("api", Some(renamed))]), setup);
                assert_eq!(found.violations, [format!("I8: gauges are nowhere: 1 ({gauge})")]);
            }
            let found = gauges(&Gauges::from([("api", Some(calm)), ("workers", None)]), setup);
            assert_eq!(found.violations, ["I8: processes do not show their gauges: 1 (workers)"]);
        }
        // A broken number is not below its limit.
        assert_eq!(
            samples("a_b 1\na x\na{c=\"d\"} 2", "a").collect::<Vec<_>>(),
            [("", None), ("{c=\"d\"}", Some(2.0))]
        );
    }
}
