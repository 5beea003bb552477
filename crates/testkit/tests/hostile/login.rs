//! Login: says nothing about who has an account, costs nothing before it must, and keeps the rest of the house open.

use std::time::{Duration, Instant};

use futures::future::join_all;
use serde_json::{Value, json};
use taskpost_testkit::{Backend, Fields as _, TestApp, User, both};

use crate::{case::Case, judge, row::Row};

both!(row);

const LOGIN: &str = "/v1/auth/login";
const REGISTER: &str = "/v1/auth/register";
const PASSWORD: &str = "correct horse battery";
const WRONG: &str = "wrong horse battery";
/// What a hash may take, unoptimised code and a busy machine included.
const HASH_MS: u64 = 2_000;

async fn row(backend: Backend) {
    let mut row = Row::alone("Login", TestApp::start(backend)).await;
    let ada = register(&row.app, "ada.king@example.org", "Ada").await;
    answers(&mut row, &ada).await;
    times(&mut row, &ada).await;
    row.run(passwords(&ada)).await;
    before_hashing(&mut row, &ada).await;
    row.run(spellings(&ada)).await;
    row.run(emails()).await;
    row.run(forms(&ada)).await;
    crowd(&mut row, &ada).await;
    // Every mail that is taken can be written to.
    row.end(90).await;
}

fn post(path: &str, name: impl Into<String>, body: &Value) -> Case {
    Case::new("POST", path, name).json(body.to_string()).within(HASH_MS)
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

/// In like time, as far as twenty pairs can tell; the benchmark looks closer.
async fn times(row: &mut Row, ada: &User) {
    let mut gap = f64::MAX;
    for _ in 0..5 {
        let (mut known, mut unknown) = (Vec::new(), Vec::new());
        for pair in 0..20 {
            // Each goes first in turn, so that being second counts for nothing.
            if pair % 2 == 0 {
                known.push(took(&row.app, &ada.email, WRONG).await);
            }
            unknown.push(took(&row.app, "nobody@example.org", WRONG).await);
            if pair % 2 == 1 {
                known.push(took(&row.app, &ada.email, WRONG).await);
            }
        }
        let (known, unknown) = (median(known), median(unknown));
        gap = gap.min((known.as_secs_f64() / unknown.as_secs_f64() - 1.0).abs());
        if gap < 0.25 {
            break;
        }
    }
    row.claim("the time of a stranger's login", gap < 0.25, || {
        format!("the medians differ by {:.0} %", gap * 100.0)
    });
}

async fn took(app: &TestApp, email: &str, password: &str) -> Duration {
    let began = Instant::now();
    app.post(LOGIN, json!({"email": email, "password": password})).send().await;
    began.elapsed()
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

fn passwords(ada: &User) -> Vec<Case> {
    let long = |letters: usize| "p".repeat(letters);
    let emoji = |count: usize| "\u{1f40e}".repeat(count);
    vec![
        login("password of 1 MB", &ada.email, &long(1_000_000)).expect(&[413, 422]).within(50),
        login("password of 250,000 bytes", &ada.email, &long(250_000)).invalid("/password").within(50),
        login("password of 1,025 bytes", &ada.email, &long(1_025)).invalid("/password").within(50),
        login("password of 1,024 bytes", &ada.email, &long(1_024)).expect(&[401]),
        account("account with a password of 1 MB", "long@example.org", &long(1_000_000))
            .expect(&[413, 422])
            .within(50),
        account("account with a password of 1,025 bytes", "long@example.org", &long(1_025))
            .invalid("/password")
            .within(50),
        account("11 characters", "p11@example.org", &long(11)).invalid("/password").within(50),
        account("12 characters", "p12@example.org", &long(12)).expect(&[201]),
        account("128 characters", "p128@example.org", &long(128)).expect(&[201]),
        account("129 characters", "p129@example.org", &long(129)).invalid("/password").within(50),
        account("no password", "p0@example.org", "").invalid("/password").within(50),
        account("11 horses", "h11@example.org", &emoji(11)).invalid("/password").within(50),
        account("12 horses", "h12@example.org", &emoji(12)).expect(&[201]),
        account("128 horses", "h128@example.org", &emoji(128)).expect(&[201]),
        account("129 horses", "h129@example.org", &emoji(129)).invalid("/password").within(50),
        login("its 128 horses", "h128@example.org", &emoji(128)).expect(&[200]),
    ]
}

/// A password that is too long is not hashed: it is answered in much less time than one that is.
async fn before_hashing(row: &mut Row, ada: &User) {
    let (mut hashed, mut refused) = (Vec::new(), Vec::new());
    for _ in 0..5 {
        hashed.push(took(&row.app, &ada.email, &"p".repeat(1_024)).await);
        refused.push(took(&row.app, &ada.email, &"p".repeat(1_025)).await);
    }
    let (hashed, refused) = (hashed.into_iter().min(), refused.into_iter().min());
    let sooner = refused.zip(hashed).is_some_and(|(refused, hashed)| refused * 2 < hashed);
    row.claim("a long password is not hashed", sooner, || {
        format!("refused in {refused:?}, hashed in {hashed:?}")
    });
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

fn emails() -> Vec<Case> {
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
    let refused = bad
        .iter()
        .map(|email| account(format!("bad e-mail {email:?}"), email, PASSWORD).invalid("/email").within(50));
    let taken =
        good.iter().map(|email| account(format!("good e-mail {email:?}"), email, PASSWORD).expect(&[201]));
    let again = [
        account("a taken e-mail", "a@example.org", "another horse battery").expect(&[409]),
        account("a taken e-mail in capitals", "A@EXAMPLE.ORG", "another horse battery").expect(&[409]),
        login("the password of who came first", "a@example.org", PASSWORD).expect(&[200]),
        login("the password of who came second", "a@example.org", "another horse battery").expect(&[401]),
    ];
    refused.chain(taken).chain(again).collect()
}

/// Credentials of the wrong form are told, before anything is hashed.
fn forms(ada: &User) -> Vec<Case> {
    let case = |name: &str, body: Value, pointer: &str| post(LOGIN, name, &body).invalid(pointer).within(50);
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

/// Two hundred at once: some get in, some come back later, and the rest of the house is open.
async fn crowd(row: &mut Row, ada: &User) {
    let app = &row.app;
    let attempt = |number: usize| async move {
        let password = if number.is_multiple_of(2) { PASSWORD } else { WRONG };
        app.post(LOGIN, json!({"email": ada.email, "password": password})).send().await
    };
    let mut crowd = Box::pin(join_all((0..200).map(attempt)));
    let mut probes = Vec::new();
    let logins = loop {
        let began = Instant::now();
        tokio::select! {
            biased;
            done = &mut crowd => break done,
            health = app.get("/health").send() => probes.push((health.status, began.elapsed())),
        }
    };
    drop(crowd);
    for answer in &logins {
        let known = matches!(answer.status, 200 | 401 | 429 | 503);
        let back = !matches!(answer.status, 429 | 503) || answer.find("retry-after").is_some();
        row.claim("one of two hundred logins", known && back, || {
            format!("{} {:?}", answer.status, answer.headers)
        });
    }
    let well = !probes.is_empty()
        && probes.iter().all(|(status, took)| *status == 200 && *took < Duration::from_secs(2));
    row.claim("health meanwhile", well, || format!("{probes:?}"));
    let inside = logins.iter().filter(|answer| answer.status == 200).count();
    row.claim("some got in", inside > 0, || "nobody".to_owned());
    row.run([login("one more, afterwards", &ada.email, PASSWORD).expect(&[200])]).await;
    let own = row.app.get("/v1/me").as_(ada).expect(200).await.json();
    row.claim("the session of before", own.text("id") == ada.id, || own.to_string());
}
