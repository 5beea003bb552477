//! Login: says nothing about who has an account, costs nothing before it must, and keeps the rest of the house open.

use std::{
    num::NonZeroUsize,
    thread::available_parallelism,
    time::{Duration, Instant},
};

use futures::future::join_all;
use serde_json::{Value, json};
use taskpost_testkit::{Backend, Fields as _, TestApp, User, both};

use crate::{case::Case, judge, row::Row};

both!(row);

const LOGIN: &str = "/v1/auth/login";
const REGISTER: &str = "/v1/auth/register";
const PASSWORD: &str = "correct horse battery";
const WRONG: &str = "wrong horse battery";
/// How often a known and an unknown e-mail are tried.
const PAIRS: usize = 200;
/// What a hash may take, unoptimised code and a busy machine included.
const HASH: Duration = Duration::from_secs(30);

async fn row(backend: Backend) {
    let mut row = Row::alone("Login", TestApp::start(backend)).await;
    let ada = register(&row.app, "ada.king@example.org", "Ada").await;
    answers(&mut row, &ada).await;
    times(&mut row, &ada).await;
    unhashed(&mut row, "a refused password", refused_passwords(&ada)).await;
    row.run(passwords(&ada)).await;
    before_hashing(&mut row, &ada).await;
    row.run(spellings(&ada)).await;
    unhashed(&mut row, "the password of a bad e-mail", bad_emails()).await;
    row.run(emails()).await;
    crowd(&mut row, &ada).await;
    // Every mail that is taken can be written to.
    row.end(90).await;
}

fn post(path: &str, name: impl Into<String>, body: &Value) -> Case {
    Case::new("POST", path, name).json(body.to_string()).within(HASH)
}

fn login(name: impl Into<String>, email: &str, password: &str) -> Case {
    post(LOGIN, name, &json!({"email": email, "password": password}))
}

fn account(name: impl Into<String>, email: &str, password: &str) -> Case {
    post(REGISTER, name, &json!({"email": email, "name": "Eve", "password": password}))
}

async fn register(app: &TestApp, email: &str, name: &str) -> User {
    let account = json!({"email": email, "name": name, "password": PASSWORD});
    User::of(&app.post(REGISTER, account).expect(201).await.json(), PASSWORD)
}

/// A stranger and a wrong password get the same answer.
async fn answers(row: &mut Row, ada: &User) {
    let wrong = row.ask(&login("wrong password", &ada.email, WRONG).expect(&[401])).await;
    let names = |head: &str| -> Vec<String> {
        head.split("\r\n").filter_map(|line| Some(line.split_once(':')?.0.to_owned())).collect()
    };
    for (name, email, password) in [
        ("unknown e-mail", "nobody@example.org", PASSWORD),
        ("unknown e-mail, wrong password", "nobody@example.org", WRONG),
        ("no e-mail", "", PASSWORD),
        ("e-mail that is none", "nobody", PASSWORD),
        ("SQL for an e-mail", "' OR 1=1--", PASSWORD),
        ("a wildcard for an e-mail", "%", PASSWORD),
        ("no password", &ada.email, ""),
        ("blank behind the password", &ada.email, "correct horse battery "),
        ("password in capitals", &ada.email, "CORRECT HORSE BATTERY"),
        ("NUL behind the password", &ada.email, "correct horse battery\0"),
        ("password cut short", &ada.email, "correct horse batter"),
    ] {
        let answer = row.ask(&login(name, email, password).expect(&[401])).await;
        let (said, expected) = (judge::anonymous(&answer), judge::anonymous(&wrong));
        row.claim(&format!("{name}: the body"), said == expected, || format!("{said} is not {expected}"));
        let same = names(&answer.head) == names(&wrong.head);
        row.claim(&format!("{name}: the headers"), same, || format!("{} is not {}", answer.head, wrong.head));
    }
}

/// In like time: both are hashed. The times are printed and not judged, as the machine does other things too.
async fn times(row: &mut Row, ada: &User) {
    let before = hashes(&row.app).await;
    let (mut known, mut unknown) = (Vec::new(), Vec::new());
    for _ in 0..PAIRS {
        // At the same moment, so that whatever else the machine does slows both.
        let pair = tokio::join!(attempt(&row.app, &ada.email), attempt(&row.app, "nobody@example.org"));
        known.push(pair.0);
        unknown.push(pair.1);
    }
    let hashed = hashes(&row.app).await - before;
    row.claim("a stranger's password is hashed too", hashed == 2 * PAIRS, || format!("{hashed} were"));
    let alike = known.iter().chain(&unknown).all(|(_, answer)| *answer == known[0].1);
    row.claim("all are told the same", alike && known[0].1.0 == 401, || format!("{:?}", known[0].1));
    let (known, unknown) = (median(&known), median(&unknown));
    let gap = (known.as_secs_f64() / unknown.as_secs_f64() - 1.0) * 100.0;
    println!("login, medians of {PAIRS}: known {known:.2?}, unknown {unknown:.2?}, apart by {gap:+.1} %");
}

/// How long a wrong password took, and what was answered.
async fn attempt(app: &TestApp, email: &str) -> (Duration, (u16, Value)) {
    let began = Instant::now();
    let answer = app.post(LOGIN, json!({"email": email, "password": WRONG})).send().await;
    let took = began.elapsed();
    let mut body = answer.json();
    body["trace_id"].take();
    (took, (answer.status, body))
}

fn median<T>(tries: &[(Duration, T)]) -> Duration {
    let mut times: Vec<Duration> = tries.iter().map(|(took, _)| *took).collect();
    times.sort_unstable();
    times[times.len() / 2]
}

/// How many passwords were hashed in this process.
async fn hashes(app: &TestApp) -> usize {
    metric(app, "taskpost_password_hashes_total").await
}

async fn metric(app: &TestApp, name: &str) -> usize {
    let metrics = app.get("/metrics").expect(200).await.text();
    let value = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    value.and_then(|value| value.parse().ok()).expect("the metric is there")
}

fn long(letters: usize) -> String {
    "p".repeat(letters)
}

fn horses(count: usize) -> String {
    "\u{1f40e}".repeat(count)
}

fn passwords(ada: &User) -> Vec<Case> {
    vec![
        login("password of 1,024 bytes", &ada.email, &long(1_024)).expect(&[401]),
        account("12 characters", "p12@example.org", &long(12)).expect(&[201]),
        account("128 characters", "p128@example.org", &long(128)).expect(&[201]),
        account("12 horses", "h12@example.org", &horses(12)).expect(&[201]),
        account("128 horses", "h128@example.org", &horses(128)).expect(&[201]),
        login("its 128 horses", "h128@example.org", &horses(128)).expect(&[200]),
    ]
}

fn refused_passwords(ada: &User) -> Vec<Case> {
    let refused =
        |name: &str, email: &str, password: &str| account(name, email, password).invalid("/password");
    vec![
        login("password of 1 MB", &ada.email, &long(1_000_000)).expect(&[413, 422]),
        login("password of 250,000 bytes", &ada.email, &long(250_000)).invalid("/password"),
        login("password of 1,025 bytes", &ada.email, &long(1_025)).invalid("/password"),
        account("account with a password of 1 MB", "long@example.org", &long(1_000_000)).expect(&[413, 422]),
        refused("account with a password of 1,025 bytes", "long@example.org", &long(1_025)),
        refused("11 characters", "p11@example.org", &long(11)),
        refused("129 characters", "p129@example.org", &long(129)),
        refused("no password", "p0@example.org", ""),
        refused("11 horses", "h11@example.org", &horses(11)),
        refused("129 horses", "h129@example.org", &horses(129)),
    ]
}

/// Asks these, none of which may cost a hash.
async fn unhashed(row: &mut Row, what: &str, cases: Vec<Case>) {
    let before = hashes(&row.app).await;
    row.run(cases).await;
    let hashed = hashes(&row.app).await - before;
    row.claim(&format!("{what} is not hashed"), hashed == 0, || format!("{hashed} were"));
}

/// What is too long or no credentials at all is refused before it costs anything.
async fn before_hashing(row: &mut Row, ada: &User) {
    let mut cases: Vec<Case> = [1_025, 2_000, 10_000, 100_000, 250_000]
        .map(|bytes| {
            let name = format!("{bytes} bytes are not hashed");
            login(name, &ada.email, &long(bytes)).invalid("/password")
        })
        .into();
    cases.push(login("1 MB is not hashed", &ada.email, &long(1_000_000)).expect(&[413]));
    cases.push(
        login("600 letters of 2 bytes are not hashed", &ada.email, &"\u{fc}".repeat(600))
            .invalid("/password"),
    );
    cases.extend(forms(ada));
    unhashed(row, "what is too long", cases).await;
    let before = hashes(&row.app).await;
    row.run([login("1,024 bytes", &ada.email, &long(1_024)).expect(&[401])]).await;
    let hashed = hashes(&row.app).await - before;
    row.claim("1,024 bytes are hashed", hashed >= 1, || "they were not".to_owned());
}

/// Case and blanks around it do not matter; letters that only look alike do.
fn spellings(ada: &User) -> Vec<Case> {
    let id = ada.id.clone();
    let mine = move |answer: &taskpost_testkit::Raw| {
        let user = answer.json()["user"]["id"].clone();
        if user == id.as_str() { Ok(()) } else { Err(format!("another account: {user}")) }
    };
    let id = ada.id.clone();
    let others = move |answer: &taskpost_testkit::Raw| {
        let user = answer.json()["user"]["id"].clone();
        if user.is_string() && user != id.as_str() {
            Ok(())
        } else {
            Err(format!("the same account: {user}"))
        }
    };
    let mut cases = Vec::new();
    for same in [
        "ADA.KING@EXAMPLE.ORG",
        "Ada.King@Example.Org",
        "ada.king@example.org ",
        " ada.king@example.org",
        "\tada.king@example.org\r\n",
    ] {
        cases.push(login(format!("{same:?} is the same"), same, PASSWORD).expect(&[200]).check(mine.clone()));
        cases.push(account(format!("{same:?} is taken"), same, PASSWORD).expect(&[409]));
    }
    for (what, other) in [
        ("a Cyrillic a", "\u{430}da.king@example.org"),
        ("a full-width a", "\u{ff41}da.king@example.org"),
        ("a Kelvin sign", "ada.\u{212a}ing@example.org"),
        ("a dotless i", "ada.k\u{131}ng@example.org"),
        ("a dotted capital I", "ada.k\u{130}ng@example.org"),
        ("a combining accent", "ada.ki\u{301}ng@example.org"),
        ("a full-width dot", "ada.king@example\u{ff0e}org"),
        ("a zero-width blank", "ada.king\u{200b}@example.org"),
        ("a soft hyphen", "ada.king\u{ad}@example.org"),
        ("a tag", "ada.king+1@example.org"),
    ] {
        cases.push(login(format!("login with {what}"), other, PASSWORD).expect(&[401]));
        let made = account(format!("an account with {what}"), other, PASSWORD).expect(&[201, 422]);
        let others = others.clone();
        cases.push(made.check(move |answer| if answer.status == 201 { others(answer) } else { Ok(()) }));
    }
    cases
}

fn bad_emails() -> Vec<Case> {
    let long_local = format!("{}@example.org", "a".repeat(65));
    let long = format!("a@{}org", format!("{}.", "b".repeat(60)).repeat(5));
    let long_label = format!("a@{}.org", "b".repeat(64));
    let bad = [
        "",
        "a",
        "@",
        "a@",
        "@example.org",
        "a b@example.org",
        "a@exam ple.org",
        "a@@example.org",
        "a@b@example.org",
        "a@.example.org",
        "a@example.org.",
        "a@example..org",
        ".a@example.org",
        "a.@example.org",
        "a..b@example.org",
        "a@-example.org",
        "a@example-.org",
        "a@[127.0.0.1]",
        "\"a b\"@example.org",
        "<a@example.org>",
        "A <a@example.org>",
        "a@example.org,b@example.org",
        "a@example.org;b@example.org",
        "a,b@example.org",
        "a@exam_ple.org",
        "a@example.org\r\nBcc: b@example.org",
        "a\u{2028}b@example.org",
        "a@example.org?cc=b",
        "a@exa\u{200b}mple.org",
        &long_local,
        &long,
        &long_label,
    ];
    let refused = |email: &&str| account(format!("bad e-mail {email:?}"), email, PASSWORD).invalid("/email");
    bad.iter().map(refused).collect()
}

fn emails() -> Vec<Case> {
    let longest = format!("{}@example.org", "a".repeat(64));
    let good = [
        "a@example.org",
        "first.last@example.org",
        "tag+1@example.org",
        "o'neil@example.org",
        "1@example.org",
        "a-b_c@sub.domain.example.org",
        "a@ex-ample.org",
        "a@xn--bcher-kva.example",
        "j\u{fc}rgen@example.org",
        "a@b\u{fc}cher.example",
        "!#$%&'*+-/=?^_`{|}~@example.org",
        &longest,
    ];
    let taken =
        good.iter().map(|email| account(format!("good e-mail {email:?}"), email, PASSWORD).expect(&[201]));
    let again = [
        account("a taken e-mail", "a@example.org", "another horse battery").expect(&[409]),
        account("a taken e-mail in capitals", "A@EXAMPLE.ORG", "another horse battery").expect(&[409]),
        login("the password of who came first", "a@example.org", PASSWORD).expect(&[200]),
        login("the password of who came second", "a@example.org", "another horse battery").expect(&[401]),
    ];
    taken.chain(again).collect()
}

/// Credentials of the wrong form are told, before anything is hashed.
fn forms(ada: &User) -> Vec<Case> {
    let case = |name: &str, body: Value, pointer: &str| post(LOGIN, name, &body).invalid(pointer);
    vec![
        case("no fields", json!({}), "/email"),
        case("no password field", json!({"email": ada.email}), "/password"),
        case("a pattern for a password", json!({"email": ada.email, "password": {"$ne": ""}}), "/password"),
        case("a list of passwords", json!({"email": ada.email, "password": [PASSWORD]}), "/password"),
        case("null for a password", json!({"email": ada.email, "password": null}), "/password"),
        case("a list of e-mails", json!({"email": [ada.email], "password": PASSWORD}), "/email"),
        case(
            "one field more",
            json!({"email": ada.email, "password": PASSWORD, "remember": true}),
            "/remember",
        ),
        Case::new("GET", "/v1/auth/login?email=a&password=b", "credentials in the query").expect(&[405]),
        Case::new("POST", "/v1/auth/login?email=a", "a query too").json("{}").pointer("?email"),
    ]
}

/// Two hundred at once: some get in, some come back later, never more are hashed than there are cores, and the rest of
/// the house is open.
async fn crowd(row: &mut Row, ada: &User) {
    let app = &row.app;
    let before = hashes(app).await;
    let attempt = |number: usize| async move {
        let password = if number.is_multiple_of(2) { PASSWORD } else { WRONG };
        app.post(LOGIN, json!({"email": ada.email, "password": password})).send().await
    };
    let mut crowd = Box::pin(join_all((0..200).map(attempt)));
    let (mut meanwhile, mut most) = (Vec::new(), 0);
    let logins = loop {
        tokio::select! {
            biased;
            done = &mut crowd => break done,
            (statuses, running) = others(app, ada) => {
                meanwhile.push(statuses);
                most = most.max(running);
            }
        }
    };
    drop(crowd);
    let hashed = hashes(app).await - before;
    for answer in &logins {
        let known = matches!(answer.status, 200 | 401 | 429 | 503);
        let back = !matches!(answer.status, 429 | 503) || answer.find("retry-after").is_some();
        row.claim("one of two hundred logins", known && back, || {
            format!("{} {:?}", answer.status, answer.headers)
        });
    }
    let of = |status| logins.iter().filter(|answer| answer.status == status).count();
    let (inside, wrong, later) = (of(200), of(401), of(503));
    println!(
        "200 logins at once: {inside} got in, {wrong} were wrong, {later} come later; at most {most} hashed at once"
    );
    row.claim("some got in", inside > 0, || "nobody".to_owned());
    row.claim("who comes later was not hashed", hashed == inside + wrong, || format!("{hashed} were hashed"));
    let cores = available_parallelism().map_or(1, NonZeroUsize::get);
    row.claim("the cores are enough", most <= cores, || format!("{most} at once on {cores} cores"));
    let open = !meanwhile.is_empty() && meanwhile.iter().all(|statuses| *statuses == [200, 200, 201]);
    row.claim("the rest of the house meanwhile", open, || format!("{meanwhile:?}"));
    row.run([login("one more, afterwards", &ada.email, PASSWORD).expect(&[200])]).await;
    let own = row.app.get("/v1/me").as_(ada).expect(200).await.json();
    row.claim("the session of before", own.text("id") == ada.id, || own.to_string());
}

/// The statuses of other routes, and how many passwords are being hashed.
async fn others(app: &TestApp, ada: &User) -> ([u16; 3], usize) {
    let health = app.get("/health").send().await.status;
    let running = metric(app, "taskpost_password_hashes_running").await;
    let me = app.get("/v1/me").as_(ada).send().await.status;
    let made = app.post("/v1/tasks", json!({"title": "a"})).as_(ada).send().await.status;
    ([health, me, made], running)
}
