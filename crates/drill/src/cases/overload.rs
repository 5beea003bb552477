//! Three times as many requests as it can take: what is too much is refused at once, what is taken is answered in time,
//! and when it is over everything is as before.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use futures::future::join_all;
use serde_json::{Value, json};
use taskpost_testkit::Client;
use tokio::{
    sync::Semaphore,
    task::JoinSet,
    time::{MissedTickBehavior, interval, timeout},
};

use crate::{
    case::{Arena, Case},
    history::{Answer, History, Mark, Wish},
    load::Pressure,
    stack::{Options, Setup, Stack},
};

/// How many clients find out what can be sustained, and for how long.
const STEADY: usize = 32;
const STEADY_TIME: Duration = Duration::from_secs(3);
/// How many times that is asked for, and for how long.
const TIMES: u32 = 3;
const TIME: Duration = Duration::from_secs(20);
/// How often requests are sent, as many as are due then.
const TICK: Duration = Duration::from_millis(10);
/// Requests under way at most: more than the queue takes, and well below the connections that one address may have, as
/// the client opens some in vain.
const UNDER_WAY: usize = 640;
/// How long a client waits for an answer.
const PATIENCE: Duration = Duration::from_secs(12);
/// What an admitted request may take while there is too much, for 99 of 100: commits wait behind a full queue.
const BUDGET: Duration = Duration::from_secs(5);
/// What a refusal may take, for 99 of 100, where clients, product and brokers share a few cores.
const EARLY: Duration = Duration::from_secs(2);
/// How long it may take until everything is as before.
const RECOVERED: Duration = Duration::from_secs(10);
/// That is so when so many in a row are taken, each within this time.
const IN_A_ROW: usize = 20;
const NORMAL: Duration = Duration::from_millis(500);

/// What keeps the product from taking too much.
#[derive(Clone, Copy, Debug)]
enum Limit {
    /// The queue for new tasks, at its smallest.
    Queue,
    /// What one user may ask for.
    Rate,
}

/// For each limit and product.
pub fn cases() -> Vec<Case> {
    let each = |limit| [Setup::Embedded, Setup::Full].map(|setup| case(setup, limit));
    [Limit::Queue, Limit::Rate].into_iter().flat_map(each).collect()
}

fn case(setup: Setup, limit: Limit) -> Case {
    let (name, variable) = match limit {
        Limit::Queue => ("overload: full queue", ("COMMIT_QUEUE", "1".to_owned())),
        Limit::Rate => ("overload: rate limit", ("RATE_LIMIT_WRITE", "150/s,150".to_owned())),
    };
    Case {
        // What is beside it would be measured as well.
        apart: false,
        // They go on through it all, as users would.
        pressure: Pressure { clients: 4, pause: Duration::from_millis(50) },
        options: Box::new(move |_| Options { variables: [variable.clone()].into(), ..Options::default() }),
        ..Case::new(name, setup, |arena| Box::pin(overload(arena)))
    }
}

async fn overload(arena: &Arena) {
    let crowd = Crowd::new(&arena.stack, &arena.history);
    let steady = crowd.steady().await;
    let rate = per_second(steady.admitted().len(), STEADY_TIME);
    let heard = crowd.storm(rate * TIMES).await;
    let (admitted, refused) = (heard.admitted(), heard.refused());
    let unanswered = heard.0.iter().filter(|heard| heard.status.is_none()).count();
    let asked = format!(
        "{rate}/s can be sustained, {}/s were asked for: {} admitted (99 of 100 within {:?}), {} refused ({:?}), \
         {unanswered} unanswered",
        per_second(heard.0.len(), TIME),
        admitted.len(),
        percentile(&admitted, 99),
        refused.len(),
        percentile(&refused, 99),
    );
    let mute =
        heard.0.iter().filter(|heard| heard.is_refused() && heard.retry_after.is_none_or(|after| after == 0));
    assert_eq!(mute.count(), 0, "a refusal does not say when to come again; {asked}");
    assert_eq!(unanswered, 0, "{asked}");
    assert!(percentile(&admitted, 99) < BUDGET, "{asked}");
    // Where the cores are so busy that even the admitted take long, a refusal waits for them too.
    let early = EARLY.max(percentile(&admitted, 99) * 3 / 2);
    assert!(percentile(&refused, 99) < early, "{asked}");
    let recovered = crowd.normal().await;
    if !refused.is_empty() {
        arena.history.mark(Mark::Fault(format!("{asked}; as before after {:.1} s", recovered.as_secs_f64())));
    }
}

/// What a request came to.
#[derive(Clone, Copy, Debug)]
struct Heard {
    status: Option<u16>,
    took: Duration,
    retry_after: Option<u64>,
}

impl Heard {
    fn is_admitted(&self) -> bool {
        self.status.is_some_and(|status| (200..300).contains(&status))
    }

    fn is_refused(&self) -> bool {
        matches!(self.status, Some(429 | 503))
    }
}

/// What many came to.
struct All(Vec<Heard>);

impl All {
    /// How long those took that were admitted, the shortest first.
    fn admitted(&self) -> Vec<Duration> {
        Self::times(self.0.iter().filter(|heard| heard.is_admitted()))
    }

    /// How long those took that were refused, the shortest first.
    fn refused(&self) -> Vec<Duration> {
        Self::times(self.0.iter().filter(|heard| heard.is_refused()))
    }

    fn times<'a>(heard: impl Iterator<Item = &'a Heard>) -> Vec<Duration> {
        let mut times: Vec<Duration> = heard.map(|heard| heard.took).collect();
        times.sort_unstable();
        times
    }
}

/// Clients that ask once and go.
struct Crowd {
    asker: Arc<Asker>,
}

struct Asker {
    http: Client,
    ada: taskpost_testkit::User,
    bob: String,
    history: Arc<History>,
    count: Mutex<u64>,
}

impl Crowd {
    fn new(stack: &Stack, history: &Arc<History>) -> Self {
        let asker = Asker {
            http: Client::new(stack.api().address()),
            ada: stack.ada.clone(),
            bob: stack.bob.id.clone(),
            history: Arc::clone(history),
            count: Mutex::new(0),
        };
        Self { asker: Arc::new(asker) }
    }

    /// A few that ask one after the other.
    async fn steady(&self) -> All {
        let one = async || {
            let (began, mut heard) = (Instant::now(), Vec::new());
            while began.elapsed() < STEADY_TIME {
                heard.push(self.asker.ask().await);
            }
            heard
        };
        All(join_all((0..STEADY).map(|_| one())).await.concat())
    }

    /// So many each second, whatever becomes of those before.
    async fn storm(&self, rate: u32) -> All {
        let (mut requests, mut heard) = (JoinSet::new(), Vec::new());
        let room = Arc::new(Semaphore::new(UNDER_WAY));
        let (began, mut sent, mut ticks) = (Instant::now(), 0_u128, interval(TICK));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while began.elapsed() < TIME {
            ticks.tick().await;
            let due = began.elapsed().as_millis() * u128::from(rate) / 1_000;
            while sent < due {
                sent += 1;
                let Ok(place) = Arc::clone(&room).try_acquire_owned() else { continue };
                let asker = Arc::clone(&self.asker);
                requests.spawn(async move {
                    let heard = asker.ask().await;
                    drop(place);
                    heard
                });
            }
            while let Some(ended) = requests.try_join_next() {
                heard.push(ended.expect("a request ends"));
            }
        }
        heard.extend(requests.join_all().await);
        All(heard)
    }

    /// Waits until everything is as before; how long that took.
    async fn normal(&self) -> Duration {
        let (began, mut good) = (Instant::now(), 0);
        while good < IN_A_ROW {
            let heard = self.asker.ask().await;
            let normal = heard.is_admitted() && heard.took < NORMAL;
            good = if normal { good + 1 } else { 0 };
            assert!(
                began.elapsed() < RECOVERED,
                "it is not as before after {RECOVERED:?}; the last was {heard:?}"
            );
            if let Some(after) = heard.retry_after {
                tokio::time::sleep(Duration::from_secs(after)).await;
            }
        }
        began.elapsed()
    }
}

impl Asker {
    /// Asks for one task, once.
    async fn ask(&self) -> Heard {
        let key = {
            let mut count = self.count.lock().unwrap_or_else(PoisonError::into_inner);
            *count += 1;
            format!("crowd-{count}")
        };
        let body = json!({"title": key, "assignee_id": self.bob});
        let request = self.http.post("/v1/tasks", body).as_(&self.ada).key(&key);
        self.history.invoke(&key, &Wish::Create);
        let began = Instant::now();
        let response = timeout(PATIENCE, request.try_send()).await.ok().and_then(Result::ok);
        let took = began.elapsed();
        let status = response.as_ref().map(|response| response.status);
        let good = response.as_ref().filter(|response| (200..300).contains(&response.status));
        let task = good.and_then(|good| serde_json::from_slice::<Value>(&good.body).ok());
        self.history.answer(
            &key,
            Answer {
                at_ms: self.history.now_ms(),
                took_ms: u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
                status,
                version: task.as_ref().and_then(|task| task["version"].as_i64()),
                task: task.and_then(|task| task["id"].as_str().map(str::to_owned)),
            },
        );
        let retry_after = response.and_then(|response| response.find("retry-after")?.parse().ok());
        Heard { status, took, retry_after }
    }
}

/// The time within which so many of a hundred were; of none, nothing.
fn percentile(times: &[Duration], of_100: usize) -> Duration {
    let place = (times.len() * of_100).div_ceil(100).saturating_sub(1);
    times.get(place).copied().unwrap_or_default()
}

fn per_second(count: usize, time: Duration) -> u32 {
    u32::try_from(count / usize::try_from(time.as_secs()).unwrap_or(1).max(1)).unwrap_or(u32::MAX)
}
