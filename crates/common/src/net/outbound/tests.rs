use super::*;

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn guarded() -> Outbound {
    Outbound { allow_private: false, ports: vec![80, 443, 8080, 8443] }
}

#[test]
fn targets_are_judged_as_they_are_written() {
    for (code, targets) in REFUSED_TARGETS {
        for target in *targets {
            let refused = guarded().check_url(target).expect_err(target);
            assert_eq!(refused.code(), *code, "{target}: {refused}");
            assert!(refused.to_string().contains(';'), "says what to do: {refused}");
        }
    }
}

const REFUSED_TARGETS: &[(&str, &[&str])] = &[
    (
        "target_address",
        &[
            "http://127.0.0.1",
            "http://127.1",
            "http://2130706433",
            "http://0x7f.1",
            "http://0x7f000001",
            "http://0177.0.0.1",
            "http://0177.0.0.01:8080/x",
            "http://017700000001",
            "http://127.0.0.1.",
            "http://0",
            "http://0.0.0.0",
            "http://[::]",
            "http://[::1]",
            "http://[0:0:0:0:0:0:0:1]:443",
            "http://[::ffff:127.0.0.1]",
            "http://[::ffff:7f00:1]",
            "http://[::127.0.0.1]",
            "http://[fd00::1]",
            "http://[fe80::1]",
            "http://[64:ff9b::7f00:1]",
            "http://[2002:7f00:1::]",
            "http://[2001:0:53aa:64c::1]",
            "http://[3fff::1]",
            "http://[5f00::1]",
            "http://[ff02::1]",
            "http://169.254.169.254/latest/meta-data/",
            "http://0xa9fea9fe",
            "http://2852039166",
            "http://100.64.0.1",
            "http://10.1.2.3",
            "http://172.16.0.1",
            "http://192.168.0.1",
            "http://192.0.0.8",
            "http://198.18.0.1",
            "http://224.0.0.1",
            "http://240.0.0.1",
            "http://255.255.255.255",
            "http://127\u{3002}0\u{3002}0\u{3002}1",
            "http://127\u{ff0e}0\u{ff0e}0\u{ff0e}1",
            "http://\u{ff11}\u{ff12}\u{ff17}.0.0.1",
            "http://\u{2460}\u{2461}\u{2466}.0.0.1",
            "http://%31%32%37.0.0.1",
            "http:127.0.0.1",
            "http:///127.0.0.1",
            "HTTP://127.0.0.1/%2e%2e",
        ],
    ),
    (
        "target_local_name",
        &[
            "http://localhost",
            "http://localhost.",
            "http://LOCALHOST:8080",
            "http://a.localhost",
            "http://a.b.localhost./x",
            "http://loc%61lhost",
            "http://\u{24db}ocalhost",
            "http://localhost.localdomain",
            "http://printer.local",
            "http://metadata.google.internal/computeMetadata/v1/",
            "http://metadata.goog",
            "http://metadata",
            "http://instance-data",
            "http://redis:8080",
            "http://nas.lan",
            "http://router.home.arpa",
            "http://wiki.corp",
        ],
    ),
    (
        "url_userinfo",
        &[
            "http://user@example.com",
            "http://user:password@example.com",
            "http://:password@example.com",
            "http://@example.com",
            "http://example.com@127.0.0.1",
            "https:@example.com",
        ],
    ),
    (
        "url_fragment",
        &["http://example.com#@127.0.0.1", "http://example.com/#", "http://127.0.0.1#@example.com"],
    ),
    (
        "url_character",
        &[
            "http://example.com\\@127.0.0.1",
            "http:\\\\127.0.0.1",
            " http://example.com",
            "http://example.com/ ",
            "http://example.com/\r\nX: y",
            "http://127.0.0.1\t",
            "ht\ntp://127.0.0.1",
            "http://example.com/\u{0}",
            "http://example.com/\u{2028}",
            "http://example.com/\u{85}",
        ],
    ),
    (
        "url_scheme",
        &[
            "file:///etc/passwd",
            "gopher://127.0.0.1:6379/_x",
            "ftp://example.com",
            "ws://example.com",
            "javascript:alert(1)",
            "data:text/plain,x",
            "mailto:a@example.com",
            "unix:/run/x.sock",
        ],
    ),
    (
        "target_port",
        &[
            "http://example.com:22",
            "http://example.com:25",
            "https://example.com:5432",
            "http://example.com:6379",
            "http://example.com:0",
            "http://1.1.1.1:11211",
        ],
    ),
    (
        "url_malformed",
        &[
            "",
            "example.com",
            "//example.com",
            "http://",
            "http://?x",
            "http://example.com:99999",
            "http://256.0.0.1",
            "http://1.2.3.4.5",
            "http://[::1",
            "http://[fe80::1%25lo]",
            "http://exa<mple.com",
            "http://127.0.0.1%00.example.com",
        ],
    ),
    ("url_no_host", &["http://.", "http://a..example.com", "http://.example.com"]),
];

#[test]
fn public_targets_pass_and_are_normalised() {
    for (text, url) in [
        ("https://example.com", "https://example.com/"),
        ("HTTPS://EXAMPLE.COM:443/Hook?a=b#".trim_end_matches('#'), "https://example.com/Hook?a=b"),
        ("http://example.com:8080/x", "http://example.com:8080/x"),
        ("http://example.com./x", "http://example.com./x"),
        ("http://1.1/", "http://1.0.0.1/"),
        ("http://0x01010101", "http://1.1.1.1/"),
        ("http://[2606:4700::1111]/", "http://[2606:4700::1111]/"),
        ("https://b\u{fc}cher.example/\u{e4}", "https://xn--bcher-kva.example/%C3%A4"),
        ("https://localhost.example.com/@me", "https://localhost.example.com/@me"),
        ("https://notlocal.net?u=a@b", "https://notlocal.net/?u=a@b"),
    ] {
        assert_eq!(guarded().check_url(text).unwrap().as_str(), url);
    }
}

#[test]
fn length_counts_characters() {
    let url = |path: usize| format!("https://example.com/{}", "x".repeat(path));
    assert!(guarded().check_url(&url(Outbound::MAX_URL - 20)).is_ok());
    assert_eq!(guarded().check_url(&url(Outbound::MAX_URL - 19)), Err(TargetRefused::TooLong));
}

#[test]
fn an_intranet_allows_places_but_not_tricks() {
    let open = Outbound { allow_private: true, ports: vec![] };
    for text in
        ["http://127.1:9000", "http://localhost:1", "http://[::1]:5432", "http://redis", "http://a.internal"]
    {
        assert!(open.check_url(text).is_ok(), "{text}");
    }
    for text in ["http://u@127.0.0.1", "file:///x", "http://127.0.0.1/#", "http://127.0.0.1:0", "http://a\\b"]
    {
        assert!(open.check_url(text).is_err(), "{text}");
    }
    assert!(open.check_ip(ip("10.0.0.1")).is_ok());
    assert_eq!(guarded().check_ip(ip("10.0.0.1")), Err(TargetRefused::Address(ip("10.0.0.1"))));
}
