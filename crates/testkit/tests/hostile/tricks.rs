//! SSRF tricks, from a webhook to the record of its tries: what became forbidden since it was saved is blocked, what is
//! answered is not followed, and no proxy is asked. Names that lead inside need a resolver of one's own:
//! `workers/tests/guard` has them, with their records in either database.

use serde_json::json;
use taskpost_testkit::{Answer, Backend, Fields as _, Server, TestApp, User, WebhookSink, both};

use crate::{row::Row, watch::Watch};

both!(row);

/// Targets that an intranet allows and the internet does not. `{p}` is a port that somebody listens on.
const INSIDE: &[&str] = &[
    "http://127.0.0.1:{p}/",
    "http://127.1:{p}/",
    "http://2130706433:{p}/",
    "http://0x7f.1:{p}/",
    "http://127.0.0.1.:{p}/",
    "http://0.0.0.0:{p}/",
    "http://127.255.255.254:{p}/",
    "http://[::1]:{p}/",
    "http://[::]:{p}/",
    "http://[::ffff:127.0.0.1]:{p}/",
    "http://[::127.0.0.1]:{p}/",
    "http://[64:ff9b::127.0.0.1]:{p}/",
    "http://[2002:7f00:1::]:{p}/",
    "http://127\u{3002}0\u{3002}0\u{3002}1:{p}/",
    "http://localhost:{p}/",
    "http://localhost.:{p}/",
    "http://LOCALHOST:{p}/",
    "http://a.b.localhost:{p}/",
    "http://ip6-localhost:{p}/",
    "http://localhost.localdomain:{p}/",
    "http://10.0.0.1/",
    "http://192.168.1.1/",
    "http://[fd00::1]/",
    "http://169.254.169.254/latest/meta-data/",
    "http://metadata.google.internal/",
    "http://redis:6379/",
    "http://example.org:5432/",
    "http://8.8.8.8:22/",
];

/// Answers that name another place, by which header.
const ELSEWHERE: &[(u16, &str, &str)] = &[
    (300, "location", "rejected"),
    (301, "location", "rejected"),
    (302, "location", "rejected"),
    (303, "location", "rejected"),
    (305, "location", "rejected"),
    (307, "location", "rejected"),
    (308, "location", "rejected"),
    (200, "location", "delivered"),
    (201, "location", "delivered"),
    (200, "refresh", "delivered"),
    (200, "content-location", "delivered"),
    (200, "alt-svc", "delivered"),
];

async fn row(backend: Backend) {
    let watch = Watch::start().await;
    let mut row = Row::start("SSRF tricks", TestApp::start(backend)).await;
    let ada = row.app.user("Ada").await;
    followed(&mut row, &ada, &watch).await;
    let mut row = saved_before(row, &ada, &watch).await;
    proxies(&mut row, backend, &watch).await;
    watch.end(&mut row).await;
    row.app.expect_dead_letters();
    row.end(45).await;
}

/// The outcomes of a webhook's tries, oldest first.
async fn outcomes(app: &TestApp, user: &User, hook: &str) -> Vec<String> {
    let attempts = app.list(user, &format!("/v1/webhooks/{hook}/attempts")).await;
    attempts.iter().rev().map(|attempt| attempt.text("outcome").to_owned()).collect()
}

/// One try for each answer, which is the end of it.
async fn followed(row: &mut Row, ada: &User, watch: &Watch) {
    let sink = WebhookSink::start().await;
    let hook = row.app.hook(ada, &sink, &["task.created"]).await;
    for ((status, header, _), port) in ELSEWHERE.iter().zip(watch.ports().iter().cycle()) {
        let place = match *header {
            "alt-svc" => format!("h2=\"127.0.0.1:{port}\"; ma=3600"),
            "refresh" => format!("0; url=http://127.0.0.1:{port}/"),
            _ => format!("http://127.0.0.1:{port}/"),
        };
        sink.script([Answer::status(*status).header(header, &place)]);
        row.app.task(ada, json!({"title": "a"})).await;
        row.app.drain().await;
    }
    let outcomes = outcomes(&row.app, ada, hook.text("id")).await;
    for (place, (status, header, expected)) in ELSEWHERE.iter().enumerate() {
        let outcome = outcomes.get(place).map(String::as_str);
        row.claim(&format!("{status} with {header}"), outcome == Some(*expected), || format!("{outcomes:?}"));
    }
    let received = sink.received().len();
    row.claim("each was asked once", received == ELSEWHERE.len() && outcomes.len() == received, || {
        format!("{received} requests, {outcomes:?}")
    });
    row.app.delete(&format!("/v1/webhooks/{}", hook.text("id"))).as_(ada).expect(204).await;
}

/// An intranet's webhooks, under the rules of the internet.
async fn saved_before(mut row: Row, ada: &User, watch: &Watch) -> Row {
    let mut hooks = Vec::new();
    for (target, port) in INSIDE.iter().zip(watch.ports().iter().cycle()) {
        let url = target.replace("{p}", port);
        let hook = json!({"url": url, "event_types": ["task.created"]});
        hooks.push((url, row.app.post("/v1/webhooks", hook).as_(ada).expect(201).await.json()));
    }
    row.app.drain().await;
    row.app.expect_dead_letters();
    let ports = format!("80,443,{}", watch.ports().join(","));
    let stricter = row.app.stop().await.without("WEBHOOK_ALLOW_PRIVATE").with("WEBHOOK_PORTS", ports);
    row.app = stricter.await;
    row.app.task(ada, json!({"title": "a"})).await;
    row.app.drain().await;
    for (url, hook) in hooks {
        let outcomes = outcomes(&row.app, ada, hook.text("id")).await;
        row.claim(&format!("{url} is blocked once"), outcomes == ["blocked"], || format!("{outcomes:?}"));
    }
    row
}

/// A proxy in the environment of the real program.
async fn proxies(row: &mut Row, backend: Backend, watch: &Watch) {
    const NAMES: [&str; 8] = [
        "HTTP_PROXY",
        "http_proxy",
        "HTTPS_PROXY",
        "https_proxy",
        "ALL_PROXY",
        "all_proxy",
        "REQUEST_METHOD",
        "CGI_HTTP_PROXY",
    ];
    let proxy = format!("http://127.0.0.1:{}", watch.ports()[0]);
    let mut server = Server::start(backend);
    for name in NAMES {
        server = server.with(name, &proxy);
    }
    let server = server.await;
    let sink = WebhookSink::start().await;
    let ada = server.user("Ada").await;
    // The consumer group takes a new webhook for what comes from then on.
    server.hook(&ada, &sink, &["task.created"]).await;
    server.task(&ada, json!({"title": "a"})).await;
    let received = sink.wait_for(1).await;
    row.claim("the receiver itself is asked", received[0].path == "/hook", || format!("{:?}", received[0]));
    server.finish().await;
}
