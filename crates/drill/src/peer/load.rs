//! The peer's clients, and what they were told.

use std::{
    collections::HashSet,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures::future::join_all;
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use reqwest::{Client, StatusCode};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{
    api::{Created, NewTask},
    store::PROJECTS,
};

const CLIENTS: u32 = 8;
/// How many tasks a second they create together.
const RATE: f64 = 300.0;
/// How long a client waits for an answer.
const ANSWER: Duration = Duration::from_secs(5);

/// Clients that create tasks until they are told to stop, at moments as independent as those of people.
pub(super) struct Load {
    http: Client,
    url: String,
    acknowledged: Mutex<HashSet<Uuid>>,
    pub stop: CancellationToken,
}

impl Load {
    pub(super) fn new(port: u16) -> anyhow::Result<Self> {
        Ok(Self {
            http: Client::builder().no_proxy().timeout(ANSWER).build()?,
            url: format!("http://127.0.0.1:{port}/tasks"),
            acknowledged: Mutex::default(),
            stop: CancellationToken::new(),
        })
    }

    pub(super) async fn run(&self, seed: u64) {
        join_all((0..CLIENTS).map(|client| self.client(StdRng::seed_from_u64(seed + u64::from(client)))))
            .await;
    }

    async fn client(&self, mut rng: StdRng) {
        let mut next = Instant::now();
        while !self.stop.is_cancelled() {
            // Exponential; what an outage kept from being sent is not made up for.
            let pause = -(1.0 - rng.random::<f64>()).ln() * f64::from(CLIENTS) / RATE;
            next = (next + Duration::from_secs_f64(pause)).max(Instant::now());
            sleep_until(next).await;
            self.create(rng.random_range(1..=PROJECTS)).await;
        }
    }

    /// Creates a task; its id if that was acknowledged.
    pub(super) async fn create(&self, project_id: i32) -> Option<Uuid> {
        let task = NewTask { project_id, title: "Fix the lift".to_owned() };
        let answer = self.http.post(&self.url).json(&task).send().await.ok()?;
        if answer.status() != StatusCode::CREATED {
            return None;
        }
        let Created { id } = answer.json().await.ok()?;
        self.lock().insert(id);
        Some(id)
    }

    /// The ids of all that was answered 201.
    pub(super) fn acknowledged(&self) -> HashSet<Uuid> {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, HashSet<Uuid>> {
        self.acknowledged.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
