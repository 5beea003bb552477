//! Header injection: nothing that a client sends becomes a header, on the wire or in a mail.

use serde_json::json;
use taskpost_testkit::{Backend, Fields as _, Mail, Raw, TestApp, User, both};

use crate::{case::Case, row::Row};

both!(row);

/// An id that nothing has.
const NOBODY: &str = "01920000-0000-7000-8000-000000000001";

/// The headers of our mails.
const MAIL: [&str; 7] = ["Message-ID", "Date", "From", "To", "Subject", "MIME-Version", "Content-Type"];

async fn row(backend: Backend) {
    let mut row = Row::start("Header injection", TestApp::start(backend)).await;
    let ada = row.app.user("Ada").await;
    row.run(texts(&ada.token)).await;
    row.run(request_ids()).await;
    row.run(keys(&ada.token)).await;
    row.run(traces()).await;
    row.run(hosts(&ada.token)).await;
    row.run(echoes(&ada.token)).await;
    mails(&mut row, &ada).await;
    row.end(100).await;
}

/// Control characters in what later stands in a header.
fn texts(token: &str) -> Vec<Case> {
    let breaks = [
        ("CR LF", "a\r\nX-Injected: 1"),
        ("LF", "a\nX-Injected: 1"),
        ("CR", "a\rX-Injected: 1"),
        ("NUL", "a\0b"),
        ("NEL", "a\u{85}b"),
        ("ESC", "a\u{1b}[2Jb"),
        ("DEL", "a\u{7f}b"),
    ];
    let discard = format!("/v1/admin/dead-letters/{NOBODY}/discard");
    let mut cases = Vec::new();
    for (name, text) in breaks {
        let case = |path: &str, what: &str, body: serde_json::Value| {
            Case::new("POST", path, format!("{name} in {what}")).token(token).json(body.to_string())
        };
        let hook = |url: &str, kind: &str, note: &str| json!({"url": url, "event_types": [kind], "description": note});
        let person = |email: &str, name: &str| json!({"email": email, "name": name, "password": "correct horse battery"});
        let good = "https://example.org/";
        cases.extend([
            case("/v1/tasks", "a title", json!({"title": text})).invalid("/title"),
            case("/v1/tasks", "a label", json!({"title": "a", "labels": [text]})).invalid("/labels/0"),
            case("/v1/auth/register", "a name", person("eve@example.org", text)).invalid("/name"),
            case("/v1/auth/register", "an e-mail", person(&format!("{text}@example.org"), "Eve"))
                .invalid("/email"),
            case("/v1/auth/register", "the domain of an e-mail", person(&format!("eve@{text}.org"), "Eve"))
                .invalid("/email"),
            case("/v1/webhooks", "a note", hook(good, "task.*", text)).invalid("/description"),
            case("/v1/webhooks", "a URL", hook(&format!("{good}{text}"), "task.*", "")).invalid("/url"),
            case("/v1/webhooks", "an event type", hook(good, text, "")).invalid("/event_types/0"),
            case(&discard, "a reason", json!({"reason": text})).invalid("/reason"),
        ]);
    }
    cases
}

/// An id of one's own is said back only if it is a plain word.
fn request_ids() -> Vec<Case> {
    let case = |name: &str, id: &[u8]| {
        Case::new("GET", "/v1/nothing", format!("X-Request-Id: {name}"))
            .header("x-request-id", id)
            .expect(&[404])
            .check(own_id)
    };
    let refused = |name: &str, id: &[u8]| {
        Case::new("GET", "/v1/nothing", format!("X-Request-Id: {name}")).header("x-request-id", id)
    };
    vec![
        case("percent-encoded CR LF", b"a%0d%0aX-Injected: 1"),
        case("percent-encoded LF", b"a%0aX-Injected:%201"),
        case("blank", b"a b"),
        case("tab", b"a\tb"),
        case("empty", b""),
        case("65 letters", "a".repeat(65).as_bytes()),
        case("8 KB", "a".repeat(8_192).as_bytes()),
        case("quotes", b"\"a\""),
        case("markup", b"<script>alert(1)</script>"),
        case("UTF-8", "\u{e4}\u{2028}".as_bytes()),
        case("bytes above 127", b"\xff\xfe"),
        case("a lookup", b"${jndi:ldap://x}"),
        case("format letters", b"%s%n%x"),
        case("raw CR LF and a header", b"a b\r\nX-Injected: 1"),
        refused("raw CR", b"a\rX-Injected: 1"),
        refused("raw NUL", b"a\0b"),
        refused("raw ESC", b"a\x1b[2J"),
        refused("raw DEL", b"a\x7f"),
        Case::new("GET", "/v1/nothing", "X-Request-Id: a plain word")
            .header("x-request-id", "job-7_A")
            .expect(&[404])
            .check(|answer| match answer.header("x-request-id") {
                Some("job-7_A") => Ok(()),
                other => Err(format!("said back as {other:?}")),
            }),
    ]
}

fn own_id(answer: &Raw) -> Result<(), String> {
    let id = answer.header("x-request-id").unwrap_or_default();
    let own = id.len() == 36 && id.bytes().all(|c| c.is_ascii_hexdigit() || c == b'-');
    if own { Ok(()) } else { Err(format!("X-Request-Id is {id:?}")) }
}

fn keys(token: &str) -> Vec<Case> {
    let case = |name: &str, key: &[u8]| {
        Case::new("POST", "/v1/tasks", format!("Idempotency-Key: {name}"))
            .token(token)
            .header("idempotency-key", key)
            .json(r#"{"title":"a"}"#)
    };
    vec![
        case("percent-encoded CR LF", b"a%0d%0aX-Injected:1").expect(&[201]),
        case("the same again", b"a%0d%0aX-Injected:1").expect(&[201]).unchanged(),
        case("a blank", b"a b"),
        case("a tab", b"a\tb"),
        case("empty", b""),
        case("UTF-8", "\u{fc}".as_bytes()),
        case("bytes above 127", b"\xff"),
        case("two of them", b"a").header("idempotency-key", "b"),
        case("raw CR", b"a\rX-Injected: 1"),
        case("raw NUL", b"a\0"),
        case("raw ESC", b"\x1b"),
        case("SQL", b"');DROP/**/TABLE/**/tasks;--").expect(&[201]),
    ]
}

/// What is no trace begins one of ours.
fn traces() -> Vec<Case> {
    let good = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let long = "f".repeat(8_000);
    let garbage = [
        ("empty", ""),
        ("a word", "garbage"),
        ("markup", "<script>"),
        ("version ff", "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
        ("no trace", "00-00000000000000000000000000000000-00f067aa0ba902b7-01"),
        ("no parent", "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01"),
        ("capitals", "00-4BF92F3577B34DA6A3CE929D0E0E4736-00F067AA0BA902B7-01"),
        ("too long", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more"),
        ("too short", "00-4bf92f3577b34da6a3ce929d0e0e473-00f067aa0ba902b7-01"),
        ("encoded CR LF", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01%0d%0aX-Injected:1"),
        ("UTF-8", "00-4bf92f3577b34da6a3ce929d0e0e47\u{e9}-00f067aa0ba902b7-01"),
        ("8 KB", &long),
    ];
    let case = |name: &str, value: &str| {
        Case::new("GET", "/v1/nothing", format!("traceparent: {name}"))
            .header("traceparent", value)
            .expect(&[404])
    };
    let begun = |answer: &Raw| {
        let trace = answer.json()["trace_id"].clone();
        if trace == "4bf92f3577b34da6a3ce929d0e0e4736" {
            Err("garbage was taken for a trace".to_owned())
        } else {
            Ok(())
        }
    };
    let mut cases: Vec<Case> = garbage.iter().map(|(name, value)| case(name, value).check(begun)).collect();
    cases.push(case("two of them", good).header("traceparent", good).check(begun));
    cases.push(case("with a bad tracestate", good).header("tracestate", "=,=,\x22<>"));
    cases
}

/// Where one is sent and what is named never comes from the request's own idea of the host.
fn hosts(token: &str) -> Vec<Case> {
    let raw = |name: &str, head: &str| {
        Case::raw(format!("Host: {name}"), format!("{head}\r\n")).check(not_reflected)
    };
    let evil = [
        "evil.test",
        "evil.test:99999",
        "evil.test/path",
        "user@evil.test",
        "evil.test\"><script>",
        "evil test",
        "[evil",
        "..evil..",
        "",
    ];
    let mut cases = Vec::new();
    for host in evil {
        for path in ["/", "/docs", "/v1/nothing"] {
            let status: &[u16] = if path == "/v1/nothing" { &[400, 404] } else { &[307, 400] };
            cases.push(
                raw(&format!("{host:?} at {path}"), &format!("GET {path} HTTP/1.1\r\nhost: {host}\r\n"))
                    .expect(status),
            );
        }
    }
    cases.extend([
        raw("none", "GET /docs HTTP/1.1\r\n").expect(&[307, 400]),
        raw("two of them", "GET /docs HTTP/1.1\r\nhost: a\r\nhost: evil.test\r\n").expect(&[307, 400]),
        raw("in the request line", "GET http://evil.test/docs HTTP/1.1\r\nhost: a\r\n").expect(&[307, 400]),
        raw(
            "forwarded",
            "GET /docs HTTP/1.1\r\nhost: a\r\nx-forwarded-host: evil.test\r\nforwarded: host=evil.test\r\n",
        )
        .expect(&[307]),
        raw("an address for a path", "GET //evil.test/docs HTTP/1.1\r\nhost: a\r\n").expect(&[404]),
        raw("a backslash", "GET /\\evil.test HTTP/1.1\r\nhost: a\r\n").expect(&[400, 404]),
        raw("a target to go to", "GET /?next=//evil.test HTTP/1.1\r\nhost: a\r\n").expect(&[307, 400]),
        raw("a target behind the docs", "GET /docs?url=//evil.test HTTP/1.1\r\nhost: a\r\n")
            .expect(&[307, 400]),
    ]);
    let made = Case::new("POST", "/v1/tasks", "Host: where a task is")
        .token(token)
        .header("x-forwarded-host", "evil.test")
        .header("x-forwarded-proto", "javascript")
        .json(r#"{"title":"a"}"#)
        .expect(&[201])
        .check(not_reflected);
    cases.push(made);
    cases
}

/// A redirect stays here, and no header repeats the host.
fn not_reflected(answer: &Raw) -> Result<(), String> {
    let stays = |to: &str| to.starts_with('/') && !to.starts_with("//") && !to.contains('\\');
    if answer.head.contains("evil") || !answer.header("location").is_none_or(stays) {
        return Err(format!("reflected: {}", answer.head));
    }
    Ok(())
}

/// Queries that come back in a Link, paths that come back in a problem, and origins.
fn echoes(token: &str) -> Vec<Case> {
    let get = |name: &str, target: &str| Case::new("GET", target, name).token(token);
    let link = "/v1/tasks?limit=1&status=todo,%3E%3B%20rel%3D%22next%22%2C%20%3C%2F%2Fevil.test";
    vec![
        get("a query that would end a Link", link).expect(&[200]).check(|answer| {
            let link = answer.header("link").unwrap_or_default();
            let one = link.starts_with("</v1/tasks?")
                && link.matches('>').count() == 1
                && link.matches("rel=").count() == 1;
            if one { Ok(()) } else { Err(format!("Link is {link:?}")) }
        }),
        get("CR LF in a query", "/v1/tasks?limit=1&status=a%0d%0aX-Injected:%201").pointer("?status"),
        get("CR LF in a key", "/v1/tasks?a%0d%0aX-Injected:1=1"),
        get("CR LF in a sort", "/v1/tasks?sort=-created_at%0d%0aX-Injected:1").pointer("?sort"),
        get("CR LF in a path", "/v1/tasks/%0d%0aX-Injected:1").expect(&[404]),
        get("markup in a path", "/v1/%3Cscript%3E").expect(&[404]),
        get("an origin", "/v1/tasks").header("origin", "https://evil.test").expect(&[200]),
        get("no origin", "/v1/tasks").header("origin", "null").expect(&[200]),
        Case::new("OPTIONS", "/v1/tasks", "a preflight")
            .header("origin", "https://evil.test")
            .header("access-control-request-method", "POST")
            .expect(&[405]),
        get("a tag that is none", "/v1/tasks").header("if-none-match", "\"a\x22, W/").expect(&[200]),
        get("another method by a header", "/v1/tasks")
            .header("x-http-method-override", "DELETE")
            .expect(&[200]),
        get("another address by a header", "/v1/tasks")
            .header("x-original-url", "/v1/admin/dead-letters")
            .expect(&[200]),
    ]
}

/// Titles and names that are legal, but would like to be more than a subject and a recipient.
async fn mails(row: &mut Row, ada: &User) {
    let titles = [
        "line\u{2028}Bcc: eve@evil.test",
        "paragraph\u{2029}Bcc: eve@evil.test",
        "Subject: another one",
        "=?utf-8?q?=0d=0aBcc:_eve@evil.test?=",
        "=?utf-8?b?DQpCY2M6IGV2ZUBldmlsLnRlc3Q=?=",
        "%0d%0aBcc: eve@evil.test",
        "\\r\\nBcc: eve@evil.test",
        "right to left \u{202e}tset.live\u{2066}",
        "<b>\"quotes\"</b> \u{feff}",
    ];
    let names = [
        "Bob <eve@evil.test>",
        "Bob, eve@evil.test",
        "\"Bob\" <x@y>, ",
        "Bob\u{2028}Bcc: eve@evil.test",
        "=?utf-8?q?Bob?= =?utf-8?q?=0d=0a?=",
        "Bob;(x)\\",
    ];
    let mut wanted = Vec::new();
    for (title, name) in titles.iter().zip(names.iter().cycle()) {
        let user = row.app.user(name).await;
        let task = json!({"title": title, "assignee_id": user.id});
        row.app.post("/v1/tasks", task).as_(ada).expect(201).await;
        wanted.push((user.email, title));
    }
    row.app.drain().await;
    for mail in row.app.mails() {
        let strange: Vec<_> =
            mail.headers.iter().filter(|(name, _)| !MAIL.contains(&name.as_str())).collect();
        let once =
            MAIL.iter().all(|name| mail.headers.iter().filter(|(known, _)| known == name).count() == 1);
        row.claim("the headers of a mail", strange.is_empty() && once, || mail.source.clone());
    }
    for (email, title) in wanted {
        let subject = format!("“{title}” was assigned to you");
        let mails = row.app.mails();
        let mut own = mails.iter().filter(|mail| mail.to() == email);
        let found = own.any(|mail| mail.subject() == subject.trim());
        let got: Vec<_> = mails.iter().filter(|mail| mail.to() == email).map(Mail::subject).collect();
        row.claim(&format!("the mail about {title:?}"), found, || format!("to {email}: {got:?}"));
    }
    let strangers: Vec<String> = row
        .app
        .mails()
        .iter()
        .map(|mail| mail.to().to_owned())
        .filter(|to| to.contains("evil.test"))
        .collect();
    row.claim("recipients", strangers.is_empty(), || format!("{strangers:?}"));
    let login = row
        .app
        .post("/v1/auth/login", json!({"email": ada.email, "password": ada.password}))
        .expect(200)
        .await
        .json();
    row.claim("a login after all", login["user"].text("id") == ada.id, || login.to_string());
}
