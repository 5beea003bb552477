//! What must hold of every answer.

use serde_json::Value;
use taskpost_testkit::Raw;

use crate::case::Case;

/// The headers there are. Whatever else comes was put there by the client.
const HEADERS: [&str; 21] = [
    "allow",
    "cache-control",
    "connection",
    "content-length",
    "content-security-policy",
    "content-type",
    "date",
    "etag",
    "event-id",
    "idempotency-replayed",
    "link",
    "location",
    "ratelimit",
    "ratelimit-policy",
    "referrer-policy",
    "retry-after",
    "transfer-encoding",
    "vary",
    "www-authenticate",
    "x-content-type-options",
    "x-request-id",
];

/// What tells of our inside: traces, paths, SQL, the libraries, and tables whose names are no words of the interface.
const INSIDE: [&str; 26] = [
    "panicked",
    "backtrace",
    "thread '",
    "unwrap",
    ".rs",
    "src/",
    "/work",
    "/tmp",
    "/home",
    "/usr",
    "sqlx",
    "sqlite",
    "postgres",
    "select ",
    "insert ",
    "update ",
    "constraint",
    "syntax error",
    "relation \"",
    "idempotency_keys",
    "refresh_tokens",
    "log_head",
    "outbox",
    "dead_letters",
    "endpoints",
    "jsonwebtoken",
];

/// Everything that is wrong with an answer.
pub(crate) fn faults(case: &Case, answer: &Raw) -> Vec<String> {
    let mut faults = Vec::new();
    if !case.expected.contains(&answer.status) {
        faults.push(format!("got {}, expected {:?}", answer.status, case.expected));
    }
    faults.extend(header_faults(&answer.head));
    let refused = answer.status >= 400;
    if refused {
        faults.extend(problem(case, answer).err());
    }
    if refused || answer.status == 207 {
        faults.extend(leak(&answer.text()));
    }
    faults.extend(case.checks.iter().filter_map(|check| check(answer).err()));
    faults
}

fn header_faults(head: &str) -> Vec<String> {
    let mut seen: Vec<String> = Vec::new();
    let mut faults = Vec::new();
    for line in head.split("\r\n").skip(1).filter(|line| !line.is_empty()) {
        let name = line.split(':').next().unwrap_or_default().to_ascii_lowercase();
        if !HEADERS.contains(&name.as_str()) {
            faults.push(format!("a header of nobody's: {line:?}"));
        }
        if line.chars().any(char::is_control) {
            faults.push(format!("a control character in a header: {line:?}"));
        }
        if seen.contains(&name) {
            faults.push(format!("{name} comes more than once"));
        }
        seen.push(name);
    }
    faults
}

/// RFC 9457, with our own two parts.
fn problem(case: &Case, answer: &Raw) -> Result<(), String> {
    let text = answer.text();
    if answer.header("content-type") != Some("application/problem+json") {
        return Err(format!("no problem+json: {}{text}", answer.head));
    }
    let problem: Value =
        serde_json::from_slice(&answer.body).map_err(|error| format!("no JSON ({error}): {text}"))?;
    let part = |name: &str| problem[name].as_str().unwrap_or_default();
    let trace = part("trace_id");
    let whole = part("type").starts_with("/problems/")
        && !part("title").is_empty()
        && !part("detail").is_empty()
        && problem["status"] == answer.status
        && trace.len() == 32
        && trace.bytes().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'))
        && if case.path.is_empty() { !part("instance").is_empty() } else { part("instance") == case.path };
    if !whole {
        return Err(format!("a part of the problem is missing or not right: {text}"));
    }
    let pointers: Vec<&str> =
        problem["errors"].as_array().into_iter().flatten().filter_map(pointer).collect();
    match &case.pointer {
        Some(wanted) if !pointers.contains(&wanted.as_str()) => {
            Err(format!("no error at {wanted:?}, only at {pointers:?}: {text}"))
        }
        _ => Ok(()),
    }
}

fn pointer(error: &Value) -> Option<&str> {
    error["pointer"].as_str()
}

/// The path that was asked for may be said back; nothing else may name what is inside.
fn leak(text: &str) -> Option<String> {
    let mut shown: Value = serde_json::from_str(text).unwrap_or_else(|_| text.into());
    if let Some(problem) = shown.as_object_mut() {
        problem.remove("instance");
    }
    let shown = shown.to_string().to_ascii_lowercase();
    let found = INSIDE.iter().find(|word| shown.contains(**word))?;
    Some(format!("tells of {found:?}: {text}"))
}

/// A problem without what differs from one request to the next.
pub(crate) fn anonymous(answer: &Raw) -> Value {
    let mut problem = serde_json::from_slice(&answer.body).unwrap_or(Value::Null);
    if let Some(problem) = problem.as_object_mut() {
        problem.remove("instance");
        problem.remove("trace_id");
    }
    problem
}
