//! From a delivery to its record: what is not dialled is `blocked`, once, and its endpoint's owner can read why.

use std::{
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use taskpost_common::{DeliveryId, net::Outbound};
use taskpost_workers::channels::{
    guard::{GuardedClient, Resolver},
    webhook::Webhook,
};

use crate::{
    client::{LOOPBACK, NOWHERE, fixed, guarded, ips, outbound, patient},
    receiver::{OK, Receiver, Script},
    support::Stage,
};

macro_rules! both {
    ($($case:ident),+ $(,)?) => {$(
        mod $case {
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn sqlite() {
                super::$case(super::Stage::sqlite().await).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn postgres() {
                super::$case(super::Stage::postgres().await).await;
            }
        }
    )+};
}

both!(
    names_that_lead_inside_are_blocked_once,
    a_name_that_changes_its_mind_is_blocked_then,
    settings_that_became_stricter_count,
    redirects_inside_are_rejections,
);

/// Starts the channel of webhooks on this client.
fn start(stage: &mut Stage, client: GuardedClient) {
    let (db, clock) = (stage.db.clone(), stage.clock.clone());
    stage.start_channel(Webhook { db, clock, client, timeout: Duration::from_mins(2) }, 8, &[10]);
}

async fn outcomes(stage: &Stage, id: DeliveryId) -> Vec<String> {
    stage.attempts(id).await.into_iter().map(|attempt| attempt.outcome).collect()
}

async fn names_that_lead_inside_are_blocked_once(mut stage: Stage) {
    let receiver = Receiver::start(Script::Reply(OK)).await;
    let zone: [(&str, &[&str]); 9] = [
        ("a.example", &["127.0.0.1"]),
        ("aaaa.example", &["::1"]),
        ("mapped.example", &["::ffff:127.0.0.1"]),
        ("nat64.example", &["64:ff9b::7f00:1"]),
        ("sixtofour.example", &["2002:7f00:1::"]),
        ("private.example", &["10.0.0.1", "192.168.0.1", "fd00::1"]),
        ("metadata.example", &["169.254.169.254"]),
        ("unspecified.example", &["0.0.0.0", "::"]),
        ("xn--bcher-kva.example", &["127.0.0.1"]),
    ];
    let names = Resolver::Fixed(Arc::new(move |asked| {
        let found = zone.iter().find(|(name, _)| *name == asked);
        found.map_or_else(Vec::new, |(_, addresses)| ips(addresses))
    }));
    start(&mut stage, guarded(&receiver, names));
    for (name, addresses) in zone {
        let endpoint = stage.endpoint(receiver.url(name).as_str()).await;
        let delivery = stage.webhook(endpoint).await;
        stage.drained().await;
        let attempts = stage.attempts(delivery).await;
        assert_eq!(attempts.len(), 1, "{name}: {attempts:?}");
        assert_eq!(attempts[0].outcome, "blocked", "{name}");
        let error = attempts[0].error.clone().unwrap_or_default();
        assert!(error.contains(name), "says which host: {error}");
        assert!(
            !addresses.iter().any(|address| error.contains(address)),
            "tells what it means inside: {error}"
        );
    }
    assert_eq!(receiver.connections().await, 0);
    assert_eq!(stage.letters().await.len(), zone.len());
    stage.stop().await;
}

/// A first try, on which nobody answers; and by the second the name means something else.
async fn a_name_that_changes_its_mind_is_blocked_then(mut stage: Stage) {
    let receiver = Receiver::start(Script::Reply(OK)).await;
    let asked = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&asked);
    let rebinding = Resolver::Fixed(Arc::new(move |_| -> Vec<IpAddr> {
        if counter.fetch_add(1, Ordering::SeqCst) == 0 { ips(&[NOWHERE]) } else { vec![LOOPBACK] }
    }));
    start(&mut stage, guarded(&receiver, rebinding));
    let endpoint = stage.endpoint(receiver.url("rebind.example").as_str()).await;
    let delivery = stage.webhook(endpoint).await;
    stage.drained().await;
    let outcomes = outcomes(&stage, delivery).await;
    assert_eq!(outcomes.len(), 2, "{outcomes:?}");
    assert!(matches!(outcomes[0].as_str(), "failed" | "timed_out"), "{outcomes:?}");
    assert_eq!(outcomes[1], "blocked");
    assert_eq!((asked.load(Ordering::SeqCst), receiver.connections().await), (2, 0));
    stage.stop().await;
}

/// Saved when the operator allowed more; judged by what is allowed now.
async fn settings_that_became_stricter_count(mut stage: Stage) {
    let receiver = Receiver::start(Script::Reply(OK)).await;
    start(&mut stage, guarded(&receiver, fixed(vec![LOOPBACK])));
    let port = receiver.port;
    for url in [
        format!("http://127.0.0.1:{port}/"),
        format!("http://[::1]:{port}/"),
        format!("http://localhost:{port}/"),
        format!("http://a.localhost.:{port}/"),
        format!("http://redis:{port}/"),
        format!("http://user@hook.example:{port}/"),
        "http://hook.example:5432/".to_owned(),
        "ftp://hook.example/".to_owned(),
    ] {
        let endpoint = stage.endpoint(&url).await;
        let delivery = stage.webhook(endpoint).await;
        stage.drained().await;
        assert_eq!(outcomes(&stage, delivery).await, ["blocked"], "{url}");
    }
    assert_eq!(receiver.connections().await, 0);
    stage.stop().await;
}

async fn redirects_inside_are_rejections(mut stage: Stage) {
    let trap = Receiver::start(Script::Reply(OK)).await;
    for status in [301, 302, 303, 307, 308] {
        let reply =
            format!("HTTP/1.1 {status} Moved\r\nLocation: {}\r\nContent-Length: 0\r\n\r\n", trap.url("a"));
        let receiver = Receiver::start(Script::Reply(reply.leak())).await;
        let both = Outbound { allow_private: true, ..outbound(&receiver, true) };
        start(&mut stage, GuardedClient::new(both, patient(), fixed(vec![LOOPBACK])).unwrap());
        let endpoint = stage.endpoint(receiver.url("hook.example").as_str()).await;
        let delivery = stage.webhook(endpoint).await;
        stage.drained().await;
        assert_eq!(outcomes(&stage, delivery).await, ["rejected"], "{status}");
        assert_eq!(receiver.connections().await, 1, "{status}");
        stage.stop().await;
    }
    assert_eq!(trap.connections().await, 0);
}
