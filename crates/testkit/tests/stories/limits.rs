//! How often one may call, and who is counted.

use serde_json::json;
use taskpost_testkit::{Backend, Fields as _, Request, Starting, TestApp, both};

both!(
    the_headers_say_how_much_is_left,
    users_are_counted_not_addresses,
    a_strange_token_is_counted_before_the_store_is_asked,
    classes_are_counted_apart,
    hearsay_of_a_stranger_is_ignored,
    a_trusted_proxy_is_believed,
    probes_are_not_counted,
);

/// What is counted is counted in this process: a Redis that is slow for once forgives once, and here every try matters.
/// That Redis counts for all processes is shown in `two_processes`.
fn counting(backend: Backend) -> Starting {
    TestApp::start(backend).without("REDIS_URL")
}

async fn statuses(count: usize, request: impl Fn(usize) -> Request) -> Vec<u16> {
    let mut statuses = Vec::new();
    for i in 0..count {
        statuses.push(request(i).send().await.status);
    }
    statuses
}

async fn the_headers_say_how_much_is_left(backend: Backend) {
    let app = counting(backend).with("RATE_LIMIT_READ", "1/h,3").await;
    let ada = app.user("Ada").await;
    for (left, wait) in [(2, 3_600), (1, 7_200), (0, 10_800)] {
        let answer = app.get("/v1/me").as_(&ada).expect(200).await;
        assert_eq!(answer.header("ratelimit-policy"), "\"read\";q=3;w=10800");
        let full_again = answer.header("ratelimit").strip_prefix(&format!("\"read\";r={left};t="));
        let full_again: u32 = full_again.and_then(|seconds| seconds.parse().ok()).unwrap_or(0);
        // Whatever has come back meanwhile.
        assert!((wait - 600..=wait).contains(&full_again), "{}", answer.header("ratelimit"));
        assert_eq!(answer.find("retry-after"), None);
    }
    let refused = app.get("/v1/me").as_(&ada).expect(429).await;
    assert!(refused.header("ratelimit").starts_with("\"read\";r=0;t="));
    let wait: u32 = refused.header("retry-after").parse().unwrap_or(0);
    assert!((1..=3_600).contains(&wait), "{wait}");
    assert!(refused.problem().text("type").ends_with("rate-limited"));
    app.finish().await;
}

async fn users_are_counted_not_addresses(backend: Backend) {
    let app = counting(backend).with("RATE_LIMIT_WRITE", "1/h,2").await;
    let (ada, bob) = (app.user("Ada").await, app.user("Bob").await);
    let elsewhere = app.login(&ada).await;
    for (user, expected) in [(&ada, [201, 201, 429]), (&bob, [201, 201, 429]), (&elsewhere, [429, 429, 429])]
    {
        let create = |_| app.post("/v1/tasks", json!({"title": "a"})).as_(user);
        assert_eq!(statuses(3, create).await, expected);
    }
    // Whoever has no good token counts by address.
    let guess = |i: usize| app.post("/v1/tasks", json!({"title": "a"})).token(&format!("guess{i}"));
    assert_eq!(statuses(4, guess).await, [401, 401, 429, 429]);
    assert_eq!(app.all_pages(&ada, "/v1/tasks?limit=50").await.len(), 4);
    app.finish().await;
}

async fn a_strange_token_is_counted_before_the_store_is_asked(backend: Backend) {
    let app = counting(backend).with("RATE_LIMIT_READ", "1/h,3").await;
    let ada = app.user("Ada").await;
    let mut secrets = Vec::new();
    for _ in 0..2 {
        let token = json!({"name": "a machine", "scopes": ["read"]});
        let token = app.post("/v1/me/tokens", token).as_(&ada).expect(201).await.json();
        secrets.push(token.text("secret").to_owned());
    }
    let me = |secret: &str| app.get("/v1/me").token(secret);
    me(&secrets[0]).expect(200).await;
    let guess = |i: usize| me(&format!("tp_{i:043}"));
    assert_eq!(statuses(3, guess).await, [401, 401, 429]);
    // Of a good one that was never seen nobody knows that without the store; the other is known.
    me(&secrets[1]).refused(429).await;
    me(&secrets[0]).expect(200).await;
    app.finish().await;
}

async fn classes_are_counted_apart(backend: Backend) {
    let app = counting(backend).with("RATE_LIMIT_READ", "1/h,1").with("RATE_LIMIT_AUTH", "1/h,2").await;
    let ada = app.user("Ada").await;
    assert_eq!(statuses(2, |_| app.get("/v1/me").as_(&ada)).await, [200, 429]);
    app.task(&ada, json!({"title": "a"})).await;
    app.post("/v1/auth/login", json!({"email": ada.email, "password": ada.password})).expect(200).await;
    app.post("/v1/auth/login", json!({"email": ada.email, "password": ada.password})).refused(429).await;
    // A good token does not help to guess passwords.
    app.post("/v1/auth/login", json!({"email": "x@example.org", "password": "y"}))
        .as_(&ada)
        .refused(429)
        .await;
    app.finish().await;
}

fn login(app: &TestApp, header: &str, value: &str) -> Request {
    let wrong = json!({"email": "nobody@example.org", "password": "wrong password"});
    app.post("/v1/auth/login", wrong).header(header, value)
}

async fn hearsay_of_a_stranger_is_ignored(backend: Backend) {
    let app = counting(backend).with("RATE_LIMIT_AUTH", "1/h,2").with("TRUSTED_PROXIES", "10.0.0.0/8").await;
    for (i, name) in ["x-forwarded-for", "x-real-ip", "forwarded", "x-forwarded-for"].into_iter().enumerate()
    {
        let value = if name == "forwarded" { format!("for=203.0.113.{i}") } else { format!("203.0.113.{i}") };
        let status = login(&app, name, &value).send().await.status;
        assert_eq!(status, if i < 2 { 401 } else { 429 }, "{name}: {value}");
    }
    app.finish().await;
}

async fn a_trusted_proxy_is_believed(backend: Backend) {
    let app = counting(backend)
        .with("RATE_LIMIT_AUTH", "1/h,2")
        .with("TRUSTED_PROXIES", "127.0.0.1,10.0.0.0/8")
        .await;
    for (value, expected) in [
        ("203.0.113.1", 401),
        ("203.0.113.1", 401),
        ("203.0.113.1", 429),
        ("203.0.113.2", 401),
        // What stands left of the first stranger is what that stranger says.
        ("203.0.113.9, 203.0.113.1", 429),
        ("203.0.113.1, 203.0.113.2", 401),
        ("203.0.113.2, 10.1.2.3", 429),
        // An IPv6 network of 64 bits is one client.
        ("2001:db8::1", 401),
        ("2001:db8::2", 401),
        ("2001:db8::3", 429),
        ("2001:db8:0:1::1", 401),
    ] {
        assert_eq!(login(&app, "x-forwarded-for", value).send().await.status, expected, "{value}");
    }
    app.finish().await;
}

async fn probes_are_not_counted(backend: Backend) {
    let app = counting(backend).with("RATE_LIMIT_READ", "1/h,1").await;
    for path in ["/health", "/health/live", "/health/ready", "/metrics"] {
        let answers = statuses(3, |_| app.get(path)).await;
        assert_eq!(answers, [200, 200, 200], "{path}");
        assert_eq!(app.get(path).send().await.find("ratelimit"), None);
    }
    app.finish().await;
}
