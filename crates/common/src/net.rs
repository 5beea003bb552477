//! Addresses: which may be dialled for a stranger, and whose request this is. Pure judgement; nothing here looks a name up.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    str::FromStr,
};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use url::{Host, Url};

/// Whether `ip` is an address of the public internet, safe to dial on behalf of a user.
///
/// Refuses every block of the IANA special-purpose registries (RFC 6890 and its updates), multicast, and each way of
/// writing an IPv4 address inside an IPv6 one: mapped (RFC 4291) and NAT64 (RFC 6052) are judged by what they embed;
/// compatible, 6to4, Teredo and the local NAT64 prefix (RFC 8215) are refused whatever they embed.
pub fn is_public(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(v4) => is_public_v4(v4),
        IpAddr::V6(v6) => match embedded_v4(v6) {
            Some(v4) => is_public_v4(v4),
            None => GLOBAL_V6.contains(&v6) && !REFUSED_V6.iter().any(|net| net.contains(&v6)),
        },
    }
}

/// What our own requests may be sent to when a user names the target, such as a webhook's URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outbound {
    /// Lets private addresses, local names and every port through; for tests and intranets.
    pub allow_private: bool,
    /// The TCP ports that may be dialled.
    pub ports: Vec<u16>,
}

impl Outbound {
    /// The longest URL taken, in characters.
    pub const MAX_URL: usize = 2_048;

    /// Reads a target as a user wrote it, when it is saved.
    ///
    /// The URL returned is normalised (WHATWG URL): every spelling of an IPv4 literal has become four decimal numbers, so
    /// keep it instead of the text. A name can point elsewhere later: [`Outbound::check_ip`] judges again when it is dialled.
    ///
    /// # Errors
    /// [`TargetRefused`] names the first thing that is not right.
    pub fn check_url(&self, text: &str) -> Result<Url, TargetRefused> {
        if text.chars().nth(Self::MAX_URL).is_some() {
            return Err(TargetRefused::TooLong);
        }
        if text.chars().any(|c| c.is_control() || c.is_whitespace() || c == '\\') {
            return Err(TargetRefused::Character);
        }
        let url = Url::parse(text)?;
        self.check_target(&url)?;
        // `http://@host` loses its empty user name in parsing.
        if authority(text).contains('@') {
            return Err(TargetRefused::UserInfo);
        }
        Ok(url)
    }

    /// Judges a URL that was read before, as each request does: settings may have changed since it was saved.
    ///
    /// # Errors
    /// [`TargetRefused`] names the first thing that is not right.
    pub fn check_target(&self, url: &Url) -> Result<(), TargetRefused> {
        if !matches!(url.scheme(), "http" | "https") {
            return Err(TargetRefused::Scheme(url.scheme().to_owned()));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(TargetRefused::UserInfo);
        }
        if url.fragment().is_some() {
            return Err(TargetRefused::Fragment);
        }
        match url.host().ok_or(TargetRefused::NoHost)? {
            Host::Ipv4(ip) => self.check_ip(ip.into())?,
            Host::Ipv6(ip) => self.check_ip(ip.into())?,
            Host::Domain(name) => self.check_name(name)?,
        }
        self.check_port(url.port_or_known_default().unwrap_or(0))
    }

    /// Judges an address that is about to be dialled.
    ///
    /// # Errors
    /// [`TargetRefused::Address`] when it is not public and private ones are not allowed.
    pub fn check_ip(&self, ip: IpAddr) -> Result<(), TargetRefused> {
        if self.allow_private || is_public(ip) { Ok(()) } else { Err(TargetRefused::Address(ip)) }
    }

    fn check_name(&self, name: &str) -> Result<(), TargetRefused> {
        let bare = name.strip_suffix('.').unwrap_or(name);
        if bare.is_empty() || bare.starts_with('.') || bare.contains("..") {
            return Err(TargetRefused::NoHost);
        }
        if !self.allow_private && is_local_name(bare) {
            return Err(TargetRefused::LocalName(bare.to_owned()));
        }
        Ok(())
    }

    fn check_port(&self, port: u16) -> Result<(), TargetRefused> {
        if port != 0 && (self.allow_private || self.ports.contains(&port)) {
            return Ok(());
        }
        Err(TargetRefused::Port { port, allowed: self.ports.clone() })
    }
}

/// Why a target is not dialled. Its text is a sentence for the user who named it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TargetRefused {
    /// Longer than [`Outbound::MAX_URL`].
    #[error("the URL is too long; use at most 2048 characters")]
    TooLong,
    /// White space, a control character or a backslash.
    #[error("the URL holds a space, a control character or a backslash; percent-encode it")]
    Character,
    /// No URL at all.
    #[error("this is not a URL ({0}); write it out, such as https://example.com/hook")]
    Malformed(#[from] url::ParseError),
    /// Neither http nor https.
    #[error("the scheme {0:?} is not supported; use https or http")]
    Scheme(String),
    /// A user name or a password in it.
    #[error("the URL holds a user name or password; remove everything up to the @")]
    UserInfo,
    /// A part behind `#`.
    #[error("the URL has a fragment, which is never sent; remove the # and what follows")]
    Fragment,
    /// No host, or an empty label in it.
    #[error("the URL names no host; write it out, such as https://example.com/hook")]
    NoHost,
    /// A name that only means something on the local network.
    #[error(
        "the host {0:?} is a local name; use a host that is public, or let the operator set WEBHOOK_ALLOW_PRIVATE"
    )]
    LocalName(String),
    /// An address that is not public.
    #[error(
        "the address {0} is not public; use a host that is, or let the operator set WEBHOOK_ALLOW_PRIVATE"
    )]
    Address(IpAddr),
    /// A name whose addresses are all not public.
    #[error(
        "the host {host:?} points to {ip}, which is not public; use a host that is, or let the operator set WEBHOOK_ALLOW_PRIVATE"
    )]
    Resolved {
        /// The name looked up.
        host: String,
        /// The first address it gave.
        ip: IpAddr,
    },
    /// A port that is not on the list.
    #[error(
        "the port {port} is not allowed; use one of {allowed:?}, or let the operator extend WEBHOOK_PORTS"
    )]
    Port {
        /// The port asked for.
        port: u16,
        /// The ports that may be dialled.
        allowed: Vec<u16>,
    },
}

impl TargetRefused {
    /// A word for programs; stays the same when the sentence changes.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::TooLong => "url_too_long",
            Self::Character => "url_character",
            Self::Malformed(_) => "url_malformed",
            Self::Scheme(_) => "url_scheme",
            Self::UserInfo => "url_userinfo",
            Self::Fragment => "url_fragment",
            Self::NoHost => "url_no_host",
            Self::LocalName(_) => "target_local_name",
            Self::Address(_) => "target_address",
            Self::Resolved { .. } => "target_resolved",
            Self::Port { .. } => "target_port",
        }
    }
}

/// The proxies whose X-Forwarded-For is believed: addresses and networks, separated by commas. Empty: nobody's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TrustedProxies(Vec<IpNet>);

/// Why a text is no list of proxies.
#[derive(Debug, thiserror::Error)]
#[error("expected addresses or networks separated by commas, such as 10.0.0.0/8,::1; {0:?} is neither")]
pub struct InvalidProxies(String);

impl TrustedProxies {
    /// Whether `ip` is one of them.
    pub fn contains(&self, ip: IpAddr) -> bool {
        let ip = ip.to_canonical();
        self.0.iter().any(|net| net.contains(&ip))
    }

    /// Who sent a request that came in from `peer`; `forwarded_for` is each X-Forwarded-For line in order.
    ///
    /// Walks the hops from the right and stops at the first one that is not trusted, which is the client: what stands
    /// further left is hearsay. An entry that is no address ends the walk at the hop that reported it.
    pub fn client_ip<'a>(&self, peer: IpAddr, forwarded_for: impl Iterator<Item = &'a str>) -> IpAddr {
        let mut client = peer.to_canonical();
        if !self.contains(client) {
            return client;
        }
        let lines: Vec<&str> = forwarded_for.collect();
        for entry in lines.iter().rev().flat_map(|line| line.rsplit(',')) {
            let Some(hop) = hop(entry) else { break };
            client = hop;
            if !self.contains(client) {
                break;
            }
        }
        client
    }
}

impl FromStr for TrustedProxies {
    type Err = InvalidProxies;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let entries = text.split(',').map(str::trim);
        let networks = entries.filter(|entry| !entry.is_empty()).map(|entry| {
            let network =
                entry.parse().or_else(|_| entry.parse::<IpAddr>().map(|ip| IpNet::from(ip.to_canonical())));
            network.map_err(|_| InvalidProxies(entry.to_owned()))
        });
        networks.collect::<Result<_, _>>().map(Self)
    }
}

/// What one client counts as in a limit: its IPv4 address, or its IPv6 network of 64 bits, as one household gets
/// at least that many (RFC 6177).
pub fn rate_key(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V4(v4) => v4.into(),
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() & NETWORK_64).into(),
    }
}

const NETWORK_64: u128 = !(u64::MAX as u128);

/// Global unicast, the only part of IPv6 handed out so far (RFC 4291, section 2.4).
const GLOBAL_V6: Ipv6Net = v6([0x2000, 0, 0, 0], 3);

/// NAT64 with the well-known prefix (RFC 6052).
const NAT64: Ipv6Net = v6([0x64, 0xff9b, 0, 0], 96);

/// IANA IPv4 Special-Purpose Address Registry, multicast, and the one public address that clouds use inside.
const REFUSED_V4: [Ipv4Net; 19] = [
    v4([0, 0, 0, 0], 8),        // this network
    v4([10, 0, 0, 0], 8),       // private
    v4([100, 64, 0, 0], 10),    // carrier-grade NAT
    v4([127, 0, 0, 0], 8),      // loopback
    v4([168, 63, 129, 16], 32), // Azure's metadata and DNS host
    v4([169, 254, 0, 0], 16),   // link-local, metadata
    v4([172, 16, 0, 0], 12),    // private
    v4([192, 0, 0, 0], 24),     // protocol assignments
    v4([192, 0, 2, 0], 24),     // documentation
    v4([192, 31, 196, 0], 24),  // AS112
    v4([192, 52, 193, 0], 24),  // AMT
    v4([192, 88, 99, 0], 24),   // 6to4 relay
    v4([192, 168, 0, 0], 16),   // private
    v4([192, 175, 48, 0], 24),  // AS112
    v4([198, 18, 0, 0], 15),    // benchmarking
    v4([198, 51, 100, 0], 24),  // documentation
    v4([203, 0, 113, 0], 24),   // documentation
    v4([224, 0, 0, 0], 4),      // multicast
    v4([240, 0, 0, 0], 4),      // reserved, broadcast
];

/// The rows of the IANA IPv6 Special-Purpose Address Registry that lie in global unicast; the rest is out of it.
const REFUSED_V6: [Ipv6Net; 5] = [
    v6([0x2001, 0, 0, 0], 23),     // protocol assignments: Teredo, benchmarking, ORCHID
    v6([0x2001, 0xdb8, 0, 0], 32), // documentation
    v6([0x2002, 0, 0, 0], 16),     // 6to4
    v6([0x2620, 0x4f, 0x8000, 0], 48), // AS112
    v6([0x3fff, 0, 0, 0], 20),     // documentation
];

/// Endings that belong to a host or a local network: RFC 6761, 6762, 8375, 7686, and ICANN's list of name collisions.
const LOCAL_ENDINGS: [&str; 11] = [
    "localhost",
    "localdomain",
    "local",
    "internal",
    "intranet",
    "private",
    "corp",
    "home",
    "lan",
    "home.arpa",
    "onion",
];

/// Public-looking names of cloud metadata services; the others end in `.internal` or have no dot.
const METADATA_NAMES: [&str; 1] = ["metadata.goog"];

const fn v4([a, b, c, d]: [u8; 4], prefix: u8) -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), prefix)
}

const fn v6([a, b, c, d]: [u16; 4], prefix: u8) -> Ipv6Net {
    Ipv6Net::new_assert(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0), prefix)
}

fn is_public_v4(ip: Ipv4Addr) -> bool {
    !REFUSED_V4.iter().any(|net| net.contains(&ip))
}

/// The IPv4 address a packet to `ip` would reach.
fn embedded_v4(ip: Ipv6Addr) -> Option<Ipv4Addr> {
    let [.., a, b, c, d] = ip.octets();
    ip.to_ipv4_mapped().or_else(|| NAT64.contains(&ip).then(|| Ipv4Addr::new(a, b, c, d)))
}

/// A name without a dot is completed by the resolver's search list, so it is local too.
fn is_local_name(name: &str) -> bool {
    !name.contains('.')
        || METADATA_NAMES.contains(&name)
        || LOCAL_ENDINGS.iter().any(|zone| name.strip_suffix(zone).is_some_and(|front| front.ends_with('.')))
}

/// The part of `url` between its slashes, where the host stands.
fn authority(url: &str) -> &str {
    let behind_scheme = url.split_once(':').map_or(url, |(_, rest)| rest);
    behind_scheme.trim_start_matches('/').split(['/', '?', '#']).next().unwrap_or("")
}

/// One entry of X-Forwarded-For: an address, with or without brackets and a port.
fn hop(entry: &str) -> Option<IpAddr> {
    let entry = entry.trim();
    let bare = entry.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(entry);
    let ip = bare.parse().or_else(|_| entry.parse::<SocketAddr>().map(|address| address.ip()));
    ip.ok().map(|ip| ip.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn guarded() -> Outbound {
        Outbound { allow_private: false, ports: vec![80, 443, 8080, 8443] }
    }

    #[test]
    fn only_the_public_internet_is_public() {
        for text in [
            "1.1.1.1",
            "8.8.8.8",
            "93.184.216.34",
            "100.63.255.255",
            "100.128.0.0",
            "172.15.255.255",
            "172.32.0.1",
            "192.0.1.1",
            "198.17.255.255",
            "198.20.0.0",
            "223.255.255.255",
            "2606:4700::1111",
            "2a00:1450:4001:80b::200e",
            "2001:4860:4860::8888",
            "::ffff:8.8.8.8",
            "64:ff9b::808:808",
        ] {
            assert!(is_public(ip(text)), "{text}");
        }
        for text in [
            "0.0.0.0",
            "0.1.2.3",
            "10.0.0.1",
            "10.255.255.255",
            "100.64.0.1",
            "100.100.100.200",
            "100.127.255.255",
            "127.0.0.1",
            "127.255.255.254",
            "168.63.129.16",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.1",
            "192.0.0.192",
            "192.0.2.1",
            "192.31.196.1",
            "192.52.193.1",
            "192.88.99.1",
            "192.168.1.1",
            "192.175.48.1",
            "198.18.0.1",
            "198.19.255.255",
            "198.51.100.7",
            "203.0.113.9",
            "224.0.0.1",
            "239.255.255.255",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::7f00:1",
            "::8.8.8.8",
            "::ffff:127.0.0.1",
            "::ffff:169.254.169.254",
            "::ffff:0:127.0.0.1",
            "64:ff9b::7f00:1",
            "64:ff9b::a00:1",
            "64:ff9b:1::808:808",
            "64:ff9b:1:ffff::1",
            "100::1",
            "100:0:0:1::1",
            "2001::1",
            "2001:2::1",
            "2001:10::1",
            "2001:20::1",
            "2001:db8::1",
            "2002:7f00:1::",
            "2002:808:808::1",
            "2620:4f:8000::1",
            "3fff::1",
            "4000::1",
            "5f00::1",
            "fc00::1",
            "fd00::1",
            "fd00:ec2::254",
            "fe80::1",
            "febf::1",
            "fec0::1",
            "ff02::1",
            "ff0e::1",
        ] {
            assert!(!is_public(ip(text)), "{text}");
        }
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
        for text in [
            "http://127.1:9000",
            "http://localhost:1",
            "http://[::1]:5432",
            "http://redis",
            "http://a.internal",
        ] {
            assert!(open.check_url(text).is_ok(), "{text}");
        }
        for text in
            ["http://u@127.0.0.1", "file:///x", "http://127.0.0.1/#", "http://127.0.0.1:0", "http://a\\b"]
        {
            assert!(open.check_url(text).is_err(), "{text}");
        }
        assert!(open.check_ip(ip("10.0.0.1")).is_ok());
        assert_eq!(guarded().check_ip(ip("10.0.0.1")), Err(TargetRefused::Address(ip("10.0.0.1"))));
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
        ];
        for (peer, lines, client) in cases {
            assert_eq!(proxies.client_ip(ip(peer), lines.iter().copied()), ip(client), "{peer} {lines:?}");
        }
        assert_eq!(
            TrustedProxies::default().client_ip(ip("127.0.0.1"), ["1.2.3.4"].into_iter()),
            ip("127.0.0.1")
        );
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
}
