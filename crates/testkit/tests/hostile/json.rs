//! JSON: bodies that are none, that lie about what they are, or that do not fit.

use serde_json::json;
use taskpost_testkit::{Backend, Fields as _, TestApp, both};

use crate::{bomb, case::Case, row::Row};

both!(row);

/// An id that nothing has.
const NOBODY: &str = "01920000-0000-7000-8000-000000000001";
const MEBIBYTE: usize = 1024 * 1024;

async fn row(backend: Backend) {
    let mut row = Row::start("JSON", TestApp::start(backend)).await;
    let token = row.app.user("Ada").await.token;
    let task = row.app.post("/v1/tasks", json!({"title": "a"})).token(&token).expect(201).await.json();
    let task = format!("/v1/tasks/{}", task.text("id"));
    row.run(unreadable(&token)).await;
    row.run(unfitting(&token)).await;
    row.run(nul(&token, &task)).await;
    row.run(forms(&token)).await;
    row.run(batches(&token)).await;
    row.run(doors(&token, &task)).await;
    row.end(150).await;
}

fn post(token: &str, name: &str, body: impl AsRef<[u8]>) -> Case {
    Case::new("POST", "/v1/tasks", name).token(token).json(body)
}

fn nested(open: &str, inner: &str, close: &str) -> String {
    format!("{}{inner}{}", open.repeat(10_000), close.repeat(10_000))
}

/// What is not JSON is 400.
fn unreadable(token: &str) -> Vec<Case> {
    let arrays = format!("{{\"title\":\"a\",\"labels\":{}}}", nested("[", "1", "]"));
    let objects = format!("{{\"title\":\"a\",\"x\":{}}}", nested("{\"a\":", "1", "}"));
    let bodies: Vec<(&str, Vec<u8>)> = vec![
        ("truncated object", br#"{"title":"a""#.to_vec()),
        ("truncated text", br#"{"title":"a"#.to_vec()),
        ("truncated key", br#"{"tit"#.to_vec()),
        ("truncated escape", br#"{"title":"\u00"#.to_vec()),
        ("truncated literal", br#"{"title":tru"#.to_vec()),
        ("one brace", b"{".to_vec()),
        ("NaN", br#"{"title":"a","due_at":NaN}"#.to_vec()),
        ("Infinity", br#"{"title":Infinity}"#.to_vec()),
        ("-Infinity", br#"{"title":-Infinity}"#.to_vec()),
        ("1e999", br#"{"title":1e999}"#.to_vec()),
        ("-1e999 in an unknown field", br#"{"title":"a","x":-1e999}"#.to_vec()),
        ("hexadecimal", br#"{"title":0x10}"#.to_vec()),
        ("leading zero", br#"{"title":007}"#.to_vec()),
        ("plus sign", br#"{"title":+1}"#.to_vec()),
        ("10,000 deep arrays", arrays.into_bytes()),
        ("10,000 deep objects", objects.into_bytes()),
        ("10,000 brackets that never close", format!("{{\"title\":{}", "[".repeat(10_000)).into_bytes()),
        ("byte order mark", b"\xef\xbb\xbf{\"title\":\"a\"}".to_vec()),
        ("nothing but a byte order mark", b"\xef\xbb\xbf".to_vec()),
        ("UTF-16", b"\xff\xfe{\0\"\0t\0\"\0".to_vec()),
        ("invalid UTF-8 in a value", b"{\"title\":\"a\xff\"}".to_vec()),
        ("invalid UTF-8 in a key", b"{\"titl\xfe\":\"a\"}".to_vec()),
        ("overlong UTF-8", b"{\"title\":\"\xc0\xaf\"}".to_vec()),
        ("surrogate in UTF-8", b"{\"title\":\"\xed\xa0\x80\"}".to_vec()),
        ("cut UTF-8", b"{\"title\":\"\xf0\x9f\x98\"}".to_vec()),
        ("lone high surrogate", br#"{"title":"\ud800"}"#.to_vec()),
        ("lone low surrogate", br#"{"title":"\udc00"}"#.to_vec()),
        ("surrogates in the wrong order", br#"{"title":"\udc00\ud800"}"#.to_vec()),
        ("high surrogate and a letter", br#"{"title":"\ud83da"}"#.to_vec()),
        ("lone surrogate in a key", br#"{"\ud800":"a"}"#.to_vec()),
        ("raw NUL in a text", b"{\"title\":\"a\0b\"}".to_vec()),
        ("raw NUL behind the object", b"{\"title\":\"a\"}\0".to_vec()),
        ("raw newline in a text", b"{\"title\":\"a\nb\"}".to_vec()),
        ("unknown escape", br#"{"title":"\x41"}"#.to_vec()),
        ("empty body", Vec::new()),
        ("blank body", b" \r\n\t ".to_vec()),
        ("trailing garbage", br#"{"title":"a"} x"#.to_vec()),
        ("trailing brace", br#"{"title":"a"}}"#.to_vec()),
        ("two objects", br#"{"title":"a"}{"title":"b"}"#.to_vec()),
        ("trailing comma", br#"{"title":"a",}"#.to_vec()),
        ("comment", br#"{"title":"a"/* no */}"#.to_vec()),
        ("single quotes", b"{'title':'a'}".to_vec()),
        ("bare key", br#"{title:"a"}"#.to_vec()),
        ("form", b"title=a".to_vec()),
        ("XML", b"<title>a</title>".to_vec()),
        ("gzip without saying so", bomb::gzip(1_000)),
    ];
    bodies.into_iter().map(|(name, body)| post(token, name, body)).collect()
}

/// What is JSON but does not fit is 422 and named.
fn unfitting(token: &str) -> Vec<Case> {
    let cases = [
        ("array for an object", r#"["a"]"#, ""),
        ("empty array", "[]", ""),
        ("text for an object", r#""a""#, ""),
        ("number for an object", "5", ""),
        ("true for an object", "true", ""),
        ("null", "null", ""),
        ("no title", "{}", "/title"),
        ("repeated key", r#"{"title":"a","title":"b"}"#, "/title"),
        ("repeated key, written otherwise", r#"{"title":"a","\u0074itle":"b"}"#, "/title"),
        ("number for a text", r#"{"title":5}"#, "/title"),
        ("true for a text", r#"{"title":true}"#, "/title"),
        ("null for a text", r#"{"title":null}"#, "/title"),
        ("object for a text", r#"{"title":{"$gt":""}}"#, "/title"),
        ("array for a text", r#"{"title":["a"]}"#, "/title"),
        ("number for labels", r#"{"title":"a","labels":5}"#, "/labels"),
        ("object for labels", r#"{"title":"a","labels":{"0":"b"}}"#, "/labels"),
        ("number among labels", r#"{"title":"a","labels":["b",7]}"#, "/labels/1"),
        ("number for a time", r#"{"title":"a","due_at":1e9}"#, "/due_at"),
        ("year 10,000", r#"{"title":"a","due_at":"+10000-01-01T00:00:00Z"}"#, "/due_at"),
        ("year 0", r#"{"title":"a","due_at":"0000-01-01T00:00:00Z"}"#, "/due_at"),
        ("number for an id", r#"{"title":"a","assignee_id":1}"#, "/assignee_id"),
        ("SQL for an id", r#"{"title":"a","assignee_id":"' OR 1=1--"}"#, "/assignee_id"),
        ("unknown word", r#"{"title":"a","priority":"most"}"#, "/priority"),
        ("object for a word", r#"{"title":"a","priority":{"low":null}}"#, "/priority"),
        ("number for a word", r#"{"title":"a","priority":1}"#, "/priority"),
        ("array for a word", r#"{"title":"a","priority":["low"]}"#, "/priority"),
        ("unknown field", r#"{"title":"a","colour":"red"}"#, "/colour"),
        ("unknown field that needs escapes", r#"{"title":"a","a/b~c":1}"#, "/a~1b~0c"),
        ("unknown field without a name", r#"{"title":"a","":1}"#, "/"),
        ("__proto__", r#"{"title":"a","__proto__":{"admin":true}}"#, "/__proto__"),
        ("constructor", r#"{"title":"a","constructor":{"prototype":{}}}"#, "/constructor"),
        ("another case", r#"{"Title":"a"}"#, "/Title"),
    ];
    let mut cases: Vec<Case> =
        cases.into_iter().map(|(name, body, pointer)| post(token, name, body).invalid(pointer)).collect();
    let digits = format!("{{\"title\":{}}}", "9".repeat(10_000));
    cases.push(post(token, "number of 10,000 digits", digits).expect(&[400, 422]));
    cases
}

/// NUL in text is refused before Postgres sees it.
fn nul(token: &str, task: &str) -> Vec<Case> {
    let case = |method: &str, target: &str, name: &str| {
        Case::new(method, target, format!("NUL in {name}")).token(token)
    };
    let hook =
        |field: &str| json!({"url": "https://example.org", "event_types": ["task.*"], "description": field});
    let person =
        |email: &str, name: &str| json!({"email": email, "name": name, "password": "correct horse battery"});
    let letter = format!("/v1/admin/dead-letters/{NOBODY}/discard");
    let redrive = format!("/v1/admin/dead-letters/{NOBODY}/redrive");
    let moved = format!("{task}/transitions");
    let text = "a\0b";
    vec![
        case("POST", "/v1/tasks", "a title").json(json!({"title": text}).to_string()).invalid("/title"),
        case("POST", "/v1/tasks", "a description")
            .json(json!({"title": "a", "description": text}).to_string())
            .invalid("/description"),
        case("POST", "/v1/tasks", "a label")
            .json(json!({"title": "a", "labels": ["b", text]}).to_string())
            .invalid("/labels/1"),
        case("POST", "/v1/tasks", "a type")
            .json(json!({"title": "a", "type": text}).to_string())
            .invalid("/type"),
        case("PATCH", task, "a changed title").json(json!({"title": text}).to_string()).invalid("/title"),
        case("PATCH", task, "a changed description")
            .json(json!({"description": text}).to_string())
            .invalid("/description"),
        case("PATCH", task, "a changed label")
            .json(json!({"labels": [text]}).to_string())
            .invalid("/labels/0"),
        case("POST", &moved, "a status").json(json!({"to": text}).to_string()).invalid("/to"),
        case("POST", &moved, "a resolution")
            .json(json!({"to": "done", "resolution": text}).to_string())
            .invalid("/resolution"),
        case("POST", "/v1/auth/register", "a name")
            .json(person("nul@example.org", text).to_string())
            .invalid("/name"),
        case("POST", "/v1/auth/register", "an e-mail")
            .json(person("a\0@example.org", "N").to_string())
            .invalid("/email"),
        case("POST", "/v1/auth/login", "the e-mail of a login")
            .json(json!({"email": "a\0@example.org", "password": "correct horse battery"}).to_string())
            .invalid("/email"),
        case("POST", "/v1/auth/refresh", "a refresh token")
            .json(json!({"refresh_token": text}).to_string())
            .expect(&[401, 422]),
        case("POST", "/v1/webhooks", "a note").json(hook(text).to_string()).invalid("/description"),
        case("POST", "/v1/webhooks", "a URL")
            .json(json!({"url": "https://example.org/\0", "event_types": ["task.*"]}).to_string())
            .invalid("/url"),
        case("POST", "/v1/webhooks", "an event type")
            .json(json!({"url": "https://example.org", "event_types": ["task.\0"]}).to_string())
            .invalid("/event_types/0"),
        case("POST", &letter, "a reason").json(json!({"reason": text}).to_string()).invalid("/reason"),
        case("POST", &redrive, "a payload")
            .json(json!({"payload": {"a": text}}).to_string())
            .expect(&[400, 404, 422]),
        case("POST", "/v1/tasks", "an Idempotency-Key")
            .header("idempotency-key", b"a\0b")
            .json(r#"{"title":"a"}"#),
        case("GET", "/v1/tasks?status=%00", "a filter").pointer("?status"),
        case("GET", "/v1/tasks?type=bug,%00", "a list of words").pointer("?type"),
        case("GET", "/v1/tasks?assignee_id=%00", "a person").pointer("?assignee_id"),
        case("GET", "/v1/tasks?cursor=%00", "a cursor"),
        case("GET", "/v1/tasks?%00=1", "a key").pointer("?\0"),
        case("GET", "/v1/notifications?type=%00", "a kind").pointer("?type"),
        case("GET", "/v1/admin/dead-letters?handler=%00", "a handler").pointer("?handler"),
        case("GET", "/v1/tasks/%00", "a path").expect(&[404]),
        // Said back as far as it can be read.
        case("GET", "/v1/tasks/a\0b", "a raw path").instance("/v1/tasks/a"),
    ]
}

/// Bodies that say they are something else, and those that are too large.
fn forms(token: &str) -> Vec<Case> {
    let good = r#"{"title":"a"}"#;
    let case = |name: &str| Case::new("POST", "/v1/tasks", name).token(token);
    let typed = |kind: &str, body: &[u8]| {
        case(&format!("type {kind}")).header("content-type", kind).body(body).expect(&[415])
    };
    let coded = |coding: &str, body: &[u8]| {
        case(&format!("coding {coding}")).header("content-encoding", coding).json(body).expect(&[415])
    };
    let bomb = bomb::gzip(10_000_000);
    assert!(bomb.len() < 70_000, "a bomb is small");
    let multipart = b"--x\r\ncontent-disposition: form-data; name=\"title\"\r\n\r\na\r\n--x--\r\n";
    let large = format!("{{\"title\":\"{}\"}}", "a".repeat(10 * MEBIBYTE));
    vec![
        case("no type").body(good).expect(&[415]),
        typed("", good.as_bytes()),
        typed("text/plain", good.as_bytes()),
        typed("text/json", good.as_bytes()),
        typed("application/xml", b"<title>a</title>"),
        typed("multipart/form-data; boundary=x", multipart),
        typed("application/x-www-form-urlencoded", b"title=a"),
        typed("application/octet-stream", good.as_bytes()),
        typed("application/jsonp", good.as_bytes()),
        typed("application/json, text/plain", good.as_bytes()),
        typed("application/json; charset=utf-16", good.as_bytes()),
        typed("application/json; charset=latin1", good.as_bytes()),
        typed("*/*", good.as_bytes()),
        case("type application/json; charset=utf-8")
            .header("content-type", "application/json; charset=utf-8")
            .body(good)
            .expect(&[201]),
        coded("gzip", &bomb),
        coded("x-gzip", &bomb),
        coded("GZIP", &bomb),
        coded("deflate", b"x\x9c"),
        coded("br", good.as_bytes()),
        coded("zstd", good.as_bytes()),
        coded("identity, gzip", &bomb),
        coded("gzip, gzip", &bomb),
        case("two codings")
            .header("content-encoding", "identity")
            .header("content-encoding", "gzip")
            .json(&bomb)
            .expect(&[415]),
        case("coding identity").header("content-encoding", "identity").json(good).expect(&[201]),
        post(token, "text of 10 MB", &large).expect(&[413]),
        post(token, "text of 10 MB in chunks", &large).chunked().expect(&[413]),
        Case::new("POST", "/v1/tasks/batch", "text of 10 MB in a batch")
            .token(token)
            .json(format!("{{\"tasks\":[{large}]}}"))
            .expect(&[413]),
        post(token, "text of 250,000 letters", format!("{{\"title\":\"{}\"}}", "a".repeat(250_000)))
            .invalid("/title"),
    ]
}

/// A bad task of a batch fails alone.
fn batches(token: &str) -> Vec<Case> {
    let item = |name: &str, task: String, status: u16, pointer: &str| {
        let pointer = format!("/tasks/0{pointer}");
        let case = Case::new("POST", "/v1/tasks/batch", format!("in a batch: {name}")).token(token);
        case.json(format!("{{\"tasks\":[{task}]}}")).expect(&[207]).unchanged().check(move |answer| {
            let result = &answer.json()["results"][0];
            let fits = result["status"] == status
                && result["task"].is_null()
                && (status == 400 || result["problem"]["errors"][0]["pointer"] == pointer);
            if fits { Ok(()) } else { Err(format!("expected {status} at {pointer}: {result}")) }
        })
    };
    let whole = |name: &str, body: &str| {
        Case::new("POST", "/v1/tasks/batch", format!("a batch: {name}")).token(token).json(body)
    };
    vec![
        item("repeated key", r#"{"title":"a","title":"b"}"#.into(), 422, "/title"),
        item("NUL", r#"{"title":"a\u0000"}"#.into(), 422, "/title"),
        item("number", r#"{"title":1}"#.into(), 422, "/title"),
        item("unknown field", r#"{"title":"a","colour":1}"#.into(), 422, "/colour"),
        item("__proto__", r#"{"title":"a","__proto__":{}}"#.into(), 422, "/__proto__"),
        item("array", r#"["a"]"#.into(), 422, ""),
        item("null", "null".into(), 422, ""),
        item("lone surrogate", r#"{"title":"\ud800"}"#.into(), 400, ""),
        item("10,000 deep", format!("{{\"title\":{}}}", nested("[", "", "]")), 400, ""),
        item("1e999", r#"{"title":1e999}"#.into(), 400, ""),
        whole("repeated key", r#"{"tasks":[],"tasks":[]}"#).invalid("/tasks"),
        whole("object for an array", r#"{"tasks":{"0":{"title":"a"}}}"#).invalid("/tasks"),
        whole("no tasks", "{}").invalid("/tasks"),
        whole("empty", r#"{"tasks":[]}"#).invalid("/tasks"),
        whole("an array of its own", r#"[{"title":"a"}]"#).invalid(""),
        whole("invalid UTF-8 further on", "{\"tasks\":[{\"title\":\"a\"}],\"x\":\"\\ud800\"}")
            .expect(&[400, 422]),
    ]
}

/// The same at every door that reads JSON.
fn doors(token: &str, task: &str) -> Vec<Case> {
    let letter = format!("/v1/admin/dead-letters/{NOBODY}");
    let doors = [
        ("POST", "/v1/auth/register".to_owned()),
        ("POST", "/v1/auth/login".to_owned()),
        ("POST", "/v1/auth/refresh".to_owned()),
        ("POST", "/tasks".to_owned()),
        ("POST", "/v1/tasks/batch".to_owned()),
        ("PATCH", task.to_owned()),
        ("POST", format!("{task}/transitions")),
        ("PUT", format!("{task}/assignee")),
        ("PATCH", format!("/v1/notifications/{NOBODY}")),
        ("POST", "/v1/webhooks".to_owned()),
        ("PATCH", format!("/v1/webhooks/{NOBODY}")),
        ("POST", format!("{letter}/redrive")),
        ("POST", format!("{letter}/discard")),
    ];
    let deep = format!("{{\"title\":{}", "{\"a\":".repeat(10_000));
    let mut cases = Vec::new();
    for (method, path) in &doors {
        let case = |name: &str| Case::new(method, path, format!("{name} at {method} {path}")).token(token);
        cases.extend([
            case("truncated").json(r#"{"title":"a""#),
            case("NaN").json(r#"{"title":NaN}"#),
            case("10,000 deep").json(&deep),
            case("byte order mark").json(b"\xef\xbb\xbf{}"),
            case("lone surrogate").json(r#"{"\ud800":1}"#),
            case("array").json("[]").invalid(""),
            case("null").json("null").invalid(""),
            case("__proto__").json(r#"{"__proto__":{}}"#).invalid("/__proto__"),
            case("plain text").header("content-type", "text/plain").body("{}").expect(&[415]),
            case("gzip").header("content-encoding", "gzip").json(bomb::gzip(1_000)).expect(&[415]),
        ]);
    }
    cases
}
