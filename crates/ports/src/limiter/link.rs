//! The one connection of the limiter to Redis, and the circuit around it: a late or failing Redis is left alone at once,
//! and asked again only by a probe behind the scenes, so that at most the calls of one deadline pay for it.
//!
//! Our own reconnecting, not the crate's `ConnectionManager`: that one keeps a failed login for ever, and a connection
//! whose peer went silent, as being late is no reason for it to connect anew.

use std::{num::NonZeroU32, slice, time::Duration};

use redis::{AsyncConnectionConfig, Client, aio::MultiplexedConnection};
use taskpost_common::{rate::Rate, retry::Backoff};
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::{Instant, sleep, timeout},
};

use super::script::{Answer, Gcra, Question};
use crate::redis_client::{self, Report, Standing};

/// How long a call may take, with everything that is tried in it.
const DEADLINE: Duration = Duration::from_millis(25);
/// How often an unused connection is tried.
const HEARTBEAT: Duration = Duration::from_secs(5);
/// How long it must hold to count as healed, after which the waits between attempts start small again.
const STEADY: Duration = Duration::from_secs(10);
/// How many questions one call has at most: what comes while a call is under way goes together with the next.
const TOGETHER: usize = 128;

#[derive(Debug)]
pub(super) struct Link {
    client: Client,
    script: Gcra,
    probe: Question,
    rights: String,
    standing: watch::Sender<Standing<Line>>,
    /// Bounded by its callers, of whom each waits no longer than the deadline.
    ask: mpsc::UnboundedSender<Asked>,
}

/// A question, and who waits for its answer.
#[derive(Debug)]
pub(super) struct Asked {
    question: Question,
    reply: oneshot::Sender<Answer>,
}

/// A connection that is good as far as we know.
#[derive(Clone, Debug)]
struct Line {
    connection: MultiplexedConnection,
    /// Which it is, so that the end of an old one does not end its successor.
    number: u64,
}

impl Link {
    /// With what [`Link::answer`] is to answer.
    pub(super) fn new(client: Client, instance: &str) -> (Self, mpsc::UnboundedReceiver<Asked>) {
        let (ask, asked) = mpsc::unbounded_channel();
        let rate = Rate { count: NonZeroU32::MAX, unit: Duration::from_hours(1), burst: NonZeroU32::MAX };
        let link = Self {
            client,
            script: Gcra::new(),
            probe: Question { key: format!("{instance}:limit:probe"), rate, cost: NonZeroU32::MIN },
            rights: format!("+evalsha +eval +time +get +set on ~{instance}:*"),
            standing: watch::Sender::new(Standing::Starting),
            ask,
        };
        (link, asked)
    }

    /// Redis's answer, or none when it cannot be had in time.
    pub(super) async fn ask(&self, question: Question) -> Option<Answer> {
        let number = self.line()?.number;
        let (reply, answer) = oneshot::channel();
        self.ask.send(Asked { question, reply }).ok()?;
        let Ok(answer) = timeout(DEADLINE, answer).await else {
            self.leave(number, redis_client::LATE.to_owned());
            return None;
        };
        answer.ok()
    }

    /// Answers what is asked, one call at a time. Who gets no answer finds the way back closed.
    pub(super) async fn answer(&self, mut asked: mpsc::UnboundedReceiver<Asked>) {
        let mut waiting = Vec::with_capacity(TOGETHER);
        while asked.recv_many(&mut waiting, TOGETHER).await > 0 {
            waiting.retain(|asked| !asked.reply.is_closed());
            let Some(mut line) = self.line().filter(|_| !waiting.is_empty()) else {
                waiting.clear();
                continue;
            };
            let (questions, replies): (Vec<_>, Vec<_>) =
                waiting.drain(..).map(|Asked { question, reply }| (question, reply)).unzip();
            let run = self.script.run(&mut line.connection, &questions);
            match redis_client::within(DEADLINE, &self.rights, run).await {
                Ok(answers) => {
                    for (reply, answer) in replies.into_iter().zip(answers) {
                        // Who waits no more has decided without it.
                        let _ = reply.send(answer);
                    }
                }
                Err(problem) => self.leave(line.number, problem),
            }
        }
    }

    /// What is wrong now, if anything.
    pub(super) async fn problem(&self) -> Option<String> {
        if let Some(problem) = redis_client::first_word(&self.standing).await {
            return Some(problem);
        }
        self.ask(self.probe.clone()).await;
        redis_client::first_word(&self.standing).await
    }

    /// Connects, watches, and connects again.
    pub(super) async fn keep_up(&self) {
        let gauge = metrics::gauge!("taskpost_limiter_redis_up");
        let mut report = Report::new("each process limits by itself meanwhile, and logging in more strictly");
        let mut backoff = Backoff::default();
        for number in 0.. {
            match self.connect().await {
                Ok(connection) => {
                    let since = Instant::now();
                    self.standing.send_replace(Standing::Up(Line { connection, number }));
                    gauge.set(1.0);
                    report.up();
                    self.until_down().await;
                    if since.elapsed() >= STEADY {
                        backoff.reset();
                    }
                }
                Err(problem) => {
                    self.standing.send_replace(Standing::Down(problem));
                }
            }
            gauge.set(0.0);
            if let Standing::Down(problem) = &*self.standing.borrow() {
                report.down(problem);
            }
            sleep(backoff.wait()).await;
        }
    }

    /// A connection on which the script has run in time. Its first run is not timed so, as it sends the whole script.
    async fn connect(&self) -> Result<MultiplexedConnection, String> {
        let config = AsyncConnectionConfig::new().set_connection_timeout(None).set_response_timeout(None);
        let opened = async {
            let mut connection = self.client.get_multiplexed_async_connection_with_config(&config).await?;
            self.script.run(&mut connection, slice::from_ref(&self.probe)).await?;
            Ok(connection)
        };
        let mut connection = redis_client::connecting(&self.rights, opened).await?;
        redis_client::within(
            DEADLINE,
            &self.rights,
            self.script.run(&mut connection, slice::from_ref(&self.probe)),
        )
        .await?;
        Ok(connection)
    }

    async fn until_down(&self) {
        let mut seen = self.standing.subscribe();
        loop {
            let down = async { seen.wait_for(|now| !matches!(now, Standing::Up(_))).await.map(drop) };
            if timeout(HEARTBEAT, down).await.is_ok() {
                return;
            }
            self.ask(self.probe.clone()).await;
        }
    }

    fn line(&self) -> Option<Line> {
        match &*self.standing.borrow() {
            Standing::Up(line) => Some(line.clone()),
            Standing::Starting | Standing::Down(_) => None,
        }
    }

    /// Opens the circuit, unless this line was left already.
    fn leave(&self, number: u64, problem: String) {
        self.standing.send_if_modified(|now| {
            let is_mine = matches!(now, Standing::Up(line) if line.number == number);
            if is_mine {
                *now = Standing::Down(problem);
            }
            is_mine
        });
    }
}
