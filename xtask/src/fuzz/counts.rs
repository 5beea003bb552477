//! What the product counted of its answers: whatever the one who asked makes of them.

use std::collections::{BTreeMap, BTreeSet};

/// How many answers there were, by operation and status.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Counts(BTreeMap<Answer, u64>);

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Answer {
    /// Such as `GET /tasks/{id}`.
    operation: String,
    status: String,
}

const NAME: &str = "taskpost_http_requests_total{";
/// What is answered when there is too much to do.
const SHED: &str = "503";

impl Counts {
    /// Reads metrics in the text format of Prometheus.
    pub fn read(metrics: &str) -> Self {
        Self(metrics.lines().filter_map(counted).collect())
    }

    /// What came on top of those before.
    pub fn since(&self, before: &Self) -> Self {
        let more = |(answer, count): (&Answer, &u64)| {
            let more = count.saturating_sub(before.0.get(answer).copied().unwrap_or(0));
            (more > 0).then(|| (answer.clone(), more))
        };
        Self(self.0.iter().filter_map(more).collect())
    }

    /// How many had a status that begins so.
    pub fn of(&self, status: &str) -> u64 {
        self.0.iter().filter(|(answer, _)| answer.status.starts_with(status)).map(|(_, count)| count).sum()
    }

    /// How many were refused because there was too much to do.
    pub fn shed(&self) -> u64 {
        self.of(SHED)
    }

    /// Those that must not be: status, operation and how many.
    pub fn errors(&self) -> Vec<String> {
        let bad = self.0.iter().filter(|(answer, _)| answer.status.starts_with('5') && answer.status != SHED);
        bad.map(|(answer, count)| format!("{} of {}: {count}", answer.status, answer.operation)).collect()
    }

    /// The operations that did what they were asked at least once.
    pub fn done(&self) -> BTreeSet<&str> {
        let good = self.0.keys().filter(|answer| answer.status.starts_with(['2', '3']));
        good.map(|answer| answer.operation.as_str()).collect()
    }
}

/// One line of the metrics, if it counts answers. The name of a route has braces too.
fn counted(line: &str) -> Option<(Answer, u64)> {
    let (labels, count) = line.strip_prefix(NAME)?.rsplit_once("} ")?;
    let label = |name: &str| {
        let (_, rest) = labels.split_once(&format!("{name}=\""))?;
        rest.split('"').next()
    };
    let operation = format!("{} {}", label("method")?, label("route")?);
    Some((Answer { operation, status: label("status")?.to_owned() }, count.trim().parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEFORE: &str = "\
# HELP taskpost_http_requests_total Requests answered, by route and status.
# TYPE taskpost_http_requests_total counter
taskpost_http_requests_total{method=\"GET\",route=\"/tasks/{id}\",status=\"200\"} 7
taskpost_http_requests_total{method=\"POST\",route=\"/tasks\",status=\"422\"} 2
taskpost_http_request_seconds_count{method=\"POST\",route=\"/tasks\"} 2
";
    const AFTER: &str = "\
taskpost_http_requests_total{method=\"GET\",route=\"/tasks/{id}\",status=\"200\"} 9
taskpost_http_requests_total{method=\"GET\",route=\"/tasks/{id}\",status=\"304\"} 1
taskpost_http_requests_total{method=\"POST\",route=\"/tasks\",status=\"422\"} 2
taskpost_http_requests_total{method=\"POST\",route=\"/tasks\",status=\"503\"} 4
taskpost_http_requests_total{method=\"PUT\",route=\"/me/password\",status=\"500\"} 3
";

    #[test]
    fn only_what_is_new_counts() {
        let before = Counts::read(BEFORE);
        assert_eq!((before.of(""), before.of("2"), before.of("4")), (9, 7, 2));
        let new = Counts::read(AFTER).since(&before);
        assert_eq!((new.of(""), new.of("2"), new.of("3"), new.of("4"), new.of("5")), (10, 2, 1, 0, 7));
        assert_eq!(new.since(&new), Counts::default());
    }

    #[test]
    fn a_refusal_under_load_is_no_error() {
        let counts = Counts::read(AFTER);
        assert_eq!(counts.shed(), 4);
        assert_eq!(counts.errors(), ["500 of PUT /me/password: 3"]);
        assert_eq!(counts.done().into_iter().collect::<Vec<_>>(), ["GET /tasks/{id}"]);
    }
}
