//! Proxy headers: a stranger's hearsay counts for nothing; of a trusted proxy's, the rightmost address that nobody
//! vouches for counts, whatever stands left of it.

use std::collections::HashMap;

use serde_json::json;
use taskpost_testkit::{Backend, Raw, TestApp, both};

use crate::{case::Case, row::Row};

both!(row);

/// So many tries has every address.
const BURST: u32 = 200;
/// The peers are 127.0.0.`this`.
const PROXY: u8 = 1;
const STRANGER: u8 = 2;

async fn row(backend: Backend) {
    // Counted in this process, as a Redis that is slow for once forgives once.
    let app = TestApp::start(backend)
        .without("REDIS_URL")
        .with("RATE_LIMIT_AUTH", format!("1/h,{BURST}"))
        .with("TRUSTED_PROXIES", "127.0.0.1,10.0.0.0/8,fd00::/8");
    let mut row = Row::start("Proxy headers", app).await;
    let mut counted = Counted::default();
    for (name, value) in hearsay() {
        counted.ask(&mut row, STRANGER, &[(name, value)], "127.0.0.2").await;
    }
    for (name, value) in OTHER_NAMES {
        // Not even a trusted proxy may name the client by another header.
        counted.ask(&mut row, PROXY, &[(name, value.as_bytes().to_vec())], "127.0.0.1").await;
    }
    for (lines, client) in forwarded() {
        let lines: Vec<_> = lines.into_iter().map(|line| ("x-forwarded-for", line)).collect();
        counted.ask(&mut row, PROXY, &lines, client).await;
    }
    exhausted(&mut row, &mut counted).await;
    row.run(metrics()).await;
    audit(&mut row).await;
    row.end(150).await;
}

/// How often each client was counted.
#[derive(Default)]
struct Counted(HashMap<String, u32>);

impl Counted {
    /// Sends a try that is refused, and looks at whose allowance it was taken from.
    async fn ask(&mut self, row: &mut Row, peer: u8, lines: &[(&str, Vec<u8>)], client: &str) {
        let times = self.0.entry(client.to_owned()).or_default();
        *times += 1;
        let wanted = format!("\"auth\";r={};", BURST - *times);
        let shown: Vec<String> = lines
            .iter()
            .map(|(name, value)| format!("{name}: {:.80}", value.escape_ascii().to_string()))
            .collect();
        let name = format!("{shown:?} from 127.0.0.{peer} is {client}");
        let mut case = refresh(&name).from(peer).expect(&[401]);
        for (name, value) in lines {
            case = case.header(name, value);
        }
        row.run([case.check(move |answer| taken(answer, &wanted))]).await;
    }
}

fn taken(answer: &Raw, wanted: &str) -> Result<(), String> {
    let state = answer.header("ratelimit").unwrap_or_default();
    if state.starts_with(wanted) { Ok(()) } else { Err(format!("{state}, and not {wanted}")) }
}

/// A try of the class that is counted by address, and costs little.
fn refresh(name: &str) -> Case {
    let body = json!({"refresh_token": "none"}).to_string();
    Case::new("POST", "/v1/auth/refresh", name).json(body)
}

/// What a stranger might say of itself.
fn hearsay() -> Vec<(&'static str, Vec<u8>)> {
    let words: &[(&str, &str)] = &[
        ("x-forwarded-for", "203.0.113.1"),
        ("x-forwarded-for", "203.0.113.1, 203.0.113.2"),
        ("x-forwarded-for", "10.0.0.1"),
        ("x-forwarded-for", "127.0.0.1"),
        ("x-forwarded-for", "203.0.113.1, 127.0.0.1, 10.0.0.1"),
        ("x-forwarded-for", "::1"),
        ("x-forwarded-for", "2001:db8::1"),
        ("x-forwarded-for", "::ffff:203.0.113.1"),
        ("x-forwarded-for", "unknown"),
        ("x-forwarded-for", ""),
        ("x-forwarded-for", ","),
        ("x-forwarded-for", "' OR 1=1--"),
        ("X-FORWARDED-FOR", "203.0.113.3"),
    ];
    let plain = words.iter().chain(OTHER_NAMES).map(|(name, value)| (*name, value.as_bytes().to_vec()));
    let long = ("x-forwarded-for", b"203.0.113.1,".repeat(850));
    plain.chain([long, ("x-forwarded-for", b"\xff\xfe".to_vec())]).collect()
}

/// The other headers by which proxies name a client, a host or a scheme.
const OTHER_NAMES: &[(&str, &str)] = &[
    ("forwarded", "for=203.0.113.1"),
    ("forwarded", "for=\"[2001:db8::1]:4711\";proto=https;by=10.0.0.1"),
    ("forwarded", "for=203.0.113.1, for=10.0.0.1"),
    ("x-real-ip", "203.0.113.1"),
    ("x-client-ip", "203.0.113.1"),
    ("client-ip", "203.0.113.1"),
    ("true-client-ip", "203.0.113.1"),
    ("cf-connecting-ip", "203.0.113.1"),
    ("cf-connecting-ipv6", "2001:db8::1"),
    ("fastly-client-ip", "203.0.113.1"),
    ("fly-client-ip", "203.0.113.1"),
    ("x-azure-clientip", "203.0.113.1"),
    ("x-appengine-user-ip", "203.0.113.1"),
    ("x-cluster-client-ip", "203.0.113.1"),
    ("x-originating-ip", "203.0.113.1"),
    ("x-remote-ip", "203.0.113.1"),
    ("x-remote-addr", "203.0.113.1"),
    ("remote-addr", "203.0.113.1"),
    ("x-forwarded", "for=203.0.113.1"),
    ("forwarded-for", "203.0.113.1"),
    ("x_forwarded_for", "203.0.113.1"),
    ("x-forwarded-host", "evil.test"),
    ("x-forwarded-proto", "https"),
    ("x-forwarded-port", "443"),
    ("x-forwarded-server", "evil.test"),
    ("x-original-forwarded-for", "203.0.113.1"),
    ("via", "1.1 203.0.113.1"),
];

/// Lines of X-Forwarded-For from a trusted proxy, and as whom they count.
fn forwarded() -> Vec<(Vec<Vec<u8>>, &'static str)> {
    let one: &[(&str, &str)] = &[
        ("203.0.113.1", "203.0.113.1"),
        (" \t203.0.113.1\t ", "203.0.113.1"),
        ("203.0.113.1:4711", "203.0.113.1"),
        ("::ffff:203.0.113.1", "203.0.113.1"),
        ("[::ffff:203.0.113.1]:80", "203.0.113.1"),
        ("203.0.113.2, 203.0.113.1", "203.0.113.1"),
        ("203.0.113.2,203.0.113.1,10.0.0.2", "203.0.113.1"),
        ("203.0.113.2, 203.0.113.1, 10.0.0.2, 127.0.0.1, fd00::7", "203.0.113.1"),
        ("10.0.0.9, 203.0.113.1", "203.0.113.1"),
        ("127.0.0.1, 203.0.113.1", "203.0.113.1"),
        ("unknown, 203.0.113.1", "203.0.113.1"),
        ("' OR 1=1--, 203.0.113.1", "203.0.113.1"),
        ("<script>, 203.0.113.1", "203.0.113.1"),
        (",,, 203.0.113.1", "203.0.113.1"),
        ("gr\u{fc}n, 203.0.113.1", "203.0.113.1"),
        ("10.0.0.9", "10.0.0.9"),
        ("10.0.0.8, 10.0.0.9", "10.0.0.8"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"),
        ("2001:db8:1:2::9", "2001:db8:1:2::"),
        ("[2001:db8:1:2::9]", "2001:db8:1:2::"),
        ("[2001:db8:1:2::9]:443", "2001:db8:1:2::"),
        ("2001:DB8:1:2:0:0:0:9", "2001:db8:1:2::"),
        ("2001:db8:1:3::9", "2001:db8:1:3::"),
        // What is no address is not taken for one: the proxy that wrote it counts.
        ("", "127.0.0.1"),
        (",", "127.0.0.1"),
        ("203.0.113.1,", "127.0.0.1"),
        ("unknown", "127.0.0.1"),
        ("_hidden", "127.0.0.1"),
        ("for=203.0.113.1", "127.0.0.1"),
        ("203.0.113.1;203.0.113.2", "127.0.0.1"),
        ("203.0.113.1 203.0.113.2", "127.0.0.1"),
        ("\"203.0.113.1\"", "127.0.0.1"),
        ("203.0.113.256", "127.0.0.1"),
        ("203.0.113", "127.0.0.1"),
        ("203.0.113.01", "127.0.0.1"),
        ("0xcb007101", "127.0.0.1"),
        ("3405803777", "127.0.0.1"),
        ("203.0.113.1:99999", "127.0.0.1"),
        ("203.0.113.1:", "127.0.0.1"),
        ("203.0.113.1/32", "127.0.0.1"),
        ("203.0.113.1%0a", "127.0.0.1"),
        ("fe80::1%eth0", "127.0.0.1"),
        ("[fe80::1%25eth0]:80", "127.0.0.1"),
        ("[2001:db8::1", "127.0.0.1"),
        ("2001:db8::1]:80", "127.0.0.1"),
        ("2001:db8::1::2", "127.0.0.1"),
        ("localhost", "127.0.0.1"),
        ("\u{ff12}03.0.113.1", "127.0.0.1"),
        ("203.0.113.1, unknown, 10.0.0.9", "10.0.0.9"),
    ];
    let mut all: Vec<_> =
        one.iter().map(|(line, client)| (vec![line.as_bytes().to_vec()], *client)).collect();
    let lines = |lines: &[&str]| lines.iter().map(|line| line.as_bytes().to_vec()).collect();
    all.extend([
        (lines(&["203.0.113.2", "203.0.113.1"]), "203.0.113.1"),
        (lines(&["203.0.113.2, 203.0.113.3", "203.0.113.1, 10.0.0.2", "10.0.0.3"]), "203.0.113.1"),
        (lines(&["203.0.113.1", ""]), "127.0.0.1"),
        (vec![b"\xff\xfe, 203.0.113.1".to_vec()], "203.0.113.1"),
        (vec![b"\xff".to_vec(), b"203.0.113.1".to_vec()], "203.0.113.1"),
        (vec![b"\xff".to_vec()], "127.0.0.1"),
        (vec![[b"203.0.113.2,".repeat(850), b"203.0.113.1".to_vec()].concat()], "203.0.113.1"),
        (
            vec![[b"203.0.113.1,".to_vec(), b"10.0.0.2,".repeat(1_100), b"10.0.0.3".to_vec()].concat()],
            "203.0.113.1",
        ),
        (vec![[b"x".repeat(10_000), b",203.0.113.1".to_vec()].concat()], "203.0.113.1"),
        (vec![b",".repeat(10_000)], "127.0.0.1"),
    ]);
    all
}

/// A limit that is reached holds, whatever a stranger says next, and for nobody else.
async fn exhausted(row: &mut Row, counted: &mut Counted) {
    let (victim, other) = ("198.51.100.1", "198.51.100.2");
    for _ in 0..BURST {
        let case = refresh("the last of an address's tries").header("x-forwarded-for", victim).from(PROXY);
        Raw::send(case.from, row.app.address(), &case.bytes()).await;
    }
    let refused =
        |name: &str, line: &str| refresh(name).header("x-forwarded-for", line).from(PROXY).expect(&[429]);
    row.run([
        refused("one more", victim),
        refused("one more with a name in front", "198.51.100.9, 198.51.100.1"),
        refused("one more with junk in front", "unknown, 198.51.100.1"),
        refused("one more with a port", "198.51.100.1:4711"),
        refused("one more, mapped", "::ffff:198.51.100.1"),
        refused("one more through another proxy", "198.51.100.1, 10.0.0.7"),
    ])
    .await;
    counted.ask(row, PROXY, &[("x-forwarded-for", other.into())], other).await;
    counted.ask(row, STRANGER, &[("x-forwarded-for", victim.into())], "127.0.0.2").await;
}

/// What is written of a login says who, never from where.
async fn audit(row: &mut Row) {
    const NAMES: [&str; 5] =
        ["x-forwarded-for", "forwarded", "x-real-ip", "cf-connecting-ip", "x-forwarded-host"];
    let ada = row.app.user("Ada").await;
    let credentials = json!({"email": ada.email, "password": ada.password});
    for name in NAMES {
        let login = row.app.post("/v1/auth/login", credentials.clone()).header(name, "198.51.100.77");
        login.expect(200).await;
    }
    row.app.drain().await;
    let logins = "SELECT count(*) FROM events WHERE type = 'user.logged_in'";
    let logins = row.app.number(logins).await;
    row.claim("logins are kept", logins >= 5, || format!("{logins} events"));
    let kept = "SELECT count(*) FROM events WHERE CAST(data AS TEXT) LIKE '%198.51.100.77%'";
    let kept = row.app.number(kept).await;
    row.claim("addresses are not", kept == 0, || format!("{kept} events"));
}

/// The metrics are for this machine, and being a proxy's client is not being on it.
fn metrics() -> Vec<Case> {
    let case =
        |name: &str, status: u16| Case::new("GET", "/metrics", format!("metrics: {name}")).expect(&[status]);
    let from_proxy = |line: &str, status| case(line, status).header("x-forwarded-for", line).from(PROXY);
    let mut cases = vec![
        case("from here", 200),
        from_proxy("203.0.113.1", 404),
        from_proxy("127.0.0.1, 203.0.113.1", 404),
        from_proxy("::1, 203.0.113.1, 10.0.0.1", 404),
        from_proxy("127.0.0.9, 10.0.0.1", 200),
    ];
    for name in ["x-forwarded-for", "forwarded", "x-real-ip"] {
        for value in ["127.0.0.1", "for=127.0.0.1", "::1", ""] {
            let said = case(&format!("{name}: {value:?} by a stranger"), 404);
            cases.push(said.header(name, value).from(STRANGER));
        }
    }
    cases
}
