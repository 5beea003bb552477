//! A service somebody else runs, named by its variable.

use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::Service;

/// Fails when the address is not one of the service, or nobody answers there.
pub fn check(service: Service, url: &str) -> Result<()> {
    let address = address(service, url)?;
    let variable = service.variable();
    let hint = format!("start it, correct {variable}, or unset it to have one started");
    let mut hosts = address
        .to_socket_addrs()
        .with_context(|| format!("{variable} names {address}, which cannot be found; {hint}"))?;
    if hosts.any(|host| TcpStream::connect_timeout(&host, Duration::from_secs(5)).is_ok()) {
        return Ok(());
    }
    bail!("{variable} names {address}, where nobody answers; {hint}")
}

/// `host:port` of a URL. The URL itself is never shown: it may hold a password.
pub fn address(service: Service, url: &str) -> Result<String> {
    let (variable, schemes) = (service.variable(), service.schemes());
    if schemes.is_empty() {
        return first_of_list(service, url);
    }
    let rest = url.split_once("://").filter(|(scheme, _)| schemes.contains(scheme)).map(|(_, rest)| rest);
    let Some(rest) = rest else {
        bail!(
            "{variable} is set, but not to {}://…; correct it, or unset it to have one started",
            schemes[0]
        );
    };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    if host.is_empty() || host.starts_with(':') {
        bail!("{variable} names no host; write {}://user:password@host:port/name", schemes[0]);
    }
    let has_port = host.rsplit_once(':').is_some_and(|(_, port)| !port.contains(']'));
    Ok(if has_port { host.to_owned() } else { format!("{host}:{}", service.usual_port()) })
}

/// The first of a comma list of `host:port`; whoever uses it learns the others from it.
fn first_of_list(service: Service, list: &str) -> Result<String> {
    let first = list.split(',').next().unwrap_or_default().trim();
    let good =
        first.rsplit_once(':').is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok());
    if !good || first.contains('/') {
        let variable = service.variable();
        bail!("{variable} is set, but not to host:port,…; correct it, or unset it to have one started");
    }
    Ok(first.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_is_found_in_any_url_of_the_service() {
        let cases = [
            ("postgres://u:p@db:6000/x", "db:6000"),
            ("postgresql://db/x", "db:5432"),
            ("postgres://u:p@[::1]/x?sslmode=disable", "[::1]:5432"),
            ("postgres://u:p@[::1]:77", "[::1]:77"),
        ];
        for (url, expected) in cases {
            assert_eq!(address(Service::Postgres, url).unwrap(), expected);
        }
        assert_eq!(address(Service::Rabbitmq, "amqp://u:p@mq/%2f").unwrap(), "mq:5672");
        assert_eq!(address(Service::Redis, "rediss://:p@cache").unwrap(), "cache:6379");
        assert_eq!(address(Service::Kafka, "a:9092,b:9092").unwrap(), "a:9092");
    }

    #[test]
    fn an_error_names_the_variable_and_hides_the_password() {
        for url in ["sqlite://taskpost.db", "postgres:///x", "secret", "postgres://u:secret@127.0.0.1:1/x"] {
            let error = check(Service::Postgres, url).unwrap_err().to_string();
            assert!(error.contains("DATABASE_URL"), "{error}");
            assert!(!error.contains("secret"), "{error}");
        }
        for list in ["broker", "http://broker:9092", ":9092", "broker:port"] {
            let error = check(Service::Kafka, list).unwrap_err().to_string();
            assert!(error.contains("KAFKA_BROKERS"), "{error}");
        }
    }
}
