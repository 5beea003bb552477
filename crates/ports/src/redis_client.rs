//! What everything on Redis shares: the client, whether it stands, and what to do when it does not.

use std::{fmt::Display, time::Duration};

use redis::{
    Client, ErrorKind, IntoConnectionInfo as _, RedisError, RedisResult, ServerErrorKind,
    io::tcp::TcpSettings,
};
use secrecy::{ExposeSecret as _, SecretString};
use tokio::{
    sync::watch,
    time::{Instant, timeout},
};

/// How long connecting may take, with TLS and login.
const CONNECT: Duration = Duration::from_secs(1);
/// How long a health check waits for the first attempt to connect.
const FIRST: Duration = Duration::from_millis(1_500);
/// How often a problem that lasts is logged.
const REMIND: Duration = Duration::from_mins(1);
/// The most that is repeated of what a server says.
const LONGEST_DETAIL: usize = 200;
/// What to say of a Redis that is late.
pub(crate) const LATE: &str =
    "REDIS_URL: Redis does not answer in time; see whether it is up, busy, or behind a slow network";
/// What to say of a Redis that does not let us connect in time. One without TLS waits for the end of a line that TLS
/// never sends.
const CONNECT_LATE: &str = "REDIS_URL: Redis does not let us connect in time; see whether it is up, and host, port and TLS (redis:// or rediss://) are right";

/// `REDIS_URL` cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("REDIS_URL: expected redis://user:password@host:port/0, or rediss:// for TLS; {0}")]
pub struct InvalidRedisUrl(#[source] RedisError);

/// A client, not yet connected.
pub(crate) fn client(url: &SecretString) -> Result<Client, InvalidRedisUrl> {
    let info = url.expose_secret().into_connection_info().map_err(InvalidRedisUrl)?;
    // Small commands must not wait for one another's acknowledgement.
    let settings = TcpSettings::default().set_nodelay(true);
    Client::open(info.set_tcp_settings(settings)).map_err(InvalidRedisUrl)
}

/// Whether Redis can be used, and with what.
#[derive(Debug)]
pub(crate) enum Standing<T> {
    /// Nobody has tried yet.
    Starting,
    /// It can.
    Up(T),
    /// It cannot; says what is wrong and what to do.
    Down(String),
}

/// What is wrong, once the first attempt is over.
pub(crate) async fn first_word<T>(standing: &watch::Sender<Standing<T>>) -> Option<String> {
    let mut seen = standing.subscribe();
    let tried = async { seen.wait_for(|now| !matches!(now, Standing::Starting)).await.map(drop) };
    let _ = timeout(FIRST, tried).await;
    match &*standing.borrow() {
        Standing::Up(_) => None,
        Standing::Down(problem) => Some(problem.clone()),
        Standing::Starting => Some(LATE.to_owned()),
    }
}

/// Logs what becomes of Redis, at most once a minute while it is bad.
#[derive(Debug)]
pub(crate) struct Report {
    /// What happens meanwhile.
    meanwhile: &'static str,
    said: Option<Instant>,
    is_open: bool,
}

impl Report {
    pub(crate) const fn new(meanwhile: &'static str) -> Self {
        Self { meanwhile, said: None, is_open: false }
    }

    pub(crate) fn down(&mut self, problem: &str) {
        if self.said.is_none_or(|at| at.elapsed() >= REMIND) {
            self.said = Some(Instant::now());
            self.is_open = true;
            tracing::warn!(problem, "Redis cannot be used; {}", self.meanwhile);
        }
    }

    pub(crate) fn up(&mut self) {
        if std::mem::take(&mut self.is_open) {
            tracing::info!("Redis can be used again");
        }
    }
}

/// Connects, logs in included.
pub(crate) async fn connecting<T>(
    rights: &str,
    work: impl Future<Output = RedisResult<T>>,
) -> Result<T, String> {
    let connected = timeout(CONNECT, work).await;
    connected.map_err(|_| CONNECT_LATE.to_owned())?.map_err(|error| problem(&error, rights))
}

/// Does what is asked of Redis, within a deadline around all of it.
pub(crate) async fn within<T>(
    deadline: Duration,
    rights: &str,
    work: impl Future<Output = RedisResult<T>>,
) -> Result<T, String> {
    let done = timeout(deadline, work).await;
    done.map_err(|_| LATE.to_owned())?.map_err(|error| problem(&error, rights))
}

/// What is wrong and what to do. `rights` is what the user of the URL needs.
fn problem(error: &RedisError, rights: &str) -> String {
    let detail = short(error.detail().unwrap_or_default());
    match (error.kind(), error.code().unwrap_or_default()) {
        (ErrorKind::AuthenticationFailed, _) | (_, "WRONGPASS") => {
            "REDIS_URL: Redis refuses the user or password in it".to_owned()
        }
        (_, "NOAUTH") => {
            "REDIS_URL: Redis asks for a password; put it in as redis://user:password@host:port/0".to_owned()
        }
        (ErrorKind::Server(ServerErrorKind::NoPerm | ServerErrorKind::ResponseError), _) => {
            format!("REDIS_URL: Redis refuses a command ({detail}); its user needs {rights}")
        }
        (ErrorKind::Server(ServerErrorKind::ReadOnly), _) => {
            "REDIS_URL: this is a replica that cannot be written; name the primary".to_owned()
        }
        (ErrorKind::Server(ServerErrorKind::BusyLoading), _) => {
            "REDIS_URL: Redis is still loading its data; it will do when that is over".to_owned()
        }
        (ErrorKind::Parse, _) => {
            "REDIS_URL: what answers there does not speak Redis; see the port, and use rediss:// for TLS"
                .to_owned()
        }
        (ErrorKind::Io, _) => format!(
            "REDIS_URL: cannot reach Redis ({}); see whether it is up, and host, port and TLS (redis:// or rediss://) are right",
            short(error)
        ),
        (_, code) => format!("REDIS_URL: Redis refuses to work ({code} {detail}); see its log"),
    }
}

fn short(text: impl Display) -> String {
    text.to_string().chars().filter(|c| !c.is_control()).take(LONGEST_DETAIL).collect()
}
