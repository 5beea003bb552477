use super::*;

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

#[test]
fn proxies_are_read() {
    let proxies: TrustedProxies = "10.0.0.0/8, ::1,192.168.1.7,".parse().unwrap();
    for (text, trusted) in [
        ("10.255.0.1", true),
        ("::ffff:10.0.0.1", true),
        ("::1", true),
        ("192.168.1.7", true),
        ("192.168.1.8", false),
        ("11.0.0.0", false),
        ("::2", false),
    ] {
        assert_eq!(proxies.contains(ip(text)), trusted, "{text}");
    }
    assert_eq!("".parse::<TrustedProxies>().unwrap(), TrustedProxies::default());
    for text in ["10.0.0.0/33", "proxy", "10.0.0.1-10.0.0.9", "10.0.0", "*"] {
        assert!(text.parse::<TrustedProxies>().is_err(), "{text}");
    }
}

#[test]
fn the_client_is_the_first_hop_nobody_vouches_for() {
    let proxies: TrustedProxies = "10.0.0.0/8,fd00::/8".parse().unwrap();
    let cases: &[(&str, &[&str], &str)] = &[
        ("203.0.113.5", &[], "203.0.113.5"),
        ("203.0.113.5", &["1.2.3.4"], "203.0.113.5"),
        ("::ffff:203.0.113.5", &["1.2.3.4"], "203.0.113.5"),
        ("10.0.0.1", &[], "10.0.0.1"),
        ("10.0.0.1", &["1.2.3.4"], "1.2.3.4"),
        ("::ffff:10.0.0.1", &["::ffff:1.2.3.4"], "1.2.3.4"),
        ("10.0.0.1", &["6.6.6.6, 1.2.3.4"], "1.2.3.4"),
        ("10.0.0.1", &["6.6.6.6,1.2.3.4,10.9.9.9"], "1.2.3.4"),
        ("10.0.0.1", &["6.6.6.6", "1.2.3.4", "10.9.9.9"], "1.2.3.4"),
        ("10.0.0.1", &["10.0.0.3,10.0.0.2"], "10.0.0.3"),
        ("10.0.0.1", &["6.6.6.6,unknown,10.9.9.9"], "10.9.9.9"),
        ("10.0.0.1", &["6.6.6.6,"], "10.0.0.1"),
        ("10.0.0.1", &["127.1"], "10.0.0.1"),
        ("10.0.0.1", &["1.2.3.4:5678"], "1.2.3.4"),
        ("10.0.0.1", &["[2606:4700::1]:80"], "2606:4700::1"),
        ("10.0.0.1", &["[2606:4700::1]"], "2606:4700::1"),
        ("fd00::1", &["2606:4700::1"], "2606:4700::1"),
        ("10.0.0.1", &["1.2.3.4:99999"], "10.0.0.1"),
        ("10.0.0.1", &["01.2.3.4"], "10.0.0.1"),
        ("10.0.0.1", &["fe80::1%eth0"], "10.0.0.1"),
        ("10.0.0.1", &["6.6.6.6,\"1.2.3.4\""], "10.0.0.1"),
        ("10.0.0.1", &["6.6.6.6;1.2.3.4"], "10.0.0.1"),
        ("10.0.0.1", &["\t 1.2.3.4 \t"], "1.2.3.4"),
    ];
    for (peer, lines, client) in cases {
        assert_eq!(proxies.client_ip(ip(peer), lines.iter()), ip(client), "{peer} {lines:?}");
    }
    assert_eq!(TrustedProxies::default().client_ip(ip("127.0.0.1"), ["1.2.3.4"].iter()), ip("127.0.0.1"));
}

/// What a stranger writes on the left must not make us forget what a proxy wrote on the right.
#[test]
fn hearsay_may_be_any_bytes() {
    let proxies: TrustedProxies = "10.0.0.0/8".parse().unwrap();
    let client = |line: &[u8]| proxies.client_ip(ip("10.0.0.1"), std::iter::once(line));
    for left in [&b"\xff"[..], b"\0", b"gr\xc3\xbcn", b",,,", b"6.6.6.6, 10.0.0.1"] {
        assert_eq!(client(&[left, b", 1.2.3.4"].concat()), ip("1.2.3.4"), "{left:?}");
    }
    let long = [vec![b','; 100_000], b"1.2.3.4, 10.0.0.2".to_vec()].concat();
    assert_eq!(client(&long), ip("1.2.3.4"));
    assert_eq!(client(&b"10.0.0.2,".repeat(10_000)), ip("10.0.0.1"));
    assert_eq!(client(b"\xff"), ip("10.0.0.1"));
}

#[test]
fn limits_count_households() {
    for (text, key) in [
        ("1.2.3.4", "1.2.3.4"),
        ("::ffff:1.2.3.4", "1.2.3.4"),
        ("2606:4700:1:2:3:4:5:6", "2606:4700:1:2::"),
        ("::1", "::"),
    ] {
        assert_eq!(rate_key(ip(text)), ip(key));
    }
}
