//! Size: of bodies, heads, addresses, lists and pages. What is too large is refused early, and memory stays flat.

use std::{fs, io, time::Duration};

use serde_json::json;
use taskpost_testkit::{Backend, PATIENCE, Raw, TestApp, both};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

use crate::{
    case::{Case, encoded},
    row::Row,
};

both!(row);

const BODY: usize = 256 * 1024;
const BATCH: usize = 5 * 1024 * 1024;
/// What unoptimised code may take to read megabytes on a busy machine.
const SLOWLY: Duration = Duration::from_secs(30);
/// How much memory a row of hostile sizes may cost.
const MEMORY_KIB: u64 = 64 * 1024;

async fn row(backend: Backend) {
    let mut row = Row::alone("Size", TestApp::start(backend)).await;
    let token = row.app.user("Ada").await.token;
    let before = resident_kib();
    row.run(bodies(&token)).await;
    row.run(batches(&token)).await;
    row.run(heads(&token)).await;
    row.run(fields(&token)).await;
    row.run(pages(&token)).await;
    endless(&mut row, &token).await;
    let growth = resident_kib().saturating_sub(before);
    row.claim("memory", growth < MEMORY_KIB, || format!("grew by {growth} KiB"));
    row.end(100).await;
}

fn resident_kib() -> u64 {
    let status = fs::read_to_string("/proc/self/status").expect("the state of this process");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a resident size");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}

/// `start`, with blanks behind it up to this size.
fn padded(start: &str, size: usize) -> Vec<u8> {
    let mut body = start.as_bytes().to_vec();
    body.resize(size, b' ');
    body
}

fn bodies(token: &str) -> Vec<Case> {
    let good = r#"{"title":"a"}"#;
    let case =
        |name: &str, size: usize| Case::new("POST", "/v1/tasks", name).token(token).json(padded(good, size));
    let announced = |name: &str, length: &str| {
        let head = format!(
            "POST /v1/tasks HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {token}\r\ncontent-type: application/json\r\n"
        );
        Case::raw(name, format!("{head}content-length: {length}\r\n\r\n"))
    };
    let open = |method: &str, path: &str| {
        Case::new(method, path, format!("a large body at {method} {path}"))
            .token(token)
            .body(padded("", BODY + 1))
            .expect(&[413])
    };
    let title = format!("{{\"title\":\"{}\"}}", "a".repeat(201));
    vec![
        case("body at the limit", BODY).expect(&[201]),
        case("body at the limit, in chunks", BODY).chunked().expect(&[201]),
        case("body over the limit", BODY + 1).expect(&[413]),
        case("body over the limit, in chunks", BODY + 1).chunked().expect(&[413]),
        case("body of 20 times the limit", BODY * 20).expect(&[413]),
        case("body of 20 times the limit, in chunks", BODY * 20).chunked().expect(&[413]),
        case("body at the limit with a bad title", 0).json(padded(&title, BODY)).expect(&[400, 422]),
        Case::new("POST", "/v1/tasks", "large and not fitting")
            .token(token)
            .json(padded(&title, BODY))
            .invalid("/title"),
        Case::new("POST", "/v1/tasks", "blanks over the limit")
            .token(token)
            .json(padded("", BODY + 1))
            .expect(&[413]),
        announced("a length of 100 TB", "100000000000000").expect(&[413]),
        announced("the largest length", "18446744073709551615").expect(&[413]),
        announced("a length beyond 64 bits", "18446744073709551616").expect(&[413]),
        announced("a negative length", "-1"),
        announced("a length that is none", "abc"),
        announced("a signed length", "+5"),
        open("GET", "/v1/tasks"),
        open("POST", "/v1/notifications/read-all"),
        open("POST", "/v1/auth/logout"),
        open("POST", "/v1/auth/login").header("content-type", "application/json"),
        open("GET", "/v1/nothing").expect(&[404, 413]),
    ]
}

fn batches(token: &str) -> Vec<Case> {
    let case = |name: &str, body: Vec<u8>| Case::new("POST", "/v1/tasks/batch", name).token(token).json(body);
    let many =
        |count: usize, task: &str| format!("{{\"tasks\":[{}]}}", vec![task; count].join(",")).into_bytes();
    let (one, task) = (r#"{"tasks":[{"title":"a"}]}"#, r#"{"title":"a"}"#);
    vec![
        case("batch at the limit", padded(one, BATCH)).expect(&[207]),
        case("batch over the limit", padded(one, BATCH + 1)).expect(&[413]),
        case("batch over the limit, in chunks", padded(one, BATCH + 1)).chunked().expect(&[413]),
        case("batch of 500", many(500, task)).expect(&[207]),
        case("batch of 501", many(501, task)).invalid("/tasks"),
        case("batch of 100,000", many(100_000, task)).invalid("/tasks").within(SLOWLY),
        case("batch of 100,000 zeros", many(100_000, "0")).invalid("/tasks").within(SLOWLY),
        case("batch of 2,000,000 brackets", many(1_000_000, "[]")).invalid("/tasks").within(SLOWLY),
        case(
            "batch of one text of 5 MB",
            format!("{{\"tasks\":[\"{}\"]}}", "a".repeat(BATCH - 20)).into_bytes(),
        )
        .expect(&[207])
        .unchanged(),
    ]
}

fn heads(token: &str) -> Vec<Case> {
    let target = |length: usize| {
        let start = "/v1/tasks?cursor=";
        format!("{start}{}", "a".repeat(length - start.len()))
    };
    let many = |count: usize| {
        let mut case = Case::new("GET", "/v1/tasks", format!("{count} headers")).token(token);
        // The host and the token are two.
        for place in 2..count {
            case = case.header(&format!("x-{place}"), "1");
        }
        case
    };
    let one = |bytes: usize| {
        Case::new("GET", "/v1/tasks", format!("a header of {bytes} bytes"))
            .token(token)
            .header("x-long", "a".repeat(bytes))
    };
    vec![
        many(100).expect(&[200]),
        many(101).expect(&[431]),
        many(10_000).expect(&[431]),
        one(50_000).expect(&[200]),
        one(70_000).expect(&[431]),
        one(100_000).expect(&[431]),
        one(1_000_000).expect(&[431]),
        Case::raw("a header name of 100 KB", format!("GET / HTTP/1.1\r\n{}: a\r\n\r\n", "a".repeat(100_000)))
            .expect(&[400, 431]),
        Case::raw("a method of 100 KB", format!("{} / HTTP/1.1\r\nhost: a\r\n\r\n", "A".repeat(100_000)))
            .expect(&[414]),
        Case::new("GET", &target(8_192), "an address of 8 KiB").token(token),
        Case::new("GET", &target(8_193), "an address of 8 KiB and a byte").token(token).expect(&[414]),
        Case::new("GET", &target(65_000), "an address of 64 KB").token(token).expect(&[414, 431]),
        Case::new("GET", &target(66_000), "an address of 66 KB").token(token).expect(&[414, 431]),
        Case::new("GET", &target(1_000_000), "an address of 1 MB").token(token).expect(&[414, 431]),
        Case::new("GET", &format!("/v1/tasks/{}", "a/".repeat(4_090)), "a path of 4,090 parts")
            .token(token)
            .expect(&[404]),
        Case::new("GET", &format!("/v1/tasks?{}", "a&".repeat(4_000)), "4,000 keys").token(token),
        Case::new("GET", &format!("/v1/tasks?status={}", "a,".repeat(4_000)), "4,000 words")
            .token(token)
            .pointer("?status"),
        Case::new("GET", &format!("/v1/tasks?status={}", "%25".repeat(2_500)), "2,500 percent signs")
            .token(token)
            .pointer("?status"),
        Case::new("POST", "/v1/tasks", "an Idempotency-Key of 256 bytes")
            .token(token)
            .header("idempotency-key", "k".repeat(256))
            .json(r#"{"title":"a"}"#),
        Case::new("POST", "/v1/tasks", "an Idempotency-Key of 255 bytes")
            .token(token)
            .header("idempotency-key", "k".repeat(255))
            .json(r#"{"title":"a"}"#)
            .expect(&[201]),
        Case::new("GET", "/v1/tasks", "an If-None-Match of 8 KB")
            .token(token)
            .header("if-none-match", "\"a\",".repeat(2_000))
            .expect(&[200]),
    ]
}

fn fields(token: &str) -> Vec<Case> {
    let case = |name: &str, body: serde_json::Value| {
        Case::new("POST", "/v1/tasks", name).token(token).json(body.to_string())
    };
    vec![
        case("title of 200 letters", json!({"title": "é".repeat(200)})).expect(&[201]),
        case("title of 201 letters", json!({"title": "é".repeat(201)})).invalid("/title"),
        case("no title", json!({"title": ""})).invalid("/title"),
        case("blank title", json!({"title": " \u{3000} "})).invalid("/title"),
        case("description of 20,000 letters", json!({"title": "a", "description": "ü".repeat(20_000)})).expect(&[201]),
        case("description of 20,001 letters", json!({"title": "a", "description": "ü".repeat(20_001)})).invalid("/description"),
        case("20 labels", json!({"title": "a", "labels": vec!["b"; 20]})).expect(&[201]),
        case("21 labels", json!({"title": "a", "labels": vec!["b"; 21]})).invalid("/labels"),
        case("60,000 labels", json!({"title": "a", "labels": vec!["b"; 60_000]})).invalid("/labels"),
        case("label of 51 letters", json!({"title": "a", "labels": ["b".repeat(51)]})).invalid("/labels/0"),
        Case::new("POST", "/v1/webhooks", "a format of 200,000 letters")
            .token(token)
            .json(json!({"url": "https://example.org", "event_types": ["task.*"], "format": "f".repeat(200_000)}).to_string())
            .invalid("/format")
            .check(small),
        Case::new("POST", "/v1/tasks", "a field name of 200,000 letters")
            .token(token)
            .json(json!({"title": "a", "f".repeat(200_000): 1}).to_string())
            .expect(&[422])
            .check(small),
        Case::new("POST", "/v1/webhooks", "51 event types")
            .token(token)
            .json(json!({"url": "https://example.org", "event_types": vec!["task.*"; 51]}).to_string())
            .invalid("/event_types"),
        Case::new("POST", "/v1/webhooks", "a URL of 2,049 letters")
            .token(token)
            .json(json!({"url": format!("https://example.org/{}", "a".repeat(2_029)), "event_types": ["task.*"]}).to_string())
            .invalid("/url"),
        Case::new("POST", "/v1/webhooks", "a note of 501 letters")
            .token(token)
            .json(json!({"url": "https://example.org", "event_types": ["task.*"], "description": "a".repeat(501)}).to_string())
            .invalid("/description"),
    ]
}

/// What was sent is not said back at length.
fn small(answer: &Raw) -> Result<(), String> {
    if answer.body.len() < 2_000 { Ok(()) } else { Err(format!("a problem of {} bytes", answer.body.len())) }
}

fn pages(token: &str) -> Vec<Case> {
    let get = |path: &str, key: &str, value: &str| {
        let target = format!("{path}?{key}={}", encoded(value));
        Case::new("GET", &target, format!("{path} with {key}={value:?}")).token(token)
    };
    let mut cases = Vec::new();
    for path in ["/v1/tasks", "/v1/notifications", "/v1/webhooks", "/v1/events", "/v1/admin/dead-letters"] {
        for bad in
            ["-1", "0", "201", "1000000000", "abc", "", "1.5", "1e2", "99999999999999999999", "٣", " 5"]
        {
            cases.push(get(path, "limit", bad).pointer("?limit"));
        }
        cases.push(get(path, "limit", "200").expect(&[200]));
    }
    for bad in ["-1", "0", "4294967296", "abc", ""] {
        cases.push(get("/v1/notifications", "page", bad).pointer("?page"));
    }
    for bad in ["-1", "0", "201", "1000000000", "abc", ""] {
        cases.push(get("/v1/notifications", "per_page", bad).pointer("?per_page"));
    }
    cases.push(get("/v1/notifications", "page", "4294967295").expect(&[200]));
    for bad in ["-1", "9223372036854775808", "99999999999999999999", "abc", "", "1.5", "1e3", "0x1"] {
        cases.push(get("/v1/events", "after", bad).pointer("?after"));
    }
    cases.push(get("/v1/events", "after", "9223372036854775807").expect(&[200]));
    cases.push(Case::new("GET", "/v1/tasks?limit=1&limit=2", "limit twice").token(token).pointer("?limit"));
    cases.push(
        Case::new("GET", "/v1/tasks?limit=1&%6cimit=2", "limit twice, one encoded")
            .token(token)
            .pointer("?limit"),
    );
    cases
}

/// A body without an end: the server answers and goes before it has read much.
async fn endless(row: &mut Row, token: &str) {
    for (name, path) in [("endless chunks", "/v1/tasks"), ("endless chunks for a batch", "/v1/tasks/batch")] {
        let stream = TcpStream::connect(row.app.address()).await.expect("a connection");
        let (mut answers, mut requests) = stream.into_split();
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {token}\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n"
        );
        let chunk = format!("{:x}\r\n{}\r\n", 65_536, " ".repeat(65_536));
        let writing = async {
            requests.write_all(head.as_bytes()).await?;
            let mut sent = 0_usize;
            while requests.write_all(chunk.as_bytes()).await.is_ok() {
                sent += chunk.len();
            }
            io::Result::Ok(sent)
        };
        let mut answer = Vec::new();
        let both = async { tokio::join!(writing, answers.read_to_end(&mut answer)) };
        let (sent, _) = timeout(PATIENCE, both).await.expect("the server goes");
        let answer = String::from_utf8_lossy(&answer).into_owned();
        row.claim(
            name,
            answer.starts_with("HTTP/1.1 413 ") && answer.contains("application/problem+json"),
            || answer.clone(),
        );
        let sent = sent.unwrap_or_default();
        row.claim(&format!("{name}: taken"), sent < 4 * BATCH, || format!("{sent} bytes were taken"));
    }
}
