//! Receivers of webhooks that do everything wrong, beside a good one that must not notice.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use futures::future::join_all;
use serde_json::Value;
use taskpost_testkit::{Answer, Fields as _, WebhookSink, until_within};
use tokio::{net::TcpListener, task::JoinSet};

use crate::{
    case::{Arena, Case, Expect},
    history::{Mark, Wish},
    load::Pressure,
    stack::{Options, Setup},
};

/// What the bad ones ask for: it happens only when the case wants it to.
const RARE: &str = "user.logged_in";
/// How many of them each gets, and over how long.
const EVENTS: usize = 12;
const APART: Duration = Duration::from_millis(500);
/// There is one try more than waits.
const DELAYS: [&str; 3] = ["1s", "2s", "3s"];
const TRIES: i64 = 4;
/// How long a receiver asks to be left alone, which is longer than the first wait and no more than twice as long.
const RETRY_AFTER: Duration = Duration::from_secs(2);
/// How large the largest answer is.
const HUGE: usize = 100 * 1024 * 1024;
/// Within this time the good receiver hears of a task.
const IN_TIME: Duration = Duration::from_secs(10);
/// By how many MiB a process may grow by all this.
const GROWTH: u64 = 64;
/// How long the bad ones may keep the queue busy.
const LADDER: Duration = Duration::from_mins(2);

/// For each product.
pub fn cases() -> Vec<Case> {
    [Setup::Embedded, Setup::Full].map(case).into()
}

fn case(setup: Setup) -> Case {
    Case {
        name: "bad receivers".to_owned(),
        setup,
        short: false,
        apart: true,
        seeds: 1,
        pressure: Pressure::default(),
        options: Box::new(|_| Options {
            variables: [("RETRY_DELAYS", DELAYS.join(",")), ("WEBHOOK_TIMEOUT", "1s".to_owned())].into(),
            ..Options::default()
        }),
        fault: Box::new(|arena| {
            Box::pin(async {
                misbehave(arena).await;
                Ok(())
            })
        }),
        expect: Expect { dead_letters: true, ..Expect::default() },
    }
}

/// What must become of the deliveries to a receiver.
#[derive(Clone, Copy, Debug)]
enum End {
    /// Each is a dead letter, after all tries.
    TriedAndDead,
    /// Each is a dead letter at once.
    Dead,
    Delivered,
    /// Each was delivered, or met too many failures in a row.
    Any,
    /// The endpoint is disabled, and what had not left is called back.
    Disabled,
}

/// A bad receiver.
struct Bad {
    name: &'static str,
    end: End,
    sink: WebhookSink,
    id: String,
}

impl Bad {
    async fn new(arena: &Arena, name: &'static str, answer: Answer, end: End) -> Self {
        let sink = WebhookSink::start().await;
        sink.always(answer);
        let hook = arena.stack.api().hook(&arena.stack.ada, &sink, &[RARE]).await;
        Self { name, end, sink, id: hook.text("id").to_owned() }
    }

    /// What became of its deliveries: states with the number of tries, and how many have each.
    async fn deliveries(&self, arena: &Arena) -> Vec<(String, i64)> {
        let of = arena.stack.id_text("endpoint_id");
        let id = self.id.replace('-', "");
        let sql = format!(
            "SELECT state || ' ' || attempt, count(*) FROM deliveries WHERE {of} = '{id}' GROUP BY state, attempt \
             ORDER BY state, attempt"
        );
        arena.stack.rows(&sql).await
    }

    /// Waits until nothing more comes of them, and judges.
    async fn judge(&self, arena: &Arena) -> String {
        let ended = until_within(LADDER, || async {
            let deliveries = self.deliveries(arena).await;
            let ended = deliveries.iter().filter(|(state, _)| {
                ["dead ", "delivered ", "cancelled "].iter().any(|end| state.starts_with(end))
            });
            let ended: i64 = ended.map(|(_, count)| count).sum();
            if usize::try_from(ended) == Ok(EVENTS) {
                Ok(deliveries)
            } else {
                Err(format!("{}: {deliveries:?}", self.name))
            }
        })
        .await;
        let dead = |tries: i64| format!("dead {tries}");
        let all = |good: &dyn Fn(&str) -> bool| ended.iter().all(|(state, _)| good(state));
        let good = match self.end {
            End::TriedAndDead => all(&|state| state == dead(TRIES)),
            End::Dead => all(&|state| state == dead(1)),
            End::Delivered => all(&|state| state == "delivered 1"),
            End::Any => {
                let again = ended
                    .iter()
                    .any(|(state, _)| state.strip_prefix("delivered ").is_some_and(|tries| tries != "1"));
                again && all(&|state| state.starts_with("delivered ") || state == dead(TRIES))
            }
            End::Disabled => {
                let called_back = ended.iter().any(|(state, _)| state.starts_with("cancelled "));
                called_back && all(&|state| state.starts_with("cancelled ") || state == dead(1))
            }
        };
        assert!(good, "{}: {:?} was expected, not {ended:?}", self.name, self.end);
        format!("{} ({} requests: {})", self.name, self.sink.received().len(), words(&ended))
    }
}

fn words(ended: &[(String, i64)]) -> String {
    let each = ended.iter().map(|(state, count)| format!("{count} {state}"));
    each.collect::<Vec<_>>().join(", ")
}

async fn misbehave(arena: &Arena) {
    let Arena { stack, history, watch, .. } = arena;
    let trap = Trap::set().await;
    let busy = Answer::status(429).header("retry-after", &RETRY_AFTER.as_secs().to_string());
    let inward = Answer::redirect(&trap.url);
    let bad = [
        Bad::new(arena, "hangs", Answer::hang(), End::TriedAndDead).await,
        Bad::new(arena, "drips", Answer::drip(), End::TriedAndDead).await,
        Bad::new(arena, "resets", Answer::reset(), End::TriedAndDead).await,
        Bad::new(arena, "breaks off", Answer::broken(), End::TriedAndDead).await,
        Bad::new(arena, "redirects inward", inward, End::Dead).await,
        Bad::new(arena, "answers 100 MB", Answer::huge(HUGE), End::Delivered).await,
        Bad::new(arena, "flaps", Answer::status(204), End::Any).await,
        Bad::new(arena, "is gone", Answer::status(410), End::Disabled).await,
        Bad::new(arena, "is busy", busy, End::TriedAndDead).await,
    ];
    let [.., flaps, gone, busy] = &bad;
    flaps.sink.script((0..2 * EVENTS).map(|n| Answer::status(if n.is_multiple_of(2) { 500 } else { 204 })));
    watch.weigh(stack);
    let before = watch.seen().memory;
    let began = history.now_ms();
    for _ in 0..EVENTS {
        stack.api().login(&stack.ada).await;
        arena.last(APART).await;
    }
    let judged = join_all(bad.iter().map(|bad| bad.judge(arena))).await;
    let ended = history.now_ms();

    let waits = first_waits(&busy.sink);
    assert!(waits.iter().all(|wait| *wait >= RETRY_AFTER), "Retry-After was not waited for: {waits:?}");
    let endpoint = stack.api().read(&stack.ada, &format!("/v1/webhooks/{}", gone.id)).await;
    assert_eq!(endpoint["enabled"], Value::Bool(false), "{endpoint}");
    assert_eq!(trap.sprung(), 0, "somebody followed a redirect inward");
    watch.weigh(stack);
    for (name, now) in watch.seen().memory {
        let grown = now.saturating_sub(before.get(name).copied().unwrap_or_default());
        assert!(grown < GROWTH, "{name} has {grown} MiB more after answers of 100 MB");
    }
    let (tasks, slowest) = slowest(arena, began, ended).await;
    assert!(slowest < IN_TIME, "the good receiver heard of a task after {slowest:?}");
    for words in judged {
        history.mark(Mark::Fault(words));
    }
    history.mark(Mark::Fault(format!(
        "meanwhile the good receiver heard of {tasks} tasks, of each within {:.1} s",
        slowest.as_secs_f64()
    )));
}

/// How long each delivery waited between its first try and its second.
fn first_waits(sink: &WebhookSink) -> Vec<Duration> {
    let mut tries: HashMap<String, Vec<Instant>> = HashMap::new();
    for request in sink.received() {
        tries.entry(request.webhook_id().to_owned()).or_default().push(request.at);
    }
    tries.values().filter_map(|at| Some(at.get(1)?.duration_since(*at.first()?))).collect()
}

/// Of the tasks that were acknowledged in this span, how many there are, and the longest time until the good receiver
/// had heard of one.
async fn slowest(arena: &Arena, began: u64, ended: u64) -> (usize, Duration) {
    let created = arena.history.operations().into_iter().filter_map(|operation| {
        let told = operation.answers.into_iter().find(|answer| answer.task.is_some())?;
        let at = Duration::from_millis(told.at_ms);
        let within = (began..ended).contains(&told.at_ms) && operation.wish == Wish::Create;
        Some((told.task?, arena.history.began() + at)).filter(|_| within)
    });
    let created: Vec<(String, Instant)> = created.collect();
    let heard = arena
        .until(|| async {
            let heard = heard(&arena.stack.sink);
            let missing = created.iter().filter(|(task, _)| !heard.contains_key(task)).count();
            if missing == 0 {
                Ok(heard)
            } else {
                Err(format!("{missing} tasks did not reach the good receiver"))
            }
        })
        .await;
    let waits = created.iter().map(|(task, told)| heard[task].saturating_duration_since(*told));
    (created.len(), waits.max().unwrap_or_default())
}

/// When the receiver first heard of each task.
fn heard(sink: &WebhookSink) -> HashMap<String, Instant> {
    let mut heard = HashMap::new();
    for request in sink.received() {
        let event = request.event();
        heard.entry(event["data"]["task"].text("id").to_owned()).or_insert(request.at);
    }
    heard
}

/// A listener inside, to which nobody may connect.
struct Trap {
    url: String,
    sprung: Arc<AtomicUsize>,
    _listener: JoinSet<()>,
}

impl Trap {
    async fn set() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("http://{}/secrets", listener.local_addr().expect("an address"));
        let sprung = Arc::new(AtomicUsize::new(0));
        let (count, mut tasks) = (Arc::clone(&sprung), JoinSet::new());
        tasks.spawn(async move {
            while listener.accept().await.is_ok() {
                count.fetch_add(1, Ordering::Relaxed);
            }
        });
        Self { url, sprung, _listener: tasks }
    }

    fn sprung(&self) -> usize {
        self.sprung.load(Ordering::Relaxed)
    }
}
