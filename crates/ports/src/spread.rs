//! Tells other processes at once which sessions have ended. It only hastens: the store is the truth, and is read anyway.

use std::time::Duration;

use futures::StreamExt as _;
use redis::{
    AsyncConnectionConfig, Client, Value,
    aio::{MultiplexedConnection, PubSub},
};
use secrecy::SecretString;
use taskpost_common::{SessionId, retry::Backoff};
use tokio::{
    sync::{broadcast, mpsc, watch},
    task::JoinSet,
    time::{MissedTickBehavior, interval, sleep},
};
use tokio_util::sync::CancellationToken;

use crate::{
    PortHealth,
    redis_client::{self, InvalidRedisUrl, Report, Standing},
};

/// How many ids may wait to be told, and to be taken in; what is more is left to the store.
const WAITING: usize = 1_024;
/// The most ids in a message.
const BATCH: usize = 100;
/// A UUID as text, with the separator.
const ID_LENGTH: usize = 37;
/// How long Redis may take to take a message, or to answer on the connection that listens.
const PATIENCE: Duration = Duration::from_secs(1);
/// How often the connection that listens is tried, as nothing else would show that its peer is gone.
const HEARTBEAT: Duration = Duration::from_secs(10);

/// The way by which ended sessions are spread.
#[derive(Clone, Debug)]
pub enum Spread {
    /// Not at all: there is one process, or the store's word soon enough.
    Local,
    /// By pub/sub, on the channel `<INSTANCE>:revoked`.
    Redis(RedisSpread),
}

/// Spreads by Redis.
#[derive(Clone, Debug)]
pub struct RedisSpread {
    telling: mpsc::Sender<SessionId>,
    heard: broadcast::Sender<SessionId>,
    standing: watch::Sender<Standing<()>>,
}

/// What other processes tell.
#[derive(Debug)]
pub struct Ended(Option<broadcast::Receiver<SessionId>>);

impl Spread {
    /// Does not wait for Redis: a task connects, and heals what breaks, until `stop`.
    pub fn redis(
        url: &SecretString,
        instance: &str,
        tasks: &mut JoinSet<()>,
        stop: CancellationToken,
    ) -> Result<Self, InvalidRedisUrl> {
        let client = redis_client::client(url)?;
        let (telling, told) = mpsc::channel(WAITING);
        let (heard, standing) = (broadcast::Sender::new(WAITING), watch::Sender::new(Standing::Starting));
        let channel = format!("{instance}:revoked");
        let mut talk = Talk {
            client,
            rights: format!("+publish +subscribe +ping on &{channel}"),
            channel,
            told,
            heard: heard.clone(),
            standing: standing.clone(),
        };
        tasks.spawn(async move {
            stop.run_until_cancelled(talk.keep_up()).await;
        });
        Ok(Self::Redis(RedisSpread { telling, heard, standing }))
    }

    /// Tells the others, after the commit that ended these sessions. Never waits and never fails; what is lost on the
    /// way they read from the store.
    pub fn publish(&self, ended: &[SessionId]) {
        let Self::Redis(redis) = self else { return };
        for id in ended {
            let _ = redis.telling.try_send(*id);
        }
    }

    /// Listens from now on.
    pub fn listen(&self) -> Ended {
        match self {
            Self::Local => Ended(None),
            Self::Redis(redis) => Ended(Some(redis.heard.subscribe())),
        }
    }

    /// `local` or `redis`.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Redis(_) => "redis",
        }
    }

    /// How it is; answers within 2 s.
    pub async fn check(&self) -> PortHealth {
        let problem = match self {
            Self::Local => None,
            Self::Redis(redis) => redis_client::first_word(&redis.standing).await,
        };
        PortHealth { name: self.name(), problem }
    }
}

impl Ended {
    /// The next session that somebody says has ended; waits for ever where nobody tells.
    pub async fn next(&mut self) -> SessionId {
        while let Some(heard) = &mut self.0 {
            match heard.recv().await {
                Ok(id) => return id,
                Err(broadcast::error::RecvError::Lagged(_)) => {}
                Err(broadcast::error::RecvError::Closed) => self.0 = None,
            }
        }
        std::future::pending().await
    }
}

/// The task behind it.
struct Talk {
    client: Client,
    rights: String,
    channel: String,
    told: mpsc::Receiver<SessionId>,
    heard: broadcast::Sender<SessionId>,
    standing: watch::Sender<Standing<()>>,
}

impl Talk {
    async fn keep_up(&mut self) {
        let mut report = Report::new("sessions that end elsewhere end here within a second, not at once");
        let mut backoff = Backoff::default();
        loop {
            let problem = match self.connect().await {
                Ok((tell, listen)) => {
                    self.standing.send_replace(Standing::Up(()));
                    report.up();
                    backoff.reset();
                    self.talk(tell, listen).await
                }
                Err(problem) => problem,
            };
            report.down(&problem);
            self.standing.send_replace(Standing::Down(problem));
            sleep(backoff.wait()).await;
        }
    }

    /// A connection that tells, and one that listens, which can do nothing else and has no time-outs.
    async fn connect(&self) -> Result<(MultiplexedConnection, PubSub), String> {
        let config = AsyncConnectionConfig::new().set_connection_timeout(None).set_response_timeout(None);
        let opened = async {
            let tell = self.client.get_multiplexed_async_connection_with_config(&config).await?;
            let mut listen = self.client.get_async_pubsub().await?;
            listen.subscribe(&self.channel).await?;
            Ok((tell, listen))
        };
        redis_client::connecting(&self.rights, opened).await
    }

    /// Tells and listens until something is wrong, and says what.
    async fn talk(&mut self, mut tell: MultiplexedConnection, listen: PubSub) -> String {
        let (mut sink, mut messages) = listen.split();
        let mut heartbeat = interval(HEARTBEAT);
        heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let done = tokio::select! {
                message = messages.next() => match message {
                    Some(message) => {
                        self.take_in(message.get_payload_bytes());
                        Ok(())
                    }
                    None => Err("REDIS_URL: Redis ended the connection; see its log".to_owned()),
                },
                Some(first) = self.told.recv() => {
                    let text = self.message(first);
                    let mut command = redis::cmd("PUBLISH");
                    command.arg(&self.channel).arg(text);
                    redis_client::within(PATIENCE, &self.rights, command.exec_async(&mut tell)).await
                }
                _ = heartbeat.tick() => {
                    redis_client::within(PATIENCE, &self.rights, sink.ping::<Value>()).await.map(drop)
                }
            };
            if let Err(problem) = done {
                return problem;
            }
        }
    }

    /// The ids that wait, as text.
    fn message(&mut self, first: SessionId) -> String {
        let mut text = first.to_string();
        for _ in 1..BATCH {
            let Ok(next) = self.told.try_recv() else { break };
            text.push(',');
            text.push_str(&next.to_string());
        }
        text
    }

    fn take_in(&self, message: &[u8]) {
        let Some(ids) = read(message) else {
            tracing::debug!(channel = self.channel, "a message that is no list of session ids was ignored");
            return;
        };
        for id in ids {
            // Nobody may be listening.
            let _ = self.heard.send(id);
        }
    }
}

/// The ids in a message, when it is nothing but ids.
fn read(message: &[u8]) -> Option<Vec<SessionId>> {
    if message.len() > BATCH * ID_LENGTH {
        return None;
    }
    let text = std::str::from_utf8(message).ok()?;
    text.split(',').map(|id| id.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_ids_are_read() {
        let id = "01890a5d-ac96-774b-bcce-b302099a8057";
        assert_eq!(read(id.as_bytes()), Some(vec![id.parse().unwrap()]));
        assert_eq!(read(format!("{id},{id}").as_bytes()).map(|ids| ids.len()), Some(2));
        let long = vec![id; BATCH + 1].join(",");
        for bad in ["", ",", "x", &format!("{id},"), &format!("{id} "), &format!("{id},x"), &long] {
            assert_eq!(read(bad.as_bytes()), None, "{bad}");
        }
        assert_eq!(read(&[0xff; 36]), None);
    }
}
