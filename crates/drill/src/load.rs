//! Clients that want things until they are told to stop, each asking under one Idempotency-Key until it knows.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use serde_json::{Value, json};
use taskpost_testkit::{Client, Response, User, until_within};
use tokio::{task::JoinSet, time::timeout};
use tokio_util::sync::CancellationToken;

use crate::{
    history::{Answer, History, Mark, Wish},
    stack::{RECOVERY, Stack},
};

/// How long a client waits for an answer.
const PATIENCE: Duration = Duration::from_secs(12);
/// How long it waits before it asks again.
const AGAIN: Duration = Duration::from_millis(150);
/// How long clients go on asking about what they do not know, once they were told to stop.
const LAST_CHANCE: Duration = Duration::from_secs(20);

/// How hard the clients press.
#[derive(Clone, Copy, Debug)]
pub struct Pressure {
    /// How many clients.
    pub clients: u64,
    /// How long each pauses after an answer.
    pub pause: Duration,
}

impl Default for Pressure {
    fn default() -> Self {
        Self { clients: 8, pause: Duration::from_millis(15) }
    }
}

/// The running clients.
pub struct Load {
    history: Arc<History>,
    clients: JoinSet<()>,
    stop: CancellationToken,
}

impl Load {
    /// Begins.
    pub fn start(stack: &Stack, history: &Arc<History>, seed: u64, pressure: Pressure) -> Self {
        let (mut clients, stop) = (JoinSet::new(), CancellationToken::new());
        for number in 0..pressure.clients {
            let one = One {
                number,
                http: Client::new(stack.api().address()),
                ada: stack.ada.clone(),
                bob: stack.bob.id.clone(),
                history: Arc::clone(history),
                random: StdRng::seed_from_u64(seed.wrapping_mul(1_000).wrapping_add(number)),
                pause: pressure.pause,
                stop: stop.clone(),
                mine: Vec::new(),
            };
            clients.spawn(one.run());
        }
        Self { history: Arc::clone(history), clients, stop }
    }

    /// Waits until so many more operations are acknowledged.
    pub async fn wait_for_more(&self, more: usize) {
        self.wait_for(self.history.acknowledged() + more).await;
    }

    /// Waits until so many operations are acknowledged.
    pub async fn wait_for(&self, enough: usize) {
        until_within(RECOVERY, || async {
            let some = self.history.acknowledged();
            if some >= enough {
                Ok(())
            } else {
                Err(format!("{some} of {enough} operations are acknowledged"))
            }
        })
        .await;
    }

    /// Tells the clients to stop, and waits until they have.
    pub async fn stop(mut self) {
        self.stop.cancel();
        while let Some(ended) = self.clients.join_next().await {
            ended.expect("a client ends well");
        }
        self.history.mark(Mark::Stopped);
    }
}

/// One client.
struct One {
    number: u64,
    http: Client,
    ada: User,
    bob: String,
    history: Arc<History>,
    random: StdRng,
    pause: Duration,
    stop: CancellationToken,
    /// Tasks that it knows of and has not started, with the keys they were made under.
    mine: Vec<(String, String)>,
}

impl One {
    async fn run(mut self) {
        let mut count = 0_u64;
        while !self.stop.is_cancelled() {
            count += 1;
            let key = format!("drill-{}-{count}", self.number);
            match self.random.random_range(0..100) {
                0..5 => drop(self.ask(&key, Wish::CreateBadly).await),
                5..15 if !self.mine.is_empty() => {
                    let (task, _) = self.mine.swap_remove(self.random.random_range(0..self.mine.len()));
                    self.ask(&key, Wish::Start(task)).await;
                }
                15..20 if !self.mine.is_empty() => {
                    let (_, known) = self.mine[self.random.random_range(0..self.mine.len())].clone();
                    self.once(&known, &Wish::Create).await;
                }
                _ => {
                    if let Some(task) = self.ask(&key, Wish::Create).await {
                        self.mine.push((task, key));
                    }
                }
            }
            tokio::time::sleep(self.pause).await;
        }
    }

    /// Asks until there is a clear answer; gives the task's id of a good one.
    async fn ask(&self, key: &str, wish: Wish) -> Option<String> {
        let mut last_chance: Option<Instant> = None;
        loop {
            let answer = self.once(key, &wish).await;
            // 429 and 409 (the first try is still running) say that nothing is decided yet.
            if answer.status.is_some_and(|status| status < 500 && !matches!(status, 409 | 429)) {
                return answer.task;
            }
            if self.stop.is_cancelled() {
                let since = *last_chance.get_or_insert_with(Instant::now);
                if since.elapsed() > LAST_CHANCE {
                    return None;
                }
            }
            tokio::time::sleep(AGAIN).await;
        }
    }

    async fn once(&self, key: &str, wish: &Wish) -> Answer {
        let (path, body) = match wish {
            Wish::Create => ("/v1/tasks".to_owned(), json!({"title": key, "assignee_id": self.bob})),
            Wish::CreateBadly => (
                "/v1/tasks".to_owned(),
                json!({"title": key, "assignee_id": self.bob, "priority": "whatever"}),
            ),
            Wish::Start(task) => (format!("/v1/tasks/{task}/transitions"), json!({"to": "in_progress"})),
        };
        let request = self.http.post(&path, body).as_(&self.ada).key(key);
        self.history.invoke(key, wish);
        let began = Instant::now();
        let response = timeout(PATIENCE, request.try_send()).await;
        let answer = self.answer(began, response.ok().and_then(Result::ok).as_ref());
        self.history.answer(key, answer.clone());
        answer
    }

    fn answer(&self, began: Instant, response: Option<&Response>) -> Answer {
        let good = response.filter(|response| (200..300).contains(&response.status));
        let task = good.and_then(|good| serde_json::from_slice::<Value>(&good.body).ok());
        Answer {
            at_ms: self.history.now_ms(),
            took_ms: u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX),
            status: response.map(|response| response.status),
            version: task.as_ref().and_then(|task| task["version"].as_i64()),
            task: task.and_then(|task| task["id"].as_str().map(str::to_owned)),
        }
    }
}
