//! Server-side request forgery: whatever a name says and an answer asks for, what is dialled is public.

use std::{
    net::IpAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use taskpost_common::net::TargetRefused;
use taskpost_workers::channels::guard::{GuardedClient, Resolver, SendError};
use url::Url;

use crate::{
    client::{LOOPBACK, NOWHERE, fixed, guarded, ips, open, outbound, patient, post},
    receiver::{OK, Receiver, Script},
};

#[tokio::test]
async fn literals_are_never_dialled() {
    let receiver = Receiver::start(Script::Reply(OK)).await;
    let client = guarded(&receiver, Resolver::System);
    for host in [
        "127.0.0.1",
        "127.1",
        "127.0.0.1.",
        "2130706433",
        "0x7f.1",
        "0177.0.0.1",
        "0.0.0.0",
        "0",
        "[::]",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "[::127.0.0.1]",
        "[64:ff9b::127.0.0.1]",
        "[2002:7f00:1::]",
        "[fd00::1]",
        "169.254.169.254",
    ] {
        let url: Url = format!("http://{host}:{}/", receiver.port).parse().unwrap();
        let refused = post(&client, &url).await.unwrap_err();
        assert!(matches!(refused, SendError::Blocked(TargetRefused::Address(_))), "{host}: {refused:?}");
    }
    assert_eq!(receiver.connections().await, 0);
}

/// Names that lead inside, by A, by AAAA, and by every way to write one in the other.
#[tokio::test]
async fn names_are_judged_by_the_address_dialled() {
    let receiver = Receiver::start(Script::Reply(OK)).await;
    for inside in [
        "127.0.0.1",
        "127.255.255.254",
        "0.0.0.0",
        "10.0.0.1",
        "172.16.0.1",
        "192.168.0.1",
        "100.64.0.1",
        "169.254.169.254",
        "168.63.129.16",
        "192.0.0.192",
        "198.18.0.1",
        "224.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "::7f00:1",
        "::ffff:127.0.0.1",
        "::ffff:10.0.0.1",
        "::ffff:169.254.169.254",
        "64:ff9b::7f00:1",
        "64:ff9b::a9fe:a9fe",
        "64:ff9b:1::7f00:1",
        "2002:7f00:1::",
        "2001:0:7f00:1::",
        "fe80::1",
        "fc00::1",
        "fd00:ec2::254",
        "fec0::1",
        "ff02::1",
        "2001:db8::1",
    ] {
        for host in ["inside.example", "INSIDE.Example.", "b\u{fc}cher.example", "a_b.c-d.example"] {
            let url = receiver.url(host);
            let refused = post(&guarded(&receiver, fixed(ips(&[inside]))), &url).await.unwrap_err();
            let SendError::Blocked(TargetRefused::Resolved { ip, .. }) = &refused else {
                panic!("{host} at {inside}: {refused:?}")
            };
            assert_eq!(*ip, ips(&[inside])[0]);
            assert!(!refused.to_string().contains(inside), "tells what a name means inside: {refused}");
        }
    }
    assert_eq!(receiver.connections().await, 0);
}

#[tokio::test]
async fn a_system_name_for_loopback_is_blocked() {
    let receiver = Receiver::start(Script::Reply(OK)).await;
    for host in
        ["localhost", "LOCALHOST", "localhost.", "a.b.localhost", "localhost.localdomain", "ip6-localhost"]
    {
        let refused = post(&guarded(&receiver, Resolver::System), &receiver.url(host)).await.unwrap_err();
        assert!(matches!(refused, SendError::Blocked(TargetRefused::LocalName(_))), "{host}: {refused:?}");
    }
    assert_eq!(receiver.connections().await, 0);
}

#[tokio::test]
async fn mixed_records_dial_only_the_public_ones() {
    let receiver = Receiver::start(Script::Reply(OK)).await;
    for mixed in [
        &["127.0.0.1", NOWHERE][..],
        &[NOWHERE, "127.0.0.1"],
        &["127.0.0.1", NOWHERE, "::1", "10.0.0.1"],
        &["::ffff:127.0.0.1", "::1", NOWHERE],
    ] {
        let client = guarded(&receiver, fixed(ips(mixed)));
        let outcome = post(&client, &receiver.url("mixed.example")).await;
        assert!(matches!(outcome, Err(SendError::Connect(_) | SendError::Timeout)), "{mixed:?}: {outcome:?}");
    }
    assert_eq!(receiver.connections().await, 0);
}

/// A resolver whose answers come in turn, the last one again and again; counts how often it is asked.
fn in_turn(answers: Vec<Vec<IpAddr>>) -> (Resolver, Arc<AtomicUsize>) {
    let asked = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&asked);
    let turns = move |_: &str| {
        let turn = counter.fetch_add(1, Ordering::SeqCst);
        answers[turn.min(answers.len() - 1)].clone()
    };
    (Resolver::Fixed(Arc::new(turns)), asked)
}

#[tokio::test]
async fn rebinding_after_the_first_answer_gains_nothing() {
    let receiver = Receiver::start(Script::Reply(OK)).await;
    for inside in ["127.0.0.1", "::1", "::ffff:127.0.0.1", "64:ff9b::7f00:1"] {
        let (rebinding, asked) = in_turn(vec![ips(&[NOWHERE]), ips(&[inside])]);
        let client = guarded(&receiver, rebinding);
        let first = post(&client, &receiver.url("rebind.example")).await.unwrap_err();
        assert!(matches!(first, SendError::Connect(_) | SendError::Timeout), "{first:?}");
        for _ in 0..3 {
            let next = post(&client, &receiver.url("rebind.example")).await.unwrap_err();
            assert!(matches!(next, SendError::Blocked(TargetRefused::Resolved { .. })), "{next:?}");
        }
        assert_eq!(asked.load(Ordering::SeqCst), 4, "each dial asks once, and dials what it was told");
    }
    assert_eq!(receiver.connections().await, 0);
}

/// What a name server follows for us (CNAME) ends in addresses, and these are judged.
#[tokio::test]
async fn an_alias_of_an_inside_name_is_judged_by_its_end() {
    let receiver = Receiver::start(Script::Reply(OK)).await;
    let zone = |name: &str| match name {
        "hook.example" => Some("cdn.example"),
        "cdn.example" => Some("db.internal"),
        _ => None,
    };
    let names = Resolver::Fixed(Arc::new(move |name| {
        let mut name = name;
        while let Some(target) = zone(name) {
            name = target;
        }
        if name == "db.internal" { vec![LOOPBACK] } else { Vec::new() }
    }));
    let client = guarded(&receiver, names);
    for host in ["hook.example", "cdn.example"] {
        let refused = post(&client, &receiver.url(host)).await.unwrap_err();
        assert!(matches!(refused, SendError::Blocked(TargetRefused::Resolved { .. })), "{host}: {refused:?}");
    }
    let refused = post(&client, &receiver.url("db.internal")).await.unwrap_err();
    assert!(matches!(refused, SendError::Blocked(TargetRefused::LocalName(_))), "{refused:?}");
    assert_eq!(receiver.connections().await, 0);
}

/// A connection is found again under its own name only, and its name is not asked for meanwhile.
#[tokio::test]
async fn a_kept_connection_leads_where_it_was_judged_to() {
    let (first, second) =
        (Receiver::start(Script::Reply(OK)).await, Receiver::start(Script::Reply(OK)).await);
    let asked = Arc::new(Mutex::new(Vec::new()));
    let names = Arc::clone(&asked);
    let resolver = Resolver::Fixed(Arc::new(move |name| {
        names.lock().unwrap().push(name.to_owned());
        vec![LOOPBACK]
    }));
    let client = GuardedClient::new(outbound(&first, true), patient(), resolver).unwrap();
    for url in [
        first.url("a.example"),
        first.url("a.example"),
        first.url("b.example"),
        first.url("b.example"),
        second.url("a.example"),
        first.url("a.example"),
    ] {
        assert_eq!(post(&client, &url).await.unwrap().status, 200);
    }
    assert_eq!(*asked.lock().unwrap(), ["a.example", "b.example", "a.example"]);
    assert_eq!((first.connections().await, second.connections().await), (2, 1));
}

/// A receiver that hangs up must be dialled again, and by then its name may mean something else.
#[tokio::test]
async fn a_name_is_judged_again_when_its_connection_is_gone() {
    let receiver = Receiver::start(Script::Reply(OK)).await;
    let (rebinding, asked) = in_turn(vec![ips(&["10.0.0.1"])]);
    let client = guarded(&receiver, rebinding);
    for turn in 1..=3 {
        let refused = post(&client, &receiver.url("hook.example")).await.unwrap_err();
        assert!(matches!(refused, SendError::Blocked(_)), "{refused:?}");
        assert_eq!(asked.load(Ordering::SeqCst), turn, "a refusal is not remembered either");
    }
}

#[tokio::test]
async fn ports_schemes_and_user_names_are_judged_again_when_sending() {
    let receiver = Receiver::start(Script::Reply(OK)).await;
    let client = guarded(&receiver, fixed(vec![LOOPBACK]));
    let own = format!("http://u@a.example:{}/", receiver.port);
    for (url, code) in [
        ("http://a.example:22/", "target_port"),
        ("http://a.example:25/", "target_port"),
        ("http://a.example:80/", "target_port"),
        ("https://a.example/", "target_port"),
        ("http://a.example:5432/", "target_port"),
        ("http://a.example:0/", "target_port"),
        ("ftp://a.example/", "url_scheme"),
        ("gopher://a.example/", "url_scheme"),
        ("file:///etc/passwd", "url_scheme"),
        ("ws://a.example/", "url_scheme"),
        ("http://u:p@a.example/", "url_userinfo"),
        ("http://127.0.0.1@a.example/", "url_userinfo"),
        (&own, "url_userinfo"),
        ("http://a.example/#b", "url_fragment"),
    ] {
        let Err(SendError::Blocked(refused)) = post(&client, &url.parse().unwrap()).await else {
            panic!("{url}")
        };
        assert_eq!(refused.code(), code, "{url}");
    }
    assert_eq!(receiver.connections().await, 0);
}

/// A redirect, and whatever else might send a client elsewhere, is an answer.
#[tokio::test]
async fn nothing_that_is_answered_is_followed() {
    let trap = Receiver::start(Script::Reply(OK)).await;
    let inside = trap.url("127.0.0.1");
    let service = format!("h2=\"127.0.0.1:{0}\"; ma=3600, h3=\":{0}\"", trap.port);
    for (status, header, value) in [
        (300, "Location", inside.as_str()),
        (301, "Location", inside.as_str()),
        (302, "Location", inside.as_str()),
        (303, "Location", inside.as_str()),
        (305, "Location", inside.as_str()),
        (307, "Location", inside.as_str()),
        (308, "Location", inside.as_str()),
        (308, "Location", "//127.0.0.1/"),
        (302, "Location", "file:///etc/passwd"),
        (302, "Location", "/elsewhere"),
        (201, "Location", inside.as_str()),
        (200, "Refresh", inside.as_str()),
        (200, "Content-Location", inside.as_str()),
        (200, "Link", inside.as_str()),
        (200, "Alt-Svc", service.as_str()),
        (421, "Alt-Svc", service.as_str()),
        (401, "WWW-Authenticate", "Basic realm=\"a\""),
        (407, "Proxy-Authenticate", "Basic realm=\"a\""),
    ] {
        let reply = format!("HTTP/1.1 {status} Said\r\n{header}: {value}\r\nContent-Length: 0\r\n\r\n");
        let receiver = Receiver::start(Script::Reply(reply.leak())).await;
        let client = open(&receiver);
        for _ in 0..2 {
            assert_eq!(
                post(&client, &receiver.url("hook.example")).await.unwrap().status,
                status,
                "{header}"
            );
        }
        assert_eq!(receiver.connections().await, 1, "{status} {header}");
    }
    assert_eq!(trap.connections().await, 0);
}
