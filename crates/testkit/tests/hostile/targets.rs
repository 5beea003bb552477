//! SSRF targets: a webhook is never saved with an address of ours, and nothing is ever dialled.

use serde_json::json;
use taskpost_testkit::{Backend, Fields as _, TestApp, both};

use crate::{case::Case, row::Row, watch::Watch};

both!(row);

/// A loopback address in every spelling, other private ones, local names, and ways to hide a host. `{p}` is a port that
/// somebody listens on and that is allowed, so that only the host can be what is refused.
const REFUSED: &[&str] = &[
    "http://127.0.0.1:{p}/",
    "http://127.0.0.1:{p}/v1/tasks?a=b",
    "https://127.0.0.1:{p}/",
    "HTTP://127.0.0.1:{p}/",
    "http://127.1:{p}/",
    "http://127.0.1:{p}/",
    "http://127.000.000.001:{p}/",
    "http://127.0.0.1.:{p}/",
    "http://127.255.255.254:{p}/",
    "http://127.8.8.8/",
    "http://2130706433:{p}/",
    "http://0x7f000001:{p}/",
    "http://0x7F.0x0.0x0.0x1:{p}/",
    "http://0x7f.1:{p}/",
    "http://0177.0.0.1:{p}/",
    "http://017700000001:{p}/",
    "http://0:{p}/",
    "http://0.0.0.0:{p}/",
    "http://0.1.2.3/",
    "http://[::1]:{p}/",
    "http://[0:0:0:0:0:0:0:1]:{p}/",
    "http://[0000::0001]:{p}/",
    "http://[::]:{p}/",
    "http://[::ffff:127.0.0.1]:{p}/",
    "http://[::ffff:7f00:1]:{p}/",
    "http://[::127.0.0.1]:{p}/",
    "http://[64:ff9b::127.0.0.1]:{p}/",
    "http://[64:ff9b:1::7f00:1]:{p}/",
    "http://[2002:7f00:1::]:{p}/",
    "http://[2001:0:7f00:1::]/",
    "http://[fe80::1]:{p}/",
    "http://[fe80::1%25eth0]:{p}/",
    "http://[fc00::1]/",
    "http://[fd12:3456:789a::1]/",
    "http://[ff02::1]/",
    "http://[2001:db8::1]/",
    "http://127\u{3002}0\u{3002}0\u{3002}1:{p}/",
    "http://\u{ff11}\u{ff12}\u{ff17}.\u{ff10}.\u{ff10}.\u{ff11}:{p}/",
    "http://\u{2460}\u{2461}\u{2466}.0.0.\u{2460}:{p}/",
    "http://%31%32%37.0.0.1:{p}/",
    "http://127%2e0%2e0%2e1:{p}/",
    "http:127.0.0.1:{p}/",
    "http:/127.0.0.1:{p}/",
    "http:////127.0.0.1:{p}/",
    "http://localhost:{p}/",
    "http://localhost.:{p}/",
    "http://LocalHost:{p}/",
    "http://localhost%2e:{p}/",
    "http://l%6fcalhost:{p}/",
    "http://\u{24db}\u{24de}calhost:{p}/",
    "http://a.b.localhost:{p}/",
    "http://localhost.localdomain:{p}/",
    "http://ip6-localhost:{p}/",
    "http://metadata/",
    "http://metadata.google.internal/computeMetadata/v1/",
    "http://instance-data.ec2.internal/",
    "http://printer.local/",
    "http://wiki.intranet/",
    "http://nas.lan/",
    "http://router.home.arpa/",
    "http://kubernetes.default.svc.cluster.local/",
    "http://redis/",
    "http://169.254.169.254/latest/meta-data/",
    "http://0xa9fea9fe/",
    "http://[::ffff:169.254.169.254]/",
    "http://[fd00:ec2::254]/latest/meta-data/",
    "http://100.100.100.200/",
    "http://168.63.129.16/",
    "http://192.0.0.192/",
    "http://10.0.0.1/",
    "http://10.255.255.255/",
    "http://172.16.0.1/",
    "http://172.31.255.255/",
    "http://192.168.1.1/",
    "http://100.64.0.1/",
    "http://198.18.0.1/",
    "http://192.0.2.1/",
    "http://224.0.0.1/",
    "http://240.0.0.1/",
    "http://255.255.255.255/",
    "http://example.org@127.0.0.1:{p}/",
    "http://example.org:80@127.0.0.1:{p}/",
    "http://127.0.0.1:{p}@example.org/",
    "http://@127.0.0.1:{p}/",
    "http://user:password@example.org/",
    "http://example.org\\@127.0.0.1:{p}/",
    "http:\\\\127.0.0.1:{p}\\",
    "http://example.org#@127.0.0.1:{p}/",
    "http://127.0.0.1:{p}#.example.org/",
    "http://127.0.0.1:{p}\t/",
    "http://127.0.0.1\n:{p}/",
    " http://127.0.0.1:{p}/",
    "http://127.0.0.1%00.example.org/",
    "http://127.0.0.1 .example.org/",
    "http://example.org:22/",
    "http://example.org:25/",
    "http://example.org:6379/",
    "http://example.org:0/",
    "http://example.org:65536/",
    "http://example.org:-1/",
    "file:///etc/passwd",
    "file://127.0.0.1/etc/passwd",
    "gopher://127.0.0.1:{p}/_PING",
    "dict://127.0.0.1:{p}/",
    "ftp://127.0.0.1:{p}/",
    "ldap://127.0.0.1:{p}/",
    "ws://127.0.0.1:{p}/",
    "unix:///run/docker.sock",
    "jar:http://127.0.0.1:{p}/!/",
    "javascript:fetch('http://127.0.0.1:{p}')",
    "data:text/plain,a",
    "//127.0.0.1:{p}/",
    "127.0.0.1:{p}",
    "http://",
    "http:///",
    "http://[::1",
    "http://[127.0.0.1]:{p}/",
    "http://1.2.3.4.5/",
    "http://256.256.256.256/",
    "",
];

const TAKEN: &[&str] = &[
    "https://example.org",
    "https://example.org/hook?token=a%20b",
    "http://example.org:8443/hook",
    "https://hooks.example.org./taskpost",
    "https://8.8.8.8/hook",
    "http://[2606:4700:4700::1111]/",
    "https://localhost.example.org/",
    "https://127.0.0.1.example.org/",
    "https://b\u{fc}cher.example/\u{e4}",
    "https://example.org/@127.0.0.1/?u=http://127.0.0.1/",
];

async fn row(backend: Backend) {
    let watch = Watch::start().await;
    let ports = watch.ports();
    let app = TestApp::start(backend)
        .with("WEBHOOK_ALLOW_PRIVATE", "false")
        .with("WEBHOOK_PORTS", format!("80,443,8443,{}", ports.join(",")));
    let mut row = Row::start("SSRF targets", app).await;
    let ada = row.app.user("Ada").await;
    let hook = json!({"url": "https://example.org/kept", "event_types": ["task.deleted"]});
    let hook = row.app.post("/v1/webhooks", hook).as_(&ada).expect(201).await.json();
    let path = format!("/v1/webhooks/{}", hook.text("id"));
    for (target, port) in REFUSED.iter().zip(ports.iter().cycle()) {
        let url = target.replace("{p}", port);
        let made = Case::new("POST", "/v1/webhooks", format!("made with {url:?}"));
        let made = made.json(json!({"url": url, "event_types": ["*"]}).to_string());
        let changed =
            Case::new("PATCH", &path, format!("changed to {url:?}")).json(json!({"url": url}).to_string());
        row.run([made, changed].map(|case| case.token(&ada.token).invalid("/url"))).await;
    }
    for url in TAKEN {
        let made = Case::new("POST", "/v1/webhooks", format!("made with {url}"));
        let made = made.json(json!({"url": url, "event_types": ["task.deleted"]}).to_string()).expect(&[201]);
        let changed =
            Case::new("PATCH", &path, format!("changed to {url}")).json(json!({"url": url}).to_string());
        row.run([made, changed.expect(&[200])].map(|case| case.token(&ada.token))).await;
    }
    // Events of other types, of which nobody is told.
    row.app.post("/v1/tasks", json!({"title": "a"})).as_(&ada).expect(201).await;
    row.app.drain().await;
    let tries = row.app.number("SELECT count(*) FROM attempts WHERE outcome <> 'delivered'").await;
    row.claim("nothing was tried", tries == 0, || format!("{tries} tries"));
    watch.end(&mut row).await;
    row.end(250).await;
}
