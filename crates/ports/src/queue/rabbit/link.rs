//! A connection to the broker: made within a deadline, with a socket that is ours to cut, and never recovered.
//!
//! lapin gives up a connection only when its peer answers or its heartbeat ends, neither of which comes while a login
//! hangs: without the socket each attempt at a silent broker would leave a thread behind.

use std::{
    io,
    net::{Shutdown, SocketAddr, TcpStream},
    os::fd::AsFd,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures::Stream;
use lapin::{
    AsyncTcpStream, Channel, Connection, ConnectionProperties, Event, runtime,
    tcp::OwnedTLSConfig,
    uri::{AMQPScheme, AMQPUri},
};
use secrecy::{ExposeSecret, SecretString};
use tokio::time::timeout;
use url::{Host, Url};

use super::trouble::Trouble;

/// How long connecting and logging in may take.
const CONNECT: Duration = Duration::from_secs(5);
/// How long the broker may take for one answer.
pub(super) const ANSWER: Duration = Duration::from_secs(10);
/// How long saying goodbye may take.
const GOODBYE: Duration = Duration::from_millis(500);
/// How often either side shows that it is there; a peer that is silent for twice as long is gone.
const HEARTBEAT_SECONDS: u16 = 10;

/// Where the broker is, and who we are there.
#[derive(Clone)]
pub(super) struct Address {
    uri: AMQPUri,
    instance: String,
}

/// A URL of a broker that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("RABBITMQ_URL: expected amqp://user:password@host:port/vhost, and in vhost %2f for /")]
pub struct InvalidRabbitmqUrl;

impl Address {
    pub(super) fn parse(url: &SecretString, instance: &str) -> Result<Self, InvalidRabbitmqUrl> {
        let url = url.expose_secret();
        let mut uri: AMQPUri = url.parse().map_err(|_| InvalidRabbitmqUrl)?;
        // lapin takes such a host for none and dials localhost.
        if let Some(Host::Ipv6(address)) = Url::parse(url).map_err(|_| InvalidRabbitmqUrl)?.host() {
            uri.authority.host = address.to_string();
        }
        // To AMQP, `host/` is a virtual host without a name, which nobody has.
        if uri.vhost.is_empty() {
            "/".clone_into(&mut uri.vhost);
        }
        uri.query.heartbeat.get_or_insert(HEARTBEAT_SECONDS);
        Ok(Self { uri, instance: instance.to_owned() })
    }

    /// A new connection; the broker shows it as `INSTANCE` and what it is for.
    pub(super) async fn connect(&self, what_for: &str) -> Result<Link, Trouble> {
        let socket = CutWhenDropped::default();
        let wire = Arc::clone(&socket.0);
        let name = format!("{} {what_for} (process {})", self.instance, std::process::id());
        let properties = ConnectionProperties::default().with_connection_name(name.into());
        let runtime = runtime::default_runtime().map_err(|error| Trouble::Broken(error.to_string()))?;
        let opening = Connection::connector(
            self.uri.clone(),
            runtime,
            async move |uri: AMQPUri, runtime| {
                let stream = within(CONNECT, AsyncTcpStream::connect(&runtime, resolve(&uri).await?)).await?;
                if let AsyncTcpStream::Plain(tcp) = &stream {
                    wire.remember(tcp.get_ref())?;
                }
                Ok(match uri.scheme {
                    AMQPScheme::AMQP => stream,
                    AMQPScheme::AMQPS => {
                        stream.into_tls(&uri.authority.host, OwnedTLSConfig::default().as_ref()).await?
                    }
                })
            },
            properties,
        );
        match timeout(CONNECT, opening).await {
            Ok(Ok(connection)) => Ok(Link { connection, socket }),
            Ok(Err(error)) => Err(Trouble::of_login(&error, &self.uri.vhost)),
            Err(_) => Err(Trouble::Late("logging in")),
        }
    }
}

async fn resolve(uri: &AMQPUri) -> io::Result<Vec<SocketAddr>> {
    let target = (uri.authority.host.as_str(), uri.authority.port);
    Ok(within(CONNECT, tokio::net::lookup_host(target)).await?.collect())
}

async fn within<T>(deadline: Duration, work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    timeout(deadline, work).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

/// A connection. When it is dropped its socket is cut, and what was under way on it fails.
pub(super) struct Link {
    connection: Connection,
    socket: CutWhenDropped,
}

impl Link {
    /// A new channel.
    pub(super) async fn channel(&self) -> Result<Channel, Trouble> {
        answered("opening a channel", self.connection.create_channel()).await
    }

    /// What the broker says of the connection.
    pub(super) fn events(&self) -> impl Stream<Item = Event> + Send {
        self.connection.events_listener()
    }

    /// Whether it stands, as far as is known.
    pub(super) fn stands(&self) -> bool {
        self.connection.status().connected()
    }

    /// Whether the broker reads nothing from it for want of memory or disk.
    pub(super) fn blocked(&self) -> bool {
        self.connection.status().blocked()
    }

    /// Says goodbye, and cuts the connection whatever comes of that.
    pub(super) async fn close(&self) {
        let _ = timeout(GOODBYE, self.connection.close(200, "OK".into())).await;
        self.socket.0.cut();
    }
}

/// What the broker answers to one question, in time.
pub(super) async fn answered<T>(
    question: &'static str,
    work: impl Future<Output = lapin::Result<T>>,
) -> Result<T, Trouble> {
    match timeout(ANSWER, work).await {
        Ok(answer) => answer.map_err(|error| Trouble::of_work(&error)),
        Err(_) => Err(Trouble::Late(question)),
    }
}

#[derive(Debug, Default)]
struct Socket(Mutex<Wire>);

#[derive(Debug, Default)]
enum Wire {
    #[default]
    NotYet,
    Open(TcpStream),
    Cut,
}

impl Socket {
    fn remember(&self, tcp: &impl AsFd) -> io::Result<()> {
        let mut wire = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if matches!(*wire, Wire::Cut) {
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        *wire = Wire::Open(tcp.as_fd().try_clone_to_owned()?.into());
        Ok(())
    }

    fn cut(&self) {
        let mut wire = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Wire::Open(tcp) = std::mem::replace(&mut *wire, Wire::Cut) {
            // It may be closed already.
            let _ = tcp.shutdown(Shutdown::Both);
        }
    }
}

#[derive(Debug, Default)]
struct CutWhenDropped(Arc<Socket>);

impl Drop for CutWhenDropped {
    fn drop(&mut self) {
        self.0.cut();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(url: &str) -> Result<Address, InvalidRabbitmqUrl> {
        Address::parse(&SecretString::from(url), "taskpost")
    }

    #[test]
    fn a_url_says_where_the_broker_is() {
        for (url, host, port, vhost) in [
            ("amqp://localhost", "localhost", 5672, "/"),
            ("amqp://localhost/", "localhost", 5672, "/"),
            ("amqp://u:p@10.0.0.1:7000/%2f", "10.0.0.1", 7000, "/"),
            ("amqps://u:p@mq.example.org/tasks", "mq.example.org", 5671, "tasks"),
            ("amqp://[::1]:5672/tasks", "::1", 5672, "tasks"),
        ] {
            let uri = address(url).unwrap().uri;
            assert_eq!((uri.authority.host.as_str(), uri.authority.port), (host, port), "{url}");
            assert_eq!((uri.vhost.as_str(), uri.query.heartbeat), (vhost, Some(HEARTBEAT_SECONDS)), "{url}");
        }
        assert_eq!(address("amqp://localhost?heartbeat=30").unwrap().uri.query.heartbeat, Some(30));
    }

    #[test]
    fn what_is_no_url_of_a_broker_is_refused() {
        for url in ["", "http://localhost", "localhost:5672", "amqp://localhost?heartbeat=often"] {
            assert!(address(url).is_err(), "{url}");
        }
    }
}
