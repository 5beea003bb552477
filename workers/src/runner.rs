//! Step 7 of 7. Before: `dispatcher.rs`. Next: the outside; what came of it goes to `outcomes.rs`.
//!
//! The runner of a channel claims due deliveries in batches and sends so many of them at once.

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

use taskpost_common::EndpointId;
use taskpost_ports::Queue;
use taskpost_store::{
    MAX_BATCH, StoreError,
    deliveries::{Delivery, Settlement},
};
use tokio::{sync::mpsc, task::JoinSet, time::sleep};
use tokio_util::sync::CancellationToken;
use tracing::error;

use crate::{
    attempt::{Attempter, deadline},
    channels::Channel,
    outage::Outage,
    outcomes::Outcome,
    seats::{Pace, Seat, Seats},
};

/// What a lease adds to the longest try: waiting for a seat before it, and for the store after it.
const LEASE_MARGIN: Duration = Duration::from_secs(20);
/// How long a claimed delivery waits in memory before it is snoozed.
const PATIENCE: Duration = Duration::from_secs(1);
/// A claim is not worth its transaction for a few deliveries, unless the last one was this long ago.
const PAUSE: Duration = Duration::from_millis(5);
/// How long tries may go on when the process stops; then their leases are given back.
const DRAIN: Duration = Duration::from_secs(7);

/// Sends the deliveries of one channel.
pub(crate) struct Runner<C: Channel> {
    attempter: Arc<Attempter<C>>,
    queue: Queue,
    outcomes: mpsc::Sender<Outcome>,
    concurrency: usize,
    lease: chrono::Duration,
    pace: Pace,
    seats: Seats,
    /// Claimed, and not begun for want of a slot or a seat; in their order.
    waiting: VecDeque<Waiting<C::Target>>,
    running: JoinSet<Done>,
    last_claim: Option<Instant>,
}

struct Waiting<T> {
    delivery: Delivery,
    target: T,
    since: Instant,
}

struct Done {
    endpoint: Option<EndpointId>,
    took: Duration,
}

impl<C: Channel> Runner<C> {
    pub(crate) fn new(
        attempter: Attempter<C>,
        queue: Queue,
        outcomes: mpsc::Sender<Outcome>,
        concurrency: usize,
        per_endpoint: usize,
    ) -> Self {
        let lease = deadline(&attempter.channel) + LEASE_MARGIN;
        Self {
            attempter: Arc::new(attempter),
            queue,
            outcomes,
            concurrency: concurrency.max(1),
            lease: chrono::Duration::from_std(lease).unwrap_or(chrono::Duration::MAX),
            pace: Pace::default(),
            seats: Seats::new(per_endpoint.max(1)),
            waiting: VecDeque::new(),
            running: JoinSet::new(),
            last_claim: None,
        }
    }

    /// Goes on until `stop`, then ends what is in flight.
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        let name = self.attempter.channel.name();
        let in_flight = metrics::gauge!("taskpost_deliveries_in_flight", "channel" => name.as_str());
        let queue = self.queue.clone();
        let mut outage = Outage::of("claiming deliveries");
        // Whether there may be something to claim.
        let mut more = true;
        while !stop.is_cancelled() {
            self.begin_waiting();
            in_flight.set(u32::try_from(self.running.len()).unwrap_or(u32::MAX));
            let (claim_in, patience) = (self.claim_in(), self.patience());
            if more && claim_in == Some(Duration::ZERO) {
                match self.claim().await {
                    Ok(any) => {
                        outage.over();
                        more = any;
                    }
                    Err(error) => {
                        let wait = outage.failed(&error);
                        let _ = stop.run_until_cancelled(sleep(wait)).await;
                    }
                }
                self.reap();
                continue;
            }
            tokio::select! {
                () = stop.cancelled() => {}
                Some(done) = self.running.join_next() => self.finished(done),
                () = queue.announced(name), if !more => more = true,
                () = sleep(claim_in.unwrap_or_default()), if more && claim_in.is_some() => {}
                () = sleep(patience.unwrap_or_default()), if patience.is_some() => self.turn_away().await,
            }
            self.reap();
        }
        self.drain().await;
        in_flight.set(0);
    }

    /// How many deliveries may be held: what the slots take, and what will have its turn soon after.
    fn capacity(&self) -> usize {
        self.concurrency + self.pace.soon(self.concurrency).min(MAX_BATCH)
    }

    /// How many more may be claimed.
    fn room(&self) -> usize {
        self.capacity().saturating_sub(self.running.len() + self.waiting.len()).min(MAX_BATCH)
    }

    /// When to claim next, if there is room at all.
    fn claim_in(&self) -> Option<Duration> {
        let room = self.room();
        if room == 0 {
            return None;
        }
        let enough = room >= self.capacity() / 2;
        let waited = self.last_claim.filter(|_| !enough).map(|last| PAUSE.saturating_sub(last.elapsed()));
        Some(waited.unwrap_or_default())
    }

    /// Claims what there is room for; whether there was anything.
    async fn claim(&mut self) -> Result<bool, StoreError> {
        let name = self.attempter.channel.name();
        let claimed = self.queue.claim(name, self.room(), self.lease).await?;
        self.last_claim = Some(Instant::now());
        if claimed.is_empty() {
            return Ok(false);
        }
        let targets = match self.attempter.channel.targets(&claimed).await {
            Ok(targets) => targets,
            Err(error) => {
                for delivery in claimed {
                    self.snooze(delivery, PATIENCE).await;
                }
                return Err(error);
            }
        };
        let since = Instant::now();
        for (delivery, target) in claimed.into_iter().zip(targets) {
            // Every claim counts up the lease, and every try the attempt.
            let comes_back = delivery.lease > delivery.attempt + 1;
            match self.seats.queue(delivery.endpoint_id, comes_back) {
                Ok(()) => self.waiting.push_back(Waiting { delivery, target, since }),
                Err(wait) => self.snooze(delivery, wait).await,
            }
        }
        Ok(true)
    }

    /// Begins tries while there are slots, passing over those whose endpoint has no seat.
    fn begin_waiting(&mut self) {
        let mut place = 0;
        while self.running.len() < self.concurrency
            && let Some(next) = self.waiting.get(place)
        {
            let Some(seat) = self.seats.take(next.delivery.endpoint_id) else {
                place += 1;
                continue;
            };
            if let Some(next) = self.waiting.remove(place) {
                self.begin(next, seat);
            }
        }
    }

    fn begin(&mut self, next: Waiting<C::Target>, seat: Seat) {
        let (attempter, outcomes) = (Arc::clone(&self.attempter), self.outcomes.clone());
        self.running.spawn(async move {
            let (endpoint, began) = (next.delivery.endpoint_id, Instant::now());
            let outcome = attempter.attempt(next.delivery, next.target).await;
            drop(seat);
            let took = began.elapsed();
            // The slot is held until the recorder takes the outcome, which bounds what waits for the store.
            record(&outcomes, outcome).await;
            Done { endpoint, took }
        });
    }

    /// Takes in whatever has ended.
    fn reap(&mut self) {
        while let Some(done) = self.running.try_join_next() {
            self.finished(done);
        }
    }

    fn finished(&mut self, done: Result<Done, tokio::task::JoinError>) {
        match done {
            Ok(Done { endpoint, took }) => {
                self.pace.note(took);
                self.seats.note(endpoint, took);
            }
            // A channel's panic is an outcome; this is one of our own, and the lease brings the delivery back.
            Err(error) => error!(%error, "an attempt ended without an outcome"),
        }
    }

    /// How long until the one that waits longest has waited enough.
    fn patience(&self) -> Option<Duration> {
        self.waiting.front().map(|first| PATIENCE.saturating_sub(first.since.elapsed()))
    }

    /// Snoozes those that have waited enough.
    async fn turn_away(&mut self) {
        while let Some(first) = self.waiting.pop_front_if(|first| first.since.elapsed() >= PATIENCE) {
            let wait = self.seats.give_up(first.delivery.endpoint_id);
            self.snooze(first.delivery, wait).await;
        }
    }

    async fn snooze(&self, delivery: Delivery, wait: Duration) {
        let settlement = Settlement::Snooze(self.attempter.clock.now() + wait);
        record(&self.outcomes, Outcome { delivery, settlement, wait: None, health: None }).await;
    }

    /// Gives back what was not begun, and waits for what was; after a while that is given back too.
    async fn drain(&mut self) {
        for waiting in std::mem::take(&mut self.waiting) {
            self.snooze(waiting.delivery, Duration::ZERO).await;
        }
        let all = async { while self.running.join_next().await.is_some() {} };
        if tokio::time::timeout(DRAIN, all).await.is_err() {
            self.attempter.hurry.cancel();
            while self.running.join_next().await.is_some() {}
        }
    }
}

/// Hands an outcome over. The recorder outlives every runner; should it be gone, the lease brings the delivery back.
async fn record(outcomes: &mpsc::Sender<Outcome>, outcome: Outcome) {
    let id = outcome.delivery.id;
    if outcomes.send(outcome).await.is_err() {
        error!(delivery.id = %id, "nobody records outcomes");
    }
}
