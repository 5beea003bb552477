//! Fault proxies in front of the services.

use std::net::SocketAddr;

use taskpost_testkit::FaultProxy;
use url::Url;

use crate::services::{Service, variable};

/// One proxy for each of these services.
pub async fn start(services: &[Service]) -> Vec<(Service, FaultProxy)> {
    let mut proxies = Vec::new();
    for &service in services {
        let proxy = match service {
            Service::Kafka => {
                // Its clients go where it tells them to, so it has a listener that names the proxy's address.
                let both = variable("TASKPOST_TEST_KAFKA_PROXIED");
                let (listens, tells) = both.split_once(',').expect("two addresses");
                FaultProxy::listen(address(tells), address(listens)).await
            }
            Service::Postgres => FaultProxy::start(of_url("TASKPOST_TEST_POSTGRES_URL")).await,
            Service::Rabbitmq => FaultProxy::start(of_url("TASKPOST_TEST_RABBITMQ_URL")).await,
            Service::Redis => FaultProxy::start(of_url("TASKPOST_TEST_REDIS_URL")).await,
        };
        proxies.push((service, proxy));
    }
    proxies
}

/// The variable's value with the proxy's address instead of the service's own.
pub fn through(service: Service, direct: &str, proxy: &FaultProxy) -> String {
    let address = proxy.address();
    if service == Service::Kafka {
        return address.to_string();
    }
    let mut url: Url = direct.parse().expect("the variable is a URL");
    url.set_host(Some(&address.ip().to_string())).expect("a URL with a host");
    url.set_port(Some(address.port())).expect("a URL with a port");
    url.into()
}

fn of_url(name: &str) -> SocketAddr {
    let url: Url = variable(name).parse().unwrap_or_else(|error| panic!("{name}: {error}"));
    let found = url.socket_addrs(|| None).unwrap_or_else(|error| panic!("{name}: {error}"));
    *found.first().unwrap_or_else(|| panic!("{name}: no address"))
}

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
}
