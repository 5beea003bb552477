//! Who sent a request.

use std::{
    net::{IpAddr, Ipv6Addr, SocketAddr},
    str::FromStr,
};

use ipnet::IpNet;

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
    /// further left is hearsay, whatever bytes it is. An entry that is no address ends the walk at the hop that reported
    /// it.
    pub fn client_ip<L: AsRef<[u8]>>(&self, peer: IpAddr, forwarded_for: impl Iterator<Item = L>) -> IpAddr {
        let mut client = peer.to_canonical();
        if !self.contains(client) {
            return client;
        }
        let lines: Vec<L> = forwarded_for.collect();
        for entry in lines.iter().rev().flat_map(|line| line.as_ref().rsplit(|byte| *byte == b',')) {
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

/// One entry of X-Forwarded-For: an address, with or without brackets and a port.
fn hop(entry: &[u8]) -> Option<IpAddr> {
    let entry = std::str::from_utf8(entry.trim_ascii()).ok()?;
    let bare = entry.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(entry);
    let ip = bare.parse().or_else(|_| entry.parse::<SocketAddr>().map(|address| address.ip()));
    ip.ok().map(|ip| ip.to_canonical())
}

#[cfg(test)]
mod tests;
