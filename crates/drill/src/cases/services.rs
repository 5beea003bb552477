//! What Taskpost stands on is killed, frozen, cut off, slow, restarted or out of room.

mod away;
pub(super) mod evidence;
mod network;
mod postgres;
mod redis;

use std::{collections::BTreeMap, time::Duration};

use crate::{
    case::{Case, Fault},
    expect::Expect,
    load::Pressure,
    services::Service,
    stack::{Options, Setup},
};

/// Those of this room.
pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for service in Service::ALL {
        cases.extend(away::cases(service));
        cases.extend(network::cases(service));
    }
    cases.extend(postgres::cases());
    cases.extend(redis::cases());
    cases
}

/// A case of the full product, which takes a service from everybody.
pub(super) fn shared(name: String, fault: Fault) -> Case {
    Case {
        name,
        setup: Setup::Full,
        short: false,
        apart: false,
        seeds: 1,
        // Slow enough for faults that last: what is taken must be delivered in the end.
        pressure: Pressure { clients: 8, pause: Duration::from_millis(60) },
        options: Box::new(|_| options(Vec::new())),
        fault,
        expect: Expect::default(),
    }
}

/// A case of the full product, which reaches this service through a proxy of its own.
fn proxied(service: Service, name: String, fault: Fault) -> Case {
    Case {
        // The address to which Kafka sends its clients is there once, and Redis is timed.
        apart: !matches!(service, Service::Kafka | Service::Redis),
        options: Box::new(move |_| options(vec![service])),
        ..shared(name, fault)
    }
}

fn options(proxied: Vec<Service>) -> Options {
    let variables = BTreeMap::from([("RETRY_DELAYS", "50ms,100ms,200ms,500ms,1s,1s,1s".to_owned())]);
    Options { variables, proxied, ..Options::default() }
}
