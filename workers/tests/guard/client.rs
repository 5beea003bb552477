//! Clients, and where they find names.

use std::{
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
    time::Duration,
};

use chrono::{DateTime, Utc};
use http::HeaderMap;
use taskpost_common::net::Outbound;
use taskpost_workers::channels::guard::{Answer, GuardedClient, Resolver, SendError, Timeouts};
use url::Url;

use crate::receiver::Receiver;

pub const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// Public by its form, but given back by its last owner (RFC 3701), so no packet arrives anywhere.
pub const NOWHERE: &str = "3ffe::1";

/// Every name has these addresses.
pub fn fixed(ips: Vec<IpAddr>) -> Resolver {
    Resolver::Fixed(Arc::new(move |_| ips.clone()))
}

pub fn ips(texts: &[&str]) -> Vec<IpAddr> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

/// A client that may dial the public internet, on the receiver's port.
pub fn guarded(receiver: &Receiver, names: Resolver) -> GuardedClient {
    GuardedClient::new(outbound(receiver, false), short(), names).unwrap()
}

/// A client that may dial everything, and finds every name on loopback.
pub fn open(receiver: &Receiver) -> GuardedClient {
    GuardedClient::new(outbound(receiver, true), patient(), fixed(vec![LOOPBACK])).unwrap()
}

/// The same in a hurry.
pub fn hurried(receiver: &Receiver) -> GuardedClient {
    GuardedClient::new(outbound(receiver, true), short(), fixed(vec![LOOPBACK])).unwrap()
}

pub fn outbound(receiver: &Receiver, allow_private: bool) -> Outbound {
    Outbound { allow_private, ports: vec![receiver.port] }
}

/// Deadlines that must not be reached.
pub fn patient() -> Timeouts {
    let minute = Duration::from_mins(1);
    Timeouts { resolve: minute, connect: minute, total: minute, idle: minute }
}

/// Deadlines that are.
pub fn short() -> Timeouts {
    let millis = Duration::from_millis;
    Timeouts { resolve: millis(500), connect: millis(500), total: millis(1_000), idle: millis(5_000) }
}

pub async fn post(client: &GuardedClient, url: &Url) -> Result<Answer, SendError> {
    let headers = HeaderMap::from_iter([("x-test".parse().unwrap(), "yes".parse().unwrap())]);
    let now: DateTime<Utc> = "2026-11-21T10:00:00Z".parse().unwrap();
    client.post(url, headers, "{}", now).await
}
